"""Causes, ledgers and orders."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from connectors.errors import Transient
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
from connectors.postgres import audit, feed, response_life, timers
from connectors.postgres.decisions import DecisionLog
from connectors.postgres.policies import kept_policies
from connectors.postgres.together import later
from schemas.alert import Alert, AlertEvent
from schemas.policy import Policy
from schemas.promise import PromiseLine, Promises
from schemas.work_order import WorkOrder
from schemas.work_order_update import LedgerEntry

_CAUSES: Final = """
SELECT order_key, generation, cause_id, version, incident_id, issue_id, standing, body
FROM order_causes WHERE order_key = ANY($1::text[])"""

# Orders with their ledgers, where anybody has said something, and their promise lines.
_KNOWN: Final = """
SELECT o.order_key, o.body, o.told, o.department_body,
  ARRAY(SELECT l.body FROM order_ledger l WHERE l.order_id = o.order_id ORDER BY l.seq) AS entries,
  ARRAY(SELECT p.body FROM promise_lines p WHERE p.order_id = o.order_id ORDER BY p.seq) AS lines
FROM work_orders o WHERE o.order_key = ANY($1::text[]) ORDER BY o.order_key, o.generation"""

# The ledgers of orders that anybody has said something about.
_LEDGERS: Final = (
    "SELECT order_id, body FROM order_ledger WHERE order_id = ANY($1::uuid[]) ORDER BY order_id, seq"
)

_LINES: Final = (
    "SELECT order_id, body FROM promise_lines WHERE order_id = ANY($1::uuid[]) ORDER BY order_id, seq"
)

_PROMISED: Final = "SELECT order_id, body FROM work_orders WHERE order_id = ANY($1::uuid[])"

_ADD_LINES: Final = """
INSERT INTO promise_lines (order_id, seq, body) SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[])"""

_SAVE_PROMISES: Final = """
INSERT INTO promises (order_id, next_due_at, body) SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[])
ON CONFLICT (order_id) DO UPDATE SET next_due_at = excluded.next_due_at, body = excluded.body, recorded_at = now()"""

_ALERTS: Final = "SELECT order_id, seq, body FROM alerts WHERE order_id = ANY($1::uuid[])"

_TAKEN: Final = "SELECT alert_id, command_id FROM alert_events WHERE command_id = ANY($1::text[])"

_ADD_ALERT_EVENTS: Final = """
INSERT INTO alert_events (alert_id, seq, order_id, kind, command_id, body)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::text[], $5::text[], $6::text[])"""

_SAVE_ALERTS: Final = """
INSERT INTO alerts (alert_id, order_id, reference, department, area, clock, cycle, rung, level, state, at, fired_at,
                    seq, body)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::int[], $6::text[], $7::int[], $8::text[],
                     $9::int[], $10::text[], $11::timestamptz[], $12::timestamptz[], $13::int[], $14::text[])
ON CONFLICT (alert_id) DO UPDATE SET department = excluded.department, area = excluded.area, level = excluded.level,
  state = excluded.state, at = excluded.at, fired_at = excluded.fired_at, seq = excluded.seq, body = excluded.body,
  recorded_at = now()"""

_SAID: Final = """
SELECT l.department, l.update_id, l.digest, l.result FROM order_ledger l
JOIN unnest($1::text[], $2::text[]) AS said(department, update_id) USING (department, update_id)"""

# Whoever names an original comes after all others who did, until their transactions have ended: two orders, each the
# duplicate of the other, would be nobody's work.
_ONE_AT_A_TIME: Final = "SELECT pg_advisory_xact_lock(5390188423)"

_BY_REFERENCE: Final = "SELECT reference, body FROM work_orders WHERE reference = ANY($1::text[])"

_SAVE_CAUSES: Final = """
INSERT INTO order_causes AS old (order_key, generation, cause_id, version, incident_id, issue_id, standing, body)
SELECT * FROM unnest($1::text[], $2::int[], $3::uuid[], $4::bigint[], $5::uuid[], $6::uuid[], $7::text[],
                     $8::text[])
ON CONFLICT (order_key, cause_id, generation) DO UPDATE SET version = excluded.version,
  standing = excluded.standing, body = excluded.body, recorded_at = now()
WHERE excluded.version > old.version"""

_ADD_TO_LEDGER: Final = """
INSERT INTO order_ledger (order_key, order_id, seq, department, update_id, digest, verdict, body, result)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::bigint[], $7::text[],
                     $8::text[], $9::text[])"""

_SAVE_ORDERS: Final = """
INSERT INTO work_orders AS old (order_id, version, order_key, generation, reference, state, category, work,
                                department, area, priority, opened_at, updates, resolved_at, outcome, verify,
                                lat, lon, told, department_body, body)
SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[], $5::text[], $6::text[], $7::text[],
                     $8::text[], $9::text[], $10::int[], $11::text[], $12::timestamptz[], $13::int[],
                     $14::timestamptz[], $15::text[], $16::boolean[], $17::float8[], $18::float8[], $19::int[],
                     $20::text[], $21::text[])
ON CONFLICT (order_id) DO UPDATE SET version = excluded.version, state = excluded.state,
  department = excluded.department, area = excluded.area, priority = excluded.priority,
  opened_at = excluded.opened_at, updates = excluded.updates, resolved_at = excluded.resolved_at,
  outcome = excluded.outcome, verify = excluded.verify, lat = excluded.lat, lon = excluded.lon,
  told = excluded.told, department_body = excluded.department_body, body = excluded.body, recorded_at = now()
WHERE excluded.version > old.version"""

# The same without regard for what is stored, as long as it is of the same version.
_REPLACE_ORDERS: Final = _SAVE_ORDERS.replace(
    "excluded.version > old.version", "excluded.version = old.version"
)


class PostgresOrders(DecisionLog):
    """`connectors.ports.OrderStore` in one transaction."""

    async def sites(self, order_keys: Sequence[str]) -> Mapping[str, SiteRows]:
        """What is held of each order key; of one that is new, nothing."""
        causes: dict[str, list[CauseRow]] = defaultdict(list)
        for row in await self._connection.fetch(_CAUSES, order_keys):
            causes[row["order_key"]].append(CauseRow(*row))
        orders: dict[str, list[KnownOrder]] = defaultdict(list)
        entries: dict[UUID, list[LedgerEntry]] = {}
        lines: dict[UUID, list[PromiseLine]] = {}
        for row in await self._connection.fetch(_KNOWN, order_keys):
            order = WorkOrder.model_validate_json(row["body"])
            orders[row["order_key"]].append(KnownOrder(order, row["told"], row["department_body"]))
            entries[order.order_id] = [LedgerEntry.model_validate_json(body) for body in row["entries"]]
            lines[order.order_id] = [PromiseLine.model_validate_json(body) for body in row["lines"]]
        return {key: SiteRows(causes[key], orders[key], entries, lines) for key in order_keys}

    async def _ledgers(self, order_ids: Sequence[UUID]) -> Mapping[UUID, list[LedgerEntry]]:
        found: dict[UUID, list[LedgerEntry]] = defaultdict(list)
        for order_id, body in await self._connection.fetch(_LEDGERS, order_ids) if order_ids else ():
            found[order_id].append(LedgerEntry.model_validate_json(body))
        return found

    async def _lines(self, order_ids: Sequence[UUID]) -> Mapping[UUID, list[PromiseLine]]:
        found: dict[UUID, list[PromiseLine]] = defaultdict(list)
        for order_id, body in await self._connection.fetch(_LINES, order_ids) if order_ids else ():
            found[order_id].append(PromiseLine.model_validate_json(body))
        return found

    async def promised(self, order_ids: Sequence[UUID]) -> Mapping[UUID, PromisedOrder]:
        """Those of these orders to which something is promised."""
        lines = await self._lines(order_ids)
        if not lines:
            return {}
        entries = await self._ledgers(list(lines))
        return {
            order_id: PromisedOrder(WorkOrder.model_validate_json(body), entries[order_id], lines[order_id])
            for order_id, body in await self._connection.fetch(_PROMISED, list(lines))
        }

    async def alerts_of(self, order_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[KnownAlert]]:
        """All alerts of these orders."""
        found: dict[UUID, list[KnownAlert]] = defaultdict(list)
        for order_id, seq, body in await self._connection.fetch(_ALERTS, order_ids) if order_ids else ():
            found[order_id].append(KnownAlert(Alert.model_validate_json(body), seq))
        return found

    async def commands_taken(self, command_ids: Sequence[str]) -> set[tuple[UUID, str]]:
        """(Alert, command id) of the commands that are in some alert's history already."""
        if not command_ids:
            return set()
        return {tuple(row) for row in await self._connection.fetch(_TAKEN, command_ids)}

    async def policies(self, versions: Sequence[str]) -> Mapping[str, Policy]:
        """These versions of the policy, those that are kept."""
        return await kept_policies(self._connection, versions)

    async def save_promises(self, lines: Sequence[PromiseLine], promises: Sequence[Promises]) -> None:
        """Add lines, none of which is ever changed, and store what they add up to."""
        if lines:
            rows = [(line.order_id, line.seq, line.model_dump_json()) for line in lines]
            await later(self._connection, _ADD_LINES, *_columns(rows))
        if promises:
            rows_of = [(one.order_id, one.next_due_at, one.model_dump_json()) for one in promises]
            await later(self._connection, _SAVE_PROMISES, *_columns(rows_of))

    async def save_alerts(self, events: Sequence[AlertEvent]) -> None:
        """Add events, in their order, and store the alerts as the last of each left it."""
        if not events:
            return
        last = {event.alert.alert_id: event for event in events}
        columns = _columns([_alert_columns(one) for one in last.values()])
        await later(self._connection, _SAVE_ALERTS, *columns)
        rows = [
            (one.alert.alert_id, one.seq, one.alert.order_id, one.kind, one.command_id, one.model_dump_json())
            for one in events
        ]
        await later(self._connection, _ADD_ALERT_EVENTS, *_columns(rows))

    async def set_timers(self, arm: Sequence[Timer], disarm: Sequence[UUID]) -> None:
        """When to look at these orders again; and those for which nothing is waited for."""
        await timers.arm(self._connection, arm)
        await timers.disarm(self._connection, disarm)

    async def said_before(self, said: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], SaidBefore]:
        """What is held of each (department, update id) that is not new."""
        if not said:
            return {}
        rows = await self._connection.fetch(_SAID, [one for one, _ in said], [one for _, one in said])
        return {
            (row["department"], row["update_id"]): SaidBefore(row["digest"], row["result"]) for row in rows
        }

    async def orders_of(self, references: Sequence[str]) -> Mapping[str, WorkOrder]:
        """The orders with these references, those that there are."""
        rows = await self._connection.fetch(_BY_REFERENCE, references) if references else ()
        return {row["reference"]: WorkOrder.model_validate_json(row["body"]) for row in rows}

    async def originals(self, references: Sequence[str]) -> Mapping[str, WorkOrder]:
        """The same, with everybody else who names originals waiting until this transaction ends."""
        if references:
            await self._connection.execute(_ONE_AT_A_TIME)
        return await self.orders_of(references)

    async def save_causes(self, rows: Sequence[CauseRow]) -> None:
        """Store causes that are new or newer."""
        if rows:
            await later(self._connection, _SAVE_CAUSES, *_columns(rows))

    async def add_to_ledger(self, rows: Sequence[LedgerRow]) -> None:
        """Add lines; none is ever changed. Raises Transient when another partition used one of the update ids
        meanwhile, for another order: whoever looks again finds it said before."""
        if not rows:
            return
        try:
            await self._connection.execute(_ADD_TO_LEDGER, *_columns(rows))
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name != "order_ledger_department_update_id_key":
                raise
            raise Transient("an update id was used for another order at the same time") from error

    async def save_orders(self, rows: Sequence[OrderRow]) -> None:
        """Store orders and what their departments were told."""
        if rows:
            await later(self._connection, _SAVE_ORDERS, *_columns([_order_columns(row) for row in rows]))

    async def replace_orders(self, rows: Sequence[OrderRow]) -> int:
        """Put orders right that are stored with the same version; how many that were."""
        if not rows:
            return 0
        columns = _columns([_order_columns(row) for row in rows])
        status: str = await self._connection.execute(_REPLACE_ORDERS, *columns)
        return int(status.rpartition(" ")[2])

    async def audit(self, attempts: Sequence[Attempt]) -> None:
        """Add to the audit trail; last of all, for others wait until the transaction ends."""
        if attempts:
            await audit.write(self._connection, [_entry(one) for one in attempts])

    async def tell(self, told: Sequence[Told]) -> None:
        """Add to the feed, in this order."""
        await feed.add(self._connection, told)

    async def at_rest(self, incident_ids: Sequence[UUID]) -> set[UUID]:
        """Those of these incidents whose response was made safe or is closed, or was never looked at."""
        return await response_life.at_rest(self._connection, incident_ids)


def _entry(attempt: Attempt) -> audit.Entry:
    outcome: audit.Outcome = "refused" if attempt.verdict == "refused" else "done"
    details = {name: getattr(attempt, name) for name in ("update_id", "verb", "verdict", "rule")}
    return audit.Entry(
        attempt.by or f"department:{attempt.department}", "orders.update", attempt.reference, outcome, details
    )


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _alert_columns(event: AlertEvent) -> tuple[Any, ...]:
    one = event.alert
    return (
        one.alert_id, one.order_id, one.reference, one.department, one.area, one.clock, one.cycle, one.rung,
        one.level, one.state, one.at, one.fired_at, event.seq, one.model_dump_json(),
    )  # fmt: skip


def _order_columns(row: OrderRow) -> tuple[Any, ...]:
    order, told, department_body = row.known
    point = order.site.point
    return (
        order.order_id, order.version, order.order_key, order.generation, order.reference, order.state,
        order.category, order.work, order.department, order.site.area, order.priority, order.opened_at,
        order.updates, order.resolved_at, order.outcome, order.verify, point.lat if point else None,
        point.lon if point else None, told, department_body, row.body,
    )  # fmt: skip
