"""The clock of a promise: a fold of its events in the order in which they happened. Pure; rules of docs/sla.md.

A clock runs, is on hold, or has ended. It keeps the runs and how much working time each consumed; everything else,
the due time above all, is derived from them and the budget (rule 2).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from agents.sla.calendar import Calendars, WorkingCalendar
from schemas.base import Record
from schemas.policy import Policy
from schemas.sla import (
    Boundary,
    Cancelled,
    Clock,
    ClockEvent,
    ClockTerms,
    Counted,
    Cycle,
    Explanation,
    Held,
    Hold,
    Holiday,
    Renewed,
    Reopened,
    Resolved,
    Resumed,
    Retargeted,
    Retargeting,
    Run,
    Rung,
    RungTerms,
    Started,
    Target,
    length_of,
)
from schemas.work_order import ClockName, Result

R = TypeVar("R", bound=Record)

NEVER_ON_HOLD: ClockName = "acknowledge"
"""To say that one has read it needs no weather (rule 5)."""


class Rules(NamedTuple):
    """What of the policy the fold needs."""

    hold_reasons: frozenset[str]  # only these stop a clock
    reopen_within: timedelta  # of elapsed time, the end included


class _Context(NamedTuple):
    calendars: Calendars
    rules: Rules

    def of(self, target: Target) -> WorkingCalendar:
        return self.calendars.get(target.policy_version, target.calendar)


def rules_of(policy: Policy) -> Rules:
    """The rules of a policy."""
    reasons = frozenset(reason.code for reason in policy.hold_reasons)
    return Rules(reasons, timedelta(hours=policy.sla.reopen_within_hours))


def pinned(terms: ClockTerms, policy: Policy) -> Target:
    """What a clock that starts under this policy runs on (rule 7)."""
    return Target(
        budget=terms.budget,
        calendar=terms.calendar,
        boundary=policy.sla.boundary,
        policy_version=policy.version,
    )


def fold(name: ClockName, events: Iterable[ClockEvent], calendars: Calendars, rules: Rules) -> Clock | None:
    """The clock that these events leave, given in the order in which they were heard; None: it has not started.

    Events count at the time that they happened (rule 9); of the same instant, as they were heard. What happened
    before the clock began is taken to have happened as it began: an order that waits starts its clocks on hold.
    Raises CalendarError when the clock cannot start or be re-targeted (rule 10).
    """
    return next(iter(reversed(cycles(name, events, calendars, rules))), None)


def cycles(name: ClockName, events: Iterable[ClockEvent], calendars: Calendars, rules: Rules) -> list[Clock]:
    """The same, with the cycles before it as they ended; empty: it has not started."""
    heard = list(events)
    started = next((event for event in heard if isinstance(event, Started)), None)
    if started is None:
        return []
    context = _Context(calendars, rules)
    found = [_started(name, started.at, started.target, context)]
    others = [event for event in heard if not isinstance(event, Started)]
    for event in sorted(others, key=lambda event: max(event.at, started.at)):
        at = max(event.at, started.at)
        clock = _after(found[-1], event, at, context)
        if clock.cycle > found[-1].cycle:
            found = [*found[:-1], _over(found[-1], at, context), clock]
        else:
            found[-1] = clock
    return found


# ---------------------------------------------------------------- asking a clock


def consumed(clock: Clock, now: datetime, calendars: Calendars) -> timedelta:
    """The working time that the clock has consumed."""
    open_run = next((run for run in clock.runs if run.until is None), None)
    if open_run is None:
        return clock.consumed
    return clock.consumed + _calendar(open_run, calendars).consumed(open_run.since, now)


def breached(clock: Clock, now: datetime) -> bool:
    """Whether the promise was broken by now: strictly after the due time, and for good (rule 4)."""
    return clock.due_at is not None and _end(clock, now) > clock.due_at


def due_if_resumed(clock: Clock, at: datetime, calendars: Calendars) -> datetime | None:
    """When it would be due if it went on at this time; of a clock that is on hold. None: it has ended."""
    if clock.due_at is not None or clock.result is not None:
        return clock.due_at
    calendar = calendars.get(clock.target.policy_version, clock.target.calendar)
    return calendar.add(at, clock.budget - clock.consumed, clock.boundary)


def rungs(clock: Clock, terms: Sequence[RungTerms], calendars: Calendars) -> tuple[Rung, ...]:
    """The points of the ladder, as things stand. What a re-target passed at once is reached with it (rule 7)."""
    return tuple(
        Rung(
            name=one.name,
            percent=one.percent,
            after_breach=one.after_breach,
            at=_rung_at(clock, one, calendars),
        )
        for one in terms
    )


def passed(rung: Rung, clock: Clock, now: datetime) -> bool:
    """Whether the clock has come by this point; a breach is strictly after its time (rule 4)."""
    if rung.at is None:
        return False
    end = _end(clock, now)
    return end > rung.at if rung.breach else end >= rung.at


def explain(clock: Clock, calendars: Calendars, until: datetime | None = None) -> Explanation:
    """The working intervals that were counted, to the due time if nothing else is said (rule 11)."""
    counted: list[Counted] = []
    holidays: list[Holiday] = []
    total = timedelta()
    for run in clock.runs:
        end = min(at for at in (run.until, until or clock.due_at) if at is not None)
        calendar = _calendar(run, calendars)
        for since, to in calendar.intervals(run.since, end):
            total += to - since
            counted.append(Counted(since=since, until=to, consumed=total))
        holidays += calendar.holidays(run.since, end) if run.since < end else ()
    return Explanation(
        due_at=clock.due_at,
        counted=tuple(counted),
        holds=clock.holds,
        holidays=tuple(dict.fromkeys(holidays)),
        policy_versions=tuple(dict.fromkeys(run.policy_version for run in clock.runs)),
    )


# ---------------------------------------------------------------- what events do


def _after(clock: Clock, event: ClockEvent, at: datetime, context: _Context) -> Clock:
    """The clock after one event. What does not apply to it changes nothing."""
    match event:
        case Reopened() if clock.ended_at is not None:
            return _reopened(clock, at, clock.ended_at, context)
        case Renewed():
            return _renewed(clock, at, context)
        case Retargeted():
            return _retargeted(clock, at, event.target, context)
    return clock if clock.result is not None else _after_in_life(clock, event, at, context)


def _after_in_life(clock: Clock, event: ClockEvent, at: datetime, context: _Context) -> Clock:
    match event:
        case Held() if _stops(clock, event, context.rules):
            return _held(clock, at, event.reason, context)
        case Resumed() if _on_hold(clock):
            return _resumed(clock, at, context)
        case Resolved():
            late = clock.due_at is not None and at > clock.due_at
            return _ended(clock, at, "late" if late else "met", context)
        case Cancelled():
            return _ended(clock, at, "cancelled", context)
    return clock


def _stops(clock: Clock, event: Held, rules: Rules) -> bool:
    return clock.name != NEVER_ON_HOLD and event.reason in rules.hold_reasons


def _started(
    name: ClockName, at: datetime, target: Target, context: _Context, past: tuple[Cycle, ...] = ()
) -> Clock:
    budget, boundary = _budget(context.of(target), at, target)
    clock = Clock(
        name=name, cycle=len(past) + 1, target=target, budget=budget, boundary=boundary, started_at=at,
        consumed=timedelta(), due_at=None, runs=(_run(at, target),), holds=(), retargets=(), ended_at=None,
        result=None, past=past,
    )  # fmt: skip
    return _with_due(clock, context)


def _held(clock: Clock, at: datetime, reason: str, context: _Context) -> Clock:
    """On hold, or on hold for another reason."""
    stopped = _stopped(clock, at, context)
    hold = Hold(since=at, until=None, reason=reason)
    return _with_due(_with(stopped, holds=(*stopped.holds, hold)), context)


def _resumed(clock: Clock, at: datetime, context: _Context) -> Clock:
    stopped = _stopped(clock, at, context)
    return _with_due(_with(stopped, runs=(*stopped.runs, _run(at, clock.target))), context)


def _ended(clock: Clock, at: datetime, result: Result, context: _Context) -> Clock:
    """The due time stays what it was: by it the result is judged."""
    return _with(_stopped(clock, at, context), ended_at=at, result=result)


def _reopened(clock: Clock, at: datetime, ended_at: datetime, context: _Context) -> Clock:
    """The same clock goes on within the window, later a new cycle begins (rule 6)."""
    if at - ended_at <= context.rules.reopen_within:
        target = _promised_last(clock)
        budget, boundary = _budget(context.of(target), clock.started_at, target)
        again = _with(clock, ended_at=None, result=None, target=target, budget=budget, boundary=boundary)
        return _with_due(_with(again, runs=(*clock.runs, _run(at, target))), context)
    return _next_cycle(clock, at, context)


def _renewed(clock: Clock, at: datetime, context: _Context) -> Clock:
    """Whatever ran until now is over; somebody else has the whole budget."""
    return _next_cycle(_over(clock, at, context), at, context)


def _over(clock: Clock, at: datetime, context: _Context) -> Clock:
    return clock if clock.result is not None else _ended(clock, at, "cancelled", context)


def _next_cycle(clock: Clock, at: datetime, context: _Context) -> Clock:
    assert clock.result is not None
    assert clock.ended_at is not None
    over = Cycle(
        cycle=clock.cycle, started_at=clock.started_at, ended_at=clock.ended_at, result=clock.result,
        due_at=clock.due_at, consumed=clock.consumed,
    )  # fmt: skip
    return _started(clock.name, at, _promised_last(clock), context, (*clock.past, over))


def _promised_last(clock: Clock) -> Target:
    return clock.retargets[-1].new if clock.retargets else clock.target


def _retargeted(clock: Clock, at: datetime, target: Target, context: _Context) -> Clock:
    """Another budget for the same cycle: what was consumed carries over (rule 7). One that ended is not judged anew:
    it has the new budget when it goes on."""
    budget, boundary = _budget(context.of(target), clock.started_at, target)
    new = clock
    if clock.result is None:
        new = _with(clock, target=target, budget=budget, boundary=boundary)
        if not _on_hold(clock):
            stopped = _stopped(clock, at, context)
            new = _with(new, runs=(*stopped.runs, _run(at, target)), consumed=stopped.consumed)
        new = _with_due(new, context)
    change = Retargeting(at=at, old=clock.target, new=target, old_due=clock.due_at, new_due=new.due_at)
    return _with(new, retargets=(*clock.retargets, change))


def _stopped(clock: Clock, at: datetime, context: _Context) -> Clock:
    """Its open run or open hold ends; a run with what it consumed."""
    runs, holds = clock.runs, clock.holds
    if holds and holds[-1].until is None:
        holds = (*holds[:-1], _with(holds[-1], until=at))
    if runs and runs[-1].until is None:
        length = _calendar(runs[-1], context.calendars).consumed(runs[-1].since, at)
        runs = (*runs[:-1], _with(runs[-1], until=at, consumed=length))
    return _with(clock, runs=runs, holds=holds, consumed=sum((run.consumed for run in runs), timedelta()))


# ---------------------------------------------------------------- what is derived


def _budget(calendar: WorkingCalendar, start: datetime, target: Target) -> tuple[timedelta, Boundary]:
    """The budget as working time. Days can end on an opening: that instant is meant then, not the closing before."""
    length = length_of(target.budget)
    due = calendar.due(start, length, target.boundary)
    if not length.days:
        return length.time, target.boundary
    worked = calendar.consumed(start, due)
    return worked, "stay" if calendar.add(start, worked) == due else "roll"


def _with_due(clock: Clock, context: _Context) -> Clock:
    return _with(clock, due_at=_instant(clock, clock.budget, clock.boundary, context.calendars))


def _instant(clock: Clock, length: timedelta, boundary: Boundary, calendars: Calendars) -> datetime | None:
    """When the clock has consumed so much, or with `roll`, when it begins to consume more; None: not as it stands."""
    left = length
    for run in clock.runs:
        enough = run.consumed > left if boundary == "roll" else run.consumed >= left
        if run.until is None or enough:
            return _calendar(run, calendars).add(run.since, left, boundary)
        left -= run.consumed
    return None


def _rung_at(clock: Clock, terms: RungTerms, calendars: Calendars) -> datetime | None:
    length = clock.budget * (terms.percent or 100) / 100
    if terms.after_breach is not None:
        after = _after_breach(clock, terms.after_breach, calendars)
        if after is None:
            return None
        length += after
    at = _instant(clock, length, clock.boundary, calendars)
    if at is None:
        return None
    end = clock.ended_at  # what was promised anew after it reached nothing
    return max([at, *(one.at for one in clock.retargets if end is None or one.at < end)])


def _after_breach(clock: Clock, text: str, calendars: Calendars) -> timedelta | None:
    """An offset as working time; days are counted from the due time."""
    length = length_of(text)
    if not length.days:
        return length.time
    if clock.due_at is None:
        return None
    calendar = calendars.get(clock.target.policy_version, clock.target.calendar)
    return calendar.consumed(clock.due_at, calendar.add_days(clock.due_at, length.days))


def _end(clock: Clock, now: datetime) -> datetime:
    return now if clock.ended_at is None else min(now, clock.ended_at)


def _on_hold(clock: Clock) -> bool:
    return bool(clock.holds) and clock.holds[-1].until is None


def _run(at: datetime, target: Target) -> Run:
    return Run(
        since=at, until=None, calendar=target.calendar, policy_version=target.policy_version,
        consumed=timedelta(),
    )  # fmt: skip


def _calendar(run: Run, calendars: Calendars) -> WorkingCalendar:
    return calendars.get(run.policy_version, run.calendar)


def _with(value: R, **changes: Any) -> R:
    return value.model_copy(update=changes)
