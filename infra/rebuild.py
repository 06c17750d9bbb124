"""All orders computed again from their causes and ledgers, page by page; and put right where they differ."""

from collections.abc import AsyncIterator
from typing import Final

from agents.orders.rebuild import Again, again
from connectors.ports import KnownOrder, OrderRow
from connectors.postgres.orders import PostgresOrders
from connectors.postgres.policies import policies
from connectors.postgres.pool import Connection

PAGE_KEYS: Final = 500

_KEYS: Final = "SELECT DISTINCT order_key FROM work_orders WHERE order_key > $1 ORDER BY order_key LIMIT $2"


async def differing(connection: Connection) -> AsyncIterator[Again]:
    """The orders that are stored in another way than their causes and their ledger have them."""
    known, after = await policies(connection), ""
    while keys := [row["order_key"] for row in await connection.fetch(_KEYS, after, PAGE_KEYS)]:
        sites = await PostgresOrders(connection).sites(keys)
        for key in keys:
            for one in again(sites[key], known):
                if one.differs:
                    yield one
        after = keys[-1]


async def rebuild(connection: Connection) -> int:
    """Put right what differs; how many orders. One that changes meanwhile is left to its writer."""
    found = [one async for one in differing(connection)]
    store = PostgresOrders(connection)
    return await store.replace_orders(
        [
            OrderRow(KnownOrder(one.order, one.stored.told, one.stored.department_body), one.body)
            for one in found
            if one.order is not None
        ]
    )
