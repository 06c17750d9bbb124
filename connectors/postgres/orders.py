"""Causes, ledgers and orders."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from connectors.errors import Transient
from connectors.ports import Attempt, CauseRow, KnownOrder, LedgerRow, OrderRow, SaidBefore, SiteRows, Told
from connectors.postgres import audit, feed
from connectors.postgres.decisions import DecisionLog
from schemas.work_order import WorkOrder
from schemas.work_order_update import LedgerEntry

_CAUSES: Final = """
SELECT order_key, generation, cause_id, version, incident_id, issue_id, standing, body
FROM order_causes WHERE order_key = ANY($1::text[])"""

_KNOWN: Final = """
SELECT order_key, body, told, department_body FROM work_orders WHERE order_key = ANY($1::text[])
ORDER BY order_key, generation"""

# The ledgers of orders that anybody has said something about.
_LEDGERS: Final = (
    "SELECT order_id, body FROM order_ledger WHERE order_id = ANY($1::uuid[]) ORDER BY order_id, seq"
)

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
        for row in await self._connection.fetch(_KNOWN, order_keys):
            order = WorkOrder.model_validate_json(row["body"])
            orders[row["order_key"]].append(KnownOrder(order, row["told"], row["department_body"]))
        entries = await self._ledgers([known.order.order_id for held in orders.values() for known in held])
        return {key: SiteRows(causes[key], orders[key], entries) for key in order_keys}

    async def _ledgers(self, order_ids: Sequence[UUID]) -> Mapping[UUID, list[LedgerEntry]]:
        found: dict[UUID, list[LedgerEntry]] = defaultdict(list)
        for order_id, body in await self._connection.fetch(_LEDGERS, order_ids) if order_ids else ():
            found[order_id].append(LedgerEntry.model_validate_json(body))
        return found

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
            await self._connection.execute(_SAVE_CAUSES, *_columns(rows))

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
            await self._connection.execute(_SAVE_ORDERS, *_columns([_order_columns(row) for row in rows]))

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


def _entry(attempt: Attempt) -> audit.Entry:
    outcome: audit.Outcome = "refused" if attempt.verdict == "refused" else "done"
    details = {name: getattr(attempt, name) for name in ("update_id", "verb", "verdict", "rule")}
    return audit.Entry(
        f"department:{attempt.department}", "orders.update", attempt.reference, outcome, details
    )


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _order_columns(row: OrderRow) -> tuple[Any, ...]:
    order, told, department_body = row.known
    point = order.site.point
    return (
        order.order_id, order.version, order.order_key, order.generation, order.reference, order.state,
        order.category, order.work, order.department, order.site.area, order.priority, order.opened_at,
        order.updates, order.resolved_at, order.outcome, order.verify, point.lat if point else None,
        point.lon if point else None, told, department_body, row.body,
    )  # fmt: skip
