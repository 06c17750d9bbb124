"""Notifications: what one person is told over one channel, and how far that is."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from schemas.alert import AlertEvent, Level
from schemas.base import Code, Instant, Record, ShortText, derived_id

ItemKind = Literal["alert", "correction", "channel_dead", "channel_back", "template_failed"]
"""`correction`: what was told does not hold, as is known by now. The last three are notices of our own."""
Wait = Literal["gathering", "quiet", "digest"]
State = Literal["waiting", "sent", "not_needed", "undeliverable"]
Template = Literal["alert", "alerts", "digest", "correction", "notice"]
"""`alerts`: a storm, many at once."""
NOBODY = "nobody"
"""The person and the channel of what nobody could be found for."""


class Reason(Record):
    """Why somebody is told who would not be otherwise."""

    kind: Literal["nobody", "unreachable"]
    name: ShortText  # of the role that had nobody; of the person whose channels fail


class Item(Record):
    """What a notification says."""

    kind: ItemKind
    level: Level
    event: AlertEvent | None = None  # of alerts and corrections
    reasons: tuple[Reason, ...] = ()
    about: ShortText | None = None  # of notices: the channel, or the template with its place
    people: tuple[ShortText, ...] = ()  # of a dead channel: whose it is
    since: Instant | None = None
    waiting: Annotated[int, Field(ge=0)] = 0  # of a dead channel: what waits there


class Notification(NamedTuple):
    """A notification to keep."""

    subject: str
    event_seq: int
    person: Code
    channel: Code
    wait: Wait
    due_at: datetime
    item: Item
    state: State = "waiting"
    why: str | None = None

    @property
    def notification_id(self) -> str:
        return notification_id_of(self.subject, self.event_seq, self.person, self.channel)

    @property
    def reference(self) -> str | None:
        return self.item.event.alert.reference if self.item.event else None


class Held(NamedTuple):
    """A notification as it is kept. `perhaps`: an attempt is under way, or nobody knows how one ended."""

    notification_id: str
    person: str
    channel: str
    kind: str
    state: str
    perhaps: bool

    @property
    def told(self) -> bool:
        """Whether the person has it, or may have it."""
        return self.state == "sent" or self.perhaps


class Waiting(NamedTuple):
    """A notification whose time has come."""

    notification_id: str
    person: str
    wait: str
    due_at: datetime
    rounds: int
    item: Item


class Bundle(NamedTuple):
    """Notifications that go out as one message."""

    person: str
    template: Template
    waiting: Sequence[Waiting]

    @property
    def message_id(self) -> str:
        parts = sorted(f"{one.notification_id}/{one.rounds}" for one in self.waiting)
        return f"rn_{derived_id('message', *parts).hex}"


def notification_id_of(subject: str, event_seq: int, person: str, channel: str) -> str:
    """The same event for the same person over the same channel is the same notification."""
    return f"n_{derived_id('notification', subject, str(event_seq), person, channel).hex}"
