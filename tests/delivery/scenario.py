"""Workers as real processes, load, seeded faults, and everything that can be seen of them from outside."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from connectors.delivery import OutboxRow
from connectors.errors import Transient
from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.publisher import KafkaPublisher
from infra.kafka.local import LocalKafka
from schemas.codec import encode
from schemas.topics import DEAD_LETTERS
from tests.delivery.checker import Sample, Seen
from tests.delivery.toy import PARTITIONS, ToyIn, topic_in, topic_out
from tests.delivery.worker import SESSION_TIMEOUT_S

KEYS = 60
CATCH_UP_S = 90.0
READY_S = 15.0


@dataclass
class Worker:
    """A worker process; like a supervisor, `alive` starts it again when it ended by itself."""

    command: list[str]
    environment: dict[str, str]
    log: Path
    exit_codes: Counter[int] = field(default_factory=Counter)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> None:
        self.starts = self._times_ready() + 1
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )

    def alive(self) -> None:
        if self.process is None or self.process.poll() is not None:
            if self.process is not None:
                self.exit_codes[self.process.returncode] += 1
            self.start()

    def ready(self) -> bool:
        """Whether it has come up since it was last started: before that, a fault would hit the interpreter."""
        running = self.process is not None and self.process.poll() is None
        return running and self._times_ready() >= self.starts

    def _times_ready(self) -> int:
        return self.log.read_bytes().count(b"worker ready") if self.log.exists() else 0

    def send(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    async def ended(self, timeout_s: float) -> int | None:
        """The exit code, None when it is still there."""
        process = self.process
        assert process is not None
        await until(lambda: process.poll() is not None, timeout_s)
        return process.poll()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@dataclass
class Scenario:
    """One database, one pair of topics, some workers."""

    kafka: LocalKafka
    dsn: str
    name: str
    folder: Path
    connection: asyncpg.Connection
    workers: list[Worker] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    produced: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def input(self) -> str:
        return topic_in(self.name).name

    def add_worker(self, **environment: str) -> Worker:
        command = [sys.executable, "-m", "tests.delivery.worker", self.kafka.address, self.dsn, self.name]
        log = self.folder / f"worker-{len(self.workers)}.log"
        worker = Worker(command, {**os.environ, **environment}, log)
        worker.start()
        self.workers.append(worker)
        return worker

    # -- load

    async def produce(self, rate_per_s: float, stop: asyncio.Event) -> None:
        """Records whose number counts up per key, again and again the same until the broker has them."""
        publisher = KafkaPublisher([self.kafka.address])
        interval_s = 0.1
        while not stop.is_set():
            rows = [self._row() for _ in range(max(1, int(rate_per_s * interval_s)))]
            while True:
                with contextlib.suppress(Transient):
                    await publisher.publish(rows)
                    break
            await asyncio.sleep(interval_s)
        await publisher.stop()

    def _row(self) -> OutboxRow:
        self.produced += 1
        key = f"key-{self.produced % KEYS}"
        return OutboxRow(0, self.input, key.encode(), encode(ToyIn(number=self.produced)), [])

    # -- what is seen

    async def sample(self, stop: asyncio.Event, interval_s: float = 0.2) -> None:
        """Committed offsets first, then the fences: a fence only moves forward, so no race looks like a fault."""
        async with self._consumer(group_id=self.name) as consumer:
            while not stop.is_set():
                with contextlib.suppress(KafkaError, asyncio.TimeoutError):
                    committed = await asyncio.wait_for(self._committed(consumer), 2.0)
                    fences = await self.fences()
                    self.samples += [Sample(p, at, fences.get(p, 0)) for p, at in committed.items()]
                await asyncio.sleep(interval_s)

    async def _committed(self, consumer: AIOKafkaConsumer) -> dict[int, int]:
        places = [TopicPartition(self.input, partition) for partition in range(PARTITIONS)]
        return {place.partition: await consumer.committed(place) or 0 for place in places}

    async def fences(self) -> dict[int, int]:
        connection = await asyncpg.connect(self.dsn)
        try:
            rows = await connection.fetch(
                "SELECT partition, next_offset FROM fences WHERE consumer = $1", self.name
            )
        finally:
            await connection.close()
        return {row["partition"]: row["next_offset"] for row in rows}

    async def ends(self) -> dict[int, int]:
        admin = KafkaAdmin([self.kafka.address])
        return {partition: await admin.end_offset(self.input, partition) for partition in range(PARTITIONS)}

    async def caught_up(self, timeout_s: float = CATCH_UP_S) -> None:
        """Until every fence is at the end of its partition and nothing waits in the outbox."""
        ends = {partition: end for partition, end in (await self.ends()).items() if end}
        deadline = time.monotonic() + timeout_s
        while True:
            for worker in self.workers:
                worker.alive()
            waiting = await self.connection.fetchval("SELECT count(*) FROM outbox")
            fences = await self.fences()
            if waiting == 0 and all(fences.get(partition, 0) >= end for partition, end in ends.items()):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"not caught up: ends {ends}, fences {fences}, {waiting} in the outbox")
            await asyncio.sleep(0.2)

    async def applied(self) -> list[Seen]:
        rows = await self.connection.fetch('SELECT partition, "offset", key, number FROM toy ORDER BY n')
        return [Seen(*row) for row in rows]

    async def read(self, topic: str) -> list[Seen]:
        """A whole topic, partition by partition."""
        async with self._consumer() as consumer:
            await consumer._client.add_topic(topic)
            numbers = sorted(consumer.partitions_for_topic(topic) or ())
            places = [TopicPartition(topic, number) for number in numbers]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            return [seen for place in places for seen in await _read_partition(consumer, place, ends[place])]

    @asynccontextmanager
    async def _consumer(self, group_id: str | None = None) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.kafka.address, group_id=group_id, enable_auto_commit=False
        )
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()

    # -- faults

    async def inflict(self, chance: random.Random, kinds: list[str], pause_s: tuple[float, float]) -> None:
        """Faults one after another; frozen workers wake up on their own while others go on."""
        waking: list[asyncio.Task[None]] = []
        frozen: set[int] = set()
        for kind in kinds:
            for index, worker in enumerate(self.workers):
                if index not in frozen:
                    worker.alive()
            awake = [index for index in range(len(self.workers)) if index not in frozen]
            if kind == "SIGSTOP" and len(awake) < 2:
                await asyncio.gather(*waking)
                awake = list(range(len(self.workers)))
            victim = await self._ready_one(chance, awake)
            self.faults[kind] += 1
            await self._inflict(kind, victim, chance, waking, frozen)
            await asyncio.sleep(chance.uniform(*pause_s))
        await asyncio.gather(*waking)

    async def _ready_one(self, chance: random.Random, awake: list[int]) -> int:
        """One of the workers that are up; any of them when none comes up in time."""
        await until(lambda: any(self.workers[index].ready() for index in awake), READY_S)
        ready = [index for index in awake if self.workers[index].ready()]
        return chance.choice(ready or awake)

    async def _inflict(
        self,
        kind: str,
        victim: int,
        chance: random.Random,
        waking: list[asyncio.Task[None]],
        frozen: set[int],
    ) -> None:
        worker = self.workers[victim]
        match kind:
            case "kill":
                worker.send(signal.SIGKILL)
            case "SIGTERM":
                worker.send(signal.SIGTERM)
            case "SIGSTOP":
                frozen.add(victim)
                worker.send(signal.SIGSTOP)
                seconds = SESSION_TIMEOUT_S + chance.uniform(0.5, 4.0)
                waking.append(asyncio.create_task(_wake(worker, seconds, lambda: frozen.discard(victim))))
            case "broker stop" | "broker kill":
                await asyncio.to_thread(self.kafka.restart, hard=kind == "broker kill")

    def logs(self) -> str:
        """The end of every worker's log, for a failed assertion."""
        return "\n".join(
            f"--- {w.log.name}\n{w.log.read_text(errors='replace')[-3000:]}" for w in self.workers
        )


async def _wake(worker: Worker, seconds: float, then: Callable[[], None]) -> None:
    await asyncio.sleep(seconds)
    worker.send(signal.SIGCONT)
    then()


async def _read_partition(consumer: AIOKafkaConsumer, place: TopicPartition, end: int) -> list[Seen]:
    seen: list[Seen] = []
    consumer.seek(place, 0)
    while not seen or seen[-1].offset < end - 1:
        if end == 0:
            break
        fetched: dict[Any, Any] = await consumer.getmany(place, timeout_ms=1000)
        for record in fetched.get(place, []):
            number = ToyIn.model_validate_json(record.value).number
            seen.append(Seen(record.partition, record.offset, record.key.decode(), number))
    return seen


async def until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for a condition; whether it came true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


@asynccontextmanager
async def scenario(kafka: LocalKafka, dsn: str, name: str, folder: Path) -> AsyncIterator[Scenario]:
    """Topics and a connection; at the end no worker is left."""
    await KafkaAdmin([kafka.address]).create([topic_in(name), topic_out(name), DEAD_LETTERS])
    connection = await asyncpg.connect(dsn)
    made = Scenario(kafka, dsn, name, folder, connection)
    try:
        yield made
    finally:
        for worker in made.workers:
            worker.kill()
        await connection.close()
