"""What has a response looked at: the record that wakes its writer, and the orders' changes that call for it.

Dispatch, orders and timers write it.
"""

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from agents.orders.decide import final_outcome
from agents.orders.life import CLOSED
from schemas.envelope import Event
from schemas.topics import RESPONSE_LOOKS
from schemas.work_order import Outcome, WorkOrder


class Rest(NamedTuple):
    """How an order stands in which there is nothing to do. It matters to a response when this changes."""

    state: str
    verify: bool
    outcome: Outcome | None


def rest_of(order: WorkOrder | None) -> Rest | None:
    """None: there is something to do, or no order."""
    if order is None or order.state not in CLOSED:
        return None
    return Rest(order.state, order.verify, final_outcome(order))


def looks(incident_ids: Iterable[UUID]) -> list[Event]:
    """One record for each. It carries nothing: the writer decides from what is stored."""
    return [
        Event(RESPONSE_LOOKS.name, key, b"{}", RESPONSE_LOOKS.type, key, 0, key)
        for key in sorted({str(incident_id) for incident_id in incident_ids})
    ]
