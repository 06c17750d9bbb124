"""A toy stage: every record of `toy-in` is kept in a table and republished on `toy-out`, once and in order."""

from collections.abc import Sequence
from typing import Any, Final

from agents.messages import Binding, Message, Outcome
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
TOY_IN: Final = Topic(
    "toy-in",
    "key",
    ToyIn,
    "rapid.toy-in.v1",
    writers=(),
    readers=("toy",),
    access="internal",
    partitions=PARTITIONS,
)
TOY_OUT: Final = Topic(
    "toy-out",
    "key",
    ToyOut,
    "rapid.toy-out.v1",
    writers=("toy",),
    readers=(),
    access="internal",
    partitions=4,
)

SCHEMA: Final = """
CREATE TABLE toy (
  n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  partition int NOT NULL, "offset" bigint NOT NULL, key text NOT NULL, number int NOT NULL)"""
# no unique constraint on purpose: that nothing is applied twice is the loop's doing, not the table's
_INSERT: Final = """
INSERT INTO toy (partition, "offset", key, number)
SELECT t.p, t.o, t.k, t.v FROM unnest($1::int[], $2::bigint[], $3::text[], $4::int[]) WITH ORDINALITY
       AS t(p, o, k, v, n) ORDER BY t.n"""


async def handle(connection: Any, messages: Sequence[Message]) -> Outcome:
    """Keep and pass on. A poisonous record makes the whole batch fail."""
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
    return Outcome(
        events=[
            Event(
                TOY_OUT.name,
                message.key,
                encode(ToyOut(number=body.number)),
                TOY_OUT.type,
                message.key,
                body.number,
            )
            for message, body in zip(messages, bodies, strict=True)
        ]
    )


BINDING: Final = Binding(TOY_IN, "toy", handle)
