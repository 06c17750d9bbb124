"""Doubles of the broker's side of the loop: a log, a feed and a publisher, all in memory."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from connectors.delivery import OutboxRow, Position, RawRecord, RecordBatch
from connectors.errors import Transient


@dataclass(frozen=True)
class Raw:
    """One record of the log."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass
class MemoryLog:
    """See `connectors.delivery.Log`."""

    boot: str = "boot-1"
    ends: dict[tuple[str, int], int] = field(default_factory=dict)

    async def cluster_id(self) -> str:
        return self.boot

    async def incarnation(self, topic: str) -> str:
        return f"{self.boot}/{topic}"

    async def end_offset(self, topic: str, partition: int) -> int:
        return self.ends.get((topic, partition), 1_000_000)


@dataclass
class MemoryFeed:
    """See `connectors.delivery.Feed`."""

    begun: list[int] = field(default_factory=list)
    completed: list[int] = field(default_factory=list)  # last offsets

    async def begin(self, topic: str, partition: int, offset: int) -> int:
        self.begun.append(offset)
        return len(self.begun)

    def complete(self, batch: RecordBatch) -> None:
        self.completed.append(batch.last_offset)

    def batch(self, topic: str, records: Sequence[RawRecord]) -> RecordBatch:
        return RecordBatch(topic, 0, len(self.begun), records)


@dataclass
class MemoryPublisher:
    """See `connectors.delivery.Publisher`; `away` times it does not take anything. `gate`: hold before sending."""

    sent: list[OutboxRow] = field(default_factory=list)
    away: int = 0
    gate: asyncio.Event | None = None
    waiting: bool = False

    async def publish(self, rows: Sequence[OutboxRow]) -> list[Position]:
        if self.gate is not None:
            self.waiting = True
            await self.gate.wait()
        if self.away:
            self.away -= 1
            raise Transient("away")
        first = len(self.sent)
        self.sent.extend(rows)
        return [Position(0, first + index) for index in range(len(rows))]
