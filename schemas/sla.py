"""Promises: calendars, what is promised for which work, and the clock of each promise.

The rules are in docs/sla.md; `agents/sla` computes by them. Lengths of working time are `timedelta`s.
"""

import re
from datetime import date, timedelta
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import Field

from schemas.base import Code, Instant, Record, ShortText
from schemas.response import Priority
from schemas.work_order import ClockName, Result, Work

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)  # in the order of date.weekday()
Boundary = Literal["stay", "roll"]
"""A deadline that falls exactly on closing time stays there, or rolls to the next opening."""
STAGES: tuple[ClockName, ...] = ("inspect", "notify_owner", "abate")

SPAN_PATTERN = r"^([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"
BUDGET_PATTERN = r"^[1-9][0-9]{0,4}(s|m|h|d|wd)$"

SpanText = Annotated[str, Field(pattern=SPAN_PATTERN)]
"""Hours of a day, `08:30-16:30`: from the first minute until before the last."""
BudgetText = Annotated[str, Field(pattern=BUDGET_PATTERN)]
"""A length of working time: `30m`, `4h`; or working days of the calendar: `5d`, or clearer `5wd`."""

# ---------------------------------------------------------------- calendars


class SpecialDay(Record):
    """A date with hours of its own; none: closed. It overrules weekday and holiday."""

    on: date
    name: ShortText
    hours: tuple[SpanText, ...] = ()


class Holiday(Record):
    """A date without working time, and who says so."""

    on: date
    name: ShortText
    source: ShortText


class Calendar(Record):
    """When work is done: weekly hours in a zone, exceptions, and holidays by date."""

    code: Code
    name: ShortText
    time_zone: ShortText  # IANA name
    hours: dict[Weekday, tuple[SpanText, ...]]  # a weekday that is absent is closed
    exceptions: tuple[SpecialDay, ...] = ()
    holidays: tuple[Holiday, ...] = ()
    holidays_from: date | None = None  # the first date of which the holidays are known
    holidays_until: date | None = None  # the last one; None: the calendar knows no holidays and never ends
    source: ShortText | None = None


# ---------------------------------------------------------------- what the policy promises


class ClockTerms(Record):
    """One promise: so much working time of a calendar. A stage begins when the one before it is done."""

    clock: ClockName
    budget: BudgetText
    calendar: Code
    after: ClockName | None = None  # None: begins when the order is opened
    source: ShortText


class Promise(Record):
    """What is promised for this kind of work, in these categories and priorities."""

    name: Code
    categories: tuple[Code, ...]
    work: Work
    priorities: tuple[Priority, ...]
    clocks: tuple[ClockTerms, ...]

    def first_clocks(self) -> tuple[ClockTerms, ...]:
        """What begins when the order is opened."""
        return tuple(terms for terms in self.clocks if terms.after is None)

    def clocks_after(self, done: ClockName) -> tuple[ClockTerms, ...]:
        """What begins when this stage is done."""
        return tuple(terms for terms in self.clocks if terms.after == done)


class RungTerms(Record):
    """A point on the ladder: a share of the budget, or a length of working time after the breach."""

    name: Code
    percent: Annotated[int, Field(ge=1, le=100)] | None = None
    after_breach: BudgetText | None = None
    level: Annotated[int, Field(ge=1, le=4)] = 1  # who is told: `alert.Level`


class Alerting(Record):
    """How alerts behave, all in elapsed time."""

    late_after_s: Annotated[int, Field(ge=1, le=86_400)] = 60  # a rung that fires later is marked late
    unacknowledge_after_minutes: Annotated[int, Field(ge=1, le=43_200)] = 240
    """An acknowledged alert comes back when nothing was said of its order for so long."""
    longest_snooze_hours: Annotated[int, Field(ge=1, le=720)] = 24


class SlaPolicy(Record):
    """What a policy promises. A policy that was stored before there were promises has none."""

    calendars: tuple[Calendar, ...] = ()
    promises: tuple[Promise, ...] = ()
    rungs: tuple[RungTerms, ...] = ()  # lowest first
    staged: tuple[Code, ...] = ()  # categories that are fixed in stages
    boundary: Boundary = "stay"
    reopen_within_hours: Annotated[int, Field(ge=0, le=8760)] = 336  # of elapsed time
    alerting: Alerting = Alerting()


# ---------------------------------------------------------------- what happens to a clock


class Target(Record):
    """What a clock runs on, pinned when it begins or is re-targeted."""

    budget: BudgetText
    calendar: Code
    boundary: Boundary = "stay"
    policy_version: ShortText


class Started(Record):
    """The promise was made."""

    kind: Literal["start"] = "start"
    at: Instant
    target: Target


class Held(Record):
    """The work waits."""

    kind: Literal["hold"] = "hold"
    at: Instant
    reason: Code


class Resumed(Record):
    """The work goes on."""

    kind: Literal["resume"] = "resume"
    at: Instant


class Resolved(Record):
    """What was promised is done: acknowledged, inspected, resolved …"""

    kind: Literal["resolve"] = "resolve"
    at: Instant


class Reopened(Record):
    """It turned out not to be done."""

    kind: Literal["reopen"] = "reopen"
    at: Instant


class Cancelled(Record):
    """It is no longer asked for, or it is a duplicate that was closed with its original."""

    kind: Literal["cancel"] = "cancel"
    at: Instant


class Retargeted(Record):
    """Priority, category or policy changed: the promise is another one."""

    kind: Literal["retarget"] = "retarget"
    at: Instant
    target: Target


class Renewed(Record):
    """Somebody else has to keep it from now on: a new cycle, with the whole budget."""

    kind: Literal["renew"] = "renew"
    at: Instant


ClockEvent = Annotated[
    Started | Held | Resumed | Resolved | Reopened | Cancelled | Retargeted | Renewed,
    Field(discriminator="kind"),
]

# ---------------------------------------------------------------- what stands


class Run(Record):
    """A time in which the clock ran, on one calendar."""

    since: Instant
    until: Instant | None  # None: it runs
    calendar: Code
    policy_version: ShortText
    consumed: timedelta  # working time; 0 while it runs


class Hold(Record):
    """A time in which the clock was on hold."""

    since: Instant
    until: Instant | None
    reason: Code


class Retargeting(Record):
    """A change of what was promised, with both due times. None: it was on hold, or had ended."""

    at: Instant
    old: Target
    new: Target
    old_due: Instant | None
    new_due: Instant | None


class Cycle(Record):
    """A cycle that is over: after it the order was reopened too late to go on with the same clock."""

    cycle: Annotated[int, Field(ge=1)]
    started_at: Instant
    ended_at: Instant
    result: Result
    due_at: Instant | None
    consumed: timedelta


class Clock(Record):
    """A promise as its events leave it. What depends on the present time is asked of `agents.sla.clock`."""

    name: ClockName
    cycle: Annotated[int, Field(ge=1)]
    target: Target
    budget: timedelta  # working time, also where the target says days
    boundary: Boundary  # of this budget: days can end on an opening
    started_at: Instant
    consumed: timedelta  # working time of the runs that are over
    due_at: Instant | None  # derived; None: on hold before it was due
    runs: tuple[Run, ...]  # of this cycle
    holds: tuple[Hold, ...]
    retargets: tuple[Retargeting, ...]
    ended_at: Instant | None
    result: Result | None
    past: tuple[Cycle, ...]


class Rung(Record):
    """A point on the ladder in the present state. `at` None: it is not reached while things stay as they are."""

    name: Code
    percent: int | None
    after_breach: BudgetText | None
    at: Instant | None

    @property
    def breach(self) -> bool:
        """Whether it tells of a breach, which is strictly after its time, and not of the way there."""
        return self.percent is None or self.percent == 100


class Counted(Record):
    """A working interval that a clock counted, and what it had consumed by the end of it."""

    since: Instant
    until: Instant
    consumed: timedelta


class Explanation(Record):
    """Why a due time is what it is."""

    due_at: Instant | None
    counted: tuple[Counted, ...]
    holds: tuple[Hold, ...]
    holidays: tuple[Holiday, ...]  # those between the start and the end of what was counted
    policy_versions: tuple[ShortText, ...]


class Length(NamedTuple):
    """A budget as figures: working time, or a number of working days."""

    time: timedelta
    days: int


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}


def length_of(text: str) -> Length:
    """The length of a budget's text. Raises ValueError."""
    matched = re.fullmatch(r"([1-9][0-9]{0,4})(s|m|h|d|wd)", text)
    if matched is None:
        raise ValueError("expected a number and a unit (s, m, h, or d and wd for working days)")
    number, unit = int(matched[1]), matched[2]
    if unit in _UNITS:
        return Length(timedelta(**{_UNITS[unit]: number}), 0)
    return Length(timedelta(), number)
