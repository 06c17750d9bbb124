"""What the REST API reads. Bodies go out as they are stored: to a department, only what it was told.

A department must not find out by asking what it is not told. So its filters look at what it reads, not at what we
know: its points are rounded, and its orders change when it is told so.
"""

import json
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.pool import Connection
from schemas.base import BEGINNING
from schemas.promise import PromiseLine
from schemas.work_order_update import LedgerEntry, UpdateResult, WorkOrderUpdate

EXPORT_ROWS: Final = 500
"""Orders per round trip of an export."""
ROUNDED_BY_DEGREES: Final = 0.002
"""More than a point that a department sees can lie off the true one."""

CLOSED: Final = ("resolved", "verified", "cancelled", "void")
"""The states in which nothing is to be done."""

# Orders with what their promises stand at; one that was never promised anything has none.
_PROMISED: Final = """
FROM work_orders LEFT JOIN (SELECT order_id, next_due_at, body AS promises FROM promises) p USING (order_id)"""

# A department's view of its own orders, which has its promises, and everything for supervisors.
_OF_DEPARTMENT: Final = f"""
SELECT reference, department_body AS body, told, version, told_at AS at, next_due_at, NULL AS promises {_PROMISED}"""
_OF_ALL: Final = (
    f"SELECT reference, body, told, version, recorded_at AS at, next_due_at, promises {_PROMISED}"
)

_TOLD: Final = "department = {} AND department_body IS NOT NULL"
_BOX: Final = "lat BETWEEN {} AND {} AND lon BETWEEN {} AND {}"
_SEEN_BOX: Final = """(department_body::json -> 'point' ->> 'lat')::float8 BETWEEN {} AND {}
  AND (department_body::json -> 'point' ->> 'lon')::float8 BETWEEN {} AND {}"""
_PLACE: Final = "SELECT opened_at, order_id FROM work_orders WHERE reference = $1"
_BODIES: Final = (
    f"SELECT reference, body, next_due_at, promises {_PROMISED} WHERE reference = ANY($1::text[])"
)

# The answer to one update: the newest that was told, a department has few about one order; else from the ledger.
# Another update under the same id is answered too: that answer is not the one of what the id stands for.
_JUDGED: Final = """
SELECT l.result FROM order_ledger l JOIN work_orders o USING (order_id)
WHERE l.department = $1 AND l.update_id = $3 AND o.reference = $2"""
_RESULT: Final = """
SELECT body FROM feed WHERE audience = $1 AND subject = $2 AND kind = 'update-result'
  AND body::json ->> 'update_id' = $3
  AND ($4::bool IS NULL OR (coalesce(body::json ->> 'rule', '') = 'same_id_other_content') = $4)
ORDER BY coalesce(body::json ->> 'rule', '') = 'same_id_other_content', xid DESC, seq DESC LIMIT 1"""
# What an update id of a department stands for.
_STANDS_FOR: Final = "SELECT body FROM order_ledger WHERE department = $1 AND update_id = $2"
_UNDER_WAY: Final = """
SELECT FROM submitted_updates WHERE department = $1 AND update_id = $3 AND reference = $2
UNION ALL
SELECT FROM parked_updates WHERE department = $1 AND update_id = $3 AND reference = $2 LIMIT 1"""

_LEDGER: Final = """
SELECT l.body FROM order_ledger l JOIN work_orders o USING (order_id)
WHERE o.reference = $1 AND ($2::text IS NULL OR o.department = $2) ORDER BY l.seq LIMIT $3"""

# What our side did to an order's promises.
_PROMISE_LINES: Final = """
SELECT l.body FROM promise_lines l JOIN work_orders o USING (order_id)
WHERE o.reference = $1 AND ($2::text IS NULL OR o.department = $2) ORDER BY l.seq LIMIT $3"""

_ALIVE: Final = "SELECT 1"


class Box(NamedTuple):
    """A rectangle of degrees."""

    min_lon: float
    min_lat: float
    max_lon: float
    max_lat: float


Sort = Literal["age", "change", "due"]
"""The newest first; the first change first; the first due first, and the newest first of those that are not due."""


class Place(NamedTuple):
    """Where a page ended: the last order, and when it changed or is due if the page goes by that."""

    reference: str
    at: datetime | None = None


class Wanted(NamedTuple):
    """Which orders. None: any. `scope`: the department that asks; None: a supervisor, who sees all."""

    scope: str | None = None
    department: str | None = None
    state: str | None = None
    area: int | None = None
    category: str | None = None
    box: Box | None = None
    updated_after: datetime | None = None
    to_verify: bool | None = None
    due_before: datetime | None = None
    due_from: datetime | None = None
    overdue: bool | None = None
    now: datetime = BEGINNING  # for `overdue`
    sort: Sort = "age"
    after: Place | None = None
    limit: int = 50


class OrderRow(NamedTuple):
    """An order as the caller may see it. `told`: the version that its department was told last."""

    reference: str
    body: str
    told: int
    version: int
    at: datetime
    due_at: datetime | None  # the first due time of its clocks that run


class Query:
    """Named conditions and their values, so that each plan is made for what was asked."""

    def __init__(self) -> None:
        self.conditions: list[str] = []
        self.values: list[Any] = []

    def where(self, condition: str, *values: Any) -> None:
        """Add a constant condition; each `{}` in it stands for the next value."""
        first = len(self.values) + 1
        self.values += values
        self.conditions.append(condition.format(*(f"${first + n}" for n in range(len(values)))))

    def text(self, select: str, order: str, limit: int) -> str:
        """The statement."""
        self.values.append(limit)
        where = " AND ".join(self.conditions) or "true"
        return f"{select} WHERE {where} ORDER BY {order} LIMIT ${len(self.values)}"


async def orders(connection: Connection, wanted: Wanted) -> list[OrderRow]:
    """Those that fit, in the order that is asked for. Raises LookupError when a page ends at an order that there
    is not."""
    if wanted.sort == "due":
        return await _by_due(connection, wanted)
    query = _fitting(wanted)
    if wanted.sort == "change":
        order = _by_change(query, wanted)
    else:
        order = await _by_age(connection, query, wanted.after)
    return await _rows(connection, query, wanted, order)


async def _by_due(connection: Connection, wanted: Wanted) -> list[OrderRow]:
    """First those that are due some time, along the index; then the others. A page may have of both."""
    place, found = wanted.after, []
    if place is None or place.at is not None:
        query = _fitting(wanted)
        query.where("next_due_at IS NOT NULL")
        if place is not None:
            query.where("next_due_at >= {}", place.at)  # for the index, which knows no references
            query.where("(next_due_at > {} OR reference > {})", place.at, place.reference)
        found = await _rows(connection, query, wanted, "next_due_at, reference")
        place = None
    if len(found) < wanted.limit:
        query = _fitting(wanted)
        query.where("next_due_at IS NULL")
        order = await _by_age(connection, query, place)
        found += await _rows(connection, query, wanted._replace(limit=wanted.limit - len(found)), order)
    return found


def _fitting(wanted: Wanted) -> Query:
    query = Query()
    _scope(query, wanted)
    _filters(query, wanted)
    _due(query, wanted)
    return query


async def _rows(connection: Connection, query: Query, wanted: Wanted, order: str) -> list[OrderRow]:
    select = _OF_ALL if wanted.scope is None else _OF_DEPARTMENT
    rows = await connection.fetch(query.text(select, order, wanted.limit), *query.values)
    return [_order_row(row, wanted.scope) for row in rows]


def _order_row(row: Any, scope: str | None) -> OrderRow:
    body = row["body"] if scope is not None else _whole(row)
    return OrderRow(row["reference"], body, row["told"], row["version"], row["at"], row["next_due_at"])


def _whole(row: Any) -> str:
    """The order with its promises: both are stored as canonical JSON, and nothing is parsed to be written again."""
    due_at = text_of(row["next_due_at"])
    due = f'"{due_at}"' if due_at else "null"
    return f'{row["body"][:-1]},"next_due_at":{due},"promises":{row["promises"] or "null"}}}'


def text_of(at: datetime | None) -> str | None:
    """A moment as the stored bodies have them."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at else None


def _scope(query: Query, wanted: Wanted) -> None:
    if wanted.scope is not None:
        query.where(_TOLD, wanted.scope)
    if wanted.department is not None:
        query.where("department = {}", wanted.department)


def _filters(query: Query, wanted: Wanted) -> None:
    if wanted.scope is not None and wanted.state in ("cancelled", "void"):
        # a department reads both as cancelled, and cannot ask for the one or the other
        query.where("state IN ('cancelled', 'void') AND {}", wanted.state == "cancelled")
    elif wanted.state == "open":
        query.where("state <> ALL ({}::text[])", list(CLOSED))
    elif wanted.state is not None:
        query.where("state = {}", wanted.state)
    elif wanted.scope is None:
        query.where("state <> 'void'")
    if wanted.area is not None:
        query.where("area = {}", wanted.area)
    if wanted.category is not None:
        query.where("category = {}", wanted.category)
    if wanted.to_verify is not None:
        query.where("(verify AND state = 'resolved') = {}", wanted.to_verify)
    if wanted.box is not None:
        _within(query, wanted.box, seen=wanted.scope is not None)


def _due(query: Query, wanted: Wanted) -> None:
    """Whoever sees an order sees its due times: departments filter by them as well."""
    if wanted.due_before is not None:
        query.where("next_due_at < {}", wanted.due_before)
    if wanted.due_from is not None:
        query.where("next_due_at >= {}", wanted.due_from)
    if wanted.overdue is not None:
        query.where("coalesce(next_due_at < {}, false) = {}", wanted.now, wanted.overdue)


def _within(query: Query, box: Box, *, seen: bool) -> None:
    margin = ROUNDED_BY_DEGREES if seen else 0.0
    query.where(_BOX, box.min_lat - margin, box.max_lat + margin, box.min_lon - margin, box.max_lon + margin)
    if seen:
        query.where(_SEEN_BOX, box.min_lat, box.max_lat, box.min_lon, box.max_lon)


def _by_change(query: Query, wanted: Wanted) -> str:
    column = "recorded_at" if wanted.scope is None else "told_at"
    if wanted.updated_after is not None:
        query.where(f"{column} > {{}}", wanted.updated_after)
    if wanted.after and wanted.after.at:
        query.where(f"({column}, reference) > ({{}}, {{}})", wanted.after.at, wanted.after.reference)
    return f"{column}, reference"


async def _by_age(connection: Connection, query: Query, after: Place | None) -> str:
    if after is not None:
        place = await connection.fetchrow(_PLACE, after.reference)
        if place is None:
            raise LookupError("this page ends at an order that there is not")
        query.where("opened_at <= {}", place["opened_at"])
        query.where(
            "(opened_at < {} OR order_id > {})", place["opened_at"], place["order_id"]
        )  # the index goes down by the one and up by the other
    return "opened_at DESC, order_id"


async def order(connection: Connection, reference: str, scope: str | None) -> OrderRow | None:
    """One order as this caller sees it; None: there is none, or it is not theirs."""
    query = Query()
    query.where("reference = {}", reference)
    if scope is not None:
        query.where(_TOLD, scope)
    select = _OF_ALL if scope is None else _OF_DEPARTMENT
    row = await connection.fetchrow(query.text(select, "reference", 1), *query.values)
    return _order_row(row, scope) if row else None


async def order_bodies(connection: Connection, references: Collection[str]) -> Mapping[str, str]:
    """The bodies of some orders by reference, as they are now, with their promises. Restricted."""
    rows = await connection.fetch(_BODIES, sorted(references))
    return {row["reference"]: _whole(row) for row in rows}


async def every_order(ledger: PostgresLedger, wanted: Wanted) -> AsyncGenerator[list[OrderRow]]:
    """All that fit, a page at a time. No transaction spans the pages: who reads slowly would hold back vacuum, and
    lose the connection besides; an order that changes meanwhile is told as it was or as it is."""
    wanted = wanted._replace(limit=EXPORT_ROWS, after=None)
    while True:
        async with ledger.connection() as connection:
            rows = await orders(connection, wanted)
        if rows:
            yield rows
        if len(rows) < EXPORT_ROWS:
            return
        wanted = wanted._replace(after=Place(rows[-1].reference))


async def update_result(
    connection: Connection, department: str, reference: str, update_id: str
) -> UpdateResult | None:
    """The answer to an update; None: it is under way. Raises LookupError when nobody knows of it."""
    result = await _told_result(connection, department, reference, update_id, other=None)
    if result is None and await connection.fetchrow(_UNDER_WAY, department, reference, update_id) is None:
        raise LookupError(update_id)
    return result


async def result_of(connection: Connection, department: str, said: WorkOrderUpdate) -> UpdateResult | None:
    """The answer to exactly this update, also when its id stands for another one; None: it is under way."""
    body = await connection.fetchval(_STANDS_FOR, department, said.update_id)
    stands_for = LedgerEntry.model_validate_json(body).update if body else None
    other = stands_for is not None and stands_for.model_dump_json() != said.model_dump_json()
    return await _told_result(connection, department, said.reference, said.update_id, other=other)


async def _told_result(
    connection: Connection, department: str, reference: str, update_id: str, *, other: bool | None
) -> UpdateResult | None:
    """`other`: the answer to another update under an id that stands for one; None: only if there is no better."""
    body = await connection.fetchval(_RESULT, department, reference, update_id, other)
    if not body and not other:
        body = await connection.fetchval(_JUDGED, department, reference, update_id)
    return UpdateResult.model_validate_json(body) if body else None


async def ledger_of(
    connection: Connection, reference: str, scope: str | None, limit: int
) -> list[LedgerEntry]:
    """The ledger of an order, the oldest entry first."""
    rows = await connection.fetch(_LEDGER, reference, scope, limit)
    return [LedgerEntry.model_validate_json(row["body"]) for row in rows]


async def promise_lines_of(
    connection: Connection, reference: str, scope: str | None, limit: int
) -> list[PromiseLine]:
    """What our side did to an order's promises, the first line first."""
    rows = await connection.fetch(_PROMISE_LINES, reference, scope, limit)
    return [PromiseLine.model_validate_json(row["body"]) for row in rows]


async def is_alive(connection: Connection) -> bool:
    """Whether the database answers."""
    return bool(await connection.fetchval(_ALIVE))


def point_of(body: Mapping[str, Any]) -> Mapping[str, float] | None:
    """The point of an order's body, of either schema."""
    point = body.get("point") or (body.get("site") or {}).get("point")
    return point if isinstance(point, dict) else None


def decoded(rows: Sequence[OrderRow]) -> list[dict[str, Any]]:
    """The bodies as values."""
    return [json.loads(row.body) for row in rows]
