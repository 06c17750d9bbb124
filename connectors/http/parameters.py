"""Parameters that several routes share, each bounded; what a route does not know is refused, not ignored."""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from fastapi import Depends, Path, Query, Request
from pydantic import AwareDatetime, BeforeValidator

from connectors.http.problems import FieldError, Refused, about, invalid
from connectors.postgres.http_reads import Box, Place
from schemas.work_order import OrderState

MOST_ROWS: Final = 500
_CODE: Final = r"^[a-z0-9][a-z0-9_-]{0,39}$"
_REFERENCE: Final = r"^WO-[0-9A-HJKMNP-TV-Z]{5}-[0-9A-HJKMNP-TV-Z]{5}$"
_NATURAL_KEY: Final = r"^[^\x00-\x1f\x7f|]{1,80}$"

Reference = Annotated[str, Path(pattern=_REFERENCE, description="An order's reference.")]
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


UpdatedAfter = Annotated[
    AwareDatetime | None,
    BeforeValidator(_written_out),
    Query(description="Only what changed after this moment, the first change first."),
]
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


def cursor_of(place: Place) -> str:
    """A place as a text that says nothing to others: a reference, and a moment that its reader knows already."""
    text = f"{place.reference}|{place.at.isoformat() if place.at else ''}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place_of(cursor: str | None, *, by_change: bool) -> Place | None:
    """The place of a cursor. Raises Refused."""
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        reference, at = text.split("|")
        place = Place(reference, datetime.fromisoformat(at) if at else None)
    except (ValueError, binascii.Error, UnicodeDecodeError) as error:
        raise invalid("cursor", CURSOR_EXPECTED) from error
    sound = re.fullmatch(_REFERENCE, place.reference) and (place.at is not None) == by_change
    if not sound or (place.at is not None and place.at.tzinfo is None):
        raise invalid("cursor", CURSOR_EXPECTED)
    return place


CURSOR_EXPECTED: Final = "the cursor of the page before, with the same filters"


def next_link(request: Request, cursor: str) -> str:
    """RFC 8288: where the next page is, with the same filters."""
    kept: Sequence[tuple[str, str]] = [
        (name, value) for name, value in request.query_params.multi_items() if name != "cursor"
    ]
    return f'<{request.url.path}?{urlencode([*kept, ("cursor", cursor)])}>; rel="next"'
