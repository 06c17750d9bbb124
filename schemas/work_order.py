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

REFERENCE_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: nothing to misread

Work = Literal["fix", "inspect"]
Life = Literal[
    "new", "acknowledged", "in_progress", "on_hold", "resolved", "verified", "reopened", "cancelled"
]
"""The states of DESIGN.md; what may follow what is `agents/orders/life.py`."""
OrderState = Literal[Life, "void"]
"""`cancelled`: it was asked for, and no longer is, or a person ended it. `void`: what is known by now shows that
nothing ever asked for it."""
DepartmentState = Literal[Life, "rejected"]
"""`rejected`: this department said that it is not its work; it is another's now."""
Outcome = Literal[
    "fixed", "found_working", "no_such_address", "contractor_maintained", "private_property", "no_access",
    "not_found", "inspected", "duplicate_of",
]  # fmt: skip
"""How an order was resolved. Only `fixed` counts as fixed; `inspected` is how an inspection ends well."""
ClockName = Literal["acknowledge", "inspect", "resolve", "notify_owner", "abate"]
"""What is promised of an order: that it is acknowledged, inspected, resolved; or in stages."""
Result = Literal["met", "late", "cancelled"]
"""How a promise ended. Met late is not met: it is late."""
Reference = Annotated[str, Field(pattern=r"^WO-[0-9A-HJKMNP-TV-Z]{5}-[0-9A-HJKMNP-TV-Z]{5}$")]
"""What people call an order: opaque, and without characters to misread."""
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
    kin: tuple[UUID, ...] = Field(default=(), exclude_if=lambda ids: not ids)
    """Incidents that may be the same event: what they ask for here is one order, also when that is closed."""


class WorkOrder(Record):
    """One open piece of work per category, kind of work and site, folded from its causes. Restricted."""

    order_id: UUID
    order_key: OrderKey
    generation: Annotated[
        int, Field(ge=1)
    ]  # at this site: what is asked for after an order is closed is the next
    reference: Reference
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
    updates: Annotated[int, Field(ge=0)]  # entries of its ledger that are folded in
    acknowledged_at: Instant | None
    resolved_at: Instant | None
    outcome: Outcome | None
    hold_reason: Code | None
    crew: ShortText | None
    estimate: Instant | None
    stages: tuple[ClockName, ...] = ()  # of the work that are done
    rejected_by: tuple[Code, ...]
    duplicate_of: Reference | None
    duplicates: tuple[Reference, ...]
    original_outcome: Outcome | None  # of the order that this one is a duplicate of, once that is resolved
    verify: bool  # resolved, and drawn for re-inspection
    covers: tuple[NaturalKey, ...]
    incident_ids: tuple[UUID, ...]
    policy_version: ShortText
    simulated: bool


class PromiseView(Record):
    """What is shown of one clock, to departments too."""

    clock: ClockName
    due_at: Instant | None  # None: on hold, it has no due time before it goes on
    on_hold: bool
    result: Result | None  # None: it runs


class DepartmentWorkOrder(Record):
    """What a department sees of an order. A schema of its own: nothing of the incident can be in it."""

    reference: Reference
    version: Version  # 1, 2, 3 … of what this department was told of this order
    state: DepartmentState
    category: Code
    work: Work
    title: ShortText
    address: ShortText | None
    point: Point | None
    area: AreaNumber | None
    priority: Priority
    requested_on: date  # the day after the order was opened, in the city: a time would tell of the event
    outcome: Outcome | None
    hold_reason: Code | None
    crew: ShortText | None
    estimate: Instant | None
    service_requests: tuple[NaturalKey, ...]
    promises: tuple[PromiseView, ...] = ()  # in which time it is to be acknowledged, inspected, resolved
    simulated: bool


def order_key_of(category: str, work: str, site_key: str) -> str:
    """What one open order exists for; the Kafka key of `work-order-commands`."""
    return f"{category}|{work}|{site_key}"


def order_id_of(order_key: str, generation: int = 1) -> UUID:
    """The id of the order with this key; `generation`: the how-manieth at its site."""
    return derived_id("order", order_key, *([str(generation)] if generation > 1 else []))


def reference_of(number: int) -> str:
    """What people call the order with this id: 10 characters of it, which is a hash and tells of nothing."""
    characters = []
    for _ in range(10):
        number, digit = divmod(number, 32)
        characters.append(REFERENCE_ALPHABET[digit])
    return "WO-" + "".join(characters[:5]) + "-" + "".join(characters[5:])
