"""Bytes to model and back: the only (de)serialization, and the gate where people's names are left out.

Sources send names of victims now and then. They are dropped before anything is validated, stored, logged or
dead-lettered. Dropping is decided by the member's key, at any depth, in JSON; in bytes that are not JSON it
is a best effort.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from schemas.base import Record
from schemas.dead_letter import Reason
from schemas.envelope import header
from schemas.expected import ALLOWED, UNKNOWN, expectation, together
from schemas.repeated import ONCE, repeated
from schemas.topics import Topic

MAX_RECORD_BYTES: Final = 262_144
MAX_KEY_BYTES: Final = 4_096
KEPT_OF_OVERSIZED_BYTES: Final = 65_536
REMOVED: Final = "[removed]"
_ANSWERABLE: Final[frozenset[Reason]] = frozenset({"invalid", "missing_key", "unknown_version"})
"""Of the others nothing can be read, or too much was sent."""

# Something before "name" that says the name is not a person's.
_THINGS: Final = (
    "agency area avenue beat building category city community county department district event file host issue "
    "location neighborhood neighbourhood park place policy precinct region road schema school service site "
    "source station street table topic type ward work zone"
)
_PLACES_AND_THINGS: Final = tuple(_THINGS.split())
_PERSON_KEYS: Final = frozenset({"alias", "person", "victim"})
_SIGNS: Final = (b"person", b'"alias', b'"victim"', b"\\u")
_LOOSE_MEMBER: Final = re.compile(
    r"""(?P<key>["']?\b(?:[a-z0-9]{1,20}[ _.-]?){0,3}?(?:name|person|alias)[a-z]{0,10}["']?\s{0,4}[:=>]\s{0,4})"""
    r"""(?P<value>"(?:[^"\\]|\\.){0,400}"?|'[^']{0,400}'?|[^,;}\]&\n<]{0,400})""",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_PLAIN_KEY: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]{0,59}$")


class Decoded(NamedTuple):
    """A record that can be used. `value` is what was sent, less people's names."""

    key: str
    body: Record | None
    value: bytes


class Defect(NamedTuple):
    """A record that cannot. `value` is what may be kept of it; `expected` never repeats what was sent."""

    reason: Reason
    field: str | None
    expected: str
    value: bytes | None


def encode(record: Record) -> bytes:
    """A model as JSON bytes; the same model gives the same bytes."""
    return record.__pydantic_serializer__.to_json(record)


def decode(
    topic: Topic,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    *,
    body: bool = True,
    max_bytes: int = MAX_RECORD_BYTES,
) -> Decoded | Defect:
    """One record of a topic. With `body=False` just the key is read: the record only wakes its reader.

    A record that cannot be used is decoded all the same, as the topic's `unreadable`, where it says who is to be
    answered.
    """
    found = _read(topic, key, value or b"", headers, body, max_bytes)
    return found if isinstance(found, Decoded) else _answerable(topic, key, found) or found


def _answerable(topic: Topic, key: bytes | None, defect: Defect) -> Decoded | None:
    """The defect as a body, where the topic has a schema for that and what may be kept of the record fits it."""
    if topic.unreadable is None or defect.value is None or defect.reason not in _ANSWERABLE:
        return None
    try:
        sent = from_json(defect.value)
        wanted = {name: sent[name] for name in topic.unreadable.model_fields if name in sent}
        why = {"reason": defect.reason, "field": defect.field, "expected": defect.expected}
        return Decoded((key or b"").decode(), topic.unreadable.model_validate(wanted | why), defect.value)
    except (TypeError, ValueError):  # no JSON object, or nobody to answer
        return None


def _read(  # noqa: PLR0917 - as above
    topic: Topic, key: bytes | None, raw: bytes, headers: Sequence[tuple[str, bytes | None]], body: bool,
    max_bytes: int,
) -> Decoded | Defect:  # fmt: skip
    if len(raw) > max_bytes:
        return _oversized(len(raw), raw, max_bytes)
    if not key:
        return Defect("missing_key", None, f"a key: {topic.key}", kept(raw, topic.schema))
    if len(key) > MAX_KEY_BYTES:
        expected = f"a key of at most {MAX_KEY_BYTES} bytes ({topic.key}), this one has {len(key)}"
        return Defect("oversized", None, expected, kept(raw, topic.schema))
    try:
        text_key = key.decode()
    except UnicodeDecodeError:
        return Defect("undecodable", None, "a key in UTF-8", kept(raw, topic.schema))
    if not body:
        return Decoded(text_key, None, without_names(raw))
    return _decode_body(topic, text_key, raw, headers)


def _oversized(size: int, raw: bytes, max_bytes: int) -> Defect:
    return Defect(
        "oversized",
        None,
        f"at most {max_bytes} bytes, this one has {size}; its first {KEPT_OF_OVERSIZED_BYTES} bytes are kept",
        _scrub_loose(raw[:KEPT_OF_OVERSIZED_BYTES]),
    )


def _decode_body(
    topic: Topic, key: str, raw: bytes, headers: Sequence[tuple[str, bytes | None]]
) -> Decoded | Defect:
    sent_type = header(headers, "ce_type")
    schema = topic.schema_of(sent_type)
    if schema is None:
        known = " or ".join([topic.type, *(name for name, _ in topic.also)])
        return Defect(
            "unknown_version", "ce_type", f"the header ce_type to be {known}", kept(raw, topic.schema)
        )
    try:
        raw.decode()
    except UnicodeDecodeError:
        return Defect("undecodable", None, "JSON in UTF-8", _scrub_loose(raw))
    twice = repeated(raw) if topic.unreadable is not None else None  # bulk goes by the last
    if twice is not None:
        return Defect("invalid", twice, ONCE, to_json(_known_only(from_json(raw), schema)))
    clean = without_names(raw)
    try:
        return Decoded(key, schema.model_validate_json(clean), clean)
    except ValidationError as error:
        return _defect_of(error, kept(clean, schema))


def _defect_of(error: ValidationError, value: bytes) -> Defect:
    first, *others = error.errors(include_url=False, include_input=False)
    if first["type"] == "json_invalid":
        return Defect("not_json", None, "one JSON object, not nested too deeply", value)
    told = [_expectation(first), *(f"{_path(one) or 'all of it'}: {_expectation(one)}" for one in others)]
    return Defect("invalid", _path(first), together(told), value)


def _path(error: ErrorDetails) -> str | None:
    """Where it is, with what looks like data instead of a member's name left out."""
    parts = [str(part) if isinstance(part, int) or _PLAIN_KEY.match(part) else "?" for part in error["loc"]]
    return ".".join(parts)[:200] or None


def _expectation(error: ErrorDetails) -> str:
    found = expectation(error)
    return f"{found} (see the schema of the topic)" if found in (ALLOWED, UNKNOWN) else found


def without_names(raw: bytes) -> bytes:
    """The same JSON less the members that look like a person's name; untouched when there is no sign of one.

    Raises nothing: bytes that are not JSON are scrubbed as text.
    """
    return keepable(raw) if _is_suspect(raw) else raw


def _is_suspect(raw: bytes) -> bool:
    """Cheap, and right to be wrong often: also escapes, which can spell anything, are a reason to look."""
    low = raw.lower()
    harmless = low.count(b"area_name") + low.count(b"street_name")
    return low.count(b"name") > harmless or any(sign in low for sign in _SIGNS)


def keepable(raw: bytes) -> bytes:
    """What may be stored of any bytes; like `without_names`, without the cheap way out."""
    try:
        parsed = from_json(raw)
    except ValueError:
        return _scrub_loose(raw)
    kept, dropped = _strip(parsed)
    return to_json(kept) if dropped else raw


def kept(raw: bytes, schema: type[Record]) -> bytes:
    """What a dead letter keeps of a record's bytes: the members that the schema knows, with their values; of other
    members just the name. Nobody can list all the ways in which a person can be named; what we asked for, we can.
    """
    try:
        parsed = from_json(raw)
    except ValueError:
        return _scrub_loose(raw)
    known = _known_only(parsed, schema)
    return raw if known == parsed else to_json(known)


def _known_only(value: Any, schema: type[Record]) -> Any:
    if not isinstance(value, dict):
        return REMOVED
    members = {}
    for name, member in value.items():
        field = schema.model_fields.get(name)
        if field is not None:
            members[name] = _known_value(member, field.annotation)
        elif _PLAIN_KEY.match(name) and not names_a_person(name):
            members[name] = REMOVED
    return members


def _known_value(value: Any, annotation: Any) -> Any:
    """A scalar as it is; an object or a list only where the schema has one."""
    if not isinstance(value, dict | list):
        return value
    inner = [annotation, *get_args(annotation)]
    schemas = [one for one in inner if isinstance(one, type) and issubclass(one, Record)]
    if schemas and isinstance(value, dict):
        return _known_only(value, schemas[0])
    return REMOVED


def _strip(value: Any) -> tuple[Any, bool]:
    """`value` without members that name a person, and whether there were any. Depth: from_json's limit."""
    if isinstance(value, dict):
        pairs = {key: _strip(member) for key, member in value.items() if not names_a_person(key)}
        dropped = len(pairs) < len(value) or any(inner for _, inner in pairs.values())
        return {key: member for key, (member, _) in pairs.items()}, dropped
    if isinstance(value, list):
        items = [_strip(item) for item in value]
        return [item for item, _ in items], any(inner for _, inner in items)
    return value, False


def names_a_person(key: str) -> bool:
    """Whether a member of this name would hold (part of) a person's name.

    >>> [names_a_person(k) for k in ("victim_name", "firstName", "published_area_name", "person_2")]
    [True, True, False, True]
    """
    words = [word.lower() for word in _WORD.findall(key)]
    joined = "".join(words)
    if joined in _PERSON_KEYS or joined.startswith("person") or "person" in words:
        return True
    if "name" not in joined:
        return False
    before = joined.partition("name")[0]
    return not before.endswith(_PLACES_AND_THINGS)


def _scrub_loose(raw: bytes) -> bytes:
    """Best effort on what does not parse: what follows a key that names a person is replaced."""
    return _LOOSE_MEMBER.sub(_redact, raw.decode("utf-8", "surrogateescape")).encode(
        "utf-8", "surrogateescape"
    )


def _redact(member: re.Match[str]) -> str:
    if not names_a_person(member["key"]):
        return member[0]
    return f'{member["key"]}"{REMOVED}"'
