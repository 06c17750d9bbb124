"""Dropped files as part of a process: settings → mappings → connectors → one picker for each source, until `stop`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
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
from infra.sources.live import LOOK_EVERY_S as MAPPINGS_EVERY_S
from infra.sources.live import LiveSources
from infra.watching.metrics import Metrics
from infra.watching.process import Watched
from infra.watching.world import Ending, note_pass
from schemas.incident import IncidentReport
from schemas.policy import Policy
from schemas.topics import READ_BY_US

LOOK_EVERY_S: Final = 1.0
MOST_AT_ONCE: Final = 8
"""Sources whose files are taken in at the same time: each holds two connections."""
AGAIN_AFTER_S: Final = 5.0
TIDY_EVERY_S: Final = 3600.0

log = logger(__name__)


class Plan(NamedTuple):
    """Whose folders: those of `names`, all without; `once` ends when all that is there is taken in."""

    names: Sequence[str] = ()
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


class Following(NamedTuple):
    """The mapping files, and the policy by which they are checked and rows are taken."""

    live: LiveSources
    current: Current


async def ingest(
    settings: Settings, sources: Following, plan: Plan, counts: list[Counts], stop: asyncio.Event
) -> None:
    """Take in what is dropped until `stop`, or once. Stopped anywhere, it goes on there the next time. Of each source
    `counts` has what became of it. Raises Transient, Oops."""
    there = connection(settings)
    place = {"database_url": there.database_url} | ({"watch_port": 0} if plan.once else {})
    async with Watched("folder", settings.model_copy(update=place)).watching() as watched:
        watched.ask_database()
        watched.ask_broker(KafkaAdmin(there.brokers, security=there.security))
        async with _hands(settings, *sources, counts, watched.metrics) as hands:
            await _take_in(hands, plan, stop)


async def _take_in(hands: "_Hands", plan: Plan, stop: asyncio.Event) -> None:
    work = hands.once(plan) if plan.once else hands.follow(plan)
    tasks = [asyncio.create_task(work), asyncio.create_task(_tidy(hands.ledger))]
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((tasks[0], stopping), return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
    finally:
        for task in (*tasks, stopping):
            task.cancel()
        await asyncio.gather(*tasks, stopping, return_exceptions=True)


@dataclass
class _Hands:
    """Who picks up: one picker for each source that has a mapping by now."""

    live: LiveSources
    ledger: PostgresLedger
    make: Callable[[SourceMapping, Counts], Picker]
    counts: list[Counts]
    metrics: Metrics
    pickers: dict[str, Picker] = field(default_factory=dict)
    at_once: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))

    async def once(self, plan: Plan) -> None:
        """Take in what is there."""
        async with _together() as group:
            for picker in self._changed(plan):
                group.create_task(self._one(picker, True))

    async def follow(self, plan: Plan) -> None:
        """Take in what comes, for ever, by the mapping files as they are by now."""
        async with _together() as group:
            while True:
                for picker in self._changed(plan):
                    group.create_task(self._one(picker, False))
                await asyncio.sleep(MAPPINGS_EVERY_S)
                await asyncio.to_thread(self.live.look)

    def _changed(self, plan: Plan) -> list[Picker]:
        """The pickers of sources that are new; those of the others have the newest mapping from now on."""
        wanted = {
            source: mapping
            for source, mapping in sorted(self.live.found.right.items())
            if not plan.names or source in plan.names
        }
        for gone in self.pickers.keys() - wanted.keys():
            del self.pickers[gone]
        new = []
        for source, mapping in wanted.items():
            if source in self.pickers:
                self.pickers[source].mapping = mapping
            else:
                self.pickers[source] = self.make(mapping, self._counts_of(source))
                new.append(self.pickers[source])
        return new

    def _counts_of(self, source: str) -> Counts:
        found = next((one for one in self.counts if one.source == source), None)
        if found is None:
            found = Counts(source)
            self.counts.append(found)
        return found

    async def _one(self, picker: Picker, once: bool) -> None:
        """One source, as long as it has a mapping."""
        source = picker.counts.source
        await picker.door.unsend()
        while self.pickers.get(source) is picker:
            known = len(picker.counts.files)
            try:
                async with self.at_once:
                    await (picker.once() if once else picker.look())
            except Transient as error:
                if once:
                    raise
                log.warning("dropped files wait", source=source, reason=str(error))
                await asyncio.sleep(AGAIN_AFTER_S)
                continue
            self._tell(picker, picker.counts.files[known:])
            if once:
                return
            picker.counts.files.clear()
            await asyncio.sleep(AGAIN_AFTER_S if picker.counts.busy else LOOK_EVERY_S)

    def _tell(self, picker: Picker, files: Sequence[Done]) -> None:
        for done in files:
            _log(picker.counts.source, done)
            ending: Ending = "failed" if done.failed else "read"
            note_pass(self.metrics, f"folder/{picker.counts.source}", ending, done.report["rows"])


@asynccontextmanager
async def _together() -> AsyncIterator[asyncio.TaskGroup]:
    """One that fails ends the others, and is what is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed


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
async def _hands(
    settings: Settings, live: LiveSources, current: Current, counts: list[Counts], metrics: Metrics
) -> AsyncIterator[_Hands]:
    quieten_aiokafka()
    there = connection(settings)
    keep = frozenset(READ_BY_US) if there.embedded else frozenset[str]()
    async with AsyncExitStack() as stack:
        pool = await create_pool(
            there.database_url,
            min_size=1,
            max_size=2 * MOST_AT_ONCE + 2,
            application_name="rapid ingest folder",
        )
        stack.callback(pool.terminate)
        began = await settle(pool, settings)
        current.policy = began.policy

        async def changed(found: InForce) -> None:
            current.policy = found.policy

        await stack.enter_async_context(following(Follower(pool, began, changed)))
        publisher = KafkaPublisher(there.brokers, security=there.security, idempotent=not there.embedded)
        stack.push_async_callback(publisher.stop)
        admin = KafkaAdmin(there.brokers, security=there.security)

        def make(mapping: SourceMapping, one: Counts) -> Picker:
            door = Door(mapping.source, pool, publisher, admin, keep=keep, tell=one.tell)
            folder = Folder(drop_folder(settings, mapping.source))
            return Picker(mapping, folder, door, refusals(current), one, _now, settings.drop_settle_s)

        yield _Hands(live, PostgresLedger(pool, log=admin, keep=keep), make, counts, metrics)


def _now() -> datetime:
    return datetime.now(UTC)
