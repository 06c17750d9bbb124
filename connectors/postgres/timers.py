"""Timers: when to look at an order again. The order's writer arms and disarms; who nudges takes a lease.

All times here are the database's: services on several machines agree on what is due, however their own clocks go.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from connectors.ports import Timer
from connectors.postgres.pool import Connection

# One row for each order. An unchanged due time keeps its lease: the writer looks at an order far more often than
# time comes by, and must not call the next nudge back to it.
_ARM: Final = """
INSERT INTO timers (order_id, order_key, reference, due_at, nudge_at)
SELECT t.order_id, t.order_key, t.reference, t.due_at, t.due_at
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) AS t(order_id, order_key, reference, due_at)
ON CONFLICT (order_id) DO UPDATE
SET due_at = excluded.due_at, nudge_at = excluded.due_at, nudges = 0, armed_at = now()
WHERE timers.due_at <> excluded.due_at"""
_DISARM: Final = "DELETE FROM timers WHERE order_id = ANY($1::uuid[])"


async def arm(connection: Connection, rows: Sequence[Timer]) -> None:
    """Set when to look at these orders again, in the caller's transaction; of two rows of one order the last holds."""
    timers = list({row.order_id: row for row in rows}.values())
    if timers:
        await connection.execute(
            _ARM,
            [one.order_id for one in timers],
            [one.order_key for one in timers],
            [one.reference for one in timers],
            [one.due_at for one in timers],
        )


async def disarm(connection: Connection, order_ids: Sequence[UUID]) -> None:
    """Nothing is to be waited for of these orders; those without a timer are as well."""
    if order_ids:
        await connection.execute(_DISARM, list(order_ids))
