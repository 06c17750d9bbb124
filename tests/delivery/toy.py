"""A toy stage: every record of `<name>-in` is kept in a table and republished on `<name>-out`, in order."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from agents.messages import Binding, Handle, Message, Outcome
from connectors.errors import Permanent
from schemas.base import Record
from schemas.codec import encode
from schemas.envelope import Event
from schemas.topics import Topic


class ToyIn(Record):
    """`number` counts up per key, as the producer sent it."""

    number: int
    poison: bool = False


class ToyOut(Record):
    """The same number."""

    number: int


PARTITIONS: Final = 6

SCHEMA: Final = """
CREATE TABLE toy (
  n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  partition int NOT NULL, "offset" bigint NOT NULL, key text NOT NULL, number int NOT NULL)"""
# no unique constraint on purpose: that nothing is applied twice is the loop's doing, not the table's
_INSERT: Final = """
INSERT INTO toy (partition, "offset", key, number)
SELECT t.p, t.o, t.k, t.v FROM unnest($1::int[], $2::bigint[], $3::text[], $4::int[]) WITH ORDINALITY
       AS t(p, o, k, v, n) ORDER BY t.n"""


def topic_in(name: str) -> Topic:
    return Topic(
        f"{name}-in", "key", ToyIn, "rapid.toy-in.v1", (), ("toy",), "internal", partitions=PARTITIONS
    )


def topic_out(name: str) -> Topic:
    return Topic(f"{name}-out", "key", ToyOut, "rapid.toy-out.v1", ("toy",), (), "internal", partitions=4)


def binding(name: str, slow_s: float = 0.0) -> Binding:
    return Binding(topic_in(name), "toy", handling(topic_out(name), slow_s))


def handling(out: Topic, slow_s: float = 0.0) -> Handle:
    """Keep and pass on; a poisonous record makes the whole batch fail."""

    async def handle(connection: Any, messages: Sequence[Message]) -> Outcome:
        bodies = [message.body for message in messages if isinstance(message.body, ToyIn)]
        if any(body.poison for body in bodies):
            raise Permanent("poison", "poison")
        await connection.execute(
            _INSERT,
            [message.partition for message in messages],
            [message.offset for message in messages],
            [message.key for message in messages],
            [body.number for body in bodies],
        )
        await asyncio.sleep(slow_s)
        pairs = zip(messages, bodies, strict=True)
        return Outcome(events=[_passed_on(out, message.key, body.number) for message, body in pairs])

    return handle


def _passed_on(out: Topic, key: str, number: int) -> Event:
    return Event(out.name, key, encode(ToyOut(number=number)), out.type, key, number)
