"""What the database holds that nobody else tells of: how much waits in the outbox and for how long."""

import time
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from connectors.postgres.outbox import decode_headers
from infra.watching import metrics as m
from infra.watching.metrics import Metrics
from schemas.envelope import header

# How many events wait, and the headers of the oldest: they say when it was committed.
WAITING: Final = """
WITH waiting AS (SELECT count(*) AS rows, min(seq) AS first FROM outbox WHERE sent_offset IS NULL)
SELECT rows, (SELECT headers FROM outbox WHERE seq = waiting.first) AS headers, now() AS now,
       (SELECT count(*) FROM dead_letters WHERE state = 'open') AS letters
FROM waiting"""


Ending = Literal["read", "unchanged", "failed"]
"""Of a pass over a source."""


class Waiting(NamedTuple):
    """Events in the outbox that are not published, the age of the oldest of them, and open dead letters."""

    rows: int
    age_s: float
    letters: int


async def waiting(connection: Any) -> Waiting:
    """As it is now, by the database's clock."""
    found = await connection.fetchrow(WAITING)
    age_s = _age_s(found["headers"], found["now"]) if found["headers"] else 0.0
    return Waiting(found["rows"], age_s, found["letters"])


def note_pass(metrics: Metrics, source: str, ending: Ending, rows: int) -> None:
    """A pass over a source has come to its end."""
    metrics.add(m.SOURCE_PASSES, 1, source, ending)
    metrics.add(m.SOURCE_ROWS, rows, source)
    if ending != "failed":
        metrics.set(m.SOURCE_LAST, time.time(), source)


async def note_waiting(metrics: Metrics, connection: Any) -> None:
    """The same as metrics."""
    found = await waiting(connection)
    metrics.set(m.OUTBOX_ROWS, found.rows)
    metrics.set(m.OUTBOX_AGE, found.age_s)
    metrics.set(m.OPEN_LETTERS, found.letters)


def _age_s(headers: bytes, now: datetime) -> float:
    """0 for a row that does not say when it was committed."""
    at = header(decode_headers(headers), "ce_time")
    try:
        committed = datetime.fromisoformat(at) if at else now
    except ValueError:
        committed = now
    committed = committed if committed.tzinfo else committed.replace(tzinfo=UTC)
    return max(0.0, (now - committed).total_seconds())
