"""An activation takes effect between two batches of every worker: none that begins after it goes by the one before."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import pytest

from agents.app import GoesBy, Ruled
from agents.messages import Binding, Message, Outcome
from agents.runner import Limits, Runner
from connectors.delivery import FenceKey, Moment
from connectors.errors import Transient
from connectors.geography.areas import Areas
from connectors.postgres import activations
from connectors.postgres.activations import New
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.policies import keep_policy
from connectors.postgres.pool import create_pool
from infra.in_force import Follower, settle
from infra.settings import Settings
from schemas.incident import IncidentReport
from schemas.policy import Policy
from schemas.topics import INCIDENT_REPORTS
from tests.delivery.doubles import MemoryFeed, MemoryLog, MemoryPublisher, Raw
from tests.delivery.scenario import until

LIMITS: Final = Limits(retry_first_s=0.01, retry_most_s=0.05)
LIMIT_S: Final = 10.0
SHORT_S: Final = 0.3
WAITING: Final = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
BY: Final = "SELECT policy_version, count(*) FROM decisions GROUP BY policy_version"


class Worker:
    """A worker's own parts, on one partition of the incidents' reports. It never looks by itself what is in force."""

    def __init__(
        self, pool: Any, ruled: Ruled, follower: Follower, partition: int, pause: bool = False
    ) -> None:
        self.feed, self.partition, self.sent = MemoryFeed(), partition, 0
        self.moments: Counter[str] = Counter()
        self.why = ""
        self.deaths: list[BaseException] = []
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        if not pause:
            self.go_on.set()
        goes_by = GoesBy(ruled.held, lambda: ruled.renew(follower))
        [binding] = [one for one in ruled.bindings if one.topic == INCIDENT_REPORTS]
        self._handle = binding.handle
        self.runner = Runner(
            [Binding(binding.topic, binding.agent, self._paused, binding.reads)], consumer="rapid",
            ledger=PostgresLedger(pool, held=goes_by.held), publisher=MemoryPublisher(), source=MemoryLog(),
            limits=LIMITS, die=self.deaths.append, watch=self._watch, renew=goes_by.renew,
        )  # fmt: skip
        self.runner.feed = self.feed

    async def _paused(self, connection: Any, messages: Sequence[Message]) -> Outcome:
        self.begun.set()
        await self.go_on.wait()
        return await self._handle(connection, messages)

    def _watch(self, _: str, __: FenceKey, moment: Moment) -> None:
        self.moments[moment.what] += 1
        self.why = moment.why or self.why

    async def open(self) -> None:
        self.runner.open([(INCIDENT_REPORTS.name, self.partition)])
        assert await until(lambda: bool(self.feed.begun), LIMIT_S), self.deaths

    def give(self) -> int:
        """One more report; its offset."""
        offset, self.sent = self.sent, self.sent + 1
        batch = self.feed.batch(INCIDENT_REPORTS.name, [report(self.partition, offset)])
        self.runner.accept(batch._replace(partition=self.partition))
        return offset

    async def work(self) -> None:
        """One more report, until it is done."""
        offset = self.give()
        assert await until(lambda: offset in self.feed.completed, LIMIT_S), (self.why, self.deaths)


def report(partition: int, offset: int) -> Raw:
    made = IncidentReport(
        source="cpd", report_id=f"JH{partition}{offset}-1", incident_number=f"JH{partition}{offset}",
        occurred_at=datetime(2025, 7, 4, 21, tzinfo=UTC), revised_at=datetime(2025, 7, 4, 22, tzinfo=UTC),
        event="assault", gunshot_injury=True, block="1000 W MADE UP ST", point=None,
    )  # fmt: skip
    return Raw(offset, made.key.encode(), made.model_dump_json().encode())


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Any]:
    made = await create_pool(database_url, min_size=1, max_size=6)
    yield made
    await made.close()


@pytest.fixture
async def workers(pool: Any, areas: Areas) -> AsyncIterator[list[Worker]]:
    """Two of them, which follow the activations each for itself."""
    async with AsyncExitStack() as stack:
        made = []
        for partition in range(2):
            one = await worker(pool, areas, partition)
            stack.push_async_callback(one.runner.close)
            made.append(one)
        yield made


@pytest.fixture
async def slow(pool: Any, areas: Areas, workers: list[Worker]) -> AsyncIterator[Worker]:
    """A third one, which has begun a batch and does not end it until `go_on` is set."""
    made = await worker(pool, areas, len(workers), pause=True)
    made.give()
    await asyncio.wait_for(made.begun.wait(), LIMIT_S)
    yield made
    made.go_on.set()
    await made.runner.close()


async def worker(pool: Any, areas: Areas, partition: int, *, pause: bool = False) -> Worker:
    began = await settle(pool, Settings())
    ruled = Ruled(Settings(), pool, began, areas)
    made = Worker(pool, ruled, Follower(pool, began, ruled.changed), partition, pause)
    await made.open()
    return made


def named(policy: Policy, version: str) -> Policy:
    return policy.model_copy(update={"version": version})


async def activate(connection: Any, policy: Policy, wait_s: float = LIMIT_S) -> None:
    async with connection.transaction():
        await keep_policy(connection, policy)
        await activations.activate(connection, New("policy", policy.version, "cli:ann", "because"), wait_s)


async def decided_by(connection: Any) -> dict[str, int]:
    return dict(await connection.fetch(BY))


async def waiting(pool: Any, count: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while await pool.fetchval(WAITING) != count:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.01)


async def test_workers_that_do_not_look_decide_each_batch_by_what_holds(
    workers: list[Worker], connection: Any, policy: Policy
) -> None:
    for one in workers:
        await one.work()
    before = await decided_by(connection)
    assert before == {policy.version: len(workers)}
    for number in range(3):
        await activate(connection, named(policy, f"version-{number}"))
        await asyncio.gather(*(one.work() for one in workers))
        assert (await decided_by(connection))[f"version-{number}"] == len(workers)
    assert (await decided_by(connection))[policy.version] == len(workers)
    assert [one.moments["failed"] for one in workers] == [0, 0]
    assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 0


async def test_boundaries_alike(workers: list[Worker], connection: Any) -> None:
    number = await activations.latest(connection, "policy")
    assert number is not None
    for one in workers:
        await one.work()
    async with connection.transaction():
        await connection.execute("INSERT INTO area_sets VALUES ('empty', '{}', 'cli:ann')")
        added = await activations.activate(connection, New("areas", "empty", "cli:ann", "because"))
    for one in workers:
        await one.work()
        assert one.runner.ledger._held() == added.seq > number.seq  # type: ignore[attr-defined]


async def test_an_activation_waits_for_the_batch_at_work_and_the_next_ones_wait_for_it(
    workers: list[Worker], slow: Worker, pool: Any, connection: Any, policy: Policy
) -> None:
    activating = asyncio.create_task(activate(connection, named(policy, "second")))
    await waiting(pool, 1)
    late = workers[0].give()
    await waiting(pool, 2)
    assert not activating.done()
    slow.go_on.set()
    await asyncio.wait_for(activating, LIMIT_S)
    assert await until(lambda: slow.feed.completed == [0], LIMIT_S)
    assert await until(lambda: late in workers[0].feed.completed, LIMIT_S)
    assert await decided_by(connection) == {policy.version: 1, "second": 1}


async def test_an_activation_does_not_wait_for_ever_and_says_for_whom(
    workers: list[Worker], slow: Worker, connection: Any, policy: Policy
) -> None:
    with pytest.raises(
        Transient, match=r"database session \d+ \(rapid-response, its batch began \d+ s ago\)"
    ):
        await activate(connection, named(policy, "second"), SHORT_S)
    latest = await activations.latest(connection, "policy")
    assert latest is not None
    assert latest.version == policy.version
    await workers[0].work()  # and nobody waits behind it any more


async def test_of_a_worker_that_stands_still_the_session_ends_and_the_activation_goes_on(
    database_url: str, connection: Any, policy: Policy
) -> None:
    pool = await create_pool(database_url, min_size=1, max_size=1, idle_in_transaction_timeout_s=SHORT_S)
    still = await pool.acquire()
    try:
        async with asyncio.timeout(LIMIT_S):
            begun = activations.deciding(still)
            await begun.__aenter__()
            await activate(connection, named(policy, "second"))
            with pytest.raises((asyncpg.IdleInTransactionSessionTimeoutError, asyncpg.InterfaceError)):
                await still.fetchval("SELECT 1")
    finally:
        await pool.release(still)
        await pool.close()
    latest = await activations.latest(connection, "policy")
    assert latest is not None
    assert latest.version == "second"


async def test_a_worker_that_cannot_take_it_up_decides_nothing_until_it_can(
    workers: list[Worker], connection: Any, policy: Policy
) -> None:
    one = workers[0]
    await one.work()
    async with connection.transaction():
        await connection.execute("INSERT INTO policies VALUES ('of-another-program', '{}')")
        await activations.activate(connection, New("policy", "of-another-program", "cli:ann", "x"))
    offset = one.give()
    assert await until(lambda: one.moments["failed"] > 1, LIMIT_S)
    assert (
        "This worker cannot take up what is in force by now: The policy of-another-program was kept"
        in one.why
    )
    assert await decided_by(connection) == {policy.version: 1}
    await activate(connection, named(policy, "second"))
    assert await until(lambda: offset in one.feed.completed, LIMIT_S)
    assert await decided_by(connection) == {policy.version: 1, "second": 1}
    assert not one.deaths


async def test_a_transaction_that_fails_lets_go_of_everything(pool: Any, connection: Any) -> None:
    ledger = PostgresLedger(pool, held=lambda: 0)

    async def write(then: str) -> None:
        async with asyncio.timeout(LIMIT_S), ledger.transaction() as held:
            await held.execute("INSERT INTO policies VALUES ('gone', '{}')")
            await held.execute(then)

    with pytest.raises(asyncpg.PostgresSyntaxError):
        await write("nonsense")
    with pytest.raises(Transient):
        await write("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await connection.fetchval("SELECT count(*) FROM policies") == 0
    async with ledger.transaction() as held:
        await held.execute("INSERT INTO policies VALUES ('kept', '{}')")
    assert await connection.fetchval("SELECT version FROM policies") == "kept"
