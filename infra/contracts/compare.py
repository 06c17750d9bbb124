"""Pure: what a new schema breaks for those who know the old one, in words.

Who reads must be able to read all that may come: the new schema has to lie within the old one. Who writes must be let
in with all that it may send: the old one has to lie within the new one. New members that may be left out break nobody.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from infra.contracts.records import Direction, JsonSchema

Side = Literal["readers", "writers"]
_BOUNDS: Final = (  # keyword, whether a lower one allows more
    ("minimum", True), ("exclusiveMinimum", True), ("minLength", True), ("minItems", True),
    ("maximum", False), ("exclusiveMaximum", False), ("maxLength", False), ("maxItems", False),
)  # fmt: skip


class Shape(NamedTuple):
    """A schema with the document that its references are in."""

    schema: JsonSchema
    root: JsonSchema

    def at(self, schema: JsonSchema) -> "Shape":
        return Shape(schema, self.root)


def breaks(old: JsonSchema, new: JsonSchema, direction: Direction) -> list[str]:
    """What breaks whom, one sentence each, with the path of the member. Of what only we use, what is on its way."""
    side: Side = "readers" if direction == "out" else "writers"
    before, after = Shape(old, old), Shape(new, new)
    inner, outer = (after, before) if side == "readers" else (before, after)
    return list(
        dict.fromkeys(f"{side}: {path or 'it'} {what}" for path, what in _beyond(inner, outer, "", side))
    )


Found = Iterator[tuple[str, str]]


def _beyond(inner: Shape, outer: Shape, path: str, side: Side, seen: frozenset[str] = frozenset()) -> Found:
    """In what `inner` goes beyond `outer`. A pair of definitions that is looked at already is not entered again."""
    pair = f"{inner.schema.get('$ref')} {outer.schema.get('$ref')}"
    if "$ref" in inner.schema and "$ref" in outer.schema:
        if pair in seen:
            return
        seen |= {pair}
    theirs = list(_alternatives(outer))
    for mine in _alternatives(inner):
        ways = [list(_beyond_one(mine, one, path, side, seen)) for one in theirs if _same_type(mine, one)]
        if not ways:
            yield (
                path,
                f"may be {_name(mine)} now" if side == "readers" else f"may not be {_name(mine)} any more",
            )
        elif all(ways):
            yield from min(ways, key=len)


def _alternatives(shape: Shape) -> Iterator[Shape]:
    """The plain schemas of which it is one."""
    schema = shape.schema
    if "$ref" in schema:
        yield from _alternatives(shape.at(shape.root["$defs"][schema["$ref"].rpartition("/")[2]]))
    elif several := schema.get("anyOf") or schema.get("oneOf"):
        for one in several:
            yield from _alternatives(shape.at(one))
    elif isinstance(schema.get("type"), list):
        for one in schema["type"]:
            yield shape.at({**schema, "type": one})
    else:
        yield shape


def _same_type(inner: Shape, outer: Shape) -> bool:
    mine, theirs = _type(inner.schema), _type(outer.schema)
    return theirs in (None, mine) or (mine, theirs) == ("integer", "number")


def _type(schema: JsonSchema) -> str | None:
    if "type" in schema:
        return str(schema["type"])
    values = _values(schema)
    if values is None:
        return None
    names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return names.get(type(values[0]))


def _name(shape: Shape) -> str:
    return str(shape.schema.get("title") or _type(shape.schema) or "anything")


def _beyond_one(inner: Shape, outer: Shape, path: str, side: Side, seen: frozenset[str]) -> Found:
    yield from _values_beyond(inner.schema, outer.schema, path, side)
    yield from _bounds_beyond(inner.schema, outer.schema, path, side)
    match _type(outer.schema):
        case "object":
            yield from _members_beyond(inner, outer, path, side, seen)
        case "array":
            yield from _items_beyond(inner, outer, path, side, seen)


def _values(schema: JsonSchema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _values_beyond(inner: JsonSchema, outer: JsonSchema, path: str, side: Side) -> Found:
    mine, theirs = _values(inner), _values(outer)
    if theirs is None:
        return
    if mine is None:
        yield path, "may be any value now" if side == "readers" else "takes a few values only"
        return
    more = [value for value in mine if value not in theirs]
    if more:
        words = ", ".join(map(repr, more))
        yield path, f"may be {words} now" if side == "readers" else f"may not be {words} any more"


def _bounds_beyond(inner: JsonSchema, outer: JsonSchema, path: str, side: Side) -> Found:
    listed = _values(inner) is not None
    for keyword, low in () if listed else _BOUNDS:
        limit, mine = outer.get(keyword), inner.get(keyword)
        if limit is not None and (mine is None or (mine < limit if low else mine > limit)):
            old, new = (limit, mine) if side == "readers" else (mine, limit)
            yield path, f"has another {keyword}: {_bound(old)}, now {_bound(new)}"
    for keyword in ("format",) if listed else ("pattern", "format"):
        if outer.get(keyword) is not None and inner.get(keyword) != outer[keyword]:
            old, new = (outer, inner) if side == "readers" else (inner, outer)
            yield path, f"has another {keyword}: {_bound(old.get(keyword))}, now {_bound(new.get(keyword))}"


def _bound(value: Any) -> str:
    return "none" if value is None else str(value)


def _members_beyond(inner: Shape, outer: Shape, path: str, side: Side, seen: frozenset[str]) -> Found:
    mine: Mapping[str, Any] = inner.schema.get("properties", {})
    theirs: Mapping[str, Any] = outer.schema.get("properties", {})
    for name, schema in theirs.items():
        where = f"{path}.{name}" if path else name
        if name in mine:
            yield from _beyond(inner.at(mine[name]), outer.at(schema), where, side, seen)
        elif side == "readers":
            yield where, "is gone"
        if name in outer.schema.get("required", ()) and name not in inner.schema.get("required", ()):
            if side == "writers":
                yield where, "is required now"
            elif name in mine:
                yield where, "may be missing now"
    if outer.schema.get("additionalProperties") is False:
        for name in mine.keys() - theirs.keys():
            yield f"{path}.{name}" if path else name, "is refused now"


def _items_beyond(inner: Shape, outer: Shape, path: str, side: Side, seen: frozenset[str]) -> Found:
    theirs = outer.schema.get("items")
    mine = inner.schema.get("items")
    if isinstance(theirs, dict) and isinstance(mine, dict):
        yield from _beyond(inner.at(mine), outer.at(theirs), f"{path}[]", side, seen)
    elif isinstance(theirs, dict) and "prefixItems" not in inner.schema:
        yield f"{path}[]", "may be anything now" if side == "readers" else "is restricted now"
    pairs = zip(inner.schema.get("prefixItems", ()), outer.schema.get("prefixItems", ()), strict=False)
    for number, (one, other) in enumerate(pairs):
        yield from _beyond(inner.at(one), outer.at(other), f"{path}[{number}]", side, seen)


def is_major(new: str, old: str) -> bool:
    """Whether a type is a later version of another one: `rapid.incident.v2` of `rapid.incident.v1`."""
    found, known = re.fullmatch(r"(.+)\.v(\d+)", new), re.fullmatch(r"(.+)\.v(\d+)", old)
    return bool(found and known and found[1] == known[1] and int(found[2]) > int(known[2]))
