"""A whole installation, its parts stopped, killed, away: what it says of itself, and whether all metrics move."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from connectors.postgres import outbox, timers
from infra.watching import metrics as m
from infra.watching.metrics import CATALOGUE, Metric
from schemas.envelope import Event
from schemas.policy import Policy
from tests.notify.world import fired, tell
from tests.portal.soda_server import SodaServer, soda_server
from tests.portal.world import PAGE, City
from tests.system.installation import Installation, installation
from tests.timers.conftest import seconds_from_now, timer
from tests.watching.watched import (
    LIMIT_S,
    Series,
    addresses,
    all_ready,
    ask,
    is_live,
    kill,
    moved,
    not_ready,
    nothing_seen,
    scrape,
    stopped,
    until,
)
from tests.webhooks.receiver import receiving

STUCK_S = "3"
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'rapid-response'"

pytestmark = pytest.mark.slow


@asynccontextmanager
async def system(**settings: str) -> AsyncIterator[Installation]:
    """One that is up, and ready by its own word."""
    with installation({"RAPID_WATCH_STUCK_S": STUCK_S, "RAPID_START_TIMEOUT_S": "300", **settings}) as made:
        await asyncio.to_thread(made.up, "--workers", "1")
        await asyncio.to_thread(until, "everything is ready", lambda: all_ready(made))
        yield made


async def soon(what: str, condition: Any) -> None:
    await asyncio.to_thread(until, what, condition)


async def test_what_is_away_makes_processes_not_ready_and_they_live_on() -> None:
    async with system() as running:
        pids, places = running.pids(), addresses(running)
        assert set(places) == {"worker-1", "api", "courier", "timers"}

        with stopped(pids["database"]):
            for name, address in places.items():
                await soon(f"{name} misses the database", lambda a=address: "database" in not_ready(a))
                assert is_live(address), name
                assert "has not answered for" in not_ready(address)["database"]
        await soon("the database is back", lambda: all_ready(running))

        with stopped(pids["broker"]):
            for name in ("worker-1", "api", "timers"):
                await soon(f"{name} misses the broker", lambda n=name: "broker" in not_ready(places[n]))
                assert is_live(places[name]), name
            assert not_ready(places["courier"]) == {}  # it needs none
        await soon("the broker is back", lambda: all_ready(running))

        with stopped(pids["worker-1"]):  # the loop does not turn: nothing answers for it
            assert ask(places["worker-1"], "/livez", timeout_s=1.0)[0] == 0
            assert is_live(places["api"])
        await soon("the worker goes on", lambda: all_ready(running))

        kill(pids["worker-1"])
        await soon("it is started again", lambda: running.state()["restarts"] == {"worker-1": 1})
        await soon(
            "it is ready again",
            lambda: running.pids().get("worker-1") not in (None, pids["worker-1"]) and all_ready(running),
        )
        [worker] = running.status()["workers"]
        assert (worker["restarts"], worker["watch"]) == (1, addresses(running)["worker-1"])
        [[name, _, code]] = running.state()["ended"]
        assert (name, code) == ("worker-1", -9)


@pytest.fixture
async def soda() -> AsyncIterator[SodaServer]:
    async with soda_server() as made:
        yield made


async def load(running: Installation, folder: Path) -> Any:
    done = await asyncio.to_thread(running.rapid, "simulate", "--days", "6", "--out", str(folder))
    assert done.returncode == 0, done.stderr
    files = [str(folder / name) for name in ("victims.csv", "service_requests.json")]
    return await asyncio.to_thread(running.start, "replay", *files)


async def send_rubbish(running: Installation) -> None:
    async with AIOKafkaProducer(bootstrap_servers=running.state()["broker_address"]) as producer:
        await producer.send_and_wait("incident-reports", b"{not json", b"cad:JK200002")


async def make_work(running: Installation, url: str, connection: Any) -> None:
    """What workers do not do: requests, messages, timers."""
    added = await asyncio.to_thread(running.rapid, "webhooks", "add", "--supervisors", "--url", url)
    assert added.returncode == 0, added.stderr
    await tell(connection, fired(1))
    status = running.status()
    assert ask(status["api"].removeprefix("http://"), "/v1/areas")[0] == 401
    # the second is due within what is leased ahead: it is held meanwhile
    for number, seconds in enumerate((0.0, 1.2)):
        due = await seconds_from_now(connection, seconds)
        await timers.arm(connection, [timer(number, due)])


async def with_faults(running: Installation, connection: Any, seen: Series) -> None:
    """An event waits that nobody publishes; the database holds still while there is something to do, and the worker's
    sessions are killed meanwhile."""
    event = Event("nobody-reads", "k", b"{}", "rapid.test.v1", "s", 1)
    async with connection.transaction():
        await outbox.add_rows(connection, "door/nobody", [event])
    await until_moved(running, seen, [m.STAGE_RECORDS, m.OUTBOX_ROWS, m.OUTBOX_AGE])
    sessions = await connection.fetch(SESSIONS)
    with stopped(running.pids()["database"]):
        await send_rubbish(running)
        await until_moved(running, seen, [m.LANE_LAG, m.LANE_BUSY])
        for session in sessions:
            kill(session["pid"])


async def test_every_metric_moves(soda: SodaServer, tmp_path: Path, policy: Policy) -> None:
    """One run with load, faults and everything that there is to do; who adds a metric has to make it move here."""
    city, seen = City(soda), nothing_seen()
    for name in ("victims", "requests"):
        city.show(name, 20)
    async with receiving() as receiver:
        people = {
            one.url_env: f"json://127.0.0.1:{receiver.port}/a"
            for one in policy.oncall.channels
            if one.url_env
        }
        settings = {
            "RAPID_PORTAL": "true", "RAPID_PORTAL_URL": soda.url, "RAPID_PORTAL_PAGE_ROWS": str(PAGE),
            "RAPID_PORTAL_EVERY": "victims=2s, requests=2s, crimes=off, shotspotter=off", "RAPID_NOTIFY_GATHER_S": "0",
            "RAPID_WEBHOOK_HTTP": "true", "RAPID_WEBHOOK_ALLOW": "127.0.0.0/8", "RAPID_WEBHOOK_PORTS": "any",
        }  # fmt: skip
        async with system(**settings, **people) as running:
            connection = await asyncpg.connect(running.state()["database_url"])
            replay = await load(running, tmp_path / "simulated")
            try:
                await send_rubbish(running)
                await make_work(running, receiver.url(), connection)
                await with_faults(running, connection, seen)
                await until_moved(running, seen, CATALOGUE)
            finally:
                replay.kill()
                replay.communicate()
                connection.terminate()


async def until_moved(running: Installation, seen: Series, metrics: Sequence[Metric]) -> None:
    deadline = asyncio.get_running_loop().time() + LIMIT_S
    while still := [metric.name for metric in metrics if not moved(seen, metric.name)]:
        assert asyncio.get_running_loop().time() < deadline, f"these did not move: {still}"
        await asyncio.to_thread(scrape, running, seen)
        await asyncio.sleep(0.2)
