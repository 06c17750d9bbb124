"""Working time, for any calendar and zone, also while the clocks change: the fast engine counts as a slow one does."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agents.sla.calendar import CalendarError, Calendars, WorkingCalendar
from agents.sla.clock import Rules, explain, fold
from schemas.sla import (
    WEEKDAYS,
    Boundary,
    Calendar,
    ClockEvent,
    Held,
    Holiday,
    Reopened,
    Resolved,
    Resumed,
    Retargeted,
    SpecialDay,
    Started,
    Target,
)
from tests.properties.sla_oracle import MinuteCounter, instant

DAYS = 9
# zone, the days in which its clocks change (or, in Apia, a day is left out), as the middle of what is looked at
CHANGES = [
    ("America/Chicago", date(2026, 3, 8)),
    ("America/Chicago", date(2026, 11, 1)),
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),  # half an hour
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("Pacific/Chatham", date(2026, 4, 5)),  # 45 minutes off the hour
    ("Pacific/Chatham", date(2026, 9, 27)),
    ("Africa/Cairo", date(2026, 4, 24)),  # at midnight
    ("Africa/Cairo", date(2026, 10, 29)),
    ("America/Santiago", date(2026, 4, 4)),  # at midnight
    ("America/Santiago", date(2026, 9, 6)),
    ("America/St_Johns", date(2006, 4, 2)),  # at 00:01
    ("America/St_Johns", date(2006, 10, 29)),
    ("Pacific/Apia", date(2011, 12, 30)),  # there was no such day
    ("Asia/Kathmandu", date(2024, 2, 29)),  # no change, a leap day
    ("UTC", date(2024, 12, 31)),
]
TESTED = settings(max_examples=100, deadline=None)


def clock_text(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@st.composite
def hours(draw: st.DrawFn) -> tuple[str, ...]:
    """Up to three spans; half of all bounds lie in the first four hours, where clocks change."""
    minute = st.one_of(st.sampled_from(range(0, 241, 5)), st.sampled_from(range(0, 1441, 15)))
    bounds = sorted(draw(st.lists(minute, unique=True, max_size=6)))
    pairs = zip(bounds[::2], bounds[1::2], strict=False)
    return tuple(f"{clock_text(opens)}-{clock_text(closes)}" for opens, closes in pairs)


@st.composite
def calendars(draw: st.DrawFn, zone: str, first: date) -> Calendar:
    around = st.integers(0, DAYS - 1).map(lambda number: first + timedelta(days=number))
    exceptions = draw(st.lists(st.tuples(around, hours()), max_size=2, unique_by=lambda one: one[0]))
    holidays = draw(st.lists(around, max_size=2, unique=True))
    return Calendar(
        code="any",
        name="Any",
        time_zone=zone,
        hours={day: draw(hours()) for day in WEEKDAYS},
        exceptions=tuple(SpecialDay(on=on, name="x", hours=spans) for on, spans in exceptions),
        holidays=tuple(Holiday(on=on, name="x", source="test") for on in holidays),
    )


class World(NamedTuple):
    fast: WorkingCalendar
    slow: MinuteCounter

    def minutes(self) -> st.SearchStrategy[int]:
        return st.integers(self.slow.start, self.slow.end - 1)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    zone, change = draw(st.sampled_from(CHANGES))
    first = change - timedelta(days=draw(st.integers(1, DAYS - 2)))
    calendar = draw(calendars(zone, first))
    assume(any(calendar.hours.values()))
    return World(WorkingCalendar(calendar), MinuteCounter(calendar, first, DAYS))


BOUNDARIES: st.SearchStrategy[Boundary] = st.sampled_from(["stay", "roll"])


@TESTED
@given(data=st.data(), world=worlds())
def test_consumed_is_what_a_minute_counter_counts(data: Any, world: World) -> None:
    start, end = data.draw(world.minutes()), data.draw(world.minutes())
    expected = timedelta(minutes=world.slow.consumed(start, end))
    assert world.fast.consumed(instant(start), instant(end)) == expected


@TESTED
@given(data=st.data(), world=worlds(), boundary=BOUNDARIES)
def test_a_due_time_is_where_a_minute_counter_ends(data: Any, world: World, boundary: Boundary) -> None:
    start = data.draw(world.minutes())
    length = data.draw(st.integers(1, max(1, world.slow.consumed(start, world.slow.end))))
    expected = world.slow.add(start, length, boundary)
    assume(expected is not None)
    assert expected is not None
    assert world.fast.add(instant(start), timedelta(minutes=length), boundary) == instant(expected)


@TESTED
@given(data=st.data(), world=worlds())
def test_working_days_end_where_a_walk_from_day_to_day_ends(data: Any, world: World) -> None:
    start, days = data.draw(world.minutes()), data.draw(st.integers(1, DAYS))
    expected = world.slow.add_days(start, days)
    assume(expected is not None)
    assert expected is not None
    assert world.fast.add_days(instant(start), days) == instant(expected)


@TESTED
@given(data=st.data(), world=worlds())
def test_intervals_are_the_minutes_that_were_counted(data: Any, world: World) -> None:
    start, end = data.draw(world.minutes()), data.draw(world.minutes())
    counted = [
        minute
        for since, until in world.fast.intervals(instant(start), instant(end))
        for minute in range(
            (since - instant(0)) // timedelta(minutes=1), (until - instant(0)) // timedelta(minutes=1)
        )
    ]
    assert counted == [minute for minute in range(start, end) if minute in world.slow.working]


@TESTED
@given(data=st.data(), world=worlds(), boundary=BOUNDARIES)
def test_a_clock_with_holds_and_reopenings_is_due_when_a_minute_counter_says(
    data: Any, world: World, boundary: Boundary
) -> None:
    start = data.draw(world.minutes())
    stops = sorted(data.draw(st.lists(st.integers(start, world.slow.end - 1), max_size=6, unique=True)))
    stops = stops[: len(stops) // 2 * 2]
    events: list[ClockEvent] = []
    for stop, go in zip(stops[::2], stops[1::2], strict=True):
        events += data.draw(
            st.sampled_from(
                [
                    [Held(at=instant(stop), reason="weather"), Resumed(at=instant(go))],
                    [Resolved(at=instant(stop)), Reopened(at=instant(go))],
                ]
            )
        )
    length = data.draw(st.integers(1, 1500))
    expected = world.slow.due(
        start, length, boundary, {minute: bool(number % 2) for number, minute in enumerate(stops)}
    )
    assume(expected is not None)
    assert expected is not None
    heard = data.draw(st.permutations([started(instant(start), f"{length}m", boundary), *events]))
    clock = fold("resolve", heard, Calendars({"v": [world.fast.calendar]}), RULES)
    assert clock is not None
    assert clock.due_at == instant(expected)
    assert explain(clock, Calendars({"v": [world.fast.calendar]})).counted[-1].consumed == clock.budget


@TESTED
@given(data=st.data(), world=worlds(), boundary=BOUNDARIES)
def test_a_retargeted_clock_counts_on_the_one_calendar_and_then_on_the_other(
    data: Any, world: World, boundary: Boundary
) -> None:
    first = date(1970, 1, 1) + timedelta(days=world.slow.start // (24 * 60))
    other = data.draw(calendars(world.fast.calendar.time_zone, first)).model_copy(update={"code": "other"})
    assume(any(other.hours.values()))
    start, changed = sorted(data.draw(st.tuples(world.minutes(), world.minutes())))
    before, after = data.draw(st.integers(1, 1500)), data.draw(st.integers(1, 1500))
    then = MinuteCounter(other, first, DAYS)
    then.working = {minute for minute in world.slow.working if minute < changed} | {
        minute for minute in then.working if minute >= changed
    }
    expected = then.due(start, after, boundary, {})
    assume(expected is not None)
    assert expected is not None
    target = Target(budget=f"{after}m", calendar="other", boundary=boundary, policy_version="v")
    known = Calendars({"v": [world.fast.calendar, other]})
    heard: list[ClockEvent] = [
        started(instant(start), f"{before}m", boundary),
        Retargeted(at=instant(changed), target=target),
    ]
    clock = fold("resolve", heard, known, RULES)
    assert clock is not None
    assert clock.due_at == instant(expected)


# ---------------------------------------------------------------- to the microsecond, over years

RULES = Rules(frozenset({"weather"}), timedelta(days=365))
INSTANTS = st.integers(0, 10 * 366 * 86_400 * 10**6).map(
    lambda number: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(microseconds=number)
)
LENGTHS = st.timedeltas(timedelta(), timedelta(days=120))


def started(at: datetime, budget: str, boundary: Boundary = "stay") -> Started:
    return Started(at=at, target=Target(budget=budget, calendar="any", boundary=boundary, policy_version="v"))


@st.composite
def any_calendar(draw: st.DrawFn) -> WorkingCalendar:
    zone, change = draw(st.sampled_from(CHANGES))
    calendar = draw(calendars(zone, change))
    assume(any(calendar.hours.values()))
    return WorkingCalendar(calendar)


@TESTED
@given(calendar=any_calendar(), start=INSTANTS, one=LENGTHS, other=LENGTHS, boundary=BOUNDARIES)
def test_adding_in_pieces_equals_adding_at_once(
    calendar: WorkingCalendar, start: datetime, one: timedelta, other: timedelta, boundary: Boundary
) -> None:
    in_pieces = calendar.add(calendar.add(start, one, boundary), other, boundary)
    assert in_pieces == calendar.add(start, one + other, boundary)


@TESTED
@given(calendar=any_calendar(), start=INSTANTS, length=LENGTHS, boundary=BOUNDARIES)
def test_consumed_from_start_to_due_equals_the_budget(
    calendar: WorkingCalendar, start: datetime, length: timedelta, boundary: Boundary
) -> None:
    due = calendar.add(start, length, boundary)
    assert calendar.consumed(start, due) == length
    counted = sum((until - since for since, until in calendar.intervals(start, due)), timedelta())
    assert counted == length
    assert calendar.consumed(calendar.back(due, length), due) == length


@TESTED
@given(calendar=any_calendar(), start=INSTANTS, later=LENGTHS, length=LENGTHS, boundary=BOUNDARIES)
def test_a_later_start_is_never_due_earlier(
    calendar: WorkingCalendar, start: datetime, later: timedelta, length: timedelta, boundary: Boundary
) -> None:
    assert calendar.add(start, length, boundary) <= calendar.add(start + later, length, boundary)


@TESTED
@given(
    calendar=any_calendar(), start=INSTANTS, gaps=st.lists(LENGTHS, min_size=3, max_size=3), boundary=BOUNDARIES,
    move=LENGTHS, which=st.sampled_from(["start", "hold", "resume"]),
)  # fmt: skip
def test_moving_an_instant_of_a_clock_never_moves_its_due_time_backwards(
    calendar: WorkingCalendar, start: datetime, gaps: list[timedelta], boundary: Boundary, move: timedelta,
    which: str,
) -> None:  # fmt: skip
    """A later start, a longer hold at either end: never due earlier. (A hold that is shorter may be.)"""
    known = Calendars({"v": [calendar.calendar]})
    held, resumed = start + gaps[0], start + gaps[0] + gaps[1]

    def due(start: datetime, held: datetime, resumed: datetime) -> datetime:
        events: list[ClockEvent] = [
            started(start, "40h", boundary),
            Held(at=held, reason="weather"),
            Resumed(at=resumed),
        ]
        clock = fold("resolve", events, known, RULES)
        assert clock is not None
        assert clock.due_at is not None
        return clock.due_at

    before = due(start, held, resumed)
    after = due(
        start + move if which == "start" else start,
        max(start, held - move) if which == "hold" else held,
        resumed + move if which == "resume" else resumed,
    )
    assert before <= after


@TESTED
@given(start=INSTANTS, days=st.integers(1, 400), later=st.timedeltas(timedelta(), timedelta(days=40)))
def test_working_days_of_equal_hours_are_never_due_earlier_when_they_start_later_within_them(
    start: datetime, days: int, later: timedelta
) -> None:
    """Outside of the hours rule 12 takes the end of the day: there an earlier start can be due later."""
    same = Calendar(
        code="any",
        name="Any",
        time_zone="America/Chicago",
        hours=dict.fromkeys(WEEKDAYS[:5], ("08:30-16:30",)),
    )
    calendar = WorkingCalendar(same)
    first = calendar.add(start, timedelta(), "roll")
    second = calendar.add(first + later, timedelta(), "roll")
    assert calendar.add_days(first, days) <= calendar.add_days(second, days)


@given(at=st.datetimes(timezones=st.just(UTC)))
def test_whatever_year_is_asked_for_it_answers_or_says_why_not(at: datetime) -> None:
    calendar = WorkingCalendar(
        Calendar(code="any", name="Any", time_zone="Europe/Berlin", hours={"mon": ("09:00-17:00",)})
    )
    if 1900 < at.year < 2199:
        assert at < calendar.add(at, timedelta(hours=4)) <= at + timedelta(days=8)
    else:
        with pytest.raises(CalendarError, match=r"is outside|not enough working time"):
            calendar.add(at, timedelta(days=365))


@pytest.mark.parametrize("zone", sorted({zone for zone, _ in CHANGES}))
def test_the_oracle_itself_knows_a_plain_day(zone: str) -> None:
    calendar = Calendar(code="any", name="Any", time_zone=zone, hours={"wed": ("09:00-17:00",)})
    slow = MinuteCounter(calendar, date(2026, 7, 6), 7)
    assert slow.consumed(slow.start, slow.end) == 8 * 60
