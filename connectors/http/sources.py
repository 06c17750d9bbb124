"""Sources of any other kind: a webhook for whatever JSON they send, and how they all do, for supervisors.

body -> items by the source's mapping -> ONE transaction {outbox rows, dead letters, counts, answer, audit} -> 202
"""

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel
from pydantic_core import from_json

from connectors.http.access import Given, Who
from connectors.http.bodies import json_bytes, once
from connectors.http.keys import IdempotencyKey, Sent, response_of, submit
from connectors.http.openapi import problems, takes
from connectors.http.problems import (
    MOST_ERRORS,
    PROBLEM_TYPE,
    FieldError,
    Problem,
    Refused,
    not_found,
)
from connectors.mapping.items import Numbered, items_in
from connectors.mapping.mapping import SourceMapping
from connectors.mapping.parts import SourceParts
from connectors.mapping.taking import Border, Refusal, Taken, take
from connectors.mapping.targets import Report
from connectors.postgres import dead_letters, sources
from connectors.postgres.pool import Connection
from connectors.postgres.sources import Note
from connectors.postgres.submissions import Answer, Submission
from schemas.codec import without_names
from schemas.incident import IncidentReport, incident_id_of
from schemas.issue import issue_id_of
from schemas.source import SourceLines

MOST: Final = 500
"""Elements in one request."""
MEND_S: Final = 60
"""What a caller is told to wait until somebody has mended a mapping file."""
PLACE: Final = "webhook"

_CODE: Final = r"^[a-z0-9][a-z0-9_-]{0,39}$"
_BODY: Final = {"oneOf": [{"type": "object"}, {"type": "array"}]}

Code = Annotated[str, Path(pattern=_CODE, description="The source's code, as its mapping file says.")]

router = APIRouter(prefix="/v1/sources", tags=["Sources"])


class AcceptedElement(BaseModel):
    """An element that is durably ours, and what it will be part of. `index` counts from 0."""

    index: int
    id: str
    subject: UUID


class RefusedElement(BaseModel):
    """An element that cannot be used: it is kept as a dead letter, and not tried again by itself."""

    index: int
    field: str
    expected: str
    dead_letter_id: UUID


class TakenElements(BaseModel):
    """What became of the elements of a request."""

    accepted: list[AcceptedElement]
    refused: list[RefusedElement]
    skipped: int  # not about our subject, as the mapping says


@router.get("", response_model=SourceLines, responses=problems())
async def list_sources(parts: Given) -> Response:
    """Every source with its last success, its lag, what it gave in the last day, and what is wrong with it."""
    async with parts.ledger.connection() as connection:
        found = await parts.sources.overview(connection)
    return Response(
        found.model_dump_json(), headers={"Cache-Control": "no-store"}, media_type="application/json"
    )


@router.post(
    "/{code}", status_code=HTTPStatus.ACCEPTED, response_model=TakenElements,
    responses=problems(404, body=True), openapi_extra=takes(_BODY),
)  # fmt: skip
async def submit_to_source(
    request: Request, code: Code, parts: Given, who: Who, idempotency_key: IdempotencyKey = None
) -> Response:
    """Send what a source says in its own words: the mapping file of the source tells what it means.

    Good elements are accepted, bad ones are kept as dead letters; the answer says which are which. When none is good,
    the answer is a problem, and the dead letters are kept all the same.
    """
    mapping = _mapping(parts.sources, code)
    raw = await json_bytes(request)
    border = Border(mapping, parts.sources.refuse, PLACE)
    taken = take(_items(raw, mapping), border, parts.now())
    sent = Sent(request, raw, who, idempotency_key)
    details = {"reports": len(taken.events), "refused": len(taken.refusals), "skipped": taken.skipped}
    submission = Submission(
        principal=who.name,
        key=sent.key,
        digest=sent.digest,
        events=taken.events,
        answer=_answer(taken),
        entries=[sent.entry(code, details)],
        also=_also(code, taken),
    )
    return response_of(await submit(parts, submission))


def _mapping(known: SourceParts, code: str) -> SourceMapping:
    """The source's mapping. Raises Refused: 404, or 503 while it is wrong."""
    if code in known.wrong:
        raise Refused(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The mapping of this source is wrong, and has to be mended here: send the same again later.",
            headers={"Retry-After": str(MEND_S)},
        )
    mapping = known.mappings.get(code)
    if mapping is None or mapping.file.format != "json":  # who sends files drops them
        raise not_found("source")
    return mapping


def _items(raw: bytes, mapping: SourceMapping) -> list[Numbered]:
    """The elements of a body, counted from 0. Raises Refused."""
    once(raw)
    try:
        document = from_json(without_names(raw), allow_inf_nan=False)
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "The body is not JSON, or is nested too deeply.") from error
    found = items_in(document, mapping.file.items)
    where = mapping.file.items or "its root"
    if not found:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"The body must have one element or more at {where}.")
    if len(found) > MOST:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"One request may have {MOST} elements, not {len(found)}."
        )
    return [
        Numbered(place, one if isinstance(one, dict) else None, "a JSON object")
        for place, one in enumerate(found)
    ]


def _answer(taken: Taken) -> Answer:
    refused = [
        RefusedElement(
            index=one.row, field=_field(one), expected=one.expected, dead_letter_id=one.letter.dead_letter_id
        )
        for one in taken.refusals
    ]
    if refused and not taken.events and not taken.skipped:
        return _none_is_good(taken.refusals)
    accepted = [
        AcceptedElement(index=index, id=_id_of(report), subject=_subject_of(report))
        for index, report in zip(taken.numbers, taken.reports, strict=True)
    ]
    body = TakenElements(accepted=accepted, refused=refused, skipped=taken.skipped)
    return Answer(HTTPStatus.ACCEPTED.value, {}, body.model_dump_json())


def _none_is_good(refusals: Sequence[Refusal]) -> Answer:
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    errors = [
        FieldError(field=f"{one.row}.{_field(one)}"[:200], expected=one.expected)
        for one in refusals[:MOST_ERRORS]
    ]
    problem = Problem(
        title=status.phrase,
        status=status.value,
        detail=f"None of the {len(refusals)} elements can be used; they are kept as dead letters.",
        errors=errors,
    )
    return Answer(status.value, {"content-type": PROBLEM_TYPE}, problem.model_dump_json())


def _field(refusal: Refusal) -> str:
    return refusal.field or "element"


def _id_of(report: Report) -> str:
    return report.report_id if isinstance(report, IncidentReport) else report.request_number


def _subject_of(report: Report) -> UUID:
    if isinstance(report, IncidentReport):
        return incident_id_of(report.incident_number)
    return issue_id_of(report.source, report.request_number)


def _also(code: str, taken: Taken) -> Callable[[Connection], Awaitable[Any]]:
    """What is written with the events."""

    async def also(connection: Connection) -> None:
        await dead_letters.bury(connection, taken.letters)
        note = Note(code, "webhook", len(taken.events), len(taken.refusals), taken.newest)
        await sources.note(connection, [note])

    return also
