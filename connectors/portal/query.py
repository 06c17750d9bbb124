"""What is asked of the portal: pure. SODA 2.1, https://dev.socrata.com/docs/queries/.

Pages are told by the last row of the one before, not by `$offset`: a row that is changed meanwhile moves to the end,
and every row behind it would come one place earlier, so that one at a border would be skipped. `:id` only breaks ties:
its order is the portal's own, and not that of its letters.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final, NamedTuple

ID: Final = ":id"
UPDATED_AT: Final = ":updated_at"


class Position(NamedTuple):
    """Where a pass stands: after this row; with no row, before all rows of that moment."""

    at: datetime
    row_id: str | None = None


class Query(NamedTuple):
    """One page."""

    columns: tuple[str, ...]
    after: Position | None
    limit: int

    def parameters(self) -> dict[str, str]:
        """As the URL's parameters."""
        asked = {
            "$select": ",".join((ID, UPDATED_AT, *self.columns)),
            "$order": f"{UPDATED_AT},{ID}",
            "$limit": str(self.limit),
        }
        return asked if self.after is None else asked | {"$where": _where(self.after)}


def query(columns: Collection[str], after: Position | None, limit: int) -> Query:
    """A page of so many rows at most. The columns are sorted: the same question is the same URL."""
    return Query(tuple(sorted(columns)), after, limit)


def _where(after: Position) -> str:
    at = soda_time(after.at)
    if after.row_id is None:
        return f"{UPDATED_AT} >= '{at}'"
    row_id = after.row_id.replace("'", "''")
    return f"{UPDATED_AT} > '{at}' OR ({UPDATED_AT} = '{at}' AND {ID} > '{row_id}')"


def soda_time(at: datetime) -> str:
    """`2025-12-03T21:13:26.123Z`; more digits only where there are some."""
    digits = "milliseconds" if at.microsecond % 1000 == 0 else "microseconds"
    return at.astimezone(UTC).isoformat(timespec=digits).replace("+00:00", "Z")
