"""What an alert's event means for those who are told: whom, over what, not before when; and what is needed no more.

Pure. A batch of events is folded one by one, since a later one may take back what an earlier one planned.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from agents.notify.when import due
from agents.sla.oncall import on_call, whom_to_hand, whom_to_tell
from schemas.alert import TELLS, Alert, AlertCommand, AlertEvent, AlertEventKind
from schemas.base import derived_id
from schemas.notification import NOBODY, Held, Item, Notification, Reason
from schemas.oncall import TOP, OncallPolicy, Override, Person, Recipients

NO_LONGER: Final[Mapping[AlertEventKind, str]] = {
    "withdrawn": "As is known by now, the alert does not hold.",
    "over": "Its clock has ended.",
    "acknowledged": "Somebody has acknowledged the alert.",
    "snoozed": "Somebody has put the alert off.",
}
"""Events after which what waits is not sent any more, and why."""
SAID_ANEW: Final = "A newer message about the same alert is sent instead."
NOBODY_FOUND: Final = "The policy has nobody who could be told."
OURS: Final = "notify"
"""Who speaks in the commands that we send to an order."""


class Circle(NamedTuple):
    """Who could be told: the policy's people, the exceptions, and the channels that are dead now."""

    oncall: OncallPolicy
    overrides: Sequence[Override] = ()
    dead: frozenset[str] = frozenset()

    def reaches(self, person: Person) -> bool:
        """Whether a channel of this person works, as far as we know."""
        return any(channel not in self.dead for channel in person.channels)


class Told(NamedTuple):
    """Somebody who is told, and why, if they would not be otherwise."""

    person: Person
    reasons: tuple[Reason, ...] = ()


class Desk(NamedTuple):
    """Who plans: with whom, when, and for how long messages gather before they are sent."""

    circle: Circle
    now: datetime
    gather: timedelta


@dataclass(slots=True)
class Plan:
    """What follows from a batch of events. `held`: what is kept of their alerts already, by alert."""

    desk: Desk
    held: dict[str, dict[str, Held]] = field(default_factory=dict)
    new: dict[str, Notification] = field(default_factory=dict)
    not_needed: dict[str, str] = field(default_factory=dict)
    commands: list[AlertCommand] = field(default_factory=list)

    def take(self, event: AlertEvent) -> None:
        """Fold in the next event."""
        if event.kind in NO_LONGER:
            self._retract(event, NO_LONGER[event.kind])
        if event.kind == "withdrawn":
            self._correct(event)
        if event.kind in TELLS:
            self._retract(event, SAID_ANEW)
            self._tell(event)

    def _tell(self, event: AlertEvent) -> None:
        found = recipients(event.alert, self.desk.now, self.desk.circle)
        self.commands += nobody_there(event, found, self.desk.circle, self.desk.now)
        told = with_reasons(event.alert, found, self.desk.now, self.desk.circle)
        for person, reasons in told:
            self._add(
                event, person, Item(kind="alert", level=event.alert.level, event=event, reasons=reasons)
            )
        if not any(person.channels for person, _ in told):
            item = Item(kind="alert", level=event.alert.level, event=event)
            self._keep(
                Notification(
                    str(event.alert.alert_id), event.seq, NOBODY, NOBODY, "gathering", self.desk.now, item,
                    "undeliverable", NOBODY_FOUND,
                )
            )  # fmt: skip

    def _correct(self, event: AlertEvent) -> None:
        """Who was told of an alert that does not hold is told so, over the same channels."""
        item = Item(kind="correction", level=event.alert.level, event=event)
        told = [one for one in self._of(event).values() if one.told and one.kind == "alert"]
        for person_code, channel in dict.fromkeys((one.person, one.channel) for one in told):
            person = self.desk.circle.oncall.person(person_code)
            if person is not None:
                self._add(event, person, item, (channel,))

    def _retract(self, event: AlertEvent, why: str) -> None:
        of_alert = self._of(event)
        for one in [one for one in of_alert.values() if one.state == "waiting"]:
            self.not_needed[one.notification_id] = why
            of_alert[one.notification_id] = one._replace(state="not_needed")
            if one.notification_id in self.new:
                kept = self.new[one.notification_id]
                self.new[one.notification_id] = kept._replace(state="not_needed", why=why)

    def _add(self, event: AlertEvent, person: Person, item: Item, only: Sequence[str] = ()) -> None:
        when = due(person, item.level, self.desk.now, self.desk.gather)
        for channel in only or person.channels:
            subject = str(event.alert.alert_id)
            self._keep(Notification(subject, event.seq, person.code, channel, when.wait, when.at, item))

    def _keep(self, made: Notification) -> None:
        """What is kept already stays as it is: the event was taken before."""
        of_alert = self.held.setdefault(made.subject, {})
        if made.notification_id not in of_alert:
            self.new[made.notification_id] = made
            of_alert[made.notification_id] = Held(
                made.notification_id, made.person, made.channel, made.item.kind, made.state, False
            )

    def _of(self, event: AlertEvent) -> dict[str, Held]:
        return self.held.setdefault(str(event.alert.alert_id), {})


# ---------------------------------------------------------------- whom


def recipients(alert: Alert, now: datetime, circle: Circle) -> Recipients:
    """Whom the policy tells of this alert now."""
    if alert.handed_to is not None:
        return whom_to_hand(
            alert.handed_to, alert.level, now, department=alert.department, area=alert.area,
            oncall=circle.oncall, overrides=circle.overrides,
        )  # fmt: skip
    return _of_level(alert, alert.level, now, circle)


def with_reasons(alert: Alert, found: Recipients, now: datetime, circle: Circle) -> tuple[Told, ...]:
    """The recipients, with why those are told who would not be otherwise; and for each whose channels are all dead
    the people of the levels above, up to somebody who can be reached."""
    regular = _regular(alert, found, now, circle)
    nobody = tuple(Reason(kind="nobody", name=name) for name in _empty_roles(found, circle.oncall))
    told = {person.code: Told(person, () if person.code in regular else nobody) for person in found.people}
    unreachable = tuple(
        Reason(kind="unreachable", name=person.name) for person in found.people if not circle.reaches(person)
    )
    if unreachable:
        for person in reachable_above(alert, found.level, now, circle, told):
            told[person.code] = Told(person, unreachable)
    return tuple(told.values())


def reachable_above(
    alert: Alert, level: int, now: datetime, circle: Circle, told: Iterable[str]
) -> tuple[Person, ...]:
    """The people of the first level above this one where somebody can be reached who is not told yet."""
    known = frozenset(told)
    for above in range(level + 1, TOP + 1):
        people = _of_level(alert, above, now, circle).people
        others = tuple(one for one in people if one.code not in known and circle.reaches(one))
        if others:
            return others
    return ()


def nobody_there(
    event: AlertEvent, found: Recipients, circle: Circle, now: datetime
) -> Iterator[AlertCommand]:
    """For the alert's own history: which roles had nobody."""
    for climb in found.climbed:
        if climb.role is not None and circle.oncall.role(climb.role) is not None:
            yield absence(event, climb.role, climb.because, now)


def absence(event: AlertEvent, who: str, text: str, now: datetime) -> AlertCommand:
    """Tells the order that nobody was there to be told: of a role, or behind a person's channels. The same event and
    the same who are the same command."""
    alert = event.alert
    return AlertCommand(
        order_key=alert.order_key, order_id=alert.order_id, reference=alert.reference,
        alert_id=alert.alert_id,
        command_id=str(derived_id("nobody", str(alert.alert_id), str(event.seq), who)),
        kind="nobody_there", by=OURS, received_at=now, to=who, text=text,
    )  # fmt: skip


def _of_level(alert: Alert, level: int, now: datetime, circle: Circle) -> Recipients:
    return whom_to_tell(
        level, now, department=alert.department, area=alert.area, oncall=circle.oncall,
        overrides=circle.overrides,
    )  # fmt: skip


def _regular(alert: Alert, found: Recipients, now: datetime, circle: Circle) -> frozenset[str]:
    """Those that the alert would tell in any case, and not because some role had nobody."""
    if not found.climbed:
        return frozenset(person.code for person in found.people)
    if alert.handed_to is not None:
        return frozenset()
    return frozenset(
        person.code
        for role in circle.oncall.roles_of(alert.level)
        for person in on_call(
            role.code, now, department=alert.department, area=alert.area, oncall=circle.oncall,
            overrides=circle.overrides,
        )
    )  # fmt: skip


def _empty_roles(found: Recipients, oncall: OncallPolicy) -> tuple[str, ...]:
    roles = (oncall.role(climb.role) for climb in found.climbed if climb.role is not None)
    return tuple(dict.fromkeys(role.name for role in roles if role is not None))
