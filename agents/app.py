"""Composition root: settings -> policy, geography, database, broker -> the topology, running."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop

from agents.intake.parked import attempt_given_up, given_up, sent_on
from agents.messages import Binding
from agents.runner import Limits, Runner, letter_event
from agents.topology import Stores, topology
from connectors.delivery import Publisher
from connectors.errors import Permanent, Transient
from connectors.geography.areas import Areas
from connectors.kafka.acls import Principals, rules_of
from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.publisher import KafkaPublisher
from connectors.kafka.worker import WorkerSettings, consume, stop_on_signals
from connectors.postgres import parked
from connectors.postgres.dispatch import PostgresDispatch
from connectors.postgres.intake import PostgresIntake
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.orders import PostgresOrders
from connectors.postgres.policies import keep_policy
from connectors.postgres.pool import Pool, create_pool
from connectors.postgres.triage import PostgresTriage
from infra.policy.load import SHIPPED, load_policy
from infra.settings import Settings
from schemas.policy import Policy
from schemas.topics import CONSUMER, all_topics, read_by_us

log = structlog.get_logger(__name__)

STORES: Final = Stores(PostgresIntake, PostgresTriage, PostgresDispatch, PostgresOrders)
SWEEP_EVERY_S: Final = 1.0
REVISIT_EVERY_S: Final = 2.0
FETCH_WAIT_S: Final = 0.1
"""A fetch that leaves out the partitions whose records wait to be handled holds up the next one of them for so long."""
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
    await may_work(settings, policy)
    areas = Areas.of_chicago(cache_folder(settings))
    pool = await create_pool(settings.database_url, max_size=settings.database_connections)
    try:
        await keep_policy(pool, policy)
        log.info("policy loaded", policy=policy.version, areas=len(policy.areas), plans=len(policy.plans))
        bindings = topology(policy, areas, STORES, lambda: datetime.now(UTC))
        settle_memory()
        keep = read_by_us(one.code for one in policy.departments) if settings.embedded else frozenset()
        parked_for = timedelta(hours=policy.park_hours)
        await work(bindings, worker_settings(settings), pool, stop, keep=keep, parked_for=parked_for)
    finally:
        await pool.close()


async def may_work(settings: Settings, policy: Policy) -> None:
    """Raises Transient when our login lacks what a worker needs: its consumer would end or wait without a word."""
    login = settings.security
    if not login.sasl:
        return
    topics = all_topics(one.code for one in policy.departments)
    rules = rules_of(topics, Principals((f"User:{login.username}",), (), {}))
    lacking = await KafkaAdmin(settings.broker_list, security=login).lacking(rules)
    if lacking:
        first = lacking[0]
        raise Transient(
            f"the login {login.username} lacks {len(lacking)} of the broker's permissions, first {first.operation} on "
            f"{first.resource} {first.name}: run `rapid topics acls --apply` with an administrator's login."
        )


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
    parked_for: timedelta | None = None,
    limits: Limits | None = None,
) -> None:
    """Run these bindings until `stop` is set. `keep`: topics whose events stay in the outbox until they are
    consumed, for a broker that keeps nothing on disk. `parked_for`: how long updates wait for their order; None:
    nobody looks after them.

    Raises BrokerUnreachable within some seconds when no broker answers at the start.
    """
    source = KafkaAdmin(settings.brokers, security=settings.security)
    await source.cluster_id()
    publisher = KafkaPublisher(settings.brokers, security=settings.security, idempotent=not keep)
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
        async with (
            repeating(partial(ledger.sweep, settings.group), SWEEP_EVERY_S if keep else None),
            repeating(
                partial(revisit, ledger, publisher, parked_for), REVISIT_EVERY_S if parked_for else None
            ),
        ):
            await consume(runner, settings, stop)
    finally:
        await publisher.stop()


@asynccontextmanager
async def repeating(work: Callable[[], Awaitable[Any]] | None, every_s: float | None) -> AsyncIterator[None]:
    """Do some work again and again meanwhile; nothing without it."""
    task = asyncio.create_task(_repeat(work, every_s)) if work and every_s else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


async def _repeat(work: Callable[[], Awaitable[Any]], every_s: float) -> None:
    while True:
        try:
            await work()
        except (Transient, Permanent) as error:
            log.warning("done later", work=getattr(work, "__qualname__", "sweep"), error=str(error))
        except Exception:  # nothing of it was committed or acknowledged, and nobody would miss this task
            log.exception("unexpected, done later", work=getattr(work, "__qualname__", "sweep"))
        await asyncio.sleep(every_s)


async def revisit(ledger: PostgresLedger, publisher: Publisher, parked_for: timedelta | None) -> None:
    """Send parked updates on whose order is there by now, and give up those that have waited too long."""
    now = datetime.now(UTC)
    async with ledger.transaction() as connection:
        events = [sent_on(one, order_key) for one, order_key in await parked.found(connection)]
        attempts = []
        for one in await parked.expired(connection, now, parked_for or timedelta.max):
            letter = given_up(one, now)
            events.append(letter_event(letter))
            await ledger.bury(connection, [letter])
            attempts.append(attempt_given_up(one))
        await ledger.add(connection, parked.SOURCE, events)
        await PostgresOrders(connection).audit(attempts)
    rows = await ledger.unsent(parked.SOURCE)  # also what a killed worker left
    if rows:
        incarnations = await ledger.incarnations(rows)
        await ledger.settle(rows, await publisher.publish(rows), incarnations)


def cache_folder(settings: Settings) -> Path:
    """Where the areas' polygons are kept between runs."""
    return settings.home_folder / "cache"


def worker_settings(settings: Settings) -> WorkerSettings:
    """What the Kafka side needs to know."""
    return WorkerSettings(
        group=CONSUMER,
        brokers=settings.broker_list,
        security=settings.security,
        session_timeout_s=settings.session_timeout_s,
        heartbeat_s=settings.heartbeat_s,
        rebalance_timeout_s=settings.rebalance_timeout_s,
        commit_interval_s=settings.commit_interval_s,
        max_poll_records=settings.batch_records,
        fetch_wait_s=EMBEDDED_FETCH_WAIT_S if settings.embedded else FETCH_WAIT_S,
        stop_timeout_s=settings.drain_timeout_s,
    )
