"""What Open311 reads and keeps: requests for everybody, orders for their department, tokens.

The tables of the other direction, our orders in a city's endpoint, are in `open311_filings.py`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from connectors.open311.parameters import Query, Window
from connectors.open311.view import REQUESTS_OF_STATUS, STATES_OF_STATUS, Listed, Told
from connectors.postgres.pool import Connection
from schemas.issue import Issue
from schemas.work_order import DepartmentWorkOrder
from schemas.work_order_update import ServiceRequestNews

_ISSUE: Final = """
SELECT i.body, i.created_at, i.recorded_at, parent.request_number AS parent_number
FROM issues i LEFT JOIN issues parent ON parent.issue_id = i.folded_into"""
# Requests that fit, the newest first.
_ISSUES: Final = f"""{_ISSUE}
WHERE ($1::text[] IS NULL OR i.category = ANY($1)) AND ($2::text[] IS NULL OR i.status = ANY($2))
  AND ($3::timestamptz IS NULL OR i.created_at >= $3) AND ($4::timestamptz IS NULL OR i.created_at <= $4)
  AND ($5::timestamptz IS NULL OR i.recorded_at >= $5) AND ($6::timestamptz IS NULL OR i.recorded_at <= $6)
ORDER BY i.created_at DESC, i.issue_id OFFSET $7 LIMIT $8"""
# The same number may be given by several sources.
_ISSUES_BY_NUMBER: Final = f"""{_ISSUE}
WHERE i.request_number = ANY($1::text[]) ORDER BY i.created_at DESC, i.issue_id LIMIT $2"""

# When the department was told tells of the department's news; when the row was written would tell of ours.
_ORDER: Final = """
SELECT o.department_body AS body,
       coalesce(told.recorded_at, date_trunc('day', o.opened_at) + interval '1 day') AS told_at
FROM work_orders o LEFT JOIN LATERAL (
  SELECT recorded_at FROM feed WHERE audience = o.department AND kind = 'work-order' AND subject = o.reference
  ORDER BY version DESC LIMIT 1) told ON true
WHERE o.department = $1 AND o.department_body IS NOT NULL"""
# A department's orders that fit, the newest first. The day on which one was requested follows the day it was opened,
# and nothing is told of an order whose row is not written with it.
_ORDERS: Final = f"""
WITH own AS ({_ORDER} AND o.opened_at BETWEEN $4::timestamptz - interval '4 days' AND $5::timestamptz
  AND ($6::timestamptz IS NULL OR o.recorded_at >= $6))
SELECT body, told_at FROM own
CROSS JOIN LATERAL (SELECT body::jsonb ->> 'state' AS state, body::jsonb ->> 'category' AS category,
  (body::jsonb ->> 'requested_on')::date::timestamp AT TIME ZONE $10 AS requested_at,
  body::jsonb ->> 'reference' AS reference) told
WHERE ($2::text[] IS NULL OR category = ANY($2)) AND ($3::text[] IS NULL OR state = ANY($3))
  AND requested_at BETWEEN $4 AND $5
  AND ($6::timestamptz IS NULL OR told_at >= $6) AND ($7::timestamptz IS NULL OR told_at <= $7)
ORDER BY requested_at DESC, reference OFFSET $8 LIMIT $9"""  # noqa: S608 - made of constants
_ORDERS_BY_REFERENCE: Final = f"{_ORDER} AND o.reference = ANY($2::text[]) ORDER BY o.reference LIMIT $3"

_NOTE: Final = "INSERT INTO open311_tokens (token, request_number, issue_id) VALUES ($1, $2, $3)"
# The request of a token, and whether it has been taken in.
_REDEEM: Final = """
SELECT request_number, EXISTS (SELECT FROM issues i WHERE i.issue_id = t.issue_id) AS is_there
FROM open311_tokens t WHERE token = $1"""

# When the services may have changed last: with the newest policy, or when one was activated.
_CHANGED: Final = """
SELECT greatest((SELECT max(recorded_at) FROM policies), (SELECT max(at) FROM activations WHERE what = 'policy'))"""

# The newest word on each 311 request that an order covers, the newest first.
_NEWS: Final = """
SELECT body, recorded_at FROM (
  SELECT DISTINCT ON (subject) subject, body, recorded_at, xid, seq FROM feed
  WHERE kind = 'service-request-news' AND body IS NOT NULL ORDER BY subject, xid DESC, seq DESC) AS news
ORDER BY xid DESC, seq DESC LIMIT $1"""

_BEGINNING: Final = datetime(1900, 1, 1, tzinfo=UTC)
_END: Final = datetime(9000, 1, 1, tzinfo=UTC)


class Redeemed(NamedTuple):
    """The request that a token stands for. `is_there`: it has been taken in, and can be read."""

    request_number: str
    is_there: bool


class News(NamedTuple):
    """What a 311 system should be told of one of its requests, and since when."""

    news: ServiceRequestNews
    at: datetime


async def listed(connection: Connection, query: Query, categories: Sequence[str] | None) -> list[Listed]:
    """Requests that fit. `categories`: those of the service codes that were asked for; None: all."""
    if query.ids:
        rows = await connection.fetch(_ISSUES_BY_NUMBER, list(query.ids), query.limit)
    else:
        statuses = [one for status in query.statuses for one in REQUESTS_OF_STATUS[status]] or None
        rows = await connection.fetch(
            _ISSUES, categories, statuses, *query.requested, *query.updated, query.offset, query.limit
        )
    return [
        Listed(
            Issue.model_validate_json(row["body"]),
            row["created_at"],
            row["recorded_at"],
            row["parent_number"],
        )
        for row in rows
    ]


async def orders(
    connection: Connection, department: str, query: Query, categories: Sequence[str] | None, zone: str
) -> list[Told]:
    """A department's own orders that fit, as it was told of them. `zone`: in which its days begin."""
    if query.ids:
        rows = await connection.fetch(_ORDERS_BY_REFERENCE, department, list(query.ids), query.limit)
    else:
        states = [one for status in query.statuses for one in STATES_OF_STATUS[status]] or None
        since, until = _closed(query.requested)
        rows = await connection.fetch(
            _ORDERS, department, categories, states, since, until, *query.updated,
            query.offset, query.limit, zone,
        )  # fmt: skip
    return [Told(DepartmentWorkOrder.model_validate_json(row["body"]), row["told_at"]) for row in rows]


def _closed(window: Window) -> tuple[datetime, datetime]:
    return window.since or _BEGINNING, window.until or _END


async def add_token(connection: Connection, token: str, request_number: str, issue_id: UUID) -> None:
    """Note in the caller's transaction which request a token stands for."""
    await connection.execute(_NOTE, token, request_number, issue_id)


async def redeem(connection: Connection, token: str) -> Redeemed | None:
    """The request of a token, None for a token that we never gave."""
    row = await connection.fetchrow(_REDEEM, token)
    return Redeemed(row["request_number"], row["is_there"]) if row else None


async def services_changed_at(connection: Connection) -> datetime:
    """When the services may have changed last; long ago when no policy is known."""
    return await connection.fetchval(_CHANGED) or _BEGINNING


async def news(connection: Connection, limit: int) -> list[News]:
    """What should be told to 311 systems, the newest first."""
    rows = await connection.fetch(_NEWS, limit)
    return [News(ServiceRequestNews.model_validate_json(row["body"]), row["recorded_at"]) for row in rows]
