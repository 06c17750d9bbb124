"""Every topic, once. Nothing else may name a topic."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from schemas.alert import AlertCommand, AlertEvent
from schemas.base import Record
from schemas.dead_letter import DeadLetter, Unreadable
from schemas.incident import Incident, IncidentReport
from schemas.issue import Issue, IssueReport
from schemas.promise import Nudge
from schemas.response import Response, TriageDecision
from schemas.response_life import LifeLine, Look
from schemas.work_order import DepartmentWorkOrder, WorkOrder, WorkOrderCommand
from schemas.work_order_update import (
    Link,
    ServiceRequestNews,
    UnreadableUpdate,
    UpdateCommand,
    UpdateResult,
    WorkOrderUpdate,
)

Schema: TypeAlias = type[Record]
Answerable: TypeAlias = type[Unreadable]
DAY_MS: Final = 86_400_000
CONSUMER: Final = "rapid"
"""The consumer group of the workers; fences and outbox rows carry it too."""


class Recount(Record):
    """A command to triage an incident again: something that its severity counts has changed."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `access`: public (others may produce), internal (only we read), restricted, department."""

    name: str
    key: str
    schema: Schema
    type: str  # CloudEvents type of its records
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    access: Literal["public", "internal", "restricted", "department"]
    partitions: int = 4
    retention_ms: int = 7 * DAY_MS
    compacted: bool = False
    also: tuple[tuple[str, Schema], ...] = ()  # other records on it, by their CloudEvents type
    unreadable: Answerable | None = None  # as which a record that cannot be used is handed on, to answer it

    def schema_of(self, sent_type: str | None) -> Schema | None:
        """The schema of a record with this `ce_type`; without one, the topic's first. None: not of this topic."""
        if sent_type is None or sent_type == self.type:
            return self.schema
        return dict(self.also).get(sent_type)


INCIDENT_REPORTS: Final = Topic(
    "incident-reports", "source:case number", IncidentReport, "rapid.incident-report.v1",
    writers=("sources",), readers=("intake",), access="public",
)  # fmt: skip
ISSUE_REPORTS: Final = Topic(
    "issue-reports", "source:request number", IssueReport, "rapid.issue-report.v1",
    writers=("sources",), readers=("intake",), access="public",
)  # fmt: skip
INCIDENTS: Final = Topic(
    "incidents", "incident id", Incident, "rapid.incident.v1",
    writers=("intake",), readers=("triage",), access="restricted",
)  # fmt: skip
ISSUES: Final = Topic(
    "issues", "issue id", Issue, "rapid.issue.v1",
    writers=("intake",), readers=("dispatch",), access="restricted",
)  # fmt: skip
TRIAGE_DECISIONS: Final = Topic(
    "triage-decisions", "incident id", TriageDecision, "rapid.triage-decision.v1",
    writers=("triage",), readers=(), access="restricted",
)  # fmt: skip
RESPONSE_COMMANDS: Final = Topic(
    "response-commands", "incident id", Recount, "rapid.response-command.v1",
    writers=("triage", "dispatch"), readers=("triage",), access="internal",
)  # fmt: skip
RESPONSES: Final = Topic(
    "responses", "incident id", Response, "rapid.response.v1",
    writers=("triage",), readers=("dispatch",), access="restricted", compacted=True,
)  # fmt: skip
RESPONSE_LOOKS: Final = Topic(
    "response-looks", "incident id", Look, "rapid.response-look.v1",
    writers=("dispatch", "orders", "timers"), readers=("responses",), access="internal",
)  # fmt: skip
RESPONSE_LIFE: Final = Topic(
    "response-life", "incident id", LifeLine, "rapid.response-life.v1",
    writers=("responses",), readers=(), access="restricted",
)  # fmt: skip
WORK_ORDER_COMMANDS: Final = Topic(
    "work-order-commands", "category, work and site", WorkOrderCommand, "rapid.work-order-command.v1",
    writers=("dispatch", "intake", "orders", "timers", "API"), readers=("orders",), access="internal",
    also=(
        ("rapid.update-command.v1", UpdateCommand), ("rapid.order-link.v1", Link), ("rapid.nudge.v1", Nudge),
        ("rapid.alert-command.v1", AlertCommand),
    ),
)  # fmt: skip
UPDATES_PREFIX: Final = "work-order-updates."
UPDATE_COMMAND_TYPE: Final = "rapid.update-command.v1"
ORDER_LINK_TYPE: Final = "rapid.order-link.v1"
NUDGE_TYPE: Final = "rapid.nudge.v1"
ALERT_COMMAND_TYPE: Final = "rapid.alert-command.v1"
WORK_ORDERS: Final = Topic(
    "work-orders", "order id", WorkOrder, "rapid.work-order.v1",
    writers=("orders",), readers=(), access="restricted", compacted=True,
)  # fmt: skip
UPDATE_RESULTS: Final = Topic(
    "work-order-update-results", "order reference", UpdateResult, "rapid.work-order-update-result.v1",
    writers=("orders",), readers=(), access="restricted",
)  # fmt: skip
SERVICE_REQUEST_NEWS: Final = Topic(
    "service-request-news", "request number", ServiceRequestNews, "rapid.service-request-news.v1",
    writers=("orders",), readers=(), access="restricted",
)  # fmt: skip
SLA_ALERTS: Final = Topic(
    "sla-alerts", "order id", AlertEvent, "rapid.sla-alert.v1",
    writers=("orders",), readers=(), access="restricted",
)  # fmt: skip
DEAD_LETTERS: Final = Topic(
    "dead-letters", "topic of origin", DeadLetter, "rapid.dead-letter.v1",
    writers=("runner",), readers=(), access="restricted", retention_ms=30 * DAY_MS,
)  # fmt: skip

SHARED: Final = (
    INCIDENT_REPORTS, ISSUE_REPORTS, INCIDENTS, ISSUES, TRIAGE_DECISIONS, RESPONSE_COMMANDS,
    RESPONSES, RESPONSE_LOOKS, RESPONSE_LIFE, WORK_ORDER_COMMANDS, WORK_ORDERS, UPDATE_RESULTS,
    SERVICE_REQUEST_NEWS, SLA_ALERTS, DEAD_LETTERS,
)  # fmt: skip


def department_topic(department: str) -> Topic:
    """The topic on which one department receives its orders: its own schema, nothing else."""
    return Topic(
        f"work-orders.{department}", "order reference", DepartmentWorkOrder,
        "rapid.department-work-order.v1",
        writers=("orders",), readers=(f"department {department}",), access="department",
    )  # fmt: skip


def updates_topic(department: str) -> Topic:
    """The topic on which one department answers. Its name is what says who wrote a record: keep it by ACL."""
    return Topic(
        UPDATES_PREFIX + department, "order reference", WorkOrderUpdate, "rapid.work-order-update.v1",
        writers=(f"department {department}", "API"), readers=("intake",), access="department",
        unreadable=UnreadableUpdate,
    )  # fmt: skip


def results_topic(department: str) -> Topic:
    """The answers to one department's updates, which the shared topic of results has as well."""
    return Topic(
        f"{UPDATE_RESULTS.name}.{department}", UPDATE_RESULTS.key, UPDATE_RESULTS.schema, UPDATE_RESULTS.type,
        writers=("orders",), readers=(f"department {department}",), access="department",
    )  # fmt: skip


def department_topics(department: str) -> tuple[Topic, Topic, Topic]:
    """What one department reads, writes, and reads in answer."""
    return department_topic(department), updates_topic(department), results_topic(department)


def all_topics(departments: Iterable[str]) -> tuple[Topic, ...]:
    """Every topic of an installation with these departments."""
    return SHARED + tuple(topic for code in sorted(departments) for topic in department_topics(code))


READ_BY_US: Final = tuple(topic.name for topic in SHARED if topic.readers)
"""The shared topics that our agents read; beside them, each department's updates."""


def read_by_us(departments: Iterable[str]) -> frozenset[str]:
    """All topics that our agents read. With a broker that keeps nothing, their outbox rows wait for the reader."""
    return frozenset(READ_BY_US) | {updates_topic(code).name for code in departments}


def is_read_by_us(topic: str) -> bool:
    """Whether our agents read the topic of this name."""
    return topic in READ_BY_US or topic.startswith(UPDATES_PREFIX)
