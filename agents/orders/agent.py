"""Orders: the one writer of every work order. Shell around `site.py`, which holds what one batch touches."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

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
from agents.orders.telling import alert_events, answer_events, link_event, turn_events, words_to_others
from agents.orders.watch import Held, Seen, Watch, versions_of
from agents.responses.looks import looks, rest_of
from agents.sla.book import Book
from connectors.ports import Attempt, OrderRow, OrderStore, SaidBefore, SiteRows
from schemas.alert import AlertCommand
from schemas.envelope import Event
from schemas.policy import Policy
from schemas.promise import Nudge, PromiseLine
from schemas.work_order import WorkOrder, WorkOrderCommand
from schemas.work_order_update import Link, UpdateCommand, UpdateResult

Command = WorkOrderCommand | UpdateCommand | Link
MOST_POLICIES: Final = 8
"""At hand after a batch; a batch may need more."""

Ask = Nudge | AlertCommand
"""What asks for a look at an order, and says nothing of the order itself."""


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
    """Reads `work-order-commands`, keyed by category, work and site: the key of a site's orders.

    `now` is what the workers' clock says: promises begin, and break, by it.
    """

    def __init__(self, policy: Policy, now: Callable[[], datetime]) -> None:
        self._policy = policy
        self._now = now
        self._book = Book([policy])

    async def commands(self, store: OrderStore, messages: Sequence[Message]) -> Outcome:
        """Causes, updates and links, in their order; publish what changed, each to its department as well. Then look
        at the promises of what changed, and of what time or a person asks about."""
        now = self._now()
        bodies = [message.body for message in messages]
        commands = [body for body in bodies if isinstance(body, Command)]
        asks = [body for body in bodies if isinstance(body, Ask)]
        if len(commands) + len(asks) < len(bodies):
            raise TypeError(f"A record of {messages[0].topic} was decoded as something else than a command.")
        held = await store.sites(sorted({command.order_key for command in commands})) if commands else {}
        self._forget()
        await self._know(store, _versions_of(held.values()))
        sites = {key: self._site(key, rows, now) for key, rows in held.items()}
        around = await _around(store, commands, sites)
        answers = [
            answer for command in commands if (answer := _take(sites[command.order_key], command, around))
        ]
        for site in sites.values():
            site.settle()
        outcome = await self._stored(store, list(sites.values()), answers)
        attempts = await self._watch(store, list(sites.values()), asks, now, outcome)
        outcome.events += await _looks(store, list(sites.values()))
        await store.audit([*(attempt for site in sites.values() for attempt in site.attempts), *attempts])
        return outcome

    def _site(self, order_key: str, rows: SiteRows, now: datetime) -> Site:
        generations = {known.order.order_id: known.order.generation for known in rows.orders}
        return Site(
            order_key, self._policy, self._book, now,
            causes={(row.generation, row.cause_id): row for row in rows.causes},
            orders={known.order.generation: known for known in rows.orders},
            entries={one: list(rows.entries.get(order_id, ())) for order_id, one in generations.items()},
            lines={one: tuple(rows.lines.get(order_id, ())) for order_id, one in generations.items()},
        )  # fmt: skip

    def _forget(self) -> None:
        """Old policies are not kept for ever: those that a batch needs are looked up for it."""
        if len(self._book) > MOST_POLICIES:
            self._book = Book([self._policy])

    async def _know(self, store: OrderStore, versions: set[str]) -> None:
        """Have these policies at hand: an order, and a promise, keep the one that they were given under."""
        missing = sorted(version for version in versions if version not in self._book)
        for policy in (await store.policies(missing) if missing else {}).values():
            self._book.add(policy)

    def _lives_by(self, order: WorkOrder) -> Policy:
        return self._book.policy(order.policy_version) or self._policy

    # -- promises

    async def _watch(
        self, store: OrderStore, sites: Sequence[Site], asks: Sequence[Ask], now: datetime, outcome: Outcome
    ) -> list[Attempt]:
        """Look at every order that changed or is asked about; its alerts, and when to look again."""
        watches = {
            known.order.order_id: Watch(
                site.before.get(generation), site.held(generation), site.stands.get(generation)
            )
            for site in sites
            for generation, known in site.orders.items()
            if site.has_changed(generation)
        }
        await self._join(store, watches, asks)
        old = [order_id for order_id, watch in watches.items() if watch.before is not None]
        alerts = await store.alerts_of(old)
        seen = {
            order_id: watch.look(alerts.get(order_id, ()), self._lives_by(watch.after.order), self._book, now)
            for order_id, watch in watches.items()
        }
        return await self._stored_looks(
            store, [line for site in sites for line in site.new_lines()], seen, outcome
        )

    async def _join(self, store: OrderStore, watches: dict[UUID, Watch], asks: Sequence[Ask]) -> None:
        """Beside what changed, what is asked about. A command that was taken before is left out."""
        there = await store.promised(sorted({ask.order_id for ask in asks} - watches.keys())) if asks else {}
        lines = [line for one in there.values() for line in one.lines]
        await self._know(store, versions_of(lines) | {one.order.policy_version for one in there.values()})
        for order_id, one in there.items():
            held = Held(one.order, [e for e in one.entries if e.verdict != "refused"], one.lines)
            watches[order_id] = Watch(held, held)
        said = [ask.command_id for ask in asks if isinstance(ask, AlertCommand)]
        taken = await store.commands_taken(said) if said else set()
        for ask in asks:
            again = isinstance(ask, AlertCommand) and (ask.alert_id, ask.command_id) in taken
            if ask.order_id in watches and not again:
                watches[ask.order_id].asks.append(ask)
                taken |= {(ask.alert_id, ask.command_id)} if isinstance(ask, AlertCommand) else set()

    async def _stored_looks(
        self,
        store: OrderStore,
        lines: Sequence[PromiseLine],
        looks: Mapping[UUID, Seen | None],
        outcome: Outcome,
    ) -> list[Attempt]:
        seen = {order_id: one for order_id, one in looks.items() if one is not None}
        await store.save_promises(lines, [one.promises for one in seen.values()])
        events = [event for one in seen.values() for event in one.events]
        await store.save_alerts(events)
        await store.set_timers(
            [one.timer for one in seen.values() if one.timer],
            [order_id for order_id, one in seen.items() if one.timer is None],
        )
        told = []
        for event in events:
            more, news = alert_events(event)
            outcome.events += more
            told += news
        await store.tell(told)
        return [attempt for one in seen.values() for attempt in one.attempts]

    async def _stored(self, store: OrderStore, sites: Sequence[Site], answers: Sequence[Answered]) -> Outcome:
        turns = [turn for site in sites for turn in site.turns]
        await store.add_to_ledger([row for site in sites for row in site.added])
        await store.save_causes([row for site in sites for row in site.changed.values()])
        await store.keep([turn.decision for turn in turns])
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
        return outcome


async def _looks(store: OrderStore, sites: Sequence[Site]) -> list[Event]:
    """Have the responses looked at of which an order has ended or is open again; and, whatever else changed, those
    that are at rest: what they were closed with may have to be corrected."""
    ended, changed = set[UUID](), set[UUID]()
    for site in sites:
        for turn in site.turns:
            before = turn.before.order if turn.before else None
            is_news = before is not None and rest_of(before) != rest_of(turn.after.order)
            (ended if is_news else changed).update(site.asked_by(turn.after.order.generation))
    others = sorted(changed - ended, key=lambda one: one.int)
    return looks(ended | await store.at_rest(others))


async def _link_events(store: OrderStore, turns: Sequence[Turn]) -> list[Event]:
    """Words to other orders; what they are keyed by is looked up, which is rare."""
    words = [word for turn in turns for word in words_to_others(turn)]
    there = await store.orders_of(sorted({word.to for word in words}))
    return [link_event(word, there[word.to].order_key) for word in words if word.to in there]


def _versions_of(held: Iterable[SiteRows]) -> set[str]:
    """The policies that sites' orders live by, and their promises."""
    rows = list(held)
    lines = versions_of([line for one in rows for lines in one.lines.values() for line in lines])
    return lines | {known.order.policy_version for one in rows for known in one.orders}


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
