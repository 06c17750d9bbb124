"""Responses with their lives, as people and programs read them. Restricted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from connectors.postgres.pool import Connection
from schemas.response import Response
from schemas.response_life import LifeLine, LifeView, LifeWord, ResponseLife, WholeResponse, life_word

# An order counts for the incidents that it names: those that ask for it, or did when it ended.
_COUNTED: Final = """
SELECT r.response_id, r.body, l.body AS life, coalesce(o.open, 0) AS open, coalesce(o.done, 0) AS done,
  coalesce(o.cancelled, 0) AS cancelled
FROM chosen r LEFT JOIN response_life l USING (response_id)
LEFT JOIN LATERAL (
  SELECT count(*) FILTER (WHERE state NOT IN ('resolved', 'verified', 'cancelled', 'void')) AS open,
    count(*) FILTER (WHERE state IN ('resolved', 'verified')) AS done,
    count(*) FILTER (WHERE state = 'cancelled') AS cancelled
  FROM work_orders w WHERE w.body::jsonb -> 'incident_ids' ? r.incident_id::text AND w.order_id IN (
    SELECT i.order_id FROM order_causes c JOIN work_orders i USING (order_key, generation)
    WHERE c.incident_id = r.incident_id)) o ON true
ORDER BY r.opens_at DESC, r.response_id DESC"""

# The newest first. A life of `open` is one that was not made safe.
_PAGE: Final = f"""
WITH chosen AS (
  SELECT r.response_id, r.incident_id, r.opens_at, r.body FROM responses r LEFT JOIN response_life l USING (response_id)
  WHERE ($1::uuid IS NULL
         OR (opens_at, response_id) < (SELECT opens_at, response_id FROM responses WHERE response_id = $1))
    AND ($2::text IS NULL OR r.status = $2) AND ($3::int IS NULL OR r.area = $3)
    AND ($4::text IS NULL OR $4 = CASE WHEN l.state = 'open' AND l.safe_since IS NOT NULL THEN 'made_safe'
                                       ELSE l.state END)
    AND ($5::timestamptz IS NULL OR (l.state = 'open' AND l.closes_at < $5))
  ORDER BY r.opens_at DESC, r.response_id DESC LIMIT $6)
{_COUNTED}"""  # noqa: S608 - constants

_ONE: Final = f"""
WITH chosen AS (
  SELECT response_id, incident_id, opens_at, body FROM responses WHERE response_id = $1 OR incident_id = $1)
{_COUNTED}"""  # noqa: S608 - constants

# The ids that begin alike, two at most.
_BEGINNING: Final = "SELECT response_id FROM responses WHERE response_id BETWEEN $1 AND $2 ORDER BY 1 LIMIT 2"

_LINES: Final = "SELECT body FROM response_lines WHERE response_id = $1 ORDER BY seq LIMIT $2"


class WantedResponses(NamedTuple):
    """Which responses. None: any. `after`: the last of the page before. `closing_before`: those that are not closed,
    and whose window ends by then."""

    after: UUID | None = None
    status: str | None = None
    area: int | None = None
    life: LifeWord | None = None
    closing_before: datetime | None = None
    limit: int = 50


async def responses(connection: Connection, wanted: WantedResponses, now: datetime) -> list[WholeResponse]:
    """The newest first."""
    rows = await connection.fetch(
        _PAGE, wanted.after, wanted.status, wanted.area, wanted.life, wanted.closing_before, wanted.limit
    )
    return [_whole(row, now) for row in rows]


async def response(connection: Connection, name: UUID, now: datetime) -> WholeResponse | None:
    """The response with this id, or of the incident with it; None: there is none."""
    row = await connection.fetchrow(_ONE, name)
    return _whole(row, now) if row else None


async def beginning_with(connection: Connection, beginning: str) -> list[UUID]:
    """The responses whose id begins with these hexadecimal digits, two at most."""
    first, last = (UUID(beginning.ljust(32, filler)) for filler in "0f")
    return [row["response_id"] for row in await connection.fetch(_BEGINNING, first, last)]


async def lines(connection: Connection, response_id: UUID, limit: int) -> Sequence[LifeLine]:
    """The ledger of a response's life, the oldest first."""
    rows = await connection.fetch(_LINES, response_id, limit)
    return [LifeLine.model_validate_json(row["body"]) for row in rows]


def _whole(row: Any, now: datetime) -> WholeResponse:
    found = Response.model_validate_json(row["body"])
    life = ResponseLife.model_validate_json(row["life"]) if row["life"] else None
    return WholeResponse(**dict(found), life=_view(row, life, now) if life else None)


def _view(row: Any, life: ResponseLife, now: datetime) -> LifeView:
    is_over = life.closes_at <= now
    left = (life.closes_at - now).days if life.state == "open" and not is_over else None
    to_close_at = life.due_at if life.state == "open" and is_over else None
    return LifeView(
        state=life_word(life), closes_at=life.closes_at, days_left=left, to_close_at=to_close_at,
        safe_since=life.safe_since, closed_at=life.closed_at, rule=life.rule, orders_open=row["open"],
        orders_done=row["done"], orders_cancelled=row["cancelled"], summary=life.summary,
    )  # fmt: skip
