"""Departments that only know 311: their orders become service requests in the city's endpoint, and come back closed.

    feed → open311_filings → POST → token → id → look, look, look → work-order-updates.<department>

`kill -9` anywhere: before a request is sent, the row says `sending`. Who finds it so looks for our reference among
the endpoint's requests, and sends again only when it is not there. What remains impossible: an endpoint that keeps a
request, answers nothing, and shows it to nobody for longer than `settle_s`, is sent it twice.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import httpx
import structlog

from connectors.errors import Transient
from connectors.open311.client import MOST_IDS, Away, City, Declined, Receipt
from connectors.open311.mapping import PHRASES, Malformed, Request, Seen, says, seen_of
from connectors.postgres import feed
from connectors.postgres import open311_filings as filings
from connectors.postgres.open311_filings import Endpoint, Filing, State
from connectors.postgres.pool import Connection, Pool, classified
from schemas.work_order import DepartmentWorkOrder
from schemas.work_order_update import UpdateResult, WorkOrderUpdate

log = structlog.get_logger(__name__)

FEED_ROWS: Final = 200
ACQUIRE_TIMEOUT_S: Final = 30.0
MOST_LOOKS_AFTER_CLOSING: Final = (
    12  # each twice as late as the one before: a month, at five minutes for the first
)
STATES: Final[tuple[State, ...]] = ("sending", "token", "wanted")
TO_DO: Final = frozenset({"new", "acknowledged", "in_progress", "on_hold", "reopened"})
DONE: Final = frozenset({"resolved", "verified"})
CANNOT_TAKE_BACK: Final = (
    "The order is {state}. The standard has no words to take a request back: tell the city by other means;"
    " the request is followed on."
)


UNKNOWN_WHETHER: Final = (
    "It may have been filed: no answer came, and the endpoint shows no requests to look among."
    " Ask the city. {words}"
)


class Tell(Protocol):
    """Says something in a department's name. Durable when it returns; the same `update_id` counts once."""

    async def __call__(self, department: str, update: WorkOrderUpdate) -> None: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. `settle_s`: how long a request may take to show up among an endpoint's own."""

    idle_s: float = 5.0
    lease_s: float = 120.0
    settle_s: float = 900.0
    first_retry_s: float = 10.0
    longest_retry_s: float = 3600.0
    requests_at_once: int = 20


@dataclass(frozen=True)
class Surroundings:
    """What the follower is given. `variable`: the value of an environment variable; `chance`: from 0 to 1."""

    pool: Pool
    tell: Tell
    worker: str
    variable: Callable[[str], str | None]
    chance: Callable[[], float]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    pace: Pace = Pace()


async def follow(around: Surroundings, stop: asyncio.Event) -> None:
    """File and follow for every endpoint, until `stop`. One that is slow or away holds up no other."""
    running: dict[str, asyncio.Task[None]] = {}
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient())
        stack.push_async_callback(_end, running)
        cities: dict[str, tuple[Endpoint, str, City]] = {}
        while not stop.is_set():
            for department in await _free(around):
                if department not in running or running[department].done():
                    one = _Follower(around, http, cities, department)
                    running[department] = asyncio.create_task(one.step())
            await _wait(stop, around.pace.idle_s)


async def _free(around: Surroundings) -> list[str]:
    try:
        async with around.pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            return await filings.free_departments(connection, around.worker)
    except Exception as error:
        if not isinstance(classified(error), Transient):
            raise
        log.warning("the database is away", reason=type(error).__name__)
        return []


async def _end(running: dict[str, asyncio.Task[None]]) -> None:
    """Cancelled anywhere, a step goes on from its rows, as after `kill -9`."""
    for task in running.values():
        task.cancel()
    await asyncio.gather(*running.values(), return_exceptions=True)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


class _Follower:
    """One step for one department: read what it was told, send what is wanted, look at what is due."""

    def __init__(
        self,
        around: Surroundings,
        http: httpx.AsyncClient,
        cities: dict[str, tuple[Endpoint, str, City]],
        department: str,
    ) -> None:
        self._around = around
        self._http = http
        self._cities = cities
        self._department = department

    async def step(self) -> None:
        """Whatever goes wrong pauses this endpoint, is kept in its row, and ends no other's work."""
        try:
            async with asyncio.timeout(self._around.pace.lease_s * 0.9):
                await self._under_lease()
        except TimeoutError:
            log.info("a step was cut off and goes on later", department=self._department)
        except Exception as error:  # noqa: BLE001 - one endpoint must not stop the others
            log.error("Open311 could not go on", department=self._department, reason=type(error).__name__)

    async def _under_lease(self) -> None:
        pace = self._around.pace
        async with self._connection() as connection:
            standing = await filings.lease(connection, self._department, self._around.worker, pace.lease_s)
        if standing is None:
            return
        endpoint = standing.endpoint
        try:
            await self._read_feed(endpoint)
            city = self._city(endpoint)
            await self._look(endpoint, city)  # first: a long line of orders to file must not keep it waiting
            await self._move_on(endpoint, city, time.monotonic() + pace.lease_s / 2)
        except Away as away:
            wait_s = away.wait_s if away.wait_s is not None else self._backoff_s(standing.failures)
            await self._pause(wait_s, str(away))
        except Declined as declined:
            await self._pause(max(60.0, self._backoff_s(standing.failures)), str(declined))
        else:
            async with self._connection() as connection:
                await filings.went_well(connection, self._department)

    async def _pause(self, seconds: float, problem: str) -> None:
        log.warning(
            "an Open311 endpoint is left alone for a while", department=self._department, wait_s=seconds
        )
        async with self._connection() as connection:
            await filings.pause(connection, self._department, seconds, problem)

    def _city(self, endpoint: Endpoint) -> City:
        key = self._around.variable(endpoint.key_variable)
        if not key:
            raise Declined(
                f"The environment variable {endpoint.key_variable} is not set: it holds the API key."
            )
        known = self._cities.get(self._department)  # kept for its pace
        if known is None or known[:2] != (endpoint, key):
            city = City(
                self._http, endpoint.url, key=key, jurisdiction=endpoint.jurisdiction,
                per_minute=endpoint.per_minute,
            )  # fmt: skip
            known = self._cities[self._department] = (endpoint, key, city)
        return known[2]

    def _connection(self) -> Any:
        return self._around.pool.acquire(timeout=ACQUIRE_TIMEOUT_S)

    def _backoff_s(self, failures: int) -> float:
        """Doubled with each failure in a row, and spread by half, so that not all come back at once."""
        pace = self._around.pace
        full_s = min(pace.first_retry_s * 2.0 ** min(failures, 30), pace.longest_retry_s)
        return full_s * (0.5 + 0.5 * self._around.chance())

    # ---------------------------------------------------------------- what the department is told

    async def _read_feed(self, endpoint: Endpoint) -> None:
        """To its end: what is told and taken back at once is never filed."""
        while await self._read_some(endpoint) == FEED_ROWS:
            pass

    async def _read_some(self, endpoint: Endpoint) -> int:
        async with self._connection() as connection, connection.transaction():
            stored = await filings.take_cursor(connection, endpoint.department)
            if stored is None:
                return 0
            rows = await feed.read(connection, feed.Cursor.parse(stored), endpoint.department, FEED_ROWS)
            for row in rows:
                await self._take(connection, row.told.kind, row.told.body)
            if rows:
                await filings.move_cursor(connection, endpoint.department, str(rows[-1].cursor))
            return len(rows)

    async def _take(self, connection: Connection, kind: str, body: str | None) -> None:
        if kind == "work-order" and body is not None:
            await self._take_order(connection, DepartmentWorkOrder.model_validate_json(body))
        elif kind == "update-result" and body is not None:
            await self._take_result(connection, UpdateResult.model_validate_json(body))

    async def _take_order(self, connection: Connection, order: DepartmentWorkOrder) -> None:
        known = await filings.latest(connection, self._department, order.reference)
        wanted = order.state in TO_DO
        if known is None:
            state: State = "wanted" if wanted else "not_needed"
            await filings.add(connection, (self._department, order.reference, 1), order, state)
        elif known.version >= order.version:
            return
        elif known.state == "closed" and order.state == "reopened" and known.order.state in DONE:
            # later, because it may be the endpoint itself that opened it again and has closed it since
            wait_s = self._around.pace.settle_s / 10
            key = (self._department, order.reference, known.number + 1)
            await filings.add(connection, key, order, "wanted", wait_s)
        else:
            await filings.told(
                connection, known, order, _state_when_told(known, wanted), _taken_back(known, order)
            )

    async def _take_result(self, connection: Connection, result: UpdateResult) -> None:
        """What we said in the department's name, and was refused, is shown with the request."""
        if result.verdict != "refused" or not result.update_id.startswith("open311-"):
            return
        known = await filings.latest(connection, self._department, result.reference)
        if known is not None:
            await filings.note_problem(connection, known, f"What the city said was refused: {result.because}")

    # ---------------------------------------------------------------- sending, until there is an id

    async def _move_on(self, endpoint: Endpoint, city: City, until_s: float) -> None:
        """As many as there is time for: nothing that is being sent is cut off by the end of the lease."""
        for state in STATES:
            async with self._connection() as connection:
                found = await filings.due(
                    connection, endpoint.department, state, self._around.pace.requests_at_once
                )
            for filing in found:
                if time.monotonic() > until_s:
                    return
                if filing.state == "token":
                    await self._redeem(city, filing)
                else:
                    await self._send(endpoint, city, filing)

    async def _send(self, endpoint: Endpoint, city: City, filing: Filing) -> None:
        code = endpoint.service_codes.get(filing.order.category)
        if code is None:
            await self._later(filing, filing.state, f"There is no service code for {filing.order.category}.")
            return
        if filing.state == "sending" and await self._was_received(city, code, filing):
            return
        async with self._connection() as connection:
            attempts = await filings.sending(connection, filing, self._around.pace.settle_s)
        if attempts is None:
            return
        filing = filing._replace(state="sending", attempts=attempts)
        try:
            receipt = await city.file(code, filing.order, f"{filing.reference}.{filing.number}")
        except Declined as declined:
            await self._later(filing, "wanted", str(declined))
            if declined.of_key:
                raise
        except Away as away:
            if not away.reached:
                await self._later(filing, "wanted", str(away))
            else:
                async with self._connection() as connection:
                    await filings.note_problem(connection, filing, str(away))
            raise
        else:
            await self._received(filing, receipt)

    async def _was_received(self, city: City, code: str, filing: Filing) -> bool:
        """Whether the endpoint shows a request of ours that it never acknowledged; it is followed then. An endpoint
        that shows no requests at all may have it, too: then nothing is sent again, and people decide."""
        async with (
            self._connection() as connection
        ):  # an order that was opened again has its first one there, too
            earlier = await filings.earlier_ids(connection, filing)
        since = filing.sent_at or self._around.now()
        try:
            number = await city.find(code, filing.reference, since, earlier)
        except Declined as declined:
            if declined.of_key:
                raise
            await self._later(filing, "sending", UNKNOWN_WHETHER.format(words=declined))
            return True
        if number is None:
            return False
        await self._received(filing, Receipt(number, None))
        return True

    async def _received(self, filing: Filing, receipt: Receipt) -> None:
        state: State = "filed" if receipt.request_id else "token"
        async with self._connection() as connection:
            await filings.moved(
                connection, filing, state, 0.0, token=receipt.token, request_id=receipt.request_id
            )
        log.info("an order was filed", department=filing.department, reference=filing.reference, state=state)

    async def _redeem(self, city: City, filing: Filing) -> None:
        problem = None
        try:
            number = await city.redeem(filing.token or "")
        except Declined as declined:
            if declined.of_key:
                raise
            number, problem = None, str(declined)
        if number is None:
            await self._later(filing, "token", problem)
        else:
            await self._received(filing, Receipt(number, None))

    async def _later(self, filing: Filing, state: State, problem: str | None) -> None:
        wait_s = self._backoff_s(filing.attempts)
        async with self._connection() as connection:
            await filings.moved(
                connection, filing, state, wait_s, attempts=filing.attempts + 1, problem=problem
            )

    # ---------------------------------------------------------------- following

    async def _look(self, endpoint: Endpoint, city: City) -> None:
        """By their numbers, many at once: one request for fifty orders, where all changes since some time would be
        those of the whole city, and a change that is entered late would be missed."""
        states: tuple[State, ...] = ("filed", "closed")
        for state in states:
            async with self._connection() as connection:
                found = await filings.due(connection, endpoint.department, state, MOST_IDS)
            if found:
                await self._look_at(endpoint, city, found)

    async def _look_at(self, endpoint: Endpoint, city: City, found: Sequence[Filing]) -> None:
        answers = await city.look(list(dict.fromkeys(one.service_request_id or "" for one in found)))
        for filing in found:
            answer = answers.get(filing.service_request_id or "")
            try:
                seen = seen_of(answer) if answer is not None else None
            except Malformed as malformed:
                await self._later(filing, filing.state, str(malformed))
                continue
            if seen is None:
                number = filing.service_request_id
                await self._later(filing, filing.state, f"The endpoint knows no request {number} any more.")
            else:
                await self._take_answer(endpoint, filing, seen)

    async def _take_answer(self, endpoint: Endpoint, filing: Filing, seen: Seen) -> None:
        """First it is said, then noted: killed between the two, the same is said once more, with the same ids."""
        number = filing.service_request_id or ""
        who = Request(filing.department, filing.reference, number)
        said = says(who, filing.seen, seen, endpoint.phrases or PHRASES, self._around.now())
        for update in said.updates:
            await self._around.tell(filing.department, update)
        problem = None
        if said.follow and said.follow != number:
            problem = (
                f"The request {number} was closed as a duplicate of {said.follow}, which is followed now."
            )
            number, seen = said.follow, Seen(status="open")
        attempts, wait_s = self._next_look(endpoint, filing, seen)
        state: State = "closed" if seen.status == "closed" else "filed"
        async with self._connection() as connection:
            after = filing._replace(
                seen=seen, service_request_id=number, state=state, attempts=attempts, problem=problem
            )
            await filings.saw(connection, after, wait_s)

    def _next_look(self, endpoint: Endpoint, filing: Filing, seen: Seen) -> tuple[int, float | None]:
        """A closed request may be opened again, the less likely the longer ago."""
        spread = 0.9 + 0.2 * self._around.chance()
        if seen.status == "open":
            return 0, endpoint.poll_s * spread
        looks = filing.attempts + 1 if filing.state == "closed" else 0
        return looks, None if looks > MOST_LOOKS_AFTER_CLOSING else endpoint.poll_s * 2.0**looks * spread


def _state_when_told(filing: Filing, wanted: bool) -> State:
    if filing.state == "wanted" and not wanted:
        return "not_needed"
    if filing.state == "not_needed" and wanted:
        return "wanted"
    return filing.state


def _taken_back(filing: Filing, order: DepartmentWorkOrder) -> str | None:
    if order.state in ("cancelled", "rejected") and filing.state in ("sending", "token", "filed"):
        return CANNOT_TAKE_BACK.format(state=order.state)
    return None
