"""Every topic, once. Nothing else may name a topic."""

from dataclasses import dataclass
from typing import Final, Literal

from schemas.base import Record
from schemas.dead_letter import DeadLetter
from schemas.incident import Incident, IncidentReport
from schemas.issue import Issue, IssueReport
from schemas.response import Response, TriageDecision
from schemas.work_order import DepartmentWorkOrder, WorkOrder, WorkOrderCommand

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
    schema: type[Record]
    type: str  # CloudEvents type of its records
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    access: Literal["public", "internal", "restricted", "department"]
    partitions: int = 4
    retention_ms: int = 7 * DAY_MS
    compacted: bool = False


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
WORK_ORDER_COMMANDS: Final = Topic(
    "work-order-commands", "category, work and site", WorkOrderCommand, "rapid.work-order-command.v1",
    writers=("dispatch",), readers=("orders",), access="internal",
)  # fmt: skip
WORK_ORDERS: Final = Topic(
    "work-orders", "order id", WorkOrder, "rapid.work-order.v1",
    writers=("orders",), readers=(), access="restricted", compacted=True,
)  # fmt: skip
DEAD_LETTERS: Final = Topic(
    "dead-letters", "topic of origin", DeadLetter, "rapid.dead-letter.v1",
    writers=("runner",), readers=(), access="restricted", retention_ms=30 * DAY_MS,
)  # fmt: skip

SHARED: Final = (
    INCIDENT_REPORTS, ISSUE_REPORTS, INCIDENTS, ISSUES, TRIAGE_DECISIONS, RESPONSE_COMMANDS,
    RESPONSES, WORK_ORDER_COMMANDS, WORK_ORDERS, DEAD_LETTERS,
)  # fmt: skip

READ_BY_US: Final = tuple(topic.name for topic in SHARED if topic.readers)
"""The topics that our agents read. With a broker that keeps nothing, their outbox rows wait for the reader."""


def department_topic(department: str) -> Topic:
    """The topic on which one department receives its orders: its own schema, nothing else."""
    return Topic(
        f"work-orders.{department}", "order reference", DepartmentWorkOrder,
        "rapid.department-work-order.v1",
        writers=("orders",), readers=(f"department {department}",), access="department",
    )  # fmt: skip


def all_topics(departments: tuple[str, ...]) -> tuple[Topic, ...]:
    """Every topic of an installation with these departments."""
    return SHARED + tuple(department_topic(code) for code in sorted(departments))
