"""Pure: an order's clocks, folded from its ledger and from its promise lines.

What departments say moves clocks as it moves the order: each step of the order's life is compared with the one before.
What our side does (it promises, it raises the priority, nothing asks any longer) is a promise line. Both count at the
time that they happened.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple, get_args
from uuid import UUID

from agents.orders.life import Lived, step
from agents.sla.book import Book
from agents.sla.calendar import CalendarError
from agents.sla.clock import fold
from schemas.policy import Policy
from schemas.promise import Failure, LineKind, PromiseLine, Promises
from schemas.response import Priority
from schemas.sla import (
    Cancelled,
    Clock,
    ClockEvent,
    ClockTerms,
    Held,
    Renewed,
    Reopened,
    Resolved,
    Resumed,
    Retargeted,
    Started,
    Target,
)
from schemas.work_order import ClockName, PromiseView, WorkOrder
from schemas.work_order_update import LedgerEntry

_NAMES: Final[tuple[ClockName, ...]] = get_args(ClockName)
ACKNOWLEDGE: Final[ClockName] = "acknowledge"
_ENDED: Final = ("cancelled", "void")
_CLOSED_BY_WORK: Final = ("resolved", "verified")
SAYS: Final = ("promised", "retargeted")
"""Lines that say what is promised."""


class History(NamedTuple):
    """All that an order's clocks are made of. `department`: the order's before anybody handed it on."""

    entries: Sequence[LedgerEntry]  # those that count
    lines: Sequence[PromiseLine]
    department: str


def clocks_of(order_id: UUID, history: History, policy: Policy, book: Book) -> Promises | None:
    """What an order's clocks stand at; None: nothing was promised yet. The book holds the lines' policies."""
    if not history.lines:
        return None
    pass_ = _Pass(history, policy, book)
    clocks, failures = [], list(pass_.failures)
    for name in sorted(pass_.events, key=_NAMES.index):
        events = pass_.events[name]
        clock, failure = _folded(name, events, history.lines[0].policy_version, book)
        clocks += [clock] if clock else []
        failures += [failure] if failure else []
    return Promises(order_id=order_id, clocks=tuple(clocks), failures=tuple(failures))


def views_of(promises: Promises | None) -> tuple[PromiseView, ...]:
    """What is shown of them, to departments too."""
    return tuple(
        PromiseView(
            clock=clock.name,
            due_at=clock.due_at,
            on_hold=clock.result is None and bool(clock.holds) and clock.holds[-1].until is None,
            result=clock.result,
        )
        for clock in (promises.clocks if promises else ())
    )


def _folded(
    name: ClockName, events: Sequence[ClockEvent], version: str, book: Book
) -> tuple[Clock | None, Failure | None]:
    """The clock; and, if a calendar cannot say when it is due, why. One that ran before goes on as it was promised."""
    try:
        return fold(name, events, book.calendars, book.rules(version)), None
    except CalendarError as error:
        failure = Failure(clock=name, because=str(error))
    as_promised = [event for event in events if not isinstance(event, Retargeted)]
    try:
        return fold(name, as_promised, book.calendars, book.rules(version)), failure
    except CalendarError:
        return None, failure


# ---------------------------------------------------------------- what happened, as events of clocks


@dataclass(slots=True)
class _Pass:
    """One walk through a history, by when things happened; of two at the same instant, as they were handled."""

    history: History
    policy: Policy
    book: Book
    events: dict[ClockName, list[ClockEvent]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    _terms: dict[ClockName, ClockTerms] = field(default_factory=dict)
    _version: str = ""
    _running: set[ClockName] = field(default_factory=set)
    _closed: set[ClockName] = field(default_factory=set)  # by what a reopening undoes

    def __post_init__(self) -> None:
        self._take_terms(self.history.lines[0])
        lived = Lived("new", self.history.department)
        for one in _in_order(self.history):
            if isinstance(one, PromiseLine):
                self._line(one)
                continue
            after, effect = step(lived, one, self.policy)
            if effect == "counts":
                self._lived(lived, after, one.at)
            lived = after

    def _line(self, line: PromiseLine) -> None:
        match line.kind:
            case "promised":
                self._start(None, line.at)
            case "retargeted":
                self._retarget(line)
            case "withdrawn":
                self._close(Cancelled(at=line.at), self._running)
            case "asked_again":
                self._reopen(line.at)

    def _take_terms(self, line: PromiseLine) -> None:
        self._terms = {terms.clock: terms for terms in line.clocks}
        self._version = line.policy_version
        if line.promise is None:
            because = "The policy promises nothing for this kind of work: add it to sla.yaml."
            self.failures.append(Failure(clock="resolve", because=because))

    def _start(self, done: ClockName | None, at: datetime) -> set[ClockName]:
        """What begins now: with the order, or when a stage is done."""
        begun = {name for name, terms in self._terms.items() if terms.after == done} - self.events.keys()
        for name in begun:
            self.events[name] = [Started(at=at, target=self._target(self._terms[name]))]
        self._running |= begun
        return begun

    def _retarget(self, line: PromiseLine) -> None:
        self._take_terms(line)
        gone = {name for name in self._running if name not in self._terms}
        self._close(Cancelled(at=line.at), gone)
        for name, terms in self._terms.items():
            if name in self.events:
                self.events[name].append(Retargeted(at=line.at, target=self._target(terms)))
        self._start(None, line.at)

    def _target(self, terms: ClockTerms) -> Target:
        return Target(
            budget=terms.budget,
            calendar=terms.calendar,
            boundary=self.book.boundary(self._version),
            policy_version=self._version,
        )

    def _lived(self, before: Lived, after: Lived, at: datetime) -> None:
        """What one step of the order's life does to its clocks."""
        if after.department != before.department:
            self._say(Renewed(at=at), {ACKNOWLEDGE} & self.events.keys())
            self._running |= {ACKNOWLEDGE} & self.events.keys()
        elif after.acknowledged_at is not None and before.acknowledged_at is None:
            self._end(Resolved(at=at), {ACKNOWLEDGE})
        self._holds(before, after, at)
        for stage in after.stages[len(before.stages) :]:
            self._end(Resolved(at=at), {stage})
            begun = self._start(stage, at)
            if after.hold_reason is not None:
                self._say(Held(at=at, reason=after.hold_reason), begun)
        self._closes(before, after, at)

    def _holds(self, before: Lived, after: Lived, at: datetime) -> None:
        others = self._running - {ACKNOWLEDGE}
        if after.state == "on_hold" and after.hold_reason is not None:
            if (before.state, before.hold_reason) != (after.state, after.hold_reason):
                self._say(Held(at=at, reason=after.hold_reason), others)
        elif before.state == "on_hold" and after.state not in (*_CLOSED_BY_WORK, *_ENDED):
            self._say(Resumed(at=at), others)

    def _closes(self, before: Lived, after: Lived, at: datetime) -> None:
        was_closed = before.state in _CLOSED_BY_WORK
        if after.state == "cancelled":
            self._close(Cancelled(at=at), self._running)
        elif after.state in _CLOSED_BY_WORK and not was_closed:
            duplicate = after.outcome == "duplicate_of"
            self._close(Cancelled(at=at) if duplicate else Resolved(at=at), self._running)
        elif was_closed and after.state not in _CLOSED_BY_WORK:
            self._reopen(at)

    def _end(self, event: ClockEvent, names: set[ClockName]) -> None:
        """For good: reopening the order does not undo it."""
        self._say(event, names & self.events.keys())
        self._running -= names

    def _close(self, event: ClockEvent, names: set[ClockName]) -> None:
        self._closed = set(names)
        self._say(event, names)
        self._running -= self._closed

    def _reopen(self, at: datetime) -> None:
        self._say(Reopened(at=at), self._closed)
        self._running |= self._closed
        self._closed = set()

    def _say(self, event: ClockEvent, names: set[ClockName]) -> None:
        for name in names:
            self.events[name].append(event)


def _in_order(history: History) -> Iterator[LedgerEntry | PromiseLine]:
    placed = [(entry.at, (entry.seq, 0, 0), entry) for entry in history.entries]
    placed += [(line.at, (line.entries, 1, line.seq), line) for line in history.lines]  # type: ignore[misc]
    return (one for _, _, one in sorted(placed, key=lambda place: place[:2]))


# ---------------------------------------------------------------- what our side does


class Present(NamedTuple):
    """An order as it is now, what its ledger adds up to, and its lines. `entries`: how many its whole ledger has."""

    order: WorkOrder
    lived: Lived
    lines: tuple[PromiseLine, ...]
    entries: int


def with_lines_due(present: Present, policy: Policy, now: datetime) -> Present:
    """With the lines that its state calls for and that are not yet there."""
    order, lines = present.order, present.lines
    wanted = order.state not in _ENDED or present.lived.state == "cancelled"
    closed = order.state in (*_CLOSED_BY_WORK, *_ENDED)
    if not lines:
        return _with_line(present, "promised", now, policy, now) if wanted and not closed else present
    standing = lines[-1].kind != "withdrawn"
    if standing and not wanted:
        at = lines[0].at if order.state == "void" else min(order.cancelled_at or now, now)
        present = _with_line(present, "withdrawn", max(at, lines[0].at), policy, now)
    elif wanted and not standing:
        present = _with_line(present, "asked_again", now, policy, now)
    if wanted and not closed and _promised(lines) != order.priority:
        present = _with_line(present, "retargeted", now, policy, now)
    return present


def _promised(lines: Sequence[PromiseLine]) -> Priority:
    """The priority that the clocks go by."""
    return next(line.priority for line in reversed(lines) if line.kind in SAYS)


def _with_line(present: Present, kind: LineKind, at: datetime, policy: Policy, now: datetime) -> Present:
    order, lines = present.order, present.lines
    says = kind in SAYS
    promise = policy.promise_for(order.category, order.work, order.priority) if says else None
    line = PromiseLine(
        order_id=order.order_id,
        seq=len(lines) + 1,
        entries=present.entries,
        kind=kind,
        at=at,
        handled_at=max([now, *(one.handled_at for one in lines)]),
        priority=order.priority,
        policy_version=policy.version,
        promise=promise.name if promise else None,
        clocks=promise.clocks if promise else (),
    )
    return present._replace(lines=(*lines, line))
