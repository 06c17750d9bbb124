"""Composition root: settings -> policy, geography, database, broker -> the topology, running."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
import uvloop

from agents.messages import Binding
from agents.runner import Limits, Runner
from agents.topology import Stores, topology
from connectors.errors import Transient
from connectors.geography.areas import Areas
from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.publisher import KafkaPublisher
from connectors.kafka.worker import WorkerSettings, consume, stop_on_signals
from connectors.postgres.dispatch import PostgresDispatch
from connectors.postgres.intake import PostgresIntake
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.orders import PostgresOrders
from connectors.postgres.policies import keep_policy
from connectors.postgres.pool import Pool, create_pool
from connectors.postgres.triage import PostgresTriage
from infra.policy.load import SHIPPED, load_policy
from infra.settings import Settings
from schemas.topics import CONSUMER, READ_BY_US

log = structlog.get_logger(__name__)

STORES: Final = Stores(PostgresIntake, PostgresTriage, PostgresDispatch, PostgresOrders)
SWEEP_EVERY_S: Final = 1.0
FETCH_WAIT_S: Final = 0.5
EMBEDDED_FETCH_WAIT_S: Final = 0.04
"""The embedded broker notices a new record only half this time after it began to wait, five times on the way."""


def run(settings: Settings) -> None:
    """Run one worker until it is told to stop. The settings name broker and database."""
    uvloop.run(serve(settings))


async def serve(settings: Settings) -> None:
    """One worker in the running loop."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    policy = load_policy(settings.policy or SHIPPED)
    areas = Areas.of_chicago(cache_folder(settings))
    pool = await create_pool(settings.database_url, max_size=settings.database_connections)
    try:
        await keep_policy(pool, policy)
        log.info("policy loaded", policy=policy.version, areas=len(policy.areas), plans=len(policy.plans))
        bindings = topology(policy, areas, STORES, lambda: datetime.now(UTC))
        settle_memory()
        keep = frozenset(READ_BY_US) if settings.embedded else frozenset()
        await work(bindings, worker_settings(settings), pool, stop, keep=keep)
    finally:
        await pool.close()


def settle_memory() -> None:
    """Policy, areas and modules stay as long as the process: the collector need not look at them again and again.
    What a batch makes is a tree without cycles, gone at its end; looking for cycles rarely is enough."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def work(
    bindings: Sequence[Binding],
    settings: WorkerSettings,
    pool: Pool,
    stop: asyncio.Event,
    *,
    keep: frozenset[str] = frozenset(),
    limits: Limits | None = None,
) -> None:
    """Run these bindings until `stop` is set. `keep`: topics whose events stay in the outbox until they are
    consumed, for a broker that keeps nothing on disk.

    Raises BrokerUnreachable within some seconds when no broker answers at the start.
    """
    source = KafkaAdmin(settings.brokers)
    await source.cluster_id()
    publisher = KafkaPublisher(settings.brokers, idempotent=not keep)
    ledger = PostgresLedger(pool, log=source, keep=keep)
    runner = Runner(
        bindings,
        consumer=settings.group,
        ledger=ledger,
        publisher=publisher,
        source=source,
        limits=limits or Limits(trust_ends=not keep),
        jitter=lambda seconds: seconds * random.uniform(0.5, 1.0),
    )
    try:
        async with _sweeping(ledger, settings.group if keep else None):
            await consume(runner, settings, stop)
    finally:
        await publisher.stop()


@asynccontextmanager
async def _sweeping(ledger: PostgresLedger, consumer: str | None) -> AsyncIterator[None]:
    """Delete what was kept and has been consumed, every now and then; nothing to do without a consumer."""
    task = asyncio.create_task(_sweep(ledger, consumer)) if consumer else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


async def _sweep(ledger: PostgresLedger, consumer: str) -> None:
    while True:
        try:
            await ledger.sweep(consumer)
        except Transient as error:
            log.warning("the outbox is swept later", error=str(error))
        await asyncio.sleep(SWEEP_EVERY_S)


def cache_folder(settings: Settings) -> Path:
    """Where the areas' polygons are kept between runs."""
    return settings.home_folder / "cache"


def worker_settings(settings: Settings) -> WorkerSettings:
    """What the Kafka side needs to know."""
    return WorkerSettings(
        group=CONSUMER,
        brokers=settings.broker_list,
        session_timeout_s=settings.session_timeout_s,
        heartbeat_s=settings.heartbeat_s,
        rebalance_timeout_s=settings.rebalance_timeout_s,
        commit_interval_s=settings.commit_interval_s,
        max_poll_records=settings.batch_records,
        fetch_wait_s=EMBEDDED_FETCH_WAIT_S if settings.embedded else FETCH_WAIT_S,
        stop_timeout_s=settings.drain_timeout_s,
    )
