"""The life of responses: its ledger, its projection, and the orders that it is made of."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from connectors.ports import Timer, Told
from connectors.postgres import feed, timers
from connectors.postgres.policies import kept_policies
from connectors.postgres.pool import Connection
from connectors.postgres.together import fetch_with_waiting, later
from schemas.base import Record
from schemas.policy import Policy
from schemas.promise import PromiseLine
from schemas.response import Response
from schemas.response_life import LifeLine, OrderHistory, OrderTally, ResponseLife
from schemas.work_order import WorkOrder, WorkOrderCommand
from schemas.work_order_update import LedgerEntry

R = TypeVar("R", bound=Record)

# Locked in one order everywhere, so that two never wait for each other.
_LIVES: Final = """
SELECT incident_id, body FROM response_life WHERE incident_id = ANY($1::uuid[])
ORDER BY incident_id FOR NO KEY UPDATE"""

# Whoever looks at one of these is waited for; each row is as that look left it.
_AT_REST: Final = """
SELECT incident_id, state = 'closed' OR safe_since IS NOT NULL AS at_rest FROM response_life
WHERE incident_id = ANY($1::uuid[]) ORDER BY incident_id FOR SHARE"""

_RESPONSES: Final = "SELECT body FROM responses WHERE incident_id = ANY($1::uuid[]) ORDER BY incident_id"

# Orders that surely are something to do for a response, and orders that are done of those that it has a cause of.
_TALLIES: Final = """
SELECT c.incident_id,
  count(DISTINCT o.order_id) FILTER (
    WHERE c.standing = 'live' AND o.state NOT IN ('resolved', 'verified', 'cancelled', 'void')) AS open,
  count(DISTINCT o.order_id) FILTER (WHERE o.state IN ('resolved', 'verified')) AS done
FROM order_causes c JOIN work_orders o USING (order_key, generation)
WHERE c.incident_id = ANY($1::uuid[]) AND c.standing <> 'void' GROUP BY c.incident_id"""

# The orders that incidents ever asked for.
_ORDERS: Final = """
SELECT DISTINCT c.incident_id, o.order_id FROM order_causes c JOIN work_orders o USING (order_key, generation)
WHERE c.incident_id = ANY($1::uuid[]) AND c.standing <> 'void'"""
_BODIES: Final = "SELECT order_id, body FROM work_orders WHERE order_id = ANY($1::uuid[])"
_CAUSES: Final = """
SELECT o.order_id, c.body FROM work_orders o JOIN order_causes c USING (order_key, generation)
WHERE o.order_id = ANY($1::uuid[]) ORDER BY o.order_id, c.cause_id"""
_ENTRIES: Final = """
SELECT order_id, body FROM order_ledger WHERE order_id = ANY($1::uuid[]) AND verdict <> 'refused'
ORDER BY order_id, seq"""
_LINES: Final = (
    "SELECT order_id, body FROM promise_lines WHERE order_id = ANY($1::uuid[]) ORDER BY order_id, seq"
)

_ADD_LINES: Final = """
INSERT INTO response_lines (response_id, seq, cycle, kind, body)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::text[])"""

_SAVE_LIVES: Final = """
INSERT INTO response_life (response_id, incident_id, state, seq, closes_at, safe_since, closed_at, body)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::timestamptz[], $6::timestamptz[],
                     $7::timestamptz[], $8::text[])
ON CONFLICT (response_id) DO UPDATE SET state = excluded.state, seq = excluded.seq, closes_at = excluded.closes_at,
  safe_since = excluded.safe_since, closed_at = excluded.closed_at, body = excluded.body, recorded_at = now()"""


class PostgresLife:
    """`connectors.ports.LifeStore` in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lives(self, incident_ids: Sequence[UUID]) -> Mapping[UUID, ResponseLife]:
        """By incident, those that were looked at before; locked until the transaction ends."""
        rows = await self._connection.fetch(_LIVES, incident_ids)
        return {row["incident_id"]: ResponseLife.model_validate_json(row["body"]) for row in rows}

    async def responses(self, incident_ids: Sequence[UUID]) -> list[Response]:
        """The latest response of each incident that has one."""
        rows = await self._connection.fetch(_RESPONSES, incident_ids)
        return [Response.model_validate_json(row["body"]) for row in rows]

    async def tallies(self, incident_ids: Sequence[UUID]) -> Mapping[UUID, OrderTally]:
        """How the orders of each incident stand, roughly; of one without orders, nothing."""
        rows = await self._connection.fetch(_TALLIES, incident_ids) if incident_ids else ()
        return {row["incident_id"]: OrderTally(row["open"], row["done"]) for row in rows}

    async def histories(self, incident_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[OrderHistory]]:
        """Everything that is held of the orders that each incident ever asked for."""
        return await histories(self._connection, incident_ids)

    async def policies(self, versions: Sequence[str]) -> Mapping[str, Policy]:
        """These versions of the policy, those that are kept."""
        return await kept_policies(self._connection, versions)

    async def save_lives(self, lines: Sequence[LifeLine], lives: Sequence[ResponseLife]) -> None:
        """Add lines, none of which is ever changed, and store what they add up to."""
        if lines:
            rows = [(one.response_id, one.seq, one.cycle, one.kind, one.model_dump_json()) for one in lines]
            await later(self._connection, _ADD_LINES, *_columns(rows))
        if lives:
            await later(self._connection, _SAVE_LIVES, *_columns([_life_columns(one) for one in lives]))

    async def set_timers(self, arm: Sequence[Timer], disarm: Sequence[UUID]) -> None:
        """When to look at these responses again; and those for which nothing is waited for."""
        await timers.arm(self._connection, arm)
        await timers.disarm(self._connection, disarm)

    async def tell(self, told: Sequence[Told]) -> None:
        """Add to the feed, in this order."""
        await feed.add(self._connection, told)


async def histories(
    connection: Connection, incident_ids: Sequence[UUID]
) -> Mapping[UUID, Sequence[OrderHistory]]:
    """Everything that is held of the orders that each incident ever asked for, by the id of the order."""
    pairs = [tuple(row) for row in await connection.fetch(_ORDERS, incident_ids)]
    ids = sorted({order_id for _, order_id in pairs}, key=lambda one: one.int)
    if not ids:
        return {}
    orders = await _read(connection, _BODIES, ids, WorkOrder)
    causes = await _read(connection, _CAUSES, ids, WorkOrderCommand)
    entries = await _read(connection, _ENTRIES, ids, LedgerEntry)
    lines = await _read(connection, _LINES, ids, PromiseLine)
    made = {
        one: OrderHistory(orders[one][0], tuple(causes[one]), tuple(entries[one]), tuple(lines[one]))
        for one in ids
    }
    found: dict[UUID, list[OrderHistory]] = defaultdict(list)
    for incident_id, order_id in sorted(pairs):
        found[incident_id].append(made[order_id])
    return found


async def at_rest(connection: Connection, incident_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these incidents that `connectors.ports.OrderStore` names."""
    rows = await fetch_with_waiting(connection, _AT_REST, incident_ids) if incident_ids else ()
    return set(incident_ids) - {row["incident_id"] for row in rows if not row["at_rest"]}


async def _read(
    connection: Connection, query: str, ids: Sequence[UUID], schema: type[R]
) -> Mapping[UUID, list[R]]:
    found: dict[UUID, list[R]] = defaultdict(list)
    for order_id, body in await connection.fetch(query, ids):
        found[order_id].append(schema.model_validate_json(body))
    return found


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _life_columns(one: ResponseLife) -> tuple[Any, ...]:
    return (
        one.response_id, one.incident_id, one.state, one.seq, one.closes_at, one.safe_since, one.closed_at,
        one.model_dump_json(),
    )  # fmt: skip
