"""What the loop hands to an agent, and what an agent hands back."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from connectors.errors import Permanent
from schemas.base import Record
from schemas.dead_letter import Reason
from schemas.envelope import Event
from schemas.topics import Topic


class Message(NamedTuple):
    """One record of a topic, decoded. `body` is None where the topic only wakes its reader."""

    topic: str
    partition: int
    offset: int
    key: str
    body: Record | None
    event_id: str | None  # CloudEvents id, when the producer gave one
    correlation: str | None
    raw_key: bytes
    raw_value: bytes
    headers: Sequence[tuple[str, bytes | None]] = ()


class Rejection(NamedTuple):
    """A message that an agent refuses: it becomes a dead letter, the batch around it goes on."""

    message: Message
    reason: Reason
    field: str | None
    expected: str  # what is wrong, what was expected, what to do


@dataclass(slots=True)
class Outcome:
    """What a handled batch leads to: events to publish in this order, and refused messages."""

    events: list[Event] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)


Handle = Callable[[Any, Sequence[Message]], Awaitable[Outcome]]
"""`await handle(connection, messages)`, inside the loop's transaction. Keeps no state; may be called again
with the same messages or with some of them."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One line of the map: a topic, the agent that reads it, and whether it needs the body or just the key.

    `patience_s`: so long its lane waits for more, where nobody waits for what it decides: fewer transactions.
    """

    topic: Topic
    agent: str
    handle: Handle
    reads: str = "body"  # "body": decode and validate it; "key": the record only wakes the agent
    patience_s: float = 0.0


B = TypeVar("B", bound=Record)


def id_of(message: Message) -> UUID:
    """The key of a record that only wakes its reader: the id of what changed. Raises Permanent."""
    try:
        return UUID(message.key)
    except ValueError as error:
        raise Permanent("The key is no UUID; only our own agents write to this topic.", "key") from error


def body_of(message: Message, schema: type[B]) -> B:
    """The decoded body; a binding that reads bodies guarantees its type."""
    if not isinstance(message.body, schema):
        raise TypeError(f"A record of {message.topic} was decoded as {type(message.body).__name__}.")
    return message.body
