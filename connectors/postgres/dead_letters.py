"""Dead letters: records that could not be used, kept until somebody mends or discards them.

A letter is known by its content. What somebody sent instead of the original is another content of the same letter
(`dead_letter_contents`): should it fail too, it is the same letter with one attempt more.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from pydantic_core import to_json

from connectors.postgres.pool import Connection
from schemas.dead_letter import DeadLetter

UNKNOWN: Final = "unknown"
"""The source of a letter that does not say who sent it."""

# Of which letters these contents are corrections.
_OWNERS: Final = """
SELECT content_id, dead_letter_id FROM dead_letter_contents WHERE content_id = ANY($1::uuid[])"""
# Those that are known, locked in one order, so that two transactions wait for each other in the same one.
_KNOWN: Final = """
SELECT dead_letter_id, state, sent_as FROM dead_letters WHERE dead_letter_id = ANY($1::uuid[])
ORDER BY dead_letter_id FOR UPDATE"""
_BURY: Final = """
INSERT INTO dead_letters
       (dead_letter_id, topic, partition, "offset", reason, field, expected, key, value, headers, source, seen)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::text[], $7::text[],
                     $8::bytea[], $9::bytea[], $10::bytea[], $11::text[], $12::bigint[])
ON CONFLICT (dead_letter_id) DO UPDATE
SET last_seen = now(), seen = dead_letters.seen + excluded.seen"""
# What was sent again and failed again is open, for the reason that it has now.
_REOPEN: Final = """
WITH back AS (
  UPDATE dead_letters AS d
  SET state = 'open', closed_at = NULL, reason = b.reason, field = b.field, expected = b.expected
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS b(id, reason, field, expected)
  WHERE d.dead_letter_id = b.id
  RETURNING d.dead_letter_id, d.attempts, d.reason, d.expected)
INSERT INTO dead_letter_history (dead_letter_id, what, attempt, reason, why)
SELECT dead_letter_id, 'failed_again', attempts, reason, expected FROM back ORDER BY dead_letter_id"""
_TALLY: Final = """
INSERT INTO dead_letter_tallies (source, topic, reason, records, example)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::uuid[])"""


class _Known(NamedTuple):
    state: str
    sent_as: UUID | None


async def bury(connection: Connection, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """Keep dead letters, in the caller's transaction; a known one is only seen again. Returns them in this order, each
    under the id of the letter that it is.

    One that was sent again and came back is open again. One that somebody discarded, or corrected otherwise since,
    stays as it is.
    """
    if not letters:
        return []
    owners = {row[0]: row[1] for row in await connection.fetch(_OWNERS, _ids(letters))}
    kept = [_owned(letter, owners) for letter in letters]
    unique = dict(sorted({one.dead_letter_id: one for one in kept}.items()))  # the last of each wins
    contents = {one.dead_letter_id: letter.dead_letter_id for one, letter in zip(kept, letters, strict=True)}
    known = {row[0]: _Known(row[1], row[2]) for row in await connection.fetch(_KNOWN, list(unique))}
    times = Counter(one.dead_letter_id for one in kept)
    columns = zip(*(_row(one, times[one.dead_letter_id]) for one in unique.values()), strict=True)
    await connection.execute(_BURY, *map(list, columns))
    back = [one for key, one in unique.items() if key in known and _came_back(known[key], contents[key])]
    await _reopen(connection, back)
    await _tally(connection, [one for one in kept if _is_news(known.get(one.dead_letter_id))])
    return kept


def source_of(letter: DeadLetter) -> str:
    """Who sent it, in a word."""
    return letter.source or UNKNOWN


def _ids(letters: Sequence[DeadLetter]) -> list[UUID]:
    return [letter.dead_letter_id for letter in letters]


def _owned(letter: DeadLetter, owners: Mapping[UUID, UUID]) -> DeadLetter:
    owner = owners.get(letter.dead_letter_id)
    return letter if owner is None else letter.model_copy(update={"dead_letter_id": owner})


def _came_back(known: _Known, content: UUID) -> bool:
    """Whether this is what was sent last: an earlier content that comes late is no news of the correction."""
    return known.state == "retried" and known.sent_as in (None, content)


def _is_news(known: _Known | None) -> bool:
    """Whether it counts as sent by its source: what we sent again ourselves does not."""
    return known is None or known.state != "retried"


async def _reopen(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    if letters:
        why = [(one.dead_letter_id, one.reason, one.field, one.expected) for one in letters]
        await connection.execute(_REOPEN, *map(list, zip(*why, strict=True)))


async def _tally(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    counts = Counter((source_of(one), one.topic, str(one.reason)) for one in letters)
    if counts:
        examples = {(source_of(one), one.topic, str(one.reason)): one.dead_letter_id for one in letters}
        rows = [(*key, count, examples[key]) for key, count in sorted(counts.items())]
        await connection.execute(_TALLY, *map(list, zip(*rows, strict=True)))


def _row(letter: DeadLetter, times: int) -> tuple[object, ...]:
    return (
        letter.dead_letter_id,
        letter.topic,
        letter.partition,
        letter.offset,
        letter.reason,
        letter.field,
        letter.expected,
        letter.key,
        letter.value,
        to_json(letter.headers),
        source_of(letter),
        times,
    )
