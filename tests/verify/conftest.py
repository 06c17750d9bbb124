"""One world, made once by the real agents in a real database, and a copy of it for each test."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import asyncpg
import pytest

from connectors.geography.areas import Areas
from connectors.postgres.policies import policies
from infra.verify.world import World
from schemas.envelope import Event
from schemas.policy import Policy
from tests.conftest import TEMPLATE, address_of
from tests.verify.made_up import make_world, records_of

MADE = "verify_world"
_numbers = itertools.count(1)


class Made(NamedTuple):
    """The world's database, and everything that its agents published."""

    server: str
    events: list[Event]


@pytest.fixture(scope="session")
def made(server: str, policy: Policy, areas: Areas) -> Made:
    return Made(server, asyncio.run(_make(server, policy, areas)))


async def _make(server: str, policy: Policy, areas: Areas) -> list[Event]:
    await _run(server, f"CREATE DATABASE {MADE} TEMPLATE {TEMPLATE}")
    connection = await asyncpg.connect(address_of(server, MADE))
    try:
        return await make_world(connection, policy, areas)
    finally:
        await connection.close()


async def _run(server: str, statement: str) -> None:
    admin = await asyncpg.connect(server)
    await admin.execute(statement)
    await admin.close()


@pytest.fixture
async def connection(made: Made) -> AsyncIterator[Any]:
    """A connection to a copy of the world's database."""
    name = f"verify_{next(_numbers)}"
    await _run(made.server, f"CREATE DATABASE {name} TEMPLATE {MADE}")
    connected = await asyncpg.connect(address_of(made.server, name))
    yield connected
    await connected.close()
    await _run(made.server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def read_only(made: Made) -> str:
    """A copy that nobody changes, for tests that only read."""
    asyncio.run(_run(made.server, f"CREATE DATABASE verify_read_only TEMPLATE {MADE}"))
    return address_of(made.server, "verify_read_only")


@pytest.fixture
async def untouched(read_only: str) -> AsyncIterator[World]:
    """The world without a broker, as it was made."""
    connected = await asyncpg.connect(read_only)
    yield World(connected, await policies(connected))
    await connected.close()


@pytest.fixture
def events(made: Made) -> list[Event]:
    """What was published, to be tampered with."""
    return list(made.events)


@pytest.fixture
async def world(connection: Any, events: list[Event]) -> World:
    return World(connection, await policies(connection), records_of(events), late_s=0.0)
