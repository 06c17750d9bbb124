"""What incidents call for, why, and what becomes of it: for supervisors and auditors alone. Restricted."""

from datetime import UTC, datetime
from hashlib import blake2b
from http import HTTPStatus
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from connectors.http import parameters as given
from connectors.http.access import Given
from connectors.http.openapi import links, problems
from connectors.http.orders import JSON, PRIVATE, Explanation, explanation
from connectors.http.problems import not_found
from connectors.postgres import response_reads
from connectors.postgres.response_reads import WantedResponses
from schemas.response_life import LifeLine, LifeWord, WholeResponse

router = APIRouter(prefix="/v1", tags=["Responses"])

MOST_LINES: Final = 1_000


class Responses(BaseModel):
    """A page of responses."""

    items: list[WholeResponse]
    next: UUID | None


class Life(BaseModel):
    """The ledger of a response's life, the oldest line first."""

    items: list[LifeLine]


@router.get(
    "/responses", response_model=Responses, responses=problems() | {200: {"links": links(
        read_response="response_id=$response.body#/items/0/response_id",
        explain_incident="incident_id=$response.body#/items/0/incident_id")}},
)  # fmt: skip
async def list_responses(
    request: Request, parts: Given,
    *, status: Annotated[Literal["active", "ended"] | None, Query()] = None, area: given.AreaNumber = None,
    life: Annotated[LifeWord | None, Query(description="`open`: not closed yet, and not made safe.")] = None,
    cursor: Annotated[UUID | None, Query(description="`next` of the page before.")] = None, limit: given.Limit = 50,
) -> Response:  # fmt: skip
    """The newest first, each with its life: its window, its orders, whether its zone was made safe, how it was closed.
    The header Link has the next page."""
    wanted = WantedResponses(cursor, status, area, life, limit=limit + 1)
    async with parts.ledger.connection() as connection:
        rows = await response_reads.responses(connection, wanted, datetime.now(UTC))
    shown, more = rows[:limit], len(rows) > limit
    following = shown[-1].response_id if more else None
    headers = PRIVATE | ({"Link": given.next_link(request, str(following))} if following else {})
    page = Responses.model_construct(items=shown, next=following)
    return Response(page.model_dump_json(), headers=headers, media_type=JSON)


@router.get(
    "/responses/{response_id}",
    response_model=WholeResponse,
    responses=problems(404),
)
async def read_response(
    response_id: Annotated[UUID, Path()],
    parts: Given,
) -> Response:
    """One response: its zones, its plan's work, its window, its life."""
    async with parts.ledger.connection() as connection:
        found = await response_reads.response(connection, response_id, datetime.now(UTC))
    if found is None:
        raise not_found("response")
    body = found.model_dump_json()
    tag = blake2b(body.encode(), digest_size=8).hexdigest()  # time changes it, too: no version tells
    return Response(body, HTTPStatus.OK, headers=PRIVATE | {"ETag": f'"{tag}"'}, media_type=JSON)


@router.get("/responses/{response_id}/life", response_model=Life, responses=problems(404))
async def read_life(
    response_id: Annotated[UUID, Path()],
    parts: Given,
) -> Response:
    """What has happened in a response's life, line by line: nothing in it is ever changed, only corrected."""
    async with parts.ledger.connection() as connection:
        found = await response_reads.response(connection, response_id, datetime.now(UTC))
        if found is None:
            raise not_found("response")
        lines = await response_reads.lines(connection, found.response_id, MOST_LINES)
    return Response(
        Life.model_construct(items=list(lines)).model_dump_json(), headers=PRIVATE, media_type=JSON
    )


@router.get(
    "/incidents/{incident_id}/explanation", response_model=Explanation, responses=problems(404),
)  # fmt: skip
async def explain_incident(
    incident_id: Annotated[UUID, Path()],
    parts: Given,
) -> Response:
    """What was held of an incident, what was decided, and what came of it."""
    return await explanation(parts, "triage", str(incident_id), "incident")
