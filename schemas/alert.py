"""Alerts: a promise is about to break, or has broken. Each is told by events, corrected by events, never erased."""

from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import (
    AreaNumber,
    Code,
    Instant,
    NaturalKey,
    Record,
    Sentence,
    ShortText,
    Version,
    derived_id,
)
from schemas.response import Priority
from schemas.work_order import ClockName, OrderKey, Reference, Work

Level = Annotated[int, Field(ge=1, le=4)]
"""1: the department's dispatcher. 2: its supervisor and the area's engagement manager. 3: the duty supervisor of the
centre. 4: the deputy commissioner."""

AlertState = Literal["open", "acknowledged", "snoozed", "recorded", "withdrawn", "over"]
"""`open`: somebody has to look. `recorded`: it happened and told nobody (superseded, or silenced by one who has
acknowledged). `withdrawn`: as is known by now, it does not hold. `over`: its clock has ended."""

AlertEventKind = Literal[
    "fired", "superseded", "silenced", "withdrawn", "fired_again", "over", "back", "acknowledged", "unacknowledged",
    "snoozed", "woken", "handed_over", "nobody_there",
]  # fmt: skip
TELLS: Final[frozenset[AlertEventKind]] = frozenset(
    {"fired", "fired_again", "unacknowledged", "woken", "handed_over", "back"}
)
"""Events that tell people, by the alert's level (`handed_over`: the person or role in `to`)."""

NO_CLOCK: Final = "no_clock"
"""The rung of an alert about a promise that has no due time, because its calendar cannot say one."""
NOBODYS: Final = "nobodys"
"""The rung of an alert about an order that no department owns; its clock is `order`."""


class Alert(Record):
    """One rung of one clock that was reached, as its last event left it. Nothing of the incident can be in it."""

    alert_id: UUID
    order_id: UUID
    order_key: OrderKey
    reference: Reference
    department: Code  # whose the order was when it fired
    category: Code
    work: Work
    priority: Priority
    title: ShortText  # what is to be done
    address: ShortText | None  # the block
    area: AreaNumber | None
    clock: ClockName | Literal["order"]
    cycle: Annotated[int, Field(ge=1)]
    rung: Code
    level: Level
    breach: bool  # it tells of a broken promise, and not of the way there
    at: Instant  # when the rung was reached: its true time
    due_at: Instant | None  # of the promise, when it fired
    fired_at: Instant
    late: bool  # it fired later than the policy bears: after downtime
    because: Sentence
    state: AlertState
    acknowledged_by: ShortText | None = None
    until: Instant | None = None  # acknowledged or snoozed: when it comes back by itself
    handed_to: Code | None = None  # a person or role instead of the level's
    simulated: bool


class AlertEvent(Record):
    """What happened to an alert; the record of `sla-alerts`. `alert` is as it is afterwards."""

    alert: Alert
    seq: Version  # 1, 2, 3 … of this alert
    kind: AlertEventKind
    at: Instant  # handled
    because: Sentence
    by: ShortText | None = None  # who did it; None: time or the order itself
    command_id: NaturalKey | None = None


class AlertCommand(Record):
    """What a person does about an alert, on its way to the order's one writer."""

    order_key: OrderKey
    order_id: UUID
    reference: Reference
    alert_id: UUID
    command_id: NaturalKey  # the same id is the same command
    kind: Literal["acknowledge", "unacknowledge", "snooze", "hand_over", "nobody_there"]
    by: ShortText
    received_at: Instant
    until: Instant | None = None  # snooze
    to: Code | None = None  # hand_over: a person or role; nobody_there: the role that was empty
    text: Sentence | None = None


def alert_id_of(order_id: UUID, clock: str, cycle: int, rung: str) -> UUID:
    """The id of the one alert that this rung of this clock can raise in this cycle."""
    return derived_id("alert", str(order_id), clock, str(cycle), rung)
