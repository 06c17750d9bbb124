"""The timers as a process: settings → connectors → nudger, until SIGTERM."""

import asyncio
import os
import time
from array import array
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Final

import uvloop

from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.publisher import KafkaPublisher
from connectors.kafka.quiet import quieten_aiokafka
from connectors.postgres.pool import Pool, create_pool
from connectors.timers.nudger import Nudger, Pace, Sent
from infra.logging import logger
from infra.settings import Settings
from infra.stopping import pool_when_there, set_by_signals
from infra.watching import metrics as m
from infra.watching.metrics import Metrics
from infra.watching.process import Watched

WAIT_FOR_DATABASE_S: Final = 0.5
STATEMENT_S: Final = 5.0
SUMMARY_EVERY_S: Final = 60.0

log = logger(__name__)


class Lateness:
    """How late nudges are, for Prometheus and for the log."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._minute = array("d")
        self._minute_again = 0

    def tell(self, sent: Sequence[Sent]) -> None:
        """A batch that the broker has."""
        first = [one.late_s for one in sent if not one.again]
        again = len(sent) - len(first)
        for late_s in first:
            self._metrics.observe(m.TIMERS_LATE, late_s)
        self._metrics.add(m.TIMERS_AGAIN, again)
        self._minute.extend(first)
        self._minute_again += again

    def summary(self) -> dict[str, float]:
        """Of what was told since the last call, in ms; empty when it was nothing."""
        late, self._minute = sorted(self._minute), array("d")
        again, self._minute_again = self._minute_again, 0
        if not late and not again:
            return {}
        counts: dict[str, float] = {"first": len(late), "again": again}
        return counts | ({name: _ms(late, at) for name, at in PERCENTILES} if late else {})


PERCENTILES: Final = (("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0))


def _ms(ascending: Sequence[float], quantile: float) -> float:
    """The smallest that so many are not above."""
    index = max(0, -int(-quantile * len(ascending) // 1) - 1)
    return round(ascending[index] * 1000, 1)


def keep_time(settings: Settings) -> None:
    """Nudge orders when their time has come, until SIGTERM or SIGINT. Raises Oops for settings that cannot work."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_keep_time(settings))


async def _keep_time(settings: Settings) -> None:
    stop = asyncio.Event()
    with set_by_signals(stop):
        async with Watched("timers", settings).watching() as watched:
            watched.ask_database()
            pool = await pool_when_there(partial(_connect, settings), stop, look_every_s=WAIT_FOR_DATABASE_S)
            if pool is None:
                return
            await _nudge(settings, pool, stop, watched)
    log.info("timers stopped")


async def _nudge(settings: Settings, pool: Pool, stop: asyncio.Event, watched: Watched) -> None:
    lateness = Lateness(watched.metrics)
    looks = watched.hear("leases", "The look for timers that are due soon")
    publisher = _publisher(settings)
    try:
        nudger = Nudger(
            pool, publisher, pace=Pace(), monotonic=time.monotonic, tell=lateness.tell, looked=looks.answered
        )
        watched.count_now(m.TIMERS_HELD, lambda: nudger.held)
        watched.ask_broker(KafkaAdmin(settings.broker_list, security=settings.security))
        log.info("timers are ready", pid=os.getpid())
        await _run(nudger, lateness, stop)
    finally:
        await publisher.stop()
        pool.terminate()  # nothing is under way any more, and a database that is away would hold us up


async def _run(nudger: Nudger, lateness: Lateness, stop: asyncio.Event) -> None:
    summing = asyncio.create_task(_sum_up(lateness))
    stopping = asyncio.create_task(_stop_when(stop, nudger))
    try:
        await nudger.run()
    finally:
        summing.cancel()
        stopping.cancel()
        _log_summary(lateness)


async def _stop_when(stop: asyncio.Event, nudger: Nudger) -> None:
    await stop.wait()
    log.info("asked to stop")
    nudger.stop()


async def _sum_up(lateness: Lateness) -> None:
    while True:
        await asyncio.sleep(SUMMARY_EVERY_S)
        _log_summary(lateness)


def _log_summary(lateness: Lateness) -> None:
    found = lateness.summary()
    if found:
        log.info("nudged", **found)


def _connect(settings: Settings) -> Awaitable[Pool]:
    return create_pool(
        settings.database_url, min_size=1, max_size=2, application_name="timers",
        statement_timeout_s=STATEMENT_S, lock_timeout_s=STATEMENT_S, connect_timeout_s=STATEMENT_S,
    )  # fmt: skip


def _publisher(settings: Settings) -> KafkaPublisher:
    quieten_aiokafka()
    return KafkaPublisher(
        settings.broker_list,
        security=settings.security,
        idempotent=not settings.embedded,
        request_timeout_s=Pace().broker_answers_s,
    )
