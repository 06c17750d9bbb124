"""Orders: the one writer of every work order. Shell around `decide.py`."""

from collections.abc import Mapping, Sequence

from agents.messages import Message, Outcome, body_of
from agents.orders.decide import OrderInputs, decide, department_view
from connectors.ports import KnownOrder, OrderStore, Row
from schemas.envelope import Event
from schemas.policy import Policy
from schemas.topics import WORK_ORDERS, department_topic
from schemas.work_order import WorkOrder, WorkOrderCommand


class Orders:
    """Reads `work-order-commands`, keyed by category, work and site: the key of an order."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    async def commands(self, store: OrderStore, messages: Sequence[Message]) -> Outcome:
        """Add causes to orders; publish those that changed, each to its department as well."""
        touched = sorted(await store.add_causes(_newest(messages)))
        bodies = await store.causes(touched)
        before = await store.known(touched)
        decided = [decide(_inputs(bodies[key]), self._policy) for key in touched]
        await store.record([record for _, record in decided])
        rows = [
            (order, Row(order.order_id, order.version, (), record.output), told(order, before))
            for order, record in decided
        ]
        changed = await store.save_orders(rows)
        outcome = Outcome()
        for order, row, number in rows:
            if order.order_id in changed:
                outcome.events.append(_order_event(order, row))
                outcome.events += self._department_events(order, _known(order, before), number)
        return outcome

    def _department_events(self, order: WorkOrder, known: KnownOrder, number: int) -> list[Event]:
        """What the department is told, and the one that had the open order before, if it was another."""
        if number == known.told:
            return []
        told = [self._department_event(order, number)]
        if known.state == "new" and known.department != order.department:
            ended = order.model_copy(update={"state": "cancelled", "department": known.department})
            told.append(self._department_event(ended, number))
        return told if order.state == "new" or known.department == order.department else told[1:]

    def _department_event(self, order: WorkOrder, number: int) -> Event:
        topic = department_topic(order.department)
        body = department_view(order, self._policy, number).model_dump_json().encode()
        return Event(topic.name, order.reference, body, topic.type, order.reference, number)


def told(order: WorkOrder, before: Mapping[str, KnownOrder]) -> int:
    """How often the department has been told when this order is: of open work, and of the end of work that it
    was told of. What ended before anybody heard of it is not told."""
    known = _known(order, before)
    return known.told + ("new" in (order.state, known.state))


def _known(order: WorkOrder, before: Mapping[str, KnownOrder]) -> KnownOrder:
    return before.get(order.order_key, KnownOrder("void", order.department, 0))


def _newest(messages: Sequence[Message]) -> list[WorkOrderCommand]:
    """The command with the highest version of each cause, in key order."""
    newest: dict[tuple[str, str], WorkOrderCommand] = {}
    for message in messages:
        command = body_of(message, WorkOrderCommand)
        key = (command.order_key, str(command.cause_id))
        if key not in newest or command.version > newest[key].version:
            newest[key] = command
    return [newest[key] for key in sorted(newest)]


def _inputs(bodies: Sequence[str]) -> OrderInputs:
    return OrderInputs.model_validate_json(f'{{"causes":[{",".join(bodies)}]}}')


def _order_event(order: WorkOrder, row: Row) -> Event:
    key = str(order.order_id)
    return Event(WORK_ORDERS.name, key, row.body.encode(), WORK_ORDERS.type, key, order.version)
