"""The reference consumer of the docs, as a department runs it: with its own login, against our workers with theirs."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from connectors.kafka.admin import KafkaAdmin
from connectors.postgres.migrate import migrate
from infra.kafka.local import ADMINISTRATOR
from schemas.base import Point
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.topics import INCIDENT_REPORTS, ISSUE_REPORTS, department_topic, results_topic
from schemas.work_order import DepartmentWorkOrder
from schemas.work_order_update import UpdateResult
from tests.delivery.secured import RAPID, Secured, password_of

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]
CONSUMER = ROOT / "docs" / "examples" / "department_consumer.py"
LIMIT_S = 60.0
GROUP = "cdot.reference"
ORDERS = """
SELECT reference, state, outcome, updates, department_body FROM work_orders
WHERE department = 'cdot' AND state <> 'void' ORDER BY reference"""
LEDGER = "SELECT count(*) FROM order_ledger WHERE department = 'cdot'"
CORNER, LIGHT = Point(lat=41.8800, lon=-87.7300), Point(lat=41.8805, lon=-87.7300)


@contextmanager
def running(
    command: list[str], environment: dict[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def department(safe: Secured) -> dict[str, str]:
    """The environment of the department's program: nothing of ours is in it."""
    return {
        "PATH": os.environ["PATH"], "DEPARTMENT": "cdot", "KAFKA_BROKERS": safe.kafka.address,
        "KAFKA_USERNAME": "cdot", "KAFKA_PASSWORD": password_of("cdot"), "KAFKA_CA_FILE": str(safe.ca_file),
    }  # fmt: skip


async def until(what: str, look: Callable[[], Awaitable[Any]], logs: Path) -> Any:
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := await look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {LIMIT_S:g} s\n{ends_of(logs)}")
        await asyncio.sleep(0.2)
    return found


def ends_of(logs: Path) -> str:
    return "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in logs.glob("*.log"))


def drained(ours: dict[str, str]) -> bool:
    """What `rapid status` says, with the login of our processes: everything that was reported is handled."""
    done = subprocess.run(
        [str(RAPID), "status", "--json"], env=ours, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode == 0 and bool(json.loads(done.stdout)["drained"])


async def report(safe: Secured) -> None:
    """A shooting, and a street light that is out nearby, as a source outside reports them."""
    at = datetime.now(UTC) - timedelta(hours=6)
    shooting = IncidentReport(
        source="cad", report_id="DC1-1", incident_number="DC1", occurred_at=at, revised_at=at,
        event="assault", gunshot_injury=True, block="4000 W WASHINGTON BLVD", point=CORNER,
    )  # fmt: skip
    light = IssueReport(
        source="city_311", request_number="SR-DC1", category="street_light", status="open",
        created_at=at - timedelta(days=1), revised_at=at - timedelta(days=1),
        address="4015 W WASHINGTON BLVD", point=LIGHT,
    )  # fmt: skip
    async with AIOKafkaProducer(acks="all", **safe.client("cad")) as producer:
        for topic, one in ((INCIDENT_REPORTS, shooting), (ISSUE_REPORTS, light)):
            await producer.send_and_wait(topic.name, one.model_dump_json().encode(), one.key.encode())


async def told(safe: Secured, topic: str) -> list[bytes]:
    """Everything on a topic, as the department reads it."""
    consumer = AIOKafkaConsumer(topic, group_id=None, auto_offset_reset="earliest", **safe.client("cdot"))
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        found: list[bytes] = []
        while len(found) < sum(ends.values()):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [record.value for record in records]
        return found
    finally:
        await consumer.stop()


async def forget_what_was_read(safe: Secured) -> None:
    """As if the department had restored an old backup: its group begins again."""
    client: Any = KafkaAdmin([safe.kafka.address], security=safe.login(ADMINISTRATOR))._client
    await asyncio.to_thread(client.delete_consumer_groups([GROUP])[GROUP].result, 20)


async def test_every_order_is_acknowledged_resolved_and_answered_and_repeats_change_nothing(
    safe: Secured, bare_dsn: str, tmp_path: Path
) -> None:
    ours = safe.environment(
        "rapid", RAPID_DATABASE_URL=bare_dsn, RAPID_HOME=str(tmp_path / "home"), RAPID_SESSION_TIMEOUT_S="6",
        RAPID_HEARTBEAT_S="1",
    )  # fmt: skip
    await migrate(bare_dsn)
    connection = await asyncpg.connect(bare_dsn)
    consume = [sys.executable, str(CONSUMER)]

    async def resolved() -> list[Any]:
        orders: list[Any] = await connection.fetch(ORDERS)
        return orders if all(order["state"] == "resolved" for order in orders) else []

    async def answered(times: int) -> list[UpdateResult]:
        """Once there are as many answers as there are updates to `times` readings of all orders."""
        found = await told(safe, results_topic("cdot").name)
        wanted = times * 2 * len(await connection.fetch(ORDERS))
        return [UpdateResult.model_validate_json(value) for value in found] if len(found) >= wanted else []

    with running([str(RAPID), "worker"], ours, tmp_path / "worker.log"):
        await report(safe)
        await until("there are orders", lambda: connection.fetch(ORDERS), tmp_path)
        await until("all is handled", partial(asyncio.to_thread, drained, ours), tmp_path)
        with running(consume, department(safe), tmp_path / "first.log") as program:
            orders = await until("every order is resolved", resolved, tmp_path)
            first = await until("the updates are answered", partial(answered, 1), tmp_path)
            program.send_signal(signal.SIGINT)  # it leaves its group, which can be deleted at once
            await asyncio.to_thread(program.wait, 30)
        ledger = await connection.fetchval(LEDGER)
        await forget_what_was_read(safe)
        with running(consume, department(safe), tmp_path / "again.log"):
            second = await until("the repeats are answered", partial(answered, 2), tmp_path)
    assert {order["outcome"] for order in orders} <= {"fixed", "inspected"}
    assert {(one.reference, one.update_id.split()[-1], one.verdict) for one in first} == {
        (order["reference"], verb, "accepted") for order in orders for verb in ("acknowledge", "resolve")
    }
    assert sorted(map(str, second)) == sorted(map(str, first + first))
    assert await connection.fetch(ORDERS) == orders
    assert await connection.fetchval(LEDGER) == ledger == 2 * len(orders)
    last = {
        order.reference: order
        for order in map(
            DepartmentWorkOrder.model_validate_json, await told(safe, department_topic("cdot").name)
        )
    }
    assert {name: order.state for name, order in last.items()} == dict.fromkeys(last, "resolved")
    await connection.close()
