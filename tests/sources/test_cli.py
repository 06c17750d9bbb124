"""`rapid sources`: checks that need nothing, and lists of what a database knows."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.sources.conftest import EXAMPLES, HEADER, line

RAPID: Final = (sys.executable, "-P", "-m", "infra.cli.main", "sources")


def rapid(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAPID_")}
    env |= {"COLUMNS": "200"} | more
    return subprocess.run(
        [*RAPID, *arguments], env=env, capture_output=True, text=True, check=False, timeout=60
    )


def test_check_shows_what_the_first_rows_become(tmp_path: Path) -> None:
    sample = tmp_path / "mine.csv"
    sample.write_text(HEADER + line(1) + line(2, received="soon") + line(3, call="NOISE"))
    done = rapid("check", str(EXAMPLES / "cad.yaml"), str(sample))
    assert (done.returncode, done.stderr) == (0, "")
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in done.stdout.splitlines() if "│" in row]
    assert ["", "", "accepted", "refused", "not our subject"] in rows
    assert ["event", "CALL_TYPE", "assault", "", ""] in rows
    assert "3 rows: 1 accepted, 1 not our subject, 1 refused." in done.stdout
    assert "Row 3, column RECEIVED: expected a time like %m/%d/%Y %H:%M:%S" in done.stdout


def test_check_names_every_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "cad.yaml"
    wrong.write_text(
        (EXAMPLES / "cad.yaml").read_text().replace("block: BLOCK", "blok: BLOCK").replace("csv", "cvs", 1)
    )
    shutil.copy(EXAMPLES / "cad.sample.csv", tmp_path)
    done = rapid("check", str(wrong))
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert [one.split(": expected")[0].split(":")[0] for one in lines] == ["cad.yaml"] * len(lines)
    assert any("fields.blok: is no field of IncidentReport; did you mean block?" in one for one in lines)
    told = json.loads(rapid("check", str(wrong), "--json").stdout)
    assert (told["ok"], {"file", "line", "key", "message"}) == (False, set(told["errors"][0]))


def test_check_of_a_folder_and_of_what_is_not_there(tmp_path: Path) -> None:
    assert json.loads(rapid("check", str(EXAMPLES), "--json").stdout)["sources"] == [
        "cad",
        "shotspotter-live",
    ]
    done = rapid("check", str(tmp_path / "nothing.yaml"))
    assert (done.returncode, done.stderr) == (1, "nothing.yaml: is missing; expected a mapping file\n")
    none = rapid("check", str(EXAMPLES / "cad.yaml"), str(tmp_path / "none.csv"))
    assert none.returncode == 1
    assert "none.csv: no such file or directory" in none.stderr


@pytest.fixture
def env(database_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "RAPID_DATABASE_URL": database_url, "RAPID_BROKERS": "127.0.0.1:1", "RAPID_SOURCES": str(EXAMPLES),
        "RAPID_HOME": str(tmp_path),
    }  # fmt: skip


async def test_list_has_every_source_with_what_came_of_it(env: dict[str, str], connection: Any) -> None:
    await connection.execute(
        "INSERT INTO source_hours (source, way, hour, accepted, refused, newest, last_at) VALUES "
        "('cad', 'folder', date_trunc('hour', now()), 7, 2, now() - interval '3 hours', now()),"
        "('cad', 'folder', now() - interval '2 days', 100, 9, now() - interval '2 days', now() - interval '2 days'),"
        "('rms', 'rest', date_trunc('hour', now()), 1, 0, now(), now())"
    )
    await connection.execute(
        "INSERT INTO portal_marks (dataset, pass, mark, problem) VALUES ('gumc-mgzr', 1, now(), 'The portal is away.')"
    )
    await connection.execute(
        "INSERT INTO portal_findings (dataset, kind, subject, sentence) VALUES ('gumc-mgzr', 'column_gone', 'x', '')"
    )
    await connection.execute(
        "INSERT INTO incident_reports (source, report_id, revised_at, digest, incident_id, body) VALUES "
        "('oemc', '1', now(), 1, gen_random_uuid(), '{}'), ('oemc', '2', now(), 1, gen_random_uuid(), '{}')"
    )
    await connection.execute(
        'INSERT INTO dead_letters (dead_letter_id, topic, partition, "offset", reason, expected, key) VALUES '
        "(gen_random_uuid(), 'incident-reports', 0, 1, 'invalid', 'x', 'oemc:7'),"
        "(gen_random_uuid(), 'incident-reports', 0, 2, 'invalid', 'x', '\\xff00')"
    )
    done = await asyncio.to_thread(rapid, "--json", **env)
    lines = {(one["source"], one["way"]): one for one in json.loads(done.stdout)}
    assert list(lines) == [
        ("shotspotter-live", "webhook"), ("cad", "folder"), ("victims", "portal"), ("rms", "rest"),
        ("oemc", "intake"),
    ]  # fmt: skip
    cad, victims, oemc = lines["cad", "folder"], lines["victims", "portal"], lines["oemc", "intake"]
    assert (cad["accepted_24h"], cad["refused_24h"]) == (7, 2)
    assert 3 * 3600 <= cad["lag_s"] < 3 * 3600 + 120
    assert (victims["problem"], victims["what"]) == ("The portal is away.", "dataset gumc-mgzr, 1 finding")
    assert (oemc["accepted_24h"], oemc["refused_24h"], oemc["configured"]) == (2, 1, False)
    assert lines["shotspotter-live", "webhook"]["configured"]
    shown = await asyncio.to_thread(rapid, "list", **env)
    assert "victims (portal): The portal is away." in shown.stdout
    one = await asyncio.to_thread(rapid, "show", "shotspotter-live", **env)
    assert "Webhook: POST /v1/sources/shotspotter-live" in one.stdout
    nobody = await asyncio.to_thread(rapid, "show", "nobody", **env)
    assert (nobody.returncode, nobody.stderr) == (
        6, "rapid: There is no source nobody: see `rapid sources list`.\n"
    )  # fmt: skip


async def test_a_source_is_one_line_with_the_doors_that_it_has(env: dict[str, str], connection: Any) -> None:
    """What the stream took in of it came through its door; what was refused there is told on the door's line."""
    await connection.execute(
        "INSERT INTO source_hours (source, way, hour, accepted, refused, newest, last_at) VALUES "
        "('cad', 'folder', date_trunc('hour', now()), 7, 2, now(), now()),"
        "('shotspotter-live', 'webhook', date_trunc('hour', now()), 3, 1, now(), now()),"
        "('shotspotter-live', 'folder', date_trunc('hour', now()), 5, 0, now(), now())"
    )
    await connection.execute(
        "INSERT INTO incident_reports (source, report_id, revised_at, digest, incident_id, body) VALUES "
        "('cad', '1', now(), 1, gen_random_uuid(), '{}'), ('cpd', '2', now(), 1, gen_random_uuid(), '{}')"
    )
    await connection.execute(
        'INSERT INTO dead_letters (dead_letter_id, topic, partition, "offset", reason, expected, key) VALUES '
        "(gen_random_uuid(), 'incident-reports', 0, 1, 'invalid', 'x', 'cad:7')"
    )
    found = json.loads((await asyncio.to_thread(rapid, "list", "--json", **env, RAPID_PORTAL="true")).stdout)
    lines = [(one["source"], one["way"], one["accepted_24h"], one["refused_24h"]) for one in found]
    assert [one for one in lines if one[1] != "portal"] == [
        ("shotspotter-live", "webhook", 3, 1), ("cad", "folder", 7, 3), ("shotspotter-live", "folder", 5, 0),
        ("cpd", "intake", 1, 0),
    ]  # fmt: skip
    assert all(one["configured"] for one in found)
    shown = (await asyncio.to_thread(rapid, "list", **env)).stdout
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in shown.splitlines() if "│" in row]
    assert [row[:2] + row[5:] for row in rows] == [
        ["shotspotter-live", "webhook, folder", "8", "1", ""],
        ["cad", "folder", "7", "3", ""],
        ["cpd", "intake", "1", "0", "seen, not configured"],
    ]
