"""Reading whole topics on Apache Kafka, whose client knows only the topics that it was told of."""

import pytest

from infra.kafka.local import LocalKafka
from infra.verify.records import records_of
from schemas.envelope import Event
from schemas.policy import Policy
from tests.delivery.conftest import kafka
from tests.verify.made_up import read_of
from tests.verify.test_command import OUR_TOPICS, by_key, fill

__all__ = ["kafka"]

pytestmark = pytest.mark.kafka


async def test_every_record_of_apache_kafka_is_read_in_the_order_of_its_key(
    kafka: LocalKafka, events: list[Event], policy: Policy
) -> None:
    await fill(kafka.address, events, policy)
    found = [record async for record in records_of([kafka.address])([*OUR_TOPICS, "nowhere"])]
    assert by_key(found) == by_key([read_of(event) for event in events if event.topic in OUR_TOPICS])
    assert found
