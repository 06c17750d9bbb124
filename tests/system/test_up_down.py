"""`rapid up` and `rapid down` as a user has them, with their processes killed."""

import asyncio
import os
import re
import signal
import socket
from collections.abc import Iterator
from urllib.request import urlopen

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.system.installation import Installation, installation, lives, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def fresh() -> Iterator[Installation]:
    with installation() as made:
        yield made


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with installation() as made:
        made.up("--workers", "2")
        yield made


def is_ready(there: Installation) -> bool:
    return there.state().get("phase") == "ready"


def replaced(there: Installation, name: str, old_pid: int) -> bool:
    return is_ready(there) and there.pids().get(name, old_pid) != old_pid


# -- a running system


def test_status_tells_what_runs(running: Installation) -> None:
    found = running.status()
    assert (found["phase"], found["drained"], len(found["workers"])) == ("ready", True, 2)
    assert all(lives(worker["pid"]) for worker in found["workers"])


def test_a_second_up_is_refused_in_one_sentence(running: Installation) -> None:
    again = running.rapid("up")
    assert again.returncode == 4
    assert again.stderr == (
        f"rapid: It is already running in {running.home} (process {running.pids()['supervisor']}): "
        "see `rapid status`, or stop it with `rapid down`.\n"
    )


def test_doctor_finds_nothing_wrong(running: Installation) -> None:
    assert running.rapid("doctor").returncode == 0


def test_nothing_shares_the_terminal_of_who_started_it(running: Installation) -> None:
    own = os.getsid(0)
    assert all(os.getsid(pid) != own for pid in running.pids().values())


def test_a_killed_worker_is_started_again(running: Installation) -> None:
    old = running.pids()["worker-1"]
    os.kill(old, signal.SIGKILL)
    wait_for("another worker", lambda: replaced(running, "worker-1", old))


def answers(there: Installation) -> bool:
    """Whether the API says that it is ready, where the status says that it is."""
    try:
        with urlopen(f"{there.status()['api']}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_killed_api_is_started_again_where_it_was(running: Installation) -> None:
    assert answers(running)
    old, address = running.pids()["api"], running.status()["api"]
    os.kill(old, signal.SIGKILL)
    wait_for("another API", lambda: replaced(running, "api", old))
    assert (answers(running), running.status()["api"]) == (True, address)


def test_a_killed_database_is_started_again(running: Installation) -> None:
    old = running.pids()["database"]
    os.kill(old, signal.SIGKILL)
    wait_for("another database", lambda: replaced(running, "database", old))
    assert running.status()["drained"]


async def accept(url: str, value: bytes, boot_id: str | None) -> None:
    """Put a record into the outbox; with a boot id: one that this boot of the broker has acknowledged."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "INSERT INTO outbox (source, topic, key, value, headers, sent_incarnation, sent_partition, sent_offset)"
            " VALUES ('door/test', 'incident-reports', 'a:b', $1, '[]', $2, $3, $4)",
            value, f"{boot_id}/topic" if boot_id else None, 0 if boot_id else None, 1000 if boot_id else None,
        )  # fmt: skip
    finally:
        await connection.close()


async def values_of(broker: str, topic: str) -> set[bytes]:
    """Every value that the topic holds now."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, group_id=None)
    await consumer.start()
    try:
        await consumer.topics()
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        found: set[bytes] = set()
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                records = await consumer.getmany(partition, timeout_ms=500)
                found.update(record.value for batch in records.values() for record in batch)
        return found
    finally:
        await consumer.stop()


def test_a_killed_broker_is_started_empty_and_filled_again(running: Installation) -> None:
    before, old = running.state(), running.pids()["broker"]
    for value, boot_id in ((b"was acknowledged", before["boot_id"]), (b"was waiting", None)):
        asyncio.run(accept(before["database_url"], value, boot_id))
    os.kill(old, signal.SIGKILL)
    wait_for("another broker", lambda: replaced(running, "broker", old), 120)
    after = running.state()
    assert after["boot_id"] != before["boot_id"]
    assert after["broker_address"] == before["broker_address"]
    held = asyncio.run(values_of(after["broker_address"], "incident-reports"))
    assert held == {b"was acknowledged", b"was waiting"}
    wait_for("everything handled", lambda: running.status()["drained"])


def test_broker_and_database_killed_at_once_come_back(running: Installation) -> None:
    old = running.pids()
    os.kill(old["broker"], signal.SIGKILL)
    os.kill(old["database"], signal.SIGKILL)
    wait_for("another broker", lambda: replaced(running, "broker", old["broker"]), 120)
    wait_for("another database", lambda: replaced(running, "database", old["database"]))


# -- its beginning and its end


def test_down_ends_everything_and_can_be_repeated(fresh: Installation) -> None:
    fresh.up("--workers", "1")
    pids = fresh.pids()
    first, second = fresh.rapid("down"), fresh.rapid("down")
    assert (first.returncode, second.returncode) == (0, 0)
    ended = [f"{name} {pid}" for name, pid in pids.items() if name != "supervisor"]
    assert sorted(ended) == sorted(first.stdout.removeprefix("Stopped ").split(" in ")[0].split(", "))
    assert second.stdout == f"Nothing is running in {fresh.home}.\n"
    assert not [name for name, pid in pids.items() if lives(pid)]


def test_what_was_accepted_outlives_down(fresh: Installation) -> None:
    fresh.up("--workers", "1")
    asyncio.run(accept(fresh.state()["database_url"], b"kept", None))
    fresh.rapid("down")
    fresh.up("--workers", "1")
    assert asyncio.run(values_of(fresh.state()["broker_address"], "incident-reports")) == {b"kept"}


def test_after_a_killed_supervisor_up_ends_what_it_left(fresh: Installation) -> None:
    fresh.up("--workers", "1")
    left = fresh.pids()
    os.kill(left["supervisor"], signal.SIGKILL)
    fresh.up("--workers", "1")
    assert not [name for name, pid in left.items() if lives(pid)]
    assert fresh.status()["phase"] == "ready"


def test_after_a_killed_supervisor_down_ends_what_it_left(fresh: Installation) -> None:
    fresh.up("--workers", "1")
    left = fresh.pids()
    os.kill(left["supervisor"], signal.SIGKILL)
    done = fresh.rapid("down")
    assert done.returncode == 0
    assert "which had been left behind" in done.stdout
    assert not [name for name, pid in left.items() if lives(pid)]


def test_ctrl_c_ends_a_system_in_the_foreground(fresh: Installation) -> None:
    process = fresh.start("up", "--workers", "1")
    wait_for("ready", lambda: is_ready(fresh))
    pids = fresh.pids()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert output.startswith("Rapid Response is ready")
    assert not [name for name, pid in pids.items() if lives(pid)]


def test_sigterm_while_it_starts_leaves_nothing(fresh: Installation) -> None:
    process = fresh.start("up", "--workers", "1")
    wait_for("a broker", lambda: bool(fresh.state().get("broker")))
    pids = fresh.pids()
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert not [name for name, pid in pids.items() if lives(pid)]


def test_a_busy_port_is_one_sentence() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with installation({"RAPID_BROKER_PORT": str(port)}) as made:
            done = made.rapid("up", "--detach")
    assert done.returncode == 5
    assert done.stderr == (
        f"rapid: Port {port} is taken by another program: free it, or choose another with RAPID_BROKER_PORT.\n"
    )


# -- commands without a system


def test_commands_say_when_nothing_runs(fresh: Installation) -> None:
    done = fresh.rapid("status")
    assert (done.returncode, done.stderr) == (
        3, f"rapid: Nothing is running in {fresh.home}: start it with `rapid up --detach`.\n",
    )  # fmt: skip


def test_a_wrong_setting_is_named_and_its_value_is_not_repeated() -> None:
    with installation({"RAPID_WORKERS": "secret"}) as made:
        done = made.rapid("up", "--detach")
    assert done.returncode == 8
    assert re.match(r"rapid: RAPID_WORKERS: expected a whole number\.", done.stderr)
    assert "secret" not in done.stderr


def test_up_is_refused_where_a_broker_is_configured() -> None:
    with installation({"RAPID_BROKERS": "kafka:9092"}) as made:
        done = made.rapid("up")
    assert done.returncode == 8
    assert "rapid worker" in done.stderr
