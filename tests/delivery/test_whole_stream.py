"""The whole stream on Apache Kafka, as compose runs it, with workers killed: the tables of a quiet run."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from connectors.files.datasets import read_row, recognise
from connectors.files.reading import OutOfScope, Reading
from connectors.files.rows import rows_of
from connectors.geography.areas import Areas
from connectors.postgres.migrate import migrate
from infra.kafka.local import LocalKafka
from infra.policy.load import load_policy
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from tests.final_tables import differences, final_tables
from tests.pipeline.stream import Stream

pytestmark = pytest.mark.kafka

RAPID = Path(sys.executable).with_name("rapid")
KILLS = 6
LIMIT_S = 180.0


@pytest.fixture
async def quiet_dsn(bare_dsn: str) -> AsyncIterator[str]:
    """A second database: what a run without Kafka and without faults makes of the same reports."""
    admin = await asyncpg.connect(bare_dsn)
    await admin.execute("CREATE DATABASE quiet")
    name = await admin.fetchval("SELECT current_database()")
    quiet = bare_dsn.replace(f"/{name}?", "/quiet?")
    await migrate(quiet)
    yield quiet
    await admin.execute("DROP DATABASE quiet WITH (FORCE)")
    await admin.close()


def rapid(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [str(RAPID), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@contextmanager
def workers(environment: dict[str, str], count: int, logs: Path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    running = [start_worker(environment, logs, number) for number in range(count)]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()


def start_worker(environment: dict[str, str], logs: Path, number: int) -> "subprocess.Popen[bytes]":
    with (logs / f"worker-{number}.log").open("ab") as log:
        return subprocess.Popen([str(RAPID), "worker"], env=environment, stdout=log, stderr=log)


def reports_in(files: list[Path], reading: Reading) -> list[IncidentReport | IssueReport]:
    found: list[IncidentReport | IssueReport] = []
    for file in files:
        source = recognise(file)
        for row in rows_of(source.path, source.dataset.columns):
            report = read_row(source, row, reading)
            if not isinstance(report, OutOfScope):
                found.append(report)
    return found


async def test_killed_workers_leave_the_tables_of_a_quiet_run(
    kafka: LocalKafka, bare_dsn: str, quiet_dsn: str, tmp_path: Path
) -> None:
    policy = load_policy()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAPID_")},
        "RAPID_BROKERS": kafka.address,
        "RAPID_DATABASE_URL": bare_dsn,
        "RAPID_HOME": str(tmp_path / "home"),
        "RAPID_BATCH_RECORDS": "100",
        "RAPID_SESSION_TIMEOUT_S": "6",
        "RAPID_HEARTBEAT_S": "1",
    }
    rapid(environment, "simulate", "--days", "5", "--seed", "21", "--rate", "2", "--out", str(tmp_path))
    files = [tmp_path / "victims.csv", tmp_path / "service_requests.json"]
    rapid(environment, "migrate")
    rapid(environment, "topics", "create")
    chance = random.Random(21)
    with workers(environment, 2, tmp_path) as running:
        rapid(environment, "replay", *map(str, files), "--speed", "max")
        for kill in range(KILLS):
            victim = chance.randrange(len(running))
            await asyncio.sleep(
                chance.uniform(4.0, 12.0)
            )  # no wait for anything: where in time the fault falls
            running[victim].send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM]))
            running[victim].wait(timeout=60)
            running[victim] = start_worker(environment, tmp_path, 2 + kill)
        rapid(environment, "replay", *map(str, reversed(files)), "--speed", "max", "--wait")
    quiet = await asyncpg.connect(quiet_dsn)
    await Stream(quiet, policy, Areas.of_chicago(tmp_path / "cache")).feed(
        reports_in(files, Reading.by(policy))
    )
    expected = await final_tables(quiet)
    await quiet.close()
    connection = await asyncpg.connect(bare_dsn)
    actual = await final_tables(connection)
    await connection.close()
    assert len(expected["work_orders"]) > 0
    assert differences(expected, actual) == ""
