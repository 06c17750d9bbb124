"""Dropped files as part of a process: settings → mappings → connectors → one picker for each source, until `stop`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from agents.intake.border import refuse_incident_report, refuse_issue_report
from connectors.errors import Transient
from connectors.filedrop.door import Door
from connectors.filedrop.folder import Folder
from connectors.filedrop.picker import Counts, Done, Picker
from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.publisher import KafkaPublisher
from connectors.kafka.quiet import quieten_aiokafka
from connectors.mapping.mapping import Refuse, Refused, SourceMapping
from connectors.mapping.targets import Report
from connectors.postgres import sources
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.pool import create_pool
from infra.connect import connection
from infra.in_force import Follower, InForce, following, settle
from infra.logging import logger
from infra.settings import Settings
from infra.watching.metrics import Metrics
from infra.watching.process import Watched
from infra.watching.world import Ending, note_pass
from schemas.incident import IncidentReport
from schemas.policy import Policy
from schemas.topics import READ_BY_US

LOOK_EVERY_S: Final = 1.0
AGAIN_AFTER_S: Final = 5.0
TIDY_EVERY_S: Final = 3600.0

log = logger(__name__)


class Plan(NamedTuple):
    """Whose folders; `once` ends when all that is there is taken in."""

    mappings: Sequence[SourceMapping]
    once: bool = False


def drop_folder(settings: Settings, source: str) -> Path:
    """Where files of this source are dropped."""
    root = settings.drop or settings.home_folder / "drop"
    return root.expanduser().resolve() / source


def refusals(current: Callable[[], Policy]) -> Refuse:
    """What intake's border would say of a report, by the policy that is in force when it comes."""

    def refuse(report: Report, now: datetime) -> Refused | None:
        if isinstance(report, IncidentReport):
            return refuse_incident_report(report, current(), now)
        return refuse_issue_report(report, current(), now)

    return refuse


@dataclass(slots=True)
class Current:
    """The policy by which rows are taken by now."""

    policy: Policy

    def __call__(self) -> Policy:
        return self.policy


async def ingest(settings: Settings, plan: Plan, counts: Collection[Counts], stop: asyncio.Event) -> None:
    """Take in what is dropped until `stop`, or once. Stopped anywhere, it goes on there the next time. Raises
    Transient, Oops."""
    there = connection(settings)
    place = {"database_url": there.database_url} | ({"watch_port": 0} if plan.once else {})
    async with Watched("folder", settings.model_copy(update=place)).watching() as watched:
        watched.ask_database()
        watched.ask_broker(KafkaAdmin(there.brokers, security=there.security))
        if plan.mappings:
            await _take_in(settings, plan, counts, stop, watched.metrics)
        else:
            await stop.wait()


async def _take_in(
    settings: Settings, plan: Plan, counts: Collection[Counts], stop: asyncio.Event, metrics: Metrics
) -> None:
    async with _pickers(settings, plan, counts) as (pickers, ledger):
        work = [_follow(picker, plan.once, metrics) for picker in pickers]
        tasks = [asyncio.create_task(one) for one in work]
        tidying = asyncio.create_task(_tidy(ledger))
        all_of_them = asyncio.gather(*tasks)
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((all_of_them, stopping), return_when=asyncio.FIRST_COMPLETED)
            if all_of_them.done():
                all_of_them.result()
        finally:
            for task in (*tasks, stopping, tidying):
                task.cancel()
            await asyncio.gather(all_of_them, *tasks, stopping, tidying, return_exceptions=True)


async def _follow(picker: Picker, once: bool, metrics: Metrics) -> None:
    await picker.door.unsend()
    while True:
        known = len(picker.counts.files)
        try:
            await (picker.once() if once else picker.look())
        except Transient as error:
            if once:
                raise
            log.warning("dropped files wait", source=picker.counts.source, reason=str(error))
            await asyncio.sleep(AGAIN_AFTER_S)
            continue
        for done in picker.counts.files[known:]:
            _log(picker.counts.source, done)
            ending: Ending = "failed" if done.failed else "read"
            note_pass(metrics, f"folder/{picker.counts.source}", ending, done.report["rows"])
        if once:
            return
        picker.counts.files.clear()
        await asyncio.sleep(AGAIN_AFTER_S if picker.counts.busy else LOOK_EVERY_S)


def _log(source: str, done: Done) -> None:
    """What a file gave, for who watches a process that goes on. Values of rows are in none of it."""
    told = log.bind(source=source, file=done.name)
    counts = {name: done.report[name] for name in ("rows", "accepted", "skipped", "refused")}
    if done.failed:
        told.warning("dropped file failed", reason=done.report["problem"], **counts)
    else:
        told.info("dropped file taken in", **counts)


async def _tidy(ledger: PostgresLedger) -> None:
    while True:
        try:
            async with ledger.transaction() as held:
                await sources.forget_old(held)
        except Transient as error:
            log.warning("old counts of sources are forgotten later", reason=str(error))
        await asyncio.sleep(TIDY_EVERY_S)


@asynccontextmanager
async def _pickers(
    settings: Settings, plan: Plan, counts: Collection[Counts]
) -> AsyncIterator[tuple[list[Picker], PostgresLedger]]:
    quieten_aiokafka()
    there = connection(settings)
    keep = frozenset(READ_BY_US) if there.embedded else frozenset[str]()
    async with AsyncExitStack() as stack:
        pool = await create_pool(
            there.database_url,
            min_size=1,
            max_size=2 * len(counts) + 2,
            application_name="rapid ingest folder",
        )
        stack.callback(pool.terminate)
        began = await settle(pool, settings)
        current = Current(began.policy)

        async def changed(found: InForce) -> None:
            current.policy = found.policy

        await stack.enter_async_context(following(Follower(pool, began, changed)))
        publisher = KafkaPublisher(there.brokers, security=there.security, idempotent=not there.embedded)
        stack.push_async_callback(publisher.stop)
        admin = KafkaAdmin(there.brokers, security=there.security)
        pickers = [
            Picker(
                mapping,
                Folder(drop_folder(settings, mapping.source)),
                Door(mapping.source, pool, publisher, admin, keep=keep, tell=one.tell),
                refusals(current),
                one,
                _now,
                settings.drop_settle_s,
            )
            for mapping, one in zip(plan.mappings, counts, strict=True)
        ]
        yield pickers, PostgresLedger(pool, log=admin, keep=keep)


def _now() -> datetime:
    return datetime.now(UTC)
