"""Working time: what a calendar counts. Pure; the numbers of rules are those of docs/sla.md.

A calendar is compiled into one sorted list of working intervals with the working time that lies before each, so
that working time is a number line: `add` and `consumed` are a bisection or two, however far away the due date is.
Years are compiled when they are first asked for.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from schemas.sla import WEEKDAYS, Boundary, Calendar, Holiday, Length

FIRST_YEAR, LAST_YEAR = 1900, 2200
WARN_DAYS = 60
"""So long before a list of holidays ends it is told (rule 10)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ON_THE_WALL = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock has no zone
_US = timedelta(microseconds=1)

Spans = tuple[tuple[int, int], ...]
"""Hours of a day in minutes from its midnight."""


class CalendarError(Exception):
    """A calendar cannot say when something is due. The message is one sentence."""


class _Days(NamedTuple):
    """Compiled dates. Instants are microseconds since 1970 UTC."""

    intervals: list[tuple[int, int]]
    working: list[int]  # ordinals of the working days
    closings: list[int]  # when each of them ends


class WorkingCalendar:
    """A calendar, compiled. Its state is a cache: the same question has the same answer."""

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self.zone = _zone(calendar)
        self._week = [_spans(calendar.hours.get(day, ())) for day in WEEKDAYS]
        self._special: dict[date, Spans] = {holiday.on: () for holiday in calendar.holidays}
        self._special |= {day.on: _spans(day.hours) for day in calendar.exceptions}
        if not any(self._week) and not any(self._special.values()):
            raise CalendarError(f"The calendar {calendar.code} has no working time: give it hours.")
        self._last_year = LAST_YEAR if any(self._week) else max(day.year for day in self._special)
        self._years: dict[int, _Days] = {}
        self._covered = range(0)
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._before: list[int] = []  # working time before each interval, and at last the whole
        self._working: list[int] = []
        self._closings: list[int] = []

    @property
    def expires_on(self) -> date | None:
        """The last date of which the holidays are known; None: it does not end."""
        return self.calendar.holidays_until

    def expiry_warning(self, today: date, within_days: int = WARN_DAYS) -> str | None:
        """A sentence when the holidays end soon or have ended (rule 10)."""
        last = self.expires_on
        if last is None or last - today > timedelta(days=within_days):
            return None
        return (
            f"The holidays of the calendar {self.calendar.code} end on {last}: no clock that is due later can "
            "start; extend them in calendars.yaml."
        )

    def due(self, start: datetime, length: Length, boundary: Boundary = "stay") -> datetime:
        """When a budget that starts now is due. Raises CalendarError when the holidays end before (rule 10)."""
        first, last = self.calendar.holidays_from, self.calendar.holidays_until
        if first is not None and start.astimezone(self.zone).date() < first:
            raise CalendarError(
                f"The holidays of the calendar {self.calendar.code} begin on {first}: what starts on "
                f"{start.astimezone(self.zone).date()} has no due date; extend them in calendars.yaml."
            )
        due = self.add_days(start, length.days) if length.days else self.add(start, length.time, boundary)
        if boundary == "roll" and length.days and not self._is_working(_micros(due)):
            due = self.add(due, timedelta(), "roll")
        if last is not None and due > self._instant(last, 24 * 60):
            raise CalendarError(
                f"The holidays of the calendar {self.calendar.code} end on {last}, before the due date "
                f"{due.astimezone(self.zone).date()}: extend them in calendars.yaml."
            )
        return due

    def add(self, start: datetime, length: timedelta, boundary: Boundary = "stay") -> datetime:
        """The instant at which so much working time has passed, for any date, also beyond the known holidays."""
        if not length and boundary == "stay":
            return start
        at = _micros(start)
        self._cover_around(start)
        position = self._worked(at) + length // _US
        while self._before[-1] < position + (boundary == "roll"):
            self._cover_more(start)
        place = bisect_right if boundary == "roll" else bisect_left
        index = place(self._before, position) - 1
        return _datetime(self._starts[index] + position - self._before[index])

    def back(self, at: datetime, length: timedelta) -> datetime:
        """The instant from which on so much working time has passed until `at`."""
        if not length:
            return at
        self._cover_around(at)
        position = self._worked(_micros(at)) - length // _US
        while position < 0:
            before = self._before[-1]
            self._cover(self._covered.start - 1 - len(self._covered), self._covered.stop - 1)
            if self._before[-1] == before:
                raise self._no_more(at)
            position += self._before[-1] - before
        index = min(bisect_right(self._before, position), len(self._starts)) - 1
        return _datetime(self._starts[index] + position - self._before[index])

    def add_days(self, start: datetime, days: int) -> datetime:
        """The same wall time so many working days later, or that day's end when it is outside of its hours (12)."""
        self._cover_around(start)
        wall = start.astimezone(self.zone)
        ordinal = wall.toordinal()
        while (index := bisect_right(self._working, ordinal) + days - 1) >= len(self._working):
            self._cover_more(start)
        day = date.fromordinal(self._working[index])
        same = _utc(datetime.combine(day, wall.time()), self.zone)
        return _datetime(same if self._is_working(same) else self._closings[index])

    def consumed(self, start: datetime, end: datetime) -> timedelta:
        """The working time within `[start, end)`; 0 for a reversed range."""
        if end <= start:
            return timedelta()
        self._cover_around(start)
        self._cover_around(end)
        return timedelta(microseconds=self._worked(_micros(end)) - self._worked(_micros(start)))

    def intervals(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The working intervals within `[start, end)`."""
        if end <= start:
            return
        self._cover_around(start)
        self._cover_around(end)
        first, last = _micros(start), _micros(end)
        for index in range(bisect_right(self._ends, first), bisect_left(self._starts, last)):
            yield _datetime(max(self._starts[index], first)), _datetime(min(self._ends[index], last))

    def holidays(self, start: datetime, end: datetime) -> tuple[Holiday, ...]:
        """The holidays on the dates from start to end."""
        first, last = start.astimezone(self.zone).date(), end.astimezone(self.zone).date()
        return tuple(holiday for holiday in self.calendar.holidays if first <= holiday.on <= last)

    # ------------------------------------------------------------ the number line

    def _worked(self, at: int) -> int:
        """The working time before an instant, from the first compiled year on."""
        index = bisect_right(self._starts, at) - 1
        if index < 0:
            return 0
        return self._before[index] + min(at, self._ends[index]) - self._starts[index]

    def _is_working(self, at: int) -> bool:
        index = bisect_right(self._starts, at) - 1
        return index >= 0 and at < self._ends[index]

    def _cover_around(self, at: datetime) -> None:
        """Compile the years around an instant: in its zone it may lie in the year before or after."""
        year = at.year
        if year - 1 in self._covered and year + 1 in self._covered:
            return
        if not FIRST_YEAR < year < LAST_YEAR:
            raise CalendarError(
                f"The calendar {self.calendar.code} counts from {FIRST_YEAR + 1} to {LAST_YEAR - 1}; "
                f"{year} is outside."
            )
        self._cover(year - 1, year + 1)

    def _cover_more(self, start: datetime) -> None:
        """Compile as many years again as there are: a far due date costs few rounds."""
        if self._covered.stop > self._last_year:
            raise self._no_more(start)
        self._cover(self._covered.start, self._covered.stop - 1 + len(self._covered))

    def _no_more(self, at: datetime) -> CalendarError:
        return CalendarError(
            f"The calendar {self.calendar.code} has not enough working time around {at.date()} for this length: "
            "give it more hours, or promise less."
        )

    def _cover(self, first: int, last: int) -> None:
        """Compile these years too, and everything between."""
        covered = self._covered or range(first, last + 1)
        first = max(FIRST_YEAR, min(first, covered.start))
        last = min(LAST_YEAR, max(last, covered.stop - 1))
        self._covered = range(first, last + 1)
        years = [self._year(year) for year in self._covered]
        merged = _merged(interval for days in years for interval in days.intervals)
        self._starts, self._ends = [start for start, _ in merged], [end for _, end in merged]
        self._before = [0]
        for start, end in merged:
            self._before.append(self._before[-1] + end - start)
        self._working = [ordinal for days in years for ordinal in days.working]
        self._closings = [closing for days in years for closing in days.closings]

    def _year(self, year: int) -> _Days:
        if year not in self._years:
            self._years[year] = self._compiled(year)
        return self._years[year]

    def _compiled(self, year: int) -> _Days:
        """The dates of a year. What a change of the clocks makes empty is skipped (rule 1)."""
        days = _Days([], [], [])
        for ordinal in range(date(year, 1, 1).toordinal(), date(year + 1, 1, 1).toordinal()):
            day = date.fromordinal(ordinal)
            spans = self._special.get(day, self._week[day.weekday()])
            found = [(self._micros_of(day, opens), self._micros_of(day, closes)) for opens, closes in spans]
            found = [(start, end) for start, end in found if start < end]
            if found:
                days.intervals.extend(found)
                days.working.append(ordinal)
                days.closings.append(max(end for _, end in found))
        return days

    def _micros_of(self, day: date, minute: int) -> int:
        return _utc(datetime.combine(day, time()) + timedelta(minutes=minute), self.zone)

    def _instant(self, day: date, minute: int) -> datetime:
        return _datetime(self._micros_of(day, minute))


class Calendars:
    """The calendars of some versions of the policy, each compiled when it is first asked for."""

    def __init__(self, of_versions: Mapping[str, Iterable[Calendar]]) -> None:
        self._known = {
            (version, calendar.code): calendar
            for version, calendars in of_versions.items()
            for calendar in calendars
        }
        self._compiled: dict[tuple[str, str], WorkingCalendar] = {}

    def add(self, version: str, calendars: Iterable[Calendar]) -> None:
        """Those of one more version."""
        self._known |= {(version, calendar.code): calendar for calendar in calendars}

    def get(self, version: str, code: str) -> WorkingCalendar:
        """The calendar with this code in this version. Raises CalendarError when there is none (rule 10)."""
        found = self._compiled.get((version, code))
        if found is None:
            found = self._compiled[version, code] = self._compile(version, code)
        return found

    def _compile(self, version: str, code: str) -> WorkingCalendar:
        calendar = self._known.get((version, code))
        if calendar is None:
            known = ", ".join(sorted(known for of, known in self._known if of == version)) or "none"
            raise CalendarError(
                f"There is no calendar {code} in the policy {version}: expected one of its own ({known})."
            )
        return WorkingCalendar(calendar)


def _zone(calendar: Calendar) -> ZoneInfo:
    try:
        return ZoneInfo(calendar.time_zone)
    except (LookupError, ValueError, OSError) as error:
        raise CalendarError(
            f"The calendar {calendar.code} is in no known time zone ({calendar.time_zone}): expected an IANA name "
            "such as America/Chicago."
        ) from error


def _spans(texts: Iterable[str]) -> Spans:
    return tuple((_minutes(text[:5]), _minutes(text[6:])) for text in texts)


def _minutes(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])


def _utc(wall: datetime, zone: ZoneInfo) -> int:
    """The instant of a wall time. In a gap it moves forward by the gap, when ambiguous it is the first (rule 1).

    Both is what `fold=0` means (PEP 495): the offset from before the change.
    """
    offset = zone.utcoffset(wall.replace(fold=0))
    assert offset is not None
    return (wall - _EPOCH_ON_THE_WALL - offset) // _US


def _merged(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, with those that touch or overlap as one: midnight is no closing time around the clock."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // _US


def _datetime(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
