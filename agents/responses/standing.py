"""Pure: what an order was to one response at one moment, folded from all that is held of it by now.

What departments say counts at its own time, and so do causes. So the answer for a moment that is past changes only
when something of that time becomes known, and not with what happened since.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from agents.orders.decide import is_drawn
from agents.orders.life import Lived, live
from agents.orders.promises import History, clocks_of
from agents.sla.book import Book
from schemas.policy import Policy
from schemas.response_life import OrderHistory
from schemas.work_order import OrderState, Outcome, WorkOrder, WorkOrderCommand
from schemas.work_order_update import LedgerEntry

NOW: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""The moment that is after all that is known."""
_BY_WORK: Final = ("resolved", "verified")


class Then(NamedTuple):
    """An order at that moment."""

    history: OrderHistory
    department: str
    state: OrderState
    outcome: Outcome | None  # as its department said
    final: Outcome | None  # of its original, for a duplicate; None: that is open, or it is itself
    hold_reason: str | None
    drawn: bool  # resolved, and to be looked at again
    since: datetime  # when it was done; while it is not, when it was last asked for
    resolved_at: datetime | None

    @property
    def order(self) -> WorkOrder:
        """For what does not change: its reference, category, work."""
        return self.history.order

    @property
    def is_worked_off(self) -> bool:
        """Whether its department has done with it."""
        return self.state in _BY_WORK

    @property
    def is_open(self) -> bool:
        """Whether there is something to do."""
        return not self.is_worked_off and self.state != "cancelled"


class Moment(NamedTuple):
    """When, and by which rules. The book holds the policies of the orders and of their promises."""

    at: datetime
    policy: Policy
    book: Book

    def policy_of(self, order: WorkOrder) -> Policy:
        """An order goes by the policy that it was decided by."""
        return self.book.policy(order.policy_version) or self.policy


def orders_then(orders: Sequence[OrderHistory], incident_id: UUID, moment: Moment) -> list[Then]:
    """What an incident's response had asked for, by reference. What it had not, or no longer, is left out."""
    found = (_then(one, incident_id, moment) for one in orders)
    return sorted((one for one in found if one), key=lambda one: one.order.reference)


def _then(history: OrderHistory, incident_id: UUID, moment: Moment) -> Then | None:
    telling, is_live = _telling(history.causes, moment.at)
    if incident_id not in {cause.incident_id for cause in telling}:
        return None
    entries = [entry for entry in history.entries if entry.at <= moment.at]
    department = history.entries[0].owner if history.entries else history.order.department
    policy = moment.policy_of(history.order)
    lived = live(entries, department, policy)
    state = _state(lived, is_live)
    return Then(
        history=history,
        department=lived.department,
        state=state,
        outcome=lived.outcome,
        final=lived.original_outcome if lived.outcome == "duplicate_of" else lived.outcome,
        hold_reason=lived.hold_reason if state == "on_hold" else None,
        drawn=state == "resolved" and is_drawn(history.order.reference, lived, policy),
        since=_since(lived, entries, min(cause.at for cause in telling)),
        resolved_at=lived.resolved_at,
    )


def _telling(causes: Sequence[WorkOrderCommand], at: datetime) -> tuple[list[WorkOrderCommand], bool]:
    """The causes that the order was about then, and whether they still asked for it."""
    there = [cause for cause in causes if cause.standing != "void" and cause.at <= at]
    asking = [cause for cause in there if cause.ended_at is None or cause.ended_at > at]
    return (asking, True) if asking else (there, False)


def _state(lived: Lived, is_live: bool) -> OrderState:
    """As `agents.orders.decide` has it."""
    return lived.state if is_live or lived.started else "cancelled"


def _since(lived: Lived, entries: Sequence[LedgerEntry], asked_at: datetime) -> datetime:
    """Of a duplicate: when its original was done, too."""
    if lived.resolved_at is None:
        reopened = [one.at for one in entries if one.update and one.update.verb == "reopen"]
        return max([asked_at, *reopened])
    told = [one.at for one in entries if one.link and lived.outcome == "duplicate_of"]
    verified = [one.at for one in entries if one.update and one.update.verb == "verify"]
    of_this = [at for at in verified if at >= lived.resolved_at] if lived.state == "verified" else []
    return max([lived.resolved_at, *told, *of_this[:1]])


def is_late(one: Then, moment: Moment) -> bool:
    """Whether a promise of an open order was due by then."""
    history = one.history
    lines = [line for line in history.lines if line.at <= moment.at]
    entries = [entry for entry in history.entries if entry.at <= moment.at]
    department = history.entries[0].owner if history.entries else history.order.department
    past = History(entries, lines, department)
    stands = clocks_of(history.order.order_id, past, moment.policy_of(history.order), moment.book)
    clocks = stands.promises.clocks if stands else ()
    return any(clock.result is None and clock.due_at and clock.due_at <= moment.at for clock in clocks)
