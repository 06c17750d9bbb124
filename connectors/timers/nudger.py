"""The nudger: leases timers shortly before they are due, holds them in memory, and nudges each at its time.

As many nudgers as wanted may run: what one leases the others pass over, and who dies leaves leases that end. A nudge
needs no outbox: the timer stays until its subject's writer moves or deletes it.
"""

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, NamedTuple

import structlog
from pydantic import ValidationError

from connectors.delivery import OutboxRow, Publisher
from connectors.errors import Permanent, Transient
from connectors.ports import TimerKind
from connectors.postgres import timers
from connectors.postgres.pool import Connection, Pool, classified
from connectors.postgres.timers import Lease
from connectors.timers.clock import DatabaseClock
from schemas.codec import encode
from schemas.envelope import Event, headers_of
from schemas.promise import Nudge
from schemas.response_life import Look
from schemas.topics import NUDGE_TYPE, RESPONSE_LOOKS, WORK_ORDER_COMMANDS

log = structlog.get_logger(__name__)

STOP_S: Final = 2.0
"""Seconds that a batch under way has to reach the broker when we are to stop."""


class Pace(NamedTuple):
    """How a nudger works. Memory: it holds `most_held` timers, whatever is armed."""

    look_every_s: float = 0.2  # a timer armed for sooner than that may be late by it
    horizon_s: float = 1.5  # lease this long before
    batch: int = 1_000  # timers of one look, and of one batch to the broker
    most_held: int = 5_000
    first_lease_s: float = 10.0
    longest_lease_s: float = 600.0
    tick_s: float = 0.02  # what falls into it goes in one batch: fewer, larger transactions at the worker
    first_wait_s: float = 0.2  # while broker or database are away; doubles
    longest_wait_s: float = 5.0
    broker_answers_s: float = 8.0  # less than a lease: then it is given back, for others may reach the broker


class Sent(NamedTuple):
    """A nudge that the broker has: how long after the due time, and whether it was not the first."""

    late_s: float
    again: bool


class Nudger:
    """Nudges until it is stopped. `monotonic`: seconds of a clock that is never set; `tell` gets each batch; `looked`
    is called after each look into the table that was answered."""

    def __init__(
        self,
        pool: Pool,
        publisher: Publisher,
        *,
        pace: Pace,
        monotonic: Callable[[], float],
        tell: Callable[[Sequence[Sent]], None],
        looked: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = pool
        self._publisher = publisher
        self._pace = pace
        self._monotonic = monotonic
        self._tell = tell
        self._looked = looked
        self._clock = DatabaseClock()
        self._held: list[Lease] = []  # a heap: the first is the next
        self._next_look_s = 0.0
        self._database_failures = 0
        self._broker_failures = 0
        self._stop = asyncio.Event()
        self._fresh = asyncio.Event()  # there is more to nudge, or nothing any more

    @property
    def held(self) -> int:
        """Timers in memory."""
        return len(self._held)

    def stop(self) -> None:
        """End within some seconds; what was leased and not nudged is given back."""
        self._stop.set()
        self._fresh.set()

    async def run(self) -> None:
        """Nudge until `stop`. What nobody foresaw is raised. Leasing and nudging go on side by side: a slow commit of
        the database makes no nudge late."""
        tasks = {asyncio.create_task(self._keep_leasing()), asyncio.create_task(self._keep_nudging())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop()
            await asyncio.wait(tasks)
            await self._let_go(self._held)
        for task in tasks:
            task.result()

    # -- lease

    async def _keep_leasing(self) -> None:
        while not self._stop.is_set():
            room = min(self._pace.batch, self._pace.most_held - len(self._held))
            if room > 0 and self._monotonic() >= self._next_look_s:
                await self._look(room)
            wait_s = self._next_look_s - self._monotonic() if room > 0 else self._pace.tick_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), max(wait_s, 0.0))

    async def _look(self, room: int) -> None:
        """Lease what is due soon. While the broker takes nothing, one is enough to try it with."""
        most = 1 if self._broker_failures else room
        try:
            found = await self._claim(most)
        except Transient as error:
            self._database_failures += 1
            self._next_look_s = self._monotonic() + self._wait_s(self._database_failures)
            log.warning("the timers wait for the database", reason=str(error))
            return
        self._database_failures = 0
        self._looked()
        for lease in found:
            heapq.heappush(self._held, lease)
        if found:
            self._fresh.set()
        if len(found) < room:
            self._next_look_s = self._monotonic() + self._pace.look_every_s

    async def _claim(self, most: int) -> list[Lease]:
        pace = self._pace
        async with self._connection() as connection:
            found = await timers.claim(
                connection, pace.horizon_s, most, pace.first_lease_s, pace.longest_lease_s
            )
        if found.now is not None:
            self._clock.hear(found.now, self._monotonic())
        return found.leases

    # -- nudge

    async def _keep_nudging(self) -> None:
        while not self._stop.is_set():
            self._fresh.clear()
            await self._nudge()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._fresh.wait(), self._until_next_s())

    def _until_next_s(self) -> float | None:
        """Seconds; None: nothing is held."""
        if not self._held:
            return None
        return max((self._held[0].at - self._now()).total_seconds(), self._pace.tick_s)

    async def _nudge(self) -> None:
        due = self._due()
        rows = rows_of(due, self._now())
        if not rows:
            return
        try:
            await self._publish(rows)
        except (Transient, Permanent) as error:
            log.warning("the timers wait for the broker", reason=str(error))
            await self._stand_back(due)
            return
        self._broker_failures = 0
        now = self._now()
        self._tell([Sent((now - one.due_at).total_seconds(), one.nudges > 1) for one in due])

    def _due(self) -> list[Lease]:
        """Without those whose lease has ended, because this process was stopped: they are others' by now."""
        now, due = self._now(), list[Lease]()
        while self._held and self._held[0].at <= now and len(due) < self._pace.batch:
            due.append(heapq.heappop(self._held))
        return [one for one in due if one.leased_until > now]

    async def _publish(self, rows: Sequence[OutboxRow]) -> None:
        """Raises Transient, also when the broker does not answer in time, or soon when we are to stop."""
        publishing = asyncio.ensure_future(self._publisher.publish(rows))
        stopped = asyncio.create_task(self._stop.wait())
        try:
            answers_s = self._pace.broker_answers_s
            await asyncio.wait({publishing, stopped}, timeout=answers_s, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                await asyncio.wait({publishing}, timeout=STOP_S)
            if not publishing.done():
                raise Transient("the broker does not answer")
            publishing.result()
        finally:
            stopped.cancel()
            publishing.cancel()
            await asyncio.wait({publishing}, timeout=STOP_S)

    async def _stand_back(self, due: Sequence[Lease]) -> None:
        """Keep nothing while the broker is away: another, who may reach it, takes it over at once."""
        self._broker_failures += 1
        held, self._held = self._held, []
        await self._let_go([*due, *held])
        self._next_look_s = self._monotonic() + self._wait_s(self._broker_failures)

    async def _let_go(self, leases: Sequence[Lease]) -> None:
        try:
            async with self._connection() as connection:
                await timers.let_go(connection, leases)
        except Transient as error:
            log.warning("leases end by themselves", leases=len(leases), reason=str(error))

    # -- time

    def _now(self) -> datetime:
        """By the database's clock. Nothing is held before it was heard."""
        return self._clock.now(self._monotonic()) or datetime.min.replace(tzinfo=UTC)

    def _wait_s(self, failures: int) -> float:
        return float(min(self._pace.first_wait_s * 2.0 ** min(failures - 1, 20), self._pace.longest_wait_s))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except Exception as error:
            raise classified(error) from error


def rows_of(leases: Sequence[Lease], now: datetime) -> list[OutboxRow]:
    """The records of these nudges, in this order. One that cannot be made must not hold up the others."""
    rows = []
    for lease in leases:
        try:
            event = nudge_event(lease)
        except ValidationError as error:
            wrong = [str(one["loc"][0]) for one in error.errors()]
            log.error("a timer cannot be nudged", kind=lease.kind, subject=str(lease.subject_id), wrong=wrong)
        else:
            rows.append(OutboxRow(0, event.topic, event.key.encode(), event.value, headers_of(event, now)))
    return rows


def nudge_event(lease: Lease) -> Event:
    """The nudge: the same lease gives the same event, each new lease another."""
    return EVENTS[lease.kind](lease, int(lease.at.timestamp() * 1000))


def _to_order(lease: Lease, version: int) -> Event:
    nudge = Nudge(order_key=lease.key, order_id=lease.subject_id, reference=lease.reference, at=lease.due_at)
    return Event(WORK_ORDER_COMMANDS.name, lease.key, encode(nudge), NUDGE_TYPE, lease.reference, version)


def _to_response(lease: Lease, version: int) -> Event:
    look = encode(Look())
    return Event(
        RESPONSE_LOOKS.name, lease.key, look, RESPONSE_LOOKS.type, lease.reference, version, lease.key
    )


EVENTS: Final[Mapping[TimerKind, Callable[[Lease, int], Event]]] = {
    "order": _to_order,
    "response": _to_response,
}
"""What tells a subject that its time has come, by its kind."""
