"""Every record that is published, with its JSON Schema (2020-12), as `schemas/topics.py` has them."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from schemas.base import Record
from schemas.topics import Topic, all_topics

JsonSchema = Mapping[str, Any]
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ANY_DEPARTMENT: Final = "{department}"
"""In the place of a department's code: which departments there are is policy."""

Direction = Literal["in", "out", "inside"]
"""`in`: others write it, and we read. `out`: others may read it. `inside`: only we write and read, and what is on its
way when we are replaced must still be readable."""


class Kind(NamedTuple):
    """One kind of record: its CloudEvents type, where it is, and what it looks like."""

    name: str
    model: type[Record]
    direction: Direction
    topics: tuple[str, ...]

    @property
    def file(self) -> str:
        """Where its schema is, below the folder of contracts."""
        return f"schemas/{self.name}.json"


def published_topics() -> tuple[Topic, ...]:
    """Every topic; those of departments once."""
    return all_topics([ANY_DEPARTMENT])


def kinds(topics: Iterable[Topic]) -> list[Kind]:
    """Every kind of record, by its type."""
    found: dict[str, Kind] = {}
    for topic in topics:
        for name, model in ((topic.type, topic.schema), *topic.also):
            before = found.get(name)
            places = (*(before.topics if before else ()), topic.name)
            found[name] = Kind(name, model, direction_of(topic), places)
    return [found[name] for name in sorted(found)]


def direction_of(topic: Topic) -> Direction:
    """Who is outside of a topic: who writes it, who reads it, nobody."""
    if topic.access == "public" or any(one.startswith("department ") for one in topic.writers):
        return "in"
    return "inside" if topic.access == "internal" else "out"


def schema_of(kind: Kind) -> dict[str, Any]:
    """Its JSON Schema. What others read allows further members: readers ignore what they do not know."""
    made = kind.model.model_json_schema(mode="serialization" if kind.direction == "out" else "validation")
    made = _open(made) if kind.direction == "out" else made
    return {"$schema": DIALECT, "$id": f"urn:rapid-response:{kind.name}"} | made


def _open(value: Any) -> Any:
    if isinstance(value, list):
        return [_open(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _open(member)
        for name, member in value.items()
        if not (name == "additionalProperties" and member is False)
    }
