"""Passes over the portal's datasets: full load, increments, late rows, revisions; no more requests than needed."""

import csv
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.portal.feeds import FEEDS
from tests.portal.soda_server import SodaServer
from tests.portal.world import BEGAN, PAGE, City, Reads, feed, open_portal

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"


def asked_of(soda: SodaServer, name: str) -> list[int]:
    return [one.status for one in soda.asked if one.dataset == feed(name).id]


async def test_a_full_load_reads_every_row_once_page_by_page(
    city: City, reads: Reads, soda: SodaServer
) -> None:
    city.show("victims", 70)
    counts = await reads.read("victims")
    assert (counts.rows, counts.accepted, counts.known, counts.requests) == (70, 70, 0, 4)
    assert asked_of(soda, "victims") == [200] * 4
    assert counts.mark == BEGAN + timedelta(seconds=70)
    assert len(set(reads.broker.ids)) == len(reads.broker.ids) == 70


async def test_a_border_of_pages_within_one_moment_skips_nothing(city: City, reads: Reads) -> None:
    city.show("victims", 70, each=timedelta(0))
    counts = await reads.read("victims")
    assert (counts.rows, counts.accepted, counts.requests) == (70, 70, 4)


async def test_nothing_new_is_one_request_without_rows(city: City, reads: Reads, soda: SodaServer) -> None:
    city.show("requests", 30)
    await reads.read("requests")
    for _ in range(2):
        counts = await reads.read("requests")
        assert (counts.unchanged, counts.requests, counts.rows) == (True, 1, 0)
    assert asked_of(soda, "requests") == [200, 200, 304, 304]


async def test_an_increment_reads_the_overlap_and_what_is_new(city: City, reads: Reads) -> None:
    city.show("requests", 30)
    await reads.read("requests")
    city.pass_time(days=2)
    city.show("requests", 5)
    counts = await reads.read("requests")
    assert (counts.rows, counts.known, counts.accepted, counts.requests) == (35 - 0, 30, 5, 2)
    city.pass_time(days=2)
    city.show("requests", 3)
    counts = await reads.read("requests")
    assert (counts.rows, counts.known, counts.accepted, counts.requests) == (8, 5, 3, 1)


async def test_a_revised_row_is_taken_in_again_and_its_neighbours_are_not(city: City, reads: Reads) -> None:
    city.show("victims", 30)
    await reads.read("victims")
    key = city.revise("victims", 3, victimization_primary="HOMICIDE", updated="2026-03-01T12:00:00.000")
    counts = await reads.read("victims")
    assert (counts.accepted, counts.known, counts.rows) == (1, 29, 30)
    assert reads.broker.reports[-1].model_dump()["event"] == "homicide"
    assert reads.broker.reports[-1].model_dump()["report_id"] == key.partition("-")[2] or key


async def test_a_row_that_only_moves_is_known_by_its_content(city: City, reads: Reads) -> None:
    city.show("victims", 30)
    await reads.read("victims")
    city.revise("victims", 3)
    counts = await reads.read("victims")
    assert (counts.accepted, counts.known) == (0, 30)


async def test_a_row_that_appears_late_is_found_in_the_overlap(city: City, reads: Reads) -> None:
    city.show("requests", 30)
    late = city.clock - timedelta(seconds=10)
    await reads.read("requests")
    city.pass_time(hours=1)
    key = list(city.made["requests"])[30]
    city.put("requests", key, city.made["requests"][key], at=late)
    counts = await reads.read("requests")
    assert (counts.accepted, counts.known) == (1, 30)
    assert counts.mark == BEGAN + timedelta(seconds=30)


async def test_a_row_that_moves_while_it_is_paged_takes_no_other_with_it(city: City, reads: Reads) -> None:
    """With `$offset` the rows behind it would come one place earlier, and the first of the next page be skipped."""
    city.show("requests", 3 * PAGE)
    reader = reads.reader("requests")
    moved = city.shown["requests"][2]

    async def move_and_answer(server: SodaServer, writer: Any, answer: Any) -> None:
        city.revise("requests", 2)
        again = server.answer(feed("requests").id, server.asked[-1].parameters, {})
        writer.write(b"HTTP/1.1 200 x\r\nContent-Length: %d\r\n\r\n" % len(again.body) + again.body)
        await writer.drain()

    city.server.fail(feed("requests").id, None, move_and_answer)
    await reader.read()
    numbers = {one.model_dump()["request_number"] for one in reads.broker.reports}
    assert numbers == set(city.shown["requests"])
    assert moved in numbers
    assert reader.counts.known == 1


async def test_only_needed_columns_are_asked_for_and_no_person_is_in_them(
    city: City, reads: Reads, soda: SodaServer
) -> None:
    for one in FEEDS:
        city.show(one.name, 5)
    await reads.read_all()
    asked = {one.dataset: set(one.parameters["$select"].split(",")) for one in soda.asked}
    persons = {"age", "sex", "race", "victim_name", "location", "human_address"}
    assert {name: columns & persons for name, columns in asked.items()} == {one.id: set() for one in FEEDS}
    assert asked[feed("victims").id] >= {":id", ":updated_at", "unique_id", "case_number"}


async def test_what_is_answered_unasked_is_not_kept(city: City, reads: Reads, pool: Any) -> None:
    from tests.portal.soda_server import rows_instead

    city.show("victims", 3)
    planted = rows_instead(
        lambda rows: [row | {"victim_name": "PLANTED QUINCY", "date": "soon"} for row in rows]
    )
    city.server.fail(feed("victims").id, planted)
    assert (await reads.read("victims")).defects == 3
    stored = repr(await pool.fetch("SELECT * FROM dead_letters")) + repr(
        await pool.fetch("SELECT * FROM outbox")
    )
    letters = await pool.fetch("SELECT convert_from(value, 'UTF8') FROM dead_letters")
    assert "PLANTED" not in stored + repr(letters)


async def test_other_subjects_are_counted_and_defects_are_dead_letters_once(
    city: City, reads: Reads, pool: Any
) -> None:
    city.show("crimes", 30)
    city.revise("crimes", 0, date="the other day")
    first = await reads.read("crimes")
    assert (first.defects, first.known) == (1, 0)
    counts = await reads.read("crimes", since=BEGAN)
    assert (counts.rows, counts.out_of_scope, counts.defects, counts.known) == (30, {"THEFT": 20}, 0, 10)
    letters = await pool.fetch("SELECT expected, reason, field FROM dead_letters")
    assert [(row["reason"], row["field"]) for row in letters] == [("impossible_time", "date")]
    assert letters[0]["expected"].startswith("portal dataset ijzp-q8t2, row row-")
    assert "the other day" not in letters[0]["expected"]


async def test_since_reads_again_what_is_known_and_never_leaves_a_gap(city: City, reads: Reads) -> None:
    city.show("requests", 30)
    city.pass_time(days=9)
    city.show("requests", 10)
    assert (await reads.read("requests", since=city.clock)).rows == 1  # nothing was read yet: begin there
    counts = await reads.read("requests", since=BEGAN)
    assert (counts.rows, counts.accepted, counts.known) == (40, 39, 1)
    city.pass_time(days=9)
    city.show("requests", 2)
    city.pass_time(days=9)
    counts = await reads.read(
        "requests", since=city.clock
    )  # later than what we have: that would skip two rows
    assert counts.accepted == 2


async def test_the_token_goes_into_its_header_and_nowhere_else(
    city: City, reads: Reads, soda: SodaServer, pool: Any
) -> None:
    city.show("victims", 3)
    soda.token = reads.token = "app-token-of-ours"
    assert (await reads.read("victims")).accepted == 3
    assert [one.headers["x-app-token"] for one in soda.asked] == ["app-token-of-ours"]
    reads.token = "wrong-token"
    counts = await reads.read("victims")
    assert counts.problem.startswith("The portal does not let us in (403): check RAPID_PORTAL_APP_TOKEN")
    kept = repr(await pool.fetch("SELECT * FROM portal_marks")) + repr(soda.asked[0].parameters)
    assert "wrong-token" not in kept + counts.problem
    assert "app-token" not in kept


async def test_the_rows_become_what_a_replay_of_the_same_rows_makes_of_them(
    city: City, reads: Reads, tmp_path: Any
) -> None:
    from connectors.files.datasets import recognise
    from connectors.files.entries import Selection, entry_of, file_rows
    from schemas.envelope import Event
    from tests.unit.files_samples import write_json

    for one in FEEDS:
        city.show(one.name, 45)
    await reads.read_all()
    replayed = []
    for one in FEEDS:
        rows = [
            {name: str(cell) if not isinstance(cell, bool) else str(cell).lower() for name, cell in row.items()
             if not isinstance(cell, dict)}
            for row in city.made[one.name].values()
        ][:45]  # fmt: skip
        file = recognise(write_json(tmp_path / f"{one.name}.json", rows))
        assert file.dataset is one.dataset
        entries = [entry_of(row, reads.reading, Selection()) for row in file_rows([file])]
        replayed += [entry.outcome.value for entry in entries if isinstance(entry.outcome, Event)]
    assert sorted(row.value for row in reads.broker.records) == sorted(replayed)


@pytest.mark.shared
@pytest.mark.skipif(
    not REAL_DATA.is_dir(), reason="REAL DATA NOT TESTED: no ../shared/data beside the project"
)
async def test_the_citys_own_rows(reads: Reads, soda: SodaServer) -> None:
    open_portal(soda)
    victims, requests = (soda.datasets[feed(name).id] for name in ("victims", "requests"))
    with (REAL_DATA / "victims_2024-09_2025.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            victims.put(row["UNIQUE_ID"], {name.lower(): cell for name, cell in row.items()}, BEGAN)
    for one in json.loads((REAL_DATA / "service_requests_2025-12.json").read_text()):
        requests.put(one["sr_number"], one, BEGAN)
    reads.page_rows = 500
    found = {name: await reads.read(name) for name in ("victims", "requests")}
    assert {name: (one.problem, one.defects, one.known) for name, one in found.items()} == dict.fromkeys(
        found, ("", 0, 0)
    )
    assert (found["victims"].rows, found["victims"].requests) == (
        len(victims.rows),
        len(victims.rows) // 500 + 1,
    )
    assert not found["victims"].findings
    assert found["requests"].rows == len(requests.rows) == 1_328
    assert found["requests"].accepted == 179
