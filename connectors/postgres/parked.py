"""Updates whose order nobody knows: tried again when it is there, given up after a time.

    ONE transaction {parked rows away, outbox rows | dead letter and answer} -> publish -> settle

What a killed worker took out and did not publish waits in the outbox under SOURCE for the next look.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from connectors.ports import ParkedUpdate
from connectors.postgres.pool import Connection
from schemas.work_order_update import WorkOrderUpdate

SOURCE: Final = "door/parked"
ROWS: Final = 500  # per look

_ORDER_KEYS: Final = "SELECT reference, order_key FROM work_orders WHERE reference = ANY($1::text[])"

_PARK: Final = """
INSERT INTO parked_updates (department, update_id, reference, body, received_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
ON CONFLICT (department, update_id, md5(body)) DO NOTHING"""

# Take out those whose order is there by now; another worker may be doing the same.
_FOUND: Final = """
WITH found AS (
  SELECT p.seq, o.order_key FROM parked_updates p JOIN work_orders o USING (reference)
  ORDER BY p.seq LIMIT $1 FOR UPDATE OF p SKIP LOCKED)
DELETE FROM parked_updates p USING found WHERE p.seq = found.seq
RETURNING p.seq, p.department, p.body, p.received_at, found.order_key"""

_EXPIRED: Final = """
WITH expired AS (
  SELECT seq FROM parked_updates WHERE received_at < $1 ORDER BY seq LIMIT $2 FOR UPDATE SKIP LOCKED)
DELETE FROM parked_updates p USING expired WHERE p.seq = expired.seq
RETURNING p.seq, p.department, p.body, p.received_at"""


async def order_keys(connection: Connection, references: Sequence[str]) -> Mapping[str, str]:
    """The order key of each reference that there is an order for."""
    return {row["reference"]: row["order_key"] for row in await connection.fetch(_ORDER_KEYS, references)}


async def park(connection: Connection, updates: Sequence[ParkedUpdate]) -> None:
    """Keep updates, in this order; one that is parked already stays as it is."""
    if updates:
        await connection.execute(
            _PARK,
            [one.department for one in updates],
            [one.update.update_id for one in updates],
            [one.update.reference for one in updates],
            [one.update.model_dump_json() for one in updates],
            [one.received_at for one in updates],
        )


async def found(connection: Connection) -> list[tuple[ParkedUpdate, str]]:
    """Take out updates whose order is there by now, the oldest first; each with its order key."""
    rows = sorted(await connection.fetch(_FOUND, ROWS), key=_number)
    return [(_parked(row), str(row["order_key"])) for row in rows]


async def expired(connection: Connection, now: datetime, after: timedelta) -> list[ParkedUpdate]:
    """Take out updates that have waited for longer than `after`."""
    return [_parked(row) for row in sorted(await connection.fetch(_EXPIRED, now - after, ROWS), key=_number)]


def _number(row: Mapping[str, Any]) -> int:
    number: int = row["seq"]
    return number


def _parked(row: Mapping[str, str]) -> ParkedUpdate:
    update = WorkOrderUpdate.model_validate_json(row["body"])
    return ParkedUpdate(row["department"], update, row["received_at"])  # type: ignore[arg-type]  # a timestamp
