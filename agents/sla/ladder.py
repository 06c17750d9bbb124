"""Pure: which rungs of an order's clocks were reached, who is warned of it, and what corrects a warning.

One `look` is taken before anything is done to an order, with what was known until then, and one afterwards. So what
fires is a matter of what was known at which time, and not of when somebody happened to look.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from agents.sla.book import Book
from agents.sla.calendar import CalendarError
from agents.sla.clock import passed, rungs
from connectors.ports import KnownAlert
from schemas.alert import (
    NO_CLOCK,
    NOBODYS,
    Alert,
    AlertCommand,
    AlertEvent,
    AlertEventKind,
    AlertState,
    alert_id_of,
)
from schemas.promise import Promises
from schemas.sla import Clock, Rung, RungTerms
from schemas.work_order import WorkOrder

ORDER: Final = "order"
"""The clock of an alert that is about the order itself."""
NO_CLOCK_LEVEL: Final = 3
NOBODYS_LEVEL: Final = 1
ATTENTION: Final[tuple[AlertState, ...]] = ("open", "acknowledged", "snoozed")
_QUIET: Final[tuple[AlertState, ...]] = ("acknowledged", "snoozed")
_CLOSED: Final = ("resolved", "verified", "cancelled", "void")
_TICK: Final = timedelta(microseconds=1)

Key = tuple[str, int, str]
"""Clock, cycle, rung."""


class Standing(NamedTuple):
    """An order as it is known at some time: what its alerts say of it, and its clocks."""

    order: WorkOrder
    title: str
    unowned: bool  # it is in the triage queue
    promises: Promises
    past: tuple[Clock, ...]  # cycles before the present ones, as they ended
    policy_version: str  # whose ladder it goes by
    last_heard: datetime  # when somebody last said something of it, or it was promised


class _Quiet(NamedTuple):
    """An alert that somebody looks after, or did until then."""

    alert: Alert
    until: datetime


class _Point(NamedTuple):
    """A rung of a clock in its present cycle."""

    clock: Clock
    place: int  # on the ladder
    rung: Rung
    level: int

    @property
    def key(self) -> Key:
        return self.clock.name, self.clock.cycle, self.rung.name

    @property
    def fires_at(self) -> datetime | None:
        """A breach is strictly after its time (rule 4)."""
        if self.rung.at is None:
            return None
        return self.rung.at + _TICK if self.rung.breach else self.rung.at

    def is_reached(self, now: datetime) -> bool:
        """Whether its clock has come by it."""
        return passed(self.rung, self.clock, now)


@dataclass(slots=True)
class Ladder:
    """The alerts of one order: those that are known, and what happens to them now."""

    book: Book
    known: dict[Key, KnownAlert] = field(default_factory=dict)
    events: list[AlertEvent] = field(default_factory=list)

    def look(self, standing: Standing, now: datetime) -> None:
        """Everything that time has brought until now, and what corrects it."""
        reached = [one for one in _points(standing, self.book, now) if one.is_reached(now)]
        quiet = self._come_back(standing, now)
        self._correct(standing, reached, now)
        self._fire(standing, reached, quiet, now)
        self._about_the_order(standing, now)
        self._move(standing, now)

    def next_at(self, standing: Standing, now: datetime) -> datetime | None:
        """When to look again; None: nothing is waited for."""
        times = [
            at
            for point in _points(standing, self.book, now)
            if point.clock.result is None and (at := point.fires_at) is not None and at > now
        ]
        times += [
            at
            for known in self.known.values()
            if (at := self._until(known.alert, standing)) is not None and at > now
        ]
        return min(times, default=None)

    # ------------------------------------------------------------ what people do

    def take(self, command: AlertCommand, standing: Standing, now: datetime) -> bool:
        """What somebody does about an alert; False: it is too late for that, and nothing is changed."""
        found = [known for known in self.known.values() if known.alert.alert_id == command.alert_id]
        if not found:
            return False
        known = found[0]
        said = command.text or _SAID[command.kind]
        if command.kind == "nobody_there":
            self._event(known, "nobody_there", now, said, command=command)
            return True
        if known.alert.state not in ATTENTION:
            return False
        match command.kind:
            case "acknowledge":
                until = now + timedelta(minutes=self._alerting(standing).unacknowledge_after_minutes)
                changes: dict[str, Any] = {
                    "state": "acknowledged",
                    "acknowledged_by": command.by,
                    "until": until,
                }
                self._event(known, "acknowledged", now, said, command=command, **changes)
            case "unacknowledge":
                if known.alert.state not in _QUIET:
                    return False
                self._reopen(known, "unacknowledged", now, said, command=command)
            case "snooze":
                most = now + timedelta(hours=self._alerting(standing).longest_snooze_hours)
                until = min(command.until or most, most)
                if until <= now:
                    return False
                self._event(known, "snoozed", now, said, command=command, state="snoozed", until=until)
            case "hand_over":
                changes = {"state": "open", "until": None, "acknowledged_by": None, "handed_to": command.to}
                self._event(known, "handed_over", now, said, command=command, **changes)
        return True

    # ------------------------------------------------------------ what time does

    def _come_back(self, standing: Standing, now: datetime) -> list[_Quiet]:
        """Acknowledged, and nothing happened; or the end of a snooze. Those, and those that are still quiet."""
        quiet = []
        for known in list(self.known.values()):
            until = self._until(known.alert, standing)
            if until is not None:
                quiet.append(_Quiet(known.alert, until))
            if until is None or until > now:
                continue
            if known.alert.state == "snoozed":
                self._reopen(known, "woken", now, "The time for which it was snoozed is over.")
            else:
                by = known.alert.acknowledged_by
                self._reopen(
                    known, "unacknowledged", now, f"{by} acknowledged it, and nothing has happened since."
                )
        return quiet

    def _until(self, alert: Alert, standing: Standing) -> datetime | None:
        if alert.state not in _QUIET or alert.until is None:
            return None
        if alert.state == "snoozed":
            return alert.until
        minutes = self._alerting(standing).unacknowledge_after_minutes
        return max(alert.until, standing.last_heard + timedelta(minutes=minutes))

    def _reopen(
        self, known: KnownAlert, kind: AlertEventKind, now: datetime, because: str, *,
        command: AlertCommand | None = None, **changes: Any,
    ) -> None:  # fmt: skip
        changes |= {"state": "open", "until": None, "acknowledged_by": None}
        self._event(known, kind, now, because, command=command, **changes)

    def _move(self, standing: Standing, now: datetime) -> None:
        """The order is another department's now: what needs attention is told there, and no more where it was. Of
        each clock the highest tells."""
        owner = standing.order.department
        moved = [
            known
            for known in self.known.values()
            if known.alert.state in ATTENTION and known.alert.department != owner
        ]
        highest = {known.alert.clock: known for known in sorted(moved, key=lambda one: one.alert.at)}
        for known in moved:
            if highest[known.alert.clock] is known:
                because = "The order is another department's now."
                self._reopen(known, "back", now, because, department=owner, handed_to=None)
            else:
                self._event(
                    known, "over", now, "The order is another department's now.", state="over", until=None
                )

    # ------------------------------------------------------------ rungs

    def _fire(
        self, standing: Standing, reached: Sequence[_Point], quiet: Sequence[_Quiet], now: datetime
    ) -> None:
        """The rungs that were reached, each once and in order; the highest of a clock tells, the others are noted."""
        highest = {point.key[:2]: point.place for point in reached}
        for point in sorted(reached, key=_when):
            if self._is_new(point.key):
                self._fire_one(standing, point, highest[point.key[:2]], quiet, now)
            elif point.place == highest[point.key[:2]]:
                self._bring_back(standing, point, now)

    def _fire_one(
        self, standing: Standing, point: _Point, highest: int, quiet: Sequence[_Quiet], now: datetime
    ) -> None:
        kind: AlertEventKind = "fired"
        state: AlertState = "open"
        because = _reached(point)
        if point.clock.result is not None:
            kind, state, because = "superseded", "recorded", f"{because} It was heard of when that was over."
        elif point.place < highest:
            kind, state, because = "superseded", "recorded", f"{because} A higher rung was reached, too."
        elif _is_silenced(point, quiet):
            kind, state, because = "silenced", "recorded", f"{because} Somebody has acknowledged it already."
        old = self.known.get(point.key)
        if old is not None and kind == "fired":
            kind = "fired_again"
        self._enter(self._alert(standing, point, state, because, now), kind, (old.seq if old else 0) + 1)

    def _is_new(self, key: Key) -> bool:
        known = self.known.get(key)
        return known is None or known.alert.state == "withdrawn"

    def _bring_back(self, standing: Standing, point: _Point, now: datetime) -> None:
        """The clock had ended, and runs again: what was reached still is."""
        known = self.known[point.key]
        if known.alert.state == "over" and point.clock.result is None:
            because = "The work is open again, and what was reached still is."
            self._reopen(known, "back", now, because, department=standing.order.department)

    def _correct(self, standing: Standing, reached: Sequence[_Point], now: datetime) -> None:
        there = {point.key for point in reached}
        ladder = {terms.name for terms in self.book.rungs(standing.policy_version)}
        unknown = {failure.clock for failure in standing.promises.failures}
        clocks: dict[tuple[str, int], Clock]
        clocks = {(one.name, one.cycle): one for one in (*standing.past, *standing.promises.clocks)}
        for key, known in list(self.known.items()):
            name, cycle, rung = key
            clock = clocks.get((name, cycle))
            if name == ORDER or rung == NO_CLOCK or known.alert.state == "withdrawn":
                continue
            if clock is None and name in unknown:
                continue
            if clock is None or (rung in ladder and key not in there):
                self._event(known, "withdrawn", now, _withdrawn(clock), state="withdrawn", until=None)
            elif known.alert.state in ATTENTION and clock.result is not None:
                because = _OVER[clock.result] if clock not in standing.past else "A new cycle has begun."
                self._event(known, "over", now, because, state="over", until=None)

    # ------------------------------------------------------------ the order itself

    def _about_the_order(self, standing: Standing, now: datetime) -> None:
        """No promise is silently without a clock, and no order without an owner."""
        closed = standing.order.state in _CLOSED
        wanted: dict[Key, tuple[int, str]] = {}
        if not closed:
            for failure in standing.promises.failures:
                wanted[failure.clock, 1, NO_CLOCK] = (NO_CLOCK_LEVEL, failure.because)
            if standing.unowned:
                wanted[ORDER, 1, NOBODYS] = (NOBODYS_LEVEL, "No department owns this work: route it.")
        for key, (level, because) in wanted.items():
            known = self.known.get(key)
            if known is None:
                alert = _alert_of(standing, key, level=level, at=now, now=now, because=because)
                self._enter(alert, "fired", 1)
            elif known.alert.state == "over":
                self._reopen(known, "back", now, because, department=standing.order.department)
        for key, known in list(self.known.items()):
            if key[2] in (NO_CLOCK, NOBODYS) and key not in wanted and known.alert.state in ATTENTION:
                self._event(known, "over", now, "It holds no longer.", state="over", until=None)

    # ------------------------------------------------------------ events

    def _alert(
        self, standing: Standing, point: _Point, state: AlertState, because: str, now: datetime
    ) -> Alert:
        at = point.fires_at or now
        late_after = timedelta(seconds=self._alerting(standing).late_after_s)
        assert point.rung.at is not None
        return _alert_of(
            standing, point.key, level=point.level, at=point.rung.at, now=now, because=because, state=state,
            breach=point.rung.breach, due_at=point.clock.due_at, late=now - at > late_after,
        )  # fmt: skip

    def _enter(self, alert: Alert, kind: AlertEventKind, seq: int) -> None:
        self.known[alert.clock, alert.cycle, alert.rung] = KnownAlert(alert, seq)
        self.events.append(
            AlertEvent(alert=alert, seq=seq, kind=kind, at=alert.fired_at, because=alert.because)
        )

    def _event(
        self, known: KnownAlert, kind: AlertEventKind, now: datetime, because: str, *,
        command: AlertCommand | None = None, **changes: Any,
    ) -> None:  # fmt: skip
        alert = known.alert.model_copy(update=changes)
        self.known[alert.clock, alert.cycle, alert.rung] = KnownAlert(alert, known.seq + 1)
        self.events.append(
            AlertEvent(
                alert=alert, seq=known.seq + 1, kind=kind, at=now, because=because,
                by=command.by if command else None, command_id=command.command_id if command else None,
            )
        )  # fmt: skip

    def _alerting(self, standing: Standing) -> Any:
        return self.book.alerting(standing.policy_version)


def of_order(book: Book, alerts: Iterable[KnownAlert]) -> Ladder:
    """The ladder of an order with these alerts; what corrects them comes in their order."""
    ordered = sorted(alerts, key=lambda one: (one.alert.at, one.alert.clock, one.alert.cycle))
    return Ladder(book, {(one.alert.clock, one.alert.cycle, one.alert.rung): one for one in ordered})


def _points(standing: Standing, book: Book, now: datetime) -> list[_Point]:
    """Of each clock the rungs that it has come by, and the next. Shares of the budget come one after the other, and
    what comes after the breach is not before it: so nothing else is computed."""
    terms = book.rungs(standing.policy_version)
    clocks = (*standing.past, *standing.promises.clocks)
    return [point for clock in clocks for point in _of_clock(clock, terms, book, now)]


def _of_clock(clock: Clock, terms: Sequence[RungTerms], book: Book, now: datetime) -> Iterator[_Point]:
    for place, one in enumerate(terms):
        try:
            (rung,) = rungs(clock, [one], book.calendars)
        except CalendarError:  # far beyond the breach, where the calendar has no more hours
            continue
        point = _Point(clock, place, rung, one.level)
        yield point
        if one.percent is not None and not point.is_reached(now):
            return


def _is_silenced(point: _Point, quiet: Sequence[_Quiet]) -> bool:
    """Whether somebody looked after one of the same or a higher level of this clock when it was reached, whenever that
    is found (docs/sla.md, Who is told)."""
    at = point.fires_at
    return any(
        (one.alert.clock, one.alert.cycle) == point.key[:2]
        and one.alert.level >= point.level
        and (at is None or at < one.until)
        for one in quiet
    )


def _when(point: _Point) -> tuple[datetime, int]:
    assert point.rung.at is not None
    return point.rung.at, point.place


def _alert_of(
    standing: Standing, key: Key, *, level: int, at: datetime, now: datetime, because: str,
    state: AlertState = "open", breach: bool = False, due_at: datetime | None = None, late: bool = False,
) -> Alert:  # fmt: skip
    order = standing.order
    clock, cycle, rung = key
    return Alert.model_validate(
        {
            "alert_id": alert_id_of(order.order_id, clock, cycle, rung), "order_id": order.order_id,
            "order_key": order.order_key, "reference": order.reference, "department": order.department,
            "category": order.category, "work": order.work, "priority": order.priority,
            "title": standing.title, "address": order.site.address, "area": order.site.area,
            "clock": clock, "cycle": cycle, "rung": rung, "level": level, "breach": breach, "at": at,
            "due_at": due_at, "fired_at": now, "late": late, "because": because, "state": state,
            "simulated": order.simulated,
        }
    )  # fmt: skip


_PROMISES: Final[Mapping[str, str]] = {
    "acknowledge": "to acknowledge it", "inspect": "to inspect it", "resolve": "to resolve it",
    "notify_owner": "to notify the owner", "abate": "to abate it",
}  # fmt: skip

_SAID: Final[Mapping[str, str]] = {
    "acknowledge": "Somebody looks after it.",
    "unacknowledge": "It is open again.",
    "snooze": "It is put off.",
    "hand_over": "It is handed over.",
    "nobody_there": "Nobody was there to be told: the next level was.",
}


def _reached(point: _Point) -> str:
    promise = _PROMISES[point.clock.name]
    if point.rung.after_breach is not None:
        return (
            f"The time {promise} was over, and {point.rung.after_breach} of working time have passed since."
        )
    if point.rung.breach:
        return f"The time {promise} is over."
    return f"{point.rung.percent} % of the time {promise} have passed."


def _withdrawn(clock: Clock | None) -> str:
    if clock is None:
        return "As is known by now, this promise was never begun."
    if clock.retargets:
        return "The promise is another one now: as is known by now, this point was not reached."
    return "As is known by now, this point was not reached."


_OVER: Final[Mapping[str, str]] = {
    "met": "It was done in time.", "late": "It was done, late.", "cancelled": "It is no longer asked for.",
}  # fmt: skip
