"""What was promised and what was kept, by group and clock. Pure; numbers of rules are those of docs/sla.md.

Each cycle of each clock is one promise. What is said of it is what stands now, with every correction that was heard
since.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from math import sqrt
from typing import Final, Literal, NamedTuple, get_args
from uuid import UUID

from agents.sla.calendar import CalendarError, Calendars
from agents.sla.clock import breached
from schemas.promise import Promises
from schemas.sla import Clock, Cycle, Hold
from schemas.work_order import ClockName

Grouping = Literal["department", "area", "category", "priority", "clock"]
Standing = Literal["kept", "late", "open_late", "open_in_time", "on_hold", "cancelled"]

FEW: Final = 10
"""Of fewer promises no share is told, only their counts and the interval, which is wide."""
Z_95: Final = 1.959963984540054
"""The two-sided 95 % point of the normal distribution."""
CLOCKS: Final[tuple[ClockName, ...]] = get_args(ClockName)


class Interval(NamedTuple):
    """Bounds of a share, both in [0, 1]."""

    low: float
    high: float


class Departure(NamedTuple):
    """Until when a department had an order that is another's now."""

    until: datetime
    department: str


class Promised(NamedTuple):
    """One order and what was promised of it. `promises` None: it is from before orders had promises."""

    order_id: UUID
    reference: str
    department: str  # whose it is now
    category: str
    area: int | None
    priority: str
    opened_at: datetime
    promises: Promises | None


@dataclass(slots=True)
class Tally:
    """How promises stand. Met late is `late`, and so is what was broken before it was cancelled (rule 4)."""

    kept: int = 0
    late: int = 0
    open_late: int = 0
    open_in_time: int = 0
    on_hold: int = 0
    cancelled: int = 0
    no_clock: int = 0  # promised, but without a due time: its calendar could not say one

    @property
    def judged(self) -> int:
        """Those of which it is known whether they were kept."""
        return self.kept + self.late + self.open_late

    @property
    def share(self) -> float | None:
        """The share of them that was kept; None: they are too few to say one."""
        return self.kept / self.judged if self.judged >= FEW else None

    @property
    def interval(self) -> Interval | None:
        """Where the share may lie; None: there is nothing to judge."""
        return wilson(self.kept, self.judged) if self.judged else None

    def add(self, other: "Tally") -> None:
        """Count the other's too."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


@dataclass(slots=True)
class Waiting:
    """Times on hold for one reason: elapsed, and the working time of the clock's calendar within."""

    holds: int = 0
    going_on: int = 0
    working: timedelta = timedelta()
    elapsed: timedelta = timedelta()
    uncounted: int = 0  # without working time here: no calendar of their policy is known


class NoClock(NamedTuple):
    """A promise without a due time, and why."""

    reference: str
    department: str
    clock: ClockName
    because: str


Key = tuple[str, ClockName]
"""Group and clock. The group is a code, an area's number as text, or empty: in no area."""


@dataclass(slots=True)
class Report:
    """What was promised in a period. `unpromised`: orders of the period of which nothing was promised."""

    by: Grouping
    tallies: dict[Key, Tally] = field(default_factory=lambda: defaultdict(Tally))
    waiting: dict[tuple[str, ClockName, str], Waiting] = field(default_factory=lambda: defaultdict(Waiting))
    no_clock: list[NoClock] = field(default_factory=list)
    orders: int = 0
    unpromised: int = 0

    def rows(self) -> list[tuple[Key, Tally]]:
        """By group, then in the order of the clocks."""
        return sorted(self.tallies.items(), key=lambda row: (row[0][0], CLOCKS.index(row[0][1])))

    def totals(self) -> list[tuple[ClockName, Tally]]:
        """Of all groups, by clock."""
        found: dict[ClockName, Tally] = defaultdict(Tally)
        for (_, clock), tally in self.tallies.items():
            found[clock].add(tally)
        return [(clock, found[clock]) for clock in CLOCKS if clock in found]


class Period(NamedTuple):
    """Of promises that began in `[since, until)`, as they stand `now`. None: without that bound."""

    now: datetime
    since: datetime | None = None
    until: datetime | None = None

    def holds(self, at: datetime) -> bool:
        """Whether what began then is meant."""
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)


def wilson(hits: int, of: int, z: float = Z_95) -> Interval:
    """The score interval of a share (E. B. Wilson, JASA 22 (1927) 209-212), for `of` > 0.

    Unlike the textbook's p ± z·s it stays within [0, 1] and says something of 0 and of all, also of few.
    """
    share, spread = hits / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    reach = z * sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    return Interval(
        0.0 if not hits else max(0.0, middle - reach), 1.0 if hits == of else min(1.0, middle + reach)
    )


@dataclass(frozen=True, slots=True)
class Counting:
    """Counts one order after the other into `found`."""

    found: Report
    period: Period
    calendars: Calendars

    def add(self, order: Promised, departures: Iterable[Departure] = ()) -> None:
        """Count an order. What ended while one of its former departments had it is counted as that one's."""
        left = sorted(departures)
        opened = self.period.holds(order.opened_at)
        self.found.orders += opened
        if order.promises is None or not (order.promises.clocks or order.promises.failures):
            self.found.unpromised += opened
            return
        for clock in order.promises.clocks:
            self._past(order, clock, left)
            self._present(order, clock, left)
        running = {clock.name for clock in order.promises.clocks}  # those that merely were not re-targeted
        for failure in order.promises.failures if opened else ():
            self.found.tallies[self._key(order, failure.clock)].no_clock += failure.clock not in running
            self.found.no_clock.append(
                NoClock(order.reference, order.department, failure.clock, failure.because)
            )

    def _past(self, order: Promised, clock: Clock, left: list[Departure]) -> None:
        for cycle in clock.past:
            if self.period.holds(cycle.started_at):
                key = self._key(order, clock.name, _department(order, left, cycle.ended_at))
                _add(self.found.tallies[key], _standing_of_past(cycle))

    def _present(self, order: Promised, clock: Clock, left: list[Departure]) -> None:
        if not self.period.holds(clock.started_at):
            return
        key = self._key(order, clock.name, _department(order, left, clock.ended_at))
        _add(self.found.tallies[key], standing(clock, self.period.now))
        for hold in clock.holds:  # of who had the order then, also when the promise is another's by now
            theirs = self._key(order, clock.name, _department(order, left, hold.until))
            waiting = self.found.waiting[(*theirs, hold.reason)]
            _add_hold(waiting, clock, hold, self.period.now, self.calendars)

    def _key(self, order: Promised, clock: ClockName, department: str | None = None) -> Key:
        match self.found.by:
            case "department":
                return department or order.department, clock
            case "area":
                return "" if order.area is None else str(order.area), clock
            case "category":
                return order.category, clock
            case "priority":
                return order.priority, clock
        return clock, clock


def _department(order: Promised, left: list[Departure], ended_at: datetime | None) -> str:
    """Whose order it was when the promise ended: the first that left it then or later. What runs is the present
    one's."""
    if ended_at is None:
        return order.department
    return next((one.department for one in left if one.until >= ended_at), order.department)


def standing(clock: Clock, now: datetime) -> Standing:
    """How the promise of the present cycle stands."""
    if breached(clock, now):
        return "open_late" if clock.result is None else "late"
    if clock.result is not None:
        return "cancelled" if clock.result == "cancelled" else "kept"
    return "on_hold" if clock.holds and clock.holds[-1].until is None else "open_in_time"


def _standing_of_past(cycle: Cycle) -> Standing:
    if cycle.due_at is not None and cycle.ended_at > cycle.due_at:
        return "late"
    return "cancelled" if cycle.result == "cancelled" else "kept"


def _add(tally: Tally, name: Standing) -> None:
    setattr(tally, name, getattr(tally, name) + 1)


def _add_hold(waiting: Waiting, clock: Clock, hold: Hold, now: datetime, calendars: Calendars) -> None:
    until = hold.until or max(now, hold.since)
    waiting.holds += 1
    waiting.going_on += hold.until is None
    waiting.elapsed += until - hold.since
    try:
        waiting.working += sum(_working(clock, hold.since, until, calendars), timedelta())
    except CalendarError:
        waiting.uncounted += 1


def _working(clock: Clock, since: datetime, until: datetime, calendars: Calendars) -> Iterator[timedelta]:
    """The working time of a hold, on the calendar that the clock had then: a re-target within it may change that."""
    changes = [change for change in clock.retargets if since < change.at < until]
    before = next((change.old for change in clock.retargets if change.at > since), clock.target)
    targets = [before, *(change.new for change in changes)]
    bounds = [since, *(change.at for change in changes), until]
    for target, start, end in zip(targets, bounds[:-1], bounds[1:], strict=True):
        yield calendars.get(target.policy_version, target.calendar).consumed(start, end)
