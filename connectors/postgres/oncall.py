"""Overrides of who is on call, in PostgreSQL. One that is cancelled held until then, if it had begun."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from connectors.postgres.pool import Connection
from schemas.oncall import Override

# When it ends, as things stand: an override that was cancelled ended then.
_ENDS: Final = "LEAST(until, cancelled_at)"
_COLUMNS: Final = f"""override_id, role, department, area, person, since, {_ENDS}, made_by, why, source,
  made_at, cancelled_at"""
_ADD: Final = f"""
INSERT INTO oncall_overrides (role, department, area, person, since, until, made_by, why, source)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {_COLUMNS}"""  # noqa: S608 - a constant
# Those that hold at some time of an interval.
_WITHIN: Final = f"""
SELECT {_COLUMNS} FROM oncall_overrides
WHERE since < $2 AND {_ENDS} > $1 AND since < {_ENDS} ORDER BY override_id"""  # noqa: S608 - a constant
_FIND: Final = f"SELECT {_COLUMNS} FROM oncall_overrides WHERE override_id = $1"  # noqa: S608 - a constant
# Those that are not over, or all; the newest first.
_LIST: Final = f"""
SELECT {_COLUMNS} FROM oncall_overrides
WHERE $1::timestamptz IS NULL OR ({_ENDS} > $1 AND since < {_ENDS})
ORDER BY override_id DESC LIMIT $2"""  # noqa: S608 - a constant
# The one that an event of a calendar is now.
_OF_SOURCE: Final = f"""
SELECT {_COLUMNS} FROM oncall_overrides
WHERE source = $1 AND role = $2 AND department IS NOT DISTINCT FROM $3 AND area IS NOT DISTINCT FROM $4
  AND cancelled_at IS NULL AND until > $5 ORDER BY override_id DESC LIMIT 1"""  # noqa: S608 - a constant
# Readers go on; who else imports or makes an override waits until the transaction ends.
_ALONE: Final = "LOCK TABLE oncall_overrides IN SHARE ROW EXCLUSIVE MODE"
# What is over or cancelled stays as it is.
_CANCEL: Final = """
UPDATE oncall_overrides SET cancelled_at = $2, cancelled_by = $3
WHERE override_id = $1 AND cancelled_at IS NULL AND until > $2"""


class New(NamedTuple):
    """An override to be made; its fields are those of schemas.oncall.Override."""

    role: str
    department: str | None
    area: int | None
    person: str | None
    since: datetime
    until: datetime
    by: str
    why: str
    source: str | None = None


class Stored(NamedTuple):
    """An override as it is kept, with everything that was said of it."""

    override_id: int
    role: str
    department: str | None
    area: int | None
    person: str | None
    since: datetime
    until: datetime  # when it ends, as things stand
    by: str
    why: str
    source: str | None
    made_at: datetime
    cancelled_at: datetime | None

    @property
    def holds(self) -> Override | None:
        """What it means for who is on call; None: nothing, it was cancelled before it began."""
        if self.since >= self.until:
            return None
        fields = self._asdict()
        del fields["source"], fields["cancelled_at"]
        return Override(**fields)


async def add(connection: Connection, new: New) -> Stored:
    """Keep a new override; it is the newest of all."""
    return _stored(await connection.fetchrow(_ADD, *new))


async def within(connection: Connection, since: datetime, until: datetime) -> tuple[Override, ...]:
    """The overrides that hold at some time in `[since, until)`, the oldest first."""
    found = [_stored(row).holds for row in await connection.fetch(_WITHIN, since, until)]
    return tuple(one for one in found if one is not None)


async def newest(connection: Connection, not_over_at: datetime | None, limit: int) -> list[Stored]:
    """The newest overrides first: those that are not over at that time; None: all, and the cancelled ones."""
    return [_stored(row) for row in await connection.fetch(_LIST, not_over_at, limit)]


async def find(connection: Connection, override_id: int) -> Stored | None:
    """The override with this number; None: there is none."""
    row = await connection.fetchrow(_FIND, override_id)
    return _stored(row) if row else None


async def alone(connection: Connection) -> None:
    """Nobody else changes overrides until the caller's transaction ends."""
    await connection.execute(_ALONE)


async def of_source(connection: Connection, new: New, now: datetime) -> Stored | None:
    """The override that was read from the same event of a calendar before; None: none that is not over."""
    row = await connection.fetchrow(_OF_SOURCE, new.source, new.role, new.department, new.area, now)
    return _stored(row) if row else None


async def cancel(connection: Connection, override_id: int, by: str, now: datetime) -> bool:
    """End an override. False: there is none, or it is over or cancelled already."""
    status: str = await connection.execute(_CANCEL, override_id, now, by)
    return status.endswith(" 1")


def _stored(row: Sequence[object]) -> Stored:
    return Stored(*row)  # type: ignore[arg-type]  # the columns are its fields, in their order
