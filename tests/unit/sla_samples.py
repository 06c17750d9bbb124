"""Calendars and events of the tests of promises."""

from datetime import UTC, date, datetime, timedelta

from agents.sla.calendar import Calendars, WorkingCalendar
from agents.sla.clock import Rules, fold
from schemas.sla import (
    WEEKDAYS,
    Boundary,
    Calendar,
    Clock,
    ClockEvent,
    Held,
    Holiday,
    Resumed,
    RungTerms,
    Started,
    Target,
)
from schemas.work_order import ClockName

VERSION = "v1"
RULES = Rules(frozenset({"weather", "owner_notice"}), timedelta(days=14))


def calendar(code: str, zone: str, hours: dict[str, str], **more: object) -> Calendar:
    """`{"mon-fri": "08:00-12:00 13:00-17:00"}` as a calendar."""
    week = {}
    for days, spans in hours.items():
        first, _, last = days.partition("-")
        for day in WEEKDAYS[WEEKDAYS.index(first) : WEEKDAYS.index(last or first) + 1]:
            week[day] = tuple(spans.split())
    return Calendar.model_validate({"code": code, "name": code, "time_zone": zone, "hours": week, **more})


# The calendars of the examples in SLA.md
B = calendar("b", "Europe/Berlin", {"mon-sun": "09:00-18:00"})
H = calendar(
    "h", "Europe/Berlin", {"mon-fri": "08:00-20:00"},
    holidays=(Holiday(on=date(2016, 11, 1), name="Allerheiligen", source="test"),),
    holidays_from=date(2016, 1, 1), holidays_until=date(2016, 12, 31),
)  # fmt: skip
G = calendar("g", "UTC", {"mon": "10:30-19:00", "tue-fri": "08:30-19:00"})
MIXED = calendar(
    "mixed", "UTC",
    {"mon": "09:00-17:00", "tue": "10:00-16:00", "wed": "09:00-17:00", "thu": "10:00-16:00",
     "fri": "09:00-17:00", "sat": "11:00-14:30"},
)  # fmt: skip
OFFICE = calendar("office", "America/Chicago", {"mon-fri": "08:30-16:30"})
AROUND = calendar("24x7", "America/Chicago", {"mon-sun": "00:00-24:00"})
KNOWN = Calendars({VERSION: [B, H, G, MIXED, OFFICE, AROUND], "v2": [B, G, OFFICE, AROUND]})

LADDER = (
    RungTerms(name="half", percent=50),
    RungTerms(name="soon", percent=90),
    RungTerms(name="breach", percent=100),
    RungTerms(name="late_10h", after_breach="10h"),
)


def at(text: str) -> datetime:
    """`2013-06-04 09:00` in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def compiled(of: Calendar) -> WorkingCalendar:
    return WorkingCalendar(of)


def target(budget: str, of: Calendar, boundary: Boundary = "stay", version: str = VERSION) -> Target:
    return Target(budget=budget, calendar=of.code, boundary=boundary, policy_version=version)


def start(when: str, budget: str, of: Calendar, boundary: Boundary = "stay") -> Started:
    return Started(at=at(when), target=target(budget, of, boundary))


def hold(since: str, until: str, reason: str = "weather") -> list[ClockEvent]:
    return [Held(at=at(since), reason=reason), Resumed(at=at(until))]


def folded(*events: ClockEvent, name: ClockName = "resolve", rules: Rules = RULES) -> Clock:
    """The clock after these events, which has started."""
    clock = fold(name, events, KNOWN, rules)
    assert clock is not None
    return clock
