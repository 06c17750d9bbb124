"""The API as it is composed, on a real PostgreSQL; the broker is a list, and keys are names."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from connectors.access.errors import Unauthenticated
from connectors.access.principal import Principal
from connectors.delivery import OutboxRow, Position
from connectors.geography.areas import Areas
from connectors.http.limits import Limits
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.pool import create_pool
from infra.areas.documents import AreasDocument
from infra.serve import Current, Server, areas_document, compose, config, listen, outgoing
from infra.settings import Settings
from schemas.policy import Policy

PRINCIPALS = {
    "intake": Principal("key:intake", frozenset({"intake"})),
    "cdot": Principal("key:cdot", frozenset({"department"}), "cdot"),
    "dss": Principal("key:dss", frozenset({"department"}), "dss"),
    "supervisor": Principal("key:supervisor", frozenset({"supervisor"})),
    "auditor": Principal("key:auditor", frozenset({"auditor"})),
    "admin": Principal("key:admin", frozenset({"admin"})),
}
"""By the text of their key."""


async def authenticate(authorization: str | None) -> Principal:
    name = (authorization or "").removeprefix("Bearer ")
    if name not in PRINCIPALS:
        raise Unauthenticated("This API key is not known.")
    return PRINCIPALS[name]


@dataclass
class Broker:
    """Keeps what it is sent, and its disk."""

    records: list[OutboxRow] = field(default_factory=list)

    async def cluster_id(self) -> str:
        return "one"

    async def incarnation(self, topic: str) -> str:
        return f"one/{topic}"

    async def end_offset(self, topic: str, partition: int) -> int:
        return len(self.records)

    async def publish(self, rows: Sequence[OutboxRow]) -> list[Position]:
        first = len(self.records)
        self.records += rows
        return [Position(0, first + n) for n in range(len(rows))]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Any]:
    made = await create_pool(database_url, min_size=1, max_size=6)
    yield made
    made.terminate()


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture(scope="session")
def polygons(policy: Policy, areas: Areas) -> AreasDocument:
    return areas_document(areas, policy)


@pytest.fixture
def limits() -> Limits:
    return Limits(rate_per_s=10_000, address_rate_per_s=10_000, failures_per_s=10_000)


Make = Callable[[], FastAPI]


@pytest.fixture
def make_app(
    pool: Any, database_url: str, broker: Broker, policy: Policy, polygons: AreasDocument, limits: Limits
) -> Make:
    """An API process, but for the process. Those of one test share database and broker."""

    def make() -> FastAPI:
        ledger = PostgresLedger(pool)
        out = outgoing(ledger, broker, broker, frozenset())
        return compose(ledger, out, database_url, authenticate, Current(policy), polygons, limits)

    return make


@pytest.fixture
async def app(make_app: Make) -> AsyncIterator[FastAPI]:
    """The app, running: its publisher and its fan-out too."""
    composed = make_app()
    async with composed.router.lifespan_context(composed):
        yield composed


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """The app behind a real socket; its address."""
    with listen("127.0.0.1", 0) as listening:
        server = Server(config(app, Settings()), app.state.parts.changes.close)
        serving = asyncio.create_task(server.serve([listening]))
        await until(lambda: server.started)
        try:
            yield "http://{}:{}".format(*listening.getsockname())
        finally:
            server.stop()
            async with asyncio.timeout(15):
                await serving


async def until(condition: Callable[[], Any], limit_s: float = 10.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - what it waits for tells nobody
            await asyncio.sleep(0.01)


async def until_found(connection: Any, query: str, limit_s: float = 10.0) -> Any:
    """Wait until a query's value is true; the value."""
    async with asyncio.timeout(limit_s):
        while not (value := await connection.fetchval(query)):  # noqa: ASYNC110 - PostgreSQL tells nobody
            await asyncio.sleep(0.01)
    return value


class Client:
    """Requests as one of PRINCIPALS."""

    def __init__(self, app: FastAPI) -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://api")

    async def get(self, who: str | None, path: str, **options: Any) -> httpx.Response:
        return await self.send(who, "GET", path, **options)

    async def post(self, who: str | None, path: str, **options: Any) -> httpx.Response:
        return await self.send(who, "POST", path, **options)

    async def send(self, who: str | None, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {who}"} if who else {}
        return await self._client.request(
            method, path, headers=headers | options.pop("headers", {}), **options
        )

    async def close(self) -> None:
        await self._client.aclose()


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[Client]:
    made = Client(app)
    yield made
    await made.close()
