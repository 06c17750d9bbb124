"""One site's orders in memory, with the real agent, a clock that is set, and what people, departments and timers do."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from agents.messages import Message
from agents.orders.agent import Orders
from connectors.ports import (
    Attempt,
    CauseRow,
    KnownAlert,
    KnownOrder,
    LedgerRow,
    OrderRow,
    PromisedOrder,
    SaidBefore,
    SiteRows,
    Timer,
    Told,
)
from schemas.alert import AlertCommand, AlertEvent
from schemas.base import Record
from schemas.decision import DecisionRecord
from schemas.policy import Policy
from schemas.promise import Nudge, PromiseLine, Promises
from schemas.work_order import WorkOrder
from schemas.work_order_update import LedgerEntry
from tests.alerts_again import happened
from tests.properties import alert_oracle
from tests.properties.alert_oracle import Happened, Oracle

BEGIN = datetime(2026, 10, 27, 15, 20, 7, tzinfo=UTC)
"""A Tuesday; on the Sunday after it the clocks go back, and two weeks later is Veterans Day."""
SECOND = timedelta(seconds=1)
ELSEWHERE = "WO-00000-00009"
"""Another order of the same department, of which an order can be a duplicate."""


@dataclass
class Memory:
    """`connectors.ports.OrderStore`, and what it was given."""

    policy: Policy
    causes: dict[tuple[str, int, UUID], CauseRow] = field(default_factory=dict)
    orders: dict[UUID, KnownOrder] = field(default_factory=dict)
    ledger: dict[UUID, list[LedgerRow]] = field(default_factory=lambda: defaultdict(list))
    lines: dict[UUID, list[PromiseLine]] = field(default_factory=lambda: defaultdict(list))
    promises: dict[UUID, Promises] = field(default_factory=dict)
    alerts: dict[UUID, KnownAlert] = field(default_factory=dict)
    events: list[AlertEvent] = field(default_factory=list)
    timers: dict[UUID, Timer] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)

    def entries(self, order_id: UUID) -> list[LedgerEntry]:
        return [LedgerEntry.model_validate_json(row.body) for row in self.ledger[order_id]]

    async def sites(self, order_keys: Sequence[str]) -> Mapping[str, SiteRows]:
        return {key: self._site(key) for key in order_keys}

    def _site(self, key: str) -> SiteRows:
        orders = [known for known in self.orders.values() if known.order.order_key == key]
        return SiteRows(
            [row for row in self.causes.values() if row.order_key == key], orders,
            {known.order.order_id: self.entries(known.order.order_id) for known in orders},
            {known.order.order_id: list(self.lines[known.order.order_id]) for known in orders},
        )  # fmt: skip

    async def said_before(self, said: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], SaidBefore]:
        return {
            (row.department, row.update_id): SaidBefore(row.digest, row.result)
            for rows in self.ledger.values()
            for row in rows
            if (row.department, row.update_id) in said
        }

    async def orders_of(self, references: Sequence[str]) -> Mapping[str, WorkOrder]:
        return {}

    async def originals(self, references: Sequence[str]) -> Mapping[str, WorkOrder]:
        if ELSEWHERE not in references:
            return {}
        changes = {"reference": ELSEWHERE, "order_key": "elsewhere", "duplicate_of": None, "state": "new"}
        return {ELSEWHERE: next(iter(self.orders.values())).order.model_copy(update=changes)}

    async def save_causes(self, rows: Sequence[CauseRow]) -> None:
        self.causes |= {(row.order_key, row.generation, row.cause_id): row for row in rows}

    async def add_to_ledger(self, rows: Sequence[LedgerRow]) -> None:
        for row in rows:
            self.ledger[row.order_id].append(row)

    async def save_orders(self, rows: Sequence[OrderRow]) -> None:
        self.orders |= {row.known.order.order_id: row.known for row in rows}

    async def record(self, decisions: Sequence[DecisionRecord]) -> set[tuple[UUID, int]]:
        return set()

    async def keep(self, decisions: Sequence[DecisionRecord]) -> None:
        pass

    async def promised(self, order_ids: Sequence[UUID]) -> Mapping[UUID, PromisedOrder]:
        return {
            one: PromisedOrder(self.orders[one].order, self.entries(one), list(self.lines[one]))
            for one in order_ids
            if self.lines[one]
        }

    async def alerts_of(self, order_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[KnownAlert]]:
        return {one: [k for k in self.alerts.values() if k.alert.order_id == one] for one in order_ids}

    async def commands_taken(self, command_ids: Sequence[str]) -> set[tuple[UUID, str]]:
        return {(e.alert.alert_id, e.command_id) for e in self.events if e.command_id in command_ids}  # type: ignore[misc]

    async def policies(self, versions: Sequence[str]) -> Mapping[str, Policy]:
        return {self.policy.version: self.policy}

    async def save_promises(self, lines: Sequence[PromiseLine], promises: Sequence[Promises]) -> None:
        for line in lines:
            assert line.seq == len(self.lines[line.order_id]) + 1
            self.lines[line.order_id].append(line)
        self.promises |= {one.order_id: one for one in promises}

    async def save_alerts(self, events: Sequence[AlertEvent]) -> None:
        for event in events:
            known = self.alerts.get(event.alert.alert_id)
            assert event.seq == (known.seq if known else 0) + 1, "events are numbered without holes"
            self.alerts[event.alert.alert_id] = KnownAlert(event.alert, event.seq)
            self.events.append(event)

    async def set_timers(self, arm: Sequence[Timer], disarm: Sequence[UUID]) -> None:
        self.timers |= {one.subject_id: one for one in arm}
        for order_id in disarm:
            self.timers.pop(order_id, None)

    async def audit(self, attempts: Sequence[Attempt]) -> None:
        pass

    async def tell(self, told: Sequence[Told]) -> None:
        self.told += told

    async def at_rest(self, incident_ids: Sequence[UUID]) -> set[UUID]:
        return set()


class AlertWorld:
    """Time goes on by a second with each batch, so that two batches are two times."""

    def __init__(self, policy: Policy, begin: datetime = BEGIN) -> None:
        self.policy, self.now = policy, begin
        self.store = Memory(policy)
        self.looks: dict[UUID, set[datetime]] = defaultdict(set)
        self._agent = Orders(policy, lambda: self.now)

    def batch(self, *bodies: Record) -> None:
        """Everything in one batch, a second later."""
        self.now += SECOND
        self._serve(bodies)

    def _serve(self, bodies: Sequence[Record]) -> None:
        for body in bodies:
            if isinstance(body, Nudge | AlertCommand):
                self.looks[body.order_id].add(self.now)
        messages = [Message("work-order-commands", 0, 0, "k", body, None, None, b"k", b"") for body in bodies]
        try:
            self._agent.commands(self.store, messages).send(None)
        except StopIteration:
            return  # it waited for nothing: all is in memory
        raise AssertionError("the agent waits for something that is not its store")

    def nudge(self, order_id: UUID, at: datetime) -> None:
        """As the timers do, now."""
        known = self.store.orders[order_id].order
        self._serve([Nudge(order_key=known.order_key, order_id=order_id, reference=known.reference, at=at)])

    def wait(self, until: datetime, *, nudges: bool = True, late: timedelta = timedelta()) -> None:
        """Let time pass; nudge what is due on the way, perhaps late, perhaps not at all."""
        while nudges:
            timer = min(self.store.timers.values(), key=lambda one: one.due_at, default=None)
            if timer is None or timer.due_at + late > until:
                break
            self.now = max(self.now, timer.due_at + late)
            self.nudge(timer.subject_id, timer.due_at)
        self.now = max(self.now, until)

    # -- what there is, and what there must be

    def found(self, order_id: UUID) -> list[Happened]:
        return sorted(happened(one) for one in self.store.events if one.alert.order_id == order_id)

    def oracle(self, order_id: UUID) -> Oracle:
        told = alert_oracle.Told(
            self.store.entries(order_id),
            self.store.lines[order_id],
            [one for one in self.store.events if one.alert.order_id == order_id and one.command_id],
            self.store.orders[order_id].order.department,
            sorted(self.looks[order_id]),
        )
        return Oracle(told, defaultdict(lambda: self.policy), self.policy.triage_queue)

    def check(self) -> None:
        """Alerts, clocks and timers of every order are what its ledger and its lines say."""
        for order_id in self.store.orders:
            oracle = self.oracle(order_id)
            expected = sorted(oracle.run())
            found = self.found(order_id)
            assert found == expected, differences(found, expected)
            self._check_clocks(order_id, oracle)
            timer = self.store.timers.get(order_id)
            assert (timer.due_at if timer else None) == oracle.next_at()
            self._check_order_of_rungs(order_id)

    def _check_clocks(self, order_id: UUID, oracle: Oracle) -> None:
        if oracle.life is None:
            return
        expected = {
            one.name: (one.cycle, one.was_due if one.result else one.due(), one.result)
            for one in oracle.life.all_clocks()
        }
        stands = self.store.promises[order_id]
        assert not stands.failures
        clocks = {one.name: (one.cycle, one.due_at, one.result) for one in stands.clocks}
        assert clocks == expected, f"{clocks}, expected {expected}"

    def _check_order_of_rungs(self, order_id: UUID) -> None:
        rungs = [one.name for one in self.policy.sla.rungs]
        last: dict[tuple[str, int], tuple[datetime, datetime, int]] = {}
        for event in self.store.events:
            alert = event.alert
            if (
                alert.order_id == order_id
                and alert.rung in rungs
                and event.kind in ("fired", "superseded", "silenced")
            ):
                place = event.at, alert.at, rungs.index(alert.rung)
                assert last.get((alert.clock, alert.cycle), place) <= place
                last[alert.clock, alert.cycle] = place


def differences(found: Sequence[Happened], expected: Sequence[Happened]) -> str:
    """What there is and must not be, and what must be and is not."""
    wrong = [("not expected", one) for one in found if one not in expected]
    wrong += [("missing", one) for one in expected if one not in found]
    lines = [
        f"{what}: {one.at:%m-%d %H:%M:%S} {one.clock}/{one.cycle}/{one.rung} #{one.seq} {one.kind}"
        f" {one.true_at:%m-%d %H:%M:%S} late={one.late} {one.state}"
        for what, one in sorted(wrong, key=lambda pair: pair[1])
    ]
    return "\n" + "\n".join(lines)
