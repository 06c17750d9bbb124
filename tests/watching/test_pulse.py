"""Alive and ready, as a port says it: from a loop that is held up, a handler that hangs, a database that is away."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import asyncpg
import pytest

from agents.messages import Binding, Message, Outcome
from agents.runner import Limits, Runner
from connectors.delivery import FenceKey, Moment
from connectors.errors import Transient
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.pool import create_pool
from infra.settings import Settings
from infra.watching.lanes import Lanes
from infra.watching.metrics import Metrics
from infra.watching.process import Watched
from infra.watching.pulse import Heard, Pulse
from infra.watching.served import Port, served
from tests.delivery.doubles import MemoryFeed, MemoryLog, MemoryPublisher, Raw
from tests.delivery.scenario import until
from tests.delivery.toy import SCHEMA, handling, topic_in, topic_out
from tests.watching.watched import ask

FAST = Limits(settle_pause_s=0.01, retry_first_s=0.01, retry_most_s=0.02, close_timeout_s=0.5)
KEY = FenceKey("rapid", "incidents", 0)


@contextmanager
def port_of(pulse: Pulse) -> Iterator[str]:
    with served("127.0.0.1", 0, Port("worker", pulse, Metrics())) as port:
        yield f"127.0.0.1:{port}"


def test_a_loop_that_is_held_up_is_told_by_a_thread_that_is_not() -> None:
    pulse, seen = Pulse(dead_s=0.3), []

    async def beat_then_hang(address: str) -> None:
        pulse.beat()
        looking = threading.Thread(target=look, args=(address,))
        looking.start()
        time.sleep(1.5)  # noqa: ASYNC251 - the loop is held up: that is the case
        looking.join()

    def look(address: str) -> None:
        seen.append(ask(address, "/livez"))
        deadline = time.monotonic() + 10
        while ask(address, "/livez")[0] == 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        seen.append(ask(address, "/livez"))
        seen.append(ask(address, "/readyz"))

    with port_of(pulse) as address:
        asyncio.run(beat_then_hang(address))
        pulse.beat()
        assert ask(address, "/livez")[0] == 200
    (first, _), (then, body), (ready, why) = seen
    assert (first, then, ready) == (200, 503, 503)
    assert json.loads(body)["not_live"]["loop"].startswith("The loop has not turned for")
    assert "loop" in json.loads(why)["not_ready"]


def test_what_is_asked_must_have_answered_lately() -> None:
    now = 0.0
    heard = Heard("PostgreSQL", 15, lambda: now)
    assert heard.why() == "PostgreSQL has not answered since the start."
    heard.answered()
    now = 15.0
    assert heard.why() is None
    heard.failed("no connection.")
    now = 16.0
    assert heard.why() == "PostgreSQL has not answered for 16 s: no connection."
    heard.answered()
    assert heard.why() is None


def test_the_port_answers_only_what_it_knows_and_many_at_once() -> None:
    with port_of(Pulse()) as address:
        assert ask(address, "/")[0] == 404
        assert ask(address, "/livez?x=1")[0] == 200
        found: list[int] = []
        asking = [
            threading.Thread(target=lambda: found.append(ask(address, "/metrics", 20)[0])) for _ in range(40)
        ]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
        assert found == [200] * 40


def test_metrics_come_in_the_format_that_is_asked_for() -> None:
    import urllib.request

    with port_of(Pulse()) as address:
        asked = urllib.request.Request(
            f"http://{address}/metrics", headers={"Accept": "application/openmetrics-text"}
        )
        with urllib.request.urlopen(asked, timeout=5) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            assert answer.read().endswith(b"# EOF\n")


def test_lanes_are_ready_when_they_are_claimed_and_get_on() -> None:
    now = 100.0
    lanes = Lanes(Metrics(), 15, lambda: now)
    assert lanes.why_unclaimed() == "The broker has not assigned partitions yet."
    lanes.tell("triage", KEY, Moment("claiming"))
    assert lanes.why_unclaimed() == "Not claimed yet: incidents/0."
    lanes.tell("triage", KEY, Moment("claimed", offset=5))
    assert (lanes.why_unclaimed(), lanes.why_stuck()) == (None, None)
    lanes.tell("triage", KEY, Moment("began", offset=9))
    lanes.tell("triage", KEY, Moment("failed", error="away", why="PostgreSQL is not available"))
    now = 116.0
    assert lanes.why_stuck() == "At the same work for 16 s: incidents/0 (PostgreSQL is not available)."
    lanes.tell("triage", KEY, Moment("done", offset=9))
    assert lanes.why_stuck() is None
    now = 1000.0  # it waits for records: that is no trouble
    assert lanes.why_stuck() is None
    lanes.tell("triage", KEY, Moment("closed"))
    assert lanes.why_unclaimed() == "The broker has not assigned partitions yet."
    lanes.assigned = lambda: True  # more workers than partitions: nothing to do, and ready
    assert lanes.why_unclaimed() is None


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    await connection.execute(SCHEMA)
    await connection.close()
    made = await create_pool(database_url, max_size=4)
    yield made
    made.terminate()


class Away(PostgresLedger):
    """A ledger whose database can be away."""

    away = False

    def transaction(self) -> Any:
        if self.away:
            raise Transient("PostgreSQL is not available: it is away")
        return super().transaction()


@contextmanager
def watched_runner(pool: Any, lanes: Lanes, binding: Binding) -> Iterator[tuple[Runner, MemoryFeed, Away]]:
    ledger, feed = Away(pool), MemoryFeed()
    runner = Runner(
        [binding], consumer="unit", ledger=ledger, publisher=MemoryPublisher(), source=MemoryLog(), limits=FAST,
        watch=lanes.tell, die=lambda _: None,
    )  # fmt: skip
    runner.feed = feed
    yield runner, feed, ledger


async def test_a_handler_that_hangs_and_a_database_that_is_away_stick_a_lane_until_they_do_not(
    pool: Any,
) -> None:
    go_on = asyncio.Event()
    handle = handling(topic_out("unit"))

    async def hang(connection: Any, messages: Sequence[Message]) -> Outcome:
        await go_on.wait()
        return await handle(connection, messages)

    metrics = Metrics()
    lanes, topic = Lanes(metrics, 0.2), topic_in("unit")
    with watched_runner(pool, lanes, Binding(topic, "toy", hang)) as (runner, feed, ledger):
        runner.open([(topic.name, 0)])
        assert await until(lambda: bool(feed.begun), 20.0)
        assert await until(lambda: lanes.why_unclaimed() is None, 20.0)
        runner.accept(feed.batch(topic.name, [Raw(0, b"k", b'{"number":1}')]))
        assert await until(lambda: lanes.why_stuck() is not None, 20.0)
        assert f"{topic.name}/0" in str(lanes.why_stuck())
        go_on.set()
        assert await until(lambda: lanes.why_stuck() is None and feed.completed == [0], 20.0)
        ledger.away = True
        runner.accept(feed.batch(topic.name, [Raw(1, b"k", b'{"number":2}')]))
        assert await until(lambda: lanes.why_stuck() is not None, 20.0)
        assert "it is away" in str(lanes.why_stuck())
        ledger.away = False
        assert await until(lambda: lanes.why_stuck() is None and feed.completed == [0, 1], 20.0)
        lanes.ends = {(topic.name, 0): 5}
        lanes.note()
        text = metrics_text(metrics)
        assert f'rapid_lane_lag_records{{partition="0",topic="{topic.name}"}} 3.0' in text
        assert f'rapid_stage_records_total{{stage="toy",topic="{topic.name}"}} 2.0' in text
        assert 'rapid_transaction_records_count{stage="toy"} 2.0' in text
        assert 'error="away"' in text
        await runner.close()
    assert "rapid_lane_lag_records{" not in metrics_text(metrics)


def metrics_text(metrics: Metrics) -> str:
    from prometheus_client import generate_latest

    return generate_latest(metrics.registry).decode()


async def test_without_a_port_nobody_asks_and_nothing_is_served(database_url: str) -> None:
    settings = Settings(database_url=database_url, watch_port=0)
    async with Watched("courier", settings).watching() as watched:
        watched.ask_database()
        assert watched.pulse.parts == ("loop",)
