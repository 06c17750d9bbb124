"""Who sends what cannot be used, what is let go of and what never is, and what the commands say of it."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from connectors.postgres import dead_letters, refused, retries
from connectors.postgres.pool import create_pool
from connectors.postgres.refused import Bad, Window
from connectors.postgres.retries import Wanted
from infra.cli.dead_letters import app
from infra.dead_letters import let_go, let_go_daily
from schemas.dead_letter import DeadLetter, Reason, dead_letter_id_of

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WINDOW = Window(NOON, NOON + HOUR)


def letter(
    number: int, reason: Reason = "impossible_place", source: str = "cad", field: str | None = "point"
) -> DeadLetter:
    value = json.dumps({"source": source, "number": number}).encode()
    return DeadLetter(
        dead_letter_id=dead_letter_id_of("incident-reports", b"k", value), topic="incident-reports", partition=0,
        offset=number, reason=reason, field=field, expected="a place in the city", key=b"k", value=value,
        source=source,
    )  # fmt: skip


async def bury(connection: Any, letters: list[DeadLetter], at: datetime) -> None:
    """As if they had come then."""
    await dead_letters.bury(connection, letters)
    await connection.execute(
        "UPDATE dead_letter_tallies SET at = $1 WHERE at > now() - interval '1 minute'", at
    )


async def accept(connection: Any, source: str, count: int, at: datetime) -> None:
    await connection.execute(
        "INSERT INTO incident_reports (source, report_id, revised_at, digest, incident_id, body, recorded_at)"
        " SELECT $1, n::text, $3, 1, gen_random_uuid(), '{}', $3 FROM generate_series(1, $2::int) AS n",
        source, count, at,
    )  # fmt: skip


async def test_a_bad_feed_is_seen_with_its_reasons_its_share_and_yesterday(connection: Any) -> None:
    at = NOON + HOUR / 2
    await bury(connection, [letter(1)], at - timedelta(days=1))
    await bury(connection, [letter(n) for n in range(10, 16)] + [letter(20, "not_json", field=None)], at)
    await bury(connection, [letter(16)], at + HOUR / 4)
    await bury(connection, [letter(30, source="cpd")], at)
    await bury(connection, [letter(40)], NOON + HOUR)  # too late to count
    await accept(connection, "cad", 92, at)
    await accept(connection, "cpd", 99, at)
    await accept(connection, "cpd", 50, NOON - HOUR)
    cad, cpd = await refused.report(connection, WINDOW, Bad(share=0.08, records=5))
    assert (cad.source, cad.refused, cad.accepted, cad.before, cad.share, cad.bad) == (
        "cad",
        8,
        92,
        1,
        0.08,
        True,
    )
    place, json_ = cad.reasons
    assert place[:6] == ("incident-reports", "impossible_place", 7, 1, at, at + HOUR / 4)
    assert place.example == letter(16).dead_letter_id
    assert (json_.reason, json_.records, json_.before) == ("not_json", 1, 0)
    assert (cpd.source, cpd.refused, cpd.share, cpd.bad) == ("cpd", 1, 0.01, False)
    (cad, _) = await refused.report(connection, WINDOW, Bad(share=0.09, records=5))
    assert not cad.bad
    (cad, _) = await refused.report(connection, WINDOW, Bad(share=0.01, records=9))
    assert not cad.bad


async def test_what_we_send_again_ourselves_does_not_count_as_sent_by_the_source(connection: Any) -> None:
    await bury(connection, [letter(1)], NOON)
    await retries.retry(connection, [letter(1).dead_letter_id], "cli:test")
    await dead_letters.bury(connection, [letter(1)])
    assert await connection.fetchval("SELECT sum(records) FROM dead_letter_tallies") == 1


async def test_a_window_is_compared_with_the_same_time_a_day_before_or_right_before() -> None:
    assert WINDOW.before == Window(NOON - timedelta(days=1), NOON - timedelta(hours=23))
    week = Window(NOON, NOON + timedelta(days=7))
    assert week.before == Window(NOON - timedelta(days=7), NOON)


async def close(connection: Any, letters: list[DeadLetter], days: int) -> None:
    await dead_letters.bury(connection, letters)
    ids = [one.dead_letter_id for one in letters]
    half = len(ids) // 2
    await retries.retry(connection, ids[:half], "cli:test")
    await retries.discard(connection, ids[half:], "cli:test", "no use")
    await connection.execute(
        "UPDATE dead_letters SET closed_at = now() - make_interval(days => $2) WHERE dead_letter_id = ANY($1)",
        ids,
        days,
    )


async def test_closed_ones_go_after_their_time_and_open_ones_never(connection: Any) -> None:
    await close(connection, [letter(n) for n in range(5000)], days=91)
    await close(connection, [letter(n) for n in range(5000, 5010)], days=89)
    await dead_letters.bury(connection, [letter(n) for n in range(6000, 6007)])
    await connection.execute(
        "UPDATE dead_letters SET last_seen = now() - interval '1000 days' WHERE state = 'open'"
    )
    await connection.execute(
        "UPDATE dead_letter_tallies SET at = now() - interval '91 days' WHERE records > 100"
    )
    old = await retries.old(connection, 90)
    assert [one[:2] for one in old] == [("discarded", 2500), ("retried", 2500)]
    assert await let_go(connection, 90) == 5000
    left = await connection.fetch("SELECT state, count(*) FROM dead_letters GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in left] == [("discarded", 5), ("open", 7), ("retried", 5)]
    assert await connection.fetchval("SELECT count(*) FROM dead_letter_history") == 10
    assert await connection.fetchval("SELECT max(records) FROM dead_letter_tallies") == 10
    assert await let_go(connection, 90) == 0


async def test_a_process_lets_go_of_them_by_itself_until_it_is_stopped(
    database_url: str, connection: Any
) -> None:
    await close(connection, [letter(n) for n in range(4)], days=91)
    stop = asyncio.Event()
    async with await create_pool(database_url, min_size=1, max_size=2) as pool:
        daily = asyncio.create_task(let_go_daily(pool, 90, stop))
        async with asyncio.timeout(20):
            while await connection.fetchval("SELECT count(*) FROM dead_letters"):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
            stop.set()
            await daily


# ---------------------------------------------------------------- commands


@pytest.fixture
async def rapid(database_url: str, connection: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command and reads its JSON."""
    monkeypatch.setenv("RAPID_DATABASE_URL", database_url)

    async def run(*arguments: str) -> Any:
        done = await asyncio.to_thread(
            CliRunner().invoke, app, [*arguments, "--json"], catch_exceptions=False
        )
        return json.loads(done.stdout)

    return run


async def test_filters_choose_and_a_limit_takes_the_longest_waiting(connection: Any, rapid: Any) -> None:
    await dead_letters.bury(connection, [letter(n) for n in range(3)])
    await connection.execute(
        "UPDATE dead_letters SET last_seen = now() - interval '2 hours' * (\"offset\" + 1)"
    )
    await dead_letters.bury(connection, [letter(3, "not_json", field=None), letter(4, source="cpd")])
    chosen = {
        ("--reason", "not_json"): [3], ("--field", "point"): [4, 0, 1, 2], ("--source", "cpd"): [4],
        ("--since", "3h"): [4, 3, 0], ("--until", "3h"): [1, 2], ("--contains", '"number": 2'): [2],
        ("--topic", "issue-reports"): [], ("--limit", "2"): [4, 3],
    }  # fmt: skip
    for options, offsets in chosen.items():
        found = [one["offset"] for one in await rapid("list", *options)]
        assert sorted(found) == sorted(offsets), options
    (oldest,) = await retries.choose(connection, Wanted(), 1)
    assert oldest == letter(2).dead_letter_id
    assert await rapid("discard", "--until", "3h", "--why", "too old") == {"discarded": 2}
    assert await rapid("discard", "--untried", "--source", "cpd") == {"discarded": 1}
    assert len(await rapid("list", "--state", "any")) == 5
    shown = await rapid("show", str(letter(2).dead_letter_id))
    assert (shown["state"], shown["source"], shown["history"][0]["why"]) == ("discarded", "cad", "too old")


async def test_the_report_and_pruning_say_what_they_found(connection: Any, rapid: Any) -> None:
    await dead_letters.bury(connection, [letter(n) for n in range(6)])
    (cad,) = (await rapid("report"))["sources"]
    assert (cad["source"], cad["refused"], cad["share"], cad["bad"]) == ("cad", 6, 1.0, True)
    assert cad["reasons"][0]["example"] in {str(letter(n).dead_letter_id) for n in range(6)}
    await close(connection, [letter(9)], days=100)
    gone = await rapid("prune", "--dry-run")
    assert [(one["state"], one["letters"]) for one in gone["would_go"]] == [("discarded", 1)]
    assert await rapid("prune") == {"days": 90, "gone": 1}
