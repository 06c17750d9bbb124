"""The in-memory stream served by several workers at once, each with a connection of its own."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import asyncpg

from schemas.base import Record
from tests.pipeline.stream import Stream

PARTITIONS = 2


@dataclass
class Workers(Stream):
    """Records of one key stay in order, as in Kafka; everything else interleaves as it likes."""

    more_connections: Sequence[Any] = ()
    _taken: set[str] = field(default_factory=set)

    async def drain(self) -> None:
        connections = [self.connection, *self.more_connections]
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(self._work(connection))

    async def _work(self, connection: Any) -> None:
        while self._taken or any(self._waiting.values()):
            free = sorted(name for name, queue in self._waiting.items() if queue and name not in self._taken)
            if free:
                await self._take(connection, self.order.choice(free))
            else:
                await asyncio.sleep(0)  # another worker's transaction may put something on a topic

    async def _take(self, connection: Any, name: str) -> None:
        self._taken.add(name)
        try:
            await self._serve_partition(connection, name)
        finally:
            self._taken.remove(name)

    async def _serve_partition(self, connection: Any, name: str) -> None:
        queue, binding = self._waiting[name], self._bindings[name.partition("#")[0]]
        messages = [queue.popleft() for _ in range(min(self.batch, len(queue)))]
        while True:  # as the loop does with what is transient
            try:
                async with connection.transaction():
                    outcome = await binding.handle(connection, messages)
                break
            except asyncpg.DeadlockDetectedError:
                continue
        self._publish(outcome)

    def _put(
        self, topic: str, key: str, value: bytes, body: Record | None, schema: type[Record] = Record
    ) -> None:
        super()._put(topic, key, value, body, schema)
        message = self._waiting[topic].pop()
        self._waiting[f"{topic}#{crc32(key.encode()) % PARTITIONS}"].append(message)
