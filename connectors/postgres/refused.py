"""How many records of whom could not be used, and why: so that a bad feed is seen the same hour."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from connectors.postgres.pool import Connection

A_DAY: Final = timedelta(days=1)

# Of each source and reason: records in [$1, $2), and in [$3, $4), the same length of time before. Both begin after $3.
_REFUSED: Final = """
WITH of_both AS (
  SELECT source, topic, reason,
         coalesce(sum(records) FILTER (WHERE at >= $1), 0)::bigint          AS records,
         coalesce(sum(records) FILTER (WHERE at < $4), 0)::bigint           AS before,
         min(at) FILTER (WHERE at >= $1)                                    AS first_at,
         max(at) FILTER (WHERE at >= $1)                                    AS last_at,
         (array_agg(example ORDER BY seq DESC) FILTER (WHERE at >= $1))[1]  AS example
  FROM dead_letter_tallies WHERE at >= $3 AND at < $2 GROUP BY source, topic, reason)
SELECT source, topic, reason, records, before, first_at, last_at, example FROM of_both WHERE records > 0
ORDER BY source, records DESC, topic, reason"""
# What came in and was new to us, of each source.
_ACCEPTED: Final = """
SELECT source, count(*) FROM incident_reports WHERE recorded_at >= $1 AND recorded_at < $2 GROUP BY 1
UNION ALL SELECT source, count(*) FROM issue_reports WHERE recorded_at >= $1 AND recorded_at < $2 GROUP BY 1
UNION ALL SELECT department, count(*) FROM order_ledger WHERE recorded_at >= $1 AND recorded_at < $2 GROUP BY 1"""


class Window(NamedTuple):
    """A time, and the one that it is compared with: as long, a day before, or right before if it is longer."""

    since: datetime
    until: datetime

    @property
    def before(self) -> "Window":
        shift = max(A_DAY, self.until - self.since)
        return Window(self.since - shift, self.until - shift)


class Why(NamedTuple):
    """Records of one source that one reason kept out. `before`: how many in the time that it is compared with."""

    topic: str
    reason: str
    records: int
    before: int
    first_at: datetime
    last_at: datetime
    example: UUID


class SourceReport(NamedTuple):
    """One source: what it sent that was new to us or could not be used. `bad`: so much was refused that somebody should
    look."""

    source: str
    refused: int
    accepted: int
    before: int
    bad: bool
    reasons: tuple[Why, ...]

    @property
    def share(self) -> float:
        """Of all that it sent, what was refused: 0 to 1."""
        return self.refused / (self.refused + self.accepted)


class Bad(NamedTuple):
    """From when on a source is bad: both must be reached."""

    share: float = 0.05
    records: int = 5


async def report(connection: Connection, window: Window, bad: Bad) -> list[SourceReport]:
    """Every source of which something was refused: the bad ones first, then the most refused."""
    rows = await connection.fetch(_REFUSED, *window, *window.before)
    reasons: dict[str, list[Why]] = defaultdict(list)
    for source, *why in rows:
        reasons[source].append(Why(*why))
    accepted: dict[str, int] = defaultdict(int)
    for source, count in await connection.fetch(_ACCEPTED, *window):
        accepted[source] += count
    found = [_of(source, reasons[source], accepted, bad) for source in reasons]
    return sorted(found, key=lambda one: (not one.bad, -one.refused, one.source))


def _of(source: str, reasons: Sequence[Why], accepted: Mapping[str, int], bad: Bad) -> SourceReport:
    refused = sum(why.records for why in reasons)
    before = sum(why.before for why in reasons)
    taken = accepted.get(source, 0)
    is_bad = refused >= bad.records and refused >= bad.share * (refused + taken)
    return SourceReport(source, refused, taken, before, is_bad, tuple(reasons))
