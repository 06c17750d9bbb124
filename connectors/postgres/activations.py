"""What is in force since when: one append-only table for the policy and for the boundaries of areas.

The last row of each `what` holds. A version names what is kept elsewhere: a policy in `policies`, boundaries in the
tables of areas.
"""

from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from connectors.postgres import audit
from connectors.postgres.pool import Connection

What = Literal["policy", "areas"]

ITSELF: Final = "rapid"
"""Who activates at the start of a process, when nobody has."""

# Whoever activates comes after all others who do, until their transactions have ended: the order of `seq` is that in
# which they take effect.
_ONE_AT_A_TIME: Final = "SELECT pg_advisory_xact_lock(7214803554)"

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


async def activate(connection: Connection, new: New) -> Activation:
    """Add it, in the caller's transaction, and write it into the audit trail. Do it last: see `audit.write`.

    Every process follows within a second of the commit.
    """
    await wait_for_turn(connection)
    before = await latest(connection, new.what)
    added = Activation(*await connection.fetchrow(_ADD, *new))
    details = {"why": new.why, "before": before.version if before else None, "seq": added.seq}
    await audit.write(connection, [audit.Entry(new.by, f"{new.what}.activate", new.version, details=details)])
    return added


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
