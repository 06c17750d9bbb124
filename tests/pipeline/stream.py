"""The topology without a broker: queues in memory, the real agents, the real database.

Claims nothing about delivery (that is `tests/delivery`): it serves to feed the same reports in any order and
any batch size, and to compare what comes out.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from agents.messages import Binding, Message, Rejection
from agents.topology import Stores, topology
from connectors.ports import Geography
from connectors.postgres.dispatch import PostgresDispatch
from connectors.postgres.intake import PostgresIntake
from connectors.postgres.orders import PostgresOrders
from connectors.postgres.triage import PostgresTriage
from schemas.base import Record
from schemas.envelope import Event
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.policy import Policy
from schemas.topics import INCIDENT_REPORTS, ISSUE_REPORTS

STORES = Stores(PostgresIntake, PostgresTriage, PostgresDispatch, PostgresOrders)
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class Stream:
    """Reports in, tables and events out. `order`: which waiting topic is served next."""

    connection: Any
    policy: Policy
    geography: Geography
    batch: int = 500
    order: Random = field(default_factory=lambda: Random(0))
    events: list[Event] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)

    def __post_init__(self) -> None:
        bindings = topology(self.policy, self.geography, STORES, lambda: NOW)
        self._bindings: dict[str, Binding] = {binding.topic.name: binding for binding in bindings}
        self._waiting: dict[str, deque[Message]] = defaultdict(deque)

    async def feed(self, reports: Sequence[IncidentReport | IssueReport]) -> None:
        """Put reports on their topics and let the stream run until nothing waits."""
        for report in reports:
            topic = INCIDENT_REPORTS if isinstance(report, IncidentReport) else ISSUE_REPORTS
            self._put(topic.name, report.key, report.model_dump_json().encode(), report)
        await self.drain()

    async def drain(self) -> None:
        """Serve the waiting topics, a batch at a time, in a random order."""
        while topics := sorted(name for name, queue in self._waiting.items() if queue):
            await self._serve(self.order.choice(topics))

    async def _serve(self, topic: str) -> None:
        queue = self._waiting[topic]
        messages = [queue.popleft() for _ in range(min(self.batch, len(queue)))]
        async with self.connection.transaction():
            outcome = await self._bindings[topic].handle(self.connection, messages)
        self.rejections += outcome.rejections
        self.events += outcome.events
        for event in outcome.events:
            if event.topic in self._bindings:
                self._put(event.topic, event.key, event.value, None)

    def _put(self, topic: str, key: str, value: bytes, body: Record | None) -> None:
        binding = self._bindings[topic]
        if body is None and binding.reads == "body":
            body = binding.topic.schema.model_validate_json(value)
        self._waiting[topic].append(
            Message(topic, 0, len(self.events), key, body, None, None, key.encode(), value)
        )


FINAL_TABLES = {
    "incident_reports": "source, report_id, revised_at, digest, incident_id, body",
    "issue_reports": "source, request_number, revised_at, digest, issue_id, parent_id, body",
    "incidents": "incident_id, number, version, validity, kind, occurred_at, cells, body",
    "issues": "issue_id, source, request_number, version, status, category, folded_into, created_at, cells,"
    " body",
    "responses": "response_id, incident_id, version, status, tier, area, priority, severity, opens_at,"
    " ends_at, cells, body",
    "order_causes": "order_key, cause_id, version, incident_id, issue_id, standing, body",
    "work_orders": "order_id, order_key, reference, version, state, category, work, department, area,"
    " priority, opened_at, body",
    "standing_decisions": "stage, subject, version, rule, because, policy_version, inputs, output",
}
"""Every column of every table but the wall-clock ones (`recorded_at`, `last_seen`)."""


async def final_tables(connection: Any) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of every table, sorted, without wall-clock columns."""
    return {
        table: [tuple(row) for row in await connection.fetch(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3, 4")]
        for table, columns in FINAL_TABLES.items()
    }
