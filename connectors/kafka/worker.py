"""One worker: a Faust app without tables, web server or topics of its own, whose agents feed the loop."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import faust
import structlog
from faust.app.base import BootStrategy
from yarl import URL

from connectors.delivery import Feed, RecordBatch
from connectors.kafka.asking import ask_only
from connectors.kafka.driver import Lanes, Transport, Unparsed
from connectors.kafka.quiet import quieten_aiokafka
from connectors.kafka.security import PLAINTEXT, Security

log = structlog.get_logger(__name__)

SWITCH_INTERVAL_S: Final = 0.0005
"""The consumer has a thread of its own, which waits this long (Python: 5 ms) for each turn while the agents compute:
several times for each batch, before it is even handed out."""

EXIT_CONSUMER_DIED: Final = 71  # the consumer ended by itself: the supervisor starts the worker again
EXIT_DRAIN_TIMEOUT: Final = 72  # draining took too long; nothing is lost, the next owner goes on
EXIT_STOPPED_TWICE: Final = 130  # a second SIGTERM or SIGINT


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker needs to know. The embedded broker wants session 6, heartbeat 1, rebalance 6 seconds."""

    group: str
    brokers: tuple[str, ...]  # host:port of all of them
    security: Security = PLAINTEXT
    session_timeout_s: float = 10.0  # how long it takes until a killed worker's partitions are taken over
    heartbeat_s: float = 3.0
    rebalance_timeout_s: float = 60.0
    commit_interval_s: float = 0.5
    max_poll_records: int = 1000
    max_fetch_bytes: int = 1_048_576  # per partition
    fetch_wait_s: float = 0.5  # the embedded broker looks for new records only twice in this time
    stop_timeout_s: float = 60.0


class _OnlyConsumer(BootStrategy):
    """No producer (ours is idempotent and awaited), no leader election, no reply topic, no web server."""

    enable_kafka_producer = False
    enable_web = False
    enable_sensors = False

    def kafka_consumer(self) -> list[Any]:
        return [self.app.consumer]


class _App(faust.App):
    BootStrategy = _OnlyConsumer

    def _create_directories(self) -> None:
        """None: there are no tables, and nobody would clear away what a killed process leaves."""


class Loop(Lanes, Protocol):
    """What the worker feeds: the lanes of the partitions that it owns. See `agents.runner.Runner`."""

    feed: Feed | None

    def topics(self) -> Sequence[str]:
        """The topics that the agents read."""
        ...

    def accept(self, batch: RecordBatch) -> None:
        """Take one polled batch; never raises."""
        ...

    def drain(self) -> None:
        """Take no more batches."""
        ...


async def consume(
    loop: Loop,
    settings: WorkerSettings,
    stop: asyncio.Event,
    *,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Consume until `stop` is set, then drain: finish what is at work, commit, leave the group.

    When the consumer dies by itself the process ends with EXIT_CONSUMER_DIED.
    """
    quieten_aiokafka()
    ask_only()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    app = _build(loop, settings)
    try:
        await _run_until(app, loop, stop, settings, on_ready)
    finally:
        await loop.close()


def stop_on_signals(stop: asyncio.Event) -> None:
    """The first SIGTERM or SIGINT sets `stop`, the second ends the process at once. Both lose nothing."""
    running = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(EXIT_STOPPED_TWICE)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, on_signal)


def _build(loop: Loop, settings: WorkerSettings) -> Any:
    urls = [URL(f"kafka://{broker}") for broker in settings.brokers]
    request_timeout_s = max(40.0, settings.session_timeout_s + 10.0)
    app = _App(
        settings.group,
        broker=urls,
        broker_credentials=_credentials(settings.security),
        autodiscover=False,
        store="memory://",
        processing_guarantee="at_least_once",
        stream_wait_empty=True,
        stream_buffer_maxsize=4096,  # events are batches, and the driver limits how many there are
        broker_commit_interval=settings.commit_interval_s,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.heartbeat_s,
        broker_rebalance_timeout=settings.rebalance_timeout_s,
        broker_request_timeout=request_timeout_s,
        broker_max_poll_records=settings.max_poll_records,
        broker_max_poll_interval=3600.0,  # a partition may wait for the database as long as it takes
        consumer_max_fetch_size=settings.max_fetch_bytes,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=30_000,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        web_in_thread=False,
    )
    app.transport = Transport(urls, app, loop, fetch_wait_s=settings.fetch_wait_s)
    loop.feed = _LateFeed(app)
    for topic in loop.topics():
        channel = app.topic(topic, schema=Unparsed(), value_type=None)
        app.agent(channel, name=f"{settings.group}.{topic}")(_feeding(loop))
    return app


def _credentials(security: Security) -> Any:
    """The login as Faust has it, which makes the arguments of its consumer of it."""
    if security.sasl:
        return faust.SASLCredentials(
            username=security.username,
            password=security.password,
            mechanism=security.mechanism,
            ssl_context=security.context(),
        )
    return faust.SSLCredentials(security.context()) if security.tls else None


class _LateFeed:
    """The consumer exists once the app has started."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def begin(self, topic: str, partition: int, offset: int) -> int:
        return int(await self._app.consumer.begin(topic, partition, offset))

    def complete(self, batch: RecordBatch) -> None:
        self._app.consumer.complete(batch)


def _feeding(loop: Loop) -> Callable[[Any], Coroutine[Any, Any, None]]:
    async def feed(stream: Any) -> None:
        async for batch in stream:
            loop.accept(batch)

    return feed


async def _run_until(
    app: Any,
    loop: Loop,
    stop: asyncio.Event,
    settings: WorkerSettings,
    on_ready: Callable[[], None] | None,
) -> None:
    starting = asyncio.create_task(app.start(), name="faust start")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    dying = asyncio.create_task(app._crashed.wait(), name="faust crashed")
    try:
        await asyncio.wait([starting, stopping, dying], return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and not starting.exception() and not stop.is_set():
            log.info("worker ready", group=settings.group)
            if on_ready is not None:
                on_ready()
            await asyncio.wait([stopping, dying], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            _give_up(app.crash_reason or (starting.exception() if starting.done() else None))
        await _started(starting, loop, settings)
        loop.drain()
        await _drain(app, settings)
    finally:
        for task in (starting, stopping, dying):
            task.cancel()


async def _started(starting: "asyncio.Task[Any]", loop: Loop, settings: WorkerSettings) -> None:
    """Let the start come to its end: Faust, stopped in the middle of it, leaves a thread that never ends."""
    await asyncio.wait([starting], timeout=settings.stop_timeout_s / 2)
    if not starting.done():
        log.error("the worker does not come up, the process ends; nothing is lost")
        loop.drain()
        await loop.close()
        os._exit(EXIT_DRAIN_TIMEOUT)


def _give_up(reason: BaseException | None) -> None:
    log.critical("the consumer died, the process ends", exc_info=reason)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_CONSUMER_DIED)


async def _drain(app: Any, settings: WorkerSettings) -> None:
    log.info("draining")
    try:
        await asyncio.wait_for(app.stop(), settings.stop_timeout_s)
    except TimeoutError:
        log.error("draining took too long, the process ends; what is not done will be done again")
        os._exit(EXIT_DRAIN_TIMEOUT)
    log.info("drained")
