"""How far the portal's datasets are read, what was taken from them, and where they are not what they were."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from connectors.portal.answers import Validators
from connectors.portal.query import Position
from connectors.postgres.pool import Connection

# Take a dataset over: from now on no other process can accept a page of it.
_BEGIN: Final = """
INSERT INTO portal_marks AS m (dataset, pass) VALUES ($1, 1)
ON CONFLICT (dataset) DO UPDATE SET pass = m.pass + 1, pages = 0, recorded_at = now()
RETURNING *"""

# Move on by one page, if the dataset is still ours and stands where we left it.
_MOVE: Final = """
UPDATE portal_marks SET pages = pages + 1, at = $4, row_id = $5, mark = greatest(mark, $6), seeing = $7,
  under_way = NOT $8, seen = CASE WHEN $8 THEN $7 ELSE seen END, gone = $9, gone_at = $10,
  failures = CASE WHEN $8 THEN 0 ELSE failures END, problem = CASE WHEN $8 THEN NULL ELSE problem END,
  succeeded_at = CASE WHEN $8 THEN now() ELSE succeeded_at END, recorded_at = now()
WHERE dataset = $1 AND pass = $2 AND pages = $3
RETURNING mark"""

# The pass is over: nothing was new.
_UNCHANGED: Final = """
UPDATE portal_marks SET under_way = false, failures = 0, problem = NULL, succeeded_at = now(), recorded_at = now()
WHERE dataset = $1 AND pass = $2"""

# Keep what went wrong; the pass stays where it is.
_FAILED: Final = """
UPDATE portal_marks SET failures = failures + 1, problem = $2, problem_at = now(), recorded_at = now()
WHERE dataset = $1"""

_STANDS: Final = "SELECT pass, pages FROM portal_marks WHERE dataset = $1"

# Which of these we have never seen; from now on we have.
_REMEMBER: Final = """
INSERT INTO portal_known (id) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING RETURNING id"""

# Keep findings, and say which are new.
_FIND: Final = """
INSERT INTO portal_findings (dataset, kind, subject, sentence)
SELECT $1::text, * FROM unnest($2::text[], $3::text[], $4::text[])
ON CONFLICT (dataset, kind, subject) DO UPDATE SET last_seen = now(), sentence = excluded.sentence
RETURNING kind, subject, xmax = 0 AS is_new"""

# A column that is gone is no finding any more when it is back, and the other way round.
_OVER: Final = """
DELETE FROM portal_findings WHERE dataset = $1 AND kind = $2 AND subject = ANY($3::text[])"""


class Mark(NamedTuple):
    """Where a dataset stands as a pass begins. `under_way`: an earlier pass was not finished, and goes on at `at`."""

    pass_: int
    under_way: bool
    at: Position | None
    mark: datetime | None
    seen: Validators | None
    seeing: Validators | None
    gone: frozenset[str]
    gone_at: datetime | None


class Move(NamedTuple):
    """From one page of a pass to the next. `end`: None when the page was empty."""

    dataset: str
    pass_: int
    pages: int  # accepted before
    end: Position | None
    mark: datetime | None
    seeing: Validators | None
    finished: bool
    gone: Collection[str]
    gone_at: datetime | None


class Finding(NamedTuple):
    """Something about a dataset that is not as it was. `subject`: which column, or column = value."""

    kind: str
    subject: str
    sentence: str
    is_new: bool = False


async def begin(connection: Connection, dataset: str) -> Mark:
    """Begin a pass; whoever else is in one can accept nothing more."""
    row = await connection.fetchrow(_BEGIN, dataset)
    at = None if row["at"] is None else Position(row["at"], row["row_id"])
    return Mark(
        row["pass"], row["under_way"], at, row["mark"], _validators(row["seen"]), _validators(row["seeing"]),
        frozenset(row["gone"]), row["gone_at"],
    )  # fmt: skip


async def move(connection: Connection, to: Move) -> bool:
    """Whether the dataset was still ours, and now stands there."""
    row = await connection.fetchrow(
        _MOVE, to.dataset, to.pass_, to.pages, *_columns(to.end), to.mark, _text(to.seeing), to.finished,
        sorted(to.gone), to.gone_at,
    )  # fmt: skip
    return row is not None


async def stands_at(connection: Connection, dataset: str) -> tuple[int, int]:
    """The pass that has the dataset, and its accepted pages."""
    row = await connection.fetchrow(_STANDS, dataset)
    return row["pass"], row["pages"]


async def unchanged(connection: Connection, dataset: str, pass_: int) -> None:
    """The pass is over, nothing was new."""
    await connection.execute(_UNCHANGED, dataset, pass_)


async def failed(connection: Connection, dataset: str, sentence: str) -> None:
    """Keep what went wrong."""
    await connection.execute(_FAILED, dataset, sentence)


async def remember(connection: Connection, ids: Collection[UUID]) -> set[UUID]:
    """Which of these were never seen; in one order, so that two transactions wait for each other in the same one."""
    if not ids:
        return set()
    return {row["id"] for row in await connection.fetch(_REMEMBER, sorted(ids))}


async def find(connection: Connection, dataset: str, findings: Sequence[Finding]) -> list[Finding]:
    """Keep findings; the same, each with whether it is new."""
    if not findings:
        return []
    one_each = {one[:2]: one for one in findings}
    for kind, opposite in _OPPOSITES.items():
        over = [subject for of_kind, subject in one_each if of_kind == kind]
        await connection.execute(_OVER, dataset, opposite, over)
    kinds, subjects, sentences, _ = map(list, zip(*one_each.values(), strict=True))
    rows = await connection.fetch(_FIND, dataset, kinds, subjects, sentences)
    new = {(row["kind"], row["subject"]): row["is_new"] for row in rows}
    return [one._replace(is_new=new[named]) for named, one in one_each.items()]


_OPPOSITES: Final[Mapping[str, str]] = {"column_gone": "column_back", "column_back": "column_gone"}


def _columns(at: Position | None) -> tuple[Any, Any]:
    return (None, None) if at is None else (at.at, at.row_id)


def _text(validators: Validators | None) -> str | None:
    return None if validators is None else json.dumps(validators._asdict(), sort_keys=True)


def _validators(text: str | None) -> Validators | None:
    return None if text is None else Validators(**json.loads(text))
