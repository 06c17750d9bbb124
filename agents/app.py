"""Composition root: settings -> policy, geography, database, broker -> the topology, running."""

import asyncio
import gc
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
import uvloop

from agents.topology import Stores, topology
from connectors.geography.areas import Areas
from connectors.kafka.worker import WorkerSettings, internal_topics, run_worker, stop_on_signals
from connectors.postgres.dispatch import PostgresDispatch
from connectors.postgres.intake import PostgresIntake
from connectors.postgres.orders import PostgresOrders
from connectors.postgres.policies import keep_policy
from connectors.postgres.pool import create_pool
from connectors.postgres.triage import PostgresTriage
from infra.policy.load import SHIPPED, load_policy
from infra.settings import Settings
from schemas.topics import CONSUMER

log = structlog.get_logger(__name__)

STORES = Stores(PostgresIntake, PostgresTriage, PostgresDispatch, PostgresOrders)

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
        bindings = topology(policy, areas, STORES, lambda: datetime.now(UTC))
        settle_memory()
        log.info("policy loaded", policy=policy.version, areas=len(policy.areas), plans=len(policy.plans))
        await run_worker(bindings, worker_settings(settings), pool, stop)
    finally:
        await pool.close()


def settle_memory() -> None:
    """Policy, areas and modules stay as long as the process: the collector need not look at them again and again.
    What a batch makes is a tree without cycles, gone at its end; looking for cycles rarely is enough."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


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
        fetch_wait_s=EMBEDDED_FETCH_WAIT_S if settings.embedded else 0.5,
        keep_topics=internal_topics() if settings.embedded else frozenset(),
        stop_timeout_s=settings.drain_timeout_s,
    )
