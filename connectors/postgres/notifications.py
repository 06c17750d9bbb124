"""Notifications: what is taken from the feed, what waits for whom, and what is sent as one message.

The feed is the queue of events. Taking an event and keeping what follows from it is one transaction, so nothing is
told twice or lost. A channel is leased by one courier at a time; leases go by the database's clock. When something is
due is compared with the `now` that the caller gives.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from connectors.notify.schedule import Answer, Step
from connectors.postgres.feed import Cursor
from connectors.postgres.policies import ACTIVE_FIRST
from connectors.postgres.pool import Connection
from schemas.notification import NOBODY, Bundle, Held, Item, Notification, Template, Waiting

ALERT: Final = "alert"  # the kind of the feed's rows that tell of alerts
MOST_STRANDED: Final = 1000
MOST_AT_ONCE: Final = 5000
"""Notifications that are made messages of at once."""

# -- taking events

# Where we are; nothing when another courier is just taking events.
_CURSOR: Final = "SELECT cursor_xid::text AS xid, cursor_seq AS seq FROM notify_cursor FOR UPDATE SKIP LOCKED"

# What supervisors are told after the cursor. Rows of other kinds are read too, to pass them over.
_NEXT: Final = """
SELECT xid::text::bigint AS xid, seq, CASE WHEN kind = $4 THEN body END AS body FROM feed
WHERE audience = '' AND (xid, seq) > ($1::text::xid8, $2::bigint) AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid, seq LIMIT $3"""

_ADVANCE: Final = "UPDATE notify_cursor SET cursor_xid = $1::text::xid8, cursor_seq = $2"

# What is kept of these alerts, so that nobody changes it before we are done.
_HELD: Final = """
SELECT subject, notification_id, person, channel, kind, state, perhaps OR under_way AS perhaps FROM notifications
WHERE subject = ANY($1::text[]) ORDER BY seq FOR UPDATE"""

_NOT_NEEDED: Final = """
UPDATE notifications n SET state = 'not_needed', why = m.why, ended_at = $3
FROM unnest($1::text[], $2::text[]) AS m(notification_id, why)
WHERE n.notification_id = m.notification_id AND n.state = 'waiting'"""

_KEEP: Final = """
INSERT INTO notifications (notification_id, subject, event_seq, person, channel, kind, level, reference, wait, due_at,
                           state, why, body, made_at, ended_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text, $12, $13, $14::timestamptz,
        CASE WHEN $11 <> 'waiting' THEN $14 END)
ON CONFLICT DO NOTHING RETURNING 1"""

_KNOW_CHANNELS: Final = """
INSERT INTO notify_channels (channel) SELECT DISTINCT unnest($1::text[]) ON CONFLICT DO NOTHING"""

_DEAD: Final = "SELECT channel FROM notify_channels WHERE dead_since IS NOT NULL ORDER BY channel"

# Try what is dead at once. Where nothing is due nothing would be tried, and whoever collects a digest there be passed
# over until then: it counts as working until the next attempt says otherwise, and is on probation: `dead_why` stays.
_TRY_DEAD: Final = """
UPDATE notify_channels c SET next_attempt_at = '-infinity', dead_since = CASE WHEN
  EXISTS (SELECT FROM notify_messages m WHERE m.channel = c.channel AND m.state = 'sending')
  OR EXISTS (SELECT FROM notifications n WHERE n.channel = c.channel AND n.state = 'waiting'
             AND n.message_id IS NULL AND n.due_at <= $1) THEN dead_since END
WHERE dead_since IS NOT NULL"""

_POLICY: Final = f"SELECT version FROM policies {ACTIVE_FIRST}"  # noqa: S608 - made of constants

# -- sending

# Lease channels that have something to send now; those that others are just leasing are passed over.
_CLAIM: Final = """
WITH due AS (
  SELECT channel FROM notify_channels c WHERE next_attempt_at <= $4 AND lease_until <= now()
    AND (EXISTS (SELECT FROM notify_messages m WHERE m.channel = c.channel AND m.state = 'sending')
         OR EXISTS (SELECT FROM notifications n WHERE n.channel = c.channel AND n.state = 'waiting'
                    AND n.message_id IS NULL AND n.due_at <= $4))
  ORDER BY next_attempt_at LIMIT $3 FOR UPDATE SKIP LOCKED)
UPDATE notify_channels c SET lease_holder = $1, lease_until = now() + make_interval(secs => $2)
FROM due WHERE c.channel = due.channel RETURNING c.channel"""

# Renew the lease for one more attempt, and look how the channel fares.
_HOLD: Final = """
UPDATE notify_channels SET lease_until = now() + make_interval(secs => $3)
WHERE channel = $1 AND lease_holder = $2 AND next_attempt_at <= $4
RETURNING failures, failing_since, dead_since, outages,
  dead_since IS NULL AND dead_why IS NOT NULL AS on_probation"""

_LET_GO: Final = """
UPDATE notify_channels SET lease_holder = NULL, lease_until = '-infinity' WHERE channel = $1 AND lease_holder = $2"""

# What is due on a channel, and what will be within the time in which messages gather: it goes with it.
_DUE: Final = """
SELECT notification_id, person, wait, due_at, rounds, body FROM notifications
WHERE channel = $1 AND state = 'waiting' AND message_id IS NULL
  AND (due_at <= $2 OR wait = 'gathering' AND due_at <= $3)
ORDER BY due_at, seq LIMIT $4 FOR UPDATE"""

_FORM: Final = """
INSERT INTO notify_messages (message_id, person, channel, template, due_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (message_id) DO UPDATE SET state = 'sending', ended_at = NULL"""
_JOIN: Final = "UPDATE notifications SET message_id = $1 WHERE notification_id = ANY($2::text[])"

# The message that is sent next.
_NEXT_MESSAGE: Final = """
SELECT message_id, person, template, due_at, attempts FROM notify_messages
WHERE channel = $1 AND state = 'sending' ORDER BY seq LIMIT 1 FOR UPDATE"""

# An attempt whose end was never written down may have arrived.
_FORGOTTEN: Final = (
    "UPDATE notifications SET perhaps = true, under_way = false WHERE message_id = $1 AND under_way"
)

_CONTENT: Final = """
UPDATE notifications SET under_way = true WHERE message_id = $1 AND state = 'waiting'
RETURNING seq, notification_id, person, wait, due_at, rounds, body"""

_BEGIN: Final = """
UPDATE notify_messages SET attempts = attempts + 1, tried_at = coalesce(tried_at, $2) WHERE message_id = $1"""

_END_MESSAGE: Final = "UPDATE notify_messages SET state = $2, ended_at = $3 WHERE message_id = $1"

# Also what was taken back while it was under way: it was sent.
_SENT: Final = """
UPDATE notifications SET state = 'sent', under_way = false, perhaps = false, why = NULL, ended_at = $2
WHERE message_id = $1 AND under_way"""

_NOT_SENT: Final = """
UPDATE notifications SET under_way = false, perhaps = perhaps OR $2::boolean,
  state = CASE WHEN state = 'waiting' AND $3::text IS NOT NULL THEN 'undeliverable' ELSE state END,
  why = CASE WHEN state = 'waiting' AND $3::text IS NOT NULL THEN $3 ELSE why END,
  ended_at = CASE WHEN state = 'waiting' AND $3::text IS NOT NULL THEN $4::timestamptz ELSE ended_at END
WHERE message_id = $1 AND under_way"""

_SOUND: Final = """
UPDATE notify_channels SET failures = 0, failing_since = NULL, next_attempt_at = '-infinity', delivered_at = $3,
  dead_since = NULL, dead_why = NULL WHERE channel = $1 AND lease_holder = $2 RETURNING channel"""

# A failure: count it, let go of the channel until the next attempt.
_FAILED: Final = """
UPDATE notify_channels SET failures = failures + 1, failing_since = coalesce(failing_since, $3::timestamptz),
  next_attempt_at = $3::timestamptz + make_interval(secs => $4), lease_holder = NULL, lease_until = '-infinity',
  dead_since = CASE WHEN $5::text IS NOT NULL THEN coalesce(dead_since, $3) ELSE dead_since END,
  dead_why = coalesce($5, dead_why),
  outages = outages + CASE WHEN $5::text IS NOT NULL AND dead_since IS NULL AND dead_why IS NULL THEN 1 ELSE 0 END
WHERE channel = $1 AND lease_holder = $2 RETURNING failing_since, outages"""

_LOG: Final = """
INSERT INTO notify_attempts (message_id, channel, person, attempt, duration_ms, rule, sentence)
VALUES ($1, $2, $3, $4, $5, $6, $7)"""

# Alerts of this channel (of one message; or all that wait) that reach their person over no other channel.
_STRANDED: Final = """
SELECT subject, event_seq, person, body FROM notifications n
WHERE channel = $1 AND kind = 'alert'
  AND (message_id = $2 AND state = 'undeliverable' OR $3::boolean AND state = 'waiting')
  AND NOT EXISTS (SELECT FROM notifications o LEFT JOIN notify_channels c ON c.channel = o.channel
    WHERE o.subject = n.subject AND o.event_seq = n.event_seq AND o.person = n.person AND o.channel <> n.channel
      AND (o.state = 'sent' OR o.state = 'waiting' AND c.dead_since IS NULL))
ORDER BY seq LIMIT $4"""

_WAITING_COUNT: Final = "SELECT count(*) FROM notifications WHERE channel = $1 AND state = 'waiting'"

# Forget attempts that are older than so many days.
_PRUNE: Final = """
WITH gone AS (DELETE FROM notify_attempts WHERE at < now() - make_interval(secs => $1) RETURNING 1)
SELECT count(*) FROM gone"""

# -- the operator's

_LIST: Final = """
SELECT n.notification_id, n.subject, n.event_seq, n.reference, n.person, n.channel, n.kind, n.level, n.state, n.wait,
  n.due_at, n.why, n.message_id, n.made_at, n.ended_at, coalesce(m.attempts, 0) AS attempts,
  (SELECT a.sentence FROM notify_attempts a WHERE a.message_id = n.message_id ORDER BY attempt_id DESC LIMIT 1)
    AS last_answer
FROM notifications n LEFT JOIN notify_messages m USING (message_id)
WHERE ($1::text IS NULL OR n.state = $1) AND ($2::text IS NULL OR n.channel = $2)
  AND ($3::text IS NULL OR n.person = $3)
ORDER BY n.seq DESC LIMIT $4"""

_CHANNELS: Final = """
SELECT channel, failures, failing_since, next_attempt_at, delivered_at, dead_since, dead_why,
  lease_until > now() AS sending,
  (SELECT count(*) FROM notifications n WHERE n.channel = c.channel AND n.state = 'waiting') AS waiting,
  (SELECT count(*) FROM notifications n WHERE n.channel = c.channel AND n.state = 'undeliverable') AS undeliverable
FROM notify_channels c ORDER BY channel"""

# Try once more what was given up; its channel is tried at once.
_AGAIN: Final = """
UPDATE notifications SET state = 'waiting', why = NULL, ended_at = NULL, message_id = NULL, rounds = rounds + 1,
  due_at = $2, wait = 'gathering'
WHERE notification_id = $1 AND state = 'undeliverable' AND channel <> $3 RETURNING channel"""
_NOW: Final = "UPDATE notify_channels SET next_attempt_at = '-infinity' WHERE channel = $1"
_STATE: Final = "SELECT state FROM notifications WHERE notification_id = $1"


class Health(NamedTuple):
    """How a channel fares. `on_probation`: it was dead and was given another chance, within the same outage."""

    failures: int
    failing_since: datetime | None
    dead_since: datetime | None
    outages: int
    on_probation: bool


class Parcel(NamedTuple):
    """A message that is to be sent now."""

    message_id: str
    channel: str
    person: str
    template: Template
    due_at: datetime
    attempt: int
    waiting: Sequence[Waiting]
    health: Health


class Ended(NamedTuple):
    """How an attempt ended, and what follows."""

    parcel: Parcel
    answer: Answer
    step: Step


class StrandedRow(NamedTuple):
    """An alert that reaches its person over no channel."""

    subject: str
    event_seq: int
    person: str
    item: Item


class Failure(NamedTuple):
    """What a failure did to its channel. `outage`: the number of the outage that it began, 0 when it began none."""

    failing_since: datetime
    outage: int


Form = Callable[[Sequence[Waiting]], Sequence[Bundle]]


# -- taking events


async def take(connection: Connection, limit: int) -> tuple[list[str], Cursor | None]:
    """The next alert events, as canonical JSON, and up to where the feed is read with them; None: there is nothing, or
    another one is at it. In the caller's transaction, which must `advance`."""
    held = await connection.fetchrow(_CURSOR)
    if held is None:
        return [], None
    rows = await connection.fetch(_NEXT, held["xid"], held["seq"], limit, ALERT)
    if not rows:
        return [], None
    return [row["body"] for row in rows if row["body"]], Cursor(rows[-1]["xid"], rows[-1]["seq"])


async def advance(connection: Connection, cursor: Cursor) -> None:
    """Note that everything up to here is taken."""
    await connection.execute(_ADVANCE, str(cursor.xid), cursor.seq)


async def held(connection: Connection, subjects: Sequence[str]) -> dict[str, dict[str, Held]]:
    """What is kept of these alerts, by alert and id."""
    found: dict[str, dict[str, Held]] = {}
    for row in await connection.fetch(_HELD, list(subjects)):
        one = Held(
            row["notification_id"], row["person"], row["channel"], row["kind"], row["state"], row["perhaps"]
        )
        found.setdefault(row["subject"], {})[one.notification_id] = one
    return found


async def keep(connection: Connection, made: Sequence[Notification], now: datetime) -> int:
    """Keep new notifications; those that are known already stay as they are. How many were new."""
    await connection.execute(_KNOW_CHANNELS, [one.channel for one in made if one.state == "waiting"])
    new = 0
    for one in made:
        new += bool(await connection.fetchval(
            _KEEP, one.notification_id, one.subject, one.event_seq, one.person, one.channel, one.item.kind,
            one.item.level, one.reference, one.wait, one.due_at, one.state, one.why, one.item.model_dump_json(), now,
        ))  # fmt: skip
    return new


async def take_back(connection: Connection, why: Mapping[str, str], now: datetime) -> None:
    """Note of notifications that wait that they are needed no more, and why."""
    if why:
        await connection.execute(_NOT_NEEDED, list(why), list(why.values()), now)


async def dead_channels(connection: Connection) -> frozenset[str]:
    """The channels that do not work, as far as we know."""
    return frozenset(row["channel"] for row in await connection.fetch(_DEAD))


async def try_dead(connection: Connection, now: datetime) -> None:
    """Give the dead channels another chance at once, whatever their next attempt was to be."""
    await connection.execute(_TRY_DEAD, now)


async def policy_version(connection: Connection) -> str | None:
    """The version of the policy that was stored last; None: none ever was."""
    found: str | None = await connection.fetchval(_POLICY)
    return found


# -- sending


async def claim(connection: Connection, holder: str, lease_s: float, most: int, now: datetime) -> list[str]:
    """Lease up to `most` channels that have something to send now."""
    rows = await connection.fetch(_CLAIM, holder, lease_s, most, now)
    return [row["channel"] for row in rows]


async def let_go(connection: Connection, channel: str, holder: str) -> None:
    """End the lease, if it is still this holder's."""
    await connection.execute(_LET_GO, channel, holder)


async def next_parcel(
    connection: Connection, channel: str, holder: str, *, lease_s: float, now: datetime, gathered: datetime,
    form: Form,
) -> Parcel | None:  # fmt: skip
    """Renew the lease and begin an attempt: of the message that waits longest, else of those that `form` makes of what
    is due. None: there is nothing, or the channel is not this holder's any more."""
    async with connection.transaction():
        row = await connection.fetchrow(_HOLD, channel, holder, lease_s, now)
        if row is None:
            return None
        health = Health(*row)
        while True:
            message = await connection.fetchrow(_NEXT_MESSAGE, channel)
            if message is None:
                if not await _form(connection, channel, now, gathered, form):
                    return None
                continue
            parcel = await _begin(connection, channel, message, health, now)
            if parcel is not None:
                return parcel


async def _form(connection: Connection, channel: str, now: datetime, gathered: datetime, form: Form) -> bool:
    """Make messages of what is due; whether there was anything."""
    rows = await connection.fetch(_DUE, channel, now, gathered, MOST_AT_ONCE)
    if not any(row["due_at"] <= now for row in rows):
        return False
    for bundle in form([_waiting(row) for row in rows]):
        first = min(one.due_at for one in bundle.waiting)
        await connection.execute(_FORM, bundle.message_id, bundle.person, channel, bundle.template, first)
        await connection.execute(_JOIN, bundle.message_id, [one.notification_id for one in bundle.waiting])
    return True


async def _begin(
    connection: Connection, channel: str, message: Any, health: Health, now: datetime
) -> Parcel | None:
    """Note that an attempt begins; None: nothing in the message is needed any more."""
    message_id = message["message_id"]
    await connection.execute(_FORGOTTEN, message_id)
    rows = sorted(await connection.fetch(_CONTENT, message_id), key=lambda row: int(row["seq"]))
    if not rows:
        await connection.execute(_END_MESSAGE, message_id, "not_needed", now)
        return None
    await connection.execute(_BEGIN, message_id, now)
    return Parcel(
        message_id, channel, message["person"], message["template"], message["due_at"],
        message["attempts"] + 1, [_waiting(row) for row in rows], health,
    )  # fmt: skip


def _waiting(row: Any) -> Waiting:
    item = Item.model_validate_json(row["body"])
    return Waiting(row["notification_id"], row["person"], row["wait"], row["due_at"], row["rounds"], item)


async def delivered(connection: Connection, holder: str, ended: Ended, now: datetime) -> bool:
    """Note that a message was delivered; whether the channel is still this holder's. In the caller's transaction."""
    parcel = ended.parcel
    await _log(connection, ended)
    await connection.execute(_SENT, parcel.message_id, now)
    await connection.execute(_END_MESSAGE, parcel.message_id, "sent", now)
    return await connection.fetchval(_SOUND, parcel.channel, holder, now) is not None


async def failed(connection: Connection, holder: str, ended: Ended, now: datetime) -> Failure | None:
    """Note that an attempt failed; None: the channel is not this holder's any more, who else has it notes its own. In
    the caller's transaction."""
    parcel, answer, step = ended
    await _log(connection, ended)
    row = await connection.fetchrow(_FAILED, parcel.channel, holder, now, step.wait_s, step.dead)
    if row is None:
        return None
    await connection.execute(
        _NOT_SENT, parcel.message_id, answer.ending == "unknown", step.undeliverable, now
    )
    if step.undeliverable is not None:
        await connection.execute(_END_MESSAGE, parcel.message_id, "undeliverable", now)
    began = step.dead is not None and parcel.health.dead_since is None
    return Failure(row["failing_since"], row["outages"] if began else 0)


async def stranded(connection: Connection, parcel: Parcel, *, dead: bool) -> list[StrandedRow]:
    """The alerts that reach their people over no channel: of this message, when it was given up, and when the channel
    has just died, of all that waits there."""
    rows = await connection.fetch(_STRANDED, parcel.channel, parcel.message_id, dead, MOST_STRANDED)
    return [
        StrandedRow(row["subject"], row["event_seq"], row["person"], Item.model_validate_json(row["body"]))
        for row in rows
    ]


async def waiting_count(connection: Connection, channel: str) -> int:
    """How many notifications wait for this channel."""
    return int(await connection.fetchval(_WAITING_COUNT, channel))


async def prune(connection: Connection, older_than_s: float) -> int:
    """Drop attempts that are older; how many."""
    return int(await connection.fetchval(_PRUNE, older_than_s))


async def _log(connection: Connection, ended: Ended) -> None:
    parcel, answer, step = ended
    await connection.execute(
        _LOG, parcel.message_id, parcel.channel, parcel.person, parcel.attempt, answer.duration_ms, step.rule,
        answer.sentence,
    )  # fmt: skip


# -- the operator's


async def listed(
    connection: Connection, state: str | None, channel: str | None, person: str | None, limit: int
) -> Sequence[Any]:
    """Notifications as rows, the newest first."""
    found: Sequence[Any] = await connection.fetch(_LIST, state, channel, person, limit)
    return found


async def channels(connection: Connection) -> Sequence[Any]:
    """All channels that were ever used, as rows."""
    found: Sequence[Any] = await connection.fetch(_CHANNELS)
    return found


async def again(connection: Connection, notification_id: str, now: datetime) -> str | None:
    """Try a notification once more that was given up. None: done; else what its state is ("undeliverable": there is
    nobody to tell), "" when it is unknown."""
    channel = await connection.fetchval(_AGAIN, notification_id, now, NOBODY)
    if channel is None:
        return await connection.fetchval(_STATE, notification_id) or ""
    await connection.execute(_NOW, channel)
    return None
