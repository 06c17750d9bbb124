"""The policy as data: what the YAML tree in `infra/policy/` says, checked and hashed by its loader.

Agents take a `Policy` as an argument; they never load one.
"""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from schemas.area import Area
from schemas.base import AreaNumber, Code, Latitude, Longitude, NaturalKey, Record, ShortText
from schemas.incident import Event, IncidentKind
from schemas.response import Priority, Tier


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
    department: Code


class SeverityWeights(Record):
    """Points of each factor; their sum is the severity."""

    kind: dict[IncidentKind, int]
    per_further_victim: int
    tier: dict[str, int]
    near_repeat: int  # once, when another shooting lies within the near-repeat reach
    per_open_issue: int
    open_issues_cap: int  # points at most from open issues


class NearRepeat(Record):
    """How near and how recent another shooting counts as a repeat."""

    radius_m: Annotated[float, Field(gt=0, le=5000)]
    days: Annotated[int, Field(ge=1, le=365)]
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


class PriorityStep(Record):
    """From which severity on a priority holds."""

    priority: Priority
    from_severity: int


class Route(Record):
    """Who gets the work. Rules are tried in order; a field that is absent matches everything."""

    name: Code
    categories: tuple[Code, ...] = ()
    works: tuple[Literal["fix", "inspect"], ...] = ()
    areas: tuple[AreaNumber, ...] = ()
    department: Code


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
    priorities: tuple[PriorityStep, ...]
    plans: tuple[Plan, ...]
    routes: tuple[Route, ...]
    event_kinds: dict[str, Event]  # IUCR codes (4 characters) of the crimes dataset, those in scope
    cell_resolution: Annotated[int, Field(ge=5, le=11)]  # H3, "what is near"
    site_cell_resolution: Annotated[int, Field(ge=10, le=15)]  # H3, a site without an address
