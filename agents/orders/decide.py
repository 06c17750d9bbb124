"""Pure: what the causes for one order add up to, and what its department sees of it."""

from datetime import date, datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field

from schemas.base import Point, Record
from schemas.decision import DecisionRecord
from schemas.policy import Policy, Routing
from schemas.response import PRIORITIES, Priority
from schemas.work_order import (
    DepartmentWorkOrder,
    OrderState,
    Site,
    WorkOrder,
    WorkOrderCommand,
    order_id_of,
)

NO_LOCATION = "no_location"
REFERENCE_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: nothing to misread


class OrderInputs(Record):
    """All causes for one order, ordered by cause id."""

    causes: Annotated[tuple[WorkOrderCommand, ...], Field(min_length=1)]


def decide(inputs: OrderInputs, policy: Policy) -> tuple[WorkOrder, DecisionRecord]:
    """The order that the causes add up to. One that nobody started is cancelled with its last live cause."""
    order = _fold(inputs.causes, policy)
    rule, because = _why(order, inputs.causes, policy)
    return order, DecisionRecord(
        stage="orders",
        subject=order.order_id,
        version=order.version,
        rule=rule,
        because=because,
        policy_version=policy.version,
        inputs=inputs.model_dump_json(),
        output=order.model_dump_json(),
    )


def _fold(causes: tuple[WorkOrderCommand, ...], policy: Policy) -> WorkOrder:
    state = _state(causes)
    telling = _telling(causes, state)
    first = min(telling, key=lambda cause: (cause.at, cause.cause_id))
    order_id = order_id_of(first.order_key)
    routing = _routing(first, policy)
    ends = [cause.ended_at for cause in telling if cause.ended_at is not None]
    return WorkOrder(
        order_id=order_id,
        order_key=first.order_key,
        reference=reference_of(order_id.int),
        version=sum(cause.version for cause in causes),
        state=state,
        category=first.category,
        work=first.work,
        site=first.site,
        department=routing.department,
        routing_rule=routing.rule,
        priority=highest([cause.priority for cause in telling]),
        opened_at=first.at,
        cancelled_at=max(ends) if state == "cancelled" and ends else None,
        covers=tuple(sorted({number for cause in telling for number in cause.covers})),
        incident_ids=tuple(sorted({cause.incident_id for cause in telling})),
        policy_version=policy.version,
        simulated=any(cause.simulated for cause in telling),
    )


def _state(causes: tuple[WorkOrderCommand, ...]) -> OrderState:
    standings = {cause.standing for cause in causes}
    if "live" in standings:
        return "new"
    return "cancelled" if "withdrawn" in standings else "void"


def _telling(causes: tuple[WorkOrderCommand, ...], state: OrderState) -> list[WorkOrderCommand]:
    """The causes that an order in this state is about."""
    standing = {"new": "live", "cancelled": "withdrawn", "void": "void"}[state]
    return [cause for cause in causes if cause.standing == standing]


def _routing(cause: WorkOrderCommand, policy: Policy) -> Routing:
    if cause.site.basis == "area":
        return Routing(policy.triage_queue, NO_LOCATION)  # no crew can go to "somewhere in the area"
    return policy.route(cause.category, cause.work, cause.site.area)


def highest(priorities: list[Priority]) -> Priority:
    """The highest of some priorities; at least one."""
    return max(priorities, key=PRIORITIES.index)


def reference_of(number: int) -> str:
    """What people call an order: 10 characters of its id, which is a hash and tells of nothing."""
    characters = []
    for _ in range(10):
        number, digit = divmod(number, 32)
        characters.append(REFERENCE_ALPHABET[digit])
    return "WO-" + "".join(characters[:5]) + "-" + "".join(characters[5:])


def _why(order: WorkOrder, causes: tuple[WorkOrderCommand, ...], policy: Policy) -> tuple[str, str]:
    live = sum(cause.standing == "live" for cause in causes)
    if order.state == "void":
        return "void", "As is known by now, nothing ever asked for it."
    if order.state == "cancelled":
        return "cancelled", "Every cause that asked for it has been withdrawn."
    owner = policy.department(order.department)
    name = owner.name if owner else order.department
    rule, ask = ("one_cause", "1 cause asks") if live == 1 else ("several_causes", f"{live} causes ask")
    return rule, f"{ask} for it; priority {order.priority}; goes to {name} ({order.routing_rule})."


def department_view(order: WorkOrder, policy: Policy, number: int) -> DepartmentWorkOrder:
    """What the department sees: the work and the place. Nothing of why, nor a time that could tell.

    `number`: how often it has been told of this order. Our own version counts facts, and would tell of them.
    """
    category = policy.category(order.category)
    title = order.category
    if category:
        title = category.fix_title if order.work == "fix" else category.inspect_title
    return DepartmentWorkOrder(
        reference=order.reference,
        version=number,
        state="new" if order.state == "new" else "cancelled",
        category=order.category,
        work=order.work,
        title=title,
        address=order.site.address,
        point=_rounded(order.site),
        area=order.site.area,
        priority=order.priority,
        requested_on=next_day(order.opened_at, policy),
        service_requests=order.covers,
        simulated=order.simulated,
    )


def _rounded(site: Site) -> Point | None:
    """Where a crew finds it: to about 10 m for an address that somebody reported. A block needs no point,
    and the exact one is the incident's; a grid cell's is rounded to about 100 m."""
    if site.point is None or site.basis in ("block", "area"):
        return None
    digits = 4 if site.basis == "address" else 3
    return Point(lat=round(site.point.lat, digits), lon=round(site.point.lon, digits))


def next_day(at: datetime, policy: Policy) -> date:
    """The day after an instant, on the city's calendar."""
    return (at.astimezone(ZoneInfo(policy.city.time_zone)) + timedelta(days=1)).date()
