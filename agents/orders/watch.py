"""Pure: what time, and people, make of an order's promises: what is fired, corrected, answered, and waited for next."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from agents.orders.decide import title_of
from agents.orders.promises import SAYS, History, Stands, clocks_of
from agents.sla.book import Book
from agents.sla.ladder import Ladder, Standing, of_order
from connectors.ports import Attempt, KnownAlert, Timer
from schemas.alert import AlertCommand, AlertEvent
from schemas.policy import Policy
from schemas.promise import Nudge, PromiseLine, Promises
from schemas.work_order import WorkOrder
from schemas.work_order_update import LedgerEntry, Verdict

OURSELVES: Final = "orders"
MOST_AHEAD: Final = timedelta(seconds=2)
"""A nudge tells the timers' time, which is the database's. So far it is believed when our clock is behind."""


class Held(NamedTuple):
    """What is known of an order at some time."""

    order: WorkOrder
    entries: Sequence[LedgerEntry]  # those that count
    lines: Sequence[PromiseLine]


class Seen(NamedTuple):
    """What a look at an order came to."""

    promises: Promises
    events: list[AlertEvent]
    timer: Timer | None
    attempts: list[Attempt]


@dataclass(slots=True)
class Watch:
    """One order in one batch: before it, after it, and what asks for a look."""

    before: Held | None  # None: it is new
    after: Held
    stands: Stands | None = None  # as `after` has them, where that is known already
    asks: list[Nudge | AlertCommand] = field(default_factory=list)

    def look(self, alerts: Sequence[KnownAlert], policy: Policy, book: Book, now: datetime) -> Seen | None:
        """Fire what was due before the batch, then what follows from it; None: nothing is promised."""
        after = standing_of(self.after, policy, book, self.stands)
        if after is None:
            return None
        until = max([self._until(now), *(known.alert.fired_at for known in alerts)])
        ladder = of_order(book, alerts)
        asked = self.before is self.after
        before = standing_of(self.before, policy, book) if self.before and not asked else None
        if before is not None:
            ladder.look(before, until)
        ladder.look(after, until)
        attempts = [_attempt(one, ladder, after, until) for one in self.asks if isinstance(one, AlertCommand)]
        at = ladder.next_at(after, until)
        order = self.after.order
        timer = Timer(order.order_id, order.order_key, order.reference, at) if at else None
        return Seen(after.promises, ladder.events, timer, attempts)

    def _until(self, now: datetime) -> datetime:
        """Never before the last look: the clocks of workers differ a little."""
        nudges = [one.at for one in self.asks if isinstance(one, Nudge) and one.at - now <= MOST_AHEAD]
        lines = [line.handled_at for line in self.after.lines]
        entries = [entry.handled_at for entry in self.after.entries if entry.handled_at]
        return max([now, *nudges, *lines, *entries])


def standing_of(held: Held, policy: Policy, book: Book, stands: Stands | None = None) -> Standing | None:
    """An order as its alerts see it; None: nothing is promised. The book holds its lines' policies."""
    order, entries, lines = held
    stands = stands or clocks_of(order.order_id, history_of(held), policy, book)
    if stands is None:
        return None
    heard = [entry.handled_at or entry.received_at for entry in entries if entry.update is not None]
    return Standing(
        order=order,
        title=title_of(order, policy),
        unowned=order.department == policy.triage_queue,
        promises=stands.promises,
        past=stands.past,
        policy_version=next(line.policy_version for line in reversed(lines) if line.kind in SAYS),
        last_heard=max([lines[0].handled_at, *heard]),
    )


def history_of(held: Held) -> History:
    """What its clocks are folded from."""
    department = held.entries[0].owner if held.entries else held.order.department
    return History(held.entries, held.lines, department)


def versions_of(lines: Sequence[PromiseLine]) -> set[str]:
    """The policies that these lines go by."""
    return {line.policy_version for line in lines}


def _attempt(command: AlertCommand, ladder: Ladder, standing: Standing, now: datetime) -> Attempt:
    taken = ladder.take(command, standing, now)
    verdict: Verdict = "accepted" if taken else "refused"
    rule = "counts" if taken else "too_late"
    verb = f"alert_{command.kind}"
    # who it was is in the trail already, as the door knows them: `command.by` is what they called themselves
    return Attempt("", command.reference, command.command_id, verb, verdict, rule, by=OURSELVES)
