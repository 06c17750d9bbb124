"""Single fields as the city writes them. Every function takes a row's fields and the column's name.

Blank and absent mean the same: the portal's JSON leaves out what is null.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from connectors.files.errors import RowDefect
from schemas.base import Point

Fields = Mapping[str, str]

TIME_EXAMPLES: Final = "2024-12-31T23:26:00.000, 2024-12-31 23:26:00 or 12/31/2024 11:26:00 PM"

_PORTAL_CSV_TIME = re.compile(
    r"(\d{1,2})/(\d{1,2})/(\d{4})(?:[ T](\d{1,2}):(\d{2})(?::(\d{2}))?(?:\.\d+)? ?([AP]M)?)?", re.IGNORECASE
)
_WHOLE = re.compile(r"(\d{1,9})(?:\.0*)?")


def optional(fields: Fields, column: str) -> str | None:
    """The text, None when blank."""
    return fields.get(column) or None


def required(fields: Fields, column: str, what: str) -> str:
    """The text; a defect when blank."""
    text = fields.get(column)
    if not text:
        raise RowDefect(f"{what}, found nothing", column)
    return text


def time(fields: Fields, column: str, zone: ZoneInfo) -> datetime:
    """The moment in a column; a defect when blank or unreadable."""
    found = optional_time(fields, column, zone)
    if found is None:
        raise RowDefect(f"a time such as {TIME_EXAMPLES}, found nothing", column)
    return found


def optional_time(fields: Fields, column: str, zone: ZoneInfo) -> datetime | None:
    """The moment in a column, None when blank; a defect when unreadable."""
    text = fields.get(column)
    if not text:
        return None
    try:
        return zoned(text, zone)
    except (ValueError, OverflowError):
        raise RowDefect(f"a time such as {TIME_EXAMPLES}", column, "impossible_time") from None


def zoned(text: str, zone: ZoneInfo) -> datetime:
    """A time of the city's data in UTC; raises ValueError or OverflowError.

    Without an offset it is the city's wall clock. A wall time that the clocks skipped in spring moves
    forward by what they skipped; one that came twice in autumn means its first occurrence: both are what
    `fold=0` gives. A written offset holds.
    """
    at = _portal_csv_time(text, zone) if "/" in text else datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=zone, fold=0)).astimezone(UTC)


def _portal_csv_time(text: str, zone: ZoneInfo) -> datetime:
    """`12/31/2024 11:26:00 PM`; strptime takes ten times as long."""
    found = _PORTAL_CSV_TIME.fullmatch(text)
    if not found:
        raise ValueError("not a time")
    month, day, year, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    return datetime(year, month, day, _hour(hour, found[7]), minute, second, tzinfo=zone)


def _hour(hour: int, half: str | None) -> int:
    if half is None:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError("not an hour")
    return hour % 12 + (12 if half.upper() == "PM" else 0)


def point(fields: Fields) -> Point | None:
    """The place; None unless both coordinates are given. (0, 0) passes: intake refuses it with a reason."""
    lat, lon = fields.get("latitude"), fields.get("longitude")
    if not lat or not lon:
        return None
    try:
        return Point(lat=float(lat), lon=float(lon))
    except (ValueError, ValidationError):
        expected = "a latitude of -90 to 90 and a longitude of -180 to 180 degrees"
        raise RowDefect(expected, "latitude", "impossible_place") from None


def area(fields: Fields, column: str = "community_area") -> tuple[int | None, str | None]:
    """The published area as (number, name): some datasets write the one, some the other; 0 is none."""
    text = fields.get(column)
    if not text:
        return None, None
    found = _WHOLE.fullmatch(text)
    return (int(found[1]) or None, None) if found else (None, text)


def beat(fields: Fields, column: str = "beat") -> str | None:
    """The police beat, with the leading zeros that spreadsheets eat: `322` is `0322`."""
    text = fields.get(column)
    found = _WHOLE.fullmatch(text) if text else None
    return found[1].zfill(4) if found else text or None


def number_text(fields: Fields, column: str) -> str | None:
    """A district or ward, without leading zeros: datasets write `3`, `03` and `003`."""
    text = fields.get(column)
    found = _WHOLE.fullmatch(text) if text else None
    return (found[1].lstrip("0") or None) if found else text or None


def yes_or_no(fields: Fields, column: str) -> bool | None:
    """YES, Y, TRUE or 1; NO, N, FALSE or 0; anything else is None."""
    return _ANSWERS.get(fields.get(column, "").upper())


_ANSWERS: Final = dict.fromkeys(("YES", "Y", "TRUE", "1"), True) | dict.fromkeys(
    ("NO", "N", "FALSE", "0"), False
)
