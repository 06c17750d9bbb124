"""Pure: what one look at a response makes of its life.

A response is looked at when it is new or revised, when an order of it ends or is open again, and when its window ends.
What a look writes depends on what is known then, and not on what woke it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from agents.responses.life import after
from agents.responses.standing import Moment
from agents.responses.summary import Safety, safety_of, summary_of
from agents.sla.book import Book
from schemas.policy import Policy
from schemas.response import Response
from schemas.response_life import (
    EndRule,
    LifeKind,
    LifeLine,
    OrderHistory,
    OrderTally,
    ResponseLife,
    Summary,
)

_OPENS: Final = ("opened", "moved", "reopened")
"""Lines that say until when its window runs."""


class Known(NamedTuple):
    """All that one look goes by. `orders`: empty where `wants_orders` says that they do not matter."""

    response: Response
    life: ResponseLife | None
    orders: Sequence[OrderHistory] = ()


class Rules(NamedTuple):
    """The policy in force, those that closings were made under, and those of promises."""

    policy: Policy
    policies: Mapping[str, Policy]
    book: Book

    def of(self, life: ResponseLife | None) -> Policy:
        """What is closed keeps the rules under which it was."""
        if life is None or life.state != "closed":
            return self.policy
        return self.policies.get(life.policy_version, self.policy)


class Ending(NamedTuple):
    """When and why a response's window ends."""

    at: datetime
    rule: EndRule


class Looked(NamedTuple):
    """What a look came to: lines to add, what they add up to, and when to look again."""

    lines: Sequence[LifeLine]
    life: ResponseLife
    next_at: datetime | None
    is_new: bool  # the life is another than before


def ending_of(response: Response) -> Ending | None:
    """When its window ends, as is known by now; None: as is known by now, it never had one."""
    held = [zone for zone in response.zones if zone.until is None or zone.until > zone.since]
    if not held:
        return None
    last = held[-1]
    if last.until is None:
        return Ending(response.ends_at, "window_over")
    called_off = last.until < last.ends_at
    return Ending(last.until, "called_off") if called_off else Ending(last.ends_at, "window_over")


def wants_orders(known: Known, tally: OrderTally, now: datetime) -> bool:
    """Whether a look has to know the response's orders: something may have been done, or its window is over."""
    life = known.life
    if life is not None and (life.state == "closed" or life.safe_since is not None):
        return True
    is_due = life is not None and life.state == "open" and life.due_at <= now
    return is_due or (tally.open == 0 and tally.done > 0)


def look(known: Known, rules: Rules, now: datetime) -> Looked | None:
    """One look at a response; None: it is none, and never was."""
    response, life = known.response, known.life
    pen = _Pen(response, life, rules.of(life), max(now, life.handled_at) if life else now)
    ending = ending_of(response)
    if ending is None:
        return _void(pen)
    if life is None:
        pen.write("opened", response.opens_at, f"Its window ends {_day(ending.at)}.", ending)
    _go_on(pen, known, ending, rules)
    return pen.done(life)


def _void(pen: "_Pen") -> Looked | None:
    before = pen.life
    if before is None:
        return None
    if before.state != "void":
        because = "As is known by now, nothing called for it: it does not count."
        pen.write("void", pen.now, because, Ending(before.closes_at, "called_off"))
    return pen.done(before)


def _go_on(pen: "_Pen", known: Known, ending: Ending, rules: Rules) -> None:
    """What has become of it since it was looked at last, in the order in which it happened."""
    assert pen.life is not None
    if pen.life.state == "void" or (pen.life.state == "closed" and ending.at > pen.now):
        again = f"After all its window ends {_day(ending.at)}."
        pen.write("reopened", pen.now, again, ending, cycle=pen.life.cycle + 1)
    elif pen.life.state == "open" and pen.life.closes_at != ending.at:
        before = _day(pen.life.closes_at)
        pen.write("moved", pen.now, f"Its window ends {_day(ending.at)} instead of {before}.", ending)
    if ending.rule == "called_off" or not known.orders:
        # what nobody had started was cancelled: that is not safe
        pen.end(known, ending, rules.book)
        return
    safety = safety_of(known.response, known.orders, rules.policy, rules.book)
    if safety is not None and safety.since <= ending.at:
        pen.tell_safety(safety, ending)
    pen.end(known, ending, rules.book)
    if safety is not None:
        pen.tell_safety(safety, ending)
    else:
        pen.tell_nothing_left(ending)


@dataclass(slots=True)
class _Pen:
    """Writes the lines of one look."""

    response: Response
    life: ResponseLife | None
    policy: Policy
    now: datetime  # never before the last line
    lines: list[LifeLine] = field(default_factory=list)

    def write(self, kind: LifeKind, at: datetime, because: str, ending: Ending, **more: Any) -> None:
        life, response = self.life, self.response
        fields: dict[str, Any] = {"cycle": life.cycle if life else 1} | more
        line = LifeLine(
            response_id=response.response_id, incident_id=response.incident_id, seq=life.seq + 1 if life else 1,
            kind=kind, at=at, handled_at=self.now, closes_at=ending.at, due_at=self._due_at(kind, ending),
            because=because,
            incident_kind=response.kind, tier=response.tier, priority=response.priority, area=response.area,
            policy_version=self.policy.version, simulated=response.simulated, **fields,
        )  # fmt: skip
        self.lines.append(line)
        self.life = after(life, line)

    def _due_at(self, kind: LifeKind, ending: Ending) -> datetime:
        """A window that is over when we hear of it is closed a little later: its orders are on their way."""
        if self.life is not None and kind not in _OPENS:
            return self.life.due_at
        return max(ending.at, self._settled_at)

    def tell_safety(self, safety: Safety, ending: Ending) -> None:
        """Made safe, or open again, if that is news."""
        assert self.life is not None
        if safety.is_safe == (self.life.safe_since is not None):
            return
        if safety.is_safe:
            because = f"All that was asked for is done (orders: {safety.orders})."
            self.write("made_safe", safety.since, because, ending)
            return
        named = ", ".join(safety.undone[:5])
        because = f"Something is to be done again: {len(safety.undone)} of {safety.orders} orders ({named})."
        self.write("open_again", max(safety.since, self._safe_since), because, ending)

    def tell_nothing_left(self, ending: Ending) -> None:
        """Nothing is asked for any longer, and nothing was done: that is not called safe."""
        if self.life is not None and self.life.safe_since is not None:
            because = "What was asked for is not asked for any longer, as is known by now."
            self.write("open_again", self._safe_since, because, ending)

    @property
    def _settled_at(self) -> datetime:
        return self.now + timedelta(minutes=self.policy.response_life.settle_minutes)

    @property
    def _safe_since(self) -> datetime:
        assert self.life is not None
        assert self.life.safe_since is not None
        return self.life.safe_since

    def end(self, known: Known, ending: Ending, book: Book) -> None:
        """Close it if its window is over; if it is closed, see that it was closed as is known by now."""
        if self.life is None or (self.life.state == "open" and self.life.due_at > self.now):
            return
        summary = summary_of(self.response, known.orders, Moment(ending.at, self.policy, book))
        if self.life.state == "open":
            because = _because(ending, summary)
            self.write("closed", ending.at, because, ending, rule=ending.rule, summary=summary)
        else:
            self._correct(self.life, ending, summary)

    def _correct(self, life: ResponseLife, ending: Ending, summary: Summary) -> None:
        """Many things that are heard late come together: they are one correction, some minutes after the first."""
        if (life.closed_at, life.rule, life.summary) == (*ending, summary):
            self.life = life.model_copy(update={"correct_at": None})
        elif life.correct_at is None:
            self.life = life.model_copy(update={"correct_at": self._settled_at})
        elif life.correct_at <= self.now:
            because = f"As is known by now: {_because(ending, summary)}"
            self.write("corrected", ending.at, because, ending, rule=ending.rule, summary=summary)

    def done(self, before: ResponseLife | None) -> Looked:
        assert self.life is not None
        life = self.life
        next_at = {"open": life.due_at, "closed": life.correct_at}.get(life.state)
        return Looked(self.lines, life, next_at, life != before)


def _because(ending: Ending, summary: Summary) -> str:
    why = "Its window is over." if ending.rule == "window_over" else "A revision of its incident ended it."
    if not summary.orders and not summary.cancelled:
        return f"{why} Nothing was to be done."
    return (
        f"{why} Orders: {summary.orders}; {summary.fixed} were fixed and {summary.done - summary.fixed} otherwise "
        f"done; {summary.open} stay open, {summary.held} of them on hold, {summary.late} late. "
        f"Cancelled: {summary.cancelled}."
    )


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d at %H:%M} UTC"
