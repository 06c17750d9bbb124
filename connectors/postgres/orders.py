"""Causes and orders."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from connectors.ports import KnownOrder, Row
from connectors.postgres.decisions import DecisionLog
from schemas.work_order import WorkOrder, WorkOrderCommand

_ADD_CAUSES: Final = """
INSERT INTO order_causes AS old (order_key, cause_id, version, incident_id, issue_id, standing, body)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::uuid[], $5::uuid[], $6::text[], $7::text[])
ON CONFLICT (order_key, cause_id) DO UPDATE SET version = excluded.version, standing = excluded.standing,
  body = excluded.body, recorded_at = now()
WHERE excluded.version > old.version
RETURNING order_key"""

_CAUSES: Final = """
SELECT order_key, body FROM order_causes WHERE order_key = ANY($1::text[]) ORDER BY order_key, cause_id"""

_KNOWN: Final = "SELECT order_key, body, told FROM work_orders WHERE order_key = ANY($1::text[])"

_SAVE_ORDERS: Final = """
INSERT INTO work_orders AS old (order_id, version, order_key, reference, state, category, work, department,
                                area, priority, opened_at, told, body)
SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                     $8::text[], $9::int[], $10::text[], $11::timestamptz[], $12::int[], $13::text[])
ON CONFLICT (order_id) DO UPDATE SET version = excluded.version, state = excluded.state,
  department = excluded.department, area = excluded.area, priority = excluded.priority,
  opened_at = excluded.opened_at, told = excluded.told, body = excluded.body, recorded_at = now()
WHERE excluded.version > old.version
RETURNING order_id"""


class PostgresOrders(DecisionLog):
    """`connectors.ports.OrderStore` in one transaction."""

    async def add_causes(self, commands: Sequence[WorkOrderCommand]) -> set[str]:
        """Store causes with a higher version; the order keys that changed."""
        if not commands:
            return set()
        rows = await self._connection.fetch(
            _ADD_CAUSES,
            [one.order_key for one in commands],
            [one.cause_id for one in commands],
            [one.version for one in commands],
            [one.incident_id for one in commands],
            [one.issue_id for one in commands],
            [one.standing for one in commands],
            [one.model_dump_json() for one in commands],
        )
        return {row["order_key"] for row in rows}

    async def causes(self, order_keys: Sequence[str]) -> Mapping[str, list[str]]:
        """The bodies of all causes of each order, by cause id."""
        found: dict[str, list[str]] = defaultdict(list)
        for order_key, body in await self._connection.fetch(_CAUSES, order_keys):
            found[order_key].append(body)
        return found

    async def known(self, order_keys: Sequence[str]) -> Mapping[str, KnownOrder]:
        """What is held of each order that exists."""
        rows = await self._connection.fetch(_KNOWN, order_keys)
        return {
            row["order_key"]: KnownOrder(WorkOrder.model_validate_json(row["body"]), row["told"])
            for row in rows
        }

    async def save_orders(self, rows: Sequence[tuple[WorkOrder, Row, int]]) -> set[UUID]:
        """Store those with a higher version and how often their departments were told; their ids."""
        if not rows:
            return set()
        saved = await self._connection.fetch(
            _SAVE_ORDERS,
            [row.id for _, row, _ in rows],
            [row.version for _, row, _ in rows],
            [one.order_key for one, _, _ in rows],
            [one.reference for one, _, _ in rows],
            [one.state for one, _, _ in rows],
            [one.category for one, _, _ in rows],
            [one.work for one, _, _ in rows],
            [one.department for one, _, _ in rows],
            [one.site.area for one, _, _ in rows],
            [one.priority for one, _, _ in rows],
            [one.opened_at for one, _, _ in rows],
            [told for _, _, told in rows],
            [row.body for _, row, _ in rows],
        )
        return {row["order_id"] for row in saved}
