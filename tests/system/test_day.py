"""The scripted day in small, as a user runs it: crews on four interfaces, processes killed, and everything agrees."""

import asyncio
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.system.installation import RAPID, Installation, installation, running_in, wait_for

pytestmark = pytest.mark.slow

INTERFACES = {"cdot": "kafka", "dss": "rest", "dob": "open311", "cscc": "webhook"}
LIMIT_S = 420.0


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the day makes its folder. Not pytest's: PostgreSQL's user may not enter that."""
    with tempfile.TemporaryDirectory(prefix="day-test-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def start(place: Path, *arguments: str, **more: str) -> "subprocess.Popen[str]":
    """A day that is given another installation's address and a wrong home, and must look at neither."""
    environment = os.environ | {
        "TMPDIR": str(place), "RAPID_HOME": str(place / "never"), "RAPID_BROKERS": "kafka.invalid:9092",
    }  # fmt: skip
    return subprocess.Popen(
        [str(RAPID), "simulate", "day", "--small", *arguments], env=environment | more, cwd=place,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def lived(place: Path, *arguments: str, **more: str) -> tuple[int, dict[str, Any], str]:
    """Exit code and result of a whole day, and what it said meanwhile."""
    day = start(place, *arguments, "--json", **more)
    try:
        output, said = day.communicate(timeout=LIMIT_S)
    finally:
        day.kill()
    assert output, said
    return day.returncode, json.loads(output), said


def disagreements(result: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    """What `rapid verify` found, by check."""
    checks = result["verify"]["checks"]
    return {check["check"]: check["disagreements"] for check in checks if check["disagreements"]}


def test_after_a_day_with_kills_everything_agrees_and_nothing_tells_of_an_incident(place: Path) -> None:
    code, result, said = lived(place, "--seed", "3")
    assert disagreements(result) == {}, said
    assert (code, result["agrees"]) == (0, True)
    killed = result["faults"]["killed"]
    assert killed == {"worker": 1, "api": 1, "courier": 1, "broker": 1} == result["faults"]["back"]
    brought = {row["department"]: row for row in result["updates"]}
    assert {code: row["interface"] for code, row in brought.items()} == INTERFACES
    assert all(row["accepted"] for row in brought.values()), brought
    assert all(result["received_bytes"].values()), result["received_bytes"]
    done = {
        check["check"]: check["compared"] for check in result["verify"]["checks"] if not check["not_done"]
    }
    assert done["seen"] > 20
    assert done["privacy"] > sum(map(len, brought)) > 0
    assert running_in(place) == []
    assert list(place.iterdir()) == []


def test_a_day_in_which_something_is_planted_disagrees(place: Path) -> None:
    told = '{"note": "after the shooting"}'
    code, result, _ = lived(place, "--no-kill", "--minutes", "0.1", "--seed", "3", SIMULATED_DAY_PLANTED=told)
    found = disagreements(result)
    assert sorted(found) == ["privacy", "seen"]
    assert "99" in found["seen"][0]["found"]
    assert "shooting" in found["privacy"][0]["found"]
    assert (code, result["agrees"]) == (1, False)


def test_an_interrupted_day_leaves_nothing(place: Path) -> None:
    day = start(place)
    wait_for("a database", lambda: any(place.glob("rapid-day-*/home/database/postmaster.pid")))
    day.send_signal(signal.SIGTERM)
    output, said = day.communicate(timeout=90)
    assert day.returncode == 130, output + said
    assert running_in(place) == []
    assert list(place.iterdir()) == []


# -- what a day found: the embedded broker keeps nothing, and departments may not have read it yet


@pytest.fixture
def fresh() -> Iterator[Installation]:
    with installation() as made:
        yield made


def test_departments_find_what_they_were_told_last_in_a_broker_that_begins_empty(fresh: Installation) -> None:
    fresh.up("--workers", "1")
    folder = fresh.home.parent / "city"
    assert fresh.rapid("simulate", "--days", "2", "--seed", "3", "--out", str(folder)).returncode == 0
    files = map(str, sorted(folder.iterdir()))
    assert fresh.rapid("replay", *files, "--wait").returncode == 0
    before = asyncio.run(told(fresh, "work-orders.cdot"))
    assert fresh.rapid("down").returncode == 0
    fresh.up("--workers", "1")
    assert asyncio.run(told(fresh, "work-orders.cdot")) == before
    assert len(before) > 5


async def told(there: Installation, topic: str) -> dict[str, tuple[bytes, bytes]]:
    """The last record of each key: its value, and its `ce_id`."""
    consumer = AIOKafkaConsumer(bootstrap_servers=there.status()["broker"]["addresses"], group_id=None)
    await consumer.start()
    try:
        places = [
            TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        ends = await consumer.end_offsets(places)
        consumer.assign(places)
        await consumer.seek_to_beginning()
        found: dict[str, tuple[bytes, bytes]] = {}
        async with asyncio.timeout(30):
            while [place for place in places if await consumer.position(place) < ends[place]]:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found |= {
                        record.key.decode(): (record.value, dict(record.headers)["ce_id"])
                        for record in records
                    }
        return found
    finally:
        await consumer.stop()
