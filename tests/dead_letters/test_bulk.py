"""Thousands of dead letters after a mistake of ours was mended: looked at, sent again, killed, sent again. With
processes, the embedded broker and a real database."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaProducer

from connectors.kafka.admin import KafkaAdmin
from connectors.postgres import activations
from connectors.postgres.activations import New
from connectors.postgres.policies import keep_policy
from infra.embedded.broker import EmbeddedBroker, start_broker
from schemas.issue import IssueReport
from schemas.policy import Policy
from schemas.topics import ISSUE_REPORTS, all_topics
from tests.http.conftest import until_found
from tests.pipeline.test_bad_input import OUTAGE
from tests.timers.processes import environment_of

RAPID: Final = (sys.executable, "-P", "-m", "infra.cli.main")
LETTERS: Final = 2_000
NEVER: Final = 100
"""Of them, those that no policy lets in."""
LIMIT_S: Final = 90.0

pytestmark = pytest.mark.slow


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    running = start_broker(tmp_path / "broker.log")
    yield running
    running.stop()


class Rapid:
    """Commands in one environment."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *RAPID, *arguments, env=self.env, stdout=pipe, stderr=pipe
        )

    async def __call__(self, *arguments: str) -> str:
        process = await self.start(*arguments)
        async with asyncio.timeout(LIMIT_S):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()

    async def json(self, *arguments: str) -> Any:
        return json.loads(await self(*arguments, "--json"))

    @asynccontextmanager
    async def worker(self, log: Path) -> AsyncIterator[None]:
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *RAPID, "worker", env=self.env, stdout=output, stderr=output
            )
        try:
            yield
        finally:
            process.kill()
            await process.wait()


@pytest.fixture
async def rapid(database_url: str, broker: EmbeddedBroker, tmp_path: Path, policy: Policy) -> Rapid:
    codes = [one.code for one in policy.departments]
    await KafkaAdmin([broker.address]).create(all_topics(codes))
    return Rapid(environment_of(database_url, broker.address, tmp_path))


async def activate(connection: Any, policy: Policy) -> None:
    async with connection.transaction():
        await keep_policy(connection, policy)
        await activations.activate(connection, New("policy", policy.version, "cli:test", "a test"))


def reports() -> list[IssueReport]:
    """All of them north of where the narrow policy ends; those that nobody can let in lie nowhere."""
    made = []
    for number in range(LETTERS):
        point = {"lat": 41.88 if number >= NEVER else 0.0, "lon": -87.73}
        report = OUTAGE | {"request_number": f"SR{number}", "point": point}
        made.append(IssueReport.model_validate_json(json.dumps(report)))
    return made


async def send(address: str, sent: Sequence[IssueReport]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=address) as producer:
        for report in sent:
            await producer.send(ISSUE_REPORTS.name, report.model_dump_json().encode(), report.key.encode())


async def killed_in_the_middle(rapid: Rapid, connection: Any) -> int:
    """Start to send all, kill -9 while some are sent and others are not; how many were marked."""
    process = await rapid.start("dead-letters", "retry", "--all")
    some = "SELECT count(*) FROM dead_letters WHERE attempts > 0"
    try:
        marked = int(await until_found(connection, some, LIMIT_S))
    finally:
        process.kill()
        await process.communicate()
    return marked


async def test_two_thousand_are_sent_again_each_exactly_once_through_a_kill(
    rapid: Rapid, connection: Any, broker: EmbeddedBroker, tmp_path: Path, policy: Policy
) -> None:
    extent = policy.city.extent.model_copy(update={"min_lat": 41.95})
    city = policy.city.model_copy(update={"extent": extent})
    await activate(connection, policy.model_copy(update={"city": city, "version": "narrow"}))
    async with rapid.worker(tmp_path / "worker.log"):
        await send(broker.address, reports())
        all_there = f"SELECT count(*) = {LETTERS} FROM dead_letters WHERE state = 'open'"
        await until_found(connection, all_there, LIMIT_S)
        look = ("dead-letters", "retry", "--reason", "impossible_place", "--source", "city_311", "--dry-run")
        assert (await rapid.json(*look))["would_pass"] == 0
        await activate(connection, policy)
        foreseen = await rapid.json(*look)
        assert (foreseen["letters"], foreseen["would_pass"]) == (LETTERS, LETTERS - NEVER)
        assert f"{LETTERS - NEVER:,} of {LETTERS:,} would pass now. Nothing was sent." in await rapid(*look)
        assert await connection.fetchval("SELECT sum(attempts) FROM dead_letters") == 0

        marked = await killed_in_the_middle(rapid, connection)
        assert 0 < marked < LETTERS
        await rapid.json("dead-letters", "retry", "--untried", "--topic", ISSUE_REPORTS.name)
        in_tables = "SELECT count(*) >= $N FROM issue_reports".replace("$N", str(LETTERS - NEVER))
        await until_found(connection, in_tables, LIMIT_S)
        came_back = f"SELECT count(*) = {NEVER} FROM dead_letters WHERE state = 'open'"
        await until_found(connection, came_back, LIMIT_S)

    assert await connection.fetchval("SELECT count(*) FROM issue_reports") == LETTERS - NEVER
    issues = await connection.fetch("SELECT version, count(*) FROM issues GROUP BY 1")
    assert [tuple(row) for row in issues] == [(1, LETTERS - NEVER)]
    letters = await connection.fetch(
        "SELECT state, attempts, count(*) FROM dead_letters GROUP BY 1, 2 ORDER BY 1"
    )
    assert [tuple(row) for row in letters] == [("open", 1, NEVER), ("retried", 1, LETTERS - NEVER)]
    lines = await connection.fetch("SELECT what, count(*) FROM dead_letter_history GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in lines] == [("failed_again", NEVER), ("retried", LETTERS)]
    left = "SELECT count(*) FROM outbox WHERE source = 'door/retry' AND sent_offset IS NULL"
    assert await connection.fetchval(left) == 0

    put_away = await rapid.json("dead-letters", "discard", "--all", "--why", "they lie nowhere")
    assert put_away == {"discarded": NEVER}
    (report,) = (await rapid.json("dead-letters", "report", "--since", "1h", "--threshold", "50"))["sources"]
    assert (report["source"], report["refused"], report["accepted"]) == ("city_311", LETTERS, LETTERS - NEVER)
    assert report["bad"]
