"""Times as a source writes them."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from connectors.files.fields import zoned
from connectors.mapping.spec import EPOCH_MS, EPOCH_S, ISO

ReadTime = Callable[[Any], datetime]
"""Raises ValueError or OverflowError."""

_PROBE: Final = datetime(2025, 11, 23, 17, 45, tzinfo=UTC)
EXAMPLES: Final = "2024-12-31T23:26:00, 12/31/2024 11:26:00 PM"


def time_reader(form: str, zone: ZoneInfo | None) -> ReadTime:
    """How a text or number of this format becomes a moment in UTC.

    A wall time that the clocks skipped in spring moves forward by what they skipped; one that came twice in autumn
    means its first occurrence, as in the city's own files. A written offset holds.
    """
    if form in (EPOCH_S, EPOCH_MS):
        scale = 1 if form == EPOCH_S else 1000
        return lambda raw: datetime.fromtimestamp(float(raw) / scale, UTC)
    if form == ISO:
        return _iso(zone)
    return lambda raw: _placed(datetime.strptime(str(raw), form), zone)  # noqa: DTZ007 - placed right here


def looks_like(form: str, zone: ZoneInfo | None) -> str:
    """What a time of this format looks like, for a person."""
    if form in (EPOCH_S, EPOCH_MS):
        return f"{'seconds' if form == EPOCH_S else 'milliseconds'} since 1970 in UTC"
    if form != ISO:
        return f"a time like {form}"
    return (
        f"a time such as {EXAMPLES}" if zone else "a time with an offset, such as 2024-12-31T23:26:00-06:00"
    )


def why_impossible(form: str, zone: ZoneInfo | None) -> str | None:
    """Why no moment can be told from this format, None when one can."""
    if form in (ISO, EPOCH_S, EPOCH_MS):
        return None
    try:
        found = datetime.strptime(_PROBE.strftime(form), form)  # noqa: DTZ007 - only compared
    except ValueError as error:
        return f"expected iso, epoch_s, epoch_ms or a pattern such as %m/%d/%Y %H:%M: {error}"
    if found.replace(tzinfo=UTC, second=0) != _PROBE:
        return "expected a pattern with year, month, day, hour and minute, such as %m/%d/%Y %H:%M"
    if zone is None and found.tzinfo is None:
        return "has no offset (%z): name the zone of these times in `times.zone`, such as America/Chicago"
    return None


def _iso(zone: ZoneInfo | None) -> ReadTime:
    if zone is not None:
        return lambda raw: zoned(str(raw), zone)

    def read(raw: Any) -> datetime:
        return _placed(datetime.fromisoformat(str(raw)), None)

    return read


def _placed(at: datetime, zone: ZoneInfo | None) -> datetime:
    if at.tzinfo is None:
        if zone is None:
            raise ValueError("no offset and no zone")
        at = at.replace(tzinfo=zone, fold=0)
    return at.astimezone(UTC)
