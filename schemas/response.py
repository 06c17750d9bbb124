"""Triage: what an incident calls for. A decision about each incident, and a response for those with a plan."""

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
    Sentence,
    ShortText,
    Version,
    derived_id,
)
from schemas.incident import IncidentKind

Tier = Annotated[str, Field(min_length=1, max_length=40)]
Priority = Literal["routine", "high", "urgent"]
PRIORITIES: tuple[Priority, ...] = ("routine", "high", "urgent")  # lowest first


class TieredArea(Record):
    """A custom area or a hot block that a place lies in, and the tier that it gives."""

    number: AreaNumber
    name: ShortText
    tier: Tier
    because: ShortText | None  # what sets it apart; restricted, as all of a decision is
    boundaries: ShortText  # version of the layer that it is of


class Location(Record):
    """Where a point or a published name lies. Both areas are kept; `area` is the one that decides."""

    area: AreaNumber | None
    computed_area: AreaNumber | None  # from the point
    published_area: AreaNumber | None  # from the source's name or number
    rule: Literal[
        "point_inside_area",
        "point_on_border",
        "point_outside_every_area",
        "published_name_decides",
        "no_location",
    ]
    differs: bool  # published and computed are both known and not the same
    boundaries: ShortText | None = Field(default=None, exclude_if=lambda version: version is None)
    """Version of the imported layer that says where areas are; None: those that the software comes with."""
    within: tuple[TieredArea, ...] = Field(default=(), exclude_if=lambda areas: not areas)
    """The areas with a tier of their own that hold the point. None of both: written as before there were any."""


class SeverityPart(Record):
    """One addend of a severity score, with the words that explain it."""

    factor: Code
    points: int
    because: Sentence


class Zone(Record):
    """Where and when a response looks for work. The zone of an earlier phase is kept: it has an `until`."""

    since: Instant  # when this zone came into force
    until: Instant | None  # when a revision ended it; None: it is in force
    centre: Point | None
    radius_m: Annotated[float, Field(gt=0, le=5000)]
    opens_at: Instant
    ends_at: Instant
    block: ShortText | None
    area: AreaNumber | None
    fixes: tuple[Code, ...]  # categories whose open issues become orders
    inspections: tuple[Code, ...]  # categories somebody looks at although nobody called
    void_for: Literal["linked", "window"] | None = Field(default=None, exclude_if=lambda why: why is None)
    """Why it is void if no revision made it so. `linked`: the incident follows another one. `window`: what is asked
    for beyond the window as it is now, for it may have been extended further as less was known."""
    earlier: bool = Field(default=False, exclude_if=lambda earlier: not earlier)
    """Whether an earlier policy, or earlier boundaries, made it, and no zone of today's asks for the same. What was
    asked for in it stays asked for until its reason ends; nothing new is."""


class Response(Record):
    """What triage holds an incident to call for."""

    response_id: UUID
    incident_id: UUID
    version: Version
    status: Literal["active", "ended"]
    kind: IncidentKind
    tier: Tier
    severity: int
    priority: Priority
    area: AreaNumber | None
    opens_at: Instant
    ends_at: Instant
    zones: Annotated[tuple[Zone, ...], Field(min_length=1)]
    policy_version: ShortText
    simulated: bool
    follows: UUID | None = Field(default=None, exclude_if=lambda leader: leader is None)
    """The incident that leads: a better source's, of the same event. This response asks for nothing itself."""
    followers: tuple[UUID, ...] = Field(default=(), exclude_if=lambda ids: not ids)
    """Incidents by which other sources tell of the same event; their responses ask for nothing."""
    kin: tuple[UUID, ...] = Field(default=(), exclude_if=lambda ids: not ids)
    """Incidents of other sources that are, or may once have been, taken for the same event."""
    extended_by: tuple[UUID, ...] = Field(default=(), exclude_if=lambda ids: not ids)
    """Later shootings that extend the window, in their order."""
    floor: Version = Field(default=0, exclude_if=lambda version: version == 0)
    """The version that it had when another policy came, from which the facts are counted again: each policy counts
    other ones. 0: the policy never changed."""


class Tie(Record):
    """Another incident, by which another source tells of the same event, and how far apart the two are."""

    incident_id: UUID
    number: NaturalKey
    sources: tuple[Code, ...]
    metres: Annotated[int, Field(ge=0)]
    seconds: Annotated[int, Field(ge=0)]


class TriageDecision(Record):
    """The outcome of triage for one incident, with or without a response."""

    incident_id: UUID
    version: Version
    rule: Literal["respond", "linked", "unfounded", "not_gun_violence", "no_plan"]
    because: Sentence
    location: Location
    tier: Tier
    severity: int
    parts: tuple[SeverityPart, ...]
    response: Response | None
    policy_version: ShortText
    follows: Tie | None = Field(default=None, exclude_if=lambda tie: tie is None)
    followers: tuple[Tie, ...] = Field(default=(), exclude_if=lambda ties: not ties)


def response_id_of(incident_id: UUID) -> UUID:
    """The id of an incident's response."""
    return derived_id("response", str(incident_id))
