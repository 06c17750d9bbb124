"""What is shown of orders' promises and alerts: whole to supervisors, and as a department may see it.

To a department, what the centre's people say and how they are called is not shown: it may tell of incidents.
"""

from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field

from schemas.alert import Alert, AlertEvent, AlertEventKind, AlertState, Level
from schemas.base import AreaNumber, Code, Instant, Record, Sentence, ShortText, Version
from schemas.promise import LineKind, PromiseLine, Promises
from schemas.response import Priority
from schemas.sla import BudgetText
from schemas.work_order import ClockName, Reference, Work, WorkOrder

CENTRE: Final = "the coordination centre"
"""What departments are shown instead of the name of anybody there."""


class WholeWorkOrder(WorkOrder):
    """Everything of an order, with what its promises stand at. Restricted."""

    next_due_at: Instant | None  # the first due time of its clocks that run
    promises: Promises | None  # None: nothing was promised of it yet


class AlertLine(Record):
    """One line of an alert's history. `state`, `until` and `handed_to` are the alert's afterwards."""

    alert_id: UUID
    clock: ClockName | Literal["order"]
    cycle: Annotated[int, Field(ge=1)]
    rung: Code
    level: Level
    seq: Version
    kind: AlertEventKind
    at: Instant
    because: Sentence | None  # None: words of or about the centre's people, for a department
    by: ShortText | None
    state: AlertState
    until: Instant | None
    handed_to: Code | None


class DepartmentAlert(Record):
    """What a department sees of an alert about an order of its own."""

    alert_id: UUID
    reference: Reference
    department: Code
    category: Code
    work: Work
    priority: Priority
    title: ShortText
    address: ShortText | None
    area: AreaNumber | None
    clock: ClockName | Literal["order"]
    cycle: Annotated[int, Field(ge=1)]
    rung: Code
    level: Level
    breach: bool
    at: Instant
    due_at: Instant | None
    fired_at: Instant
    late: bool
    because: Sentence
    state: AlertState
    acknowledged_by: ShortText | None
    until: Instant | None
    handed_to: Code | None
    simulated: bool


class DepartmentAlertEvent(Record):
    """What a department is told of what happened to such an alert."""

    alert: DepartmentAlert
    seq: Version
    kind: AlertEventKind
    at: Instant
    because: Sentence | None
    by: ShortText | None


class DepartmentTerms(Record):
    """What was promised, as a department may know it."""

    clock: ClockName
    budget: BudgetText


class DepartmentPromiseLine(Record):
    """What our side did to the promises of a department's order. `at` is when we did it, never what it was done for."""

    kind: LineKind
    at: Instant
    priority: Priority
    clocks: tuple[DepartmentTerms, ...]


class AlertRemark(Record):
    """What somebody says who acknowledges an alert, or takes that back."""

    by: ShortText | None = None  # their name; None: who the key or the token is
    text: Sentence | None = None


class AlertSnooze(AlertRemark):
    """Until when an alert is put off."""

    until: Instant


class AlertHandOver(AlertRemark):
    """Who is to look after it: a person or a role of the policy."""

    to: Code


def signature(department: str, by: str) -> str:
    """How somebody of a department signs what they do about an alert."""
    return f"{department}: {by}"[:200]


def line_of(event: AlertEvent) -> AlertLine:
    """The event without the whole alert."""
    of_alert = event.alert.model_dump(include={*AlertLine.model_fields} - {"because", "at"})
    return AlertLine(
        **of_alert, seq=event.seq, kind=event.kind, at=event.at, because=event.because, by=event.by
    )


def department_line(event: AlertEvent, department: str) -> AlertLine:
    """The same as a department may read it."""
    return line_of(event).model_copy(update=_seen(event, department))


def department_alert(alert: Alert, department: str) -> DepartmentAlert:
    """The alert as a department may read it."""
    shown = alert.model_dump(include={*DepartmentAlert.model_fields})
    return DepartmentAlert(**shown | {"acknowledged_by": _name(alert.acknowledged_by, department)})


def department_event(event: AlertEvent, department: str) -> DepartmentAlertEvent:
    """What happened, as a department may read it."""
    return DepartmentAlertEvent(
        alert=department_alert(event.alert, department), seq=event.seq, kind=event.kind, at=event.at,
        **_seen(event, department),
    )  # fmt: skip


def department_promise_line(line: PromiseLine) -> DepartmentPromiseLine:
    """A line of an order's promises as its department may read it."""
    terms = tuple(DepartmentTerms(clock=one.clock, budget=one.budget) for one in line.clocks)
    return DepartmentPromiseLine(kind=line.kind, at=line.handled_at, priority=line.priority, clocks=terms)


def _seen(event: AlertEvent, department: str) -> dict[str, str | None]:
    by = _name(event.by, department)
    named = event.kind == "unacknowledged"  # its words say who had acknowledged it
    return {"because": None if by == CENTRE or named else event.because, "by": by}


def _name(by: str | None, department: str) -> str | None:
    own = by is None or by.startswith(signature(department, ""))
    return by if own else CENTRE
