"""What a mapping can fill: the fields of our two reports, and what kind of value each takes."""

from types import MappingProxyType, NoneType
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args, get_origin

from pydantic import AwareDatetime, BaseModel

from schemas.base import Point
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.topics import INCIDENT_REPORTS, ISSUE_REPORTS, Topic

Report = IncidentReport | IssueReport
Kind = Literal["text", "id", "word", "category", "yes_no", "time", "number", "point"]
"""How a field is read. `id`: a text that tells reports apart. `word`: one of ours."""

IDS: Final = frozenset({"report_id", "incident_number", "request_number"})


class Target(NamedTuple):
    """One field of a report."""

    name: str
    kind: Kind
    required: bool
    nullable: bool
    words: tuple[str, ...]  # what a `word` can be
    default: Any  # where the field can be left out


ReportName = Literal["incident", "issue"]


class Schema(NamedTuple):
    """One of our reports, as a mapping sees it: `source` is what the mapping itself says."""

    name: ReportName
    model: type[IncidentReport] | type[IssueReport]
    topic: Topic
    id_field: str
    targets: MappingProxyType[str, Target]


def _schema(
    name: ReportName, model: type[IncidentReport] | type[IssueReport], topic: Topic, id_field: str
) -> Schema:
    targets = {one: _target(model, one) for one in model.model_fields if one != "source"}
    return Schema(name, model, topic, id_field, MappingProxyType(targets))


def _target(model: type[BaseModel], name: str) -> Target:
    field = model.model_fields[name]
    inner = set(_flat(field.annotation))
    words = tuple(word for one in inner if get_origin(one) is Literal for word in get_args(one))
    kind = _kind(name, inner, words)
    required = field.is_required()
    return Target(name, kind, required, NoneType in inner, words, None if required else field.default)


def _flat(annotation: Any) -> list[Any]:
    """The types within unions and annotations."""
    if get_origin(annotation) is Literal or get_origin(annotation) is None:
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _flat(get_args(annotation)[0])
    return [inner for one in get_args(annotation) for inner in _flat(one)]


def _kind(name: str, types: set[Any], words: tuple[str, ...]) -> Kind:
    if words:
        return "word"
    named: dict[Any, Kind] = {bool: "yes_no", int: "number", Point: "point", AwareDatetime: "time"}
    for one in types:
        if one in named:
            return named[one]
    if name == "category":
        return "category"
    return "id" if name in IDS else "text"


INCIDENTS: Final = _schema("incident", IncidentReport, INCIDENT_REPORTS, "report_id")
ISSUES: Final = _schema("issue", IssueReport, ISSUE_REPORTS, "request_number")
SCHEMAS: Final = MappingProxyType({"incident": INCIDENTS, "issue": ISSUES})
