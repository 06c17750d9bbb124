"""Incidents of gun violence: what a source said (a report) and what we hold to be one event (an incident)."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import (
    AreaNumber,
    Code,
    Instant,
    NaturalKey,
    Point,
    Record,
    ShortText,
    Version,
    derived_id,
)

Event = Literal["homicide", "assault", "robbery", "sexual_assault", "gunfire", "other"]
"""What a report says happened, in our words; connectors map a city's codes to it."""

IncidentKind = Literal[
    "fatal_shooting", "nonfatal_shooting", "gunfire", "homicide_cause_unknown", "not_gun_violence"
]
"""What the policy plans for. `homicide_cause_unknown`: the source does not say whether a gun was used."""

Validity = Literal["valid", "unfounded"]


class IncidentReport(Record):
    """One row of a source about one victim or one event. Never a name, age, sex or race: not needed."""

    source: Code
    report_id: NaturalKey  # the source's own id of this row, unique within the source
    incident_number: NaturalKey  # the case number: all reports that share it are one incident
    occurred_at: Instant
    revised_at: Instant  # the source's revision clock: the newest revision of a report wins
    validity: Validity = "valid"
    event: Event
    gunshot_injury: bool | None  # None: the source does not say
    block: ShortText | None = None  # street block, as the source writes it
    location_type: ShortText | None = None
    published_area_name: ShortText | None = None
    published_area: AreaNumber | None = None
    beat: ShortText | None = None
    district: ShortText | None = None
    ward: ShortText | None = None
    point: Point | None = None
    simulated: bool = False

    @property
    def key(self) -> str:
        """The Kafka key: all reports of one case meet in one partition."""
        return f"{self.source}:{self.incident_number}"


class IncidentPhase(Record):
    """What we held to be true of an incident from one revision on. Times and places are the incident's."""

    since: Instant
    validity: Validity
    kind: IncidentKind
    occurred_at: Instant
    block: ShortText | None
    published_area_name: ShortText | None
    published_area: AreaNumber | None
    point: Point | None


class Incident(Record):
    """One event, folded from all revisions of all its reports. The last phase is what holds now."""

    incident_id: UUID
    number: NaturalKey
    version: Version  # report revisions known
    validity: Validity
    kind: IncidentKind
    victims: Annotated[int, Field(ge=0)]  # the most reports with a gunshot injury that one source has
    killed: Annotated[int, Field(ge=0)]
    occurred_at: Instant
    revised_at: Instant
    location_type: ShortText | None
    beat: ShortText | None
    district: ShortText | None
    ward: ShortText | None
    phases: Annotated[tuple[IncidentPhase, ...], Field(min_length=1)]
    void_phases: tuple[IncidentPhase, ...] = ()  # what some reports alone would say; held for no time at all
    sources: tuple[Code, ...]
    simulated: bool

    @property
    def now(self) -> IncidentPhase:
        """The phase that holds now."""
        return self.phases[-1]

    @property
    def ever(self) -> tuple[IncidentPhase, ...]:
        """All that it may ever have been held to be, whichever reports came first; the last one holds now."""
        return (*self.void_phases, *self.phases)


def incident_id_of(number: str) -> UUID:
    """The id of the incident with this case number."""
    return derived_id("incident", number)
