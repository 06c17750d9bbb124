"""Parameters that several routes share, each bounded; what a route does not know is refused, not ignored."""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Depends, Path, Query, Request
from pydantic import AwareDatetime, BeforeValidator

from connectors.http.problems import FieldError, Refused, about, invalid
from connectors.postgres.alerts import AlertPlace
from connectors.postgres.http_reads import Box, Place, Sort
from schemas.alert import AlertState
from schemas.work_order import ClockName, OrderState

MOST_ROWS: Final = 500
_CODE: Final = r"^[a-z0-9][a-z0-9_-]{0,39}$"
_REFERENCE: Final = r"^WO-[0-9A-HJKMNP-TV-Z]{5}-[0-9A-HJKMNP-TV-Z]{5}$"
_NATURAL_KEY: Final = r"^[^\x00-\x1f\x7f|]{1,80}$"

Reference = Annotated[str, Path(pattern=_REFERENCE, description="An order's reference.")]
AlertId = Annotated[UUID, Path(description="An alert's id.")]
UpdateId = Annotated[str, Path(pattern=_NATURAL_KEY, description="The sender's id of an update.")]
DepartmentCode = Annotated[str | None, Query(pattern=_CODE, description="For supervisors: whose orders.")]
CategoryCode = Annotated[str | None, Query(pattern=_CODE)]
AreaNumber = Annotated[int | None, Query(ge=1, le=9999)]
State = Annotated[
    Literal[OrderState, "open"] | None,
    Query(description="`open`: every state in which something is to be done."),
]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="How many at most.")]
CursorText = Annotated[
    str | None, Query(max_length=200, pattern=r"^[A-Za-z0-9_=-]+$", description="`next` of the page before.")
]


def _written_out(text: object) -> object:
    """A number of seconds is a moment to pydantic, and not to our document."""
    if isinstance(text, str) and not re.match(r"\d{4}-\d{2}-\d{2}[Tt ]", text):
        raise ValueError("a moment such as 2026-07-04T22:40:00-05:00")
    return text


def _a_day(text: object) -> object:
    """The same for days."""
    if isinstance(text, str) and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        raise ValueError("a day such as 2026-07-04")
    return text


AsOf = Annotated[
    date | None,
    BeforeValidator(_a_day),
    Query(description="By the boundaries of this day; without: of today."),
]
UpdatedAfter = Annotated[
    AwareDatetime | None,
    BeforeValidator(_written_out),
    Query(description="Only what changed after this moment, the first change first."),
]
DueBefore = Annotated[
    AwareDatetime | None,
    BeforeValidator(_written_out),
    Query(description="Only what has a promise that is due before this moment."),
]
DueAfter = Annotated[
    AwareDatetime | None,
    BeforeValidator(_written_out),
    Query(description="Only what is due at this moment or later, and nothing of it earlier."),
]
Overdue = Annotated[
    bool | None,
    Query(description="`true`: only what has a promise that is over and not kept. `false`: the others."),
]
SortBy = Annotated[
    Literal["due"] | None,
    Query(description="`due`: the first due first, then what has no due time. Without it: the newest first."),
]
Since = Annotated[
    AwareDatetime | None,
    BeforeValidator(_written_out),
    Query(description="Only those whose point was reached at this moment or later."),
]
Until = Annotated[
    AwareDatetime | None,
    BeforeValidator(_written_out),
    Query(description="Only those whose point was reached before this moment."),
]
ALERT_STATES: Final[tuple[AlertState, ...]] = get_args(AlertState)
States = Annotated[
    str | None,
    Query(
        pattern=rf"^(all|({'|'.join(ALERT_STATES)})(,({'|'.join(ALERT_STATES)})){{0,5}})$",
        description="One or several with commas between, or `all`. Without it: those that need attention, which are "
        "`open,acknowledged,snoozed`.",
    ),
]
Levels = Annotated[
    str | None, Query(pattern=r"^[1-4](,[1-4]){0,3}$", description="One or several with commas between.")
]
ClockCode = Annotated[Literal[ClockName, "order"] | None, Query(description="`order`: of the order itself.")]
RungCode = Annotated[str | None, Query(pattern=_CODE, description="A rung of the policy, such as `p75`.")]
ReferenceIs = Annotated[str | None, Query(pattern=_REFERENCE, description="Only of this order.")]
BoxText = Annotated[
    str | None,
    Query(
        max_length=100, pattern=r"^-?\d{1,3}(\.\d{1,15})?(,-?\d{1,3}(\.\d{1,15})?){3}$",
        description="min_lon,min_lat,max_lon,max_lat",
    ),
]  # fmt: skip
ToVerify = Annotated[
    bool | None, Query(description="For supervisors: only those (not) drawn for re-inspection.")
]


def _only_known(request: Request) -> None:
    """A misspelt filter must not mean: everything."""
    known = {field.alias for field in _query_fields(request.scope["route"].dependant)}
    sent = Counter(name for name, _ in request.query_params.multi_items())
    errors = [
        FieldError(
            field=name[:80] if re.fullmatch(r"[\w-]{1,80}", name) else "?", expected=_wanted(name in known)
        )
        for name, times in sent.items()
        if name not in known or times > 1
    ]
    if errors:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, about(errors), errors=errors)


def _wanted(is_known: bool) -> str:
    return "this parameter once" if is_known else "no parameter of this name"


def _query_fields(dependant: Any) -> list[Any]:
    nested = [field for one in dependant.dependencies for field in _query_fields(one)]
    return [*dependant.query_params, *nested]


OnlyKnown: Final = Depends(_only_known)


def box_of(text: str | None) -> Box | None:
    """The rectangle of a `bbox`. Raises Refused."""
    if text is None:
        return None
    box = Box(*map(float, text.split(",")))
    sound = -180 <= box.min_lon <= box.max_lon <= 180 and -90 <= box.min_lat <= box.max_lat <= 90
    if not sound:
        raise invalid("bbox", "min_lon,min_lat,max_lon,max_lat in degrees, the smaller ones first")
    return box


def cursor_of(place: Place, sort: Sort = "age") -> str:
    """A place as a text that says nothing to others: a reference, and a moment that its reader knows already."""
    kind = "|due" if sort == "due" else ""
    return _packed(f"{place.reference}|{place.at.isoformat() if place.at else ''}{kind}")


def place_of(cursor: str | None, sort: Sort) -> Place | None:
    """The place of a cursor, of a page that goes by this. Raises Refused."""
    if cursor is None:
        return None
    reference, at, *kind = _unpacked(cursor, 3 if sort == "due" else 2)
    place = Place(reference, _moment(at) if at else None)
    has_time = place.at is not None
    fits = kind == ["due"] if sort == "due" else has_time == (sort == "change")
    if not fits or not re.fullmatch(_REFERENCE, reference):
        raise invalid("cursor", CURSOR_EXPECTED)
    return place


def alert_cursor_of(place: AlertPlace) -> str:
    """The same of a page of alerts."""
    return _packed(f"{place.at.isoformat()}|{place.alert_id}")


def alert_place_of(cursor: str | None) -> AlertPlace | None:
    """The same of a page of alerts. Raises Refused."""
    if cursor is None:
        return None
    at, alert_id = _unpacked(cursor, 2)
    try:
        return AlertPlace(_moment(at), UUID(alert_id))
    except ValueError as error:
        raise invalid("cursor", CURSOR_EXPECTED) from error


def _packed(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _unpacked(cursor: str, members: int) -> list[str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error, UnicodeDecodeError) as error:
        raise invalid("cursor", CURSOR_EXPECTED) from error
    found = text.split("|")
    if len(found) != members:
        raise invalid("cursor", CURSOR_EXPECTED)
    return found


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid("cursor", CURSOR_EXPECTED) from error
    if at.tzinfo is None:
        raise invalid("cursor", CURSOR_EXPECTED)
    return at


CURSOR_EXPECTED: Final = "the cursor of the page before, with the same filters"


def next_link(request: Request, cursor: str) -> str:
    """RFC 8288: where the next page is, with the same filters."""
    kept: Sequence[tuple[str, str]] = [
        (name, value) for name, value in request.query_params.multi_items() if name != "cursor"
    ]
    return f'<{request.url.path}?{urlencode([*kept, ("cursor", cursor)])}>; rel="next"'
