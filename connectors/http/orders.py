"""Work orders to read: lists, one, its timeline. A department sees its own, as it was told of them."""

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from connectors.access.principal import Principal
from connectors.http import parameters as given
from connectors.http.access import Given, Who, department_of, not_theirs
from connectors.http.openapi import links, problems
from connectors.http.parts import Parts, Value
from connectors.http.problems import invalid, not_found
from connectors.postgres import alerts, http_reads
from connectors.postgres.http_reads import OrderRow, Place, Sort, Wanted
from schemas.base import Record
from schemas.promise import PromiseLine
from schemas.views import (
    AlertLine,
    DepartmentPromiseLine,
    WholeWorkOrder,
    department_line,
    department_promise_line,
    line_of,
)
from schemas.work_order import DepartmentWorkOrder
from schemas.work_order_update import LedgerEntry, Verb, Verdict

JSON: Final = "application/json"
MOST_ENTRIES: Final = 5_000
FIRST: Final = "reference=$response.body#/items/0/reference"
PRIVATE: Final = {"Cache-Control": "private, no-cache"}

router = APIRouter(prefix="/v1", tags=["Work orders"])


class WorkOrders(BaseModel):
    """A page of orders: a department's own view of them; for supervisors, everything."""

    items: list[DepartmentWorkOrder] | list[WholeWorkOrder]
    next: str | None


class TimelineEntry(Record):
    """What was said of an order, as a department may read it."""

    department: str
    at: datetime
    received_at: datetime
    update_id: str | None
    verb: Verb
    verdict: Verdict
    rule: str | None
    because: str | None
    text: str | None
    by: str | None


class Timeline(BaseModel):
    """The life of an order, each part oldest first: what was said of it (of a department, its own words and what the
    centre decided), what our side did to its promises, and who was warned."""

    items: list[TimelineEntry] | list[LedgerEntry]
    promises: list[DepartmentPromiseLine] | list[PromiseLine]
    alerts: list[AlertLine]


class Step(BaseModel):
    """One step of an explanation, in words."""

    model_config = ConfigDict(extra="allow")

    step: str
    title: str
    because: str


class Explanation(BaseModel):
    """Why: the story in words, and the records of the decisions that it is told from."""

    steps: list[Step]
    decisions: list[dict[str, Any]]


@router.get(
    "/work-orders", response_model=WorkOrders,
    responses=problems() | {200: {"links": links(
        read_work_order=FIRST, read_timeline=FIRST, explain_work_order=FIRST, submit_update=FIRST)}},
)  # fmt: skip
async def list_work_orders(
    request: Request, parts: Given, who: Who, *, department: given.DepartmentCode = None, state: given.State = None,
    area: given.AreaNumber = None, category: given.CategoryCode = None, bbox: given.BoxText = None,
    updated_after: given.UpdatedAfter = None, to_verify: given.ToVerify = None, due_before: given.DueBefore = None,
    due_after: given.DueAfter = None, overdue: given.Overdue = None, sort: given.SortBy = None,
    cursor: given.CursorText = None, limit: given.Limit = 50,
) -> Response:  # fmt: skip
    """The newest first; with `updated_after`, in the order in which they changed; with `sort=due`, in that in which
    they are due. The header Link has the next page."""
    by = _sort_of(sort, updated_after)
    wanted = Wanted(
        scope=department_of(who), department=department, state=state, area=area, category=category,
        box=given.box_of(bbox), updated_after=updated_after, to_verify=to_verify, due_before=due_before,
        due_from=due_after, overdue=overdue, now=parts.now(), sort=by, after=given.place_of(cursor, by),
        limit=limit + 1,
    )  # fmt: skip
    check_scope(wanted)
    try:
        async with parts.ledger.connection() as connection:
            rows = await http_reads.orders(connection, wanted)
    except LookupError as error:
        raise invalid("cursor", given.CURSOR_EXPECTED) from error
    return _page(request, rows, limit, by)


def _sort_of(sort: Literal["due"] | None, updated_after: datetime | None) -> Sort:
    if sort is not None and updated_after is not None:
        raise invalid("sort", "nothing beside updated_after, which goes by the changes")
    return "change" if updated_after is not None else sort or "age"


def check_scope(wanted: Wanted) -> None:
    """Filters that are supervisors' alone. Raises Refused."""
    if wanted.scope is None:
        return
    if wanted.to_verify is not None:
        raise invalid("to_verify", "nothing: only supervisors filter by it")
    if wanted.department not in (None, wanted.scope):
        raise invalid("department", f"nothing, or {wanted.scope}: a department sees its own orders")


def _page(request: Request, rows: Sequence[OrderRow], limit: int, by: Sort) -> Response:
    """The stored bodies between brackets: nothing is parsed to be written again."""
    shown, more = rows[:limit], len(rows) > limit
    cursor = None
    if more:
        last = shown[-1]
        at = {"age": None, "change": last.at, "due": last.due_at}[by]
        cursor = given.cursor_of(Place(last.reference, at), by)
    items = ",".join(row.body for row in shown)
    following = f'"{cursor}"' if cursor else "null"
    headers = PRIVATE | ({"Link": given.next_link(request, cursor)} if cursor else {})
    return Response(f'{{"items":[{items}],"next":{following}}}', headers=headers, media_type=JSON)


@router.get(
    "/work-orders/{reference}", response_model=DepartmentWorkOrder | WholeWorkOrder,
    responses=problems(404) | {304: {"description": "It is still as you have it."}},
)  # fmt: skip
async def read_work_order(
    reference: given.Reference, parts: Given, who: Who,
    if_none_match: Annotated[str | None, Header(max_length=500)] = None,
) -> Response:  # fmt: skip
    """One order. Its ETag is its version: send it as If-None-Match to be told only of news, as If-Match with an
    update to have it refused when the order has changed."""
    row = await order_of(parts, who, "read_work_order", reference)
    headers = PRIVATE | {"ETag": etag_of(row, who)}
    if if_none_match is not None and names(if_none_match, headers["ETag"]):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(row.body, headers=headers, media_type=JSON)


async def order_of(parts: Parts, who: Principal, operation: str, reference: str) -> OrderRow:
    """The order as the caller may see it. Raises Refused: 404, noted in the audit trail for a department."""
    scope = department_of(who)
    async with parts.ledger.connection() as connection:
        row = await http_reads.order(connection, reference, scope)
    if row is None and scope is not None:
        await not_theirs(parts, who, operation, "work order", reference)
    if row is None:
        raise not_found("work order")
    return row


def etag_of(row: OrderRow, who: Principal) -> str:
    """A department's is the version that it was told; a supervisor's begins with our own, which counts more."""
    return f'"{row.told}"' if department_of(who) else f'"{row.version}-{row.told}"'


def names(condition: str, etag: str) -> bool:
    """Whether an If-None-Match names this ETag (RFC 9110, 13.1.2: weak comparison)."""
    named = [one.strip().removeprefix("W/") for one in condition.split(",")]
    return condition.strip() == "*" or etag in named


ETAG_PATTERN: Final = r'^(\*|"(\d{1,18}-)?\d{1,18}")$'
"""Of an If-Match: any, or one ETag as `etag_of` gives it."""


def told_version(if_match: str | None) -> int | None:
    """The version that an If-Match of ETAG_PATTERN asks for; None: any."""
    if if_match is None or if_match == "*":
        return None
    return int(if_match.strip('"').rpartition("-")[2])


@router.get(
    "/work-orders/{reference}/timeline",
    response_model=Timeline,
    responses=problems(404),
)
async def read_timeline(reference: given.Reference, parts: Given, who: Who) -> Response:
    """What was said of the order, what became of it, what was promised, and who was warned: each oldest first."""
    await order_of(parts, who, "read_timeline", reference)
    scope = department_of(who)
    async with parts.ledger.connection() as connection:
        entries = await http_reads.ledger_of(connection, reference, scope, MOST_ENTRIES)
        lines = await http_reads.promise_lines_of(connection, reference, scope, MOST_ENTRIES)
        events = await alerts.events_of_order(connection, reference, MOST_ENTRIES)
    if scope is None:
        timeline = Timeline(items=entries, promises=lines, alerts=[line_of(event) for event in events])
    else:
        timeline = Timeline(
            items=_as_read_by(scope, parts.centre, entries),
            promises=[department_promise_line(line) for line in _while_theirs(scope, entries, lines)],
            alerts=[department_line(event, scope) for event in events],
        )
    return Response(timeline.model_dump_json(), headers=PRIVATE, media_type=JSON)


def _while_theirs(
    department: str, entries: Sequence[LedgerEntry], lines: Sequence[PromiseLine]
) -> list[PromiseLine]:
    """What was done since the order is this department's, and what was promised of it by then."""
    theirs_since = max((entry.seq for entry in entries if entry.owner != department), default=0)
    before = [line for line in lines if line.entries < theirs_since and line.clocks]
    return [*before[-1:], *(line for line in lines if line.entries >= theirs_since)]


def _as_read_by(department: str, centre: str, entries: Sequence[LedgerEntry]) -> list[TimelineEntry]:
    """Its own words, and what the centre decided about its order, without the centre's words."""
    own = [(entry, _own(entry)) for entry in entries if entry.department == department]
    of_centre = [
        (entry, _of_centre(entry))
        for entry in entries
        if entry.department == centre != department
        and entry.verdict == "accepted"
        and _concerns(entry, department)
    ]
    ordered = sorted([*own, *of_centre], key=lambda pair: pair[0].seq)
    return [shown for _, shown in ordered if shown is not None]


def _concerns(entry: LedgerEntry, department: str) -> bool:
    handed_over = entry.update is not None and entry.update.to_department == department
    return entry.owner == department or handed_over


def _own(entry: LedgerEntry) -> TimelineEntry | None:
    if entry.update is None:
        return None
    return _entry(entry).model_copy(
        update={
            "update_id": entry.update.update_id, "rule": entry.rule, "because": entry.because,
            "text": entry.update.text, "by": entry.update.by,
        }
    )  # fmt: skip


def _of_centre(entry: LedgerEntry) -> TimelineEntry | None:
    return None if entry.update is None else _entry(entry)


def _entry(entry: LedgerEntry) -> TimelineEntry:
    assert entry.update is not None
    return TimelineEntry(
        department=entry.department, at=entry.at, received_at=entry.received_at, verb=entry.update.verb,
        verdict=entry.verdict, update_id=None, rule=None, because=None, text=None, by=None,
    )  # fmt: skip


@router.get(
    "/work-orders/{reference}/explanation", response_model=Explanation, responses=problems(404),
)  # fmt: skip
async def explain_work_order(reference: given.Reference, parts: Given) -> Response:
    """Why this order is there: every step with the rule it followed. Restricted."""
    return await explanation(parts, "orders", reference, "work order")


async def explanation(parts: Parts, stage: str, name: str, what: str) -> Response:
    """The story and the decision records of an order or an incident. Raises Refused."""
    async with parts.ledger.connection() as connection:
        steps = await parts.explain(connection, name)
        decisions: list[Value] | None = await parts.decisions(connection, stage, name)
    if steps is None and decisions is None:
        raise not_found(what)
    shown = Explanation.model_validate({"steps": steps or [], "decisions": decisions or []})
    return Response(shown.model_dump_json(), headers=PRIVATE, media_type=JSON)
