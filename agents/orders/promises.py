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
from agents.sla.clock import cycles
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


class Stands(NamedTuple):
    """What an order's clocks stand at, and, as they ended, the cycles before the present ones."""

    promises: Promises
    past: tuple[Clock, ...]


def clocks_of(order_id: UUID, history: History, policy: Policy, book: Book) -> Stands | None:
    """What an order's clocks stand at; None: nothing was promised yet. The book holds the lines' policies."""
    if not history.lines:
        return None
    pass_ = _Pass(history, policy, book)
    clocks: list[Clock] = []
    past: list[Clock] = []
    failures = list(pass_.failures)
    for name in sorted(pass_.events, key=_NAMES.index):
        found, failure = _folded(name, pass_.events[name], history.lines[0].policy_version, book)
        clocks += found[-1:]
        past += found[:-1]
        failures += [failure] if failure else []
    promises = Promises(order_id=order_id, clocks=tuple(clocks), failures=tuple(failures))
    return Stands(promises, tuple(past))


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
) -> tuple[list[Clock], Failure | None]:
    """The cycles of the clock; and, if a calendar cannot say when it is due, why. One that ran before goes on as it
    was promised."""
    try:
        return cycles(name, events, book.calendars, book.rules(version)), None
    except CalendarError as error:
        failure = Failure(clock=name, because=str(error))
    as_promised = [event for event in events if not isinstance(event, Retargeted)]
    try:
        return cycles(name, as_promised, book.calendars, book.rules(version)), failure
    except CalendarError:
        return [], failure


# ---------------------------------------------------------------- what happened, as events of clocks


@dataclass(slots=True)
class _Pass:
    """One walk through a history, by when things happened; of two at the same instant, as they were handled.

    The promise comes first: what happened before it counts as of its beginning (rule 9).
    """

    history: History
    policy: Policy
    book: Book
    events: dict[ClockName, list[ClockEvent]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    _terms: dict[ClockName, ClockTerms] = field(default_factory=dict)
    _version: str = ""
    _asked: bool = True
    _running: set[ClockName] = field(default_factory=set)
    _done: set[ClockName] = field(default_factory=set)  # ended with the work, and go on with it
    _unasked: set[ClockName] = field(default_factory=set)  # ended because nothing asked for the work

    def __post_init__(self) -> None:
        first = self.history.lines[0]
        self._take_terms(first)
        self._start(None, first.at)
        lived = Lived("new", self.history.department)
        for one in _in_order(self.history):
            if isinstance(one, PromiseLine):
                self._line(one, lived)
                continue
            after, effect = step(lived, one, self.policy)
            if effect == "counts":
                self._lived(lived, after, one.at)
            lived = after

    def _line(self, line: PromiseLine, lived: Lived) -> None:
        match line.kind:
            case "retargeted":
                self._retarget(line, lived.stages)
            case "withdrawn":
                self._asked = False
                self._unasked = self._stop(Cancelled(at=line.at), self._running)
            case "asked_again":
                self._asked = True
                names, self._unasked = self._unasked, set()
                if lived.state in _CLOSED_BY_WORK:
                    self._done |= names
                elif lived.state != "cancelled":
                    self._again(names, line.at)

    def _take_terms(self, line: PromiseLine) -> None:
        self._terms = {terms.clock: terms for terms in line.clocks}
        self._version = line.policy_version
        because = "The policy promises nothing for this kind of work: add it to sla.yaml."
        self.failures = [] if line.promise else [Failure(clock="resolve", because=because)]

    def _start(
        self, done: ClockName | None, at: datetime, stages: Sequence[ClockName] = ()
    ) -> set[ClockName]:
        """What begins now: with the order, or when a stage is done. What was done before it could begin does not."""
        begun = {name for name, terms in self._terms.items() if terms.after == done}
        begun -= self.events.keys() | set(stages)
        for name in begun:
            self.events[name] = [Started(at=at, target=self._target(self._terms[name]))]
        self._running |= begun
        return begun

    def _retarget(self, line: PromiseLine, stages: Sequence[ClockName]) -> None:
        self._take_terms(line)
        self._end(Cancelled(at=line.at), self._running - self._terms.keys())
        for name, terms in self._terms.items():
            if name in self.events:
                self.events[name].append(Retargeted(at=line.at, target=self._target(terms)))
        self._start(None, line.at, stages)

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
            self._renew(at)
        elif after.acknowledged_at is not None and before.acknowledged_at is None:
            self._end(Resolved(at=at), {ACKNOWLEDGE})
        self._holds(before, after, at)
        for stage in after.stages[len(before.stages) :]:
            self._stage(stage, after, at)
        self._closes(before, after, at)

    def _renew(self, at: datetime) -> None:
        known = {ACKNOWLEDGE} & self.events.keys()
        self._say(Renewed(at=at), known)
        self._running |= known
        self._done -= known
        self._unasked -= known

    def _holds(self, before: Lived, after: Lived, at: datetime) -> None:
        others = self._running - {ACKNOWLEDGE}
        if after.state == "on_hold" and after.hold_reason is not None:
            if (before.state, before.hold_reason) != (after.state, after.hold_reason):
                self._say(Held(at=at, reason=after.hold_reason), others)
        elif before.state == "on_hold" and after.state not in (*_CLOSED_BY_WORK, *_ENDED):
            self._say(Resumed(at=at), others)

    def _stage(self, stage: ClockName, after: Lived, at: datetime) -> None:
        """A stage is done, and the next begins; the last one goes on when the work turns out not to be done."""
        ended = self._end(Resolved(at=at), {stage})
        if not any(terms.after == stage for terms in self._terms.values()):
            self._done |= ended
        begun = self._start(stage, at, after.stages)
        if after.hold_reason is not None:
            self._say(Held(at=at, reason=after.hold_reason), begun)

    def _closes(self, before: Lived, after: Lived, at: datetime) -> None:
        was_closed = before.state in _CLOSED_BY_WORK
        if after.state == "cancelled":
            self._end(Cancelled(at=at), self._running)
        elif after.state in _CLOSED_BY_WORK and not was_closed:
            duplicate = after.outcome == "duplicate_of"
            self._done |= self._stop(Cancelled(at=at) if duplicate else Resolved(at=at), self._running)
        elif was_closed and after.state not in _CLOSED_BY_WORK:
            names, self._done = self._done, set()
            if self._asked:
                self._again(names, at)
            else:
                self._unasked |= names

    def _end(self, event: ClockEvent, names: set[ClockName]) -> set[ClockName]:
        """For good: reopening the order does not undo it. Those that ran."""
        self._done -= names
        self._unasked -= names
        return self._stop(event, names)

    def _stop(self, event: ClockEvent, names: set[ClockName]) -> set[ClockName]:
        ended = names & self._running
        self._say(event, ended)
        self._running -= ended
        return ended

    def _again(self, names: set[ClockName], at: datetime) -> None:
        self._say(Reopened(at=at), names)
        self._running |= names

    def _say(self, event: ClockEvent, names: set[ClockName]) -> None:
        for name in names:
            self.events[name].append(event)


def _in_order(history: History) -> Iterator[LedgerEntry | PromiseLine]:
    placed = [(entry.at, (entry.seq, 0, 0), entry) for entry in history.entries]
    placed += [(line.at, (line.entries, 1, line.seq), line) for line in history.lines[1:]]  # type: ignore[misc]
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
        asked_at = [line.at for line in lines if line.kind in ("promised", "asked_again")]
        present = _with_line(present, "withdrawn", max(at, *asked_at), policy, now)
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
