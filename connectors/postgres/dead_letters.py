"""Dead letters: records that could not be used, kept until somebody mends or discards them."""

from collections.abc import Sequence
from typing import Final

from connectors.postgres.pool import Connection
from schemas.dead_letter import DeadLetter

_BURY: Final = """
INSERT INTO dead_letters
       (dead_letter_id, topic, partition, "offset", reason, field, expected, key, value)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::text[], $7::text[],
                     $8::bytea[], $9::bytea[])
ON CONFLICT (dead_letter_id) DO UPDATE
SET last_seen = now(),
    state = CASE dead_letters.state WHEN 'retried' THEN 'open' ELSE dead_letters.state END"""


async def bury(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    """Keep dead letters, in the caller's transaction; a known one is only seen again.

    One that was retried is open again, one that somebody discarded stays discarded.
    """
    # unique in the statement, the last wins; sorted, so that two transactions lock in the same order
    unique = sorted({letter.dead_letter_id: letter for letter in letters}.items())
    if not unique:
        return
    columns = zip(*(_row(letter) for _, letter in unique), strict=True)
    await connection.execute(_BURY, *map(list, columns))


def _row(letter: DeadLetter) -> tuple[object, ...]:
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
    )
