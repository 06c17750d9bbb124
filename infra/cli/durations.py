"""How long, as a person types it: `90d`, `24h`, `30m`."""

import re
from datetime import datetime, timedelta
from typing import Final

import typer

_FORM: Final = re.compile(r"([0-9]{1,5})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST: Final = timedelta(days=3650)


def duration(text: str) -> timedelta:
    """`90d` as a duration. Raises typer.BadParameter."""
    matched = _FORM.fullmatch(text.strip())
    length = timedelta(**{_UNITS[matched[2]]: int(matched[1])}) if matched else None
    if length is None or length > LONGEST:
        raise typer.BadParameter("a number and a unit (s, m, h, d, w), such as 24h or 90d; at most ten years")
    return length


def coming(text: str, now: datetime) -> datetime:
    """Like `moment`, but a length is one from now on. Raises typer.BadParameter."""
    return now + duration(text) if _FORM.fullmatch(text.strip()) else moment(text, now)


def moment(text: str, now: datetime) -> datetime:
    """An ISO date or time (of this machine's zone, unless it names one), or how long ago. Raises typer.BadParameter."""
    if _FORM.fullmatch(text.strip()):
        return now - duration(text)
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            "a date or a time such as 2026-07-01 or 2026-07-01T12:00Z, or how long ago, such as 24h"
        ) from error
