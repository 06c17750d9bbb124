"""The life of a response: its window, whether its zone was made safe, and how it was closed.

A response is what triage holds an incident to call for. Its life is a ledger of lines, only ever added to; what they
add up to is a projection. `agents/responses/decide.py` writes them. Restricted: it is about incidents.
"""

from typing import Annotated, Final, Literal, NamedTuple
from uuid import UUID

from pydantic import Field

from schemas.base import AreaNumber, Code, Instant, Record, Sentence, ShortText, Version
from schemas.incident import IncidentKind
from schemas.promise import PromiseLine
from schemas.response import Priority, Response, Tier
from schemas.work_order import OrderState, Outcome, Reference, Work, WorkOrder, WorkOrderCommand
from schemas.work_order_update import LedgerEntry

LifeState = Literal["open", "closed", "void"]
"""`open`: its window runs. `closed`: it ended, with a summary. `void`: as is known by now, there never was one."""
LifeKind = Literal["opened", "moved", "made_safe", "open_again", "closed", "corrected", "reopened", "void"]
"""`opened`: first seen. `moved`: its window ends at another time. `made_safe`: all that it asked for is done.
`open_again`: something is to be done again. `closed`: once in each cycle. `corrected`: as is known by now, it ended
otherwise. `reopened`: after it was closed or void its window runs (again), which begins the next cycle."""
TELLS: Final[frozenset[LifeKind]] = frozenset(
    {"made_safe", "open_again", "closed", "corrected", "reopened", "void"}
)
"""Lines that are told; what `opened` and `moved` say is in `responses` already."""
EndRule = Literal["window_over", "called_off"]
"""`called_off`: a revision of its incident ended it before its window did."""
Count = Annotated[int, Field(ge=0)]
Standing = Literal[Outcome, "open", "cancelled"]


class Look(Record):
    """What wakes the writer of a response's life: time, or something that it is made of, has come."""


class Tally(Record):
    """Orders of one kind that stood alike."""

    category: Code
    work: Work
    department: Code
    standing: Standing
    orders: Count


class LeftOpen(Record):
    """An order that is not done, and with whom."""

    reference: Reference
    category: Code
    work: Work
    department: Code
    state: OrderState
    hold_reason: Code | None
    late: bool  # a promise of it was due


class Summary(Record):
    """A response's orders as of one moment. Cancelled ones are told, and not counted as orders."""

    as_of: Instant
    orders: Count  # done and open
    fixed: Count  # only what was resolved as `fixed`
    done: Count  # resolved in any way, fixed ones among them
    to_verify: Count  # of those that are done, drawn for re-inspection and not yet looked at
    open: Count
    held: Count  # of those that are open
    late: Count  # of those that are open
    cancelled: Count
    by: tuple[Tally, ...]
    left_open: tuple[LeftOpen, ...]
    last_fixed_at: Instant | None
    days_to_last_fix: float | None  # from the incident, one digit


class LifeLine(Record):
    """One line; the record of `response-life`. `at` is its true time, `handled_at` when the writer took it up."""

    response_id: UUID
    incident_id: UUID
    seq: Annotated[int, Field(ge=1)]  # 1, 2, 3 … of this response
    cycle: Annotated[int, Field(ge=1)]  # it is closed once in each
    kind: LifeKind
    at: Instant
    handled_at: Instant  # never before the line above
    closes_at: Instant  # when its window ends, as far as is known
    due_at: Instant  # when it is to be closed: not before its orders had time to be found
    because: Sentence
    rule: EndRule | None = None  # of closed and corrected
    summary: Summary | None = None  # of closed and corrected
    incident_kind: IncidentKind
    tier: Tier
    priority: Priority
    area: AreaNumber | None
    policy_version: ShortText
    simulated: bool


class ResponseLife(Record):
    """What the lines of a response add up to."""

    response_id: UUID
    incident_id: UUID
    state: LifeState
    seq: Version  # of the last line
    cycle: Annotated[int, Field(ge=1)]
    known_at: Instant  # when it was first seen
    handled_at: Instant  # the last line
    closes_at: Instant
    due_at: Instant
    safe_since: Instant | None  # since when all that it asked for is done
    closed_at: Instant | None
    rule: EndRule | None
    summary: Summary | None  # as it was closed, corrections included
    policy_version: ShortText  # of the closing, else of the first line
    correct_at: Instant | None = None  # when a correction is written; the lines do not have it


class OrderHistory(NamedTuple):
    """All that is held of one order: what it was at any time can be folded from it."""

    order: WorkOrder
    causes: tuple[WorkOrderCommand, ...]
    entries: tuple[LedgerEntry, ...]  # those that count
    lines: tuple[PromiseLine, ...]


class OrderTally(NamedTuple):
    """How many orders surely stand open for a response, and how many of those that it has a cause of are done."""

    open: int
    done: int


LifeWord = Literal["open", "made_safe", "closed", "void"]
"""How a response's life is shown: one that is open and made safe is `made_safe`."""


class LifeView(Record):
    """What is shown of a response's life, beside the response. The counts are of its orders as they are now."""

    state: LifeWord
    closes_at: Instant
    days_left: int | None  # whole days until its window ends; None: it has ended, or never was
    to_close_at: Instant | None = Field(default=None, exclude_if=lambda at: at is None)
    """When it is closed, once its window is over; None: its window runs, or it is closed or void."""
    safe_since: Instant | None
    closed_at: Instant | None
    rule: EndRule | None
    orders_open: Count
    orders_done: Count
    orders_cancelled: Count
    summary: Summary | None  # as it was closed


class WholeResponse(Response):
    """A response with its life. Restricted."""

    life: LifeView | None  # None: nobody has looked at it yet


def life_word(life: ResponseLife) -> LifeWord:
    """How its state is shown."""
    return "made_safe" if life.state == "open" and life.safe_since is not None else life.state
