"""Records that could not be used, for supervisors and admins: where and why, without the records themselves.

What a record said is looked at, corrected and sent again with `rapid dead-letters`, by who may see it.
"""

from datetime import datetime, timedelta
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from connectors.http import parameters as given
from connectors.http.access import Given
from connectors.http.openapi import problems
from connectors.http.orders import JSON, PRIVATE
from connectors.postgres import refused, retries
from connectors.postgres.alerts import AlertPlace
from connectors.postgres.refused import Bad, SourceReport, Window
from connectors.postgres.retries import Letter, Place, Wanted
from schemas.dead_letter import Reason

LONGEST_H: Final = 720
A_MOMENT: Final = timedelta(seconds=1)

OfTopic = Annotated[
    str | None, Query(pattern=r"^[a-z0-9._-]{1,120}$", description="Only those of this topic.")
]
OfSource = Annotated[str | None, Query(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$", description="Who sent it.")]
OfReason = Annotated[Reason | None, Query(description="Why it could not be used.")]
OfState = Annotated[
    Literal["open", "retried", "discarded", "any"], Query(description="`open`: somebody has to see to it.")
]

router = APIRouter(prefix="/v1/dead-letters", tags=["Dead letters"])


class DeadLetterView(BaseModel):
    """A record that could not be used. `expected`: what is wrong, what was expected, what to do. `attempts`: how often
    it was sent again. `seen`: how many records said the same."""

    dead_letter_id: UUID
    topic: str
    partition: int
    offset: int
    source: str
    reason: str
    field: str | None
    expected: str
    state: Literal["open", "retried", "discarded"]
    attempts: int
    seen: int
    first_seen: datetime
    last_seen: datetime


class DeadLetters(BaseModel):
    """A page of them."""

    items: list[DeadLetterView]
    next: str | None


class RefusedFor(BaseModel):
    """Records of one source that one reason kept out. `before`: in the time that it is compared with."""

    topic: str
    reason: str
    records: int
    before: int
    first_at: datetime
    last_at: datetime
    example: UUID


class RefusedOf(BaseModel):
    """One source. `share`: of all its records that were new to us, what was refused. `bad`: somebody should look."""

    source: str
    bad: bool
    refused: int
    accepted: int
    share: float
    before: int
    reasons: list[RefusedFor]


class RefusedReport(BaseModel):
    """Who sent what could not be used, the bad ones first."""

    since: datetime
    until: datetime
    sources: list[RefusedOf]


@router.get("", response_model=DeadLetters, responses=problems())
async def list_dead_letters(
    request: Request, parts: Given, *, state: OfState = "open", topic: OfTopic = None, reason: OfReason = None,
    source: OfSource = None, cursor: given.CursorText = None, limit: given.Limit = 50,
) -> Response:  # fmt: skip
    """The latest first. The header Link has the next page."""
    wanted = Wanted(None if state == "any" else state, topic, reason, None, source)
    place = given.alert_place_of(cursor)
    async with parts.ledger.connection() as connection:
        after = Place(place.at, place.alert_id) if place else None
        rows = await retries.list_letters(connection, wanted, limit + 1, after)
    shown, more = rows[:limit], len(rows) > limit
    following = given.alert_cursor_of(AlertPlace(*_place(shown[-1]))) if more else None
    headers = PRIVATE | ({"Link": given.next_link(request, following)} if following else {})
    page = DeadLetters(items=[_view(letter) for letter in shown], next=following)
    return Response(page.model_dump_json(), headers=headers, media_type=JSON)


@router.get("/report", response_model=RefusedReport, responses=problems())
async def report_dead_letters(
    parts: Given,
    hours: Annotated[int, Query(ge=1, le=LONGEST_H, description="The last so many hours.")] = 1,
    threshold: Annotated[float, Query(ge=0, le=100, description="Percent from which a source is bad.")] = 5,
) -> Response:
    """Who sends what cannot be used, and why, beside the same time a day before: a bad feed is seen the same hour."""
    until = parts.now() + A_MOMENT
    window = Window(until - timedelta(hours=hours), until)
    async with parts.ledger.connection() as connection:
        found = await refused.report(connection, window, Bad(threshold / 100))
    report = RefusedReport(since=window.since, until=until, sources=[_of(one) for one in found])
    return Response(report.model_dump_json(), headers=PRIVATE, media_type=JSON)


def _place(letter: Letter) -> tuple[datetime, UUID]:
    return letter.last_seen, letter.dead_letter_id


def _view(letter: Letter) -> DeadLetterView:
    return DeadLetterView.model_validate(
        {name: getattr(letter, name) for name in DeadLetterView.model_fields}
    )


def _of(one: SourceReport) -> RefusedOf:
    reasons = [RefusedFor.model_validate(why._asdict()) for why in one.reasons]
    known = one._asdict() | {"share": round(one.share, 6), "reasons": reasons}
    return RefusedOf.model_validate(known)
