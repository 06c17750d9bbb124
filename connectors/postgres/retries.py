"""What a person does about dead letters: look, send again, correct, put away, let go of.

Each step is one transaction with its line in the letter's history; what goes out goes through the outbox, so a process
that is killed leaves nothing half done: what it wrote down is published by the next one.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from connectors.postgres.pool import Connection

SOURCE: Final = "door/retry"
"""How outbox rows name this door."""

_COLUMNS: Final = """
  dead_letter_id, topic, partition, "offset", reason, field, expected, key, value, state, recorded_at,
  last_seen, source, headers, seen, attempts, instead, instead_key"""
# Filters that are NULL choose everything.
_FITS: Final = """
  ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR topic = $2) AND ($3::text IS NULL OR reason = $3)
  AND ($4::text IS NULL OR field = $4) AND ($5::text IS NULL OR source = $5)
  AND ($6::timestamptz IS NULL OR last_seen >= $6) AND ($7::timestamptz IS NULL OR last_seen < $7)
  AND ($8::bytea IS NULL OR position($8 IN value) > 0) AND (NOT $9::bool OR attempts = 0)"""
# The latest first.
_LIST: Final = f"""
SELECT {_COLUMNS} FROM dead_letters WHERE {_FITS}
  AND ($11::timestamptz IS NULL OR (last_seen, dead_letter_id) < ($11, $12::uuid))
ORDER BY last_seen DESC, dead_letter_id DESC LIMIT $10"""  # noqa: S608 - constants
# The longest waiting first, as they are to be sent.
_CHOOSE: Final = f"""
SELECT dead_letter_id FROM dead_letters WHERE {_FITS} ORDER BY last_seen, dead_letter_id LIMIT $10"""  # noqa: S608 - constants
_OF_IDS: Final = f"""
SELECT {_COLUMNS} FROM dead_letters JOIN unnest($1::uuid[]) WITH ORDINALITY AS wanted(dead_letter_id, n)
  USING (dead_letter_id) ORDER BY n"""  # noqa: S608 - constants
_FIND: Final = f"""
SELECT {_COLUMNS} FROM dead_letters WHERE starts_with(dead_letter_id::text, $1)
ORDER BY dead_letter_id LIMIT 2"""  # noqa: S608 - constants
_HISTORY: Final = """
SELECT what, attempt, at, who, reason, why, value FROM dead_letter_history WHERE dead_letter_id = $1 ORDER BY seq"""

# What is kept whole, and may work as it is; or what somebody corrected.
_SENDABLE: Final = """
  (instead IS NOT NULL OR (
    value IS NOT NULL AND key <> '' AND reason NOT IN ('oversized', 'conflicting_content')
    AND (partition >= 0 OR reason = 'unknown_order')))"""
# Marked and written to the outbox with the headers that it had, in one statement: one without the other cannot be.
_SEND: Final = f"""
WITH locked AS (
  SELECT dead_letter_id FROM dead_letters
  WHERE dead_letter_id = ANY($1::uuid[]) AND state = 'open' AND {_SENDABLE} ORDER BY dead_letter_id FOR UPDATE),
sent AS (
  UPDATE dead_letters AS d
  SET state = 'retried', closed_at = now(), attempts = attempts + 1,
      sent_as = CASE WHEN instead IS NULL THEN d.dead_letter_id ELSE sent_as END
  FROM locked WHERE d.dead_letter_id = locked.dead_letter_id
  RETURNING d.dead_letter_id, topic, coalesce(nullif(key, ''), instead_key) AS key, coalesce(instead, value) AS value,
            headers, attempts, reason, last_seen),
told AS (
  INSERT INTO dead_letter_history (dead_letter_id, what, attempt, who, reason)
  SELECT dead_letter_id, 'retried', attempts, $3, reason FROM sent ORDER BY last_seen, dead_letter_id)
INSERT INTO outbox (source, topic, key, value, headers)
SELECT $2, topic, key, value, headers FROM sent ORDER BY last_seen, dead_letter_id"""  # noqa: S608 - constants
# Whose this content is already: a letter's own, or a correction of one.
_WHOSE: Final = """
SELECT dead_letter_id FROM dead_letters WHERE dead_letter_id = $1
UNION SELECT dead_letter_id FROM dead_letter_contents WHERE content_id = $1"""
_NOTE_CONTENT: Final = """
INSERT INTO dead_letter_contents (content_id, dead_letter_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"""
_CORRECT: Final = """
WITH corrected AS (
  UPDATE dead_letters SET instead = $2, instead_key = $3, sent_as = $4, headers = $5
  WHERE dead_letter_id = $1 AND state = 'open'
  RETURNING dead_letter_id, attempts, reason)
INSERT INTO dead_letter_history (dead_letter_id, what, attempt, who, reason, value)
SELECT dead_letter_id, 'corrected', attempts + 1, $6, reason, $2 FROM corrected RETURNING dead_letter_id"""
# What is wrong with an open one by today's mapping.
_RETELL: Final = """
UPDATE dead_letters SET reason = $2, field = $3, expected = $4 WHERE dead_letter_id = $1 AND state = 'open'"""
# Locked in the order of `bury`, as above: two transactions wait for each other in the same one.
_DISCARD: Final = """
WITH locked AS (
  SELECT dead_letter_id FROM dead_letters
  WHERE dead_letter_id = ANY($1::uuid[]) AND state = 'open' ORDER BY dead_letter_id FOR UPDATE),
gone AS (
  UPDATE dead_letters AS d SET state = 'discarded', closed_at = now()
  FROM locked WHERE d.dead_letter_id = locked.dead_letter_id RETURNING d.dead_letter_id, attempts, reason)
INSERT INTO dead_letter_history (dead_letter_id, what, attempt, who, reason, why)
SELECT dead_letter_id, 'discarded', attempts, $2, reason, $3 FROM gone"""
_OLD: Final = """
SELECT state, count(*), min(closed_at) FROM dead_letters
WHERE state <> 'open' AND closed_at < now() - make_interval(days => $1) GROUP BY state ORDER BY state"""
# With their history; other processes that do the same take others. Open ones are never let go of.
_PRUNE: Final = """
DELETE FROM dead_letters WHERE dead_letter_id IN (
  SELECT dead_letter_id FROM dead_letters
  WHERE state <> 'open' AND closed_at < now() - make_interval(days => $1) LIMIT $2 FOR UPDATE SKIP LOCKED)"""
_PRUNE_TALLIES: Final = "DELETE FROM dead_letter_tallies WHERE at < now() - make_interval(days => $1)"


ROW: Final = "it was a row of a file or an element of a webhook: have it sent again mended, or say --value"


class Letter(NamedTuple):
    """One dead letter with its original bytes; `state`: open, retried or discarded. `instead`: what is sent in place of
    `value`, after a correction."""

    dead_letter_id: UUID
    topic: str
    partition: int
    offset: int
    reason: str
    field: str | None
    expected: str
    key: bytes | None
    value: bytes | None
    state: str
    first_seen: datetime
    last_seen: datetime
    source: str
    headers: bytes
    seen: int
    attempts: int
    instead: bytes | None
    instead_key: bytes | None
    today: str | None = None  # of a row or element: why it cannot be read again today

    @property
    def is_row(self) -> bool:
        """Whether it was never a record of a topic, but a row of a file or an element of a webhook, and still is."""
        return self.instead is None and self.partition < 0 and self.reason != "unknown_order"

    @property
    def hopeless(self) -> str | None:
        """Why it cannot work as it is kept, and what to do instead; None when it can be sent again. Like _SENDABLE."""
        return None if self.instead is not None else self._unusable

    @property
    def _unusable(self) -> str | None:
        if self.is_row:
            return self.today or ROW
        if self.reason == "conflicting_content":
            return "another report says otherwise under the same id and revision: have the sender send a later revision"
        if self.reason == "oversized":
            return "only its beginning is kept: have the sender send a smaller one"
        if self.value is None:
            return "nothing of it is kept: have the sender send it again, or say --value"
        if not self.key:
            return "it has no key: have the sender send it with one, or say --value"
        return None


class Wanted(NamedTuple):
    """Which letters; None: any. `since`, `until`: seen last in [since, until). `contains`: bytes of the original.
    `untried`: only those that were never sent again."""

    state: str | None = "open"
    topic: str | None = None
    reason: str | None = None
    field: str | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    contains: bytes | None = None
    untried: bool = False


class Place(NamedTuple):
    """Where a page of letters ended."""

    last_seen: datetime
    dead_letter_id: UUID


class Happened(NamedTuple):
    """A line of a letter's history. `who`: None is the stream itself. `value`: what was sent instead."""

    what: str
    attempt: int
    at: datetime
    who: str | None
    reason: str | None
    why: str | None
    value: bytes | None


class Correction(NamedTuple):
    """What is sent instead of a letter's own content. `content_id`: the id that this content has as a dead letter."""

    value: bytes
    key: bytes | None  # where the letter has none
    content_id: UUID
    headers: bytes


class Old(NamedTuple):
    """Closed letters whose time is over."""

    state: str
    letters: int
    oldest: datetime


async def list_letters(
    connection: Connection, wanted: Wanted, limit: int, after: Place | None = None
) -> list[Letter]:
    """The latest first."""
    place = after or (None, None)
    return [Letter(*row) for row in await connection.fetch(_LIST, *wanted, limit, *place)]


async def choose(connection: Connection, wanted: Wanted, limit: int) -> list[UUID]:
    """The ids of those that fit, the longest waiting first."""
    return [row[0] for row in await connection.fetch(_CHOOSE, *wanted, limit)]


async def letters_of(connection: Connection, ids: Sequence[UUID]) -> list[Letter]:
    """These, in this order, without those that are gone."""
    return [Letter(*row) for row in await connection.fetch(_OF_IDS, list(ids))]


async def find(connection: Connection, beginning: str) -> list[Letter]:
    """The letters whose id begins so, two at most: enough to see that it is not one."""
    return [Letter(*row) for row in await connection.fetch(_FIND, beginning)]


async def history(connection: Connection, dead_letter_id: UUID) -> list[Happened]:
    """What happened to it after it came, the oldest first."""
    return [Happened(*row) for row in await connection.fetch(_HISTORY, dead_letter_id)]


async def retry(connection: Connection, ids: Sequence[UUID], who: str) -> int:
    """Mark open letters as retried and write them to the outbox, addressed to the topic they came from, with the key
    and the headers that they had; returns how many. To be published afterwards, as `SOURCE`. The hopeless ones stay
    open."""
    status: str = await connection.execute(_SEND, list(ids), SOURCE, who)
    return int(status.rpartition(" ")[2])


async def whose(connection: Connection, content_id: UUID) -> UUID | None:
    """The letter that has this content, as its own or as a correction."""
    found: UUID | None = await connection.fetchval(_WHOSE, content_id)
    return found


async def correct(connection: Connection, dead_letter_id: UUID, new: Correction, who: str) -> bool:
    """Let an open letter be sent with another content from now on; the original is kept. To be followed by `retry`, in
    the same transaction. False: it is not open any more."""
    found = await connection.fetchval(
        _CORRECT, dead_letter_id, new.value, new.key, new.content_id, new.headers, who
    )
    if found is not None and new.content_id != dead_letter_id:
        await connection.execute(_NOTE_CONTENT, new.content_id, dead_letter_id)
    return found is not None


async def retell(connection: Connection, letter: Letter) -> None:
    """Keep what is wrong with an open letter as it was found by now."""
    await connection.execute(_RETELL, letter.dead_letter_id, letter.reason, letter.field, letter.expected)


async def discard(connection: Connection, ids: Sequence[UUID], who: str, why: str) -> int:
    """Put open letters away; they are kept, with who did it and why. Returns how many."""
    status: str = await connection.execute(_DISCARD, list(ids), who, why)
    return int(status.rpartition(" ")[2])


async def old(connection: Connection, days: int) -> list[Old]:
    """The closed letters that `prune` would let go of."""
    return [Old(*row) for row in await connection.fetch(_OLD, days)]


async def prune(connection: Connection, days: int, most: int) -> int:
    """Let go of letters that were closed so long ago, with their history; how many it were, `most` at a time."""
    status: str = await connection.execute(_PRUNE, days, most)
    return int(status.rpartition(" ")[2])


async def prune_tallies(connection: Connection, days: int) -> None:
    """Forget how many records could not be used so long ago."""
    await connection.execute(_PRUNE_TALLIES, days)
