"""Facts and the folds of intake."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from connectors.ports import Attempt, Fact, ParkedUpdate, Row, Told
from connectors.postgres import feed, parked
from connectors.postgres.decisions import DecisionLog
from connectors.postgres.near import array_text
from connectors.postgres.orders import PostgresOrders
from schemas.incident import Incident
from schemas.issue import Issue

# Keep new facts; known ones are only seen again. `xmax = 0`: the row was inserted, not updated.
_ADD_INCIDENT_REPORTS: Final = """
INSERT INTO incident_reports (source, report_id, revised_at, digest, incident_id, body)
SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[], $5::uuid[], $6::text[])
ON CONFLICT (source, report_id, revised_at, digest) DO UPDATE SET last_seen = now()
RETURNING incident_id, xmax = 0 AS is_new"""

# The issues with new facts: their own, and every parent that any revision of these requests ever named. Such a
# statement does not see the rows that it inserts itself, so they tell of their parents too. A parent that somebody
# else's fact names meanwhile is found when the issue is folded.
_ADD_ISSUE_REPORTS: Final = """
WITH added AS (
  INSERT INTO issue_reports (source, request_number, revised_at, digest, issue_id, parent_id, body)
  SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[], $5::uuid[], $6::uuid[],
                       $7::text[])
  ON CONFLICT (source, request_number, revised_at, digest) DO UPDATE SET last_seen = now()
  RETURNING issue_id, parent_id, xmax = 0 AS is_new),
touched AS (SELECT issue_id, parent_id FROM added WHERE is_new)
SELECT issue_id FROM touched
UNION SELECT parent_id FROM touched WHERE parent_id IS NOT NULL
UNION SELECT known.parent_id FROM touched JOIN issue_reports known USING (issue_id)
      WHERE known.parent_id IS NOT NULL"""

_INCIDENT_FACTS: Final = "SELECT incident_id, body FROM incident_reports WHERE incident_id = ANY($1::uuid[])"

_COUNT_INCIDENT_FACTS: Final = """
SELECT incident_id, count(*) FROM incident_reports WHERE incident_id = ANY($1::uuid[]) GROUP BY 1"""

# The facts of an issue: its own, and all of every request that ever named it as its parent.
_OWN_AND_DUPLICATES: Final = """
WITH wanted AS (SELECT unnest($1::uuid[]) AS issue_id),
     duplicates AS (
       SELECT DISTINCT wanted.issue_id AS parent, child.issue_id AS child
       FROM wanted JOIN issue_reports child ON child.parent_id = wanted.issue_id),
     facts AS (
       SELECT wanted.issue_id, own.body FROM wanted JOIN issue_reports own USING (issue_id)
       UNION ALL
       SELECT duplicates.parent, one.body
       FROM duplicates JOIN issue_reports one ON one.issue_id = duplicates.child)"""

_ISSUE_FACTS: Final = f"{_OWN_AND_DUPLICATES} SELECT issue_id, body FROM facts"  # noqa: S608 - constants

_COUNT_ISSUE_FACTS: Final = f"{_OWN_AND_DUPLICATES} SELECT issue_id, count(*) FROM facts GROUP BY 1"  # noqa: S608 - constants

_SAVE_INCIDENTS: Final = """
INSERT INTO incidents AS old (incident_id, version, number, validity, kind, occurred_at, occurred_until, cells,
                              body)
SELECT i, v, n, va, k, o, u, c::bigint[], b
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[],
            $8::text[], $9::text[]) AS new(i, v, n, va, k, o, u, c, b)
ON CONFLICT (incident_id) DO UPDATE SET version = excluded.version, validity = excluded.validity,
  kind = excluded.kind, occurred_at = excluded.occurred_at, occurred_until = excluded.occurred_until,
  cells = excluded.cells, body = excluded.body,  recorded_at = now()
WHERE excluded.version > old.version
RETURNING incident_id"""

_SAVE_ISSUES: Final = """
INSERT INTO issues AS old (issue_id, version, source, request_number, status, category, folded_into,
                           created_at, created_until, cells, body)
SELECT i, v, s, n, st, ca, f, cr, u, c::bigint[], b
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::uuid[],
            $8::timestamptz[], $9::timestamptz[], $10::text[], $11::text[])
     AS new(i, v, s, n, st, ca, f, cr, u, c, b)
ON CONFLICT (issue_id) DO UPDATE SET version = excluded.version, status = excluded.status,
  category = excluded.category, folded_into = excluded.folded_into, created_at = excluded.created_at,
  created_until = excluded.created_until, cells = excluded.cells, body = excluded.body, recorded_at = now()
WHERE excluded.version > old.version
RETURNING issue_id"""


class PostgresIntake(DecisionLog):
    """`connectors.ports.IntakeStore` in one transaction."""

    async def add_incident_reports(self, facts: Sequence[Fact]) -> set[UUID]:
        """Keep the facts; ids of the incidents that have new ones."""
        if not facts:
            return set()
        rows = await self._connection.fetch(
            _ADD_INCIDENT_REPORTS,
            [fact.source for fact in facts],
            [fact.report_id for fact in facts],
            [fact.revised_at for fact in facts],
            [fact.digest for fact in facts],
            [fact.owner_id for fact in facts],
            [fact.body for fact in facts],
        )
        return {row["incident_id"] for row in rows if row["is_new"]}

    async def add_issue_reports(self, facts: Sequence[Fact]) -> set[UUID]:
        """Keep the facts; ids of the issues with new ones: their own, and every parent they ever named."""
        if not facts:
            return set()
        rows = await self._connection.fetch(
            _ADD_ISSUE_REPORTS,
            [fact.source for fact in facts],
            [fact.report_id for fact in facts],
            [fact.revised_at for fact in facts],
            [fact.digest for fact in facts],
            [fact.owner_id for fact in facts],
            [fact.parent_id for fact in facts],
            [fact.body for fact in facts],
        )
        return {row["issue_id"] for row in rows}

    async def incident_facts(self, ids: Sequence[UUID]) -> Mapping[UUID, list[str]]:
        """The bodies of all facts of each incident, in byte order."""
        return await self._bodies(_INCIDENT_FACTS, ids)

    async def issue_facts(self, ids: Sequence[UUID]) -> Mapping[UUID, list[str]]:
        """The bodies of all facts of each issue, the duplicates' included, in byte order."""
        return await self._bodies(_ISSUE_FACTS, ids)

    async def incident_fact_counts(self, ids: Sequence[UUID]) -> Mapping[UUID, int]:
        """How many facts each incident has, as committed by now."""
        return dict(await self._connection.fetch(_COUNT_INCIDENT_FACTS, ids))

    async def issue_fact_counts(self, ids: Sequence[UUID]) -> Mapping[UUID, int]:
        """How many facts each issue has, as committed by now."""
        return dict(await self._connection.fetch(_COUNT_ISSUE_FACTS, ids))

    async def save_incidents(self, rows: Sequence[tuple[Incident, Row]]) -> set[UUID]:
        """Store those with a higher version; their ids. `occurred_at` to `occurred_until`: all that it was ever
        held to be."""
        if not rows:
            return set()
        saved = await self._connection.fetch(
            _SAVE_INCIDENTS,
            [row.id for _, row in rows],
            [row.version for _, row in rows],
            [one.number for one, _ in rows],
            [one.validity for one, _ in rows],
            [one.kind for one, _ in rows],
            [min(phase.occurred_at for phase in one.ever) for one, _ in rows],
            [max(phase.occurred_at for phase in one.ever) for one, _ in rows],
            [array_text(row.cells) for _, row in rows],
            [row.body for _, row in rows],
        )
        return {row["incident_id"] for row in saved}

    async def save_issues(self, rows: Sequence[tuple[Issue, Row]]) -> set[UUID]:
        """Store those with a higher version; their ids. `created_at` to `created_until`, as above."""
        if not rows:
            return set()
        saved = await self._connection.fetch(
            _SAVE_ISSUES,
            [row.id for _, row in rows],
            [row.version for _, row in rows],
            [one.source for one, _ in rows],
            [one.request_number for one, _ in rows],
            [one.status for one, _ in rows],
            [one.category for one, _ in rows],
            [one.folded_into for one, _ in rows],
            [min(phase.created_at for phase in one.ever) for one, _ in rows],
            [max(phase.created_at for phase in one.ever) for one, _ in rows],
            [array_text(row.cells) for _, row in rows],
            [row.body for _, row in rows],
        )
        return {row["issue_id"] for row in saved}

    async def order_keys(self, references: Sequence[str]) -> Mapping[str, str]:
        """The order key of each reference that there is an order for."""
        return await parked.order_keys(self._connection, references)

    async def tell(self, told: Sequence[Told]) -> None:
        """Add to the feed, in this order."""
        await feed.add(self._connection, told)

    async def park(self, updates: Sequence[ParkedUpdate]) -> None:
        """Keep updates whose order nobody knows."""
        await parked.park(self._connection, updates)

    async def audit(self, attempts: Sequence[Attempt]) -> None:
        """Add to the audit trail; last of all, for others wait until the transaction ends."""
        await PostgresOrders(self._connection).audit(attempts)

    async def _bodies(self, query: str, ids: Sequence[UUID]) -> dict[UUID, list[str]]:
        found: dict[UUID, list[str]] = defaultdict(list)
        for owner, body in await self._connection.fetch(query, ids):
            found[owner].append(body)
        # Code points sort as their UTF-8 bytes do.
        return {owner: sorted(bodies) for owner, bodies in found.items()}
