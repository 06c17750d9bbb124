"""What incidents call for, and why: for supervisors and auditors alone. Restricted."""

from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from connectors.http import parameters as given
from connectors.http.access import Given
from connectors.http.openapi import links, problems
from connectors.http.orders import JSON, PRIVATE, Explanation, explanation
from connectors.http.problems import not_found
from connectors.postgres import http_reads
from schemas import response as schema

router = APIRouter(prefix="/v1", tags=["Responses"])


class Responses(BaseModel):
    """A page of responses."""

    items: list[schema.Response]
    next: UUID | None


@router.get(
    "/responses", response_model=Responses, responses=problems() | {200: {"links": links(
        read_response="response_id=$response.body#/items/0/response_id",
        explain_incident="incident_id=$response.body#/items/0/incident_id")}},
)  # fmt: skip
async def list_responses(
    request: Request, parts: Given,
    *, status: Annotated[Literal["active", "ended"] | None, Query()] = None, area: given.AreaNumber = None,
    cursor: Annotated[UUID | None, Query(description="`next` of the page before.")] = None, limit: given.Limit = 50,
) -> Response:  # fmt: skip
    """The newest first. The header Link has the next page."""
    async with parts.ledger.connection() as connection:
        rows = await http_reads.responses(connection, cursor, status, area, limit + 1)
    shown, more = rows[:limit], len(rows) > limit
    following = str(shown[-1][0]) if more else None
    headers = PRIVATE | ({"Link": given.next_link(request, following)} if following else {})
    items = ",".join(body for _, body in shown)
    told = f'"{following}"' if following else "null"
    return Response(f'{{"items":[{items}],"next":{told}}}', headers=headers, media_type=JSON)


@router.get(
    "/responses/{response_id}",
    response_model=schema.Response,
    responses=problems(404),
)
async def read_response(
    response_id: Annotated[UUID, Path()],
    parts: Given,
) -> Response:
    """One response: its zones, its plan's work, its window."""
    async with parts.ledger.connection() as connection:
        found = await http_reads.response(connection, response_id)
    if found is None:
        raise not_found("response")
    body, version = found
    return Response(body, HTTPStatus.OK, headers=PRIVATE | {"ETag": f'"{version}"'}, media_type=JSON)


@router.get(
    "/incidents/{incident_id}/explanation", response_model=Explanation, responses=problems(404),
)  # fmt: skip
async def explain_incident(
    incident_id: Annotated[UUID, Path()],
    parts: Given,
) -> Response:
    """What was held of an incident, what was decided, and what came of it."""
    return await explanation(parts, "triage", str(incident_id), "incident")
