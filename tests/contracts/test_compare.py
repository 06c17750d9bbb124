"""What breaks whom between two schemas, in words; and what breaks nobody."""

from copy import deepcopy
from typing import Any, Final

import pytest

from infra.contracts.compare import breaks, is_major

OLD: Final[dict[str, Any]] = {
    "type": "object", "additionalProperties": False, "required": ["id", "state", "at"],
    "properties": {
        "id": {"type": "string", "maxLength": 40, "pattern": "^[a-z]+$"},
        "state": {"enum": ["new", "done"], "type": "string"},
        "at": {"anyOf": [{"$ref": "#/$defs/Point"}, {"type": "null"}]},
        "count": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string"}},
        "day": {"type": "string", "format": "date"},
    },
    "$defs": {
        "Point": {"type": "object", "title": "Point", "required": ["lat"], "properties": {"lat": {"type": "number"}}},
    },
}  # fmt: skip


def changed(**members: Any) -> dict[str, Any]:
    """The old schema with other members; None: without it."""
    new = deepcopy(OLD)
    for name, schema in members.items():
        if schema is None:
            del new["properties"][name]
        else:
            new["properties"][name] = schema
    return new


def required(*names: str, schema: dict[str, Any] = OLD) -> dict[str, Any]:
    return schema | {"required": list(names)}


def point(**changes: Any) -> dict[str, Any]:
    return OLD | {"$defs": {"Point": OLD["$defs"]["Point"] | changes}}


STATES: Final = {"enum": ["new", "done", "late"], "type": "string"}
CASES: Final = [
    # what is new                                   readers                                  writers
    (changed(count=None), ["count is gone"], ["count is refused now"]),
    (changed(extra={"type": "string"}), [], []),
    (required("id", "state"), ["at may be missing now"], []),
    (required("id", "state", "at", "count"), [], ["count is required now"]),
    (changed(state=STATES), ["state may be 'late' now"], []),
    (changed(state={"const": "new"}), [], ["state may not be 'done' any more"]),
    (changed(state={"type": "string"}), ["state may be any value now"], []),
    (changed(day=STATES), ["day has another format: date, now none"], ["day takes a few values only"]),
    (changed(count={"type": "string"}), ["count may be string now"], ["count may not be integer any more"]),
    (changed(count={"type": "number", "minimum": 0}), ["count may be number now"], []),
    (changed(count={"type": ["integer", "null"], "minimum": 0}), ["count may be null now"], []),
    (changed(at={"$ref": "#/$defs/Point"}), [], ["at may not be null any more"]),
    (changed(count={"type": "integer", "minimum": 5}), [], ["count has another minimum: 0, now 5"]),
    (changed(count={"type": "integer"}), ["count has another minimum: 0, now none"], []),
    (changed(tags={"type": "array", "items": {"type": "integer"}}), ["tags[] may be integer now"],
     ["tags[] may not be string any more"]),
    (changed(tags={"type": "array", "items": {"type": "string"}, "maxItems": 3}), [],
     ["tags has another maxItems: none, now 3"]),
    (changed(id={"type": "string", "maxLength": 40, "pattern": "^[a-c]+$"}),
     ["id has another pattern: ^[a-z]+$, now ^[a-c]+$"], ["id has another pattern: ^[a-z]+$, now ^[a-c]+$"]),
    (changed(id={"type": "string", "maxLength": 80, "pattern": "^[a-z]+$"}),
     ["id has another maxLength: 40, now 80"], []),
    (point(required=[]), ["at.lat may be missing now"], []),
    (point(properties={"lat": {"type": "string"}}), ["at.lat may be string now"],
     ["at.lat may not be number any more"]),
    (point(title="Place"), [], []),
]  # fmt: skip


@pytest.mark.parametrize(("new", "readers", "writers"), CASES)
def test_what_breaks_whom(new: dict[str, Any], readers: list[str], writers: list[str]) -> None:
    of_readers, of_writers = breaks(OLD, new, "out"), breaks(OLD, new, "in")
    assert of_readers == [f"readers: {one}" for one in readers if one != "extra is refused now"] or (
        # a closed schema of what is read would refuse a new member; ours are open
        "extra" in new["properties"] and of_readers == ["readers: extra is refused now"]
    )
    assert of_writers == [f"writers: {one}" for one in writers]
    assert breaks(OLD, new, "inside") == of_writers


def test_a_new_member_breaks_no_reader_of_an_open_schema() -> None:
    open_one = {name: value for name, value in OLD.items() if name != "additionalProperties"}
    assert breaks(open_one, changed(extra={"type": "string"}), "out") == []


def test_a_schema_that_holds_itself_ends() -> None:
    tree: dict[str, Any] = {
        "$ref": "#/$defs/Node",
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {"next": {"$ref": "#/$defs/Node"}, "n": {"type": "integer"}},
            }
        },
    }
    other = deepcopy(tree)
    other["$defs"]["Node"]["properties"]["n"] = {"type": "string"}
    assert breaks(tree, tree, "out") == []
    assert breaks(tree, other, "out") == ["readers: n may be string now"]


def test_the_same_schema_breaks_nobody() -> None:
    assert breaks(OLD, OLD, "out") == breaks(OLD, OLD, "in") == []


def test_a_later_major_version_is_known_by_its_name() -> None:
    assert is_major("rapid.incident.v2", "rapid.incident.v1")
    assert not is_major("rapid.incident.v1", "rapid.incident.v1")
    assert not is_major("rapid.issue.v2", "rapid.incident.v1")
