"""What comes in over HTTP becomes durable here: events, answer and audit trail in one transaction.

request -> ONE transaction {outbox rows, Idempotency-Key with the answer, audit} -> 202 -> published
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from connectors.postgres import audit, outbox
from connectors.postgres.audit import Entry
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.pool import Connection
from schemas.envelope import Event

SOURCE: Final = "door/api"
"""All API processes write to one line of the outbox; one of them at a time publishes it, in order."""
KEPT_HOURS: Final = 24
KEPT_UPDATES_DAYS: Final = 90

# A key of the same caller that is being worked on belongs to a transaction that holds this lock.
_LOCK_KEY: Final = "SELECT pg_try_advisory_xact_lock($1)"
_ANSWERED: Final = """
SELECT digest, status, headers, body FROM idempotency_keys
WHERE principal = $1 AND key = $2 AND recorded_at > now() - make_interval(hours => $3)"""
_KEEP: Final = """
INSERT INTO idempotency_keys (principal, key, digest, status, headers, body)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (principal, key) DO UPDATE SET digest = excluded.digest, status = excluded.status,
  headers = excluded.headers, body = excluded.body, recorded_at = now()"""
_NOTE_UPDATE: Final = """
INSERT INTO submitted_updates (department, update_id, reference) VALUES ($1, $2, $3)
ON CONFLICT (department, update_id, reference) DO NOTHING"""
_FORGET_KEYS: Final = "DELETE FROM idempotency_keys WHERE recorded_at <= now() - make_interval(hours => $1)"
_FORGET_UPDATES: Final = (
    "DELETE FROM submitted_updates WHERE recorded_at <= now() - make_interval(days => $1)"
)


class Answer(NamedTuple):
    """How a request is answered, now and whenever it is repeated under the same key."""

    status: int
    headers: dict[str, str]
    body: str


class SubmittedUpdate(NamedTuple):
    """An update under way: who speaks, the sender's id of it, and the order; an id can be used at two orders."""

    department: str
    update_id: str
    reference: str


class Submission(NamedTuple):
    """Everything that one request changes, in one transaction. `digest`: of the request.

    `check`: may raise, and then nothing is changed; it is not asked again when the answer is known. `also`: more
    to write.
    """

    principal: str
    key: str | None
    digest: bytes
    events: Sequence[Event]
    answer: Answer
    entries: Sequence[Entry]
    updates: Sequence[SubmittedUpdate] = ()
    check: Callable[[Connection], Awaitable[None]] | None = None
    also: Callable[[Connection], Awaitable[None]] | None = None


class KeyReused(Exception):
    """The key was used for another request."""


class InFlight(Exception):
    """A request with this key is being worked on right now."""


class Submissions:
    """Accepts submissions. `wake`: tells who publishes that there is something to publish."""

    def __init__(self, ledger: PostgresLedger, wake: Callable[[], None] = lambda: None) -> None:
        self._ledger = ledger
        self._wake = wake

    async def submit(self, submission: Submission) -> Answer:
        """Make it durable, and return its answer; under a known key, the answer that was given then.

        Raises KeyReused, InFlight, Transient (nothing was changed, or nobody knows: send it again).
        """
        async with self._ledger.transaction() as connection:
            known = await _known_answer(connection, submission)
            if known is not None:
                return known
            await _write(connection, submission)
        self._wake()
        return submission.answer

    async def note(self, entry: Entry) -> None:
        """Put an attempt into the audit trail that changes nothing: one that is refused."""
        async with self._ledger.transaction() as connection:
            await audit.write(connection, [entry])

    async def forget_old(self) -> None:
        """Let go of keys and updates whose time is over."""
        async with self._ledger.connection() as connection:
            await connection.execute(_FORGET_KEYS, KEPT_HOURS)
            await connection.execute(_FORGET_UPDATES, KEPT_UPDATES_DAYS)


async def _write(connection: Connection, submission: Submission) -> None:
    if submission.check is not None:
        await submission.check(connection)
    await outbox.add_rows(connection, SOURCE, submission.events)
    for update in submission.updates:
        await connection.execute(_NOTE_UPDATE, *update)
    if submission.also is not None:
        await submission.also(connection)
    if submission.key is not None:
        answer = submission.answer
        await connection.execute(
            _KEEP, submission.principal, submission.key, submission.digest,
            answer.status, json.dumps(answer.headers), answer.body,
        )  # fmt: skip
    # last: the audit trail's head puts its writers in line, and nobody should wait there for long
    await audit.write(connection, submission.entries)


async def _known_answer(connection: Connection, submission: Submission) -> Answer | None:
    if submission.key is None:
        return None
    if not await connection.fetchval(_LOCK_KEY, lock_id(submission.principal, submission.key)):
        raise InFlight
    row = await connection.fetchrow(_ANSWERED, submission.principal, submission.key, KEPT_HOURS)
    if row is None:
        return None
    if row["digest"] != submission.digest:
        raise KeyReused
    return Answer(row["status"], json.loads(row["headers"]), row["body"])


def lock_id(principal: str, key: str) -> int:
    """The advisory lock of one caller's key."""
    digest = hashlib.sha256(f"idempotency\n{principal}\n{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def digest_of(*parts: bytes | str) -> bytes:
    """What tells two requests apart."""
    whole = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        whole.update(len(raw).to_bytes(8, "big"))
        whole.update(raw)
    return whole.digest()
