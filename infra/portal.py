"""The city's portal as part of a process: settings → connectors → one reader for each dataset, until `stop`."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import httpx

from connectors.files.reading import Reading
from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.publisher import KafkaPublisher
from connectors.kafka.quiet import quieten_aiokafka
from connectors.portal.client import Limits, Portal
from connectors.portal.door import Door
from connectors.portal.feeds import FEEDS, Feed
from connectors.portal.reading import Counts, Reader, Wish
from connectors.postgres.pool import create_pool
from infra.cli.durations import duration
from infra.cli.errors import ExitCode, Oops
from infra.connect import Endpoints, connection
from infra.logging import logger
from infra.settings import Settings
from infra.watching import metrics as m
from infra.watching.metrics import Metrics
from infra.watching.process import Watched
from infra.watching.world import Ending, note_pass
from schemas.topics import READ_BY_US

AGAIN_AFTER: Final = timedelta(minutes=15)
"""A dataset that could not be read is tried again then, if its turn is not before."""
OFF: Final = "off"

log = logger(__name__)


class Plan(NamedTuple):
    """Which datasets, and how often: `every` is None for each dataset's own pace, `once` ends after one pass."""

    feeds: Sequence[Feed]
    once: bool = False
    every: timedelta | None = None
    since: datetime | None = None


def feeds_of(settings: Settings) -> list[Feed]:
    """Every dataset at the pace that the settings give it, without those that are off."""
    paces: dict[str, str] = {}
    for pair in filter(str.strip, settings.portal_every.split(",")):
        name, _, pace = pair.partition("=")
        paces[name.strip()] = pace.strip()
    return [
        feed._replace(every=duration(paces[feed.name])) if feed.name in paces else feed
        for feed in FEEDS
        if paces.get(feed.name) != OFF
    ]


async def ingest(
    settings: Settings, reading: Reading, plan: Plan, counts: Collection[Counts], stop: asyncio.Event
) -> None:
    """Read until `stop`, or once. Stopped anywhere, it goes on there the next time. Raises Transient, Oops."""
    there = connection(settings)
    place = {"database_url": there.database_url} | ({"watch_port": 0} if plan.once else {})
    async with (
        Watched("portal", settings.model_copy(update=place)).watching() as watched,
        _readers(settings, there, reading, plan, counts) as readers,
    ):
        watched.ask_database()
        watched.ask_broker(KafkaAdmin(there.brokers, security=there.security))
        tasks = [asyncio.create_task(_follow(reader, plan, watched.metrics)) for reader in readers]
        reads = asyncio.gather(*tasks)
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((reads, stopping), return_when=asyncio.FIRST_COMPLETED)
            if reads.done():
                reads.result()
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.gather(reads, *tasks, stopping, return_exceptions=True)


async def _follow(reader: Reader, plan: Plan, metrics: Metrics) -> None:
    counts = reader.counts
    while True:
        rows, requests = counts.rows, counts.requests
        await reader.read()
        _log(counts)
        note_pass(metrics, f"portal/{counts.feed.name}", _ending(counts), counts.rows - rows)
        metrics.add(m.SOURCE_REQUESTS, counts.requests - requests, f"portal/{counts.feed.name}")
        if plan.once:
            return
        await asyncio.sleep(pause_after(reader.counts, plan.every or reader.feed.every).total_seconds())


def _ending(counts: Counts) -> Ending:
    if counts.problem:
        return "failed"
    return "unchanged" if counts.unchanged else "read"


def pause_after(counts: Counts, every: timedelta) -> timedelta:
    """Until the next pass: sooner than usual after a failure, but not before the portal wants to be asked again."""
    if not counts.problem:
        return every
    return max(min(every, AGAIN_AFTER), timedelta(seconds=counts.wait_s))


def _log(counts: Counts) -> None:
    """What a pass gave, for who watches a process that goes on. Values of rows are in none of it."""
    told = log.bind(dataset=counts.feed.id, name=counts.feed.name)
    for one in counts.findings.values():
        if one.is_new:
            told.warning("the portal's dataset is not what it was", kind=one.kind, finding=one.sentence)
    if counts.problem:
        told.warning("portal dataset left for later", reason=counts.problem)
    told.info(
        "portal dataset read", rows=counts.rows, accepted=counts.accepted, requests=counts.requests,
        unchanged=counts.unchanged, mark=counts.mark.isoformat() if counts.mark else None,
    )  # fmt: skip


@asynccontextmanager
async def _readers(
    settings: Settings, there: Endpoints, reading: Reading, plan: Plan, counts: Collection[Counts]
) -> AsyncIterator[list[Reader]]:
    quieten_aiokafka()
    wish = Wish(settings.portal_page_rows, plan.since, _first_day(settings, reading))
    keep = frozenset(READ_BY_US) if there.embedded else frozenset[str]()
    async with AsyncExitStack() as stack:
        pool = await create_pool(
            there.database_url, min_size=1, max_size=len(counts) + 1, application_name="rapid ingest portal"
        )
        stack.callback(pool.terminate)
        publisher = KafkaPublisher(there.brokers, security=there.security, idempotent=not there.embedded)
        stack.push_async_callback(publisher.stop)
        http = await stack.enter_async_context(httpx.AsyncClient())
        portal, log_of = _portal(http, settings), KafkaAdmin(there.brokers, security=there.security)
        yield [
            Reader(
                portal, Door(one.feed, pool, publisher, log_of, keep=keep, tell=one.tell), one.feed, reading, wish,
                one, _now,
            )
            for one in counts
        ]  # fmt: skip


def _portal(http: httpx.AsyncClient, settings: Settings) -> Portal:
    token = settings.portal_app_token
    limits = Limits(
        settings.portal_timeout_s, settings.portal_tries, settings.portal_first_retry_s,
        settings.portal_longest_wait_s,
    )  # fmt: skip
    chance: Callable[[], float] = random.random
    return Portal(
        http,
        settings.portal_url,
        chance=chance,
        token=token.get_secret_value() if token else "",
        limits=limits,
    )


def _first_day(settings: Settings, reading: Reading) -> datetime | None:
    text = settings.portal_since
    try:
        return datetime.fromisoformat(text).replace(tzinfo=reading.zone) if text else None
    except ValueError as error:
        raise Oops("RAPID_PORTAL_SINCE must be a day such as 2025-01-31.", ExitCode.INVALID) from error


def _now() -> datetime:
    return datetime.now(UTC)
