"""Pure: who is told what when an order changes, on Kafka and in the feed."""

from typing import Final, NamedTuple

from agents.orders.decide import final_outcome
from agents.orders.site import Answered, Turn
from connectors.ports import KnownOrder, Told
from schemas.alert import AlertEvent
from schemas.codec import encode
from schemas.envelope import Event
from schemas.policy import Policy
from schemas.topics import (
    ORDER_LINK_TYPE,
    SERVICE_REQUEST_NEWS,
    SLA_ALERTS,
    UPDATE_RESULTS,
    WORK_ORDER_COMMANDS,
    WORK_ORDERS,
    department_topic,
    results_topic,
)
from schemas.views import department_event
from schemas.work_order import DepartmentWorkOrder, Outcome, WorkOrder
from schemas.work_order_update import Link, LinkKind, ServiceRequestNews

Tellings = tuple[list[Event], list[Told]]

SUPERVISORS: Final = ""


class Word(NamedTuple):
    """Something that an order has to say to another one."""

    to: str  # its reference
    kind: LinkKind
    speaker: WorkOrder


def turn_events(turn: Turn, policy: Policy) -> Tellings:
    """The order's new snapshot, what its departments are told, the word to other orders, the 311 requests."""
    order = turn.after.order
    key = str(order.order_id)
    body = turn.decision.output.encode()
    events = [Event(WORK_ORDERS.name, key, body, WORK_ORDERS.type, key, order.version)]
    told = [Told(SUPERVISORS, "work-order", order.reference, order.version, None)]
    for tell in (_department_events, _request_events):
        more, news = tell(turn, policy)
        events += more
        told += news
    return events, told


def _department_events(turn: Turn, _: Policy) -> Tellings:
    before, (order, told, body) = turn.before, turn.after
    if body is None or (before is not None and before.told == told):
        return [], []
    views = [(order.department, body)]
    if before is not None and before.department_body and before.order.department != order.department:
        views.insert(0, (before.order.department, _last_view(before, order, told)))
    return (
        [_department_event(department, order.reference, told, view) for department, view in views],
        [Told(department, "work-order", order.reference, told, view) for department, view in views],
    )


def _last_view(before: KnownOrder, order: WorkOrder, told: int) -> str:
    """What a department reads of an order that is another's now."""
    assert before.department_body is not None
    seen = DepartmentWorkOrder.model_validate_json(before.department_body)
    state = "rejected" if before.order.department in order.rejected_by else "cancelled"
    return seen.model_copy(update={"state": state, "version": told}).model_dump_json()


def _department_event(department: str, reference: str, number: int, body: str) -> Event:
    topic = department_topic(department)
    return Event(topic.name, reference, body.encode(), topic.type, reference, number)


def _request_events(turn: Turn, _: Policy) -> Tellings:
    """News of the 311 requests that the order covers: closed with it, open again with it. Their version counts
    what was said of the order: the order's own counts causes too, and would tell of them."""
    before = _standing_of_requests(turn.before.order if turn.before else None)
    after = _standing_of_requests(turn.after.order)
    news = [
        ServiceRequestNews(
            request_number=number, reference=turn.after.order.reference,
            status="closed" if outcome else "open", outcome=outcome, version=turn.after.order.updates,
        )
        for number, outcome in after.items()
        if outcome != before.get(number)
    ]  # fmt: skip
    department = turn.after.order.department
    return (
        [
            Event(
                SERVICE_REQUEST_NEWS.name, one.request_number, encode(one), SERVICE_REQUEST_NEWS.type,
                one.reference, one.version,
            )
            for one in news
        ],
        [
            Told(audience, "service-request-news", one.request_number, one.version, one.model_dump_json())
            for one in news
            for audience in (department, SUPERVISORS)
        ],
    )  # fmt: skip


def _standing_of_requests(order: WorkOrder | None) -> dict[str, Outcome | None]:
    """The outcome with which each request is closed; None: it is open."""
    return dict.fromkeys(order.covers, final_outcome(order)) if order else {}


def words_to_others(turn: Turn) -> list[Word]:
    """What is said to the original that this order names, and to the duplicates that name this order."""
    order, before = turn.after.order, turn.before.order if turn.before else None
    words = []
    if order.duplicate_of and order.duplicate_of != (before.duplicate_of if before else None):
        words.append(Word(order.duplicate_of, "is_duplicate", order))
    kind, outcome = _as_original(order)
    was = _as_original(before) if before else ("original_reopened", None)
    told = before.duplicates if before and was == (kind, outcome) else ()
    if was != (kind, outcome) or kind != "original_reopened":
        words += [Word(other, kind, order) for other in order.duplicates if other not in told]
    return words


def _as_original(order: WorkOrder) -> tuple[LinkKind, Outcome | None]:
    """How an order stands, to its duplicates; one that is open is as one that is open again."""
    outcome = final_outcome(order)
    if outcome:
        return "original_resolved", outcome
    return "original_cancelled" if order.state in ("cancelled", "void") else "original_reopened", None


def link_event(word: Word, order_key: str) -> Event:
    """The word on its way; `order_key`: the addressee's."""
    order = word.speaker
    outcome = final_outcome(order) if word.kind == "original_resolved" else None
    link = Link(
        order_key=order_key, reference=word.to, kind=word.kind, other=order.reference, version=order.version,
        outcome=outcome,
        at=order.resolved_at or order.opened_at,
    )  # fmt: skip
    subject = f"{word.kind}:{order.reference}:{word.to}"
    return Event(WORK_ORDER_COMMANDS.name, order_key, encode(link), ORDER_LINK_TYPE, subject, order.version)


def answer_events(answer: Answered) -> Tellings:
    """An answer to its sender, and to those who watch."""
    reference = answer.result.reference
    topics = (UPDATE_RESULTS, results_topic(answer.department))
    subject = f"{answer.department}:{answer.result.update_id}"
    return (
        [
            Event(topic.name, reference, answer.body.encode(), topic.type, subject, answer.number)
            for topic in topics
        ],
        [Told(answer.department, "update-result", reference, answer.number, answer.body)],
    )


def alert_events(event: AlertEvent) -> Tellings:
    """What happened to an alert, to those who watch it and to the department whose order it is about."""
    alert, body = event.alert, encode(event)
    subject, department = str(alert.alert_id), alert.department
    theirs = department_event(event, department).model_dump_json()
    return (
        [Event(SLA_ALERTS.name, str(alert.order_id), body, SLA_ALERTS.type, subject, event.seq)],
        [
            Told(SUPERVISORS, "alert", subject, event.seq, body.decode()),
            Told(department, "alert", subject, event.seq, theirs),
        ],
    )
