"""Composition root: settings -> policy, geography, database, broker -> the topology, running."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

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
        log.info("policy loaded", policy=policy.version, areas=len(policy.areas), plans=len(policy.plans))
        await run_worker(bindings, worker_settings(settings), pool, stop)
    finally:
        await pool.close()


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
        keep_topics=internal_topics() if settings.embedded else frozenset(),
        stop_timeout_s=settings.drain_timeout_s,
    )
