"""`rapid bench sla`: due dates and clocks in a second, beside `businesstimedelta`, on the same hours and holidays.

Both are asked the same questions, and their answers are compared: a figure for a wrong answer says nothing.
"""

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta
from importlib import import_module
from time import perf_counter
from typing import Any, Final, NamedTuple

from agents.sla.calendar import Calendars, WorkingCalendar
from agents.sla.clock import Rules, fold
from infra.cli.errors import ExitCode, Oops
from infra.policy.load import SHIPPED, load_policy
from schemas.sla import (
    WEEKDAYS,
    Calendar,
    ClockEvent,
    Held,
    Length,
    Resolved,
    Resumed,
    Retargeted,
    Started,
    Target,
    Weekday,
)

FIRST: Final = datetime(2026, 1, 1, tzinfo=UTC)
DAYS: Final = 3 * 365
YEAR_OF_WORK: Final = timedelta(hours=2000)
VERSION: Final = "bench"
EVENTS_OF_A_CLOCK: Final = 6
UNEXPLAINED: Final = "none of ours: look into it"
RULE_1: Final = "1 (a wall time that comes twice is the first one; theirs is the second)"

Tell = Callable[[str], None]
Due = Callable[["Question"], datetime]


class Question(NamedTuple):
    """When is so much working time over?"""

    start: datetime
    length: timedelta


class Comparison(NamedTuple):
    """Answers of both to the same questions. `rules`: of ours, by which they differ, with how often."""

    hours: str
    questions: int
    differ: int
    rules: dict[str, int]


def measure(questions: int, folds: int, seed: int, tell: Tell) -> dict[str, Any]:
    """The figures. Raises Oops when the other library is not installed."""
    chance = random.Random(seed)
    offices = _offices()
    ours, theirs = WorkingCalendar(offices), _theirs(offices)
    asked = [_question(chance) for _ in range(questions)]
    far = [one._replace(length=YEAR_OF_WORK) for one in asked]
    few = far[: max(1, questions // 100)]  # they walk from day to day
    tell("due dates")
    ours.add(FIRST, 3 * YEAR_OF_WORK)  # compiles the years: once, and then never again
    due = {
        "ours_per_s": _per_s(lambda one: ours.due(one.start, Length(one.length, 0)), asked),
        "ours_a_year_away_per_s": _per_s(lambda one: ours.due(one.start, Length(one.length, 0)), far),
        "compile_ms": _compile_ms(offices),
    }
    tell("due dates of businesstimedelta")
    beside = {
        "businesstimedelta_per_s": _per_s(theirs, asked),
        "businesstimedelta_a_year_away_per_s": _per_s(theirs, few),
    }
    tell("clocks")
    return {
        **due,
        **beside,
        "times_faster": due["ours_per_s"] / beside["businesstimedelta_per_s"],
        "times_faster_a_year_away": due["ours_a_year_away_per_s"] / beside["businesstimedelta_a_year_away_per_s"],
        "folds_per_s": _folds_per_s(offices, folds, chance),
        "events_of_a_clock": EVENTS_OF_A_CLOCK,
        "compared": [one._asdict() for one in compare(asked)],
    }  # fmt: skip


def compare(asked: Sequence[Question]) -> list[Comparison]:
    """The same questions, and those at the edges of hours and holidays; and nights in which the clocks change."""
    offices, nights = _offices(), _nights()
    return [
        _compared("Mon-Fri 08:30-16:30 with holidays", offices, [*asked, *_edges(offices)]),
        _compared("every night 01:00-05:00", nights, _edges(nights)),
    ]


# ---------------------------------------------------------------- both


def _offices() -> Calendar:
    """The shipped policy's: Mon-Fri and the holidays of Chicago."""
    return next(one for one in load_policy(SHIPPED).sla.calendars if one.code == "offices")


def _nights() -> Calendar:
    hours: dict[Weekday, tuple[str, ...]] = dict.fromkeys(WEEKDAYS, ("01:00-05:00",))
    return Calendar(code="nights", name="Nights", time_zone="America/Chicago", hours=hours)


def _theirs(calendar: Calendar) -> Due:
    """The same hours as the other library says them: one span, the same on each of its days."""
    try:
        library, zones = import_module("businesstimedelta"), import_module("pytz")
    except ImportError as error:
        raise Oops(
            "businesstimedelta, beside which this measures, is not installed: it comes with the development packages "
            "(`make test` installs them), or by `pip install businesstimedelta`.", ExitCode.NOT_FOUND,
        ) from error  # fmt: skip
    zone = zones.timezone(calendar.time_zone)
    opens, closes = map(time.fromisoformat, next(iter(calendar.hours.values()))[0].split("-"))
    days = [number for number, day in enumerate(WEEKDAYS) if calendar.hours.get(day)]
    rules = [library.WorkDayRule(start_time=opens, end_time=closes, working_days=days, tz=zone)]
    if calendar.holidays:
        rules.append(library.HolidayRule({day.on: day.name for day in calendar.holidays}, tz=zone))
    hours = library.Rules(rules)

    def due(one: Question) -> datetime:
        found: datetime = one.start + library.BusinessTimeDelta(hours, timedelta=one.length)
        return found.astimezone(UTC)

    return due


def _question(chance: random.Random) -> Question:
    """Half an hour to a week of work, from any second of three years."""
    start = FIRST + timedelta(seconds=chance.randrange(DAYS * 86_400))
    return Question(start, timedelta(minutes=chance.randrange(30, 40 * 60 + 1)))


def _edges(calendar: Calendar) -> list[Question]:
    """On opening and closing and a second beside them, around holidays and both changes of the clocks."""
    zone = WorkingCalendar(calendar).zone
    opens, closes = next(iter(calendar.hours.values()))[0].split("-")
    days = [day.on for day in calendar.holidays if 2026 <= day.on.year <= 2027]
    days += [datetime(2026, month, day, tzinfo=UTC).date() for month, day in ((3, 8), (11, 1), (12, 31))]
    starts = [
        datetime.combine(day + timedelta(days=off), time.fromisoformat(clock), tzinfo=zone) + timedelta(seconds=beside)
        for day in days for off in (-1, 0, 1) for clock in (opens, closes) for beside in (-1, 0, 1)
    ]  # fmt: skip
    lengths = [timedelta(hours=hours) for hours in (1, 4, 8, 12)]
    return [Question(start.astimezone(UTC), length) for start in starts for length in lengths]


def _compared(hours: str, calendar: Calendar, asked: Sequence[Question]) -> Comparison:
    ours, theirs = WorkingCalendar(calendar), _theirs(calendar)
    rules: dict[str, int] = {}
    for one in asked:
        answers = ours.due(one.start, Length(one.length, 0)), theirs(one)
        if answers[0] != answers[1]:
            rule = _rule(ours, one.start, max(answers))
            rules[rule] = rules.get(rule, 0) + 1
    return Comparison(hours, len(asked), sum(rules.values()), rules)


def _rule(calendar: WorkingCalendar, start: datetime, end: datetime) -> str:
    """Only where the clocks go back between do we know why answers differ."""
    before, after = (at.astimezone(calendar.zone).utcoffset() for at in (start, end))
    assert before is not None
    assert after is not None
    return RULE_1 if after < before else UNEXPLAINED


# ---------------------------------------------------------------- figures


def _per_s(due: Due, asked: Sequence[Question]) -> float:
    began = perf_counter()
    for one in asked:
        due(one)
    return len(asked) / (perf_counter() - began)


def _compile_ms(calendar: Calendar) -> float:
    """Until the first answer of a calendar that nobody has asked yet."""
    began = perf_counter()
    WorkingCalendar(calendar).add(FIRST, timedelta(hours=1))
    return (perf_counter() - began) * 1000


def _folds_per_s(calendar: Calendar, folds: int, chance: random.Random) -> float:
    """Clocks that are begun, held, resumed, re-targeted, held again and resolved."""
    known = Calendars({VERSION: [calendar]})
    rules = Rules(frozenset({"weather"}), timedelta(days=14))
    lives = [_life(calendar.code, _question(chance).start) for _ in range(min(folds, 1_000))]
    fold("resolve", lives[0], known, rules)
    for year in range(4):
        known.get(VERSION, calendar.code).add(FIRST + timedelta(days=365 * year), timedelta(hours=1))
    began = perf_counter()
    for number in range(folds):
        fold("resolve", lives[number % len(lives)], known, rules)
    return folds / (perf_counter() - began)


def _life(calendar: str, start: datetime) -> list[ClockEvent]:
    def target(budget: str) -> Target:
        return Target(budget=budget, calendar=calendar, policy_version=VERSION)

    def at(hours: int) -> datetime:
        return start + timedelta(hours=hours)

    return [
        Started(at=start, target=target("4wd")),
        Held(at=at(20), reason="weather"),
        Resumed(at=at(30)),
        Retargeted(at=at(40), target=target("16h")),
        Held(at=at(50), reason="weather"),
        Resolved(at=at(70)),
    ]
