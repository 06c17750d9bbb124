"""Promises as reports and explanations read them. Whoever writes them is the order's writer."""

from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from connectors.postgres.pool import Connection
from schemas.promise import PromiseLine, Promises

PAGE_ROWS: Final = 2_000

# Every order that was ever asked for, with what was promised of it.
_PROMISED: Final = """
SELECT o.order_id, o.reference, o.department, o.category, o.area, o.priority, o.opened_at, p.body
FROM work_orders o LEFT JOIN promises p USING (order_id) WHERE o.state <> 'void'"""

# When orders went from one department to another, and whose they had been.
_DEPARTURES: Final = """
SELECT order_id, body::json ->> 'owner' AS department, (body::json ->> 'at')::timestamptz AS until
FROM order_ledger WHERE verdict = 'accepted' AND (body LIKE '%"verb":"reject"%' OR body LIKE '%"verb":"route"%')
AND body::json -> 'update' ->> 'verb' IN ('reject', 'route')"""

_OF_ORDER: Final = "SELECT body FROM promises WHERE order_id = $1"

_LINES: Final = "SELECT body FROM promise_lines WHERE order_id = $1 ORDER BY seq"


class PromisedRow(NamedTuple):
    """One order; `body` is the canonical JSON of its Promises, None: it has none."""

    order_id: UUID
    reference: str
    department: str
    category: str
    area: int | None
    priority: str
    opened_at: datetime
    body: str | None


async def promised(connection: Connection) -> AsyncIterator[list[PromisedRow]]:
    """All orders, some thousand at a time. Needs a transaction, whose moment they are of."""
    cursor = await connection.cursor(_PROMISED)
    while page := await cursor.fetch(PAGE_ROWS):
        yield [PromisedRow(*row) for row in page]


async def departures(connection: Connection) -> dict[UUID, list[tuple[datetime, str]]]:
    """Until when which departments had orders that they rejected, or that were routed away from them."""
    found: dict[UUID, list[tuple[datetime, str]]] = defaultdict(list)
    for row in await connection.fetch(_DEPARTURES):
        found[row["order_id"]].append((row["until"], row["department"]))
    return found


async def promises_of(connection: Connection, order_id: UUID) -> Promises | None:
    """What the clocks of an order stand at; None: nothing was ever written."""
    body: Any = await connection.fetchval(_OF_ORDER, order_id)
    return Promises.model_validate_json(body) if body else None


async def promise_lines(connection: Connection, order_id: UUID) -> list[PromiseLine]:
    """What our side did to the clocks of an order, in the order in which it was done."""
    return [PromiseLine.model_validate_json(row["body"]) for row in await connection.fetch(_LINES, order_id)]
