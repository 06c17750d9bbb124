"""What other boundaries would change in decisions that stand, and having them taken again."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from agents.recount import recounts
from agents.triage.decide import TriageInputs, decide
from connectors.geography.boundaries import Boundaries
from connectors.postgres import outbox
from connectors.postgres.pool import Connection
from infra.connect import Endpoints
from infra.embedded.installation import publish_unsent
from schemas.policy import Policy
from schemas.response import Location, TriageDecision

SOURCE: Final = "door/areas"
LOOK_EVERY_S: Final = 0.2
SEND_AGAIN_S: Final = 5.0

# Incidents that may have occurred in a span of time, with the triage decision that stands.
_STANDING: Final = """
SELECT i.number, d.inputs, d.output, d.policy_version FROM incidents i
CROSS JOIN LATERAL (SELECT inputs, output, policy_version FROM decisions
  WHERE stage = 'triage' AND subject = i.incident_id ORDER BY version DESC LIMIT 1) d
WHERE i.occurred_at < $2 AND i.occurred_until >= $1 ORDER BY i.occurred_at, i.number"""

# Those of these incidents whose decision that stands was taken by boundaries that were put in force earlier.
_BEHIND: Final = """
SELECT i.incident_id FROM incidents i
CROSS JOIN LATERAL (SELECT inputs FROM decisions
  WHERE stage = 'triage' AND subject = i.incident_id ORDER BY version DESC LIMIT 1) d
WHERE i.incident_id = ANY($1::uuid[]) AND coalesce((d.inputs::json ->> 'boundaries')::bigint, 0) < $2"""


class Standing(NamedTuple):
    """A decision that stands."""

    number: str
    inputs: TriageInputs
    decision: TriageDecision


class Different(NamedTuple):
    """One incident that other boundaries place, or decide on, differently. `decides`: not only the place differs."""

    number: str
    incident_id: UUID
    occurred_at: datetime
    before: TriageDecision
    after: TriageDecision
    decides: bool


async def standing(connection: Connection, since: datetime, until: datetime) -> list[Standing]:
    """The decisions on what occurred in [since, until), in the order of time."""
    rows = await connection.fetch(_STANDING, since, until)
    read = [
        Standing(
            row["number"],
            TriageInputs.model_validate_json(row["inputs"]),
            TriageDecision.model_validate_json(row["output"]),
        )
        for row in rows
    ]
    return [one for one in read if since <= one.inputs.incident.occurred_at < until]


def differing(found: Sequence[Standing], boundaries: Boundaries, policy: Policy) -> list[Different]:
    """Those that these boundaries place or decide on differently; by which version a place was found counts, too."""
    again = [_again(one, boundaries, policy) for one in found]
    return [
        Different(
            one.number, one.inputs.incident.incident_id, one.inputs.incident.occurred_at, one.decision, decision,
            decides=_essence(one.decision) != _essence(decision),
        )
        for one, (inputs, decision) in zip(found, again, strict=True)
        if inputs.locations != one.inputs.locations
    ]  # fmt: skip


def _again(one: Standing, boundaries: Boundaries, policy: Policy) -> tuple[TriageInputs, TriageDecision]:
    phases = one.inputs.incident.ever
    locations = boundaries.locate(
        [phase.point for phase in phases],
        [policy.published_area_of(phase) for phase in phases],
        [phase.occurred_at for phase in phases],
    )
    inputs = one.inputs.model_copy(update={"locations": tuple(locations)})
    return inputs, decide(inputs, policy)[0]


def _essence(decision: TriageDecision) -> tuple[Any, ...]:
    """What people and departments notice of a decision."""
    response = decision.response
    location: Location = decision.location
    return (
        decision.rule, location.area, decision.tier, decision.severity,
        response and (response.status, response.priority, response.area,
                      [(zone.radius_m, zone.fixes, zone.inspections, zone.ends_at) for zone in response.zones]),
    )  # fmt: skip


async def have_decided_again(
    connection: Connection, there: Endpoints, incident_ids: Sequence[UUID], revision: int, wait_s: float
) -> list[UUID]:
    """Have triage decide on these incidents by the boundaries in force; those that still wait when the time is over.

    Batches that begin from now on go by them. What is still behind after some seconds is sent again: deciding once more
    changes nothing. Raises Transient when the broker is away: what is written down then goes out with the next call.
    """
    deadline_s = time.monotonic() + wait_s
    behind, sent_s = list(incident_ids), -SEND_AGAIN_S
    while behind:
        if time.monotonic() >= sent_s + SEND_AGAIN_S:
            await _send(connection, there, behind)
            sent_s = time.monotonic()
        await asyncio.sleep(LOOK_EVERY_S)
        rows = await connection.fetch(_BEHIND, incident_ids, revision)
        behind = [row["incident_id"] for row in rows]
        if time.monotonic() >= deadline_s:
            break
    return behind


async def _send(connection: Connection, there: Endpoints, incident_ids: Sequence[UUID]) -> None:
    async with connection.transaction():
        await outbox.add_rows(connection, SOURCE, recounts(incident_ids))
    await publish_unsent(connection, there.brokers, SOURCE, embedded=there.embedded, security=there.security)
