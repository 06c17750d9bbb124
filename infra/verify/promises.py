"""Promises, alerts and timers beside the ledgers and lines that they are made of, and beside who was told."""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from agents.orders.life import CLOSED
from agents.orders.promises import Stands, clocks_of
from agents.orders.watch import Held, history_of, standing_of, versions_of
from agents.sla.book import Book
from agents.sla.ladder import ATTENTION, of_order
from connectors.ports import KnownAlert
from infra.verify.compare import read, same, same_json, unreadable
from infra.verify.report import GONE, Disagreement, Look
from infra.verify.spool import Spool, digest_of
from infra.verify.topics import MARGIN_S
from infra.verify.world import World
from schemas.alert import NO_CLOCK, Alert, AlertEvent, alert_id_of
from schemas.envelope import event_id
from schemas.policy import Policy
from schemas.promise import PromiseLine, Promises
from schemas.topics import SLA_ALERTS
from schemas.views import department_event
from schemas.work_order import WorkOrder
from schemas.work_order_update import LedgerEntry

_ORDERS: Final = """
SELECT o.order_id, o.reference, o.state, o.body, p.body AS promises, p.next_due_at, t.due_at, t.key AS timer_key,
  t.reference AS timer_reference
FROM work_orders o LEFT JOIN promises p USING (order_id)
LEFT JOIN timers t ON t.subject_id = o.order_id AND t.kind = 'order'
ORDER BY o.order_id"""

# What belongs to no order.
_STRAY: Final = """
SELECT 'promise lines' AS what, order_id FROM promise_lines UNION SELECT 'promises', order_id FROM promises
UNION SELECT 'a timer', subject_id FROM timers WHERE kind = 'order' UNION SELECT 'alerts', order_id FROM alerts
EXCEPT SELECT what, order_id FROM work_orders
       CROSS JOIN (VALUES ('promise lines'), ('promises'), ('a timer'), ('alerts')) AS kinds(what) ORDER BY 1, 2"""

_ENTRIES: Final = """
SELECT order_id, body FROM order_ledger WHERE order_id = ANY($1::uuid[]) AND verdict <> 'refused'
ORDER BY order_id, seq"""

_LINES: Final = (
    "SELECT order_id, seq, body FROM promise_lines WHERE order_id = ANY($1::uuid[]) ORDER BY order_id, seq"
)

_ALERTS: Final = (
    "SELECT order_id, seq, body FROM alerts WHERE order_id = ANY($1::uuid[]) ORDER BY order_id, at, alert_id"
)

# When each order was last looked at, as far as anything came of it.
_LOOKED: Final = """
SELECT order_id, max((body::json ->> 'at')::timestamptz) AS at FROM alert_events WHERE order_id = ANY($1::uuid[])
GROUP BY order_id"""

# Each event beside its alert, with its number and the number that it should have.
_EVENTS: Final = """
SELECT a.alert_id AS there, a.reference, a.seq AS last, a.body AS alert, e.alert_id, e.seq, e.order_id, e.kind,
  e.command_id, e.body, row_number() OVER (PARTITION BY e.alert_id ORDER BY e.seq) AS expected_seq
FROM alert_events e FULL JOIN alerts a USING (alert_id) ORDER BY 5, 6"""

_ALERT_COLUMNS: Final = "SELECT * FROM alerts ORDER BY alert_id"
COLUMNS: Final = (
    "alert_id", "order_id", "reference", "department", "area", "clock", "cycle", "rung", "level", "state", "at",
    "fired_at",
)  # fmt: skip

# Each event beside the rows of the feed that tell of it, to supervisors and to the department that it names.
_TOLD: Final = """
SELECT a.reference, e.seq, e.body, w.audience, f.told, f.body AS told_body
FROM alert_events e JOIN alerts a USING (alert_id)
CROSS JOIN LATERAL (VALUES (''), (e.body::json -> 'alert' ->> 'department')) AS w(audience)
LEFT JOIN (SELECT audience, subject, version, count(*) AS told, min(body) AS body FROM feed WHERE kind = 'alert'
           GROUP BY 1, 2, 3) f
  ON f.audience = w.audience AND f.subject = e.alert_id::text AND f.version = e.seq
ORDER BY e.alert_id, e.seq"""

# What was told of alerts, and never happened, or is told to somebody whom it does not concern.
_STRAY_TOLD: Final = """
SELECT f.audience, f.subject, f.version FROM feed f WHERE f.kind = 'alert' AND NOT EXISTS (
  SELECT FROM alert_events e WHERE e.alert_id::text = f.subject AND e.seq = f.version
    AND f.audience IN ('', e.body::json -> 'alert' ->> 'department'))"""

_RECORDS: Final = """
SELECT a.reference, e.alert_id, e.seq, e.order_id, e.body,
  e.recorded_at > now() - make_interval(secs => $1) AS young
FROM alert_events e JOIN alerts a USING (alert_id) ORDER BY e.alert_id, e.seq"""


class Waits(NamedTuple):
    """Events that should have been there by then, and when to look again."""

    events: Sequence[AlertEvent]
    next_at: datetime | None


class Case(NamedTuple):
    """One order, and everything that its promises are made of. `looked`: when anything came of a look at it."""

    row: Any
    order: WorkOrder
    entries: Sequence[LedgerEntry]
    lines: Sequence[PromiseLine]
    alerts: Sequence[KnownAlert]
    looked: datetime | None
    policy: Policy
    book: Book

    @property
    def reference(self) -> str:
        return self.order.reference

    def stands(self) -> Stands | None:
        """Folded again."""
        return clocks_of(self.order.order_id, history_of(self._held()), self.policy, self.book)

    def waits(self) -> Waits:
        """What its alerts lack, and what it waits for, as of the last time at which anything happened to it."""
        standing = standing_of(self._held(), self.policy, self.book)
        if standing is None:
            return Waits([], None)
        times = [entry.handled_at for entry in self.entries if entry.handled_at]
        times += [line.handled_at for line in self.lines] + ([self.looked] if self.looked else [])
        ladder = of_order(self.book, self.alerts)
        ladder.look(standing, max(times))
        return Waits(ladder.events, ladder.next_at(standing, max(times)))

    def _held(self) -> Held:
        return Held(self.order, self.entries, tuple(self.lines))


# ---------------------------------------------------------------- promises


async def promises(world: World) -> AsyncIterator[Look]:
    """What each order's promises stand at, folded again; its lines; and nothing without an order."""
    async for one in _cases(world):
        yield one if isinstance(one, Disagreement) else _numbers(one) or _folded(one)
    for row in await world.connection.fetch(_STRAY):
        yield Disagreement(str(row["order_id"]), f"an order behind {row['what']}", "none")


def _numbers(case: Case) -> Look:
    """Lines are numbered 1, 2, 3 … and were handled one after the other."""
    numbers = [line.seq for line in case.lines]
    times = [line.handled_at.isoformat() for line in case.lines]
    return same(case.reference, "promise lines", list(range(1, len(numbers) + 1)), numbers) or same(
        case.reference, "promise lines handled at", sorted(times), times
    )


def _folded(case: Case) -> Look:
    stands, stored = case.stands(), case.row["promises"]
    if stands is None or stored is None:
        return same(case.reference, "promises", "some" if stands else None, "some" if stored else None)
    due_at = same(case.reference, "next_due_at", stands.promises.next_due_at, case.row["next_due_at"])
    return same_json(case.reference, "promises", stands.promises.model_dump_json(), stored) or due_at


async def promised(world: World) -> AsyncIterator[Look]:
    """Every open order is promised something that runs, or an alert says why not."""
    async for one in _cases(world):
        if not isinstance(one, Disagreement):
            yield _promised(one)


def _promised(case: Case) -> Look:
    if case.order.state in CLOSED:
        return None
    stored = read(Promises, case.row["promises"] or "")
    if stored is None or not case.lines:
        return Disagreement(case.reference, "something promised of an open order", "nothing")
    warned = {known.alert.clock for known in case.alerts if known.alert.rung == NO_CLOCK and _holds(known)}
    for failure in stored.failures:
        if failure.clock not in warned:
            expected = f"an alert that says that the clock {failure.clock} has no due time"
            return Disagreement(case.reference, expected, "none")
    runs = any(clock.result is None for clock in stored.clocks)
    all_done = bool(case.order.stages) and all(clock.result != "cancelled" for clock in stored.clocks)
    if runs or stored.failures or all_done:
        return None
    return Disagreement(case.reference, "a clock that runs, of an open order", "none")


def _holds(known: KnownAlert) -> bool:
    return known.alert.state in ATTENTION


async def rungs(world: World) -> AsyncIterator[Look]:
    """Whatever an order had reached when it was looked at last is warned of, and nothing else is."""
    async for one in _cases(world):
        if isinstance(one, Disagreement):
            continue  # the check of the promises says so
        events = one.waits().events
        lacking = [f"{event.kind}: {event.alert.clock} {event.alert.rung}" for event in events[:5]]
        yield Disagreement(one.reference, f"alerts with {', '.join(lacking)}", "none") if lacking else None


async def timers(world: World) -> AsyncIterator[Look]:
    """An order that waits for time to pass has a timer, at the time for which it waits; no other has one."""
    async for one in _cases(world):
        if isinstance(one, Disagreement):
            continue  # the check of the promises says so
        row = one.row
        key = (one.order.order_key, one.reference) if row["due_at"] else (None, None)
        yield same(one.reference, "a timer at", _text(one.waits().next_at), _text(row["due_at"])) or same(
            one.reference, "its timer's key, reference", key, (row["timer_key"], row["timer_reference"])
        )


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


class Rows(NamedTuple):
    """What some orders' promises are made of, by order, as it is stored."""

    entries: Mapping[UUID, Sequence[Any]]
    lines: Mapping[UUID, Sequence[Any]]
    alerts: Mapping[UUID, Sequence[Any]]
    looked: Mapping[UUID, datetime]


async def _cases(world: World) -> AsyncIterator[Case | Disagreement]:
    """Every order, or that something of it cannot be read."""
    book = Book(world.policies.values())
    async for page in world.pages(_ORDERS):
        rows = await _rows(world, [row["order_id"] for row in page])
        for row in page:
            yield _case(row, rows, world.policies, book)


async def _rows(world: World, ids: Sequence[UUID]) -> Rows:
    looked = {row["order_id"]: row["at"] for row in await world.connection.fetch(_LOOKED, ids)}
    entries, lines, alerts = [await _by_order(world, query, ids) for query in (_ENTRIES, _LINES, _ALERTS)]
    return Rows(entries, lines, alerts, looked)


async def _by_order(world: World, query: str, ids: Sequence[UUID]) -> dict[UUID, list[Any]]:
    found: dict[UUID, list[Any]] = defaultdict(list)
    for row in await world.connection.fetch(query, ids):
        found[row["order_id"]].append(row)
    return found


def _case(row: Any, rows: Rows, policies: Mapping[str, Policy], book: Book) -> Case | Disagreement:
    order, order_id = read(WorkOrder, row["body"]), row["order_id"]
    if order is None:
        return unreadable(row["reference"], "the body of an order")
    stored = (rows.entries[order_id], rows.lines[order_id], rows.alerts[order_id])
    entries = [entry for one in stored[0] if (entry := read(LedgerEntry, one["body"]))]
    lines = [line for one in stored[1] if (line := read(PromiseLine, one["body"]))]
    alerts = [KnownAlert(alert, one["seq"]) for one in stored[2] if (alert := read(Alert, one["body"]))]
    if (len(entries), len(lines), len(alerts)) != tuple(map(len, stored)):
        return unreadable(order.reference, "a ledger, promise lines and alerts")
    missing = sorted({order.policy_version, *versions_of(lines)} - policies.keys())
    if missing:
        return Disagreement(order.reference, f"the policy {missing[0]} in the table policies", "none")
    looked, policy = rows.looked.get(order_id), policies[order.policy_version]
    return Case(row, order, entries, lines, alerts, looked, policy, book)


# ---------------------------------------------------------------- alerts


async def alerts(world: World) -> AsyncIterator[Look]:
    """Events are numbered without holes, and each alert is as its last event left it."""
    async for row in world.rows(_EVENTS):
        yield _event(row)
    async for row in world.rows(_ALERT_COLUMNS):
        alert = read(Alert, row["body"])
        if alert is not None:  # else its last event says so
            yield _columns(row, alert)


def _event(row: Any) -> Look:
    if row["there"] is None or row["alert_id"] is None:
        what = "an alert behind its events" if row["there"] is None else "an event behind each alert"
        return Disagreement(str(row["there"] or row["alert_id"]), what, "none")
    where = f"{row['reference']}, alert {row['alert_id']}, event {row['seq']}"
    event = read(AlertEvent, row["body"])
    if event is None:
        return unreadable(where, "an event of an alert")
    expected = (event.alert.alert_id, event.seq, event.alert.order_id, event.kind, event.command_id)
    found = (row["alert_id"], row["seq"], row["order_id"], row["kind"], row["command_id"])
    numbered = same(where, "number of the event", row["expected_seq"], row["seq"])
    columns = same(where, "alert_id, seq, order_id, kind, command_id", expected, found)
    return numbered or columns or _last(where, row, event)


def _last(where: str, row: Any, event: AlertEvent) -> Look:
    """The last event is the alert as it is."""
    if row["seq"] < row["last"]:
        return None
    number = same(where, "number of the alert's last event", row["last"], row["seq"])
    return number or same_json(where, "the alert", event.alert.model_dump_json(), row["alert"])


def _columns(row: Any, alert: Alert) -> Look:
    """Its columns say what its body says, and there is no other of the same rung: its id is made of that."""
    own = alert_id_of(alert.order_id, alert.clock, alert.cycle, alert.rung)
    looks = (same(row["reference"], name, getattr(alert, name), row[name]) for name in COLUMNS)
    return same(row["reference"], "alert_id", own, row["alert_id"]) or next(filter(None, looks), None)


async def told(world: World) -> AsyncIterator[Look]:
    """The feed has each event of an alert once for supervisors, and once for the department that it is about."""
    async for row in world.rows(_TOLD):
        whom = row["audience"] or "supervisors"
        where = f"{row['reference']}, event {row['seq']}"
        if row["told"] != 1:
            yield Disagreement(where, f"{whom} told once of it", f"told {row['told'] or 0} times")
        else:
            said = row["body"]
            if row["audience"]:
                event = AlertEvent.model_validate_json(said)
                said = department_event(event, row["audience"]).model_dump_json()
            yield same_json(where, f"what {whom} were told", said, row["told_body"] or "")
    async for row in world.rows(_STRAY_TOLD):
        whom = row["audience"] or "supervisors"
        expected = f"an event {row['version']} of this alert behind what {whom} were told"
        yield Disagreement(f"alert {row['subject']}", expected, "none of theirs")


async def published(world: World) -> AsyncIterator[Look]:
    """Each event of an alert is on `sla-alerts`."""
    assert world.records is not None
    with Spool(snapshots=False) as spool:
        async for record in world.records([SLA_ALERTS.name]):
            spool.add(record)
        async for row in world.rows(_RECORDS, SLA_ALERTS.retention_ms / 1000 - MARGIN_S):
            yield _record(row, spool, must_be=world.keeps and row["young"])
        for one in spool.odd():
            yield Disagreement(f"{one.key} on {one.topic}", one.expected, one.found)


def _record(row: Any, spool: Spool, *, must_be: bool) -> Look:
    where = f"{row['reference']}, alert {row['alert_id']}, event {row['seq']}"
    wanted = str(event_id(SLA_ALERTS.name, str(row["order_id"]), row["seq"], str(row["alert_id"])))
    digest = spool.digest(SLA_ALERTS.name, wanted)
    if digest is None:
        return Disagreement(where, f"a record {wanted} on {SLA_ALERTS.name}", "none") if must_be else GONE
    if digest == digest_of(row["body"]):
        return None
    return Disagreement(
        where, f"what happened, on {SLA_ALERTS.name}", "something else under the same event id"
    )
