"""The audit trail: who did or tried what. Only ever added to, and chained, so that a change of it shows.

The hash of a row is the SHA-256 of the hash before it and of the row's canonical JSON: `seq` and `at`, then the rest
by name. Who can write to the
database could make a new chain from some row on; so write the head down elsewhere now and then, and let `verify`
compare it.
"""

import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from connectors.postgres.pool import Connection

Outcome = Literal["done", "refused"]

NOTHING: Final = bytes(32)
"""The hash before the first row."""
_HEAD_TEXT: Final = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")
MOST_CHARACTERS: Final = 300
MOST_DETAILS: Final = 10_000
PAGE_ROWS: Final = 1000

# The head's lock is held until the transaction ends, so that writers come one after the other.
_WRITE: Final = """
SELECT seq, hash FROM audit_write($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])"""
_HEAD: Final = "SELECT seq, hash FROM audit_head"
_CHAIN: Final = "SELECT seq, at, actor, action, subject, outcome, details, prev, hash FROM audit ORDER BY seq"
# The newest first. NULL: any.
_LIST: Final = """
SELECT seq, at, actor, action, subject, outcome, details, prev, hash FROM audit
WHERE ($1::text IS NULL OR actor = $1) AND ($2::text IS NULL OR subject = $2)
  AND ($3::timestamptz IS NULL OR at >= $3)
ORDER BY seq DESC LIMIT $4"""


class Entry(NamedTuple):
    """What somebody did, or tried. `details`: anything that JSON can hold; never a secret, never a person's name."""

    actor: str  # Principal.name, or "cli:<user>"
    action: str  # as in "keys.create", "orders.update"
    subject: str  # what it was done to: a reference, a key id
    outcome: Outcome = "done"
    details: Mapping[str, Any] = {}


class Head(NamedTuple):
    """The end of the chain: how many rows, and the hash of the last one. `str` gives what to write down."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> "Head":
        """The head of a text. Raises ValueError for any that `str` does not give."""
        matched = _HEAD_TEXT.fullmatch(text.strip())
        if matched is None:
            raise ValueError("a head is a number, a colon and 64 hexadecimal digits")
        return cls(int(matched[1]), bytes.fromhex(matched[2]))


class AuditRow(NamedTuple):
    """One row as it is kept; `details` is canonical JSON."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    outcome: str
    details: str
    prev: bytes
    hash: bytes

    def digest(self) -> bytes:
        """The hash that this content has after `prev`; as `audit_write` in the database computes it."""
        at = self.at.astimezone(UTC).isoformat(timespec="microseconds")
        rest = _content(self.actor, self.action, self.subject, self.outcome, self.details)
        return hashlib.sha256(self.prev + f'{{"seq":{self.seq},"at":"{at}",{rest}'.encode()).digest()


class Verdict(NamedTuple):
    """What a check of the chain found. `broken`: what is wrong with the first row that does not fit; None: nothing."""

    head: Head  # of the rows that are there
    broken: str | None = None


async def write(connection: Connection, entries: Sequence[Entry]) -> Head:
    """Add entries to the trail, in the caller's transaction; returns the new head.

    Do it last: until the transaction ends, everybody else who writes to the trail waits. It needs the isolation
    READ COMMITTED, which is PostgreSQL's default.
    """
    if not connection.is_in_transaction():
        raise ValueError("the trail is written in the transaction that does what it tells of")
    if not entries:
        return await head_of(connection)
    rows = [_row(entry) for entry in entries]
    return Head(*await connection.fetchrow(_WRITE, *(list(column) for column in zip(*rows, strict=True))))


def _row(entry: Entry) -> tuple[str, ...]:
    shown = (
        _text(entry.actor),
        _text(entry.action),
        _text(entry.subject),
        entry.outcome,
        _details(entry.details),
    )
    return (*shown, _content(*shown))


def _content(actor: str, action: str, subject: str, outcome: str, details: str) -> str:
    """A row's canonical JSON, from behind its time on."""
    content = {"actor": actor, "action": action, "subject": subject, "outcome": outcome, "details": details}
    return _canonical(content).removeprefix("{")


def _text(text: str) -> str:
    """Text of a bounded length without what PostgreSQL or a terminal cannot take; it may be a stranger's."""
    shown = "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text[:MOST_CHARACTERS])
    return shown[:MOST_CHARACTERS]


def _details(details: Mapping[str, Any]) -> str:
    """Canonical JSON of a bounded length."""
    text = _canonical(details)
    return text if len(text) <= MOST_DETAILS else _canonical({"left_out": f"{len(text)} characters"})


def _canonical(value: Mapping[str, Any]) -> str:
    """One text for one value; ASCII, so that no character is stored in another way than it was hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


async def head_of(connection: Connection) -> Head:
    """Where the chain ends."""
    return Head(*await connection.fetchrow(_HEAD))


async def verify(connection: Connection, expected: Head | None = None) -> Verdict:
    """Check the whole chain, a page at a time; `expected`: a head that was written down earlier."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        head = await head_of(connection)
        rows = connection.cursor(_CHAIN, prefetch=PAGE_ROWS)
        return await _verdict((AuditRow(*row) async for row in rows), head, expected)


async def _verdict(rows: AsyncIterator[AuditRow], head: Head, expected: Head | None) -> Verdict:
    last = Head(0, NOTHING)
    async for row in rows:
        wrong = _wrong(row, last, expected)
        if wrong:
            return Verdict(last, wrong)
        last = Head(row.seq, row.hash)
    return Verdict(last, _wrong_end(last, head, expected))


def _wrong(row: AuditRow, last: Head, expected: Head | None) -> str | None:
    """What is wrong with a row after the last good one; None: nothing."""
    if row.seq != last.seq + 1:
        return f"Row {last.seq + 1} is missing: after row {last.seq} comes row {row.seq}."
    if row.prev != last.hash:
        return f"Row {row.seq} does not follow the row before it: one of the two was put there or replaced."
    if row.hash != row.digest():
        return f"Row {row.seq} was changed: its content does not have its hash."
    if expected is not None and row.seq == expected.seq and row.hash != expected.hash:
        return f"Row {row.seq} is not the one that was expected: the chain was made anew up to there."
    return None


def _wrong_end(last: Head, head: Head, expected: Head | None) -> str | None:
    if last != head:
        return f"The end does not fit: the last row is {last.seq}, and {head.seq} were written."
    if expected is not None and last.seq < expected.seq:
        return f"The end is missing: the last row is {last.seq}, and {expected.seq} was expected."
    if expected is not None and expected.seq == 0 and expected.hash != NOTHING:
        return "The expected head is none of this trail: before the first row the hash is all zeros."
    return None


async def rows(
    connection: Connection, *, actor: str | None, subject: str | None, since: datetime | None, limit: int
) -> list[AuditRow]:
    """The newest rows first; None: any."""
    found = await connection.fetch(_LIST, actor, subject, since, limit)
    return [AuditRow(*row) for row in found]
