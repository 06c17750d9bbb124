"""Pure: one site's orders, one after the other, and what each command makes of them.

Held for the length of one batch. The shell loads it, feeds it commands in their order, and stores what changed.
"""

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Final, NamedTuple
from uuid import UUID

from agents.orders.decide import OrderInputs, base_routing, decide, department_view, start_of_day
from agents.orders.judge import Case, Judgement, judge, refused, work_goes_on
from agents.orders.life import CLOSED, HANDS_ON, live
from agents.orders.promises import History, Present, Stands, clocks_of, views_of, with_lines_due
from agents.orders.watch import Held
from agents.sla.book import Book
from connectors.ports import Attempt, CauseRow, KnownOrder, LedgerRow
from schemas.decision import DecisionRecord
from schemas.policy import Policy
from schemas.promise import PromiseLine
from schemas.work_order import DepartmentState, DepartmentWorkOrder, PromiseView, WorkOrder, WorkOrderCommand
from schemas.work_order_update import (
    LedgerEntry,
    Link,
    LinkKind,
    UpdateCommand,
    UpdateResult,
    WorkOrderUpdate,
)

OURSELVES: Final = "rapid"
"""Who says a link, in the ledger's column of departments: no department has this code."""


_ENDED: Final = ("cancelled", "void")

WORDS: Final[dict[LinkKind, str]] = {
    "is_duplicate": "{} is a duplicate of it.",
    "original_resolved": "Its original {} was resolved.",
    "original_reopened": "Its original {} is open again.",
    "original_cancelled": "Its original {} was cancelled: it is to be done here.",
}
"""What a link says, for the ledger."""


class Answered(NamedTuple):
    """An answer to one update: to whom, the bytes, and what makes its event id."""

    department: str
    result: UpdateResult
    body: str
    number: int


class Turn(NamedTuple):
    """One change of one order: what stood before, what stands, and how it was decided."""

    before: KnownOrder | None
    after: KnownOrder
    decision: DecisionRecord


@dataclass(slots=True)
class Site:
    """All orders of one order key, and what this batch has made of them so far."""

    order_key: str
    policy: Policy  # that is in force
    book: Book  # holds the policies that its orders were opened and promised under
    now: datetime
    causes: dict[tuple[int, UUID], CauseRow] = field(default_factory=dict)  # by generation and cause
    orders: dict[int, KnownOrder] = field(default_factory=dict)  # by generation
    entries: dict[int, list[LedgerEntry]] = field(default_factory=dict)  # of the ledger, all, by generation
    lines: dict[int, tuple[PromiseLine, ...]] = field(default_factory=dict)  # of the promises, by generation
    before: dict[int, Held] = field(init=False)  # the orders as they were
    stands: dict[int, Stands | None] = field(default_factory=dict)  # as last computed
    changed: dict[tuple[int, UUID], CauseRow] = field(default_factory=dict)
    added: list[LedgerRow] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    _stale: set[int] = field(default_factory=set)  # generations whose causes changed since they were decided

    def __post_init__(self) -> None:
        self.before = {generation: self.held(generation) for generation in self.orders}

    def policy_of(self, generation: int) -> Policy:
        """The policy that an order lives by: the one that opened it, as long as it is open or somebody has spoken of
        it. One that ended before anybody did comes back as a new one would come, by the policy in force."""
        known = self.orders.get(generation)
        if known is None or (known.order.state in CLOSED and not known.order.updates):
            return self.policy
        return self.book.policy(known.order.policy_version) or self.policy

    def held(self, generation: int) -> Held:
        """An order, what counts of its ledger, and its promise lines, as they are now."""
        order = self.orders[generation].order
        return Held(order, self._counting(generation), self.lines.get(generation, ()))

    def has_changed(self, generation: int) -> bool:
        """Whether this batch has made anything of an order that its promises, or its alerts, go by."""
        before, after = self.before.get(generation), self.orders[generation].order
        if before is None or self._have_moved(generation):
            return True
        return (before.order.state, before.order.department) != (after.state, after.department)

    def _have_moved(self, generation: int) -> bool:
        """Whether this batch has added anything that an order's clocks are made of."""
        before = self.before.get(generation)
        return before is None or (
            len(before.entries) != len(self._counting(generation))
            or before.lines != self.lines.get(generation, ())
        )

    def new_lines(self) -> list[PromiseLine]:
        """The promise lines that this batch has added."""
        known = {generation: len(held.lines) for generation, held in self.before.items()}
        return [line for number, lines in self.lines.items() for line in lines[known.get(number, 0) :]]

    def asked_by(self, generation: int) -> set[UUID]:
        """The incidents that ever asked for an order."""
        return {row.incident_id for (number, _), row in self.causes.items() if number == generation}

    # -- causes

    def add_cause(self, command: WorkOrderCommand) -> None:
        """A cause that is new, or newer than what is held of it. Of a closed order it changes what is known; when
        it asks anew, it asks for the next order, unless the same event has asked before."""
        rows = (row for row in self.causes.values() if row.cause_id == command.cause_id)
        old = max(rows, key=lambda row: (row.version, row.generation), default=None)
        if old is not None and command.version <= old.version:
            return
        generation = old.generation if old else self._last_generation()
        asks_anew = command.standing == "live" and (old is None or old.standing != "live")
        kin = (
            self._generation_of_kin(command)
            if old is None or (asks_anew and old.standing == "void")
            else None
        )
        if kin is not None:
            generation = kin
        elif asks_anew:
            generation = self._open_generation()
        row = CauseRow(
            self.order_key, generation, command.cause_id, command.version, command.incident_id,
            command.issue_id, command.standing, command.model_dump_json(),
        )  # fmt: skip
        self.causes[generation, command.cause_id] = self.changed[generation, command.cause_id] = row
        self._stale.add(generation)

    def _generation_of_kin(self, command: WorkOrderCommand) -> int | None:
        """The order that the same event asked for here before, by another source; None: it did not. What was done for
        it need not be done again because somebody else tells of it, too."""
        if not command.kin:
            return None
        self.settle()
        return max(
            (row.generation for row in self.causes.values() if row.incident_id in command.kin), default=None
        )

    def _last_generation(self) -> int:
        self.settle()
        return max(self.orders, default=1)

    def _open_generation(self) -> int:
        """The order that what is asked for now joins: the open one; without one the last, or, when that is closed, the
        one after it."""
        last = self._last_generation()
        still_open = [number for number, known in self.orders.items() if known.order.state not in CLOSED]
        if still_open:
            return max(still_open)
        return last + 1 if self.orders and is_closed(self.orders[last].order) else last

    # -- updates and links

    def answer(self, command: UpdateCommand, generation: int, original: WorkOrder | None) -> Answered:
        """Judge an update, write it into the ledger, and answer it."""
        self.settle()
        known, inputs, pinned = self.orders[generation], self._inputs(generation), self.policy_of(generation)
        entry = self._entry(
            generation,
            command.department,
            self._when(command, inputs),
            command.received_at,
            update=command.update,
        )
        case = Case(
            command=command, order=known.order, department=base_routing(inputs, pinned).department,
            entries=self._counting(generation), entry=entry, told=known.told,
            successor=self._successor(generation), original=original, pinned=pinned,
        )  # fmt: skip
        judgement = judge(case, self.policy)
        if judgement.verdict != "refused" and self._would_reopen(generation, entry):
            judgement = work_goes_on(case, self.policy)
        self._enter(generation, entry, judgement)
        return self._reply(command, self.orders[generation], judgement, entry.seq)

    def tell(self, link: Link, generation: int) -> None:
        """Take a word from another order into the ledger. Said twice, it is there once: the ledger's key sees to it.
        It counts when it is heard, after all that is known by now."""
        self.settle()
        at = max([link.at, *(one.at for one in self._counting(generation))])
        entry = self._entry(generation, OURSELVES, at, at, link=link)
        judgement = Judgement("accepted", link.kind, WORDS[link.kind].format(link.other))
        if self._would_reopen(generation, entry):
            judgement = refused("work_goes_on", "The work at this site goes on in another order.")
        self._enter(generation, entry, judgement)

    def _enter(self, generation: int, entry: LedgerEntry, judgement: Judgement) -> None:
        entry = entry.model_copy(update=judgement._asdict())
        self.entries.setdefault(generation, []).append(entry)
        row = LedgerRow(
            self.order_key, entry.order_id, entry.seq, entry.department, said_id(entry), digest_of(entry),
            entry.verdict, entry.model_dump_json(), None,
        )  # fmt: skip
        self.added.append(row)
        if judgement.verdict != "refused":
            self._stale.add(generation)
            self.settle()

    def _when(self, command: UpdateCommand, inputs: OrderInputs) -> datetime:
        """When it counts: at its own time, if that can be. It is not after we heard of it (a clock is fast), not
        before the day on which the order was opened, and not before it was handed to its present owner."""
        heard = command.received_at
        opened = start_of_day(min(cause.at for cause in inputs.causes), self.policy)
        handed_on = [one.at for one in inputs.entries if one.update and one.update.verb in HANDS_ON]
        return max([min(command.update.at or heard, heard), opened, *handed_on])

    def _reply(
        self, command: UpdateCommand, known: KnownOrder, judgement: Judgement, number: int
    ) -> Answered:
        """What the sender reads. To others than the owner and the centre, the order does not exist."""
        theirs = judgement.rule != "no_such_order"
        answer = answer_to(command, judgement, known if theirs else None, number)
        self.added[-1] = self.added[-1]._replace(result=answer.body)
        self.attempts.append(attempt_of(command, judgement))
        return answer

    def refuse_same_id(self, command: UpdateCommand, said: int) -> Answered:
        """The answer to another update under an id that stands for one: in the audit trail, and in no ledger."""
        self.attempts.append(attempt_of(command, SAME_ID))
        return answer_to(command, SAME_ID, None, abs(said) % 2**31 + 1)

    def _entry(
        self, generation: int, department: str, at: datetime, received_at: datetime, *,
        update: WorkOrderUpdate | None = None, link: Link | None = None,
    ) -> LedgerEntry:  # fmt: skip
        order = self.orders[generation].order
        earlier = [one.handled_at for one in self.entries.get(generation, ()) if one.handled_at]
        return LedgerEntry(
            order_id=order.order_id, seq=len(self.entries.get(generation, ())) + 1, department=department,
            owner=order.department, at=at, received_at=received_at,
            handled_at=max([self.now, *earlier]), update=update, link=link,
            verdict="accepted", rule="counts", because="-",
        )  # fmt: skip

    def _counting(self, generation: int) -> list[LedgerEntry]:
        return [entry for entry in self.entries.get(generation, ()) if entry.verdict != "refused"]

    def _successor(self, generation: int) -> WorkOrder | None:
        """The order in which the site's work goes on: one that is open, else a later one that came to its end."""
        others = [known.order for number, known in self.orders.items() if number != generation]
        for one in others:
            if one.state not in CLOSED or (one.generation > generation and one.state not in _ENDED):
                return one
        return None

    def _would_reopen(self, generation: int, entry: LedgerEntry) -> bool:
        """Whether an entry, perhaps a late one, would open a closed order whose work goes on in another."""
        if self.orders[generation].order.state not in CLOSED or self._successor(generation) is None:
            return False
        inputs = self._inputs(generation)
        with_it = inputs.model_copy(update={"entries": (*inputs.entries, entry)})
        return decide(with_it, self.policy_of(generation))[0].state not in CLOSED

    # -- deciding

    def settle(self) -> None:
        """Decide every order anew whose causes or ledger changed."""
        for generation in sorted(self._stale):
            self._decide(generation)
        self._stale.clear()

    def _decide(self, generation: int) -> None:
        before, policy = self.orders.get(generation), self.policy_of(generation)
        order, decision = decide(self._inputs(generation), policy)
        if before is not None and order.version <= before.order.version:
            return
        told, body = before_told(before)
        promises = self._promises(generation, order, policy)
        if self._is_news(order, before, promises, policy):
            told += 1
            body = department_view(order, policy, told, promises).model_dump_json()
        after = KnownOrder(order, told, body)
        self.orders[generation] = after
        self.turns.append(Turn(before, after, decision))

    def _promises(self, generation: int, order: WorkOrder, policy: Policy) -> tuple[PromiseView, ...]:
        """What is promised now, with a line for whatever our side changes about it."""
        entries, lines = self._counting(generation), self.lines.get(generation, ())
        department = entries[0].owner if entries else order.department
        written = len(self.entries.get(generation, ()))
        present = Present(order, live(entries, department, policy), lines, written)
        present = with_lines_due(present, policy, self.now)
        self.lines[generation] = present.lines
        before = self.orders.get(generation)
        if before and before.department_body and not self._have_moved(generation):
            return DepartmentWorkOrder.model_validate_json(before.department_body).promises
        history = History(entries, present.lines, department)
        stands = self.stands[generation] = clocks_of(order.order_id, history, policy, self.book)
        return views_of(stands.promises if stands else None)

    def _is_news(
        self, order: WorkOrder, before: KnownOrder | None, promises: tuple[PromiseView, ...], policy: Policy
    ) -> bool:
        """Whether the department would read something else. That something happened around an order is not
        theirs to know, and of one that they have closed nothing that is not their own doing."""
        if before is None or before.department_body is None:
            return order.state not in CLOSED
        if order.department != before.order.department:
            return True
        if (
            order.state in CLOSED
            and before.order.state == order.state
            and before.order.updates == order.updates
        ):
            return False
        seen = department_view(order, policy, before.told, promises).model_dump_json()
        return seen != before.department_body

    def _inputs(self, generation: int) -> OrderInputs:
        causes = sorted((row for row in self.causes.values() if row.generation == generation), key=_by_cause)
        bodies = ",".join(row.body for row in causes)
        inputs = OrderInputs.model_validate_json(f'{{"causes":[{bodies}],"generation":{generation}}}')
        entries = tuple(self._counting(generation))
        return inputs.model_copy(update={"entries": entries}) if entries else inputs


def _by_cause(row: CauseRow) -> UUID:
    return row.cause_id


def is_closed(order: WorkOrder) -> bool:
    """Whether what is asked for now is asked of the next order. One that ended before anybody spoke comes back."""
    return order.state in CLOSED and (order.updates > 0 or order.state not in ("cancelled", "void"))


def before_told(before: KnownOrder | None) -> tuple[int, str | None]:
    """How often the department was told, and what last."""
    return (before.told, before.department_body) if before else (0, None)


def said_id(entry: LedgerEntry) -> str:
    """What makes an entry unique among those of its sender."""
    if entry.update is not None:
        return entry.update.update_id
    assert entry.link is not None
    return said_id_of_link(entry.link)


def said_id_of_link(link: Link) -> str:
    """What makes a link unique."""
    return f"{link.kind}:{link.other}:{link.reference}:{link.version}"


def digest_of(entry: LedgerEntry) -> int:
    """Of what was said, whenever it reached us; signed 64 bit."""
    said = entry.update or entry.link
    assert said is not None
    return digest(said.model_dump_json())


def digest(text: str) -> int:
    """64 bits of a text, signed as PostgreSQL has them."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def attempt_of(command: UpdateCommand, judgement: Judgement) -> Attempt:
    """What a department tried, for the audit trail."""
    said = command.update
    return Attempt(
        command.department, said.reference, said.update_id, said.verb, judgement.verdict, judgement.rule
    )


def answer_to(
    command: UpdateCommand, judgement: Judgement, known: KnownOrder | None, number: int
) -> Answered:
    """The answer to an update; `known`: the order as the sender may know it, None: there is none for them."""
    state: DepartmentState | None = None
    gone = known is not None and known.order.department != command.department
    if known is not None and gone and command.department in known.order.rejected_by:
        state = "rejected"  # as they are told: it is another's, whose state is not theirs to know
    elif known is not None:
        state = "cancelled" if known.order.state == "void" else known.order.state
    result = UpdateResult(
        update_id=command.update.update_id, reference=command.update.reference, verdict=judgement.verdict,
        rule=judgement.rule, because=judgement.because, state=state, version=known.told if known else None,
    )  # fmt: skip
    return Answered(command.department, result, result.model_dump_json(), number)


SAME_ID = refused("same_id_other_content", "This update_id was used for another update: give each its own.")
"""The answer to an update whose id stands for another one."""
