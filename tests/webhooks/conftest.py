"""An embedded PostgreSQL, a migrated database per test, and rows of the feed as the orders agent writes them."""

import asyncio
import itertools
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from connectors.ports import Told
from connectors.postgres import feed
from connectors.postgres.migrate import migrate
from infra.embedded.database import start_database

TEMPLATE = "webhooks_template"
_numbers = itertools.count(1)


def address_of(server: str, database: str) -> str:
    """The same server's address, for another of its databases."""
    return server.replace("/postgres?", f"/{database}?")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    # not below pytest's folder: as root, PostgreSQL runs as another user, who may not look into it
    with tempfile.TemporaryDirectory(prefix="webhooks-pg-", ignore_cleanup_errors=True) as folder:
        running = start_database(Path(folder) / "data", Path(folder) / "postgres.log")
        try:
            asyncio.run(_make_template(running.url))
            yield running.url
        finally:
            running.stop()


async def _make_template(server: str) -> None:
    admin = await asyncpg.connect(server)
    await admin.execute(f"CREATE DATABASE {TEMPLATE}")
    await admin.close()
    await migrate(address_of(server, TEMPLATE))


@pytest.fixture
async def database_url(server: str) -> AsyncIterator[str]:
    """A migrated, empty database of the test's own."""
    name = f"webhooks_{next(_numbers)}"
    admin = await asyncpg.connect(server)
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield address_of(server, name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    """A connection to the test's database."""
    connected = await asyncpg.connect(database_url)
    yield connected
    await connected.close()


async def tell(connection: Any, *versions: int, audience: str = "cdot", kind: str = "work-order") -> None:
    """Tell a department of one order, in one transaction per version; supervisors read the order themselves."""
    for version in versions:
        body = json.dumps({"reference": "WO-00000-00000", "version": version}) if audience else None
        async with connection.transaction():
            await feed.add(connection, [Told(audience, kind, "WO-00000-00000", version, body)])
