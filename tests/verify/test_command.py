"""`rapid verify` as a user has it: a real database, a real embedded broker, the command's exit codes and words."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from connectors.delivery import OutboxRow
from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.publisher import KafkaPublisher
from infra.embedded.broker import EmbeddedBroker, start_broker
from infra.verify.records import records_of
from infra.verify.world import Read
from schemas.envelope import Event, headers_of
from schemas.policy import Policy
from schemas.topics import all_topics
from tests.conftest import address_of
from tests.verify.conftest import MADE, Made
from tests.verify.made_up import AT, DAY, read_of

RAPID = Path(sys.executable).with_name("rapid")
OUR_TOPICS = ("work-orders", "service-request-news")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    running = start_broker(tmp_path_factory.mktemp("broker") / "broker.log")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def filled(made: Made, broker: EmbeddedBroker, policy: Policy) -> str:
    """The broker's address; it holds what the world's agents published to topics that nobody of ours reads."""
    asyncio.run(fill(broker.address, made.events, policy))
    return broker.address


async def fill(address: str, events: list[Event], policy: Policy) -> None:
    await KafkaAdmin([address]).create(all_topics(one.code for one in policy.departments))
    publisher = KafkaPublisher([address], idempotent=False)
    try:
        await publisher.publish([row_of(at, one) for at, one in enumerate(events) if is_told(one)])
    finally:
        await publisher.stop()


def is_told(event: Event) -> bool:
    return event.topic.startswith(
        ("work-orders", "work-order-update-results", "service-request-news", "sla-alerts", "response-life")
    )


def row_of(at: int, event: Event) -> OutboxRow:
    return OutboxRow(
        at, event.topic, event.key.encode(), event.value, headers_of(event, AT + 100 * DAY)
    )  # at the incident's own time, it would tell


async def test_every_record_of_the_broker_is_read_in_the_order_of_its_key(
    filled: str, events: list[Event]
) -> None:
    found = [record async for record in records_of([filled])(OUR_TOPICS)]
    expected = [read_of(event) for event in events if event.topic in OUR_TOPICS]
    assert by_key(found) == by_key(expected)
    assert found
    assert all(b"ce_source: /rapid-response" in record.bytes for record in found)


def by_key(records: list[Read]) -> dict[tuple[str, str], list[tuple[str | None, str]]]:
    keys = sorted({(one.topic, one.key) for one in records})
    return {
        key: [(one.event_id, one.value) for one in records if (one.topic, one.key) == key] for key in keys
    }


@pytest.fixture
async def environment(made: Made, filled: str, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The settings of an installation with this broker and a copy of the world."""
    url = address_of(made.server, "verify_command")
    admin = await asyncpg.connect(made.server)
    await admin.execute(f"CREATE DATABASE verify_command TEMPLATE {MADE}")
    yield {
        "RAPID_HOME": str(tmp_path),
        "RAPID_BROKERS": filled,
        "RAPID_DATABASE_URL": url,
        "PATH": "/usr/bin",
    }
    await admin.execute("DROP DATABASE verify_command WITH (FORCE)")
    await admin.close()


async def rapid_verify(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(
        subprocess.run, [str(RAPID), "verify", *arguments], env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


async def test_agreement_is_exit_code_0_and_a_disagreement_1_that_names_the_order(
    environment: dict[str, str],
) -> None:
    agreed = await rapid_verify(environment, "--json")
    assert agreed.returncode == 0, agreed.stdout + agreed.stderr
    assert json.loads(agreed.stdout)["agree"] is True
    connected = await asyncpg.connect(environment["RAPID_DATABASE_URL"])
    reference = await connected.fetchval(
        "UPDATE work_orders SET priority = 'routine' WHERE work = 'fix' AND state = 'verified' RETURNING reference"
    )
    await connected.close()
    found = await rapid_verify(environment)
    assert found.returncode == 1, found.stderr
    assert all(word in found.stdout for word in (reference, "columns", "priority routine", "What to do: "))
    told = json.loads((await rapid_verify(environment, "--json", "--only", "columns")).stdout)
    assert [one["reference"] for check in told["checks"] for one in check["disagreements"]] == [reference]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        (("--only", "tea-leaves"), 6, "There is no check tea-leaves"),
        (("--seen", "/nowhere"), 6, "There is no file or folder /nowhere"),
        (("--captured", "/nowhere"), 6, "There is no file or folder /nowhere"),
    ],
)
async def test_what_is_asked_wrongly_is_one_sentence(
    environment: dict[str, str], arguments: tuple[str, ...], exit_code: int, sentence: str
) -> None:
    done = await rapid_verify(environment, *arguments)
    assert (done.returncode, sentence in done.stderr) == (exit_code, True), done.stderr


@pytest.mark.parametrize("line", ["no json", "[]", '{"department":"cdot"}', '{"department":1,"reference":2}'])
async def test_a_line_that_is_no_order_is_told_with_its_place(
    environment: dict[str, str], tmp_path: Path, line: str
) -> None:
    (tmp_path / "crew.ndjson").write_text(f"\n{line}\n")
    done = await rapid_verify(environment, "--only", "seen", "--seen", str(tmp_path))
    assert done.returncode == 8
    assert done.stderr.startswith("rapid: crew.ndjson, line 2: expected a JSON object")
