"""Pure: what the causes for one order and its ledger add up to, and what its department sees of it."""

from datetime import UTC, date, datetime, time, timedelta
from hashlib import blake2b
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field

from agents.orders.life import Lived, live
from schemas.base import Point, Record
from schemas.decision import DecisionRecord
from schemas.policy import Policy, Routing
from schemas.response import PRIORITIES, Priority
from schemas.work_order import (
    DepartmentState,
    DepartmentWorkOrder,
    OrderState,
    Outcome,
    PromiseView,
    Site,
    Standing,
    WorkOrder,
    WorkOrderCommand,
    order_id_of,
    reference_of,
)
from schemas.work_order_update import LedgerEntry

NO_LOCATION = "no_location"
REJECTED = "rejected"
ROUTED = "routed"


class OrderInputs(Record):
    """All causes for one order, ordered by cause id, and what counts of its ledger, as it was handled."""

    causes: Annotated[tuple[WorkOrderCommand, ...], Field(min_length=1)]
    generation: Annotated[int, Field(ge=1)] = 1
    entries: tuple[LedgerEntry, ...] = ()


def decide(inputs: OrderInputs, policy: Policy) -> tuple[WorkOrder, DecisionRecord]:
    """The order that they add up to. One that nobody has started is cancelled with its last live cause."""
    order = _fold(inputs, policy)
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


def _fold(inputs: OrderInputs, policy: Policy) -> WorkOrder:
    causes = inputs.causes
    telling = _telling(causes)
    first = min(telling, key=lambda cause: (cause.at, cause.cause_id))
    routing = base_routing(inputs, policy)
    lived = live(inputs.entries, routing.department, policy)
    state = _state(lived, telling[0].standing)
    order_id = order_id_of(first.order_key, inputs.generation)
    reference = reference_of(order_id.int)
    return WorkOrder(
        order_id=order_id,
        order_key=first.order_key,
        generation=inputs.generation,
        reference=reference,
        version=sum(cause.version for cause in causes) + len(inputs.entries),
        state=state,
        category=first.category,
        work=first.work,
        site=first.site,
        department=lived.department,
        routing_rule=_routing_rule(lived, routing),
        priority=highest([cause.priority for cause in telling]),
        opened_at=first.at,
        cancelled_at=_cancelled_at(state, lived, telling),
        updates=len(inputs.entries),
        acknowledged_at=lived.acknowledged_at,
        resolved_at=lived.resolved_at,
        outcome=lived.outcome,
        hold_reason=lived.hold_reason if state == "on_hold" else None,
        crew=lived.crew,
        estimate=lived.estimate,
        stages=lived.stages,
        rejected_by=lived.rejected_by,
        duplicate_of=lived.duplicate_of,
        duplicates=lived.duplicates,
        original_outcome=lived.original_outcome,
        verify=state == "resolved" and is_drawn(reference, lived, policy),
        covers=tuple(sorted({number for cause in telling for number in cause.covers})),
        incident_ids=tuple(sorted({cause.incident_id for cause in telling})),
        policy_version=policy.version,
        simulated=any(cause.simulated for cause in telling),
    )


def base_routing(inputs: OrderInputs, policy: Policy) -> Routing:
    """Whose the order is before anybody hands it on; once somebody has spoken, whose it was then."""
    first = min(_telling(inputs.causes), key=lambda cause: (cause.at, cause.cause_id))
    routing = _routing(first, policy)
    return routing._replace(department=inputs.entries[0].owner) if inputs.entries else routing


def _state(lived: Lived, standing: Standing) -> OrderState:
    if standing == "live" or lived.started or lived.state == "cancelled":
        return lived.state
    return "cancelled" if standing == "withdrawn" else "void"


def _telling(causes: tuple[WorkOrderCommand, ...]) -> list[WorkOrderCommand]:
    """The causes that the order is about: those that ask for it, else those that did, else those that never did."""
    standings = {cause.standing for cause in causes}
    telling: Standing = "live" if "live" in standings else "withdrawn" if "withdrawn" in standings else "void"
    return [cause for cause in causes if cause.standing == telling]


def _cancelled_at(state: OrderState, lived: Lived, telling: list[WorkOrderCommand]) -> datetime | None:
    ends = [cause.ended_at for cause in telling if cause.ended_at is not None]
    if state != "cancelled":
        return None
    return lived.cancelled_at or (max(ends) if ends else None)


def _routing(cause: WorkOrderCommand, policy: Policy) -> Routing:
    if cause.site.basis == "area":
        return Routing(policy.triage_queue, NO_LOCATION)  # no crew can go to "somewhere in the area"
    return policy.route(cause.category, cause.work, cause.site.area)


def _routing_rule(lived: Lived, routing: Routing) -> str:
    if lived.department == routing.department and not lived.rejected_by:
        return routing.rule
    return REJECTED if lived.rejected_by else ROUTED


def is_drawn(reference: str, lived: Lived, policy: Policy) -> bool:
    """Whether this order is among the n % of its department's that somebody looks at again. The same order,
    resolved by the same update, is drawn or not whoever computes it; and who resolves it cannot choose."""
    percent = policy.reinspect.get(lived.department, 0)
    if not percent or lived.drawn_by is None or lived.outcome == "duplicate_of":
        return False
    digest = blake2b(f"{reference}:{lived.drawn_by.isoformat()}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 100 < percent


def final_outcome(order: WorkOrder) -> Outcome | None:
    """How the order ended, or its original's for a duplicate; None while that is open."""
    if order.state not in ("resolved", "verified"):
        return None
    return order.original_outcome if order.outcome == "duplicate_of" else order.outcome


def highest(priorities: list[Priority]) -> Priority:
    """The highest of some priorities; at least one."""
    return max(priorities, key=PRIORITIES.index)


def _why(order: WorkOrder, causes: tuple[WorkOrderCommand, ...], policy: Policy) -> tuple[str, str]:
    if order.state == "void":
        return "void", "As is known by now, nothing ever asked for it."
    owner = policy.department(order.department)
    name = owner.name if owner else order.department
    if order.state == "new":
        live = sum(cause.standing == "live" for cause in causes)
        rule, ask = ("one_cause", "1 cause asks") if live == 1 else ("several_causes", f"{live} causes ask")
        return rule, f"{ask} for it; priority {order.priority}; goes to {name} ({order.routing_rule})."
    if order.state == "cancelled" and not any(cause.standing == "live" for cause in causes):
        return "cancelled", "Every cause that asked for it has been withdrawn, and nobody had started."
    if order.state == "cancelled":
        return "cancelled_by_person", "The coordination centre cancelled it."
    outcome = f", {order.outcome}" if order.outcome else ""
    words = order.state.replace("_", " ")
    return order.state, f"{words.capitalize()}{outcome}, by {order.updates} updates; it is {name}'s."


def title_of(order: WorkOrder, policy: Policy) -> str:
    """What is to be done, in the words that a department reads."""
    category = policy.category(order.category)
    if category is None:
        return order.category
    return category.fix_title if order.work == "fix" else category.inspect_title


def department_view(
    order: WorkOrder, policy: Policy, number: int, promises: tuple[PromiseView, ...] = ()
) -> DepartmentWorkOrder:
    """What the department sees: the work, the place, and until when. Nothing of why, nor when it was asked for.

    `number`: how often it has been told of this order. Our own version counts facts, and would tell of them.
    """
    return DepartmentWorkOrder(
        reference=order.reference,
        version=number,
        state=department_state(order.state),
        category=order.category,
        work=order.work,
        title=title_of(order, policy),
        address=order.site.address,
        point=_rounded(order.site),
        area=order.site.area,
        priority=order.priority,
        requested_on=next_day(order.opened_at, policy),
        outcome=order.outcome,
        hold_reason=order.hold_reason,
        crew=order.crew,
        estimate=order.estimate,
        service_requests=order.covers,
        promises=promises,
        simulated=order.simulated,
    )


def department_state(state: OrderState) -> DepartmentState:
    """A department that was told of an order need not know that, as we know by now, nobody ever asked for it."""
    return "cancelled" if state == "void" else state


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


def start_of_day(at: datetime, policy: Policy) -> datetime:
    """When the day of an instant began, on the city's calendar: all that a department may infer of it."""
    zone = ZoneInfo(policy.city.time_zone)
    return datetime.combine(at.astimezone(zone).date(), time.min, zone).astimezone(UTC)
