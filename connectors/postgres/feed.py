"""The feed: everything that is told outside of Kafka, to be read by many, each at its own pace.

Rows are written in the transaction that decides them, so their numbers may become visible out of order. A
reader that went by `seq` alone would jump over a row whose transaction is still running. So rows are ordered by
(xid, seq), and only those are read whose transaction is older than every one that still runs: they are final.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from connectors.ports import Told
from connectors.postgres.pool import Connection
from connectors.postgres.together import later

_ADD: Final = """
INSERT INTO feed (audience, kind, subject, version, body)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])"""

# What is final after a cursor, the oldest first. An audience of NULL: every one.
_READ: Final = """
SELECT xid::text::bigint AS xid, seq, audience, kind, subject, version, body, recorded_at FROM feed
WHERE (xid, seq) > ($1::text::xid8, $2::bigint) AND xid < pg_snapshot_xmin(pg_current_snapshot())
  AND ($3::text IS NULL OR audience = $3)
ORDER BY xid, seq LIMIT $4"""

# Where the feed ends now: a reader that begins here is told of what comes.
_END: Final = """
SELECT xid::text::bigint AS xid, seq FROM feed WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid DESC, seq DESC LIMIT 1"""


class Cursor(NamedTuple):
    """A place in the feed; `str` gives what `Last-Event-ID` carries."""

    xid: int = 0
    seq: int = 0

    def __str__(self) -> str:
        return f"{self.xid}.{self.seq}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """The cursor of a text. Raises ValueError for any that `str` does not give."""
        xid, dot, seq = text.partition(".")
        digits = dot and xid.isascii() and seq.isascii() and xid.isdigit() and seq.isdigit()
        if not digits or len(xid) > 20 or int(xid) >= 2**63 or len(seq) > 19 or int(seq) >= 2**63:
            raise ValueError("a cursor is two numbers with a dot between, as this feed gave it")
        return cls(int(xid), int(seq))


class FeedRow(NamedTuple):
    """One row: its place, and what is told to whom."""

    cursor: Cursor
    told: Told


async def add(connection: Connection, rows: Sequence[Told]) -> None:
    """Write rows in the caller's transaction."""
    if rows:
        await later(connection, _ADD, *(list(column) for column in zip(*rows, strict=True)))


async def read(connection: Connection, after: Cursor, audience: str | None, limit: int) -> list[FeedRow]:
    """What is final after a cursor, the oldest first; `audience`: a department, "" for supervisors, None for all."""
    rows = await connection.fetch(_READ, str(after.xid), after.seq, audience, limit)
    return [
        FeedRow(
            Cursor(row["xid"], row["seq"]),
            Told(row["audience"], row["kind"], row["subject"], row["version"], row["body"]),
        )
        for row in rows
    ]


async def end(connection: Connection) -> Cursor:
    """The last final row's place; the beginning when there is none."""
    row = await connection.fetchrow(_END)
    return Cursor(row["xid"], row["seq"]) if row else Cursor()
