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
from connectors.postgres.response_life import PostgresLife
from connectors.postgres.together import together
from connectors.postgres.triage import PostgresTriage
from schemas.alert import AlertCommand
from schemas.base import Record
from schemas.codec import Decoded, decode, encode
from schemas.envelope import Event
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.policy import Policy
from schemas.promise import Nudge
from schemas.topics import (
    INCIDENT_REPORTS,
    ISSUE_REPORTS,
    RESPONSE_LOOKS,
    WORK_ORDER_COMMANDS,
    results_topic,
    updates_topic,
)
from schemas.work_order_update import UpdateResult, WorkOrderUpdate
from tests.final_tables import FINAL_TABLES, final_tables

__all__ = ["FINAL_TABLES", "STORES", "Stream", "final_tables"]

STORES = Stores(PostgresIntake, PostgresTriage, PostgresDispatch, PostgresOrders, PostgresLife)
NOW = datetime(2026, 11, 1, tzinfo=UTC)

_NEXT_TIMER = "SELECT * FROM timers WHERE due_at <= $1 ORDER BY due_at, subject_id LIMIT 1"


@dataclass
class Stream:
    """Reports in, tables and events out. `order`: which waiting topic is served next."""

    connection: Any
    policy: Policy
    geography: Geography
    batch: int = 500
    order: Random = field(default_factory=lambda: Random(0))
    now: datetime = NOW
    events: list[Event] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)

    def __post_init__(self) -> None:
        bindings = topology(self.policy, self.geography, STORES, lambda: self.now)
        self._bindings: dict[str, Binding] = {binding.topic.name: binding for binding in bindings}
        self._waiting: dict[str, deque[Message]] = defaultdict(deque)

    async def say(self, department: str, *updates: WorkOrderUpdate) -> list[UpdateResult]:
        """Let a department speak, and the stream run; the answers that it gets."""
        before, topic = len(self.events), updates_topic(department)
        for update in updates:
            self._put(topic.name, update.reference, update.model_dump_json().encode(), update)
        await self.drain()
        answers = results_topic(department).name
        return [UpdateResult.model_validate_json(e.value) for e in self.events[before:] if e.topic == answers]

    async def send(self, department: str, value: bytes) -> None:
        """Let a department send bytes, which say which update they are and otherwise may be none."""
        topic = updates_topic(department)
        decoded = decode(topic, b"key", value, [])
        assert isinstance(decoded, Decoded)
        self._put(topic.name, decoded.key, decoded.value, decoded.body)
        await self.drain()

    async def wait(self, until: datetime) -> None:
        """Let time pass: nudge whatever is due on the way, when it is due, as the timers do."""
        while True:
            row = await self.connection.fetchrow(_NEXT_TIMER, until)
            if row is None:
                break
            self.now = max(self.now, row["due_at"])
            await self.nudge(row, row["due_at"])
        self.now = max(self.now, until)

    async def nudge(self, timer: Any, at: datetime) -> None:
        """Nudge the order, or the response, of a timer's row."""
        key = timer["key"]
        if timer["kind"] == "response":
            await self.look(key)
            return
        nudge = Nudge(order_key=key, order_id=timer["subject_id"], reference=timer["reference"], at=at)
        self._put(WORK_ORDER_COMMANDS.name, key, encode(nudge), nudge)
        await self.drain()

    async def look(self, incident_id: str) -> None:
        """Have the life of a response looked at."""
        self._put(RESPONSE_LOOKS.name, incident_id, b"{}", None)
        await self.drain()

    async def do(self, command: AlertCommand) -> None:
        """Let a person do something about an alert."""
        self._put(WORK_ORDER_COMMANDS.name, command.order_key, encode(command), command)
        await self.drain()

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
        async with self.connection.transaction(), together(self.connection) as held:
            outcome = await self._bindings[topic].handle(held, messages)
        self._publish(outcome)

    def _publish(self, outcome: Outcome) -> None:
        self.rejections += outcome.rejections
        self.events += outcome.events
        for event in outcome.events:
            if event.topic in self._bindings:
                schema = self._bindings[event.topic].topic.schema_of(event.type)
                assert schema is not None
                self._put(event.topic, event.key, event.value, None, schema)

    def _put(
        self, topic: str, key: str, value: bytes, body: Record | None, schema: type[Record] = Record
    ) -> None:
        if body is None and self._bindings[topic].reads == "body":
            body = schema.model_validate_json(value)
        self._waiting[topic].append(
            Message(topic, 0, len(self.events), key, body, None, None, key.encode(), value)
        )
