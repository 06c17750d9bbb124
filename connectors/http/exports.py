"""Whole tables as files. They stream: memory does not grow with the number of orders."""

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Final, NamedTuple

from fastapi import APIRouter, Depends
from fastapi.responses import Response, StreamingResponse

from connectors.http import parameters as given
from connectors.http.access import Given, Who, department_of
from connectors.http.openapi import problems
from connectors.http.orders import check_scope
from connectors.http.parts import Parts
from connectors.postgres.http_reads import OrderRow, Wanted, decoded, every_order, point_of, text_of
from connectors.postgres.ledger import PostgresLedger
from schemas.work_order import DepartmentWorkOrder

Values = Sequence[dict[str, Any]]
COLUMNS: Final = (
    *(name for name in DepartmentWorkOrder.model_fields
      if name not in ("point", "service_requests", "requested_on", "promises")),
    "lat", "lon", "service_requests", "requested_on", "due_at",
)  # fmt: skip
RESTRICTED_COLUMNS: Final = (
    "reference", "version", "state", "category", "work", "address", "area", "department", "priority", "opened_at",
    "acknowledged_at", "resolved_at", "cancelled_at", "outcome", "hold_reason", "crew", "estimate", "verify", "lat",
    "lon", "covers", "simulated", "due_at",
)  # fmt: skip
_DANGEROUS: Final = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet takes for a formula."""

router = APIRouter(prefix="/v1/exports", tags=["Exports"])


def _wanted(
    parts: Given, who: Who, *, department: given.DepartmentCode = None, state: given.State = None,
    area: given.AreaNumber = None, category: given.CategoryCode = None, bbox: given.BoxText = None,
    due_before: given.DueBefore = None, due_after: given.DueAfter = None, overdue: given.Overdue = None,
) -> Wanted:  # fmt: skip
    wanted = Wanted(
        department_of(who), department, state, area, category, given.box_of(bbox), due_before=due_before,
        due_from=due_after, overdue=overdue, now=parts.now(),
    )  # fmt: skip
    check_scope(wanted)
    return wanted


Fitting = Annotated[Wanted, Depends(_wanted)]
"""The orders that fit the filters, of those that the caller may see."""


def _described(media_type: str, schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return problems() | {200: {"description": "The file.", "content": {media_type: {"schema": schema}}}}


@router.get(
    "/work-orders.csv", responses=_described("text/csv", {"type": "string"}),
    response_class=StreamingResponse,
)  # fmt: skip
async def export_work_orders_as_csv(parts: Given, wanted: Fitting) -> Response:
    """All orders that fit, as CSV (RFC 4180)."""
    columns = COLUMNS if wanted.scope else RESTRICTED_COLUMNS
    return _file(parts, wanted, Form("csv", "text/csv", lambda rows: _csv(rows, columns), _line(columns)))


@router.get(
    "/work-orders.ndjson", responses=_described("application/x-ndjson", {"type": "string"}),
    response_class=StreamingResponse,
)  # fmt: skip
async def export_work_orders_as_ndjson(parts: Given, wanted: Fitting) -> Response:
    """All orders that fit, one JSON object per line."""
    return _file(parts, wanted, Form("ndjson", "application/x-ndjson", ndjson))


@router.get(
    "/work-orders.geojson", responses=_described("application/geo+json", {"type": "object"}),
    response_class=StreamingResponse,
)  # fmt: skip
async def export_work_orders_as_geojson(parts: Given, wanted: Fitting) -> Response:
    """All orders that fit, as a FeatureCollection (RFC 7946)."""
    head, tail = '{"type":"FeatureCollection","features":[', "]}\n"
    return _file(parts, wanted, Form("geojson", "application/geo+json", _features, head, ",\n", tail))


class Form(NamedTuple):
    """How rows become a file. `between`: what stands between two pages."""

    extension: str
    media_type: str
    rows: Callable[[Sequence[OrderRow]], str]
    head: str = ""
    between: str = ""
    tail: str = ""


def _file(parts: Parts, wanted: Wanted, form: Form) -> Response:
    headers = {
        "Content-Disposition": f'attachment; filename="work-orders.{form.extension}"',
        "Cache-Control": "private, no-cache",
    }
    return StreamingResponse(chunks(parts.ledger, wanted, form), headers=headers, media_type=form.media_type)


async def chunks(ledger: PostgresLedger, wanted: Wanted, form: Form) -> AsyncIterator[str]:
    """The file, a page of orders at a time."""
    yield form.head
    separator = ""
    async with aclosing(every_order(ledger, wanted)) as pages:
        async for rows in pages:
            yield separator + form.rows(rows)
            separator = form.between
    yield form.tail


def ndjson(rows: Sequence[OrderRow]) -> str:
    """The bodies as they are stored, a line each."""
    return "".join(f"{row.body}\n" for row in rows)


def _features(rows: Sequence[OrderRow]) -> str:
    return ",\n".join(json.dumps(_feature(body), ensure_ascii=False) for body in _dated(rows))


def _dated(rows: Sequence[OrderRow]) -> list[dict[str, Any]]:
    """The bodies, each with its first due time."""
    return [body | {"due_at": text_of(row.due_at)} for body, row in zip(decoded(rows), rows, strict=True)]


def _feature(body: dict[str, Any]) -> dict[str, Any]:
    point = point_of(body)
    geometry = {"type": "Point", "coordinates": [point["lon"], point["lat"]]} if point else None
    properties = {name: value for name, value in body.items() if name != "point"}
    return {"type": "Feature", "id": body["reference"], "geometry": geometry, "properties": properties}


def _csv(rows: Sequence[OrderRow], columns: Sequence[str]) -> str:
    return "".join(_line([_cell(_flat(body).get(name)) for name in columns]) for body in _dated(rows))


def _flat(body: dict[str, Any]) -> dict[str, Any]:
    point, site = point_of(body) or {}, body.get("site") or {}
    place = {name: site[name] for name in ("address", "area") if name in site}
    return body | place | {"lat": point.get("lat"), "lon": point.get("lon")}


def _cell(value: Any) -> str:
    """As text. A cell that somebody else wrote must not become a formula where the file is opened."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        value = " ".join(map(str, value))
    if isinstance(value, int | float):
        return str(value)
    text = str(value)
    return f"'{text}" if text.startswith(_DANGEROUS) else text


def _line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
