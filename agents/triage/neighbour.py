"""An incident as its neighbours see it."""

from typing import Final
from uuid import UUID

from pydantic import Field

from schemas.base import Code, Instant, NaturalKey, Point, Record, Version
from schemas.incident import Incident, IncidentKind, Validity

SHOOTINGS: Final[tuple[IncidentKind, ...]] = ("fatal_shooting", "nonfatal_shooting")


class Neighbour(Record):
    """An incident that was ever near: what near repeats, linking and extensions need of it.

    What has a default was added later: without it, it is written as before.
    """

    incident_id: UUID
    version: Version
    validity: Validity
    kind: IncidentKind
    occurred_at: Instant
    point: Point | None
    number: NaturalKey | None = Field(default=None, exclude_if=lambda number: number is None)
    sources: tuple[Code, ...] = Field(default=(), exclude_if=lambda sources: not sources)
    simulated: bool = Field(default=False, exclude_if=lambda simulated: not simulated)
    is_kin: bool = Field(default=False, exclude_if=lambda kin: not kin)
    """Whether it and the incident may ever have been taken for one event."""
    may_extend_from: Instant | None = Field(default=None, exclude_if=lambda at: at is None)
    """The latest that it was ever held to have happened, if it may ever have extended the incident's window."""


def seen(incident: Incident, *, is_kin: bool = False, may_extend_from: Instant | None = None) -> Neighbour:
    """The incident as it is now, as a neighbour."""
    return Neighbour(
        incident_id=incident.incident_id,
        version=incident.version,
        validity=incident.validity,
        kind=incident.kind,
        occurred_at=incident.occurred_at,
        point=incident.now.point,
        number=incident.number,
        sources=incident.sources,
        simulated=incident.simulated,
        is_kin=is_kin,
        may_extend_from=may_extend_from,
    )
