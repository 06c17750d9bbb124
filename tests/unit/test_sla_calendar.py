"""Calendars at the edges: both changes of the clocks, ends of years and months, holidays and exceptions."""

from datetime import UTC, date, datetime, time, timedelta
from time import perf_counter

import pytest

from agents.sla.calendar import CalendarError, Calendars, WorkingCalendar
from schemas.sla import Calendar, Holiday, SpecialDay
from tests.unit.sla_samples import AROUND, OFFICE, at, calendar, compiled

HOUR = timedelta(hours=1)
ALL_DAY = {"mon-sun": "00:00-24:00"}
NIGHT = {"mon-sun": "00:00-06:00"}
OFFICE_HOURS = {"mon-fri": "09:00-17:00"}

# zone, the local day of the change, hours of that day, hours that lie between 00:00 and 06:00
CHANGES = [
    ("America/Chicago", date(2026, 3, 8), 23, 5),
    ("America/Chicago", date(2026, 11, 1), 25, 7),
    ("Europe/Berlin", date(2026, 3, 29), 23, 5),
    ("Europe/Berlin", date(2026, 10, 25), 25, 7),
    ("Australia/Lord_Howe", date(2026, 10, 4), 23.5, 5.5),
    ("Australia/Lord_Howe", date(2026, 4, 5), 24.5, 6.5),
    ("Pacific/Chatham", date(2026, 9, 27), 23, 5),
    ("Pacific/Chatham", date(2026, 4, 5), 25, 7),
    ("America/Santiago", date(2026, 9, 6), 23, 5),  # midnight itself lies in the gap
    ("America/Santiago", date(2026, 4, 4), 25, 6),  # the hour before midnight comes twice
    ("Africa/Cairo", date(2026, 4, 24), 23, 5),
    ("Africa/Cairo", date(2026, 10, 29), 25, 6),
]


@pytest.mark.parametrize(("zone", "day", "hours", "night"), CHANGES)
def test_the_day_on_which_the_clocks_change_has_the_hours_that_it_has(
    zone: str, day: date, hours: float, night: float
) -> None:
    whole, early = compiled(_only(zone, day, ALL_DAY)), compiled(_only(zone, day, NIGHT))
    around = (at(f"{day - timedelta(days=2)} 00:00"), at(f"{day + timedelta(days=3)} 00:00"))
    assert whole.consumed(*around) == hours * HOUR
    assert early.consumed(*around) == night * HOUR


def _only(zone: str, day: date, hours: dict[str, str]) -> Calendar:
    """These hours on one day only."""
    spans = tuple(next(iter(hours.values())).split())
    return calendar("one", zone, {}, exceptions=(SpecialDay(on=day, name="x", hours=spans),))


@pytest.mark.parametrize(("zone", "day", "hours", "night"), CHANGES)
def test_office_hours_are_as_long_as_ever_when_the_clocks_change(
    zone: str, day: date, hours: float, night: float
) -> None:
    office = compiled(calendar("office", zone, OFFICE_HOURS))
    monday = day - timedelta(days=day.weekday())
    midnights = [
        datetime.combine(monday + timedelta(days=days), time(), tzinfo=office.zone).astimezone(UTC)
        for days in (-7, 7)
    ]
    assert office.consumed(*midnights) == 80 * HOUR
    friday = office.add(midnights[0], 80 * HOUR).astimezone(office.zone)
    assert (friday.date(), friday.time()) == (monday + timedelta(days=4), time(17))


# zone, the local day, the hour (or part of one) that its change leaves out
GAPS = [
    ("America/Chicago", date(2026, 3, 8), "02:00-03:00"),
    ("Europe/Berlin", date(2026, 3, 29), "02:00-03:00"),
    ("Australia/Lord_Howe", date(2026, 10, 4), "02:00-02:30"),
    ("Pacific/Chatham", date(2026, 9, 27), "02:45-03:45"),
    ("America/Santiago", date(2026, 9, 6), "00:00-01:00"),
    ("Africa/Cairo", date(2026, 4, 24), "00:00-01:00"),
]


@pytest.mark.parametrize(("zone", "day", "gap"), GAPS)
def test_hours_in_the_gap_of_any_zone_are_empty_and_skipped(zone: str, day: date, gap: str) -> None:
    left_out = compiled(_only(zone, day, {"any": gap}))
    around = (at(f"{day - timedelta(days=2)} 00:00"), at(f"{day + timedelta(days=3)} 00:00"))
    assert list(left_out.intervals(*around)) == []
    assert left_out.consumed(*around) == timedelta()


# zone, the local day, hours until the middle of what comes twice, and from there on; when the middle is there first
TWICE = [
    ("America/Chicago", date(2026, 11, 1), "00:30-01:30", "01:30-03:00", "2026-11-01 06:30", 1),
    ("Europe/Berlin", date(2026, 10, 25), "01:30-02:30", "02:30-04:00", "2026-10-25 00:30", 1),
    ("Australia/Lord_Howe", date(2026, 4, 5), "00:45-01:45", "01:45-03:00", "2026-04-04 14:45", 0.5),
    ("Pacific/Chatham", date(2026, 4, 5), "02:15-03:15", "03:15-04:00", "2026-04-04 13:30", 1),
    ("America/Santiago", date(2026, 4, 4), "22:30-23:30", "23:30-24:00", "2026-04-05 02:30", 1),
    ("Africa/Cairo", date(2026, 10, 29), "22:30-23:30", "23:30-24:00", "2026-10-29 20:30", 1),
]


@pytest.mark.parametrize(("zone", "day", "until", "since", "middle", "twice_h"), TWICE)
def test_a_wall_time_that_comes_twice_in_any_zone_is_the_first_one(
    zone: str, day: date, until: str, since: str, middle: str, twice_h: float
) -> None:
    around = (at(f"{day - timedelta(days=2)} 00:00"), at(f"{day + timedelta(days=3)} 00:00"))
    [before] = compiled(_only(zone, day, {"any": until})).intervals(*around)
    [after] = compiled(_only(zone, day, {"any": since})).intervals(*around)
    assert (before[1], after[0]) == (at(middle), at(middle))
    assert before[1] - before[0] == _on_the_wall(until)
    assert after[1] - after[0] == _on_the_wall(since) + twice_h * HOUR


def _on_the_wall(span: str) -> timedelta:
    opens, closes = (int(text[:2]) * 60 + int(text[3:]) for text in span.split("-"))
    return timedelta(minutes=closes - opens)


def test_a_day_that_a_zone_leaves_out_has_no_midnight_of_its_own() -> None:
    apia = compiled(calendar("apia", "Pacific/Apia", ALL_DAY))  # 30 December 2011 was skipped
    assert apia.consumed(at("2011-12-28 10:00"), at("2012-01-02 10:00")) == 5 * 24 * HOUR


# ---------------------------------------------------------------- dates


def test_the_leap_day_is_a_day() -> None:
    assert compiled(OFFICE).add_days(at("2024-02-28 15:00"), 2) == at("2024-03-01 15:00")
    assert compiled(OFFICE).add_days(at("2023-02-28 15:00"), 2) == at("2023-03-02 15:00")
    assert compiled(OFFICE).consumed(at("2024-02-26 00:00"), at("2024-03-02 00:00")) == 40 * HOUR


def test_a_year_ends_in_its_own_zone() -> None:
    holiday = Holiday(on=date(2026, 1, 1), name="New Year's Day", source="test")
    auckland = compiled(calendar("nz", "Pacific/Auckland", {"mon-fri": "09:00-17:00"}, holidays=(holiday,)))
    honolulu = compiled(calendar("hi", "Pacific/Honolulu", {"mon-fri": "09:00-17:00"}, holidays=(holiday,)))
    assert auckland.add(at("2025-12-31 03:59"), timedelta(minutes=2)) == at(
        "2026-01-01 20:01"
    )  # 2 January there
    assert honolulu.add(at("2026-01-01 02:59"), timedelta(minutes=2)) == at("2026-01-02 19:01")


def test_around_the_clock_a_year_end_is_no_boundary() -> None:
    assert compiled(AROUND).add(at("2026-12-31 12:00"), 48 * HOUR, "roll") == at("2027-01-02 12:00")
    [interval] = compiled(AROUND).intervals(at("2024-01-01 00:00"), at("2030-01-01 00:00"))
    assert interval == (at("2024-01-01 00:00"), at("2030-01-01 00:00"))


def test_a_due_time_of_the_past_and_of_the_future_is_the_same_whatever_was_asked_before() -> None:
    fresh, used = compiled(OFFICE), compiled(OFFICE)
    for year in (2050, 1970, 2026, 1999):
        used.add(at(f"{year}-06-01 12:00"), 500 * HOUR)
    asked = at("2001-06-01 12:00")
    assert used.add(asked, 9_999 * HOUR) == fresh.add(asked, 9_999 * HOUR)
    assert used.back(asked, 9_999 * HOUR) == fresh.back(asked, 9_999 * HOUR)


def test_a_time_outside_of_what_is_counted_is_told() -> None:
    with pytest.raises(CalendarError, match="counts from 1901 to 2199; 2300 is outside"):
        compiled(OFFICE).add(at("2300-01-01 00:00"), HOUR)


# ---------------------------------------------------------------- holidays and exceptions

HOLIDAYS = (Holiday(on=date(2026, 7, 3), name="Independence Day (observed)", source="test"),)


def test_a_holiday_is_closed_to_its_boundaries() -> None:
    office = compiled(OFFICE.model_copy(update={"holidays": HOLIDAYS}))
    assert office.add(at("2026-07-02 20:30"), HOUR) == at("2026-07-02 21:30")  # stays on Thursday's closing
    assert office.add(at("2026-07-02 20:30"), HOUR, "roll") == at("2026-07-06 13:30")
    assert office.add_days(at("2026-07-02 15:00"), 1) == at("2026-07-06 15:00")
    night = compiled(AROUND.model_copy(update={"holidays": HOLIDAYS}))
    assert (
        night.consumed(at("2026-07-03 05:00"), at("2026-07-04 05:00")) == timedelta()
    )  # midnight to midnight
    assert night.consumed(at("2026-07-03 04:59"), at("2026-07-04 05:01")) == timedelta(minutes=2)


def test_an_exception_overrules_weekday_and_holiday() -> None:
    exceptions = (
        SpecialDay(on=date(2026, 7, 3), name="Open half a day", hours=("08:30-12:30",)),
        SpecialDay(on=date(2026, 7, 4), name="A Saturday of work", hours=("08:30-09:30",)),
        SpecialDay(on=date(2026, 7, 6), name="Closed"),
    )
    office = compiled(OFFICE.model_copy(update={"holidays": HOLIDAYS, "exceptions": exceptions}))
    assert office.consumed(at("2026-07-03 00:00"), at("2026-07-08 00:00")) == (4 + 1 + 0 + 8) * HOUR


def test_the_holidays_on_the_way_are_named() -> None:
    office = compiled(OFFICE.model_copy(update={"holidays": HOLIDAYS}))
    assert office.holidays(at("2026-07-01 12:00"), at("2026-07-06 12:00")) == HOLIDAYS
    assert office.holidays(at("2026-07-04 12:00"), at("2026-07-06 12:00")) == ()


def test_calendars_are_told_apart_by_their_policy() -> None:
    both = Calendars({"v1": [OFFICE], "v2": [OFFICE.model_copy(update={"holidays": HOLIDAYS})]})
    start = at("2026-07-02 21:00")
    assert both.get("v1", "office").add(start, HOUR) == at("2026-07-03 14:00")
    assert both.get("v2", "office").add(start, HOUR) == at("2026-07-06 14:00")


# ---------------------------------------------------------------- how fast


def test_five_years_away_is_as_near_as_tomorrow(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside counting minutes. The bound is wide, for a busy machine: the walk is thousands of times slower."""
    office, start = compiled(OFFICE), at("2026-03-10 15:00")
    year = 52 * 40 * HOUR
    office.add(start, 5 * year)  # compiles the years
    day_s, year_s, five_s = (_seconds(office, start, length) for length in (8 * HOUR, year, 5 * year))
    began = perf_counter()
    counted = _minutes(office, start, year)
    walking_s = perf_counter() - began
    assert counted == office.add(start, year)
    with capsys.disabled():
        print(
            f"\n  due in one day {day_s * 1e6:.1f} µs, one year {year_s * 1e6:.1f} µs, five years "
            f"{five_s * 1e6:.1f} µs; one year by counting minutes {walking_s * 1e3:.0f} ms "
            f"({walking_s / year_s:,.0f} times)"
        )
    assert five_s < walking_s / 100


def _seconds(known: WorkingCalendar, start: datetime, length: timedelta) -> float:
    best = float("inf")
    for _ in range(5):
        began = perf_counter()
        for _ in range(200):
            known.add(start, length)
        best = min(best, (perf_counter() - began) / 200)
    return best


def _minutes(known: WorkingCalendar, start: datetime, length: timedelta) -> datetime:
    """The same by looking at every minute, with the wall clock."""
    minute, left = timedelta(minutes=1), length // timedelta(minutes=1)
    while left:
        wall = start.astimezone(known.zone)
        left -= wall.weekday() < 5 and 510 <= wall.hour * 60 + wall.minute < 990
        start += minute
    return start
