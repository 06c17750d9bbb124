"""What triage reads and writes."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from connectors.ports import CalledFor, Reach, ResponseRow
from connectors.postgres import near
from connectors.postgres.decisions import DecisionLog
from connectors.postgres.near import array_text
from schemas.incident import Incident
from schemas.issue import Issue
from schemas.response import Response

_INCIDENTS: Final = "SELECT body FROM incidents WHERE incident_id = ANY($1::uuid[]) ORDER BY incident_id"

_SAVE_RESPONSES: Final = """
INSERT INTO responses AS old (response_id, version, incident_id, status, tier, area, priority, severity,
                              opens_at, ends_at, cells, body, carries, rules)
SELECT i, v, inc, st, t, a, p, se, o, e, c::bigint[], b, ca, $14
FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::int[], $7::text[], $8::int[],
            $9::timestamptz[], $10::timestamptz[], $11::text[], $12::text[], $13::boolean[])
     AS new(i, v, inc, st, t, a, p, se, o, e, c, b, ca)
ON CONFLICT (response_id) DO UPDATE SET version = excluded.version, status = excluded.status,
  tier = excluded.tier, area = excluded.area, priority = excluded.priority, severity = excluded.severity,
  opens_at = excluded.opens_at, ends_at = excluded.ends_at, cells = excluded.cells, body = excluded.body,
  carries = excluded.carries, rules = excluded.rules, recorded_at = now()
WHERE excluded.version > old.version
RETURNING response_id"""

_RESPONDING: Final = "SELECT incident_id FROM responses WHERE incident_id = ANY($1::uuid[])"

# Responses that are not by these rules alone, and what the decisions that made them knew.
_CALLED_FOR: Final = """
SELECT r.incident_id, r.body, r.rules, d.inputs
FROM responses r
LEFT JOIN decisions d ON d.stage = 'triage' AND d.subject = r.incident_id AND d.version = r.version
WHERE r.incident_id = ANY($1::uuid[]) AND (r.rules IS DISTINCT FROM $2 OR r.carries)"""


class PostgresTriage(DecisionLog):
    """`connectors.ports.TriageStore` in one transaction."""

    async def incidents(self, ids: Sequence[UUID]) -> list[Incident]:
        """The latest of each that exists."""
        rows = await self._connection.fetch(_INCIDENTS, ids)
        return [near.parsed(Incident, row["body"]) for row in rows]

    async def incidents_near(self, reaches: Sequence[Reach]) -> Mapping[UUID, list[Incident]]:
        """Incidents in the cells and the time of each reach, without its owner."""
        return await near.incidents_near(self._connection, reaches)

    async def issues_near(self, reaches: Sequence[Reach]) -> Mapping[UUID, list[Issue]]:
        """Issues in the cells of each reach, created within its time."""
        return await near.issues_near(self._connection, reaches)

    async def responding(self, incident_ids: Sequence[UUID]) -> set[UUID]:
        """Those of these incidents that have a response, whatever it asks for."""
        rows = await self._connection.fetch(_RESPONDING, incident_ids)
        return {row["incident_id"] for row in rows}

    async def called_for(self, incident_ids: Sequence[UUID], rules: str) -> Mapping[UUID, CalledFor]:
        """What other rules, or these with something of others, had these incidents call for."""
        rows = await self._connection.fetch(_CALLED_FOR, incident_ids, rules)
        return {
            row["incident_id"]: CalledFor(near.parsed(Response, row["body"]), row["rules"], row["inputs"])
            for row in rows
        }

    async def save_responses(self, rows: Sequence[ResponseRow], rules: str) -> set[UUID]:
        """Store those with a higher version; their ids. `ends_at`: when the last of its zones ever ends."""
        if not rows:
            return set()
        ordered = sorted(rows, key=lambda pair: pair[1].id.int)
        saved = await self._connection.fetch(
            _SAVE_RESPONSES,
            [row.id for _, row in ordered],
            [row.version for _, row in ordered],
            [one.incident_id for one, _ in ordered],
            [one.status for one, _ in ordered],
            [one.tier for one, _ in ordered],
            [one.area for one, _ in ordered],
            [one.priority for one, _ in ordered],
            [one.severity for one, _ in ordered],
            [min(zone.opens_at for zone in one.zones) for one, _ in ordered],
            [max(zone.ends_at for zone in one.zones) for one, _ in ordered],
            [array_text(row.cells) for _, row in ordered],
            [row.body for _, row in ordered],
            [one.floor > 0 or any(zone.earlier for zone in one.zones) for one, _ in ordered],
            rules,
        )
        return {row["response_id"] for row in saved}
