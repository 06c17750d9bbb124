"""When somebody is told: after the time in which messages gather, after quiet hours, or with a digest. Pure.

All wall times are of the person's zone, whatever its clocks do: a digest at 08:00 comes at 08:00.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from agents.sla.oncall import instant_of
from schemas.notification import Wait
from schemas.oncall import Digest, Person, QuietHours, QuietSpan
from schemas.sla import WEEKDAYS

_DAY: Final = timedelta(days=1)
LONGEST_QUIET: Final = timedelta(days=7)
"""Who is quiet without an end is told after so long: nothing waits for ever."""


class Due(NamedTuple):
    """Not before when, and what for."""

    at: datetime
    wait: Wait


def due(person: Person, level: int, now: datetime, gather: timedelta) -> Due:
    """When a person is told what comes up now, at this level of alert."""
    if person.digest is not None and level <= person.digest.up_to_level:
        at = next_digest(person.digest, person.time_zone, now)
        return Due(after_quiet(person, level, at), "digest")
    at = now + gather
    after = after_quiet(person, level, at)
    return Due(after, "gathering" if after == at else "quiet")


def after_quiet(person: Person, level: int, at: datetime) -> datetime:
    """This instant, or the end of the quiet hours that it lies in."""
    quiet = person.quiet
    if quiet is None or level >= quiet.from_level:
        return at
    zone, until = ZoneInfo(person.time_zone), at
    while (end := _end_of_quiet(quiet, until, zone)) is not None:
        until = end
        if until - at >= LONGEST_QUIET:
            break
    return until


def next_digest(digest: Digest, time_zone: str, now: datetime) -> datetime:
    """The first time after now at which a digest is sent."""
    zone = ZoneInfo(time_zone)
    today = now.astimezone(zone).date()
    days = (today + _DAY * ahead for ahead in range(16))
    return next(
        at
        for day in days
        if digest.every == "day" or WEEKDAYS[day.weekday()] == digest.on
        for at in [instant_of(day, digest.at, zone)]
        if at > now
    )


def _end_of_quiet(quiet: QuietHours, at: datetime, zone: ZoneInfo) -> datetime | None:
    """When the quiet hours end that this instant lies in, the latest of several; None: it lies in none."""
    today = at.astimezone(zone).date()
    ends = [
        end
        for span in quiet.spans
        for day in (today - _DAY, today)
        if WEEKDAYS[day.weekday()] in span.days
        for start, end in [_instants(span, day, zone)]
        if start <= at < end
    ]
    return max(ends, default=None)


def _instants(span: QuietSpan, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """From when until when it is quiet; hours that end before they begin end on the next day."""
    begins, _, ends = span.hours.partition("-")
    start = instant_of(day, begins, zone)
    if ends == "24:00":
        return start, instant_of(day + _DAY, "00:00", zone)
    return start, instant_of(day if ends > begins else day + _DAY, ends, zone).astimezone(UTC)
