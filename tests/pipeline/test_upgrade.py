"""A database of before the life of responses: what the migrations do for what is in it already."""

from datetime import timedelta
from typing import Any

import pytest

from connectors.postgres.migrate import MIGRATIONS
from schemas.policy import Policy
from tests.pipeline.stream import Stream
from tests.pipeline.test_departments import AT, shooting
from tests.pipeline.test_response_life import HOUR, kinds, life, summary
from tests.pipeline.test_updates import light

CATCH_UP = (MIGRATIONS / "0019_what_was_there_before.sql").read_text()

# As migration 0010 left a database: no response has been looked at, and no tally was kept.
BEFORE = """
DELETE FROM response_lines;
DELETE FROM response_life;
DELETE FROM timers WHERE kind = 'response';
UPDATE migrations SET applied_at = clock_timestamp() WHERE number = 16"""
LETTER = """
INSERT INTO dead_letters (dead_letter_id, topic, partition, "offset", reason, expected, source, recorded_at)
VALUES ('00000000-0000-0000-0000-000000000001', 'incident-reports', 0, 1, 'not_json', 'JSON', 'cad',
  (SELECT applied_at FROM migrations WHERE number = 16) + make_interval(secs => $1))"""
RESPONSE_TIMERS = "SELECT count(*) FROM timers WHERE kind = 'response'"


@pytest.fixture
async def stream(connection: Any, policy: Policy, areas: Any) -> Stream:
    """A shooting of before the upgrade, whose window is over by now."""
    made = Stream(connection, policy, areas, now=AT + HOUR)
    await made.feed([shooting("ZZ1"), light("SR1")])
    await connection.execute(BEFORE)
    return made


async def test_responses_of_before_are_looked_at_and_closed_once(stream: Stream) -> None:
    await stream.connection.execute(CATCH_UP)
    now = await stream.connection.fetchval("SELECT now()")
    await stream.wait(now + timedelta(days=90))
    assert await kinds(stream) == ["opened", "closed"]
    assert (await summary(stream)).orders > 0
    assert await stream.connection.fetchval(RESPONSE_TIMERS) == 0


async def test_who_has_a_life_already_is_left_alone(stream: Stream) -> None:
    await stream.connection.execute(CATCH_UP)
    await stream.wait(await stream.connection.fetchval("SELECT now()"))
    before, timers = await life(stream), await stream.connection.fetch("SELECT * FROM timers")
    await stream.connection.execute(CATCH_UP)
    assert await life(stream) == before
    assert await stream.connection.fetch("SELECT * FROM timers") == timers


async def test_what_never_was_a_response_does_not_wake_anybody_for_ever(stream: Stream) -> None:
    zones = """
    UPDATE responses SET body = jsonb_set(body::jsonb, '{zones,0,until}', body::jsonb #> '{zones,0,since}')::text"""
    await stream.connection.execute(zones)
    await stream.connection.execute(CATCH_UP)
    assert await stream.connection.fetchval(RESPONSE_TIMERS) == 1
    (timer,) = await stream.connection.fetch("SELECT * FROM timers WHERE kind = 'response'")
    await stream.nudge(timer, timer["due_at"])
    assert await kinds(stream) == []
    assert await stream.connection.fetchval(RESPONSE_TIMERS) == 0


@pytest.mark.parametrize(("seconds", "counted"), [(-60, 1), (60, 0)])
async def test_dead_letters_of_before_the_tallies_are_counted(
    stream: Stream, seconds: float, counted: int
) -> None:
    await stream.connection.execute(LETTER, seconds)
    await stream.connection.execute(CATCH_UP)
    tallied = await stream.connection.fetch("SELECT source, reason, records FROM dead_letter_tallies")
    assert [tuple(row) for row in tallied] == [("cad", "not_json", 1)] * counted
