"""Timers: when to look at an order or a response again. Its writer arms and disarms; who nudges takes a lease.

All times here are the database's: services on several machines agree on what is due, however their own clocks go.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from connectors.ports import Timer, TimerKind
from connectors.postgres.pool import Connection
from connectors.postgres.together import later

# One row for each subject. An unchanged due time keeps its lease: the writer looks at it far more often than
# time comes by, and must not call the next nudge back to it.
_ARM: Final = """
INSERT INTO timers (subject_id, key, reference, due_at, nudge_at, kind)
SELECT t.subject_id, t.key, t.reference, t.due_at, t.due_at, t.kind
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::text[])
  AS t(subject_id, key, reference, due_at, kind)
ON CONFLICT (subject_id) DO UPDATE
SET due_at = excluded.due_at, nudge_at = excluded.due_at, nudges = 0, armed_at = now()
WHERE timers.due_at <> excluded.due_at"""
_DISARM: Final = "DELETE FROM timers WHERE subject_id = ANY($1::uuid[])"

# Lease what is to be nudged within $1 seconds, the longest due first; what others are just leasing is passed over. The
# lease counts from the nudge, and doubles: whoever does not answer for days is not drowned in nudges. now() and not
# clock_timestamp() in the condition: only what does not change within a statement can use the index.
_CLAIM: Final = """
WITH due AS (
  SELECT subject_id, nudge_at FROM timers WHERE nudge_at <= now() + make_interval(secs => $1)
  ORDER BY nudge_at LIMIT $2 FOR UPDATE SKIP LOCKED)
UPDATE timers t SET nudges = t.nudges + 1,
  nudge_at = greatest(due.nudge_at, now()) + make_interval(secs => least($3 * 2.0 ^ least(t.nudges, 30), $4))
FROM due WHERE t.subject_id = due.subject_id
RETURNING due.nudge_at AS at, t.subject_id, t.key, t.reference, t.due_at, t.nudges, t.nudge_at AS leased_until,
  t.kind, clock_timestamp() AS now"""

# As if they had never been leased; not those that somebody has armed or leased since, or is just arming: nobody is
# waited for, so that nobody can wait for us in turn.
_LET_GO: Final = """
WITH free AS (
  SELECT t.subject_id, g.at, g.nudges
  FROM unnest($1::uuid[], $2::timestamptz[], $3::int[], $4::timestamptz[]) AS g(subject_id, at, nudges, leased_until)
  JOIN timers t ON t.subject_id = g.subject_id AND t.nudges = g.nudges AND t.nudge_at = g.leased_until
  FOR UPDATE OF t SKIP LOCKED)
UPDATE timers t SET nudges = free.nudges - 1, nudge_at = free.at FROM free WHERE t.subject_id = free.subject_id"""


class Lease(NamedTuple):
    """A timer that is ours to nudge; compared by when."""

    at: datetime  # when to nudge: never before
    subject_id: UUID
    key: str
    reference: str
    due_at: datetime
    nudges: int  # this one included
    leased_until: datetime  # then somebody nudges again, if the timer is still there
    kind: TimerKind = "order"


class Claimed(NamedTuple):
    """What one look brought, and the database's time at its end; None: nothing was to be had."""

    leases: list[Lease]
    now: datetime | None


async def claim(
    connection: Connection, within_s: float, most: int, first_lease_s: float, longest_lease_s: float
) -> Claimed:
    """Take a lease of what is to be nudged within so many seconds. Lost is nothing: a lease ends by itself."""
    rows = await connection.fetch(_CLAIM, within_s, most, first_lease_s, longest_lease_s)
    leases = [Lease(*tuple(row)[:-1]) for row in rows]
    return Claimed(leases, max((row["now"] for row in rows), default=None))


async def let_go(connection: Connection, leases: Sequence[Lease]) -> None:
    """Give back what was not nudged, so that another can do it now."""
    if leases:
        await connection.execute(
            _LET_GO,
            [one.subject_id for one in leases],
            [one.at for one in leases],
            [one.nudges for one in leases],
            [one.leased_until for one in leases],
        )


async def arm(connection: Connection, rows: Sequence[Timer]) -> None:
    """Set when to look at these again, in the caller's transaction; of two rows of one subject the last holds."""
    timers = list({row.subject_id: row for row in rows}.values())
    if timers:
        await later(
            connection,
            _ARM,
            [one.subject_id for one in timers],
            [one.key for one in timers],
            [one.reference for one in timers],
            [one.due_at for one in timers],
            [one.kind for one in timers],
        )


async def disarm(connection: Connection, subject_ids: Sequence[UUID]) -> None:
    """Nothing is to be waited for of these; those without a timer are as well."""
    if subject_ids:
        await later(connection, _DISARM, list(subject_ids))
