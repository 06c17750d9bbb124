"""What a person does about dead letters: look, send again, put away."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from connectors.postgres.outbox import encode_headers
from connectors.postgres.pool import Connection

SOURCE: Final = "door/retry"
"""How outbox rows name this door."""

_LIST: Final = """
SELECT dead_letter_id, topic, partition, "offset", reason, field, expected, key, value, state, last_seen
FROM dead_letters
WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR topic = $2)
ORDER BY last_seen DESC, dead_letter_id LIMIT $3"""
_FIND: Final = """
SELECT dead_letter_id, topic, partition, "offset", reason, field, expected, key, value, state, last_seen
FROM dead_letters WHERE starts_with(dead_letter_id::text, $1)
ORDER BY dead_letter_id LIMIT 2"""
_CLOSE: Final = """
UPDATE dead_letters SET state = $2 WHERE dead_letter_id = ANY($1::uuid[]) AND state = 'open'
RETURNING dead_letter_id"""
_SEND: Final = """
WITH sent AS (
  UPDATE dead_letters SET state = 'retried'
  WHERE dead_letter_id = ANY($1::uuid[]) AND state = 'open'
    AND value IS NOT NULL AND key <> '' AND partition >= 0 AND reason <> 'oversized'
  RETURNING dead_letter_id, topic, key, value, last_seen)
INSERT INTO outbox (source, topic, key, value, headers)
SELECT $2, topic, key, value, $3 FROM sent ORDER BY last_seen, dead_letter_id"""


class Letter(NamedTuple):
    """One dead letter with its original bytes; `state`: open, retried or discarded."""

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
    last_seen: datetime

    @property
    def hopeless(self) -> str | None:
        """Why it cannot work as it is kept, and what to do instead; None when it can be sent again."""
        if self.partition < 0:
            return "it is a row of a file: mend the row in the file and replay it"
        if self.reason == "oversized":
            return "only its beginning is kept: have the sender send a smaller one"
        if self.value is None:
            return "nothing of it is kept: have the sender send it again"
        if not self.key:
            return "it has no key: have the sender send it with one"
        return None


async def list_letters(
    connection: Connection, state: str | None, topic: str | None, limit: int
) -> list[Letter]:
    """The latest first; None: any state, any topic."""
    return [Letter(*row) for row in await connection.fetch(_LIST, state, topic, limit)]


async def find(connection: Connection, beginning: str) -> list[Letter]:
    """The letters whose id begins so, two at most: enough to see that it is not one."""
    return [Letter(*row) for row in await connection.fetch(_FIND, beginning)]


async def retry(connection: Connection, ids: Sequence[UUID]) -> int:
    """Mark open letters as retried and write their original bytes to the outbox, addressed to the topic they
    came from; returns how many. To be published afterwards, as `SOURCE`. The hopeless ones stay open."""
    status: str = await connection.execute(_SEND, list(ids), SOURCE, encode_headers([]))
    return int(status.rpartition(" ")[2])


async def discard(connection: Connection, ids: Sequence[UUID]) -> int:
    """Put open letters away; they are kept. Returns how many."""
    return len(await connection.fetch(_CLOSE, list(ids), "discarded"))
