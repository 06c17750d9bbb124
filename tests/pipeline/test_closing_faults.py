"""A response is closed exactly once whenever the process that closes it is killed."""

import asyncio
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from schemas.base import Point
from schemas.policy import Policy
from tests.pipeline.stream import Stream
from tests.pipeline.test_departments import AT, shooting

STEPS = 26
"""More than there are: so that the last ones are not reached, and nobody is killed."""
WINDOW = timedelta(days=45)
LIMIT_S = 240.0


async def test_a_response_is_closed_once_whichever_step_of_it_is_the_last(
    connection: Any, database_url: str, policy: Policy, areas: Any, tmp_path: Path
) -> None:
    stream = Stream(connection, policy, areas, now=AT + timedelta(hours=1))
    await stream.feed([
        shooting(f"ZZ{n}", point=Point(lat=41.70 + 0.008 * n, lon=-87.64), block=f"{n}00 W TEST ST")
        for n in range(STEPS)
    ])  # fmt: skip
    incidents = [
        str(row["incident_id"]) for row in await connection.fetch("SELECT incident_id FROM response_life")
    ]
    assert len(incidents) == STEPS
    await connection.execute("DELETE FROM feed; DELETE FROM outbox")
    now, published = AT + WINDOW + timedelta(days=1), tmp_path / "published"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.pipeline.closing", database_url, now.isoformat(), str(published), *incidents,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert process.returncode == 0, err.decode()[-2000:]
    killed = int(out.split()[-1])
    assert 15 <= killed < STEPS, killed
    closings = await connection.fetch(
        "SELECT response_id, count(*) AS lines FROM response_lines WHERE kind = 'closed' GROUP BY 1"
    )
    assert [row["lines"] for row in closings] == [1] * STEPS
    told = await connection.fetch("SELECT subject FROM feed WHERE kind = 'response'")
    assert Counter(row["subject"] for row in told) == Counter(str(row["response_id"]) for row in closings)
    events = Counter(published.read_text().splitlines())
    assert len(events) == STEPS
    assert max(events.values()) <= 2  # published and not settled: once more, under the same id
    assert await connection.fetchval("SELECT count(*) FROM timers WHERE kind = 'response'") == 0
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
