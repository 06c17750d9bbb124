"""Pure: a response's orders as of one moment, counted; and whether they leave its zone safe."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from agents.responses.standing import NOW, Moment, Then, is_late, orders_then
from agents.sla.book import Book
from schemas.policy import Policy, ResponseTerms
from schemas.response import Response
from schemas.response_life import LeftOpen, OrderHistory, Standing, Summary, Tally

_DAY_S = 86_400


class Safety(NamedTuple):
    """Whether all that was asked for is done, and since when."""

    is_safe: bool
    since: datetime  # of the last order that was done, or of the last that is not
    orders: int
    undone: tuple[str, ...]  # references


def summary_of(response: Response, orders: Sequence[OrderHistory], moment: Moment) -> Summary:
    """What had become of a response's orders by then, as is known by now."""
    found = orders_then(orders, response.incident_id, moment)
    worked_off = [one for one in found if one.is_worked_off]
    still_open = [_left(one, moment) for one in found if one.is_open]
    fixed = [one for one in worked_off if one.outcome == "fixed"]
    last = max((one.resolved_at for one in fixed if one.resolved_at), default=None)
    return Summary(
        as_of=moment.at,
        orders=len(worked_off) + len(still_open),
        fixed=len(fixed),
        done=len(worked_off),
        to_verify=sum(one.drawn for one in worked_off),
        open=len(still_open),
        held=sum(one.state == "on_hold" for one in still_open),
        late=sum(one.late for one in still_open),
        cancelled=sum(one.state == "cancelled" for one in found),
        by=_tallies(found),
        left_open=tuple(still_open),
        last_fixed_at=last,
        days_to_last_fix=round((last - response.opens_at).total_seconds() / _DAY_S, 1) if last else None,
    )


def _tallies(found: Sequence[Then]) -> tuple[Tally, ...]:
    counts = Counter((one.order.category, one.order.work, one.department, _standing(one)) for one in found)
    return tuple(
        Tally(category=category, work=work, department=department, standing=standing, orders=orders)
        for (category, work, department, standing), orders in sorted(counts.items())
    )


def _standing(one: Then) -> Standing:
    if one.is_worked_off and one.outcome:
        return one.outcome
    return "cancelled" if one.state == "cancelled" else "open"


def _left(one: Then, moment: Moment) -> LeftOpen:
    return LeftOpen(
        reference=one.order.reference, category=one.order.category, work=one.order.work, department=one.department,
        state=one.state, hold_reason=one.hold_reason, late=is_late(one, moment),
    )  # fmt: skip


def safety_of(
    response: Response, orders: Sequence[OrderHistory], policy: Policy, book: Book
) -> Safety | None:
    """As is known now; None: nothing was asked for, or all of it was cancelled."""
    found = [
        one
        for one in orders_then(orders, response.incident_id, Moment(NOW, policy, book))
        if one.state != "cancelled"
    ]
    if not found:
        return None
    undone = [one for one in found if not _leaves_safe(one, policy.response_life)]
    return Safety(
        not undone,
        max(one.since for one in undone or found),
        len(found),
        tuple(one.order.reference for one in undone),
    )


def _leaves_safe(one: Then, terms: ResponseTerms) -> bool:
    if not one.is_worked_off or one.final not in terms.safe_outcomes:
        return False
    if terms.done == "resolved" or one.state == "verified":
        return True
    return terms.done == "checked" and not one.drawn
