"""What is in force since when: one append-only table for the policy and for the boundaries of areas.

The last row of each `what` holds. A version names what is kept elsewhere: a policy in `policies`, boundaries in the
tables of areas.

Whoever decides does so in `deciding`, and looks at the newest number as its first statement: an activation waits for
such transactions that have begun, and those that begin later see it. So none that ends after it goes by an older one.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

import asyncpg

from connectors.errors import Transient
from connectors.postgres import audit
from connectors.postgres.pool import Connection

What = Literal["policy", "areas"]

ITSELF: Final = "rapid"
"""Who activates at the start of a process, when nobody has."""
WAIT_S: Final = 15.0
"""How long an activation waits for the batches at work."""

# Whoever activates comes after all others who do, until their transactions have ended: the order of `seq` is that in
# which they take effect.
_ONE_AT_A_TIME: Final = "SELECT pg_advisory_xact_lock(7214803554)"

# With BEGIN in one round trip. What is looked at afterwards is looked at after the lock was had.
_BEGIN_DECIDING: Final = "BEGIN; SELECT pg_advisory_xact_lock_shared(7214803555)"

# Those who decide wait behind it as long as it waits for others of them, so it waits for some seconds only: longer than
# sessions of a worker that stands still are kept (see `create_pool`). Nor may it stand still itself while it has it.
_NOT_FOR_EVER: Final = """
SELECT set_config('lock_timeout', $1, true), set_config('idle_in_transaction_session_timeout', '8s', true)"""
_AS_BEFORE: Final = "SET LOCAL lock_timeout TO DEFAULT"
_NOBODY_DECIDES: Final = "SELECT pg_advisory_xact_lock(7214803555)"

# The sessions of those who decide at this moment, the one that began first.
_WHO_DECIDES: Final = """
SELECT a.pid, coalesce(a.application_name, '') AS application_name,
  coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8 AS seconds
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.mode = 'ShareLock' AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32) | l.objid::bigint = 7214803555
ORDER BY a.xact_start LIMIT 1"""

_ADD: Final = """
INSERT INTO activations (what, version, by, why) VALUES ($1, $2, $3, $4)
RETURNING seq, what, version, at, by, why"""

_LATEST: Final = """
SELECT seq, what, version, at, by, why FROM activations WHERE what = $1 ORDER BY seq DESC LIMIT 1"""

# The one row of each `what` that holds; looked at every half second by every process.
_IN_FORCE: Final = "SELECT what, max(seq) AS seq FROM activations GROUP BY what"

_OF_SEQ: Final = "SELECT seq, what, version, at, by, why FROM activations WHERE seq = $1"

_HISTORY: Final = """
SELECT seq, what, version, at, by, why FROM activations WHERE what = $1 ORDER BY seq"""


class Activation(NamedTuple):
    """One row: since `at` this version holds, until the next of the same `what`."""

    seq: int
    what: What
    version: str
    at: datetime
    by: str
    why: str


class New(NamedTuple):
    """What somebody activates, and why. `by`: as the audit trail calls who it is."""

    what: What
    version: str
    by: str
    why: str


async def wait_for_turn(connection: Connection) -> None:
    """From here to the end of the transaction nobody else activates anything: look, judge, then `activate`."""
    await connection.execute(_ONE_AT_A_TIME)


async def activate(connection: Connection, new: New, wait_s: float = WAIT_S) -> Activation:
    """Add it, in the caller's transaction, and write it into the audit trail. Do it last: see `audit.write`, and nobody
    decides anything from here to the end of the transaction.

    Batches that begin after the commit are decided by it, everybody else follows within a second.
    Raises Transient when a batch does not come to its end.
    """
    await wait_for_turn(connection)
    await _wait_for_batches(connection, wait_s)
    before = await latest(connection, new.what)
    added = Activation(*await connection.fetchrow(_ADD, *new))
    details = {"why": new.why, "before": before.version if before else None, "seq": added.seq}
    await audit.write(connection, [audit.Entry(new.by, f"{new.what}.activate", new.version, details=details)])
    return added


async def _wait_for_batches(connection: Connection, wait_s: float) -> None:
    await connection.execute(_NOT_FOR_EVER, f"{wait_s * 1000:.0f}ms")
    try:
        async with connection.transaction():
            await connection.execute(_NOBODY_DECIDES)
        await connection.execute(_AS_BEFORE)
    except asyncpg.LockNotAvailableError as error:
        row = await connection.fetchrow(_WHO_DECIDES)
        raise Transient(_waited_in_vain(row, wait_s)) from error


def _waited_in_vain(row: Any, wait_s: float) -> str:
    who, how = "A worker", ""
    if row is not None:
        name = row["application_name"] or "no name"
        who = f"The database session {row['pid']} ({name}, its batch began {row['seconds']:.0f} s ago)"
        how = f" with `SELECT pg_terminate_backend({row['pid']})`"
    return (
        f"{who} is at work on a batch, and what is in force changes between batches only: nothing was activated "
        f"after {wait_s:.0f} s. Try again; if it stays so, end the worker or its session{how}: the batch is done again."
    )


@asynccontextmanager
async def deciding(connection: Connection) -> AsyncIterator[None]:
    """A transaction in which one decides by what is in force: nothing else is put in force until it ends.

    Look at the newest number first, in a statement of its own. It cannot be nested.
    """
    try:
        await connection.execute(_BEGIN_DECIDING)
        yield
    except BaseException:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")


async def latest(connection: Connection, what: What) -> Activation | None:
    """The one that holds; None: nothing was ever activated."""
    row = await connection.fetchrow(_LATEST, what)
    return Activation(*row) if row else None


async def of_seq(connection: Connection, seq: int) -> Activation | None:
    """The row of this number."""
    row = await connection.fetchrow(_OF_SEQ, seq)
    return Activation(*row) if row else None


async def history(connection: Connection, what: What) -> list[Activation]:
    """All of them, the first one first."""
    return [Activation(*row) for row in await connection.fetch(_HISTORY, what)]


async def marks(connection: Any) -> dict[str, int]:
    """The number of the row that holds, by `what`: cheap, and enough to see whether anything changed."""
    return {row["what"]: row["seq"] for row in await connection.fetch(_IN_FORCE)}
