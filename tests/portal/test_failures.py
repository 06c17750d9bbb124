"""A portal that fails in every way: each says what is wrong, keeps what was accepted, and the rest goes on."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from connectors.delivery import OutboxRow, Position
from connectors.geography.areas import Areas
from connectors.portal.client import Limits
from connectors.portal.feeds import FEEDS
from connectors.portal.reading import Counts
from schemas.policy import Policy
from tests.portal.soda_server import (
    Failure,
    SodaServer,
    cut,
    hangs,
    html,
    rows_instead,
    saying,
    soda_server,
    trickles,
    truncated,
)
from tests.portal.world import BEGAN, PAGE, QUICK, Broker, City, Reads, feed, reading_of, what_comes_of
from tests.timers.conftest import until, until_true

VICTIMS = feed("victims").id


class Trouble(NamedTuple):
    failure: Failure
    sentence: str


def _without_ids(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: cell for name, cell in row.items() if name != ":id"} for row in rows]


TROUBLE = {
    "throttled": Trouble(saying(429), "takes no more requests for now (429)"),
    "server error": Trouble(saying(500, b"<h1>oops"), "failed (500)"),
    "still working": Trouble(saying(202, b""), "is still working on the answer (202)"),
    "truncated JSON": Trouble(truncated, "broke off in the middle of its rows, after"),
    "cut connection": Trouble(cut, "broke off in the middle of its answer"),
    "HTML": Trouble(html, "answered with a web page (HTML) instead of rows"),
    "nothing": Trouble(saying(200, b""), "answered nothing at all"),
    "no JSON": Trouble(saying(200, b"all is well"), "answered something that is no JSON"),
    "an object": Trouble(saying(200, b'{"rows": []}'), "answered JSON that is no list of rows"),
    "a list of numbers": Trouble(saying(200, b"[1, 2]"), "answered another schema: row 1 is no JSON object"),
    "no ids": Trouble(rows_instead(_without_ids), "answered another schema: row 1 has no usable :id"),
    "an odd time": Trouble(
        rows_instead(lambda rows: [row | {":updated_at": "soon"} for row in rows]), "answered another schema: row 1"
    ),
    "all rows twice": Trouble(rows_instead(lambda rows: rows + rows), "where at most 20 were asked for"),
    "another order": Trouble(
        rows_instead(lambda rows: rows[::-1]), "which was not asked for"
    ),
    "deep nonsense": Trouble(saying(200, b"[" * 100_000), "broke off in the middle of its rows"),
    "hangs": Trouble(hangs, "gave no whole answer within 0.5 s"),
    "trickles": Trouble(trickles, "gave no whole answer within 0.5 s"),
}  # fmt: skip


@pytest.mark.parametrize("what", TROUBLE)
async def test_trouble_that_passes_is_waited_for_and_only_costs_its_request(
    what: str, city: City, reads: Reads
) -> None:
    city.show("victims", 50)
    city.server.fail(VICTIMS, None, TROUBLE[what].failure)
    counts = await reads.read("victims")
    assert (counts.problem, counts.rows, counts.accepted, counts.requests) == ("", 50, 50, 4)
    assert len(set(reads.broker.ids)) == len(reads.broker.ids) == 50


@pytest.mark.parametrize("what", TROUBLE)
async def test_trouble_that_stays_is_told_keeps_what_was_read_and_goes_on_there(
    what: str, city: City, reads: Reads, pool: Any
) -> None:
    city.show("victims", 50)
    city.server.fail(VICTIMS, None, *[TROUBLE[what].failure] * QUICK.tries)
    counts = await reads.read("victims")
    assert counts.problem.startswith("The portal ")
    assert TROUBLE[what].sentence in counts.problem
    assert counts.problem.endswith("3 times in a row.")
    assert (counts.rows, counts.accepted, counts.requests) == (PAGE, PAGE, 1 + QUICK.tries)
    kept = await pool.fetchrow("SELECT failures, problem, under_way, mark FROM portal_marks")
    assert tuple(kept) == (1, counts.problem, True, BEGAN + timedelta(seconds=PAGE))
    counts = await reads.read("victims")
    assert (counts.problem, counts.rows, counts.known, counts.requests) == ("", 50 - PAGE, 0, 2)
    assert tuple(await pool.fetchrow("SELECT failures, problem FROM portal_marks")) == (0, None)


async def test_retry_after_is_kept_by_all_datasets(city: City, reads: Reads) -> None:
    city.show("victims", 3)
    city.show("crimes", 3)
    city.server.fail(VICTIMS, saying(429, retry_after="1"))
    one, other = reads.reader("victims"), reads.reader("crimes")
    sharing = type(other)(
        one.portal, other.door, other.feed, other.reading, other.wish, other.counts, other.now
    )
    began_s = time.monotonic()
    throttled = asyncio.create_task(one.read())
    await city.server.until_asked(1)
    await until(lambda: bool(one.counts.waits_for))
    await asyncio.gather(throttled, sharing.read())
    assert time.monotonic() - began_s >= 1.0
    assert [asked.status for asked in city.server.asked] == [0, 200, 200]
    assert (one.counts.requests, sharing.counts.requests) == (2, 1)


async def test_a_longer_wait_than_ours_is_left_for_later(city: City, reads: Reads) -> None:
    city.show("victims", 3)
    city.server.fail(VICTIMS, saying(503, retry_after="3600"))
    counts = await reads.read("victims")
    assert counts.problem == "The portal failed (503), and asks to wait 3,600 s."
    assert (counts.wait_s, counts.requests) == (3600.0, 1)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (301, "The portal sends us elsewhere (301): set RAPID_PORTAL_URL to where it is now."),
        (401, "The portal does not let us in (401): check RAPID_PORTAL_APP_TOKEN, or leave it unset."),
        (400, "The portal declined (400): Could not parse it."),
    ],
)
async def test_what_will_not_pass_by_itself_is_asked_once(
    city: City, reads: Reads, status: int, sentence: str
) -> None:
    city.show("victims", 3)
    city.server.fail(VICTIMS, saying(status, b'{"message": "Could not parse it", "errorCode": "query.x"}'))
    counts = await reads.read("victims")
    assert (counts.problem, counts.requests) == (sentence, 1)


async def test_a_dataset_that_is_no_more(city: City, reads: Reads) -> None:
    del city.server.datasets[VICTIMS]
    assert "does not know this dataset (404)" in (await reads.read("victims")).problem


async def test_nobody_there(city: City, reads: Reads) -> None:
    city.server.port = 1
    assert (
        "cannot be reached at http://127.0.0.1:1, 3 times in a row" in (await reads.read("victims")).problem
    )


async def test_the_others_are_read_while_one_hangs(city: City, reads: Reads) -> None:
    for one in FEEDS:
        city.show(one.name, 30)
    reads.limits = Limits(timeout_s=20.0)
    city.server.fail(VICTIMS, hangs)
    readers = {one.name: reads.reader(one.name) for one in FEEDS}
    stuck = asyncio.create_task(readers.pop("victims").read())
    async with asyncio.timeout(15):
        await asyncio.gather(*(one.read() for one in readers.values()))
    assert not stuck.done()
    assert {name: one.counts.rows for name, one in readers.items()} == dict.fromkeys(readers, 30)
    stuck.cancel()
    await asyncio.wait({stuck})


def kinds(counts: Counts) -> dict[str, bool]:
    """What was found of a dataset, and whether it was new."""
    return {f"{kind} {subject}": one.is_new for (kind, subject), one in counts.findings.items()}


async def test_a_column_that_is_gone_is_told_and_done_without_until_it_is_back(
    city: City, reads: Reads
) -> None:
    city.show("victims", 30)
    columns = city.server.datasets[VICTIMS].columns
    columns -= {"location_description", "ward"}
    counts = await reads.read("victims")
    assert (counts.rows, counts.problem, counts.requests) == (30, "", 4)
    assert kinds(counts) == {"column_gone location_description": True, "column_gone ward": True}
    city.show("victims", 1)
    counts = await reads.read("victims")
    assert (counts.requests, kinds(counts)) == (2, {})  # not asked for again the same day
    city.pass_time(days=2)
    city.show("victims", 1)
    columns |= {"location_description"}
    counts = await reads.read("victims")
    assert kinds(counts) == {"column_gone ward": False, "column_back location_description": True}
    assert counts.requests == 1 + 2


async def test_without_an_essential_column_a_dataset_is_left_alone(city: City, reads: Reads) -> None:
    city.show("victims", 30)
    city.show("crimes", 30)
    city.server.datasets[VICTIMS].columns -= {"case_number"}
    found = await reads.read_all()
    assert "has no column case_number any more" in found["victims"].problem
    assert (found["victims"].rows, found["crimes"].rows) == (0, 30)


async def test_a_new_value_is_told_once_as_new(city: City, reads: Reads) -> None:
    city.show("requests", 10)
    city.revise("requests", 2, status="Reopened")
    counts = await reads.read("requests")
    assert (counts.accepted, counts.defects, kinds(counts)) == (9, 1, {"new_value status = Reopened": True})
    city.show("requests", 1)
    assert kinds(await reads.read("requests")) == {"new_value status = Reopened": False}


async def test_a_portal_that_goes_back_in_time_takes_nothing_with_it(
    city: City, reads: Reads, pool: Any
) -> None:
    city.show("victims", 10)
    city.pass_time(days=3)
    city.show("victims", 10)
    mark = (await reads.read("victims")).mark
    dataset = city.server.datasets[VICTIMS]
    younger = {key: dataset.rows.pop(key) for key in city.shown["victims"][10:]}
    dataset.modified_at, dataset.version = BEGAN + timedelta(hours=1), 1
    counts = await reads.read("victims")
    assert kinds(counts) == {"went_back dataset": True}
    assert (counts.problem, counts.mark) == ("", mark)
    dataset.rows |= younger
    city.pass_time(days=1)
    city.show("victims", 5)
    counts = await reads.read("victims")
    assert (counts.accepted, counts.known) == (5, 10)
    assert await pool.fetchval("SELECT count(*) FROM portal_known") == 25


async def test_a_portal_that_lost_its_newest_rows_says_so_without_a_date(city: City, reads: Reads) -> None:
    city.show("victims", 10)
    city.pass_time(days=3)
    city.show("victims", 10)
    await reads.read("victims")
    dataset = city.server.datasets[VICTIMS]
    for key in city.shown["victims"][10:]:
        del dataset.rows[key]
    dataset.touch(city.clock + timedelta(hours=1))
    counts = await reads.read("victims")
    assert kinds(counts) == {"went_back dataset": True}
    assert (
        "it has no row of 2026-03-04T00:00:20.000Z any more" in next(iter(counts.findings.values())).sentence
    )


async def test_rows_of_the_future_do_not_take_the_mark_with_them(city: City, reads: Reads) -> None:
    city.show("victims", 10)
    key = city.shown["victims"][4]
    city.server.datasets[VICTIMS].put(key, city.made["victims"][key], BEGAN.replace(year=2099), city.clock)
    counts = await reads.read("victims")
    assert (counts.rows, counts.mark) == (10, city.server.now)
    assert kinds(counts) == {"ahead :updated_at": True}
    city.show("victims", 10)
    assert (await reads.read("victims")).accepted == 10


async def test_two_that_read_one_dataset_do_not_double_it(city: City, reads: Reads) -> None:
    city.show("victims", 50)
    reads.limits = Limits(timeout_s=20.0)
    first = reads.reader("victims")
    go_on = asyncio.Event()

    async def late(server: SodaServer, writer: Any, answer: Any) -> None:
        await go_on.wait()
        writer.write(b"HTTP/1.1 200 x\r\nContent-Length: %d\r\n\r\n" % len(answer.body) + answer.body)
        await writer.drain()

    city.server.fail(VICTIMS, None, late)
    overtaken = asyncio.create_task(first.read())
    await city.server.until_asked(2)
    second = await reads.read("victims")
    go_on.set()
    await overtaken
    assert first.counts.problem == "Left: another process reads this dataset now, and goes on with it."
    assert (first.counts.rows, second.rows) == (PAGE, 50 - PAGE)
    assert len(set(reads.broker.ids)) == len(reads.broker.ids) == 50


class Silent(Broker):
    """Takes the first so many rows, then never answers again."""

    takes = 0

    async def publish(self, rows: Sequence[OutboxRow]) -> list[Position]:
        if len(self.records) >= self.takes:
            await asyncio.Event().wait()
        return await super().publish(rows)


async def _knows(pool: Any, count: int) -> bool:
    return bool(await pool.fetchval("SELECT count(*) >= $1 FROM portal_known", count))


async def test_what_was_accepted_and_not_published_is_published_by_the_next(
    city: City, reads: Reads, pool: Any
) -> None:
    city.show("victims", 50)
    silent = Silent()
    silent.takes = PAGE
    reads.broker = silent
    stuck = asyncio.create_task(reads.read("victims"))
    await until_true(lambda: _knows(pool, 2 * PAGE))
    stuck.cancel()
    await asyncio.wait({stuck})
    reads.broker = Broker(silent.records)
    counts = await reads.read("victims")
    assert (counts.left_over, counts.rows, counts.requests) == (PAGE, 50 - 2 * PAGE, 1)
    assert len(set(reads.broker.ids)) == len(reads.broker.ids) == 50
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 0


# ---------------------------------------------------------------- one story, undisturbed and disturbed


def story(city: City) -> Iterator[None]:
    """Full load, a replace, a revision of each kind, an increment, a late row; passes are made at each yield."""
    for name in city.made:
        city.show(name, 40)
    yield
    city.show("requests", 45, each=timedelta(0))
    yield
    city.pass_time(days=2)
    city.revise("requests", 7, status="Completed", closed_date="2026-03-02T10:00:00.000")
    city.revise("victims", 3, victimization_primary="HOMICIDE", updated="2026-03-02T11:00:00.000")
    yield
    city.show("victims", 45)
    yield
    late = city.made["requests"][city.shown["requests"][0]] | {"sr_number": "SR-LATE"}
    city.put("requests", "late", late, city.clock - timedelta(hours=1))
    yield


async def _tell(make_pool: Callable[[], Awaitable[Any]], policy: Policy, disturb: Sequence[Failure]) -> Any:
    """The story; a pass is repeated until it comes to its end. Returns the pool, the broker and the city."""
    pool = await make_pool()
    async with soda_server() as server, reading_of(server, pool, policy) as reads:
        city, troubles = City(server), iter(disturb)
        for _ in story(city):
            for one in FEEDS:
                server.fail(one.id, *(trouble for trouble in [next(troubles, None)] if trouble))
                server.fail(one.id, None, *(trouble for trouble in [next(troubles, None)] if trouble))
                while (await reads.read(one.name)).problem:
                    pass
                server.script.clear()
        return pool, reads.broker, city


async def test_the_final_tables_are_the_same_whatever_fails_on_the_way(
    make_pool: Callable[[], Awaitable[Any]], policy: Policy, areas: Areas
) -> None:
    calm_pool, calm, city = await _tell(make_pool, policy, ())
    wild_pool, wild, _ = await _tell(make_pool, policy, [one.failure for one in TROUBLE.values()] * 3)
    expected = await what_comes_of(calm_pool, policy, areas, calm)
    assert await what_comes_of(wild_pool, policy, areas, wild) == expected
    assert len(set(wild.ids)) == len(wild.ids)
    assert {row[1] for row in expected["issue_reports"]} == {*city.shown["requests"]} - {"late"} | {"SR-LATE"}
    assert expected["work_orders"]
