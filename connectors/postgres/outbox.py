"""The outbox: events that are committed with what caused them, until the broker has them.

With a durable broker a row is deleted at the broker's answer. A broker that keeps everything in memory may
forget what it acknowledged: there, the rows of topics that we read ourselves stay, with the place the broker
gave them, until the reader's fence has passed them.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import to_json

from connectors.delivery import Incarnations, Log, OutboxRow, Position
from connectors.errors import Permanent
from connectors.postgres.pool import Connection
from connectors.postgres.together import fetch_with_waiting
from schemas.envelope import Event, Headers, headers_of

MAX_EVENT_BYTES: Final = 1_000_000  # of value, key and headers; a broker's default limit is 1,048,588
SWEEP_ROWS: Final = 10_000
REPLACED_AT_LEAST_S: Final = 0.2  # the supervisor looks that often; starting and filling come on top

_ADD: Final = """
INSERT INTO outbox (source, topic, key, value, headers)
SELECT $1, e.topic, e.key, e.value, e.headers
FROM unnest($2::text[], $3::bytea[], $4::bytea[], $5::bytea[])
     WITH ORDINALITY AS e(topic, key, value, headers, n)
ORDER BY e.n RETURNING seq"""
_UNSENT: Final = """
SELECT seq, topic, key, value, headers FROM outbox
WHERE source = $1 AND sent_offset IS NULL ORDER BY seq LIMIT $2"""
_DELETE: Final = "DELETE FROM outbox WHERE seq = ANY($1::bigint[])"
_MARK: Final = """
UPDATE outbox SET sent_incarnation = s.incarnation, sent_partition = s.partition, sent_offset = s.sent_at
FROM unnest($1::bigint[], $2::text[], $3::int[], $4::bigint[]) AS s(seq, incarnation, partition, sent_at)
WHERE outbox.seq = s.seq AND outbox.sent_offset IS NULL"""
_GONE: Final = "WITH gone AS (DELETE FROM outbox WHERE seq = ANY($5::bigint[]))"
_SETTLE: Final = f"{_GONE} {_MARK}"  # both at once: one statement, one commit
_SWEEP: Final = """
DELETE FROM outbox WHERE seq IN (
  SELECT o.seq FROM fences f JOIN outbox o
    ON o.topic = f.topic AND o.sent_partition = f.partition AND o.sent_offset < f.next_offset
   AND o.sent_incarnation = f.incarnation
  WHERE f.consumer = $1 AND o.sent_offset IS NOT NULL
  LIMIT $2 FOR UPDATE OF o SKIP LOCKED)"""
_FORGET: Final = """
UPDATE outbox SET sent_incarnation = NULL, sent_partition = NULL, sent_offset = NULL
WHERE sent_offset IS NOT NULL AND NOT starts_with(sent_incarnation, $1)"""
_FORGET_OF_SOURCES: Final = f"{_FORGET} AND starts_with(source, $2)"
_FORGET_ROWS: Final = f"{_FORGET} AND seq = ANY($2::bigint[])"


async def add(connection: Connection, source: str, events: Sequence[Event]) -> list[int]:
    """Write events in this order, in the caller's transaction, and return their seqs, ascending."""
    return [row.seq for row in await add_rows(connection, source, events)]


async def add_rows(connection: Connection, source: str, events: Sequence[Event]) -> list[OutboxRow]:
    """Like `add`, but returns the rows, ready to be published once the transaction is committed.

    Raises Permanent when an event is larger than a broker takes: after the commit it would be too late.
    """
    if not events:
        return []
    at = datetime.now(UTC)
    rows = [OutboxRow(0, e.topic, e.key.encode(), e.value, headers_of(e, at)) for e in events]
    stored = [encode_headers(row.headers) for row in rows]
    for row, headers in zip(rows, stored, strict=True):
        _check_size(row, len(headers))
    seqs = await fetch_with_waiting(
        connection,
        _ADD,
        source,
        [row.topic for row in rows],
        [row.key for row in rows],
        [row.value for row in rows],
        stored,
    )
    return [row._replace(seq=seq["seq"]) for row, seq in zip(rows, seqs, strict=True)]


def _check_size(row: OutboxRow, header_bytes: int) -> None:
    size = len(row.key) + len(row.value) + header_bytes
    if size > MAX_EVENT_BYTES:
        raise Permanent(f"an event for {row.topic} has {size} bytes, a broker takes {MAX_EVENT_BYTES}")


async def unsent(connection: Connection, source: str, limit: int | None = None) -> list[OutboxRow]:
    """What this source committed and nobody has published, by seq; at most `limit` rows, None for all."""
    return [
        OutboxRow(row["seq"], row["topic"], row["key"], row["value"], decode_headers(row["headers"]))
        for row in await connection.fetch(_UNSENT, source, limit)
    ]


async def delete(connection: Connection, seqs: Iterable[int]) -> None:
    """Forget rows that a durable broker has, or that nobody of us reads."""
    await connection.execute(_DELETE, list(seqs))


async def mark_sent(connection: Connection, sent: Sequence[tuple[int, str, Position]]) -> None:
    """Note where the broker put rows that stay: (seq, incarnation of the topic, position)."""
    await connection.execute(_MARK, *_columns(sent))


def _columns(sent: Sequence[tuple[int, str, Position]]) -> tuple[list[Any], ...]:
    return (
        [seq for seq, _, _ in sent],
        [incarnation for _, incarnation, _ in sent],
        [position.partition for _, _, position in sent],
        [position.offset for _, _, position in sent],
    )


async def settle(
    connection: Connection,
    rows: Sequence[OutboxRow],
    positions: Sequence[Position],
    incarnations: Mapping[str, str],
) -> None:
    """Note the broker's answers. Rows of the topics in `incarnations` are kept until they are consumed.

    A kept row whose offset the broker did not tell stays unsent: it is published again some time.
    """
    gone = [row.seq for row in rows if row.topic not in incarnations]
    kept = [
        (row.seq, incarnations[row.topic], position)
        for row, position in zip(rows, positions, strict=True)
        if row.topic in incarnations and position.offset >= 0
    ]
    if gone and kept:
        await connection.execute(_SETTLE, *_columns(kept), gone)
    elif gone:
        await delete(connection, gone)
    elif kept:
        await mark_sent(connection, kept)


async def sweep(connection: Connection, consumer: str) -> int:
    """Delete kept rows that the consumer's fences have passed, some thousands at a time; how many it were."""
    status: str = await connection.execute(_SWEEP, consumer, SWEEP_ROWS)
    return int(status.rpartition(" ")[2])


async def forget_other_boots(connection: Connection, cluster_id: str, prefix: str) -> None:
    """Forget that rows were sent to brokers that are no more; of the sources whose name starts so, "" for all."""
    await connection.execute(_FORGET_OF_SOURCES, f"{cluster_id}/", prefix)


async def incarnations(log: Log, rows: Sequence[OutboxRow], keep: frozenset[str]) -> Incarnations:
    """The incarnations of the topics whose rows are kept. To be asked before the rows are published: asked
    later, it may be a new broker that answers, which does not have them. Raises Transient.
    """
    asked_s = time.monotonic()
    found = Incarnations()
    for topic in sorted({row.topic for row in rows} & keep):
        found[topic] = await log.incarnation(topic)
    found.asked_s = asked_s
    return found


async def settle_if_same(
    connection: Connection,
    log: Log,
    rows: Sequence[OutboxRow],
    positions: Sequence[Position],
    incarnations: Incarnations,
) -> bool:
    """Like `settle`, outside of a transaction. False: the broker was replaced, publish the rows again.

    Whoever fills the new broker publishes what is unsent by then. So we look at the broker after our note is
    committed, and take it back if it came too late. Not when so little time has passed since we asked that no
    broker can have been replaced and filled meanwhile. Raises Transient.
    """
    await settle(connection, rows, positions, incarnations)
    if not incarnations or time.monotonic() - incarnations.asked_s < REPLACED_AT_LEAST_S:
        return True
    beginning = f"{await log.cluster_id()}/"
    if all(incarnation.startswith(beginning) for incarnation in incarnations.values()):
        return True
    await connection.execute(_FORGET_ROWS, beginning, [row.seq for row in rows])
    return False


def encode_headers(headers: Headers) -> bytes:
    """Headers as a JSON array of [name, text]."""
    return to_json(headers)


def decode_headers(stored: bytes) -> Headers:
    """The inverse of `encode_headers`."""
    pairs: list[list[Any]] = json.loads(stored)
    return [(name, text.encode()) for name, text in pairs]
