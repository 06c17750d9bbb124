"""Pure: what becomes of a parked update when its order is there, and when its time is up."""

from datetime import datetime

from agents.intake.agent import update_event
from agents.orders.judge import no_such_order
from agents.orders.site import attempt_of
from connectors.ports import Attempt, ParkedUpdate
from schemas.codec import encode
from schemas.dead_letter import DeadLetter, dead_letter_id_of
from schemas.envelope import Event
from schemas.topics import updates_topic
from schemas.work_order_update import UpdateCommand

NOWHERE = -1
"""Partition and offset of a dead letter that was parked: its record may be gone from the log."""


def sent_on(parked: ParkedUpdate, order_key: str) -> Event:
    """The update on its way to its order."""
    return update_event(order_key, parked.department, parked.received_at, parked.update)


def given_up(parked: ParkedUpdate, now: datetime) -> DeadLetter:
    """The dead letter, which can be retried. The department was answered when the update came."""
    topic, key = updates_topic(parked.department).name, parked.update.reference.encode()
    value = encode(parked.update)
    return DeadLetter(
        dead_letter_id=dead_letter_id_of(topic, key, value), topic=topic, partition=NOWHERE, offset=NOWHERE,
        reason="unknown_order", field="reference",
        expected=f"the reference of an order; none appeared in {_hours(now, parked.received_at)} hours",
        key=key, value=value, source=parked.department,
    )  # fmt: skip


def attempt_given_up(parked: ParkedUpdate) -> Attempt:
    """What the department tried, for the audit trail."""
    command = _command(parked)
    return attempt_of(command, no_such_order(command))


def _command(parked: ParkedUpdate) -> UpdateCommand:
    """As it would have gone to its order; without one, under its reference."""
    return UpdateCommand(
        order_key=parked.update.reference, department=parked.department, received_at=parked.received_at,
        update=parked.update,
    )  # fmt: skip


def _hours(now: datetime, since: datetime) -> int:
    return round((now - since).total_seconds() / 3600)
