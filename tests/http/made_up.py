"""Orders, answers and responses as the pipeline would have stored them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from agents.orders.site import SAME_ID
from agents.orders.telling import alert_events
from connectors.ports import Told
from connectors.postgres import feed
from schemas.alert import Alert, AlertEvent, AlertEventKind, alert_id_of
from schemas.base import Point
from schemas.promise import LineKind, PromiseLine, Promises
from schemas.response import Priority
from schemas.sla import Clock, ClockTerms, Hold, Target
from schemas.views import WholeWorkOrder
from schemas.work_order import (
    ClockName,
    DepartmentWorkOrder,
    Site,
    WorkOrder,
    order_id_of,
    order_key_of,
    reference_of,
)
from schemas.work_order_update import LedgerEntry, UpdateResult, WorkOrderUpdate

SHOT_AT = datetime(2026, 7, 4, 22, 40, 17, tzinfo=UTC)
"""Nothing that a department reads may have this time in it."""
INCIDENT = UUID("00000000-1111-2222-3333-444444444444")

_INSERT = """
INSERT INTO work_orders (order_id, order_key, reference, version, state, category, work, department, area, priority,
  opened_at, told, body, lat, lon, department_body, verify)
VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17)"""
_LEDGER = """
INSERT INTO order_ledger (order_id, seq, order_key, department, update_id, digest, verdict, body)
VALUES ($1,$2,$3,$4,$5,0,$6,$7)"""


@dataclass(frozen=True)
class Stored:
    """An order, and what its department was told."""

    order: WorkOrder
    told: DepartmentWorkOrder

    @property
    def reference(self) -> str:
        return self.order.reference


def order(
    n: int = 1, department: str = "cdot", *, state: str = "new", category: str = "street_light", area: int = 26,
    verify: bool = False, told: int = 1,
) -> Stored:  # fmt: skip
    """The n-th order; the later the number, the newer."""
    site = Site(
        key=f"{4000 + n} W WEST END AVE", basis="address", address=f"{4000 + n} W WEST END AVE",
        point=Point(lat=41.88 + n / 10_000 + 0.0000321, lon=-87.73), area=area,
    )  # fmt: skip
    key = order_key_of(category, "fix", site.key)
    order_id = order_id_of(key)
    shared: dict[str, Any] = {
        "reference": reference_of(order_id.int), "state": state, "category": category, "work": "fix",
        "priority": "high", "outcome": None, "hold_reason": None, "crew": None, "estimate": None, "simulated": True,
    }  # fmt: skip
    whole = WorkOrder(
        **shared, order_id=order_id, order_key=key, generation=1, version=7, site=site, department=department,
        routing_rule="owner_of_category", opened_at=SHOT_AT + timedelta(minutes=n), cancelled_at=None, updates=0,
        acknowledged_at=None, resolved_at=None, rejected_by=(), duplicate_of=None, duplicates=(),
        original_outcome=None, verify=verify, covers=("SR26-00000001",), incident_ids=(INCIDENT,),
        policy_version="0123456789ab",
    )  # fmt: skip
    assert site.point is not None
    view = DepartmentWorkOrder(
        **shared, version=told, title="Street light out", address=site.address,
        point=Point(lat=round(site.point.lat, 4), lon=round(site.point.lon, 4)), area=area,
        requested_on=(SHOT_AT + timedelta(days=1)).date(), service_requests=("SR26-00000001",),
    )  # fmt: skip
    return Stored(whole, view)


async def store(connection: Any, orders: Sequence[Stored], *, never_told: bool = False) -> None:
    """As the orders agent would."""
    for one in orders:
        whole = one.order
        point = whole.site.point
        await connection.execute(
            _INSERT, whole.order_id, whole.order_key, whole.reference, whole.version, whole.state, whole.category,
            whole.work, whole.department, whole.site.area, whole.priority, whole.opened_at,
            0 if never_told else one.told.version, whole.model_dump_json(),
            point.lat if point else None, point.lon if point else None,
            None if never_told else one.told.model_dump_json(), whole.verify,
        )  # fmt: skip


async def answer(connection: Any, department: str, update: dict[str, Any], verdict: str = "accepted") -> None:
    """The orders agent's answer to an update, as departments are told it."""
    result = UpdateResult.model_validate({
        "update_id": update["update_id"], "reference": update["reference"], "verdict": verdict, "rule": "counts",
        "because": "It was new: acknowledge counts.", "state": "acknowledged", "version": 2,
    })  # fmt: skip
    await _tell_result(connection, department, result)


async def refuse_same_id(connection: Any, department: str, reference: str, update_id: str) -> None:
    """The orders agent's answer to an update whose id stands for another one."""
    same = {"update_id": update_id, "reference": reference, "state": None, "version": None}
    judged = {"verdict": SAME_ID.verdict, "rule": SAME_ID.rule, "because": SAME_ID.because}
    await _tell_result(connection, department, UpdateResult.model_validate(same | judged))


async def _tell_result(connection: Any, department: str, result: UpdateResult) -> None:
    told = Told(department, "update-result", result.reference, 1, result.model_dump_json())
    async with connection.transaction():
        await feed.add(connection, [told])


async def tell(connection: Any, one: Stored, version: int) -> None:
    """News of an order to its department and to supervisors."""
    body = one.told.model_copy(update={"version": version}).model_dump_json()
    async with connection.transaction():
        await feed.add(
            connection,
            [
                Told(one.order.department, "work-order", one.reference, version, body),
                Told("", "work-order", one.reference, one.order.version, None),
            ],
        )


async def enter(connection: Any, one: Stored, seq: int, department: str, **update: Any) -> None:
    """A line of the order's ledger."""
    said = WorkOrderUpdate(update_id=f"U-{seq}", reference=one.reference, **update)
    entry = LedgerEntry(
        order_id=one.order.order_id, seq=seq, department=department, owner=one.order.department,
        at=datetime(2026, 7, 6, seq, tzinfo=UTC), received_at=datetime(2026, 7, 6, seq, tzinfo=UTC),
        update=said, link=None, verdict="accepted", rule="counts", because="It counts, says the agent.",
    )  # fmt: skip
    await connection.execute(
        _LEDGER, entry.order_id, seq, one.order.order_key, department, said.update_id, entry.verdict,
        entry.model_dump_json(),
    )  # fmt: skip


def body_of(row: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(row.value)
    return parsed


# ---------------------------------------------------------------- promises and alerts

_PROMISES = "INSERT INTO promises (order_id, next_due_at, body) VALUES ($1, $2, $3)"
_LINE = "INSERT INTO promise_lines (order_id, seq, body) VALUES ($1, $2, $3)"
_ALERT = """
INSERT INTO alerts (alert_id, order_id, reference, department, area, clock, cycle, rung, level, state, at, fired_at,
                    seq, body)
VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14)
ON CONFLICT (alert_id) DO UPDATE SET state = excluded.state, seq = excluded.seq, body = excluded.body"""
_ALERT_EVENT = """
INSERT INTO alert_events (alert_id, seq, order_id, kind, command_id, body) VALUES ($1, $2, $3, $4, $5, $6)"""


def clock(due_at: datetime | None, name: ClockName = "resolve") -> Clock:
    """A clock that runs, or (None) that is on hold."""
    target = Target(budget="4h", calendar="always", policy_version="0123456789ab")
    held = () if due_at else (Hold(since=SHOT_AT, until=None, reason="weather"),)
    return Clock(
        name=name, cycle=1, target=target, budget=timedelta(hours=4), boundary="stay", started_at=SHOT_AT,
        consumed=timedelta(), due_at=due_at, runs=(), holds=held, retargets=(), ended_at=None, result=None, past=(),
    )  # fmt: skip


async def promise(connection: Any, one: Stored, due_at: datetime | None) -> Promises:
    """What the clocks of an order stand at."""
    made = Promises(order_id=one.order.order_id, clocks=(clock(due_at),))
    await connection.execute(_PROMISES, made.order_id, made.next_due_at, made.model_dump_json())
    return made


async def add_line(
    connection: Any, one: Stored, seq: int, kind: LineKind, entries: int = 0, priority: Priority = "high"
) -> PromiseLine:
    """What our side did to the promises of an order."""
    terms = ClockTerms(
        clock="resolve", budget="4h", calendar="always", source="After the incident: CSCC policy"
    )
    line = PromiseLine(
        order_id=one.order.order_id, seq=seq, entries=entries, kind=kind, at=SHOT_AT + timedelta(minutes=seq),
        handled_at=datetime(2026, 7, 6, seq, 30, tzinfo=UTC), priority=priority, policy_version="0123456789ab",
        promise="after_gunfire", clocks=(terms,) if kind in ("promised", "retargeted") else (),
    )  # fmt: skip
    await connection.execute(_LINE, line.order_id, seq, line.model_dump_json())
    return line


def alert_about(
    one: Stored, rung: str = "breach", *, level: int = 2, at: datetime = datetime(2026, 7, 7, tzinfo=UTC), **more: Any
) -> Alert:  # fmt: skip
    """An alert about an order, as it fires."""
    order = one.order
    said: dict[str, Any] = {
        "alert_id": alert_id_of(order.order_id, "resolve", 1, rung), "order_id": order.order_id,
        "order_key": order.order_key, "reference": order.reference, "department": order.department,
        "category": order.category, "work": order.work, "priority": order.priority, "title": "Street light out",
        "address": order.site.address, "area": order.site.area, "clock": "resolve", "cycle": 1, "rung": rung,
        "level": level, "breach": True, "at": at, "due_at": at, "fired_at": at, "late": False,
        "because": "The time to resolve it is over.", "state": "open", "simulated": True,
    }  # fmt: skip
    return Alert(**said | more)


async def happen(
    connection: Any, alert: Alert, seq: int = 1, kind: AlertEventKind = "fired", **more: Any
) -> AlertEvent:
    """An event of an alert, as the orders agent would store and tell it; the alert is as it is afterwards."""
    at = alert.fired_at + timedelta(minutes=seq - 1)
    said: dict[str, Any] = {"alert": alert, "seq": seq, "kind": kind, "at": at, "because": alert.because}
    event = AlertEvent(**said | more)
    body = event.model_dump_json()
    async with connection.transaction():
        await connection.execute(
            _ALERT, alert.alert_id, alert.order_id, alert.reference, alert.department, alert.area, alert.clock,
            alert.cycle, alert.rung, alert.level, alert.state, alert.at, alert.fired_at, seq, alert.model_dump_json(),
        )  # fmt: skip
        await connection.execute(
            _ALERT_EVENT, alert.alert_id, seq, alert.order_id, kind, event.command_id, body
        )
        await feed.add(connection, alert_events(event)[1])
    return event


def whole(one: Stored, promises: Promises | None = None) -> dict[str, Any]:
    """What a supervisor reads of an order."""
    due_at = promises.next_due_at if promises else None
    return WholeWorkOrder(
        **one.order.model_dump(), next_due_at=due_at, promises=promises
    ).model_dump(mode="json")  # fmt: skip
