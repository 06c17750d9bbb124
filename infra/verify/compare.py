"""Pure: in what two values that should be the same differ, in a few words."""

import json
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from infra.verify.report import Disagreement
from schemas.base import Record

R = TypeVar("R", bound=Record)
MOST_CHARACTERS: Final = 160


def read(schema: type[R], text: str) -> R | None:
    """The model of some JSON; None when it is none."""
    try:
        return schema.model_validate_json(text)
    except ValidationError:
        return None


def unreadable(reference: str, what: str) -> Disagreement:
    """What is stored cannot be read."""
    return Disagreement(reference, f"{what} that can be read", "something else")


def same(reference: str, what: str, expected: Any, found: Any) -> Disagreement | None:
    """None when the two are equal."""
    if expected == found:
        return None
    return Disagreement(reference, f"{what} {_short(expected)}", f"{what} {_short(found)}")


def same_json(reference: str, what: str, expected: str, found: str) -> Disagreement | None:
    """None when two texts of JSON are the same bytes; else the first member in which they differ."""
    if expected == found:
        return None
    ours, theirs = members(expected), members(found)
    for name in [*ours, *(theirs.keys() - ours.keys())]:
        if ours.get(name) != theirs.get(name) or (name in ours) != (name in theirs):
            return same(reference, f"{what}, {name}", ours.get(name), theirs.get(name)) or Disagreement(
                reference, f"{what} with a member {name}", "none"
            )
    return Disagreement(reference, f"{what} in canonical JSON", "the same in other bytes")


def members(text: str) -> dict[str, Any]:
    """The members of a JSON object; of anything else, one that says what it is."""
    try:
        value = json.loads(text)
    except ValueError:
        return {"(not JSON)": text}
    return value if isinstance(value, dict) else {"(not an object)": value}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…"
