"""The shape of each file of a policy, and how a file that has another shape is reported."""

from datetime import date
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from infra.policy.document import Document, Keys, PolicyError, found
from infra.policy.holidays import HolidaySources
from schemas.alert import Level
from schemas.base import AreaNumber, Code, Record, ShortText
from schemas.expected import expectation
from schemas.incident import Event
from schemas.oncall import (
    ENV_PATTERN,
    WALL_TIME_PATTERN,
    Channel,
    Holder,
    OncallPolicy,
    Person,
    Role,
)
from schemas.policy import (
    Category,
    City,
    Department,
    Extension,
    Extent,
    HoldReason,
    IucrCode,
    Linking,
    NearRepeat,
    NearResolution,
    Plan,
    PriorityStep,
    ResponseTerms,
    Route,
    SeverityWeights,
    SiteResolution,
)
from schemas.response import Tier
from schemas.sla import (
    BUDGET_PATTERN,
    SPAN_PATTERN,
    Alerting,
    Boundary,
    Promise,
    RungTerms,
    SpanText,
    SpecialDay,
    Weekday,
)
from schemas.work_order import Outcome


class SourcedExtent(Extent):
    """The city's rectangle and where it comes from."""

    source: ShortText


class CityFile(City):
    """city.yaml"""

    extent: SourcedExtent


class NamedArea(Record):
    """A community area. Its tier is what the tiers say."""

    number: AreaNumber
    name: ShortText


class TierList(Record):
    """The areas of a tier, and since when."""

    code: Tier
    since: date
    source: ShortText
    areas: tuple[AreaNumber, ...]


class AreasFile(Record):
    """areas.yaml"""

    tiers: tuple[TierList, ...]
    areas: tuple[NamedArea, ...]


class DepartmentsFile(Record):
    """departments.yaml"""

    departments: tuple[Department, ...]
    triage_queue: Code


class CategoriesFile(Record):
    """categories.yaml"""

    categories: tuple[Category, ...]


class SourcedWeights(SeverityWeights):
    """Weights that say where they come from."""

    source: ShortText


class SourcedStep(PriorityStep):
    """A step that says where it comes from."""

    source: ShortText


class SeverityFile(Record):
    """severity.yaml"""

    weights: SourcedWeights
    priorities: tuple[SourcedStep, ...]


class SourcedPlan(Plan):
    """A plan that says where its figures come from."""

    source: ShortText


class SourcedResponseTerms(ResponseTerms):
    """Rules of a response's life that say where they come from."""

    done: Literal["resolved", "checked", "verified"]
    safe_outcomes: Annotated[tuple[Outcome, ...], Field(min_length=1)]
    settle_minutes: Annotated[int, Field(ge=1, le=1440)]
    source: ShortText


class PlansFile(Record):
    """plans.yaml"""

    plans: tuple[SourcedPlan, ...]
    response_life: SourcedResponseTerms


class RoutingFile(Record):
    """routing.yaml"""

    routes: tuple[Route, ...]


class Reinspection(Record):
    """Percent of each department's resolved orders, and where the figures come from."""

    percent: dict[Code, Annotated[int, Field(ge=0, le=100)]]
    source: ShortText


class OrdersFile(Record):
    """orders.yaml"""

    hold_reasons: tuple[HoldReason, ...]
    park_hours: Annotated[int, Field(ge=1, le=720)]
    reinspect: Reinspection


class EventKind(Record):
    """An IUCR code in scope, with the title that the police gives it."""

    iucr: IucrCode
    event: Event
    title: ShortText


class IncidentKindsFile(Record):
    """incident_kinds.yaml"""

    source: ShortText
    event_kinds: tuple[EventKind, ...]


class PolicyFile(Record):
    """policy.yaml: what concerns the whole policy"""

    default_tier: Tier
    outside_tier: Tier
    near_repeat: NearRepeat
    linking: Linking | None = None  # a policy of before there was linking goes on as it was
    extension: Extension | None = None
    cell_resolution: NearResolution
    site_cell_resolution: SiteResolution


class CalendarEntry(Record):
    """A calendar, with where its holidays come from instead of the dates."""

    code: Code
    name: ShortText
    time_zone: ShortText
    hours: dict[Weekday, tuple[SpanText, ...]]
    exceptions: tuple[SpecialDay, ...] = ()
    holidays: HolidaySources | None = None
    source: ShortText


class CalendarsFile(Record):
    """calendars.yaml"""

    calendars: tuple[CalendarEntry, ...]


class LevelledRung(RungTerms):
    """A rung that says whom it tells."""

    level: Level


class SlaFile(Record):
    """sla.yaml"""

    promises: tuple[Promise, ...]
    staged: tuple[Code, ...]
    rungs: tuple[LevelledRung, ...]
    boundary: Boundary
    reopen_within_hours: Annotated[int, Field(ge=0, le=8760)]


class AlertsFile(Record):
    """alerts.yaml: how alerts behave"""

    late_after_s: Annotated[int, Field(ge=1, le=86_400)]
    unacknowledge_after_minutes: Annotated[int, Field(ge=1, le=43_200)]
    longest_snooze_hours: Annotated[int, Field(ge=1, le=720)]
    source: ShortText

    @property
    def alerting(self) -> Alerting:
        """What the policy keeps of it."""
        return Alerting.model_validate(self.model_dump(exclude={"source"}))


class OncallFile(OncallPolicy):
    """oncall.yaml: who is told"""

    channels: tuple[Channel, ...]
    persons: tuple[Person, ...]
    roles: tuple[Role, ...]
    holders: tuple[Holder, ...]


FILES: dict[str, type[Record]] = {
    "city.yaml": CityFile,
    "areas.yaml": AreasFile,
    "departments.yaml": DepartmentsFile,
    "categories.yaml": CategoriesFile,
    "severity.yaml": SeverityFile,
    "plans.yaml": PlansFile,
    "routing.yaml": RoutingFile,
    "incident_kinds.yaml": IncidentKindsFile,
    "orders.yaml": OrdersFile,
    "calendars.yaml": CalendarsFile,
    "sla.yaml": SlaFile,
    "alerts.yaml": AlertsFile,
    "oncall.yaml": OncallFile,
    "policy.yaml": PolicyFile,
}
"""Every file of a policy. All are needed, and a folder holds no other YAML."""


def shape_errors(document: Document, model: type[BaseModel]) -> list[PolicyError]:
    """Where a document differs from the shape of its file, in the order of its lines."""
    try:
        model.model_validate_json(canonical_json(document.data))
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=True)
        return sorted({_shape_error(document, model, detail) for detail in details}, key=_by_line)
    return []


def canonical_json(data: Any) -> bytes:
    """The one JSON of plain values: keys sorted, no spaces. Dates become ISO text, NaN and infinity null."""
    return _ANY.dump_json(_sorted(data))


_ANY: TypeAdapter[Any] = TypeAdapter(Any)


def _sorted(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _sorted(data[key]) for key in sorted(data)}
    return [_sorted(item) for item in data] if isinstance(data, list) else data


def _by_line(error: PolicyError) -> tuple[int, str]:
    return error.line or 0, error.key


SECRETIVE = (("url",), ("url_env",))
"""Keys of values that are not repeated: somebody may have written a password there."""


def _shape_error(document: Document, model: type[BaseModel], detail: Any) -> PolicyError:
    keys: Keys = tuple(key for key in detail["loc"] if key != "[key]")
    match detail["type"]:
        case "missing":
            return document.error(keys, "is missing")
        case "extra_forbidden":
            return document.error(
                keys, f"is unknown; expected one of {', '.join(_fields_at(model, keys[:-1]))}"
            )
    value = keys[-1] if "[key]" in detail["loc"] else document.get(*keys)
    shown = "text" if keys[-1:] in SECRETIVE and isinstance(value, str) else found(value)
    return document.error(keys, f"{_expectation(detail)}, found {shown}")


_PLAIN = {
    "model_type": "expected keys with values",
    "dict_type": "expected keys with values",
}

_PATTERNS = {
    BUDGET_PATTERN: "expected a length such as 30m, 4h or 5wd",
    SPAN_PATTERN: "expected hours such as 08:30-16:30",
    WALL_TIME_PATTERN: "expected a time of day such as 08:00",
    ENV_PATTERN: "expected the name of an environment variable such as RAPID_CHANNEL_DESK",
}


def _expectation(detail: Any) -> str:
    """What pydantic expected, in the words of a person who edits YAML."""
    kind = detail["type"]
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind == "string_pattern_mismatch" and detail["ctx"]["pattern"] in _PATTERNS:
        return _PATTERNS[detail["ctx"]["pattern"]]
    if kind.startswith("date"):
        return "expected a date such as 2024-01-31"
    return f"expected {expectation(detail)}"


def _fields_at(model: Any, keys: Keys) -> list[str]:
    """The keys that a model knows at a place within it."""
    for key in keys:
        fields = getattr(_model_in(model), "model_fields", {})
        model = fields[key].annotation if key in fields else _model_in(model)
    return list(getattr(_model_in(model), "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The model within `tuple[Model, ...]`, `Model | None` and the like."""
    if get_origin(annotation) is None:
        return annotation
    return next((a for a in map(_model_in, get_args(annotation)) if hasattr(a, "model_fields")), None)
