"""A crew at work: it hears of orders over its department's interface, and answers over the same, in its own time."""

import asyncio
import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from infra.simulate.departments.behaviour import Planned
from infra.simulate.together import together
from schemas.work_order import DepartmentWorkOrder
from schemas.work_order_update import UpdateResult, WorkOrderUpdate

SAID_AGAIN_S: Final = 8.0
"""What is not answered within this time is said again, under the same id."""
LOOK_EVERY_S: Final = 0.05
TO_DO: Final = ("new", "reopened")
OVER: Final = ("cancelled", "rejected")


class Declined(Exception):
    """The interface itself said no, for good: there will be no other answer."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class Listener(Protocol):
    """Who hears what is told."""

    def hear_order(self, order: DepartmentWorkOrder) -> None: ...

    def hear_answer(self, answer: UpdateResult) -> None: ...


class Interface(Protocol):
    """One way for a department to be told and to answer. Failures that pass are waited for inside."""

    name: str

    async def listen(self, listener: Listener) -> None:
        """Hand over all that is told, until cancelled."""

    async def say(self, update: WorkOrderUpdate) -> None:
        """Return when it is taken. Raises Declined."""


Plan = Callable[[DepartmentWorkOrder, int, Sequence[str]], tuple[Planned, ...]]
"""(order, how-manieth visit, other orders of the department) -> what will be said."""


class Crew:
    """One department's crew. `pace`: how much faster than in the real world."""

    def __init__(self, department: str, interface: Interface, plan: Plan, pace: float) -> None:
        self.department = department
        self.interface = interface
        self.seen: dict[str, DepartmentWorkOrder] = {}
        self.answers: Counter[tuple[str, str]] = Counter()  # verdict, rule
        self.said = 0
        self._plan = plan
        self._pace = pace
        self._visits: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, WorkOrderUpdate]] = []  # due, monotonic seconds
        self._unanswered: dict[str, tuple[float, WorkOrderUpdate]] = {}  # said at, by update id
        self._heard_s = time.monotonic()

    async def work(self) -> None:
        """Listen and speak until cancelled. What nobody foresaw is raised."""
        await together(self.interface.listen(self), self._speak())

    def is_idle(self, quiet_s: float) -> bool:
        """Whether it has nothing to say, is owed no answer, and has heard nothing for so long."""
        owes = self._waiting or self._unanswered
        return not owes and time.monotonic() - self._heard_s >= quiet_s

    @property
    def to_say(self) -> int:
        """How much it has still to say or to be answered."""
        return len(self._waiting) + len(self._unanswered)

    def last_seen(self) -> list[dict[str, Any]]:
        """What it saw last of each order, for `rapid verify --seen`."""
        return [
            {"department": self.department, "reference": one.reference, "version": one.version, "state": one.state}
            for one in self.seen.values()
        ]  # fmt: skip

    # -- hearing

    def hear_order(self, order: DepartmentWorkOrder) -> None:
        """Of an order the newest version counts; a repetition or an older one is no news."""
        before = self.seen.get(order.reference)
        if before is not None and before.version >= order.version:
            return
        self._heard_s = time.monotonic()
        self.seen[order.reference] = order
        if order.state in OVER:
            self._forget(order.reference)
        elif order.state in TO_DO and (before is None or before.state != order.state):
            self._visits[order.reference] += 1
            known = sorted(name for name, one in self.seen.items() if one.category == order.category)
            self.plan(self._plan(order, self._visits[order.reference], known))

    def hear_answer(self, answer: UpdateResult) -> None:
        """The answer to something that this crew said; a repeated one is no news."""
        if self._unanswered.pop(answer.update_id, None) is not None:
            self._heard_s = time.monotonic()
            self.answers[answer.verdict, answer.rule] += 1

    def plan(self, planned: Sequence[Planned]) -> None:
        """Say all this in time, from now on."""
        now_s, now = time.monotonic(), datetime.now(UTC)
        for one in planned:
            update = one.dated(now, self._pace)
            for _ in range(one.copies):
                self._put(now_s + one.sent_s / self._pace, update)

    def _put(self, due_s: float, update: WorkOrderUpdate) -> None:
        heapq.heappush(self._waiting, (due_s, next(self._numbers), update))

    def _forget(self, reference: str) -> None:
        """Whoever is told that an order is over plans nothing more for it."""
        self._waiting = [one for one in self._waiting if one[2].reference != reference]
        heapq.heapify(self._waiting)

    # -- speaking

    async def _speak(self) -> None:
        while True:
            now_s = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now_s:
                await self._say(heapq.heappop(self._waiting)[2])
            for said_s, update in list(self._unanswered.values()):
                if now_s - said_s >= SAID_AGAIN_S:
                    await self._say(update)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _say(self, update: WorkOrderUpdate) -> None:
        self._unanswered[update.update_id] = (time.monotonic(), update)
        self.said += 1
        try:
            await self.interface.say(update)
        except Declined as declined:
            if self._unanswered.pop(update.update_id, None) is not None:
                self.answers["declined", declined.rule] += 1
