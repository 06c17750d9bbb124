"""What people may do about alerts, over whichever way they say it: checked, and on its way to the order's writer.

The writer judges last: between this check and its turn the alert may have ended.
"""

from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from schemas.alert import Alert, AlertCommand, AlertState
from schemas.codec import encode
from schemas.envelope import Event
from schemas.topics import ALERT_COMMAND_TYPE, WORK_ORDER_COMMANDS

STANDING: Final[tuple[AlertState, ...]] = ("open", "acknowledged", "snoozed")
"""The states in which there is something to do about an alert, or will be."""
OF_DEPARTMENTS: Final = 2
"""The highest level about which a department itself may do something."""


class Rules(NamedTuple):
    """What the policy allows. `addressees`: the persons and roles to whom an alert can be handed over."""

    longest_snooze: timedelta = timedelta(hours=24)
    addressees: frozenset[str] = frozenset()


class Objection(NamedTuple):
    """Why a command cannot be: it names a member that does not fit, or (None) the alert's state does not fit."""

    field: str | None
    sentence: str


def objection(command: AlertCommand, alert: Alert, rules: Rules) -> Objection | None:
    """The first thing that speaks against a command about this alert; None: nothing does."""
    if alert.state not in STANDING:
        return Objection(
            None, f"This alert is {_in_words(alert.state)}: there is nothing to do about it any more."
        )
    if command.kind == "unacknowledge" and alert.state == "open":
        return Objection(None, "This alert is open: nobody has acknowledged or snoozed it.")
    if command.kind == "snooze":
        return _about_until(command.until, command.received_at, rules.longest_snooze)
    if command.kind == "hand_over" and command.to not in rules.addressees:
        return Objection("to", f"a person or role of the policy's on-call list{_some_of(rules.addressees)}")
    return None


def _about_until(until: datetime | None, now: datetime, longest: timedelta) -> Objection | None:
    if until is not None and now < until <= now + longest:
        return None
    hours = longest // timedelta(hours=1)
    return Objection("until", f"a moment that is to come, at most {hours} hours from now")


def _some_of(addressees: frozenset[str]) -> str:
    return f": {', '.join(sorted(addressees)[:20])}" if addressees else ", which is empty"


def _in_words(state: AlertState) -> str:
    return {
        "recorded": "recorded: it was kept for the record and told nobody",
        "withdrawn": "withdrawn: as is known by now, it does not hold",
        "over": "over: its clock has ended",
    }.get(state, state)


def event_of(command: AlertCommand) -> Event:
    """The record of a command on the topic of the orders' writer. The same command has the same event id."""
    version = int.from_bytes(UUID(command.command_id).bytes[:6], "big")
    return Event(
        WORK_ORDER_COMMANDS.name, command.order_key, encode(command), ALERT_COMMAND_TYPE, str(command.alert_id),
        version,
    )  # fmt: skip
