"""What holds for all tests, and one embedded PostgreSQL for all that need a database."""

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import settings

from connectors.geography.areas import Areas
from connectors.postgres.migrate import migrate
from infra.embedded.database import start_database
from infra.policy.load import load_policy
from schemas.policy import Policy

# No deadline per example: on a shared machine it would say something of the machine, not of the code.
settings.register_profile("no deadline", parent=settings(), deadline=None)
settings.load_profile("no deadline")

MOST_CAPTURED_LINES = 40
TEMPLATE = "migrated"
"""The database that each test's own is a copy of."""
_numbers = itertools.count(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of what a failed test captured, the end: a client that tries for a minute buries what was wrong."""
    report = yield
    report.sections = [(title, _end_of(text)) for title, text in report.sections]
    return report


def _end_of(text: str) -> str:
    lines = text.splitlines()
    left_out = len(lines) - MOST_CAPTURED_LINES
    return "\n".join([f"({left_out} lines before)", *lines[left_out:]]) if left_out > 0 else text


def address_of(server: str, database: str) -> str:
    """The same server's address, for another of its databases."""
    return server.replace("/postgres?", f"/{database}?")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a server that holds the migrated template."""
    # not below pytest's folder: as root, PostgreSQL runs as another user, who may not look into it
    with tempfile.TemporaryDirectory(prefix="tests-pg-", ignore_cleanup_errors=True) as folder:
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
    name = f"test_{next(_numbers)}"
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


@pytest.fixture(scope="session")
def policy() -> Policy:
    return load_policy()


@pytest.fixture(scope="session")
def areas() -> Areas:
    return Areas.of_chicago()
