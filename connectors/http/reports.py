"""The way in: incidents and issues. 202 means durable; what intake would refuse at once is refused here."""

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, TypeAdapter

from connectors.files.entries import event_of
from connectors.http.access import Given, Who
from connectors.http.bodies import json_bytes, once, parsed
from connectors.http.keys import IdempotencyKey, Sent, response_of, submit
from connectors.http.openapi import one_or_many, problems, takes
from connectors.http.parts import Parts
from connectors.http.problems import FieldError, Refused, about
from connectors.postgres import sources
from connectors.postgres.pool import Connection
from connectors.postgres.sources import Note
from connectors.postgres.submissions import Answer, Submission
from schemas.codec import without_names
from schemas.envelope import Event
from schemas.incident import IncidentReport, incident_id_of
from schemas.issue import IssueReport, issue_id_of
from schemas.topics import INCIDENT_REPORTS, ISSUE_REPORTS

MOST: Final = 500
"""Reports in one request."""
Report = TypeVar("Report", IncidentReport, IssueReport)

_INCIDENTS: Final = TypeAdapter(Annotated[list[IncidentReport], Field(min_length=1, max_length=MOST)])
_INCIDENT: Final = TypeAdapter(IncidentReport)
_ISSUES: Final = TypeAdapter(Annotated[list[IssueReport], Field(min_length=1, max_length=MOST)])
_ISSUE: Final = TypeAdapter(IssueReport)

router = APIRouter(prefix="/v1", tags=["Reports"])


class AcceptedReport(BaseModel):
    """A report that is durably ours, and what it will be part of."""

    id: str
    subject: str


class AcceptedReports(BaseModel):
    """All reports of a request: they are accepted together, or not at all."""

    accepted: list[AcceptedReport]


@router.post(
    "/incident-reports", status_code=HTTPStatus.ACCEPTED, response_model=AcceptedReports,
    responses=problems(body=True), openapi_extra=takes(one_or_many(IncidentReport, MOST)),
)  # fmt: skip
async def submit_incident_reports(
    request: Request, parts: Given, who: Who, idempotency_key: IdempotencyKey = None
) -> Response:
    """Report one incident, or a batch. Names of persons are not needed, and are dropped before anything is stored."""
    raw = await json_bytes(request)
    reports = _reports(raw, _INCIDENT, _INCIDENTS)
    _check(reports, parts)
    accepted = [(one.report_id, str(incident_id_of(one.incident_number))) for one in reports]
    sent = Sent(request, raw, who, idempotency_key)
    return await _accept(parts, sent, reports, [event_of(INCIDENT_REPORTS, one) for one in reports], accepted)


@router.post(
    "/issue-reports", status_code=HTTPStatus.ACCEPTED, response_model=AcceptedReports,
    responses=problems(body=True), openapi_extra=takes(one_or_many(IssueReport, MOST)),
)  # fmt: skip
async def submit_issue_reports(
    request: Request, parts: Given, who: Who, idempotency_key: IdempotencyKey = None
) -> Response:
    """Report one service request, or a batch."""
    raw = await json_bytes(request)
    reports = _reports(raw, _ISSUE, _ISSUES)
    _check(reports, parts)
    accepted = [(one.request_number, str(issue_id_of(one.source, one.request_number))) for one in reports]
    sent = Sent(request, raw, who, idempotency_key)
    return await _accept(parts, sent, reports, [event_of(ISSUE_REPORTS, one) for one in reports], accepted)


def _reports(raw: bytes, one: TypeAdapter[Report], many: TypeAdapter[list[Report]]) -> list[Report]:
    once(raw)  # before names are left out, which leaves out what is there twice
    clean = without_names(raw)
    return parsed(many, clean) if clean.lstrip()[:1] == b"[" else [parsed(one, clean)]


def _check(reports: Sequence[IncidentReport | IssueReport], parts: Parts) -> None:
    """Refuse what intake would certainly refuse. It still decides: a record may lie there for a while."""
    now = parts.now()
    errors = [
        FieldError(
            field=f"{index}.{found.field}" if len(reports) > 1 else found.field, expected=found.expected
        )
        for index, report in enumerate(reports)
        if (found := parts.refuse(report, now)) is not None
    ]
    if errors:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, about(errors), errors=errors)


async def _accept(
    parts: Parts, sent: Sent, reports: Sequence[IncidentReport | IssueReport], events: Sequence[Event],
    accepted: Sequence[tuple[str, str]],
) -> Response:  # fmt: skip
    body = AcceptedReports(accepted=[AcceptedReport(id=one, subject=subject) for one, subject in accepted])
    submission = Submission(
        principal=sent.who.name,
        key=sent.key,
        digest=sent.digest,
        events=events,
        answer=Answer(HTTPStatus.ACCEPTED.value, {}, body.model_dump_json()),
        entries=[sent.entry(events[0].topic, {"reports": len(events)})],
        also=lambda connection: _count(connection, reports),
    )
    return response_of(await submit(parts, submission))


async def _count(connection: Connection, reports: Sequence[IncidentReport | IssueReport]) -> None:
    """What each source gave, for whoever asks how it does."""
    revised: dict[str, list[datetime]] = {}
    for one in reports:
        revised.setdefault(one.source, []).append(one.revised_at)
    notes = [Note(source, "rest", len(times), 0, max(times)) for source, times in revised.items()]
    await sources.note(connection, notes)
