"""The promises of one order: what our side does to its clocks (lines, only ever added), and what they stand at.

An order's clocks are a fold of its ledger (what departments say) and of these lines; `agents/orders/promises.py`.
"""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Code, Instant, Record, Sentence, ShortText
from schemas.response import Priority
from schemas.sla import Clock, ClockTerms
from schemas.work_order import ClockName, OrderKey, Reference

LineKind = Literal["promised", "retargeted", "withdrawn", "asked_again"]
"""`promised`: the first, with what was promised. `retargeted`: the priority, and so the promise, is another.
`withdrawn`: nothing asks for the order any longer, and nobody had started. `asked_again`: something does again."""


class PromiseLine(Record):
    """One line. The lines of an order and its ledger, in the order in which they were handled, are all that its clocks
    and its alerts are made of."""

    order_id: UUID
    seq: Annotated[int, Field(ge=1)]  # 1, 2, 3 … of this order
    entries: Annotated[int, Field(ge=0)]  # how many lines its ledger had
    kind: LineKind
    at: Instant  # when it happened
    handled_at: Instant  # when the order's writer took it up: never before the line above
    priority: Priority
    policy_version: ShortText  # whose promises, calendars and rungs hold
    promise: Code | None = None  # its name in the policy; None: the policy promises nothing
    clocks: tuple[ClockTerms, ...] = ()  # of promised and retargeted lines


class Failure(Record):
    """A clock that could not start or be re-targeted, and why: the promise is without a due time until somebody mends
    the calendar."""

    clock: ClockName
    because: Sentence


class Promises(Record):
    """What an order's clocks stand at; a projection."""

    order_id: UUID
    clocks: tuple[Clock, ...]  # those that began, in the order of the policy
    failures: tuple[Failure, ...] = ()

    @property
    def next_due_at(self) -> Instant | None:
        """The first due time of the clocks that run; None: none runs, or all are on hold."""
        return min((one.due_at for one in self.clocks if one.result is None and one.due_at), default=None)


class Nudge(Record):
    """Time has come by a point that an order waits for. Twice or late changes nothing: the order looks itself."""

    order_key: OrderKey
    order_id: UUID
    reference: Reference
    at: Instant
