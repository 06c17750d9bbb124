"""`rapid ingest portal` as a process: what it prints, what it says when the portal fails, killed and started again."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from connectors.kafka.admin import KafkaAdmin
from infra.embedded.broker import EmbeddedBroker, start_broker
from schemas.topics import INCIDENT_REPORTS, ISSUE_REPORTS
from tests.portal.soda_server import SodaServer, hangs, html
from tests.portal.world import PAGE, City, feed
from tests.timers.conftest import until_true
from tests.timers.processes import environment_of

COMMAND: Final = (sys.executable, "-P", "-m", "infra.cli.main", "ingest", "portal")
LIMIT_S: Final = 90.0
TOKEN: Final = "a-token-of-ours"
VICTIMS: Final = feed("victims").id


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    running = start_broker(Path(tmp_path_factory.mktemp("broker")) / "broker.log")
    yield running
    running.stop()


@dataclass
class Done:
    code: int | None
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return {one["dataset"]: one for one in json.loads(self.out)}


@dataclass
class Rapid:
    env: dict[str, str]
    started: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *arguments, env=self.env, stdout=pipe, stderr=pipe
        )
        self.started.append(process)
        return process

    async def __call__(self, *arguments: str) -> Done:
        return await finished(await self.start(*arguments))


async def finished(process: asyncio.subprocess.Process) -> Done:
    try:
        async with asyncio.timeout(LIMIT_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return Done(process.returncode, out.decode(), err.decode())


@pytest.fixture
async def rapid(
    database_url: str, broker: EmbeddedBroker, soda: SodaServer, tmp_path: Path
) -> AsyncIterator[Rapid]:
    await KafkaAdmin([broker.address]).create([INCIDENT_REPORTS, ISSUE_REPORTS])
    soda.token = TOKEN
    made = Rapid(
        environment_of(database_url, broker.address, tmp_path)
        | {
            "RAPID_PORTAL_URL": soda.url, "RAPID_PORTAL_APP_TOKEN": TOKEN, "RAPID_PORTAL_PAGE_ROWS": str(PAGE),
            "RAPID_PORTAL_TIMEOUT_S": "2", "RAPID_PORTAL_TRIES": "2", "RAPID_PORTAL_FIRST_RETRY_S": "0.01",
            "NO_PROXY": "127.0.0.1", "PATH": os.environ["PATH"],
        }
    )  # fmt: skip
    yield made
    for process in made.started:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def published(connection: Any) -> tuple[int, int]:
    """How many rows the broker was given, and how many different events they are."""
    rows = await connection.fetch(
        "SELECT convert_from(headers, 'UTF8') AS h FROM outbox WHERE sent_offset >= 0"
    )
    return len(rows), len({dict(json.loads(row["h"]))["ce_id"] for row in rows})


async def test_what_it_prints(city: City, rapid: Rapid, connection: Any) -> None:
    city.show("victims", 30)
    city.show("crimes", 30)
    city.revise("crimes", 0, date="the other day")
    done = await rapid("--once")
    assert (done.code, done.err) == (0, "")
    lines = {
        line.split()[1]: line.split("│")[1:-1]
        for line in done.out.splitlines()
        if "-" in line and "│" in line
    }
    assert [cell.strip() for cell in lines["crimes"]] == [
        "crimes (ijzp-q8t2)", "30", "9", "0", "20", "1", "2", "2026-03-01T00:01:01.000Z", "",
    ]  # fmt: skip
    assert "crimes: out of scope were 20 THEFT." in done.out
    assert "Defects: `rapid dead-letters list` says where they stand and why." in done.out
    assert await published(connection) == (39, 39)
    again = await rapid("--once", "--json", "--dataset", "victims", "--dataset", VICTIMS)
    assert [(one["rows"], one["unchanged"], one["requests"]) for one in again.json.values()] == [(0, True, 1)]
    assert TOKEN not in done.out + again.out + again.err


async def test_killed_in_the_middle_and_started_again(
    city: City, rapid: Rapid, soda: SodaServer, connection: Any
) -> None:
    city.show("victims", 65)
    soda.fail(VICTIMS, None, None, hangs)
    process = await rapid.start("--once", "--dataset", "victims")
    await soda.until_asked(3)
    process.send_signal(signal.SIGKILL)
    await finished(process)
    assert await published(connection) == (2 * PAGE, 2 * PAGE)
    done = await rapid("--once", "--json", "--dataset", "victims")
    found = done.json["victims"]
    assert (found["rows"], found["known"], found["requests"], done.code) == (25, 0, 2, 0)
    assert await published(connection) == (65, 65)


async def test_killed_between_accepting_and_publishing(
    city: City, rapid: Rapid, soda: SodaServer, connection: Any
) -> None:
    city.show("victims", 30)
    before = dict(rapid.env)
    rapid.env |= {"RAPID_BROKERS": "127.0.0.1:1", "RAPID_EMBEDDED": "false"}  # nobody is there
    process = await rapid.start("--once", "--dataset", "victims")
    await until_true(lambda: _accepted(connection, PAGE))
    process.send_signal(signal.SIGKILL)
    await finished(process)
    assert await published(connection) == (0, 0)
    rapid.env = before
    found = (await rapid("--once", "--json", "--dataset", "victims")).json["victims"]
    assert (found["left_over"], found["rows"], found["known"], found["requests"]) == (PAGE, 10, 0, 1)
    assert await published(connection) == (30, 30)
    assert len(soda.asked) == 2


async def _accepted(connection: Any, count: int) -> bool:
    return bool(await connection.fetchval("SELECT count(*) = $1 FROM outbox", count))


async def test_a_dataset_that_fails_is_told_with_exit_code_7_and_the_others_are_read(
    city: City, rapid: Rapid, soda: SodaServer
) -> None:
    for name in city.made:
        city.show(name, 5)
    soda.fail(VICTIMS, html, html)
    done = await rapid("--once", "--json")
    assert done.code == 7
    assert done.err == (
        "rapid: victims: The portal answered with a web page (HTML) instead of rows, 2 times in a row. What was "
        "accepted is kept, and the same command goes on from there.\n"
    )
    assert {name: one["rows"] for name, one in done.json.items()} == {
        "victims": 0, "shotspotter": 5, "crimes": 5, "requests": 5,
    }  # fmt: skip


async def test_it_goes_on_until_it_is_asked_to_stop(city: City, rapid: Rapid, soda: SodaServer) -> None:
    city.show("requests", 5)
    process = await rapid.start("--every", "1s", "--dataset", "requests", "--json")
    await soda.until_asked(2)
    city.pass_time(hours=1)
    city.show("requests", 5)
    await soda.until_asked(4)
    process.send_signal(signal.SIGTERM)
    done = await finished(process)
    assert done.code == 0
    found = done.json["requests"]
    assert (found["accepted"], found["known"]) == (10, 5)
    assert found["requests"] >= 4
    assert "portal dataset read" in done.err


async def test_a_hang_does_not_keep_it_from_stopping(city: City, rapid: Rapid, soda: SodaServer) -> None:
    city.show("requests", 5)
    rapid.env["RAPID_PORTAL_TIMEOUT_S"] = "60"
    soda.fail(feed("requests").id, hangs)
    process = await rapid.start("--every", "1h")
    await soda.until_asked(4)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(20):
        assert (await finished(process)).code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--dataset", "robberies"), "victims (gumc-mgzr)"),
        (("--once", "--every", "5m"), "Say --once or --every"),
        (("--every", "often"), "a number and a unit"),
        (("--every", "0s"), "longer than nothing"),
        (("--since", "yesterday"), "expected a time such as 2025-12-02"),
    ],
)
async def test_arguments_that_make_no_sense(rapid: Rapid, arguments: tuple[str, ...], sentence: str) -> None:
    done = await rapid(*arguments)
    assert done.code in (2, 8)
    assert sentence in " ".join(done.err.replace("│", " ").split())
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAPID_PORTAL_URL", "http://data.example.org"),
        ("RAPID_PORTAL_EVERY", "requests=0m"),
        ("RAPID_PORTAL_EVERY", "robberies=5m"),
        ("RAPID_PORTAL_SINCE", "yesterday"),
        ("RAPID_PORTAL_SINCE", "2026-13-45"),
    ],
)
async def test_settings_that_make_no_sense(rapid: Rapid, name: str, value: str) -> None:
    rapid.env[name] = value
    done = await rapid("--once")
    assert (done.code, done.err.startswith(f"rapid: {name}")) == (8, True)


async def test_the_settings_say_how_often_and_from_where(city: City, rapid: Rapid, soda: SodaServer) -> None:
    city.show("requests", 10)
    city.pass_time(days=9)
    city.show("requests", 4)
    rapid.env |= {
        "RAPID_PORTAL_EVERY": "victims=off, crimes=off,shotspotter = off, requests=5m",
        "RAPID_PORTAL_SINCE": f"{city.clock - timedelta(days=2):%Y-%m-%d}",
    }
    done = await rapid("--once", "--json")
    assert {name: one["accepted"] for name, one in done.json.items()} == {"requests": 4}
