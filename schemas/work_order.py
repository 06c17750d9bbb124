"""Work orders: what dispatch asks for (a command), what stands (an order), what a department sees."""

from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import (
    AreaNumber,
    Code,
    Instant,
    NaturalKey,
    Point,
    Record,
    Sentence,
    ShortText,
    Version,
    derived_id,
)
from schemas.response import Priority

Work = Literal["fix", "inspect"]
OrderState = Literal["new", "cancelled", "void"]
"""`cancelled`: it was asked for, and no longer is. `void`: what is known by now shows that it never was."""
Standing = Literal["live", "withdrawn", "void"]
"""Of a cause: it asks for the work; it did, until it ended; or, as is known by now, it never did."""
OrderKey = Annotated[str, Field(min_length=3, max_length=300)]


class Site(Record):
    """One place where one crew goes: a normalized address or block, else a small grid cell, else an area."""

    key: ShortText
    basis: Literal["address", "block", "cell", "area"]
    address: ShortText | None  # what a crew reads
    point: Point | None
    area: AreaNumber | None


class WorkOrderCommand(Record):
    """One cause for work at one site: a response with an issue in its zone, or with a standing inspection."""

    order_key: OrderKey
    category: Code
    work: Work
    site: Site
    cause_id: UUID
    version: Version
    standing: Standing
    rule: Literal["open_issue_in_zone", "standing_inspection"]
    because: Sentence
    response_id: UUID
    incident_id: UUID
    issue_id: UUID | None
    at: Instant  # when the cause came to be, in event time
    ended_at: Instant | None  # when it was withdrawn, in event time
    priority: Priority
    covers: tuple[NaturalKey, ...]
    policy_version: ShortText
    simulated: bool


class WorkOrder(Record):
    """One open piece of work per category, kind of work and site, folded from its causes. Restricted."""

    order_id: UUID
    order_key: OrderKey
    reference: ShortText  # opaque: what people and departments call it
    version: Version
    state: OrderState
    category: Code
    work: Work
    site: Site
    department: Code
    routing_rule: ShortText
    priority: Priority
    opened_at: Instant
    cancelled_at: Instant | None
    covers: tuple[NaturalKey, ...]
    incident_ids: tuple[UUID, ...]
    policy_version: ShortText
    simulated: bool


class DepartmentWorkOrder(Record):
    """What a department sees of an order. A schema of its own: nothing of the incident can be in it."""

    reference: ShortText
    version: Version  # 1, 2, 3 … of what this department was told of this order
    state: Literal["new", "cancelled"]
    category: Code
    work: Work
    title: ShortText
    address: ShortText | None
    point: Point | None
    area: AreaNumber | None
    priority: Priority
    requested_on: date  # the day after the order was opened, in the city: a time would tell of the event
    service_requests: tuple[NaturalKey, ...]
    simulated: bool


def order_key_of(category: str, work: str, site_key: str) -> str:
    """What one open order exists for; the Kafka key of `work-order-commands`."""
    return f"{category}|{work}|{site_key}"


def order_id_of(order_key: str) -> UUID:
    """The id of the order with this key."""
    return derived_id("order", order_key)
