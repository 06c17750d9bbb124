"""Orders against their causes and ledgers, against their own columns, against what departments were told."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from pydantic import ValidationError

from agents.orders.decide import department_state, department_view
from agents.orders.life import CLOSED
from agents.orders.promises import views_of
from agents.orders.rebuild import Again, again
from connectors.ports import SiteRows
from connectors.postgres.orders import PostgresOrders
from infra.verify.compare import read, same, same_json, unreadable
from infra.verify.report import Disagreement, Look
from infra.verify.world import World
from schemas.policy import Policy
from schemas.promise import Promises
from schemas.work_order import DepartmentWorkOrder, WorkOrder, order_id_of, reference_of

_KEYS: Final = (
    "SELECT order_key, min(reference) AS reference FROM work_orders GROUP BY order_key ORDER BY order_key"
)

_ORDERS: Final = "SELECT * FROM work_orders ORDER BY order_id"

# Each order with what its clocks stand at.
_PROMISED: Final = """
SELECT o.*, p.body AS promises FROM work_orders o LEFT JOIN promises p USING (order_id) ORDER BY o.order_id"""

COLUMNS: Final = (
    "order_id", "order_key", "generation", "reference", "version", "state", "category", "work", "department",
    "area", "priority", "opened_at", "updates", "resolved_at", "outcome", "verify", "lat", "lon",
)  # fmt: skip


# -- bodies


async def bodies(world: World) -> AsyncIterator[Look]:
    """Each order again from its causes and its ledger, by the policy that it was decided by."""
    async for page in world.pages(_KEYS):
        for row, site in zip(page, await _sites(world, page), strict=True):
            for look in _bodies(row["reference"], row["order_key"], site, world.policies):
                yield look


async def _sites(world: World, page: list[Any]) -> list[SiteRows | None]:
    """What is held of each key; None where something of it cannot be read."""
    store, keys = PostgresOrders(world.connection), [row["order_key"] for row in page]
    try:
        sites = await store.sites(keys)
    except ValidationError:
        return [await _site(store, key) for key in keys]
    return [sites[key] for key in keys]


async def _site(store: PostgresOrders, key: str) -> SiteRows | None:
    try:
        return (await store.sites([key]))[key]
    except ValidationError:
        return None


def _bodies(reference: str, key: str, site: SiteRows | None, policies: Mapping[str, Policy]) -> list[Look]:
    if site is None:
        return [unreadable(reference, f"causes, orders and ledgers of {key}")]
    try:
        return [_body(one) for one in again(site, policies)]
    except ValidationError:  # causes are missing
        return [Disagreement(reference, "causes that add up to an order", "none, or not one's own")]


def _body(one: Again) -> Look:
    if one.order is None:
        version = one.stored.order.policy_version
        return Disagreement(one.reference, f"the policy {version} in the table policies", "none")
    return same_json(one.reference, "body", one.body, one.stored.order.model_dump_json())


# -- columns


async def columns(world: World) -> AsyncIterator[Look]:
    """The columns of each order beside its body."""
    async for row in world.rows(_ORDERS):
        yield _columns(row)


def _columns(row: Any) -> Look:
    order = read(WorkOrder, row["body"])
    if order is None:
        return unreadable(row["reference"], "the body of an order")
    expected = _expected(order)
    differing = (same(row["reference"], name, expected[name], row[name]) for name in COLUMNS)
    return next(filter(None, differing), None) or _identity(order)


def _expected(order: WorkOrder) -> dict[str, Any]:
    point = order.site.point
    place = {
        "area": order.site.area,
        "lat": point.lat if point else None,
        "lon": point.lon if point else None,
    }
    return {name: getattr(order, name) for name in COLUMNS if name not in place} | place


def _identity(order: WorkOrder) -> Look:
    order_id = order_id_of(order.order_key, order.generation)
    return same(order.reference, "order_id", order_id, order.order_id) or same(
        order.reference, "reference", reference_of(order_id.int), order.reference
    )


# -- what the department was told


async def department_bodies(world: World) -> AsyncIterator[Look]:
    """What each order's department was told last, beside the order."""
    async for row in world.rows(_PROMISED):
        order = read(WorkOrder, row["body"])
        if order is not None:  # else the check of the columns says so
            yield _told(order, row, world.policies.get(order.policy_version))


def _told(order: WorkOrder, row: Any, policy: Policy | None) -> Look:
    reference, told, body = order.reference, row["told"], row["department_body"]
    if body is None:
        open_and_untold = Disagreement(reference, "a department that was told of an open order", "none")
        return same(reference, "told", 0, told) if order.state in CLOSED else open_and_untold
    seen = read(DepartmentWorkOrder, body)
    if seen is None:
        return unreadable(reference, "department_body")
    if seen.version != told:
        return same(reference, "the version of department_body: told", told, seen.version)
    if order.state in CLOSED:
        return _told_of_a_closed_one(order, seen)
    if policy is None:
        return None  # the check of the bodies says so
    promises = read(Promises, row["promises"]) if row["promises"] else None
    view = department_view(order, policy, told, views_of(promises)).model_dump_json()
    return same_json(reference, "department_body", view, body)


def _told_of_a_closed_one(order: WorkOrder, seen: DepartmentWorkOrder) -> Look:
    """Of an order that is closed the department is told nothing that is not its own doing: what is learned of
    incidents later may make the order another one than was told."""
    expected = (order.reference, department_state(order.state), order.outcome)
    found = (seen.reference, seen.state, seen.outcome)
    return same(order.reference, "department_body: reference, state, outcome", expected, found)
