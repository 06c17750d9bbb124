"""Orders: the one writer of every work order. Shell around `site.py`, which holds what one batch touches."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agents.messages import Message, Outcome
from agents.orders.judge import no_such_order
from agents.orders.site import (
    OURSELVES,
    Answered,
    Site,
    Turn,
    answer_to,
    digest,
    said_id_of_link,
)
from agents.orders.telling import answer_events, link_event, turn_events, words_to_others
from connectors.ports import OrderRow, OrderStore, SaidBefore, SiteRows
from schemas.envelope import Event
from schemas.policy import Policy
from schemas.work_order import WorkOrder, WorkOrderCommand
from schemas.work_order_update import Link, UpdateCommand, UpdateResult

Command = WorkOrderCommand | UpdateCommand | Link


class Said(NamedTuple):
    """Who said it, and under which id."""

    department: str
    update_id: str


class Around(NamedTuple):
    """What a batch looks up beside the sites: what was said before, and the orders that updates name."""

    said: dict[tuple[str, str], SaidBefore]
    named: Mapping[str, WorkOrder]
    sites: Mapping[str, Site]

    def original(self, reference: str | None) -> WorkOrder | None:
        """The order that an update names, as this batch has made it by now."""
        order = self.named.get(reference or "")
        site = self.sites.get(order.order_key) if order else None
        if order is None or site is None:
            return order
        site.settle()
        return site.orders[order.generation].order


class Orders:
    """Reads `work-order-commands`, keyed by category, work and site: the key of a site's orders."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    async def commands(self, store: OrderStore, messages: Sequence[Message]) -> Outcome:
        """Causes, updates and links, in their order; publish what changed, each to its department as well."""
        commands = [_command_of(message) for message in messages]
        held = await store.sites(sorted({command.order_key for command in commands}))
        sites = {key: self._site(key, rows) for key, rows in held.items()}
        around = await _around(store, commands, sites)
        answers = [
            answer for command in commands if (answer := _take(sites[command.order_key], command, around))
        ]
        for site in sites.values():
            site.settle()
        return await self._stored(store, list(sites.values()), answers)

    def _site(self, order_key: str, rows: SiteRows) -> Site:
        return Site(
            order_key, self._policy,
            causes={(row.generation, row.cause_id): row for row in rows.causes},
            orders={known.order.generation: known for known in rows.orders},
            entries={
                known.order.generation: list(rows.entries.get(known.order.order_id, ())) for known in rows.orders
            },
        )  # fmt: skip

    async def _stored(self, store: OrderStore, sites: Sequence[Site], answers: Sequence[Answered]) -> Outcome:
        turns = [turn for site in sites for turn in site.turns]
        await store.save_causes([row for site in sites for row in site.changed.values()])
        await store.add_to_ledger([row for site in sites for row in site.added])
        await store.record([turn.decision for turn in turns])
        last = {turn.after.order.order_id: turn for turn in turns}
        await store.save_orders([OrderRow(turn.after, turn.decision.output) for turn in last.values()])
        outcome = Outcome()
        told = []
        for turn in turns:
            events, news = turn_events(turn, self._policy)
            outcome.events += events
            told += news
        for answer in answers:
            events, news = answer_events(answer)
            outcome.events += events
            told += news
        await store.tell(told)
        outcome.events += await _link_events(store, turns)
        await store.audit([attempt for site in sites for attempt in site.attempts])
        return outcome


async def _link_events(store: OrderStore, turns: Sequence[Turn]) -> list[Event]:
    """Words to other orders; what they are keyed by is looked up, which is rare."""
    words = [word for turn in turns for word in words_to_others(turn)]
    there = await store.orders_of(sorted({word.to for word in words}))
    return [link_event(word, there[word.to].order_key) for word in words if word.to in there]


def _command_of(message: Message) -> Command:
    body = message.body
    if not isinstance(body, WorkOrderCommand | UpdateCommand | Link):
        raise TypeError(f"A record of {message.topic} was decoded as {type(body).__name__}.")
    return body


async def _around(store: OrderStore, commands: Sequence[Command], sites: Mapping[str, Site]) -> Around:
    """Nothing is looked up for a batch of causes, which is what most batches are."""
    said = {said_of(command) for command in commands if not isinstance(command, WorkOrderCommand)}
    named = {
        command.update.duplicate_of
        for command in commands
        if isinstance(command, UpdateCommand) and command.update.duplicate_of
    }
    originals = await store.originals(sorted(named))
    return Around(dict(await store.said_before(sorted(said))), originals, sites)


def said_of(command: UpdateCommand | Link) -> Said:
    """What makes it unique."""
    if isinstance(command, UpdateCommand):
        return Said(command.department, command.update.update_id)
    return Said(OURSELVES, said_id_of_link(command))


def _take(site: Site, command: Command, around: Around) -> Answered | None:
    """One command. What was said before is answered as before, and changes nothing."""
    if isinstance(command, WorkOrderCommand):
        site.add_cause(command)
        return None
    before = around.said.get(said_of(command))
    if isinstance(command, Link):
        if before is None:
            _tell(site, command, around)
        return None
    said = digest(command.update.model_dump_json())
    if before is not None:
        return _again(site, command, before, said)
    answer = _answer(site, command, around)
    around.said[said_of(command)] = SaidBefore(said, answer.body)
    return answer


def _again(site: Site, command: UpdateCommand, before: SaidBefore, said: int) -> Answered:
    """The same answer as before, or, to another update under the same id, a refusal of its own."""
    if before.digest == said and before.result:
        result = UpdateResult.model_validate_json(before.result)
        return Answered(command.department, result, before.result, 0)
    return site.refuse_same_id(command, said)


def _answer(site: Site, command: UpdateCommand, around: Around) -> Answered:
    site.settle()
    generation = _generation(site, command.update.reference)
    if generation is None:  # intake found it under this key, so this is no word of ours
        return answer_to(command, no_such_order(command), None, 0)
    return site.answer(command, generation, around.original(command.update.duplicate_of))


def _tell(site: Site, link: Link, around: Around) -> None:
    generation = _generation(site, link.reference)
    if generation is not None:
        site.tell(link, generation)
        around.said[said_of(link)] = SaidBefore(0, None)


def _generation(site: Site, reference: str) -> int | None:
    return next((n for n, known in site.orders.items() if known.order.reference == reference), None)
