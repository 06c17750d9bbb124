"""One embedded database for the whole folder; its tables are emptied between runs."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from connectors.geography.areas import Areas
from connectors.postgres.migrate import migrate
from infra.embedded.database import start_database
from infra.policy.load import load_policy
from tests.properties.bench import Bench

WORKERS = 3


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    """The stream on a real database, run from a loop of its own: Hypothesis calls plain functions."""
    # not below pytest's folder: as root, PostgreSQL runs as another user, who may not look into it
    with tempfile.TemporaryDirectory(prefix="properties-pg-", ignore_cleanup_errors=True) as folder:
        database = start_database(Path(folder) / "data", Path(folder) / "log")
        try:
            with asyncio.Runner() as runner:
                runner.run(migrate(database.url))
                connections = [runner.run(asyncpg.connect(database.url)) for _ in range(WORKERS)]
                yield Bench(runner, connections, load_policy(), Areas.of_chicago())
                for connection in connections:
                    runner.run(connection.close())
        finally:
            database.stop()
