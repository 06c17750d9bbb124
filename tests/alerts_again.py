"""The alerts of a whole database beside what the oracle makes of its ledgers: nothing else is looked at."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from schemas.alert import AlertEvent
from schemas.policy import Policy
from schemas.promise import PromiseLine
from schemas.work_order_update import LedgerEntry
from tests.properties.alert_oracle import Happened, Oracle, Told

ORDERS = "SELECT order_id, reference, department FROM work_orders ORDER BY order_id"
BODIES: dict[str, tuple[str, Any]] = {
    "entries": ("SELECT order_id, body FROM order_ledger ORDER BY order_id, seq", LedgerEntry),
    "lines": ("SELECT order_id, body FROM promise_lines ORDER BY order_id, seq", PromiseLine),
    "events": ("SELECT order_id, body FROM alert_events ORDER BY order_id, alert_id, seq", AlertEvent),
}
TIMERS = "SELECT subject_id AS order_id, due_at FROM timers WHERE kind = 'order'"


class Compared(NamedTuple):
    """How much was compared, and in what it differs."""

    orders: int
    events: int
    differences: list[str]


async def compared(
    connection: Any, policies: Mapping[str, Policy], looks: Mapping[UUID, Sequence[datetime]] | None = None
) -> Compared:
    """Recompute everything. `looks`: when timers had each order looked at; None: whenever anything came of it."""
    rows: dict[str, dict[UUID, list[Any]]] = {}
    for name, (query, schema) in BODIES.items():
        rows[name] = defaultdict(list)
        for row in await connection.fetch(query):
            rows[name][row["order_id"]].append(schema.model_validate_json(row["body"]))
    timers = {row["order_id"]: row["due_at"] for row in await connection.fetch(TIMERS)}
    orders = await connection.fetch(ORDERS)
    differences: list[str] = []
    for order in orders:
        order_id = order["order_id"]
        entries, lines, events = (rows[name][order_id] for name in BODIES)
        looked = (
            [one.at for one in events if not one.command_id] if looks is None else looks.get(order_id, ())
        )
        commands = [one for one in events if one.command_id]
        oracle = _oracle(Told(entries, lines, commands, order["department"], looked), policies)
        differences += [
            f"{order['reference']}: {one}" for one in _differences(oracle, events, timers.get(order_id))
        ]
    return Compared(len(orders), sum(map(len, rows["events"].values())), differences)


def _oracle(told: Told, policies: Mapping[str, Policy]) -> Oracle:
    (queue,) = {policy.triage_queue for policy in policies.values()}
    return Oracle(told, policies, queue)


def _differences(oracle: Oracle, events: Sequence[AlertEvent], timer: datetime | None) -> list[str]:
    expected, found = sorted(oracle.run()), sorted(happened(one) for one in events)
    differing = [f"not expected: {one}" for one in found if one not in expected]
    differing += [f"missing: {one}" for one in expected if one not in found]
    if len(expected) != len(set(found)) or len(found) != len(set(found)):
        differing.append(f"{len(found)} events, expected {len(expected)}")
    if oracle.next_at() != timer:
        differing.append(f"a timer at {timer}, expected at {oracle.next_at()}")
    return differing


def happened(event: AlertEvent) -> Happened:
    """An event in the oracle's words."""
    one = event.alert
    return Happened(
        event.at,
        one.clock,
        one.cycle,
        one.rung,
        event.seq,
        event.kind,
        one.at,
        one.late,
        one.state,
        one.level,
    )
