"""What came of each source: files under way, counts by the hour, the last thing that went wrong."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from connectors.postgres.pool import Connection

Way = Literal["webhook", "folder", "rest", "portal", "replay"]
KEPT_DAYS: Final = 8
MOST_REFUSALS: Final = 1_000
"""Refused rows that a file's report names; all of them are dead letters."""

# Take a file over: from now on no other process can accept a row of it.
_BEGIN: Final = """
INSERT INTO source_files AS f (source, name, pass) VALUES ($1, $2, 1)
ON CONFLICT (source, name) DO UPDATE SET pass = f.pass + 1, recorded_at = now()
RETURNING pass, position, accepted, refused, skipped, refusals"""

# Move on by some rows, if the file is still ours and stands where we left it.
_MOVE: Final = """
UPDATE source_files SET position = $5, accepted = accepted + $6, refused = refused + $7, skipped = skipped + $8,
  refusals = refusals || $9::jsonb, recorded_at = now()
WHERE source = $1 AND name = $2 AND pass = $3 AND position = $4
RETURNING position"""

_STANDS: Final = "SELECT pass, position FROM source_files WHERE source = $1 AND name = $2"
_FINISH: Final = (
    "UPDATE source_files SET finished = true, recorded_at = now() WHERE source = $1 AND name = $2"
)

# Count what a source gave, in the caller's transaction.
_NOTE: Final = """
INSERT INTO source_hours AS h (source, way, hour, accepted, refused, newest, last_at)
VALUES ($1, $2, date_trunc('hour', now()), $3, $4, $5, now())
ON CONFLICT (source, way, hour) DO UPDATE
SET accepted = h.accepted + excluded.accepted, refused = h.refused + excluded.refused,
    newest = greatest(h.newest, excluded.newest), last_at = greatest(h.last_at, excluded.last_at)"""

_FAILED: Final = """
INSERT INTO source_problems (source, way, problem) VALUES ($1, $2, $3)
ON CONFLICT (source, way) DO UPDATE SET problem = excluded.problem, at = now()"""
_WELL: Final = "DELETE FROM source_problems WHERE source = $1 AND way = $2"

# Old hours, but for the last one of each source and way: it says when it was heard last.
_FORGET: Final = """
DELETE FROM source_hours AS h WHERE hour < now() - make_interval(days => $1) AND EXISTS (
  SELECT FROM source_hours AS later WHERE later.source = h.source AND later.way = h.way AND later.hour > h.hour)"""
_FORGET_FILES: Final = (
    "DELETE FROM source_files WHERE finished AND recorded_at < now() - make_interval(days => $1)"
)

# What each source gave through our own doors: in the last day, and when last.
_DOORS: Final = """
SELECT source, way, max(last_at) AS last_at, max(newest) AS newest,
  coalesce(sum(accepted) FILTER (WHERE hour > now() - interval '24 hours'), 0)::bigint AS accepted,
  coalesce(sum(refused) FILTER (WHERE hour > now() - interval '24 hours'), 0)::bigint AS refused
FROM source_hours GROUP BY source, way"""
_PROBLEMS: Final = "SELECT source, way, problem, at FROM source_problems"

# What intake has taken in lately, whichever way it came.
_TAKEN_IN: Final = """
SELECT source, $2::text AS topic, max(recorded_at) AS last_at, max(revised_at) AS newest,
  count(*) FILTER (WHERE recorded_at > now() - interval '24 hours') AS accepted
FROM {table} WHERE recorded_at > now() - make_interval(days => $1) GROUP BY source"""

# Records of the last day that intake could not use, by the source that their key names.
_TURNED_AWAY: Final = """
SELECT topic, split_part(encode(key, 'escape'), ':', 1) AS source, count(*) AS refused FROM dead_letters
WHERE key IS NOT NULL AND partition >= 0 AND topic = ANY($1::text[]) AND last_seen > now() - interval '24 hours'
GROUP BY 1, 2"""
_PORTAL: Final = """
SELECT m.dataset, m.mark, m.succeeded_at, m.problem, m.problem_at, count(f.subject) AS findings
FROM portal_marks AS m LEFT JOIN portal_findings AS f USING (dataset) GROUP BY m.dataset ORDER BY m.dataset"""
_UNDER_WAY: Final = """
SELECT source, count(*) AS files FROM source_files WHERE NOT finished GROUP BY source"""


class FileState(NamedTuple):
    """How far a file is taken in."""

    pass_: int
    position: int
    accepted: int
    refused: int
    skipped: int
    refusals: list[dict[str, Any]]


class FileMove(NamedTuple):
    """From one batch of a file's rows to the next."""

    source: str
    name: str
    pass_: int
    before: int
    after: int
    accepted: int
    refused: int
    skipped: int
    refusals: Sequence[Mapping[str, Any]]


class Note(NamedTuple):
    """What a source gave at once. `newest`: the newest revision among it."""

    source: str
    way: Way
    accepted: int
    refused: int
    newest: datetime | None = None


async def begin_file(connection: Connection, source: str, name: str) -> FileState:
    """Take a file over; whoever else reads it can accept nothing more."""
    row = await connection.fetchrow(_BEGIN, source, name)
    return FileState(
        row["pass"],
        row["position"],
        row["accepted"],
        row["refused"],
        row["skipped"],
        json.loads(row["refusals"]),
    )


async def move_file(connection: Connection, to: FileMove) -> bool:
    """Whether the file was still ours, and now stands there."""
    row = await connection.fetchrow(
        _MOVE, to.source, to.name, to.pass_, to.before, to.after, to.accepted, to.refused, to.skipped,
        json.dumps(list(to.refusals)),
    )  # fmt: skip
    return row is not None


async def file_stands_at(connection: Connection, source: str, name: str) -> tuple[int, int]:
    """The pass that has the file, and its position."""
    row = await connection.fetchrow(_STANDS, source, name)
    return row["pass"], row["position"]


async def finish_file(connection: Connection, source: str, name: str) -> None:
    """The file is put away."""
    await connection.execute(_FINISH, source, name)


async def note(connection: Connection, notes: Sequence[Note]) -> None:
    """Count what came in, in the caller's transaction; in one order, so that two of them wait in the same one."""
    for one in sorted(notes, key=lambda each: each[:2]):
        await connection.execute(_NOTE, *one[:5])


async def failed(connection: Connection, source: str, way: Way, sentence: str) -> None:
    """Keep what went wrong."""
    await connection.execute(_FAILED, source, way, sentence[:2000])


async def well(connection: Connection, source: str, way: Way) -> None:
    """Nothing is wrong any more."""
    await connection.execute(_WELL, source, way)


async def forget_old(connection: Connection) -> None:
    """Let go of hours and files whose time is over."""
    await connection.execute(_FORGET, KEPT_DAYS)
    await connection.execute(_FORGET_FILES, KEPT_DAYS)


class Records(NamedTuple):
    """All that the database knows of sources, as rows."""

    doors: list[dict[str, Any]]
    problems: list[dict[str, Any]]
    taken_in: list[dict[str, Any]]
    turned_away: list[dict[str, Any]]
    portal: list[dict[str, Any]]
    files: list[dict[str, Any]]


async def records(connection: Connection, topics: Mapping[str, str]) -> Records:
    """What is known of all sources. `topics`: the table of each topic's reports."""
    taken_in = [
        row
        for topic, table in topics.items()
        for row in await connection.fetch(_TAKEN_IN.format(table=table), KEPT_DAYS, topic)
    ]
    return Records(
        doors=_dicts(await connection.fetch(_DOORS)),
        problems=_dicts(await connection.fetch(_PROBLEMS)),
        taken_in=_dicts(taken_in),
        turned_away=_dicts(await connection.fetch(_TURNED_AWAY, list(topics))),
        portal=_dicts(await connection.fetch(_PORTAL)),
        files=_dicts(await connection.fetch(_UNDER_WAY)),
    )


def _dicts(rows: Sequence[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in rows]
