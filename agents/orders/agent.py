"""Orders: the one writer of every work order. Shell around `decide.py`."""

from collections.abc import Sequence

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
        news = {order.order_key: self._news(order, before.get(order.order_key)) for order, _ in decided}
        rows = [
            (
                order,
                Row(order.order_id, order.version, (), record.output),
                _told(before.get(order.order_key)) + bool(news[order.order_key]),
            )
            for order, record in decided
        ]
        changed = await store.save_orders(rows)
        outcome = Outcome()
        for order, row, _ in rows:
            if order.order_id in changed:
                outcome.events.append(_order_event(order, row))
                outcome.events += news[order.order_key]
        return outcome

    def _news(self, order: WorkOrder, known: KnownOrder | None) -> list[Event]:
        """What departments are told. Nothing where they would read the same again: that something happened around
        an order is not theirs to know."""
        number = _told(known) + 1
        heard = known.order if known is not None and known.order.state == "new" else None
        events = []
        if heard is not None and heard.department != order.department:
            events.append(self._department_event(heard.model_copy(update={"state": "cancelled"}), number))
            heard = None
        if order.state == "new" or heard is not None:
            view = department_view(order, self._policy, number)
            if heard is None or view != department_view(heard, self._policy, number):
                events.append(self._department_event(order, number))
        return events

    def _department_event(self, order: WorkOrder, number: int) -> Event:
        topic = department_topic(order.department)
        body = department_view(order, self._policy, number).model_dump_json().encode()
        return Event(topic.name, order.reference, body, topic.type, order.reference, number)


def _told(known: KnownOrder | None) -> int:
    return known.told if known is not None else 0


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
