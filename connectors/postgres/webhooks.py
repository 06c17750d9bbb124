"""Webhook endpoints: what the courier reads and writes, and what the command line shows and changes.

The queue is the feed: an endpoint is a cursor in it. One clock rules leases and retries: the database's. A courier
that lost its lease changes nothing here: every write of it asks for `lease_holder`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from connectors.postgres import feed
from connectors.postgres.feed import Cursor
from connectors.postgres.pool import Connection
from connectors.webhooks.message import TYPES, Message, message_id
from connectors.webhooks.schedule import Answer, Failing, Step

_KINDS: Final = list(TYPES)
_FINAL: Final = "f.xid < pg_snapshot_xmin(pg_current_snapshot())"  # as in connectors/postgres/feed.py

# Lease the endpoints that are due and have something to send; those that others are just leasing are passed over.
_CLAIM: Final = f"""
WITH due AS (
  SELECT endpoint_id FROM webhook_endpoints e
  WHERE disabled_at IS NULL AND next_attempt_at <= now() AND lease_until <= now()
    AND (EXISTS (SELECT FROM feed f WHERE f.audience = e.audience AND (f.xid, f.seq) > (e.cursor_xid, e.cursor_seq)
                 AND {_FINAL} AND f.kind = ANY($4::text[]))
         OR EXISTS (SELECT FROM webhook_redeliveries r WHERE r.endpoint_id = e.endpoint_id))
  ORDER BY next_attempt_at LIMIT $3 FOR UPDATE SKIP LOCKED)
UPDATE webhook_endpoints e SET lease_holder = $1, lease_until = now() + make_interval(secs => $2)
FROM due WHERE e.endpoint_id = due.endpoint_id RETURNING e.endpoint_id"""  # noqa: S608 - of constants

# Renew the lease for one more attempt, and look at the endpoint as it is now.
_HOLD: Final = """
UPDATE webhook_endpoints SET lease_until = now() + make_interval(secs => $3)
WHERE endpoint_id = $1 AND lease_holder = $2 AND disabled_at IS NULL
RETURNING audience, url, secret, CASE WHEN previous_until > now() THEN previous_secret END AS previous_secret,
  cursor_xid::text AS cursor_xid, cursor_seq, failures, now() AS now,
  coalesce(extract(epoch FROM now() - failing_since), 0)::float8 AS failing_s"""

_LET_GO: Final = """
UPDATE webhook_endpoints SET lease_holder = NULL, lease_until = '-infinity'
WHERE endpoint_id = $1 AND lease_holder = $2"""

# The next message of an endpoint: the oldest after its cursor.
_PENDING: Final = f"""
SELECT f.xid::text::bigint AS xid, f.seq, f.kind, f.subject, f.version, f.body, f.recorded_at
FROM feed f WHERE f.audience = $1 AND (f.xid, f.seq) > ($2::text::xid8, $3::bigint) AND {_FINAL}
  AND f.kind = ANY($4::text[])
ORDER BY f.xid, f.seq LIMIT 1"""  # noqa: S608 - of constants

# The next message that is wanted once more.
_AGAIN: Final = """
SELECT r.redelivery_id, f.* FROM webhook_redeliveries r, LATERAL (
  SELECT f.xid::text::bigint AS xid, f.seq, f.kind, f.subject, f.version, f.body, f.recorded_at
  FROM feed f WHERE f.audience = $2 AND (f.xid, f.seq) > (r.after_xid, r.after_seq)
    AND (f.xid, f.seq) <= (r.until_xid, r.until_seq) AND f.kind = ANY($3::text[])
  ORDER BY f.xid, f.seq LIMIT 1) f
WHERE r.endpoint_id = $1 ORDER BY r.redelivery_id LIMIT 1"""

# Drop what is wanted once more and has all been sent.
_DONE_AGAIN: Final = """
DELETE FROM webhook_redeliveries r WHERE r.endpoint_id = $1 AND NOT EXISTS (
  SELECT FROM feed f WHERE f.audience = $2 AND (f.xid, f.seq) > (r.after_xid, r.after_seq)
    AND (f.xid, f.seq) <= (r.until_xid, r.until_seq) AND f.kind = ANY($3::text[]))"""

# A success: the endpoint is sound.
_SOUND: Final = """
UPDATE webhook_endpoints SET failures = 0, failing_since = NULL, next_attempt_at = now(), delivered_at = now()
WHERE endpoint_id = $1 AND lease_holder = $2 RETURNING failures"""

# Never backwards: somebody may have set the cursor on by hand meanwhile.
_ADVANCE: Final = """
UPDATE webhook_endpoints SET cursor_xid = $2::text::xid8, cursor_seq = $3
WHERE endpoint_id = $1 AND (cursor_xid, cursor_seq) < ($2::text::xid8, $3::bigint)"""

_ADVANCE_AGAIN: Final = """
UPDATE webhook_redeliveries SET after_xid = $2::text::xid8, after_seq = $3 WHERE redelivery_id = $1"""

# A failure: count it, let go of the endpoint until the next attempt, or for good.
_FAILED: Final = """
UPDATE webhook_endpoints
SET failures = failures + 1, failing_since = coalesce(failing_since, now()),
    next_attempt_at = now() + make_interval(secs => $3), lease_holder = NULL, lease_until = '-infinity',
    disabled_at = CASE WHEN $4::text IS NOT NULL THEN now() END, disabled_why = $4
WHERE endpoint_id = $1 AND lease_holder = $2 RETURNING audience"""

_LOG: Final = """
INSERT INTO webhook_deliveries (endpoint_id, message_id, xid, seq, type, subject, attempt, again, duration_ms, status,
                                rule, sentence)
VALUES ($1, $2, $3::text::xid8, $4, $5, $6, $7, $8, $9, $10, $11, $12)"""

_ALERT: Final = "INSERT INTO webhook_alerts (endpoint_id, audience, sentence) VALUES ($1, $2, $3)"

_RESOLVE: Final = """
UPDATE webhook_alerts SET resolved_at = now() WHERE endpoint_id = $1 AND resolved_at IS NULL"""

_OPEN_ALERTS: Final = """
SELECT endpoint_id, audience, raised_at, sentence FROM webhook_alerts WHERE resolved_at IS NULL ORDER BY alert_id"""

# Forget attempts that are older than so many days.
_PRUNE: Final = """
WITH gone AS (DELETE FROM webhook_deliveries WHERE at < now() - make_interval(secs => $1) RETURNING 1)
SELECT count(*) FROM gone"""

_ADD: Final = """
INSERT INTO webhook_endpoints (endpoint_id, audience, url, secret, cursor_xid, cursor_seq)
VALUES ($1, $2, $3, $4, $5::text::xid8, $6)"""

# All endpoints, or one, with how much waits (counted up to $2); never the secrets.
_LIST: Final = f"""
SELECT endpoint_id, audience, url, created_at, delivered_at, failures, failing_since, next_attempt_at, disabled_at,
  disabled_why, previous_until > now() AS rotating, lease_until > now() AS sending,
  (SELECT count(*) FROM (SELECT FROM feed f
     WHERE f.audience = e.audience AND (f.xid, f.seq) > (e.cursor_xid, e.cursor_seq) AND {_FINAL}
       AND f.kind = ANY($3::text[]) LIMIT $2) waiting) AS pending
FROM webhook_endpoints e WHERE $1::text IS NULL OR endpoint_id = $1
ORDER BY audience, created_at, endpoint_id"""  # noqa: S608 - of constants

_ATTEMPTS: Final = """
SELECT at, message_id, type, subject, attempt, again, duration_ms, status, rule, sentence
FROM webhook_deliveries WHERE endpoint_id = $1 ORDER BY delivery_id DESC LIMIT $2"""

_ROTATE: Final = """
UPDATE webhook_endpoints SET previous_secret = secret, previous_until = now() + make_interval(secs => $3),
  secret = $2 WHERE endpoint_id = $1 RETURNING previous_until"""

_DISABLE: Final = """
UPDATE webhook_endpoints SET disabled_at = coalesce(disabled_at, now()), disabled_why = coalesce(disabled_why, $2)
WHERE endpoint_id = $1 RETURNING audience"""

_ENABLE: Final = """
UPDATE webhook_endpoints SET disabled_at = NULL, disabled_why = NULL, failures = 0, failing_since = NULL,
  next_attempt_at = now() WHERE endpoint_id = $1 RETURNING audience"""

_REMOVE: Final = """
WITH gone AS (DELETE FROM webhook_endpoints WHERE endpoint_id = $1 RETURNING endpoint_id),
     again AS (DELETE FROM webhook_redeliveries r USING gone WHERE r.endpoint_id = gone.endpoint_id),
     attempts AS (DELETE FROM webhook_deliveries d USING gone WHERE d.endpoint_id = gone.endpoint_id)
SELECT count(*) FROM gone"""

# To sign with: only for `rapid webhooks test`.
_SIGNING: Final = """
SELECT url, secret, CASE WHEN previous_until > now() THEN previous_secret END AS previous_secret, now() AS now
FROM webhook_endpoints WHERE endpoint_id = $1"""

# Wanted once more: one message that the log knows.
_ONE_AGAIN: Final = """
INSERT INTO webhook_redeliveries (endpoint_id, after_xid, after_seq, until_xid, until_seq)
SELECT endpoint_id, xid, seq - 1, xid, seq FROM webhook_deliveries
WHERE endpoint_id = $1 AND message_id = $2 ORDER BY delivery_id DESC LIMIT 1 RETURNING 1"""

# Wanted once more: what was told from a time on and is behind the cursor; how many messages.
_SINCE_AGAIN: Final = """
WITH wanted AS (
  SELECT f.xid, f.seq FROM feed f JOIN webhook_endpoints e ON e.audience = f.audience
  WHERE e.endpoint_id = $1 AND (f.xid, f.seq) <= (e.cursor_xid, e.cursor_seq) AND f.recorded_at >= $2
    AND f.kind = ANY($3::text[])),
first AS (SELECT xid, seq FROM wanted ORDER BY xid, seq LIMIT 1),
last AS (SELECT xid, seq FROM wanted ORDER BY xid DESC, seq DESC LIMIT 1),
added AS (
  INSERT INTO webhook_redeliveries (endpoint_id, after_xid, after_seq, until_xid, until_seq)
  SELECT $1, first.xid, first.seq - 1, last.xid, last.seq FROM first, last)
SELECT count(*) FROM wanted"""

# Pass over the message that an endpoint would get next.
_SKIP_ONE: Final = f"""
UPDATE webhook_endpoints e SET cursor_xid = head.xid, cursor_seq = head.seq FROM (
  SELECT f.xid, f.seq FROM feed f JOIN webhook_endpoints e ON e.audience = f.audience
  WHERE e.endpoint_id = $1 AND (f.xid, f.seq) > (e.cursor_xid, e.cursor_seq) AND {_FINAL}
    AND f.kind = ANY($2::text[])
  ORDER BY f.xid, f.seq LIMIT 1) head
WHERE e.endpoint_id = $1 RETURNING head.xid::text::bigint AS xid, head.seq"""  # noqa: S608 - of constants


class Parcel(NamedTuple):
    """A message for an endpoint, ready to be signed and sent, and how the endpoint has fared so far."""

    endpoint_id: str
    url: str
    secrets: tuple[str, ...]  # the newest first
    message: Message
    redelivery_id: int | None  # None: it is the endpoint's next; else it is sent once more by hand
    failing: Failing
    now: datetime

    @property
    def message_id(self) -> str:
        return message_id(self.endpoint_id, self.message.xid, self.message.seq)


# -- the courier's


async def claim(connection: Connection, holder: str, lease_s: float, most: int) -> list[str]:
    """Lease up to `most` endpoints that have something to send now; their ids."""
    rows = await connection.fetch(_CLAIM, holder, lease_s, most, _KINDS)
    return [row["endpoint_id"] for row in rows]


async def next_parcel(connection: Connection, endpoint_id: str, holder: str, lease_s: float) -> Parcel | None:
    """Renew the lease and take what comes next: what is pending, then what is wanted once more.

    None when there is nothing, or when the endpoint is not this holder's any more.
    """
    held = await connection.fetchrow(_HOLD, endpoint_id, holder, lease_s)
    if held is None:
        return None
    row = await connection.fetchrow(
        _PENDING, held["audience"], held["cursor_xid"], held["cursor_seq"], _KINDS
    )
    again = None
    if row is None:
        row = again = await connection.fetchrow(_AGAIN, endpoint_id, held["audience"], _KINDS)
    if row is None:
        await connection.execute(_DONE_AGAIN, endpoint_id, held["audience"], _KINDS)
        return None
    return Parcel(
        endpoint_id, held["url"], _secrets(held), _message(row), again and again["redelivery_id"],
        Failing(held["failures"], held["failing_s"]), held["now"],
    )  # fmt: skip


async def let_go(connection: Connection, endpoint_id: str, holder: str) -> None:
    """End the lease, if it still is this holder's."""
    await connection.execute(_LET_GO, endpoint_id, holder)


async def record(connection: Connection, holder: str, parcel: Parcel, answer: Answer, step: Step) -> bool:
    """Write down what an attempt led to, in one transaction; whether the holder may go on with this endpoint."""
    async with connection.transaction():
        await _log(connection, parcel, answer, step)
        if step.rule != "delivered":
            await _fail(connection, holder, parcel, step)
            return False
        if await connection.fetchval(_SOUND, parcel.endpoint_id, holder) is None:
            return False
        place = (str(parcel.message.xid), parcel.message.seq)
        if parcel.redelivery_id is None:
            await connection.execute(_ADVANCE, parcel.endpoint_id, *place)
        else:
            await connection.execute(_ADVANCE_AGAIN, parcel.redelivery_id, *place)
        return True


async def prune(connection: Connection, older_than_s: float) -> int:
    """Drop attempts that are older; how many."""
    return int(await connection.fetchval(_PRUNE, older_than_s))


async def _fail(connection: Connection, holder: str, parcel: Parcel, step: Step) -> None:
    audience = await connection.fetchval(_FAILED, parcel.endpoint_id, holder, step.wait_s, step.disable)
    if audience is not None and step.disable:
        await connection.execute(_ALERT, parcel.endpoint_id, audience, step.disable)


async def _log(connection: Connection, parcel: Parcel, answer: Answer, step: Step) -> None:
    message = parcel.message
    await connection.execute(
        _LOG, parcel.endpoint_id, parcel.message_id, str(message.xid), message.seq, TYPES[message.kind],
        message.subject, parcel.failing.failures + 1, parcel.redelivery_id is not None, answer.duration_ms,
        answer.status, step.rule, answer.sentence,
    )  # fmt: skip


def _secrets(row: Any) -> tuple[str, ...]:
    return tuple(secret for secret in (row["secret"], row["previous_secret"]) if secret)


def _message(row: Any) -> Message:
    return Message(
        row["xid"], row["seq"], row["kind"], row["subject"], row["version"], row["body"], row["recorded_at"]
    )


# -- the operator's


async def add(
    connection: Connection, endpoint_id: str, audience: str, url: str, secret: str, *, from_start: bool
) -> None:
    """Register an endpoint. It gets what is told from now on, or everything from the feed's beginning."""
    cursor = Cursor() if from_start else await feed.end(connection)
    await connection.execute(_ADD, endpoint_id, audience, url, secret, str(cursor.xid), cursor.seq)


async def endpoints(connection: Connection, endpoint_id: str | None, most_pending: int) -> Sequence[Any]:
    """All endpoints, or the one, as rows without their secrets."""
    found: Sequence[Any] = await connection.fetch(_LIST, endpoint_id, most_pending, _KINDS)
    return found


async def attempts(connection: Connection, endpoint_id: str, limit: int) -> Sequence[Any]:
    """The latest attempts of an endpoint, the newest first."""
    found: Sequence[Any] = await connection.fetch(_ATTEMPTS, endpoint_id, limit)
    return found


async def open_alerts(connection: Connection) -> Sequence[Any]:
    """Endpoints that were disabled and nobody has enabled again: endpoint_id, audience, raised_at, sentence."""
    found: Sequence[Any] = await connection.fetch(_OPEN_ALERTS)
    return found


async def rotate(connection: Connection, endpoint_id: str, secret: str, overlap_s: float) -> datetime:
    """Sign with a new secret, and for `overlap_s` with the last one too; until when."""
    until: datetime = await connection.fetchval(_ROTATE, endpoint_id, secret, overlap_s)
    return until


async def disable(connection: Connection, endpoint_id: str, why: str) -> None:
    """Send nothing more until it is enabled; what is told meanwhile waits."""
    await connection.execute(_DISABLE, endpoint_id, why)


async def enable(connection: Connection, endpoint_id: str) -> None:
    """Go on at the cursor, at once; its alerts are resolved."""
    await connection.execute(_ENABLE, endpoint_id)
    await connection.execute(_RESOLVE, endpoint_id)


async def skip_to_now(connection: Connection, endpoint_id: str) -> None:
    """Pass over everything that waits."""
    cursor = await feed.end(connection)
    await connection.execute(_ADVANCE, endpoint_id, str(cursor.xid), cursor.seq)


async def skip_one(connection: Connection, endpoint_id: str) -> str | None:
    """Pass over the next message; its id, None when there is none."""
    row = await connection.fetchrow(_SKIP_ONE, endpoint_id, _KINDS)
    return message_id(endpoint_id, row["xid"], row["seq"]) if row else None


async def remove(connection: Connection, endpoint_id: str) -> None:
    """Forget an endpoint with its log; its alerts are resolved."""
    await connection.execute(_REMOVE, endpoint_id)
    await connection.execute(_RESOLVE, endpoint_id)


async def redeliver_one(connection: Connection, endpoint_id: str, wanted: str) -> bool:
    """Send one message again; whether the log knows it."""
    return await connection.fetchval(_ONE_AGAIN, endpoint_id, wanted) is not None


async def redeliver_since(connection: Connection, endpoint_id: str, since: datetime) -> int:
    """Send again what was told since a time and has been passed already; how many messages."""
    return int(await connection.fetchval(_SINCE_AGAIN, endpoint_id, since, _KINDS))


class Signing(NamedTuple):
    """What a test message needs."""

    url: str
    secrets: tuple[str, ...]
    now: datetime


async def signing(connection: Connection, endpoint_id: str) -> Signing:
    """Where to and with what to sign, for a test."""
    row = await connection.fetchrow(_SIGNING, endpoint_id)
    return Signing(row["url"], _secrets(row), row["now"])
