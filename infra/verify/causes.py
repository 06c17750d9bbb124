"""What orders stand on: the causes that dispatch decided, incidents, service requests."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from infra.verify.compare import read, same, same_json, unreadable
from infra.verify.report import Disagreement, Look
from infra.verify.world import World
from schemas.work_order import WorkOrder, WorkOrderCommand

# Each cause as dispatch decided it last, beside what the last order of its site that has it holds.
_CAUSES: Final = """
SELECT d.subject, d.output, c.*, o.reference
FROM (SELECT subject, output FROM standing_decisions WHERE stage = 'dispatch') d
FULL JOIN (SELECT DISTINCT ON (cause_id) * FROM order_causes ORDER BY cause_id, generation DESC) c
  ON c.cause_id = d.subject
LEFT JOIN work_orders o ON o.order_key = c.order_key AND o.generation = c.generation"""

_BODIES: Final = "SELECT reference, body FROM work_orders ORDER BY order_id"

_NO_INCIDENTS: Final = """
SELECT id FROM unnest($1::uuid[]) AS id WHERE NOT EXISTS (SELECT FROM incidents WHERE incident_id = id)"""

_NO_REQUESTS: Final = """
SELECT number FROM unnest($1::text[]) AS number
WHERE NOT EXISTS (SELECT FROM issues WHERE request_number = number)"""


async def causes(world: World) -> AsyncIterator[Look]:
    """Dispatch's decisions beside the causes of orders; either may be missing."""
    async for row in world.rows(_CAUSES):
        yield _cause(row)


def _cause(row: Any) -> Look:
    if row["cause_id"] is None:
        command = read(WorkOrderCommand, row["output"])
        key = command.order_key if command else "its order"
        return Disagreement(f"cause {row['subject']}", f"it among the causes of {key}", "no such cause")
    name = row["reference"] or row["order_key"]
    if row["subject"] is None:
        return Disagreement(name, "a decision of dispatch behind each cause", f"none for {row['cause_id']}")
    if row["reference"] is None:
        return Disagreement(name, f"an order of generation {row['generation']}", "causes without an order")
    return same_json(name, "cause", row["output"], row["body"]) or _columns(name, row)


def _columns(name: str, row: Any) -> Look:
    command = read(WorkOrderCommand, row["body"])
    if command is None:
        return unreadable(name, "a cause")
    names = ("order_key", "cause_id", "version", "incident_id", "issue_id", "standing")
    return next(filter(None, (same(name, one, getattr(command, one), row[one]) for one in names)), None)


async def evidence(world: World) -> AsyncIterator[Look]:
    """The incidents and service requests that each order names."""
    async for page in world.pages(_BODIES):
        named = [(row["reference"], read(WorkOrder, row["body"])) for row in page]
        orders = [(reference, order) for reference, order in named if order is not None]
        incidents = await _missing(world, _NO_INCIDENTS, {one for _, o in orders for one in o.incident_ids})
        requests = await _missing(world, _NO_REQUESTS, {one for _, o in orders for one in o.covers})
        for reference, order in orders:
            yield _lacks(reference, "incident", order.incident_ids, incidents) or _lacks(
                reference, "service request", order.covers, requests
            )


async def _missing(world: World, query: str, wanted: set[Any]) -> set[Any]:
    return {row[0] for row in await world.connection.fetch(query, list(wanted))}


def _lacks(reference: str, what: str, named: Sequence[Any], missing: set[Any]) -> Look:
    lacking = [one for one in named if one in missing]
    if not lacking:
        return None
    return Disagreement(reference, f"the {what} {lacking[0]}, which it names", "none")
