"""Nothing is lost, nothing is applied twice, order holds: on a real broker, with real processes that die."""

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import pytest

from connectors.kafka.worker import EXIT_CONSUMER_DIED, EXIT_STOPPED_TWICE
from infra.kafka.local import LocalKafka
from tests.delivery.checker import check
from tests.delivery.scenario import Scenario, scenario, until
from tests.delivery.toy import PARTITIONS, topic_out
from tests.delivery.worker import EXIT_NO_BROKER, SESSION_TIMEOUT_S

pytestmark = pytest.mark.kafka

SEED = int(os.environ.get("DELIVERY_SEED", "20261122"))
FAULTS = ["kill"] * 11 + ["SIGTERM"] * 9 + ["SIGSTOP"] * 8 + ["broker stop"] * 2 + ["broker kill"] * 2
TAKE_OVER_MARGIN_S = 4.0
# A SIGTERM may also hit a worker that is not up yet, or one that drains already.
EXPECTED_EXITS = {0, -signal.SIGKILL, -signal.SIGTERM, EXIT_CONSUMER_DIED, EXIT_NO_BROKER, EXIT_STOPPED_TWICE}


async def run(case: Scenario, kinds: list[str], seed: int, rate_per_s: float = 600.0) -> list[str]:
    """Load and faults together, then everything drained; what is wrong."""
    chance = random.Random(seed)
    kinds = chance.sample(kinds, len(kinds))
    producing, sampling = asyncio.Event(), asyncio.Event()
    load = asyncio.create_task(case.produce(rate_per_s, producing))
    samples = asyncio.create_task(case.sample(sampling))
    await case.inflict(chance, kinds, pause_s=(1.0, 3.0))
    producing.set()
    await load
    await case.caught_up()
    await asyncio.sleep(2.0)  # committed offsets and late zombies
    sampling.set()
    await samples
    return check(
        await case.read(case.input),
        await case.applied(),
        await case.read(topic_out(case.name).name),
        case.samples,
    )


async def test_nothing_is_lost_or_applied_twice_and_order_holds_under_faults(
    kafka: LocalKafka, dsn: str, tmp_path: Path
) -> None:
    async with scenario(kafka, dsn, "faults", tmp_path) as case:
        for _ in range(3):
            case.add_worker()
        wrong = await run(case, FAULTS, SEED)
        published = await case.read(topic_out(case.name).name)
        codes = sum((worker.exit_codes for worker in case.workers), start=type(case.faults)())
        print(f"\n{case.produced} records, {dict(case.faults)}, exit codes {dict(codes)},", end=" ")
        print(f"{len(case.samples)} samples, {len(published) - case.produced} published again")
        assert wrong == [], case.logs()
        assert case.faults.total() >= 30
        assert len(case.samples) > 100 * PARTITIONS
        assert codes.keys() <= EXPECTED_EXITS, case.logs()


async def test_killed_workers_partitions_are_taken_over_within_the_session_timeout(
    kafka: LocalKafka, dsn: str, tmp_path: Path
) -> None:
    async with scenario(kafka, dsn, "takeover", tmp_path) as case:
        victim = case.add_worker()
        case.add_worker()
        stop = asyncio.Event()
        load = asyncio.create_task(case.produce(600.0, stop))
        await _all_moving(case, 40.0)
        killed_at = time.monotonic()
        victim.kill()
        await _all_moving(case, 40.0)
        took_s = time.monotonic() - killed_at
        stop.set()
        await load
        print(f"\ntaken over after {took_s:.1f} s, session timeout {SESSION_TIMEOUT_S} s")
        assert took_s < SESSION_TIMEOUT_S + TAKE_OVER_MARGIN_S, case.logs()


async def _all_moving(case: Scenario, timeout_s: float) -> None:
    """Until every partition has gone on from where it is now, twice: what was at work does not count."""
    for _ in range(2):
        before = await case.fences()
        deadline = time.monotonic() + timeout_s
        while True:
            now = await case.fences()
            if len(now) == PARTITIONS and all(now[p] > before.get(p, 0) for p in now):
                break
            assert time.monotonic() < deadline, f"{before} {now}\n{case.logs()}"
            await asyncio.sleep(0.05)


async def test_first_sigterm_drains_and_leaves_the_group_and_second_ends_at_once(
    kafka: LocalKafka, dsn: str, tmp_path: Path
) -> None:
    async with scenario(kafka, dsn, "drain", tmp_path) as case:
        worker = case.add_worker(TOY_SLOW_S="0.5")
        stop = asyncio.Event()
        load = asyncio.create_task(case.produce(600.0, stop))
        await _all_moving(case, 40.0)
        worker.send(signal.SIGTERM)
        assert await worker.ended(15.0) == 0, case.logs()
        committed_is_fence = await _committed(case) == await case.fences()
        hasty = case.add_worker(TOY_SLOW_S="3")
        assert await until(lambda: hasty.log.read_text().count("taken over") == PARTITIONS, 20.0)
        await asyncio.sleep(1.0)  # into the handler, which takes three seconds
        hasty.send(signal.SIGTERM)
        assert await until(lambda: "draining" in hasty.log.read_text(), 2.0)
        hasty.send(signal.SIGTERM)
        sent_at = time.monotonic()
        assert await hasty.ended(15.0) == EXIT_STOPPED_TWICE, case.logs()
        assert time.monotonic() - sent_at < 1.0
        assert committed_is_fence
        stop.set()
        await load
        case.workers[:] = []
        case.add_worker()
        await case.caught_up()
        log, out = await case.read(case.input), await case.read(topic_out(case.name).name)
        assert check(log, await case.applied(), out, []) == []


async def test_sigterm_at_any_moment_of_the_start_ends_the_worker(
    kafka: LocalKafka, dsn: str, tmp_path: Path
) -> None:
    async with scenario(kafka, dsn, "early", tmp_path) as case:
        for milliseconds in range(600, 3000, 200):
            worker = case.add_worker()
            await asyncio.sleep(milliseconds / 1000)  # no wait for anything: the moment is the point
            worker.send(signal.SIGTERM)
            assert await worker.ended(25.0) in {0, -signal.SIGTERM}, case.logs()


async def _committed(case: Scenario) -> dict[int, int]:
    async with case._consumer(group_id=case.name) as consumer:
        return await case._committed(consumer)


@pytest.mark.parametrize(
    ("broken", "kinds", "sign"),
    [
        ("fence", ["SIGSTOP"] * 4, "applied twice"),
        ("commit", ["SIGTERM"] * 2, "committed ahead of the fence"),
    ],
)
async def test_checker_notices_when_the_product_is_broken_on_purpose(
    kafka: LocalKafka,
    dsn: str,
    tmp_path: Path,
    broken: str,
    kinds: list[str],
    sign: str,
) -> None:
    async with scenario(kafka, dsn, f"broken-{broken}", tmp_path) as case:
        for _ in range(2):
            case.add_worker(TOY_BREAK=broken, TOY_SLOW_S="0.3")
        wrong = await run(case, kinds, SEED, rate_per_s=400.0)
        print(f"\n{broken}: {wrong}")
        assert any(sign in sentence for sentence in wrong), wrong
