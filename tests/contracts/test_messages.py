"""What really travels fits the contracts: every record of every topic of a running installation, and every event of a
world in which everything happens."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import jsonschema_rs
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from connectors.geography.areas import Areas
from infra.contracts.asyncapi import HEADERS
from infra.contracts.records import kinds, published_topics
from schemas.envelope import Event, headers_of
from schemas.policy import Policy
from tests.system.installation import Installation, installation, wait_for
from tests.verify.made_up import AT, make_world

CONTRACTS: Final = Path(__file__).parents[2] / "docs" / "contracts"
KINDS: Final = {kind.name: kind for kind in kinds(published_topics())}
INSIDE_ONLY: Final = {"rapid.response-look.v1", "rapid.nudge.v1"}
"""Sent by the timers when a time has come: in a run of a minute, none does."""


class Read(NamedTuple):
    """One record of a topic."""

    topic: str
    headers: dict[str, str]
    value: bytes


def validator(file: str) -> jsonschema_rs.Draft202012Validator:
    schema = json.loads((CONTRACTS / file).read_text())
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def misfits(records: Sequence[Read]) -> list[str]:
    """What does not fit the schema of its type, or is on a topic where its type has no place."""
    bodies = {name: validator(kind.file) for name, kind in KINDS.items()}
    headers = validator(HEADERS)
    found = []
    for one in records:
        name = one.headers["ce_type"]
        found += [f"{one.topic} {name}: {error}" for error in bodies[name].iter_errors(json.loads(one.value))]
        found += [f"{one.topic} {name}: {error}" for error in headers.iter_errors(one.headers)]
        if not any(_is_place(topic, one.topic) for topic in KINDS[name].topics):
            found.append(f"{one.topic}: no place for {name}")
    return found


def _is_place(known: str, topic: str) -> bool:
    before, department, after = known.partition("{department}")
    return topic.startswith(before) and topic.endswith(after) if department else topic == known


async def test_every_event_of_a_world_in_which_everything_happens_fits(
    connection: Any, policy: Policy, areas: Areas
) -> None:
    records = [_read(event) for event in await make_world(connection, policy, areas)]
    assert misfits(records) == []
    missing = KINDS.keys() - {one.headers["ce_type"] for one in records} - INSIDE_ONLY
    assert missing <= {"rapid.dead-letter.v1", "rapid.incident-report.v1", "rapid.issue-report.v1",
                       "rapid.work-order-update.v1", "rapid.alert-command.v1", "rapid.order-link.v1",
                       "rapid.response-life.v1"}  # fmt: skip
    broken = records[0]._replace(value=b"{}")
    assert misfits([broken]) != []


def _read(event: Event) -> Read:
    headers = {name: value.decode() for name, value in headers_of(event, AT)}
    return Read(event.topic, headers, event.value)


# ---------------------------------------------------------------- a running installation


@pytest.fixture(scope="module")
def run() -> Iterator[Installation]:
    with installation({"RAPID_WORKERS": "1", "RAPID_PARTITIONS": "1"}) as made_installation:
        made_installation.up()
        yield made_installation


@pytest.mark.slow
def test_every_record_of_a_running_system_fits(run: Installation) -> None:
    simulated = str(run.home / "city")
    for command in (
        ("simulate", "--days", "2", "--out", simulated),
        ("replay", f"{simulated}/victims.csv", f"{simulated}/service_requests.json", "--wait"),
    ):
        done = run.rapid(*command)
        assert done.returncode == 0, done.stderr
    brokers = run.status()["broker"]["addresses"]
    order = json.loads(run.rapid("orders", "list", "--state", "new", "--limit", "1", "--json").stdout)[0]
    reference, department = order["reference"], order["department"]
    update = {"update_id": "1", "reference": reference, "verb": "acknowledge"}
    asyncio.run(send(brokers, f"work-order-updates.{department}", reference, json.dumps(update).encode()))
    asyncio.run(send(brokers, "incident-reports", "cad:JK2", b"{not json"))
    wait_for(
        "the answer", lambda: bool(asyncio.run(read(brokers, [f"work-order-update-results.{department}"])))
    )
    wait_for("the dead letter", lambda: bool(asyncio.run(read(brokers, ["dead-letters"]))))

    records = [one for one in asyncio.run(read(brokers)) if "ce_type" in one.headers]
    assert misfits(records) == []
    seen = {one.headers["ce_type"] for one in records}
    assert seen >= {
        "rapid.incident-report.v1", "rapid.issue-report.v1", "rapid.incident.v1", "rapid.issue.v1",
        "rapid.response.v1", "rapid.triage-decision.v1", "rapid.work-order-command.v1", "rapid.work-order.v1",
        "rapid.department-work-order.v1", "rapid.update-command.v1", "rapid.work-order-update-result.v1",
        "rapid.dead-letter.v1",
    }  # fmt: skip


async def send(brokers: list[str], topic: str, key: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=brokers) as producer:
        await producer.send_and_wait(topic, value, key.encode())


async def read(brokers: list[str], topics: Sequence[str] = ()) -> list[Read]:
    """Every record there is, of these topics, or of all of them."""
    consumer: Any = AIOKafkaConsumer(bootstrap_servers=brokers, enable_auto_commit=False)
    await consumer.start()
    try:
        known = topics or sorted(await consumer.topics())
        places = [TopicPartition(topic, 0) for topic in known if "__" not in topic]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        found: list[Read] = []
        async with asyncio.timeout(60):
            for place in places:
                while await consumer.position(place) < ends[place]:
                    some = await consumer.getmany(place, timeout_ms=500)
                    found += [_of(one) for one in some.get(place, ())]
        return found
    finally:
        await consumer.stop()


def _of(record: Any) -> Read:
    headers = {name: value.decode() for name, value in record.headers}
    return Read(record.topic, headers, record.value)
