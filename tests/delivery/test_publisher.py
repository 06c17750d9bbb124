"""A producer that is closed while its broker is silent: nothing of it may live on."""

import asyncio
import signal
from pathlib import Path

import pytest

from connectors.delivery import OutboxRow
from connectors.errors import Transient
from connectors.kafka import publisher as module
from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.publisher import KafkaPublisher
from infra.embedded.broker import await_broker, launch_broker
from schemas.topics import INCIDENTS


def row(number: int) -> OutboxRow:
    return OutboxRow(number, INCIDENTS.name, b"k", f"{number}".encode(), [])


async def test_a_producer_that_does_not_end_is_cut_off_with_what_it_has_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.3)
    broker = launch_broker(tmp_path / "broker.log")
    try:
        await asyncio.to_thread(await_broker, broker)
        await KafkaAdmin([broker.address]).create([INCIDENTS])
        before = asyncio.all_tasks()
        publisher = KafkaPublisher([broker.address], idempotent=False)
        (first,) = await publisher.publish([row(1)])
        broker.process.send_signal(signal.SIGSTOP)
        under_way = asyncio.create_task(publisher.publish([row(2)]))
        await asyncio.sleep(0.3)
        queued = asyncio.create_task(publisher.publish([row(3)]))
        await asyncio.sleep(0.1)
        await publisher.stop()
        for publishing in (under_way, queued):
            with pytest.raises(Transient):
                await asyncio.wait_for(publishing, 1.0)
        await asyncio.sleep(0.5)
        assert asyncio.all_tasks() - before == set()
        broker.process.send_signal(signal.SIGCONT)
        (position,) = await publisher.publish([row(4)])
        # the second was on the wire, and may be there; the third was not, and is not
        assert position.offset - first.offset in (1, 2)
        await publisher.stop()
    finally:
        broker.process.kill()
        broker.process.wait()
