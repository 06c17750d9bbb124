"""Rows of dropped files and elements of webhooks, sent again after the mapping of their source was mended."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from connectors.mapping.items import Numbered
from connectors.mapping.taking import Border, take
from connectors.postgres.retries import Wanted
from infra import dead_letters as work
from infra.cli import dead_letters as command
from infra.cli.dead_letters import Chosen
from infra.cli.errors import Oops
from infra.settings import Settings
from infra.sources.load import load_mapping
from schemas.dead_letter import DeadLetter
from schemas.policy import Policy
from tests.delivery.test_retries import EVERY, Broker, broker, bury, states, tell, there

__all__ = ["broker"]

CSV = """source: cad
report: incident
format: csv
times: {zone: America/Chicago}
fields:
  report_id: ID
  incident_number: {column: CASE, or_column: ID}
  occurred_at: AT
  revised_at: AT
  event: {column: KIND, table: {SHOTS: gunfire}}
  gunshot_injury: {value: null}
"""
JSON = CSV.replace("csv", "json").replace("KIND", "/call/kind").replace("AT\n", "/call/at\n")
MENDED = ("{SHOTS: gunfire}", "{SHOTS: gunfire, GUNS: gunfire}")
AT = "2026-07-04 22:40:00"
ROWS = [
    {"id": "1", "case": "JK1", "at": AT, "kind": "GUNS"},
    {"id": "2", "case": "JK2", "at": AT, "kind": "KNIVES"},
]
ELEMENTS: list[dict[str, Any]] = [
    {"ID": row["id"], "CASE": row["case"], "call": {"at": row["at"], "kind": row["kind"]}} for row in ROWS
]


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    monkeypatch.setenv("RAPID_SOURCES", str(folder))
    monkeypatch.setenv("RAPID_HOME", str(tmp_path / "home"))
    return folder


def refused(folder: Path, text: str, policy: Policy) -> list[DeadLetter]:
    """The dead letters that a mapping makes of the rows, which are its file's second and third."""
    (folder / "cad.yaml").write_text(text)
    border = Border(load_mapping(folder / "cad.yaml", policy), lambda *_: None, "calls.csv")
    rows: list[Any] = [*(ROWS if text is CSV else ELEMENTS)]
    numbered = [Numbered(number, row) for number, row in enumerate(rows, start=2)]
    return take(numbered, border, datetime(2026, 11, 1, tzinfo=UTC)).letters


async def foreseen() -> tuple[int, list[str | None]]:
    tally = await command._foresee(Settings(), EVERY)
    return sum(tally.passing.values()), [one.forecast.expected for one in tally.first]


@pytest.mark.parametrize("text", [CSV, JSON])
async def test_what_the_mended_mapping_can_read_goes_out_and_the_rest_stays_open_with_today_s_sentence(
    dsn: str, broker: Broker, sources: Path, policy: Policy, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAPID_DATABASE_URL", dsn)
    letters = refused(sources, text, policy)
    await bury(dsn, letters)
    at, left = await command._retry(there(dsn), EVERY, tell)
    assert (at.sent, len(left), broker.taken) == (0, 2, [])
    (sources / "cad.yaml").write_text(text.replace(*MENDED))

    passes, (why,) = await foreseen()
    assert (passes, broker.taken, set((await states(dsn)).values())) == (1, [], {"open"})
    at, left = await command._retry(there(dsn), EVERY, tell)
    (raw,) = broker.taken
    assert (at, [one.offset for one in left]) == ((1, 1, 0), [3])
    assert json.loads(raw)["report_id"] == "1"
    assert why is not None
    assert "by today's mapping of cad expected a value of the mapping's table: SHOTS, GUNS" in why
    assert why in str(command._refusal(left))
    assert await states(dsn) == {2: "retried", 3: "open"}
    connection = await asyncpg.connect(dsn)
    lines = await connection.fetch("SELECT dead_letter_id, what FROM dead_letter_history ORDER BY seq")
    told = await connection.fetchval("SELECT expected FROM dead_letters WHERE state = 'open'")
    await connection.close()
    assert [tuple(one) for one in lines] == [
        (letters[0].dead_letter_id, it) for it in ("corrected", "retried")
    ]
    assert told.startswith("cad, calls.csv, row 3, column ")
    assert "SHOTS, GUNS; mend it at the source" in told


async def test_the_same_original_again_is_the_same_letter_and_two_that_say_the_same_are_sent_once(
    dsn: str, broker: Broker, sources: Path, policy: Policy
) -> None:
    letters = refused(sources, CSV, policy)
    twin = refused(sources, CSV.replace("or_column: ID", "or_column: AT"), policy)[0]
    other = twin.model_copy(update={"value": letters[0].value and letters[0].value.replace(b"GUNS", b"guns")})
    await bury(dsn, [letters[0], other.model_copy(update={"dead_letter_id": letters[1].dead_letter_id})])
    (sources / "cad.yaml").write_text(CSV.replace(*MENDED))
    at, left = await command._retry(there(dsn), EVERY, tell)
    assert (at.sent, len(broker.taken)) == (1, 1)
    assert "that is what dead letter" in str(command._refusal(left))
    await bury(dsn, [letters[0]])  # its sender sends the bad one again
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 2
    await connection.close()


@pytest.mark.parametrize(
    ("mapping", "why"),
    [
        (None, "cad has no mapping file"),
        (CSV.replace("incident\n", "incidents\n"), "the mapping file of cad is wrong"),
    ],
)
async def test_without_a_mapping_it_stays_open_and_says_why(
    dsn: str, broker: Broker, sources: Path, policy: Policy, mapping: str | None, why: str
) -> None:
    first = refused(sources, CSV, policy)[0]
    await bury(dsn, [first])
    (sources / "cad.yaml").unlink()
    if mapping is not None:
        (sources / "cad.yaml").write_text(mapping)
    with pytest.raises(Oops, match=f"have it sent again mended, or say --value .{why}"):
        await command._retry(there(dsn), Chosen([str(first.dead_letter_id)], Wanted(), 10), tell)
    assert (broker.taken, await states(dsn)) == ([], {2: "open"})


async def test_killed_between_the_correction_and_its_sending_the_next_command_sends_it(
    dsn: str, broker: Broker, sources: Path, policy: Policy
) -> None:
    first = refused(sources, CSV, policy)[0]
    await bury(dsn, [first])
    (sources / "cad.yaml").write_text(CSV.replace(*MENDED))
    connection = await asyncpg.connect(dsn)
    new, _ = await command._apart(connection, [first.dead_letter_id])
    await work._correct(connection, new, "cli:test")
    await connection.close()
    assert (await command._retry(there(dsn), EVERY, tell))[0].sent == 1
    assert [json.loads(raw)["report_id"] for raw in broker.taken] == ["1"]
