"""An API process of its own, to be killed: `python -m tests.http.process DSN PORT`. Its broker never answers."""

import asyncio
import socket
import sys
from collections.abc import Sequence

from connectors.delivery import OutboxRow, Position
from connectors.http.limits import Limits
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.pool import create_pool
from infra.policy.load import load_policy
from infra.serve import Current, Server, compose, config, listen, outgoing
from infra.settings import Settings
from tests.http.conftest import Broker, authenticate, until


class Silent(Broker):
    async def publish(self, rows: Sequence[OutboxRow]) -> list[Position]:
        await asyncio.Event().wait()
        raise AssertionError


async def serve(dsn: str, listening: socket.socket) -> None:
    pool = await create_pool(dsn, min_size=1, max_size=3)
    ledger, broker = PostgresLedger(pool), Silent()
    out = outgoing(ledger, broker, broker, frozenset())
    app = compose(ledger, out, dsn, authenticate, Current(load_policy()), lambda as_of=None: b"{}", Limits())
    server = Server(config(app, Settings()), app.state.parts.changes.close)
    serving = asyncio.create_task(server.serve([listening]))
    await until(lambda: server.started)
    print(listening.getsockname()[1], flush=True)
    await serving


if __name__ == "__main__":
    with listen("127.0.0.1", 0) as listening:
        asyncio.run(serve(sys.argv[1], listening))
