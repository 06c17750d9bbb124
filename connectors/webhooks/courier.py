"""The courier: takes what is told to an endpoint from the feed, in order, one message at a time, and sends it.

As many couriers as wanted may run. An endpoint is leased by one of them; who dies leaves a lease that ends, and the
next one begins with the same message, under the same id.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import structlog

from connectors.errors import Transient
from connectors.postgres import webhooks
from connectors.postgres.pool import Connection, Pool, classified
from connectors.postgres.webhooks import Parcel
from connectors.serving import Serving
from connectors.webhooks.message import headers, payload
from connectors.webhooks.schedule import Limits, Step, is_open, step
from connectors.webhooks.sender import Sender

log = structlog.get_logger(__name__)

MESSAGES_PER_LEASE: Final = 100
"""Then other endpoints get their turn."""
PRUNE_EVERY_S: Final = 3600.0


Told = Callable[[str, float], None]
"""Is told of each attempt: what follows from it, and how many seconds it took."""


class Pace(NamedTuple):
    """How a courier works: look so often, serve so many endpoints at once, keep the log for so long."""

    look_every_s: float = 0.5
    endpoints: int = 16
    lease_s: float = 30.0  # longer than an attempt can take
    keep_log_s: float = 30 * 86_400.0


class Courier:
    """Sends until it is stopped. `name` is unique among all couriers; `chance` gives numbers in [0, 1); `looked` is
    called after each look for something to send."""

    def __init__(
        self,
        pool: Pool,
        sender: Sender,
        *,
        limits: Limits,
        pace: Pace,
        chance: Callable[[], float],
        name: str,
        told: Told = lambda *_: None,
        looked: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = pool
        self._sender = sender
        self._limits = limits
        self._pace = pace
        self._chance = chance
        self._name = name
        self._told = told
        self._looked = looked
        self._serving = Serving(self._take_over, pace.look_every_s, pace.endpoints)
        self._pruned_at = float("-inf")
        self._claims = 0

    def stop(self) -> None:
        """End after the attempts that are under way."""
        self._serving.stop()

    async def run(self) -> None:
        """Send until `stop`; what is under way then is finished and written down. What nobody foresaw is raised."""
        await self._serving.run()

    async def _take_over(self, most: int) -> set[asyncio.Task[None]]:
        """Each time under a name of its own, so that a lease which ended tells even from a later one of ours."""
        self._claims += 1
        holder = f"{self._name}/{self._claims}"
        try:
            await self._prune()
            async with self._connection() as connection:
                found = await webhooks.claim(connection, holder, self._pace.lease_s, most)
        except Transient as error:
            log.warning("the courier waits for the database", reason=str(error))
            return set()
        self._looked()
        return {
            asyncio.create_task(self._serve(endpoint_id, holder), name=endpoint_id) for endpoint_id in found
        }

    async def _serve(self, endpoint_id: str, holder: str) -> None:
        """Send what the endpoint waits for, until there is nothing, it fails, or others should have their turn."""
        try:
            for _ in range(MESSAGES_PER_LEASE):
                if self._serving.stopping or not await self._send_next(endpoint_id, holder):
                    break
            async with self._connection() as connection:
                await webhooks.let_go(connection, endpoint_id, holder)
        except Transient as error:  # the lease ends by itself
            log.warning("the courier waits for the database", reason=str(error), endpoint=endpoint_id)

    async def _send_next(self, endpoint_id: str, holder: str) -> bool:
        async with self._connection() as connection:
            parcel = await webhooks.next_parcel(connection, endpoint_id, holder, self._pace.lease_s)
        if parcel is None:
            return False
        body = payload(parcel.message)
        signed = headers(parcel.message_id, body, parcel.now, parcel.secrets)
        answer = await self._sender.send(parcel.url, body, signed)
        follows = step(answer, parcel.failing, parcel.now, self._chance(), self._limits)
        async with self._connection() as connection:
            goes_on = await webhooks.record(connection, holder, parcel, answer, follows)
        self._told(follows.rule, answer.duration_ms / 1000)
        self._tell(parcel, follows, answer.sentence)
        return goes_on

    def _tell(self, parcel: Parcel, follows: Step, sentence: str) -> None:
        said = log.bind(endpoint=parcel.endpoint_id, message=parcel.message_id, rule=follows.rule)
        if follows.disable:
            said.error("webhook endpoint disabled", why=follows.disable)
        elif follows.rule != "delivered":
            opened = is_open(parcel.failing.failures + 1, self._limits)
            said.warning(
                "webhook failed", why=sentence, next_in_s=round(follows.wait_s, 1), circuit_open=opened
            )
        elif parcel.failing.failures:
            said.info("webhook endpoint is back", after_failures=parcel.failing.failures)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except Exception as error:
            raise classified(error) from error

    async def _prune(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._pruned_at < PRUNE_EVERY_S:
            return
        self._pruned_at = now
        async with self._connection() as connection:
            await webhooks.prune(connection, self._pace.keep_log_s)
