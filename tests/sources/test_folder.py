"""Dropped files: what becomes of them, which are left alone, and who gets them."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from connectors.filedrop.folder import Folder
from tests.sources.conftest import HEADER, Drop, calls, line


async def test_a_file_is_taken_in_and_put_away_with_a_report(drop: Drop, pool: Any) -> None:
    drop.put("calls.csv", calls(3) + line(3, call="NOISE"))
    counts = await drop.take_in()
    assert drop.names("processed") == ["calls.csv", "calls.csv.report.json"]
    assert (drop.names("incoming"), drop.names("working"), drop.names("failed")) == ([], [], [])
    report = json.loads((drop.path / "processed" / "calls.csv.report.json").read_text())
    found = {
        name: report[name] for name in ("file", "source", "rows", "accepted", "skipped", "refused", "problem")
    }
    assert found == {
        "file": "calls.csv", "source": "cad", "rows": 4, "accepted": 3, "skipped": 1, "refused": 0, "problem": None,
    }  # fmt: skip
    assert [row.key for row in drop.broker.records] == [b"cad:JX000000", b"cad:JX000001", b"cad:JX000002"]
    assert counts.problem == ""
    assert (
        await pool.fetchval("SELECT accepted FROM source_hours WHERE way = 'folder' AND source = 'cad'") == 3
    )


async def test_a_bad_row_among_good_ones_is_a_dead_letter_that_names_line_column_and_reason(
    drop: Drop, pool: Any
) -> None:
    rows = [
        line(1), line(2, received="yesterday"), line(3, lat="0.5"), "26-4,short\n",
        line(5, received="01/01/2030 00:00:00"), line(6),
    ]  # fmt: skip
    drop.put("calls.csv", HEADER + "".join(rows))
    await drop.take_in()
    report = json.loads((drop.path / "processed" / "calls.csv.report.json").read_text())
    assert (report["accepted"], report["refused"], report["refusals_not_listed"]) == (2, 4, 0)
    assert [(one["row"], one["field"], one["reason"]) for one in report["refusals"]] == [
        (3, "RECEIVED", "impossible_time"), (4, "LAT", "impossible_place"), (5, None, "invalid"),
        (6, "RECEIVED", "impossible_time"),
    ]  # fmt: skip
    assert report["refusals"][0]["expected"] == "a time like %m/%d/%Y %H:%M:%S"
    letters = await pool.fetch(
        'SELECT "offset", source, reason, field, expected, value FROM dead_letters ORDER BY 1'
    )
    assert [(one["offset"], one["source"], one["field"]) for one in letters] == [
        (3, "cad", "RECEIVED"), (4, "cad", "LAT"), (5, "cad", None), (6, "cad", "RECEIVED"),
    ]  # fmt: skip
    assert letters[0]["expected"].startswith("cad, calls.csv, row 3, column RECEIVED: expected a time like")
    assert json.loads(letters[0]["value"])["RECEIVED"] == "yesterday"
    assert json.loads(letters[2]["value"]) == {"source": "cad", "file": "calls.csv", "row": 5}


async def test_columns_that_are_not_mapped_are_never_kept(drop: Drop, pool: Any) -> None:
    header = HEADER.strip() + ",CALLER_NAME\n"
    drop.put(
        "calls.csv",
        header + line(1, received="never").strip() + ",Jane Doe\n" + line(2).strip() + ",Jane Doe\n",
    )
    await drop.take_in()
    for table in ("dead_letters", "outbox", "source_files", "source_hours"):
        rows = await pool.fetch(f"SELECT to_jsonb(t)::text AS row FROM {table} t")
        assert not [row for row in rows if "Jane" in row["row"] or b"Jane".hex() in row["row"]]
    assert b"Jane" not in b"".join(row.value for row in drop.broker.records)
    assert "Jane" not in (drop.path / "processed" / "calls.csv.report.json").read_text()


async def test_a_file_that_is_another_one_fails_and_names_the_columns(drop: Drop, pool: Any) -> None:
    drop.put("other.csv", "A,B\n1,2\n")
    drop.put("good.csv", calls(1))
    counts = await drop.take_in()
    assert drop.names("failed") == ["other.csv", "other.csv.report.json"]
    assert drop.names("processed") == ["good.csv", "good.csv.report.json"]
    problem = json.loads((drop.path / "failed" / "other.csv.report.json").read_text())["problem"]
    assert problem.startswith("other.csv has no column EVENT_NO, ")
    assert problem.endswith("; its columns are: A, B.")
    assert {done.name: done.failed for done in counts.files} == {"good.csv": False, "other.csv": True}
    assert len(drop.broker.records) == 1


async def test_a_file_none_of_whose_rows_can_be_used_fails_and_the_problem_goes_when_one_works(
    drop: Drop, pool: Any
) -> None:
    drop.put("calls.csv", HEADER + line(1, received="x") + line(2, received="x"))
    await drop.take_in()
    assert drop.names("failed") == ["calls.csv", "calls.csv.report.json"]
    problem = "SELECT problem FROM source_problems WHERE source = 'cad' AND way = 'folder'"
    assert await pool.fetchval(problem) == "calls.csv: none of its 2 rows can be used."
    drop.put("calls.csv", calls(1))
    await drop.take_in()
    assert await pool.fetchval(problem) is None


async def test_what_stands_before_the_place_where_a_file_breaks_off_is_taken_in(drop: Drop) -> None:
    drop.put("calls.csv", calls(3) + '26-9,"a quote that\n' + "x" * 200_000)
    await drop.take_in()
    report = json.loads((drop.path / "failed" / "calls.csv.report.json").read_text())
    assert (report["accepted"], len(drop.broker.records)) == (3, 3)
    assert "calls.csv cannot be read as CSV from line 5 on" in report["problem"]
    assert "working" not in report["problem"]


async def test_an_empty_file_fails(drop: Drop) -> None:
    drop.put("empty.csv", "")
    await drop.take_in()
    report = json.loads((drop.path / "failed" / "empty.csv.report.json").read_text())
    assert report["problem"] == "empty.csv is empty."


async def test_what_is_being_written_is_left_alone(drop: Drop) -> None:
    for name in (".calls.csv", "calls.csv.part", "calls.csv.PARTIAL", "calls.csv.tmp", "calls.csv~"):
        drop.put(name, calls(1))
    growing = drop.put("growing.csv", calls(1))
    picker = drop.picker()
    for size in range(2, 5):
        await picker.look()
        drop.clock.at_s += 3
        growing.write_text(calls(size))
    await picker.look()
    assert len(drop.names("incoming")) == 6
    drop.clock.at_s += 3
    await picker.look()
    assert drop.names("processed") == ["growing.csv", "growing.csv.report.json"]
    assert len(drop.broker.records) == 4


async def test_links_and_folders_are_left_alone(drop: Drop, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text(calls(1))
    (drop.path / "incoming" / "link.csv").symlink_to(secret)
    (drop.path / "incoming" / "folder.csv").mkdir()
    assert (await drop.take_in()).files == []
    assert drop.broker.records == []


async def test_the_same_name_again_gets_a_place_of_its_own(drop: Drop) -> None:
    for n in range(3):
        drop.put("calls.csv", calls(1, n))
        await drop.take_in()
    assert [name for name in drop.names("processed") if not name.endswith(".json")] == [
        "calls-2.csv", "calls-3.csv", "calls.csv",
    ]  # fmt: skip


async def test_odd_names_are_no_trouble(drop: Drop) -> None:
    odd = os.fsdecode(b"caf\xe9\n|x.csv")
    drop.put(odd, calls(1))
    drop.put("l" * 240 + ".csv", calls(1))
    assert [done.failed for done in (await drop.take_in()).files] == [False, False]
    assert "caf__|x.csv" in drop.names("processed")


async def test_of_many_who_pick_up_the_same_file_one_gets_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.make()
    (tmp_path / "incoming" / "a.csv").write_text("x")
    got = await asyncio.gather(*(asyncio.to_thread(Folder(tmp_path).pick, "a.csv") for _ in range(20)))
    assert len([one for one in got if one is not None]) == 1


async def test_two_pickers_take_every_file_once(drop: Drop) -> None:
    for n in range(6):
        drop.put(f"{n}.csv", calls(40, 40 * n))
    one, two = drop.picker(), drop.picker()
    for _ in range(12):
        await asyncio.gather(one.look(), two.look())
        drop.clock.at_s += 3
    assert sorted(done.name for picker in (one, two) for done in picker.counts.files) == [
        f"{n}.csv" for n in range(6)
    ]
    assert len(drop.broker.ids) == len(set(drop.broker.ids)) == 240


async def test_a_folder_that_cannot_be_used_is_told(drop: Drop, pool: Any) -> None:
    (drop.path / "incoming").rmdir()
    (drop.path / "incoming").write_text("not a folder")
    picker = drop.picker()
    await picker.look()
    assert picker.counts.problem == f"{drop.path}: file exists."
    assert await pool.fetchval("SELECT problem FROM source_problems") == picker.counts.problem
