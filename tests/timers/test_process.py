"""`rapid timers` as processes: two at a time, killed, stopped, with its parts away."""

import asyncio
import signal
import socket
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.kafka.admin import KafkaAdmin
from connectors.postgres import timers
from infra.embedded.broker import free_port, start_broker
from schemas.topics import WORK_ORDER_COMMANDS
from tests.timers.conftest import Arrivals, now_of, seconds_from_now, timer, until_true
from tests.timers.processes import COMMAND, environment_of, timers_process

FIRST_LEASE_S = 10.0


@pytest.mark.slow
async def test_what_a_killed_service_had_leased_is_nudged_by_the_other_when_its_lease_ends(
    database_url: str, connection: Any, address: str, arrivals: Arrivals, tmp_path: Path
) -> None:
    """The first is stopped with what it holds, so that the second cannot have it; then killed."""
    env = environment_of(database_url, address, tmp_path)
    async with timers_process(env, tmp_path / "1.log") as first:
        due = await seconds_from_now(connection, 1.2)
        await timers.arm(connection, [timer(number, due) for number in range(300)])

        async def all_are_leased() -> bool:
            leased = "SELECT count(*) = 300 FROM timers WHERE nudges = 1"
            return bool(await connection.fetchval(leased))

        await until_true(all_are_leased)
        first.process.send_signal(signal.SIGKILL)
        await first.process.wait()
    assert await now_of(connection) < due, "it was killed too late to hold anything"
    async with timers_process(env, tmp_path / "2.log"):
        later = await seconds_from_now(connection, 0.1)
        await timers.arm(connection, [timer(1000, later)])
        await arrivals.until(301)
    assert arrivals.all[0].nudge.reference == "WO-00000-01000"  # the other one worked all the while
    for number in range(300):
        (arrived,) = arrivals.of(number)
        late_s = arrived.at_s - due.timestamp()
        assert FIRST_LEASE_S <= late_s < FIRST_LEASE_S + 5
        assert arrived.nudge.at == due


@pytest.mark.slow
async def test_two_services_share_and_double_nothing_and_what_sigterm_meets_goes_to_the_other(
    database_url: str, connection: Any, address: str, arrivals: Arrivals, tmp_path: Path
) -> None:
    env = environment_of(database_url, address, tmp_path)
    async with (
        timers_process(env, tmp_path / "1.log") as one,
        timers_process(env, tmp_path / "2.log") as two,
    ):
        base = await seconds_from_now(connection, 0.5)
        armed = [timer(number, base + timedelta(milliseconds=number)) for number in range(4000)]
        await timers.arm(connection, armed)
        await arrivals.until(2000)
        one.process.terminate()
        asked_at = time.monotonic()
        assert await one.process.wait() == 0
        assert time.monotonic() - asked_at < 8
        await arrivals.until(4000)
        two.process.terminate()
        assert await two.process.wait() == 0
    assert len({one.nudge.order_id for one in arrivals.all}) == len(arrivals.all) == 4000
    for found in arrivals.all:
        assert -0.002 <= found.at_s - found.nudge.at.timestamp() < FIRST_LEASE_S - 2
    shares = [said for log in (one, two) for said in log.said if said["event"] == "nudged"]
    assert sum(said["first"] for said in shares) == 4000
    assert len(shares) == 2
    assert not any(said["again"] for said in shares)
    assert all(0 <= said["p50_ms"] <= said["p99_ms"] <= said["max_ms"] for said in shares)


async def test_metrics_are_served_where_the_settings_say(
    database_url: str, connection: Any, address: str, arrivals: Arrivals, tmp_path: Path
) -> None:
    port = free_port()
    env = environment_of(database_url, address, tmp_path) | {"RAPID_WATCH_PORT": str(port)}
    async with timers_process(env, tmp_path / "1.log"), httpx.AsyncClient(trust_env=False) as client:
        await timers.arm(connection, [timer(1, await now_of(connection))])
        await arrivals.until(1)
        async with asyncio.timeout(30):
            while True:
                text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
                if "rapid_timers_lateness_seconds_count 1.0" in text:
                    break
                await asyncio.sleep(0.02)
    assert 'rapid_timers_lateness_seconds_bucket{le="0.25"}' in text
    assert "rapid_timers_nudges_again_total 0.0" in text
    assert "rapid_timers_held 0.0" in text


async def test_a_metrics_port_that_is_taken_is_told_in_a_sentence(database_url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = environment_of(database_url, "127.0.0.1:1", tmp_path) | {"RAPID_WATCH_PORT": str(port)}
        done = await asyncio.to_thread(
            subprocess.run, COMMAND, env=env, capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode == 5
    assert done.stderr.splitlines()[-1].startswith(f"rapid: The timers cannot be watched on 127.0.0.1:{port}")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
async def test_it_waits_for_a_broker_that_is_away_and_stops_meanwhile(
    database_url: str, connection: Any, tmp_path: Path
) -> None:
    port = free_port()
    env = environment_of(database_url, f"127.0.0.1:{port}", tmp_path)
    await timers.arm(connection, [timer(1, await now_of(connection))])
    async with timers_process(env, tmp_path / "1.log") as waiting:
        await waiting.until_said("the timers wait for the broker")
        waiting.process.terminate()
        async with asyncio.timeout(10):
            assert await waiting.process.wait() == 0
    assert "Traceback" not in waiting.log.read_text()
    async with timers_process(env, tmp_path / "2.log") as waiting:
        await waiting.until_said("the timers wait for the broker")
        broker = start_broker(tmp_path / "broker.log", port)
        try:
            admin = KafkaAdmin([broker.address])
            await admin.create([WORK_ORDER_COMMANDS])
            await until_true(lambda: _has_records(admin))
            waiting.process.terminate()
            assert await waiting.process.wait() == 0
        finally:
            broker.stop()
    assert [said["first"] for said in waiting.said if said["event"] == "nudged"] == [1]


async def _has_records(admin: KafkaAdmin) -> bool:
    topic = WORK_ORDER_COMMANDS
    return any([await admin.end_offset(topic.name, number) for number in range(topic.partitions)])


async def test_without_tables_it_says_what_to_do(server: str, tmp_path: Path) -> None:
    env = environment_of(server, "127.0.0.1:1", tmp_path)
    done = await asyncio.to_thread(
        subprocess.run, COMMAND, env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 6
    assert done.stderr.splitlines()[-1] == "rapid: The database has no tables yet: run `rapid migrate`."
