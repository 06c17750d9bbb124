"""Fences: where each consumer stands in each partition, and the epoch of the worker that may move it.

Every transaction of the loop locks its fence first. A worker that lost its partition carries an older epoch
and changes nothing, however late it wakes up.
"""

from typing import Final, NamedTuple

import structlog

from connectors.delivery import Claim, FenceKey
from connectors.errors import Fenced
from connectors.postgres.pool import Connection

log = structlog.get_logger(__name__)

_INSERT: Final = """
INSERT INTO fences (consumer, topic, partition, incarnation, epoch, next_offset)
VALUES ($1, $2, $3, $4, 0, 0) ON CONFLICT DO NOTHING"""
_LOCK: Final = """
SELECT incarnation, epoch, next_offset FROM fences
WHERE consumer = $1 AND topic = $2 AND partition = $3 FOR UPDATE"""
_RAISE: Final = """
UPDATE fences SET incarnation = $4, epoch = $5, next_offset = $6, recorded_at = now()
WHERE consumer = $1 AND topic = $2 AND partition = $3"""
# Never back: what lies below the fence is applied. One statement, for it is part of every transaction; so it also looks
# what is in force by now.
_ADVANCE: Final = """
WITH stood AS (
  SELECT next_offset FROM fences
  WHERE consumer = $1 AND topic = $2 AND partition = $3 AND incarnation = $4 AND epoch = $5 FOR UPDATE)
UPDATE fences f SET next_offset = greatest(stood.next_offset, $6::bigint), recorded_at = now() FROM stood
WHERE f.consumer = $1 AND f.topic = $2 AND f.partition = $3
RETURNING stood.next_offset, (SELECT max(seq) FROM activations) AS in_force"""


class Stood(NamedTuple):
    """Where a fence stood, and the number of the newest activation (0: none) of the same moment."""

    next_offset: int
    in_force: int


async def claim(connection: Connection, key: FenceKey, incarnation: str) -> Claim:
    """Raise the epoch of a partition's fence, inside the caller's transaction.

    Another incarnation of the log has other records at the same offsets: its fence starts again at 0.
    """
    await connection.execute(_INSERT, *key, incarnation)
    row = await connection.fetchrow(_LOCK, *key)
    next_offset = row["next_offset"]
    if row["incarnation"] != incarnation:
        log.warning(
            "the log was replaced by a new one, starting a new fence at offset 0",
            topic=key.topic, partition=key.partition, incarnation=incarnation,
            was=row["incarnation"], was_next_offset=next_offset,
        )  # fmt: skip
        next_offset = 0
    claimed = Claim(key, incarnation, row["epoch"] + 1, next_offset)
    await connection.execute(_RAISE, *key, incarnation, claimed.epoch, next_offset)
    return claimed


async def restart(connection: Connection, claimed: Claim) -> Claim:
    """Put the fence back to offset 0: the log ends before it, so it is another log. Raises Fenced."""
    next_offset = (await advance(connection, claimed, 0)).next_offset
    log.error(
        "the log ends before the fence, so its records are not those that were applied; "
        "starting again at offset 0",
        topic=claimed.key.topic, partition=claimed.key.partition, was_next_offset=next_offset,
    )  # fmt: skip
    await connection.execute(_RAISE, *claimed.key, claimed.incarnation, claimed.epoch, 0)
    return claimed._replace(next_offset=0)


async def advance(connection: Connection, claimed: Claim, next_offset: int) -> Stood:
    """Lock the fence until the transaction ends, move it forward, and return where it stood.

    Raises Fenced when another worker has raised the epoch, or the fence is of another log.
    """
    stood = await connection.fetchrow(_ADVANCE, *claimed.key, claimed.incarnation, claimed.epoch, next_offset)
    if stood is None:
        row = await connection.fetchrow(_LOCK, *claimed.key)
        now_at = None if row is None else row["epoch"]
        raise Fenced(f"{claimed.key.source} is at epoch {now_at}, this worker has {claimed.epoch}")
    return Stood(stood["next_offset"], stood["in_force"] or 0)
