"""The nudger in this process, on a real PostgreSQL and the embedded broker."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from connectors.delivery import OutboxRow, Position
from connectors.errors import Transient
from connectors.kafka.publisher import KafkaPublisher
from connectors.postgres import timers
from connectors.postgres.pool import create_pool
from connectors.timers.nudger import Nudger, Pace, Sent
from schemas.promise import Nudge
from tests.timers.conftest import Arrivals, now_of, order_id, seconds_from_now, timer, until

SLACK_S = 0.002  # Kafka's times have milliseconds
USUAL = Pace()
QUICK = Pace(first_lease_s=1.0, longest_lease_s=2.0, first_wait_s=0.05, longest_wait_s=0.1)


class Notes:
    """Takes records like a broker, when it is there, and what the nudger tells."""

    def __init__(self) -> None:
        self.away = False
        self.batches: list[list[Nudge]] = []
        self.attempts = 0
        self.told: list[Sent] = []
        self.most_held = 0

    async def publish(self, rows: Sequence[OutboxRow]) -> list[Position]:
        self.attempts += 1
        if self.away:
            raise Transient("away")
        self.batches.append([Nudge.model_validate_json(row.value) for row in rows])
        return [Position(0, 0)] * len(rows)

    @property
    def nudges(self) -> list[Nudge]:
        return [one for batch in self.batches for one in batch]


@asynccontextmanager
async def nudging(
    dsn: str, publisher: Any, pace: Pace = USUAL, told: list[Sent] | None = None
) -> AsyncIterator[Nudger]:
    """A nudger at work; at the end it is stopped, and must end."""
    pool = await create_pool(dsn, min_size=1, max_size=2)
    into: list[Sent] = [] if told is None else told
    nudger = Nudger(pool, publisher, pace=pace, monotonic=time.monotonic, tell=into.extend)
    running = asyncio.create_task(nudger.run())
    try:
        yield nudger
    finally:
        nudger.stop()
        async with asyncio.timeout(15):
            await running
            await pool.close()


async def test_each_is_nudged_once_at_its_time_and_never_before(
    database_url: str, connection: Any, address: str, arrivals: Arrivals
) -> None:
    base = await seconds_from_now(connection, 0.5)
    armed = [timer(number, base + timedelta(milliseconds=number)) for number in range(1500)]
    publishers = [KafkaPublisher([address], idempotent=False) for _ in range(2)]
    told: list[Sent] = []
    await timers.arm(connection, armed)
    async with (
        nudging(database_url, publishers[0], told=told),
        nudging(database_url, publishers[1], told=told),
    ):
        await arrivals.until(1500)
        await until(lambda: len(told) == 1500)
    for publisher in publishers:
        await publisher.stop()
    found = {one.nudge.order_id: one for one in arrivals.all}
    assert len(arrivals.all) == len(found) == 1500
    for one in armed:
        arrived = found[one.subject_id]
        assert arrived.nudge == Nudge(
            order_key=one.key, order_id=one.subject_id, reference=one.reference, at=one.due_at
        )
        assert arrived.key == one.key
        assert arrived.headers["ce_subject"] == one.reference
        assert arrived.at_s >= one.due_at.timestamp() - SLACK_S
    assert len({one.headers["ce_id"] for one in arrivals.all}) == 1500
    assert min(one.late_s for one in told) >= 0
    assert not any(one.again for one in told)


async def test_what_is_armed_for_sooner_than_the_next_look_is_late_by_a_look_at_most(
    database_url: str, connection: Any
) -> None:
    notes, told = Notes(), list[Sent]()
    async with nudging(database_url, notes, told=told):
        for number in range(10):
            await timers.arm(connection, [timer(number, await now_of(connection))])
            await until(lambda n=number: len(notes.nudges) == n + 1)  # type: ignore[misc]
    assert max(one.late_s for one in told) < Pace().look_every_s + 0.5  # of a machine with others on it


async def test_after_a_downtime_the_longest_due_come_first_in_bounded_batches(
    database_url: str, connection: Any
) -> None:
    notes, dues = Notes(), [await seconds_from_now(connection, -n) for n in range(1, 501)]
    await timers.arm(connection, [timer(number, due) for number, due in enumerate(dues)])
    async with nudging(database_url, notes, Pace(batch=50)):
        await until(lambda: len(notes.nudges) == 500)
    assert [one.at for one in notes.nudges] == sorted(dues)
    assert max(map(len, notes.batches)) <= 50


async def test_it_holds_no_more_than_it_may_whatever_is_due_soon(database_url: str, connection: Any) -> None:
    notes, due = Notes(), await seconds_from_now(connection, 1.0)
    await timers.arm(connection, [timer(number, due) for number in range(1000)])
    async with nudging(database_url, notes, Pace(batch=40, most_held=100)) as nudger:
        while len(notes.nudges) < 1000:
            notes.most_held = max(notes.most_held, nudger.held)
            await asyncio.sleep(0)
    assert notes.most_held == 100


async def test_who_does_not_answer_is_nudged_again_ever_more_rarely(
    database_url: str, connection: Any
) -> None:
    notes, told = Notes(), list[Sent]()
    await timers.arm(connection, [timer(1, await now_of(connection))])
    began = time.monotonic()
    async with nudging(database_url, notes, QUICK, told):
        await until(lambda: len(notes.nudges) == 4)  # after 0, 1, 3 and 5 seconds
    assert time.monotonic() - began > 4.9
    assert [one.again for one in told] == [False, True, True, True]


async def test_who_answers_is_nudged_no_more(database_url: str, connection: Any) -> None:
    notes = Notes()
    now = await now_of(connection)
    await timers.arm(connection, [timer(1, now), timer(2, now), timer(3, now + timedelta(seconds=2.5))])
    async with nudging(database_url, notes, QUICK):
        await until(lambda: len(notes.nudges) == 2)
        await timers.disarm(connection, [order_id(1)])
        await timers.arm(connection, [timer(2, await seconds_from_now(connection, 60))])
        await until(lambda: len(notes.nudges) == 3)  # two leases later
    assert notes.nudges[2].order_id == order_id(3)


async def test_while_the_broker_is_away_nothing_is_kept_and_nothing_counts(
    database_url: str, connection: Any
) -> None:
    notes, told = Notes(), list[Sent]()
    notes.away = True
    due = await now_of(connection)
    await timers.arm(connection, [timer(number, due) for number in range(100)])
    async with nudging(database_url, notes, QUICK, told) as nudger:
        await until(lambda: notes.attempts >= 5)
        assert nudger.held <= 1
        notes.away = False
        await until(lambda: len(notes.nudges) >= 100)
    assert {one.order_id for one in notes.nudges} == {order_id(number) for number in range(100)}
    assert not any(one.again for one in told)


async def test_the_database_that_ends_its_sessions_is_found_again(database_url: str, connection: Any) -> None:
    notes = Notes()
    async with nudging(database_url, notes, QUICK):
        for number in range(3):
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await timers.arm(connection, [timer(number, await now_of(connection))])
            await until(lambda n=number: len(notes.nudges) >= n + 1)  # type: ignore[misc]


async def test_stopped_it_gives_back_what_it_holds(database_url: str, connection: Any) -> None:
    notes, due = Notes(), await seconds_from_now(connection, 1.0)
    await timers.arm(connection, [timer(number, due) for number in range(100)])
    async with nudging(database_url, notes) as nudger:
        await until(lambda: nudger.held == 100)
    left = await connection.fetch("SELECT nudge_at = due_at AS same, nudges FROM timers")
    assert [tuple(row) for row in left] == [(True, 0)] * 100
    assert notes.nudges == []


class Silent(Notes):
    """A broker that takes connections and never answers."""

    async def publish(self, rows: Sequence[OutboxRow]) -> list[Position]:
        self.attempts += 1
        if self.away:
            await asyncio.Event().wait()
        return await super().publish(rows)


async def test_a_broker_that_never_answers_is_given_up_before_the_lease_ends(
    database_url: str, connection: Any
) -> None:
    silent, told = Silent(), list[Sent]()
    silent.away = True
    await timers.arm(connection, [timer(1, await now_of(connection))])
    async with nudging(database_url, silent, Pace(broker_answers_s=0.1), told):
        await until(lambda: silent.attempts == 2)
        silent.away = False
        await until(lambda: len(told) == 1)
    assert not told[0].again


async def test_stopped_while_the_broker_is_silent_it_ends_and_gives_back(
    database_url: str, connection: Any
) -> None:
    silent = Silent()
    silent.away = True
    await timers.arm(connection, [timer(1, await now_of(connection))])
    async with nudging(database_url, silent):
        await until(lambda: silent.attempts == 1)
        stopped_at = time.monotonic()
    assert time.monotonic() - stopped_at < 10
    assert await connection.fetchval("SELECT nudges FROM timers") == 0


async def test_a_timer_that_no_nudge_can_be_made_of_does_not_hold_up_the_others(
    database_url: str, connection: Any, caplog: pytest.LogCaptureFixture
) -> None:
    notes, now = Notes(), await now_of(connection)
    await timers.arm(connection, [timer(1, now)._replace(reference="no reference"), timer(2, now)])
    async with nudging(database_url, notes):
        await until(lambda: len(notes.nudges) == 1)
    assert notes.nudges[0].order_id == order_id(2)
