"""`rapid ingest folder` as a process: killed in the middle of a file and started again; what it prints."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from connectors.geography.areas import Areas
from connectors.kafka.admin import KafkaAdmin
from infra.embedded.broker import EmbeddedBroker, start_broker
from schemas.incident import IncidentReport
from schemas.policy import Policy
from schemas.topics import INCIDENT_REPORTS, ISSUE_REPORTS
from tests.conftest import TEMPLATE, address_of
from tests.pipeline.stream import Stream, final_tables
from tests.sources.conftest import EXAMPLES, HEADER, calls, line
from tests.timers.conftest import until_true
from tests.timers.processes import environment_of

COMMAND: Final = (sys.executable, "-P", "-m", "infra.cli.main", "ingest", "folder")
LIMIT_S: Final = 90.0
ROWS: Final = 2_600


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


@dataclass
class Installed:
    """A database, mapping files, a folder to drop into."""

    url: str
    env: dict[str, str]
    home: Path
    started: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def incoming(self) -> Path:
        return self.home / "drop" / "cad" / "incoming"

    def drop(self, name: str, content: str) -> None:
        self.incoming.mkdir(parents=True, exist_ok=True)
        (self.incoming / name).write_text(content)

    async def start(self, *arguments: str, **env: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *arguments, env=self.env | env, stdout=pipe, stderr=pipe
        )
        self.started.append(process)
        return process

    async def __call__(self, *arguments: str, **env: str) -> Done:
        return await finished(await self.start(*arguments, **env))


async def finished(process: asyncio.subprocess.Process) -> Done:
    try:
        async with asyncio.timeout(LIMIT_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return Done(process.returncode, out.decode(), err.decode())


Make = Callable[[str], Awaitable[Installed]]


@pytest.fixture
async def install(server: str, broker: EmbeddedBroker, tmp_path: Path) -> AsyncIterator[Make]:
    await KafkaAdmin([broker.address]).create([INCIDENT_REPORTS, ISSUE_REPORTS])
    admin = await asyncpg.connect(server)
    made: list[tuple[str, Installed]] = []

    async def make(name: str) -> Installed:
        database = f"folder_{name}"
        await admin.execute(f"CREATE DATABASE {database} TEMPLATE {TEMPLATE}")
        home, url = tmp_path / name, address_of(server, database)
        shutil.copytree(EXAMPLES, home / "sources")
        env = environment_of(url, broker.address, home) | {
            "RAPID_SOURCES": str(home / "sources"), "RAPID_DROP": str(home / "drop"), "RAPID_DROP_SETTLE_S": "0.05",
            "PATH": os.environ["PATH"], "COLUMNS": "200",
        }  # fmt: skip
        made.append((database, Installed(url, env, home)))
        return made[-1][1]

    yield make
    for database, one in made:
        for process in one.started:
            if process.returncode is None:
                process.kill()
                await process.wait()
        await admin.execute(f"DROP DATABASE {database} WITH (FORCE)")
    await admin.close()


def file_of(rows: int) -> str:
    """One of five is about our subject, and every hundredth is bad."""
    calls_of = ("PERSON SHOT", "NOISE", "PARKING", "ALARM", "NOISE")
    return HEADER + "".join(
        line(n, call=calls_of[n % 5], received="soon" if n % 100 == 50 else "") for n in range(rows)
    )


async def position(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT coalesce(max(position), 0) FROM source_files"))
    finally:
        await connection.close()


async def what_comes_of(one: Installed, policy: Policy, areas: Areas) -> tuple[list[str], dict[str, Any]]:
    """The ids of all events that were ever put into the outbox, and the final tables when agents have read them."""
    connection = await asyncpg.connect(one.url)
    try:
        rows = await connection.fetch(
            "SELECT value, convert_from(headers, 'UTF8') AS h, sent_offset FROM outbox ORDER BY seq"
        )
        assert all(row["sent_offset"] is not None for row in rows)
        reports = [IncidentReport.model_validate_json(row["value"]) for row in rows]
        await Stream(connection, policy, areas).feed(reports)
        return [dict(json.loads(row["h"]))["ce_id"] for row in rows], await final_tables(connection)
    finally:
        await connection.close()


@pytest.mark.slow
async def test_killed_in_the_middle_of_a_file_and_started_again(
    install: Make, policy: Policy, areas: Areas
) -> None:
    whole, killed = await install("whole"), await install("killed")
    for one in (whole, killed):
        one.drop("calls.csv", file_of(ROWS))
    assert (await whole("--once")).code == 0
    for reached, nobody in ((1_000, True), (1_000, False), (2_000, False)):
        # with nobody at the broker's address it dies between accepting rows and publishing them
        dead = {"RAPID_BROKERS": "127.0.0.1:1", "RAPID_EMBEDDED": "false"} if nobody else {}
        process = await killed.start("--once", **dead)

        async def there(until: int = reached) -> bool:
            return await position(killed.url) >= until

        await until_true(there, LIMIT_S)
        process.send_signal(signal.SIGKILL)
        await finished(process)
    assert [one.name[13:] for one in (killed.home / "drop" / "cad" / "working").iterdir()] == ["calls.csv"]
    done = await killed("--once", "--json")
    assert done.code == 0, done.err
    found = {one["source"]: one for one in json.loads(done.out)}["cad"]
    report = json.loads((killed.home / "drop/cad/processed/calls.csv.report.json").read_text())
    assert (report["rows"], report["accepted"], report["skipped"], report["refused"]) == (
        ROWS,
        494,
        2_080,
        26,
    )
    assert len(report["refusals"]) == 26
    assert found["files"][0]["accepted"] == 494
    ids, tables = await what_comes_of(killed, policy, areas)
    ids_of_whole, tables_of_whole = await what_comes_of(whole, policy, areas)
    assert len(ids) == len(set(ids)) == 494
    assert ids == ids_of_whole
    assert tables == tables_of_whole
    assert len(tables["incidents"]) == 494
    assert len(tables["dead_letters"]) == 26


async def test_what_it_prints(install: Make) -> None:
    one = await install("prints")
    one.drop("calls.csv", calls(5) + line(7, received="soon"))
    one.drop("other.csv", "A,B\n1,2\n")
    done = await one("--once", "--source", "cad")
    assert done.code == 1
    assert done.err == (
        "rapid: Not everything could be taken in: see the reports in failed/ and `rapid sources list`.\n"
    )
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in done.out.splitlines() if "│" in row]
    assert ["cad", "calls.csv", "6", "5", "0", "1", ""] in rows
    assert ["cad", "other.csv", "0", "0", "0", "0", "failed"] in rows
    assert "cad, calls.csv, row 7, column RECEIVED: expected a time like" in done.out
    assert "other.csv has no column EVENT_NO" in done.out
    again = await one("--once")
    assert (again.code, again.out) == (0, "No file was there that nobody writes any more.\n")


async def test_it_goes_on_until_it_is_asked_to_stop(install: Make) -> None:
    one = await install("goes_on")
    (one.home / "sources" / "broken.yaml").write_text("source: broken\n")
    process = await one.start()
    for name in ("a.csv", "b.csv"):
        one.drop(name, calls(3))

        async def put_away(file: str = name) -> bool:
            return (one.home / "drop/cad/processed" / file).exists()

        await until_true(put_away, LIMIT_S)
    process.send_signal(signal.SIGTERM)
    done = await finished(process)
    assert done.code == 0
    assert "dropped file taken in" in done.err
    assert "a mapping file is wrong: its source is left out" in done.err


async def test_mapping_files_that_change_are_followed_without_a_restart(install: Make) -> None:
    one = await install("follows")
    mapping, incoming = one.home / "sources" / "cad.yaml", one.home / "drop" / "rms" / "incoming"
    process = await one.start()
    await until_true(_there(one.incoming), LIMIT_S)
    text = mapping.read_text()
    mapping.write_text(text.replace("block: BLOCK", "blok: BLOCK"))
    (one.home / "sources" / "rms.yaml").write_text(text.replace("source: cad", "source: rms"))
    await until_true(_there(incoming), LIMIT_S)
    (incoming / "new.csv").write_text(calls(3))
    one.drop("still.csv", calls(3, first=10))
    for put_away in ("rms/processed/new.csv", "cad/processed/still.csv"):
        await until_true(_there(one.home / "drop" / put_away), LIMIT_S)
    process.send_signal(signal.SIGTERM)
    done = await finished(process)
    assert done.code == 0
    assert done.err.count("a mapping file is wrong: the last good one stays in force") == 1
    assert "fields.blok: is no field of IncidentReport; did you mean block?" in done.err


def _there(path: Path) -> Callable[[], Awaitable[bool]]:
    async def there() -> bool:
        return await asyncio.to_thread(path.exists)

    return there


@pytest.mark.parametrize(
    ("arguments", "env", "sentence"),
    [
        (
            ("--source", "robbery"),
            {},
            "There is no source robbery: the mapping files in RAPID_SOURCES name cad, ",
        ),
        (("--once",), {"RAPID_SOURCES": ""}, "No source is configured: set RAPID_SOURCES"),
        (("--once",), {"RAPID_SOURCES": "/not/there"}, "cannot be read: No such file or directory"),
    ],
)
async def test_what_makes_no_sense(
    install: Make,
    arguments: tuple[str, ...],
    env: dict[str, str],
    sentence: str,
    request: pytest.FixtureRequest,
) -> None:
    one = await install(f"odd_{abs(hash(request.node.name)) % 10**8}")
    done = await one(*arguments, **env)
    assert done.code in (6, 8)
    assert sentence in done.err
    assert "Traceback" not in done.err
