"""Working time the slow and obvious way: every minute of some days is looked at, with the wall clock of its zone.

It shares nothing with the engine but the calendar's definition. A wall time is looked up among the wall times that
the days really had, so that gaps and repeated hours are found by looking, not by a rule about offsets.
"""

from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from schemas.sla import WEEKDAYS, Boundary, Calendar

MINUTE = timedelta(minutes=1)
DAY_MINUTES = 24 * 60
EPOCH_DAY = date(1970, 1, 1).toordinal()


def instant(minute: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + minute * MINUTE


def wall_minute(wall: datetime) -> int:
    return midnight_of(wall.date()) + wall.hour * 60 + wall.minute


def midnight_of(day: date) -> int:
    return (day.toordinal() - EPOCH_DAY) * DAY_MINUTES


@lru_cache(maxsize=200)
def walls_of(zone: str, minutes: range) -> tuple[list[int], dict[int, int], list[int]]:
    """The wall time of every minute, the first minute of every wall time, and these wall times in order."""
    known = ZoneInfo(zone)
    walls = [wall_minute(instant(minute).astimezone(known)) for minute in minutes]
    first: dict[int, int] = {}
    for minute, wall in zip(minutes, walls, strict=True):
        first.setdefault(wall, minute)
    return walls, first, sorted(first)


class MinuteCounter:
    """A calendar over the days from `first` on. Two days more on both sides are only looked at."""

    def __init__(self, calendar: Calendar, first: date, days: int) -> None:
        self.calendar = calendar
        start = midnight_of(first)
        self.start, self.end = start, start + days * DAY_MINUTES
        self.minutes = range(start - 3 * DAY_MINUTES, self.end + 3 * DAY_MINUTES)
        self.walls, self.first_of_wall, self.known = walls_of(calendar.time_zone, self.minutes)
        dates = [first + timedelta(days=number) for number in range(-2, days + 2)]
        self.working_of = {day: self._working_minutes(day) for day in dates}
        self.working = set().union(*self.working_of.values())

    def _working_minutes(self, day: date) -> set[int]:
        midnight = midnight_of(day)
        found: set[int] = set()
        for opens, closes in (span.split("-") for span in self._hours(day)):
            found |= set(
                range(self.utc_of(midnight + _of_day(opens)), self.utc_of(midnight + _of_day(closes)))
            )
        return found

    def _hours(self, day: date) -> tuple[str, ...]:
        for special in self.calendar.exceptions:
            if special.on == day:
                return special.hours
        if any(holiday.on == day for holiday in self.calendar.holidays):
            return ()
        return self.calendar.hours.get(WEEKDAYS[day.weekday()], ())

    def utc_of(self, wall: int) -> int:
        """The first minute with this wall time; in a gap, of the wall time that is later by the gap."""
        if wall in self.first_of_wall:
            return self.first_of_wall[wall]
        after = bisect_right(self.known, wall)
        return self.first_of_wall[wall + self.known[after] - self.known[after - 1] - 1]

    def consumed(self, start: int, end: int) -> int:
        return sum(minute in self.working for minute in range(start, end))

    def add(self, start: int, length: int, boundary: Boundary) -> int | None:
        """The due minute; None: beyond the days that are looked at."""
        return self.due(start, length, boundary, {})

    def due(self, start: int, length: int, boundary: Boundary, changes: dict[int, bool]) -> int | None:
        """The due minute of a clock that stops and runs at these minutes."""
        runs, count = True, 0
        for minute in range(start, self.end):
            runs = changes.get(minute, runs)
            if boundary == "stay" and count == length:
                return minute
            if runs and minute in self.working:
                if count == length:
                    return minute
                count += 1
        return None

    def add_days(self, start: int, days: int) -> int | None:
        """The due minute of working days, by walking from day to day; None as above."""
        wall = self.walls[start - self.minutes.start]
        day = date.fromordinal(EPOCH_DAY + wall // DAY_MINUTES)
        while days:
            day += timedelta(days=1)
            if day not in self.working_of:
                return None
            days -= bool(self.working_of[day])
        midnight = midnight_of(day)
        same = self.utc_of(midnight + wall % DAY_MINUTES)
        return same if same in self.working else max(self.working_of[day]) + 1


def _of_day(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)
