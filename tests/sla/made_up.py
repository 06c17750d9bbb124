"""Orders with promises, written as their writer leaves them. The clocks are folded by the engine itself."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from agents.sla.calendar import Calendars
from agents.sla.clock import fold, pinned, rules_of
from connectors.ports import KnownOrder, OrderRow
from connectors.postgres.orders import PostgresOrders
from schemas.policy import Policy
from schemas.promise import Failure, Promises
from schemas.sla import Clock, ClockEvent, Started
from schemas.work_order import ClockName, Site, WorkOrder, order_id_of, order_key_of, reference_of
from schemas.work_order_update import LedgerEntry, WorkOrderUpdate

Priority = Literal["routine", "high", "urgent"]


def order_of(
    number: int, opened_at: datetime, policy: Policy, *, department: str = "cdot",
    category: str = "street_light", priority: Priority = "high", area: int | None = 25,
) -> WorkOrder:  # fmt: skip
    site = Site(
        key=f"{number} W TEST ST", basis="address", address=f"{number} W TEST ST", point=None, area=area
    )
    key = order_key_of(category, "fix", site.key)
    order_id = order_id_of(key)
    return WorkOrder(
        order_id=order_id, order_key=key, generation=1, reference=reference_of(order_id.int), version=1, state="new",
        category=category, work="fix", site=site, department=department, routing_rule="owner_of_category",
        priority=priority, opened_at=opened_at, cancelled_at=None, updates=0, acknowledged_at=None, resolved_at=None,
        outcome=None, hold_reason=None, crew=None, estimate=None, rejected_by=(), duplicate_of=None, duplicates=(),
        original_outcome=None, verify=False, covers=(), incident_ids=(), policy_version=policy.version, simulated=True,
    )  # fmt: skip


def clock_of(order: WorkOrder, name: ClockName, policy: Policy, *events: ClockEvent) -> Clock:
    """The clock that the policy promises for this order, after these events."""
    promise = policy.promise_for(order.category, order.work, order.priority)
    assert promise is not None
    terms = next(one for one in promise.clocks if one.clock == name)
    calendars = Calendars({policy.version: policy.sla.calendars})
    started = Started(at=order.opened_at, target=pinned(terms, policy))
    clock = fold(name, [started, *events], calendars, rules_of(policy))
    assert clock is not None
    return clock


async def keep(
    connection: Any, order: WorkOrder, clocks: Iterable[Clock], failures: tuple[Failure, ...] = ()
) -> Promises:
    """Store the order with its promises."""
    promises = Promises(order_id=order.order_id, clocks=tuple(clocks), failures=failures)
    await keep_order(connection, order)
    await connection.execute(
        "INSERT INTO promises (order_id, next_due_at, body) VALUES ($1, $2, $3)",
        order.order_id, promises.next_due_at, promises.model_dump_json(),
    )  # fmt: skip
    return promises


async def keep_order(connection: Any, order: WorkOrder) -> None:
    row = OrderRow(KnownOrder(order, 0, None), order.model_dump_json())
    await PostgresOrders(connection).save_orders([row])


async def keep_rejection(connection: Any, order: WorkOrder, department: str, at: datetime) -> None:
    """A line of the ledger: the department that had it then rejected it."""
    update = WorkOrderUpdate(update_id="no", reference=order.reference, verb="reject", text="not ours")
    entry = LedgerEntry(
        order_id=order.order_id, seq=1, department=department, owner=department, at=at, received_at=at, handled_at=at,
        update=update, link=None, verdict="accepted", rule="rejected", because="It is not theirs.",
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO order_ledger (order_id, seq, order_key, department, update_id, digest, verdict, body) "
        "VALUES ($1, 1, $2, $3, 'no', 0, 'accepted', $4)",
        order.order_id, order.order_key, department, entry.model_dump_json(),
    )  # fmt: skip
