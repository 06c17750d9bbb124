"""Composition root: settings -> policy, geography, database, broker -> the topology, running."""

import asyncio
import gc
import os
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import structlog
import uvloop

from agents.intake.parked import attempt_given_up, given_up, sent_on
from agents.messages import Binding
from agents.runner import Limits, Runner, letter_event
from agents.switch import Switch
from agents.topology import Stores, topology
from connectors.delivery import Publisher
from connectors.errors import Permanent, Transient
from connectors.geography.areas import Areas
from connectors.kafka.acls import Principals, rules_of
from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.publisher import KafkaPublisher
from connectors.kafka.worker import WorkerSettings, consume, stop_on_signals
from connectors.ports import Geography
from connectors.postgres import parked
from connectors.postgres.areas import UnknownBoundaries, boundaries_of
from connectors.postgres.dispatch import PostgresDispatch
from connectors.postgres.intake import PostgresIntake
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.orders import PostgresOrders
from connectors.postgres.pool import Pool, classified, create_pool
from connectors.postgres.response_life import PostgresLife
from connectors.postgres.triage import PostgresTriage
from infra.cli.errors import Oops
from infra.in_force import EXIT_OTHER_TOPICS, Follower, InForce, following, settle
from infra.settings import Settings
from infra.watching.lanes import Lanes, counting
from infra.watching.process import Watched
from infra.watching.world import note_waiting
from schemas.policy import Policy
from schemas.topics import CONSUMER, all_topics, read_by_us

log = structlog.get_logger(__name__)

STORES: Final = Stores(
    counting(PostgresIntake), counting(PostgresTriage), counting(PostgresDispatch), counting(PostgresOrders),
    PostgresLife,
)  # fmt: skip
SWEEP_EVERY_S: Final = 1.0
REVISIT_EVERY_S: Final = 2.0
FETCH_WAIT_S: Final = 0.1
"""A fetch that leaves out the partitions whose records wait to be handled holds up the next one of them for so long."""
EMBEDDED_FETCH_WAIT_S: Final = 0.04
"""The embedded broker notices a new record only half this time after it began to wait, five times on the way."""


def run(settings: Settings) -> None:
    """Run one worker until it is told to stop. The settings name broker and database."""
    if uvloop.run(serve(settings)):
        if settings.embedded:
            sys.exit(EXIT_OTHER_TOPICS)
        begin_anew()


def begin_anew() -> NoReturn:
    """The same command in the same process, from its beginning: whoever looks after it sees no end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - as it was started itself


async def serve(settings: Settings) -> bool:
    """One worker in the running loop; whether it is to begin anew, because there are other topics to read."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with Watched("worker", settings).watching() as watched:
        return await _serve(settings, stop, watched)


async def _serve(settings: Settings, stop: asyncio.Event, watched: Watched) -> bool:
    end = asyncio.Event()
    lanes = Lanes(watched.metrics, watched.stuck_s)
    watched.pulse.part("partitions", lanes.why_unclaimed)
    watched.pulse.part("lanes", lanes.why_stuck)
    watched.ask_database(partial(note_waiting, watched.metrics))
    pool = await create_pool(settings.database_url, max_size=settings.database_connections)
    try:
        began = await settle(pool, settings)
        await may_work(settings, began.policy)
        ruled = Ruled(settings, pool, began, await geography_of(settings, pool, began.areas))
        settle_memory()
        codes = [one.code for one in began.policy.departments]
        keep = read_by_us(codes) if settings.embedded else frozenset()
        ending = asyncio.create_task(_end_when(stop, ruled.outgrown, end))
        follower = Follower(pool, began, ruled.changed)
        async with following(follower):
            await work(
                ruled.bindings, worker_settings(settings), pool, end, keep=keep, parked_for=ruled.parked_for,
                watched=(watched, lanes), goes_by=GoesBy(ruled.held, partial(ruled.renew, follower)),
            )  # fmt: skip
        ending.cancel()
    finally:
        await pool.close()
    return not stop.is_set()


async def _end_when(stop: asyncio.Event, outgrown: asyncio.Event, end: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(one.wait()) for one in (stop, outgrown)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
    end.set()


class GoesBy(NamedTuple):
    """For who decides by what is in force. `held`: the number of the activation that it goes by; `renew`: take up what
    holds by now, raises Transient."""

    held: Callable[[], int]
    renew: Callable[[], Awaitable[None]]


class Ruled:
    """What a worker decides by: the topology of what is in force, exchanged as a whole while it runs.

    Of an earlier policy nothing is kept once the last batch that was begun under it has ended.
    """

    def __init__(self, settings: Settings, pool: Pool, began: InForce, geography: Geography) -> None:
        self._settings = settings
        self._pool = pool
        self._in_force = began
        self._geography = geography
        self._switch = Switch(_topology(began.policy, geography))
        self.outgrown = asyncio.Event()
        """Set when there are other topics to read than this worker reads: it ends, and begins anew."""
        log.info("policy loaded", policy=began.policy.version, areas=len(began.policy.areas))

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """For the runner; what they lead to is exchanged."""
        return self._switch.bindings

    def parked_for(self) -> timedelta:
        """How long updates wait for their order."""
        return timedelta(hours=self._in_force.policy.park_hours)

    def held(self) -> int:
        """The number of the activation that it decides by."""
        return self._in_force.number

    async def renew(self, follower: Follower) -> None:
        """Take up at once what was just put in force: no batch is decided by what held before. Raises Transient."""
        try:
            await follower.look()
        except Transient:
            raise
        except Exception as error:
            foreseen = isinstance(error, Oops | UnknownBoundaries)
            log.error("what is in force cannot be taken up", reason=str(error), exc_info=not foreseen)
            reason = str(error) if foreseen else type(error).__name__
            raise Transient(f"This worker cannot take up what is in force by now: {reason}") from error
        if self.outgrown.is_set():
            raise Transient("Other departments are in force, the worker begins anew.")

    async def changed(self, found: InForce) -> None:
        """From the next batch of each lane on, decide by this."""
        geography = self._geography
        if found.marks.get("areas") != self._in_force.marks.get("areas"):
            geography = await geography_of(self._settings, self._pool, found.areas)
        bindings = _topology(found.policy, geography)
        if not self._switch.reads_the_same(bindings):
            log.info(
                "other departments: the worker ends its batches and begins anew", policy=found.policy.version
            )
            self.outgrown.set()
            return
        self._switch.turn(bindings)
        self._in_force, self._geography = found, geography


def _topology(policy: Policy, geography: Geography) -> tuple[Binding, ...]:
    return topology(policy, geography, STORES, lambda: datetime.now(UTC))


async def geography_of(settings: Settings, pool: Pool, version: str | None) -> Geography:
    """The boundaries of this version; None: those that come with the product."""
    areas = await asyncio.to_thread(Areas.of_chicago, cache_folder(settings))
    if version is None:
        return areas
    try:
        async with pool.acquire() as connection:
            found = await boundaries_of(connection, areas, version)
    except Exception as error:
        raise classified(error) from error
    await asyncio.to_thread(found.prepare)
    return found


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
    parked_for: Callable[[], timedelta] | None = None,
    limits: Limits | None = None,
    watched: tuple[Watched, Lanes] | None = None,
    goes_by: GoesBy | None = None,
) -> None:
    """Run these bindings until `stop` is set. `keep`: topics whose events stay in the outbox until they are
    consumed, for a broker that keeps nothing on disk. `parked_for`: how long updates wait for their order by now;
    None: nobody looks after them. `goes_by`: for bindings that decide by what is in force.

    Raises BrokerUnreachable within some seconds when no broker answers at the start.
    """
    source = KafkaAdmin(settings.brokers, security=settings.security)
    await source.cluster_id()
    publisher = KafkaPublisher(settings.brokers, security=settings.security, idempotent=not keep)
    ledger = PostgresLedger(pool, log=source, keep=keep, held=goes_by.held if goes_by else None)
    runner = Runner(
        bindings,
        consumer=settings.group,
        ledger=ledger,
        publisher=publisher,
        source=source,
        limits=limits or Limits(trust_ends=not keep),
        jitter=lambda seconds: seconds * random.uniform(0.5, 1.0),
        watch=watched[1].tell if watched else lambda *_: None,
        renew=goes_by.renew if goes_by else None,
    )
    if watched:
        _watch(runner, source, *watched)
    try:
        async with (
            repeating(partial(ledger.sweep, settings.group), SWEEP_EVERY_S if keep else None),
            repeating(
                partial(_revisit, ledger, publisher, parked_for), REVISIT_EVERY_S if parked_for else None
            ),
        ):
            await consume(runner, settings, stop)
    finally:
        await publisher.stop()


def _watch(runner: Runner, source: KafkaAdmin, watched: Watched, lanes: Lanes) -> None:
    """Where the logs of our partitions end says that the broker answers, too."""
    lanes.assigned = lambda: runner.assignments > 0

    async def ask() -> None:
        places = lanes.places
        if not places:
            await source.cluster_id()
        lanes.ends = await source.end_offsets(places)

    watched.before_scrape(lanes.note)
    watched.ask("broker", "The broker", ask)


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


async def _revisit(
    ledger: PostgresLedger, publisher: Publisher, parked_for: Callable[[], timedelta] | None
) -> None:
    await revisit(ledger, publisher, parked_for() if parked_for else None)


async def revisit(ledger: PostgresLedger, publisher: Publisher, parked_for: timedelta | None) -> None:
    """Send parked updates on whose order is there by now, and give up those that have waited too long."""
    now = datetime.now(UTC)
    async with ledger.transaction() as connection:
        events = [sent_on(one, order_key) for one, order_key in await parked.found(connection)]
        attempts = []
        for one in await parked.expired(connection, now, parked_for or timedelta.max):
            events += map(letter_event, await ledger.bury(connection, [given_up(one, now)]))
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
