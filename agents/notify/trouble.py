"""What follows when a way to somebody fails: who is told of it, and who is told instead. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from agents.notify.plan import Desk, absence, reachable_above
from agents.notify.when import due
from agents.sla.oncall import whom_to_tell
from schemas.alert import AlertCommand
from schemas.notification import Item, ItemKind, Notification, Reason
from schemas.oncall import TOP, Person

NOTICE_LEVEL: Final = 3
"""Who is told of our own troubles, beside those whom they concern: the duty supervisor."""


class Outage(NamedTuple):
    """A channel that is dead, or works again: how often it was dead before, since when, what waits there."""

    channel: str
    number: int  # 1, 2, 3 …
    since: datetime
    waiting: int = 0


class Stranded(NamedTuple):
    """An alert that somebody was to be told of who cannot be reached."""

    subject: str
    event_seq: int
    person: str
    item: Item


class Instead(NamedTuple):
    """Who is told in somebody's place, and what the alerts' own histories say of it."""

    notifications: tuple[Notification, ...]
    commands: tuple[AlertCommand, ...]


def of_outage(outage: Outage, kind: ItemKind, desk: Desk) -> tuple[Notification, ...]:
    """Told once when a channel dies and once when it works again: to the other channels of its people, and to the
    duty supervisor."""
    owners = [person for person in desk.circle.oncall.persons if outage.channel in person.channels]
    item = Item(
        kind=kind, level=NOTICE_LEVEL, about=outage.channel, people=tuple(person.name for person in owners),
        since=outage.since, waiting=outage.waiting,
    )  # fmt: skip
    seq = outage.number * 2 + (kind == "channel_back")
    told = _notice(f"channel/{outage.channel}", seq, item, owners, desk)
    return tuple(one for one in told if one.channel != outage.channel)


def of_template(where: str, desk: Desk) -> tuple[Notification, ...]:
    """A template that failed: told to the duty supervisor, once a day."""
    item = Item(kind="template_failed", level=NOTICE_LEVEL, about=where[:200])
    return tuple(_notice(f"template/{where[:200]}", desk.now.toordinal(), item, [], desk))


def instead(stranded: Iterable[Stranded], desk: Desk) -> Instead:
    """For each alert that did not reach somebody: the next level's people who can be reached."""
    notifications: list[Notification] = []
    commands: list[AlertCommand] = []
    for one in stranded:
        event = one.item.event
        if event is None or one.item.kind != "alert":
            continue
        absent = desk.circle.oncall.person(one.person)
        name = absent.name if absent else one.person
        people = reachable_above(event.alert, one.item.level, desk.now, desk.circle, {one.person})
        reason = Reason(kind="unreachable", name=name)
        item = one.item.model_copy(
            update={"level": min(one.item.level + 1, TOP), "reasons": (*one.item.reasons, reason)}
        )
        notifications += _to(people, one.subject, one.event_seq, item, desk)
        if people:
            text = (
                f"{name} could not be reached: {', '.join(person.name for person in people)} is told instead."
            )
            commands.append(absence(event, one.person, text, desk.now))
    return Instead(tuple(notifications), tuple(commands))


def _notice(
    subject: str, seq: int, item: Item, also: Sequence[Person], desk: Desk
) -> Iterator[Notification]:  # fmt: skip
    circle = desk.circle
    on_duty = whom_to_tell(NOTICE_LEVEL, desk.now, oncall=circle.oncall, overrides=circle.overrides).people
    people = {person.code: person for person in (*also, *on_duty)}
    return _to(people.values(), subject, seq, item, desk)


def _to(people: Iterable[Person], subject: str, seq: int, item: Item, desk: Desk) -> Iterator[Notification]:
    """Over each of their channels that works, as far as we know."""
    for person in people:
        when = due(person, item.level, desk.now, desk.gather)
        for channel in person.channels:
            if channel not in desk.circle.dead:
                yield Notification(subject, seq, person.code, channel, when.wait, when.at, item)
