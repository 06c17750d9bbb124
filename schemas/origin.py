"""Who sent a record that could not be used, as far as it says so, and which of its headers are kept."""

import re
from collections.abc import Sequence
from typing import Any, Final

from pydantic_core import from_json

from schemas.topics import INCIDENT_REPORTS, ISSUE_REPORTS, UPDATES_PREFIX

_REPORTS: Final = frozenset({INCIDENT_REPORTS.name, ISSUE_REPORTS.name})
_CODE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")

# What a record needs to be the same event again. No `ce_subject`: whoever writes from outside may put a name into it.
_KEPT_HEADERS: Final = frozenset(
    {
        "ce_id",
        "ce_source",
        "ce_specversion",
        "ce_time",
        "ce_type",
        "ce_correlationid",
        "content-type",
        "traceparent",
    }
)
_PLAIN: Final = re.compile(r"[\x21-\x7e]{1,200}")  # one word: no place for what a person is called


def origin_of(topic: str, key: bytes | None, value: bytes | None) -> str | None:
    """The code of who sent a record; None when it does not say. Reports name their source, in the value or in the key;
    who answers is told by the topic.

    >>> origin_of("work-order-updates.cdot", None, None), origin_of("incident-reports", b"cad:JK1", b"no JSON")
    ('cdot', 'cad')
    """
    if topic.startswith(UPDATES_PREFIX):
        return _code(topic.removeprefix(UPDATES_PREFIX))
    if topic not in _REPORTS:
        return None
    return _code(_member(value, "source")) or _code(
        (key or b"").partition(b":")[0].decode("ascii", "replace")
    )


def kept_headers(headers: Sequence[tuple[str, bytes | None]]) -> tuple[tuple[str, str], ...]:
    """The headers that a dead letter keeps, each once: the event's identity and type, no text."""
    kept: dict[str, str] = {}
    for name, raw in headers:
        text = raw.decode("ascii", "replace") if raw is not None else ""
        if name in _KEPT_HEADERS and _PLAIN.fullmatch(text):
            kept.setdefault(name, text)
    return tuple(kept.items())


def _member(value: bytes | None, name: str) -> Any:
    try:
        sent = from_json(value or b"")
    except ValueError:
        return None
    return sent.get(name) if isinstance(sent, dict) else None


def _code(found: Any) -> str | None:
    return found if isinstance(found, str) and _CODE.fullmatch(found) else None
