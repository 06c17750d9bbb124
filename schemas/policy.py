"""The policy as data: what the YAML tree in `infra/policy/` says, checked and hashed by its loader.

Agents take a `Policy` as an argument; they never load one. Its look-ups are pure and O(1).
"""

import re
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import Field

from schemas.area import Area
from schemas.base import AreaNumber, Code, Latitude, Longitude, NaturalKey, Record, ShortText
from schemas.incident import Event, IncidentKind, IncidentPhase
from schemas.oncall import OncallPolicy
from schemas.response import Priority, Tier
from schemas.sla import Promise, SlaPolicy
from schemas.work_order import Outcome, Work

WORKS: tuple[Work, ...] = get_args(Work)

OWNER_OF_CATEGORY = "owner_of_category"  # routing: no rule matched, the category's owner takes the work
NOBODY_OWNS_IT = "nobody_owns_it"  # routing: no rule and no owner, the triage queue takes the work

IucrCode = Annotated[str, Field(pattern=r"^[0-9A-Z]{4}$")]
Points = Annotated[int, Field(ge=0, le=1000)]
NearResolution = Annotated[int, Field(ge=5, le=11)]
"""H3: what is near."""
SiteResolution = Annotated[int, Field(ge=10, le=15)]
"""H3: a site without an address."""


class Extent(Record):
    """The rectangle in which the city's coordinates lie. Points outside are impossible, not just outside."""

    min_lat: Latitude
    max_lat: Latitude
    min_lon: Longitude
    max_lon: Longitude

    def holds(self, lat: float, lon: float) -> bool:
        """Whether the point lies within."""
        return self.min_lat <= lat <= self.max_lat and self.min_lon <= lon <= self.max_lon


class City(Record):
    """The city and its limits."""

    name: ShortText
    time_zone: ShortText  # IANA name
    extent: Extent
    future_skew_s: Annotated[int, Field(ge=0, le=86_400)]  # reports later than now + this are impossible
    earliest: date  # reports before this date are impossible


class Department(Record):
    """A department that owns work."""

    code: Code
    name: ShortText
    source_names: tuple[ShortText, ...]  # how the city's data names it


class Category(Record):
    """A kind of issue."""

    code: Code
    name: ShortText
    fix_title: ShortText  # what a department reads; says nothing of why
    inspect_title: ShortText
    sr_codes: tuple[NaturalKey, ...]  # 311 short codes
    sr_types: tuple[ShortText, ...]  # 311 type names, current and legacy
    open311_codes: tuple[NaturalKey, ...]
    department: Code | None = None  # who owns it, unless a route says otherwise; None: the triage queue


class SeverityWeights(Record):
    """Points of each factor; their sum is the severity."""

    kind: dict[IncidentKind, Points]
    per_further_victim: Points
    tier: dict[str, Points]
    near_repeat: Points  # once, when another shooting lies within the near-repeat reach
    per_open_issue: Points
    open_issues_cap: Points  # points at most from open issues
    source: ShortText | None = None  # where the figures come from; the loader asks for it


class NearRepeat(Record):
    """How near and how recent another shooting counts as a repeat."""

    radius_m: Annotated[float, Field(gt=0, le=5000)]
    days: Annotated[int, Field(ge=1, le=365)]
    source: ShortText


class Linking(Record):
    """When incidents that several sources tell of, each under a number of its own, are held to be one event."""

    radius_m: Annotated[float, Field(gt=0, le=5000)]
    minutes: Annotated[int, Field(ge=1, le=1440)]
    ranks: Annotated[tuple[tuple[Code, ...], ...], Field(min_length=2)]  # sources, those that lead first
    kinds: Annotated[tuple[tuple[IncidentKind, ...], ...], Field(min_length=1)]  # each: may be one event
    source: ShortText

    def rank_of(self, sources: Iterable[str]) -> int | None:
        """The best rank of some sources, 0 leads all; None: none of them is ever linked."""
        return min((rank for one in sources if (rank := self._ranks.get(one)) is not None), default=None)

    def are_ranked_apart(self, some: tuple[str, ...], others: tuple[str, ...]) -> bool:
        """Whether a source of one and a source of the other have different ranks."""
        ranks = {rank for one in others if (rank := self._ranks.get(one)) is not None}
        return any(ranks - {rank} for one in some if (rank := self._ranks.get(one)) is not None)

    def are_compatible(self, kind: str, other: str) -> bool:
        """Whether incidents of these kinds may be one event."""
        return other in self._compatible.get(kind, ())

    @cached_property
    def _ranks(self) -> dict[str, int]:
        return {source: rank for rank, sources in enumerate(self.ranks) for source in sources}

    @cached_property
    def _compatible(self) -> dict[str, tuple[IncidentKind, ...]]:
        return {kind: group for group in self.kinds for kind in group}


class Extension(Record):
    """Whether a later shooting within a response's zone and window extends that window, to the later one's end."""

    enabled: bool
    most_days: Annotated[int, Field(ge=1, le=365)]  # in all, from the response's beginning
    source: ShortText


class Plan(Record):
    """What an incident of these kinds in these tiers calls for."""

    name: Code
    kinds: tuple[IncidentKind, ...]
    tiers: tuple[Tier, ...]
    radius_m: Annotated[float, Field(gt=0, le=5000)]
    window_days: Annotated[int, Field(ge=1, le=365)]
    fixes: tuple[Code, ...]
    inspections: tuple[Code, ...]
    source: ShortText | None = None  # where the figures come from; the loader asks for it


class ResponseTerms(Record):
    """When a response's zone is made safe, and how soon a response is closed that is over when it becomes known."""

    done: Literal["resolved", "checked", "verified"] = "checked"
    """When an order is done: resolved; resolved, and verified if it was drawn for re-inspection; verified."""
    safe_outcomes: tuple[Outcome, ...] = ("fixed", "found_working", "inspected")
    """How orders are resolved that leave a zone safe. A duplicate counts as its original."""
    settle_minutes: Annotated[int, Field(ge=1, le=1440)] = 10
    """A window that is over when we first hear of it ends so much later: until then its orders are found."""
    source: ShortText | None = None  # where the rules come from; the loader asks for it


class PriorityStep(Record):
    """From which severity on a priority holds."""

    priority: Priority
    from_severity: Annotated[int, Field(ge=0)]
    source: ShortText | None = None  # where the figure comes from; the loader asks for it


class HoldReason(Record):
    """A reason for which work may wait."""

    code: Code
    name: ShortText  # what people read


class Route(Record):
    """An exception to ownership. Rules are tried in order; a field that is absent matches everything."""

    name: Code
    categories: tuple[Code, ...] = ()
    works: tuple[Work, ...] = ()
    areas: tuple[AreaNumber, ...] = ()
    department: Code

    def concerns(self, category: str, work: str) -> bool:
        """Whether the rule is about this kind of work."""
        return (not self.categories or category in self.categories) and (not self.works or work in self.works)

    def covers(self, area: int | None) -> bool:
        """Whether the rule holds in this area. A rule for some areas says nothing of work without one."""
        return not self.areas or area in self.areas


class Routing(NamedTuple):
    """Who gets a piece of work, and the rule that says so."""

    department: str
    rule: str


class Policy(Record):
    """One policy, whole. `version` is the content hash of its source tree."""

    version: ShortText
    city: City
    areas: tuple[Area, ...]
    priority_areas_since: date
    default_tier: Tier  # of the areas that no tier lists
    outside_tier: Tier  # of places outside every area
    departments: tuple[Department, ...]
    triage_queue: Code  # the department that gets what nobody owns
    categories: tuple[Category, ...]
    severity: SeverityWeights
    near_repeat: NearRepeat
    linking: Linking | None = None  # None: every number is an event of its own
    extension: Extension | None = None  # None: windows are as their plans say
    priorities: tuple[PriorityStep, ...]
    plans: tuple[Plan, ...]
    routes: tuple[Route, ...]
    event_kinds: dict[IucrCode, Event]  # IUCR codes (4 characters) of the crimes dataset, those in scope
    hold_reasons: tuple[HoldReason, ...] = ()
    park_hours: Annotated[int, Field(ge=1, le=720)] = 72
    """How long an update for an order that nobody knows is kept before it is given up."""
    reinspect: dict[Code, Annotated[int, Field(ge=0, le=100)]] = Field(default_factory=dict)
    """Percent of the orders that each department resolves which somebody looks at again."""
    response_life: ResponseTerms = ResponseTerms()
    sla: SlaPolicy = SlaPolicy()
    oncall: OncallPolicy = OncallPolicy()
    cell_resolution: NearResolution
    site_cell_resolution: SiteResolution

    def plan_for(self, kind: IncidentKind, tier: str) -> Plan | None:
        """What an incident of this kind calls for in this tier; None: nothing."""
        return self._index.plans.get((kind, tier))

    def category(self, code: str) -> Category | None:
        """The category with this code."""
        return self._index.categories.get(code)

    def category_of_sr(self, code: str | None, type_name: str | None) -> Category | None:
        """The category of a 311 request: by its short code, else by its type name; None: out of scope."""
        index = self._index
        found = index.by_sr_code.get(folded(code)) if code else None
        if found is None and type_name:
            return index.by_sr_type.get(folded(type_name))
        return found

    def category_of_open311(self, service_code: str) -> Category | None:
        """The category of an Open311 service code; None: out of scope."""
        return self._index.by_open311.get(folded(service_code))

    def area(self, number: int) -> Area | None:
        """The area with this number."""
        return self._index.areas.get(number)

    def area_by_name(self, name: str) -> Area | None:
        """The area of a published name, whatever its case, spaces and punctuation."""
        return self._index.areas_by_name.get(area_name_key(name))

    def published_area_of(self, phase: IncidentPhase) -> int | None:
        """The number of the area that the source names, by number or by name."""
        if phase.published_area is not None or phase.published_area_name is None:
            return phase.published_area
        area = self.area_by_name(phase.published_area_name)
        return area.number if area else None

    def tier_of(self, area: int | None) -> Tier:
        """The tier of an area's number; None or a number that is no area is outside every area."""
        found = self._index.areas.get(area) if area is not None else None
        return found.tier if found else self.outside_tier

    def priority_of(self, severity: int) -> Priority:
        """The highest priority whose step the severity reaches. At most three steps, lowest first."""
        reached = [step.priority for step in self.priorities if step.from_severity <= severity]
        return reached[-1] if reached else self.priorities[0].priority

    @property
    def widest_radius_m(self) -> float:
        """The largest radius of any plan; 0 without plans."""
        return self._index.widest_radius_m

    def department(self, code: str) -> Department | None:
        """The department with this code."""
        return self._index.departments.get(code)

    def department_of_source(self, name: str) -> Department | None:
        """The department that city data calls by this name."""
        return self._index.departments_by_name.get(folded(name))

    def route(self, category: str, work: Work, area: int | None) -> Routing:
        """Who gets this work: the first rule that holds, else the category's owner, else the triage queue."""
        for route in self._index.routes.get((category, work), ()):
            if route.covers(area):
                return Routing(route.department, route.name)
        known = self.category(category)
        if known is not None and known.department is not None:
            return Routing(known.department, OWNER_OF_CATEGORY)
        return Routing(self.triage_queue, NOBODY_OWNS_IT)

    def promise_for(self, category: str, work: Work, priority: Priority) -> Promise | None:
        """What is promised for this work; None: nothing, in a policy from before there were promises."""
        return self._index.promises.get((category, work, priority))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy that builds its own index: pydantic copies cached properties, which would be stale."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("_index", None)
        return copy

    @cached_property
    def _index(self) -> "PolicyIndex":
        return PolicyIndex(self)


class PolicyIndex:
    """The look-ups of one policy, built once on first use."""

    def __init__(self, policy: Policy) -> None:
        self.plans = {(k, t): plan for plan in policy.plans for k in plan.kinds for t in plan.tiers}
        self.widest_radius_m = max((plan.radius_m for plan in policy.plans), default=0.0)
        self.categories = {category.code: category for category in policy.categories}
        self.by_sr_code = {folded(code): c for c in policy.categories for code in c.sr_codes}
        self.by_sr_type = {folded(name): c for c in policy.categories for name in c.sr_types}
        self.by_open311 = {folded(code): c for c in policy.categories for code in c.open311_codes}
        self.areas = {area.number: area for area in policy.areas}
        self.areas_by_name = {area_name_key(area.name): area for area in policy.areas}
        self.departments = {department.code: department for department in policy.departments}
        self.departments_by_name = {folded(n): d for d in policy.departments for n in d.source_names}
        self.promises = {
            (category, promise.work, priority): promise
            for promise in policy.sla.promises
            for category in promise.categories
            for priority in promise.priorities
        }
        self.routes = {
            (code, work): tuple(route for route in policy.routes if route.concerns(code, work))
            for code in self.categories
            for work in WORKS
        }


def folded(text: str) -> str:
    """The text as look-ups compare it: without regard to case and to how much space lies between words."""
    return " ".join(text.split()).casefold()


def area_name_key(name: str) -> str:
    """An area's name as sources agree on it: `O'Hare`, `OHARE`; `Loop`, `The Loop`; `Mt. Greenwood`."""
    words = re.sub(r"[^A-Z0-9 ]", "", " ".join(name.upper().split())).split()
    if len(words) > 1 and words[0] == "THE":
        words = words[1:]
    return "".join("MOUNT" if word == "MT" else word for word in words)
