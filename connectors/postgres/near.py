"""Look-ups by place: rows whose H3 cells meet those of a reach. Exact metres are the caller's last word."""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeVar
from uuid import UUID

from connectors.ports import Reach
from connectors.postgres.pool import Connection
from schemas.base import Record
from schemas.incident import Incident
from schemas.issue import Issue
from schemas.response import Response

_REACHES: Final = """
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[]) AS reach(owner, cells, since, until)"""

# Incidents in the cells of each reach that were ever held to have happened within its time, without its owner.
_INCIDENTS: Final = f"""
SELECT reach.owner, near.body {_REACHES}
JOIN incidents near ON near.cells && reach.cells::bigint[]
  AND near.occurred_at <= reach.until AND near.occurred_until >= reach.since AND near.incident_id <> reach.owner"""

# Issues in the cells of each reach that were ever held to be reported within its time.
_ISSUES: Final = f"""
SELECT reach.owner, near.body {_REACHES}
JOIN issues near ON near.cells && reach.cells::bigint[]
  AND near.created_at <= reach.until AND near.created_until >= reach.since"""

# Responses in the cells of each reach that end within its time.
_RESPONSES: Final = f"""
SELECT reach.owner, near.body {_REACHES}
JOIN responses near ON near.cells && reach.cells::bigint[]
  AND near.ends_at BETWEEN reach.since AND reach.until"""

T = TypeVar("T", bound=Record)


async def incidents_near(connection: Connection, reaches: Sequence[Reach]) -> dict[UUID, list[Incident]]:
    """Incidents by the owner of the reach that they lie in."""
    return await _near(connection, _INCIDENTS, Incident, reaches)


async def issues_near(connection: Connection, reaches: Sequence[Reach]) -> dict[UUID, list[Issue]]:
    """Issues by the owner of the reach that they lie in."""
    return await _near(connection, _ISSUES, Issue, reaches)


async def responses_near(connection: Connection, reaches: Sequence[Reach]) -> dict[UUID, list[Response]]:
    """Responses by the owner of the reach that they lie in."""
    return await _near(connection, _RESPONSES, Response, reaches)


async def _near(
    connection: Connection, query: str, schema: type[T], reaches: Sequence[Reach]
) -> dict[UUID, list[T]]:
    placed = [reach for reach in reaches if reach.cells]
    found: dict[UUID, list[T]] = defaultdict(list)
    if not placed:
        return found
    rows = await connection.fetch(
        query,
        [reach.owner_id for reach in placed],
        [array_text(reach.cells) for reach in placed],
        [reach.since for reach in placed],
        [reach.until for reach in placed],
    )
    for owner, body in rows:
        found[owner].append(parsed(schema, body))
    return found


@lru_cache(maxsize=4_096)  # some kilobytes each
def _parsed(schema: type[Record], body: str) -> Record:
    return schema.model_validate_json(body)


def parsed(schema: type[T], body: str) -> T:
    """The model of a body. In dense places the same rows are near many, in one batch and in the next ones; models
    are frozen, so that all may hold the same one."""
    model = _parsed(schema, body)
    assert isinstance(model, schema)
    return model


def array_text(cells: Sequence[int]) -> str:
    """A PostgreSQL array as text: unnest takes no arrays of arrays of different lengths."""
    return "{" + ",".join(map(str, cells)) + "}"
