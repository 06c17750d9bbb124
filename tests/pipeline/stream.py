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

from agents.messages import Binding, Message, Outcome, Rejection
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
from tests.final_tables import FINAL_TABLES, final_tables

__all__ = ["FINAL_TABLES", "STORES", "Stream", "final_tables"]

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
        self._publish(outcome)

    def _publish(self, outcome: Outcome) -> None:
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
