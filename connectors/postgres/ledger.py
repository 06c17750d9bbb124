"""The loop's ledger in PostgreSQL: fences, outbox and dead letters behind one pool."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from connectors.delivery import Claim, FenceKey, Incarnations, Log, OutboxRow, Position
from connectors.errors import Outdated
from connectors.postgres import activations, dead_letters, fences, outbox
from connectors.postgres.pool import Connection, Pool, classified
from connectors.postgres.together import together
from schemas.dead_letter import DeadLetter
from schemas.envelope import Event

ACQUIRE_TIMEOUT_S = 30.0


class PostgresLedger:
    """See `connectors.delivery.Ledger`.

    `keep`: the topics whose outbox rows stay until they are consumed, for a broker that keeps nothing; their
    incarnations are asked of `log`. `held`: for who decides by what is in force, the number of the activation that it
    goes by; nothing else is put in force during its transactions. None: it does not decide.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        log: Log | None = None,
        keep: frozenset[str] = frozenset(),
        held: Callable[[], int] | None = None,
    ) -> None:
        if keep and log is None:
            raise ValueError("keeping outbox rows until they are consumed needs to know the log")
        self._pool = pool
        self._log = log
        self._keep = keep
        self._held = held

    def keep_also(self, topics: frozenset[str]) -> None:
        """Topics that came later, where any are kept at all."""
        if self._keep:
            self._keep |= topics

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A pooled connection without a transaction; errors leave it classified."""
        try:
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                yield connection
        except Exception as error:
            meaning = classified(error)
            if meaning is error:
                raise
            raise meaning from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction; errors leave it classified. A lost commit is Transient: nobody knows its outcome."""
        async with self.connection() as connection, self._begun(connection), together(connection) as held:
            yield held

    def _begun(self, connection: Connection) -> AbstractAsyncContextManager[Any]:
        return connection.transaction() if self._held is None else activations.deciding(connection)

    async def claim(self, key: FenceKey, incarnation: str) -> Claim:
        """Take a partition over."""
        async with self.transaction() as connection:
            return await fences.claim(connection, key, incarnation)

    async def restart(self, claim: Claim) -> Claim:
        """Start a fence again at offset 0."""
        async with self.transaction() as connection:
            return await fences.restart(connection, claim)

    async def advance(self, connection: Connection, claim: Claim, next_offset: int) -> int:
        """Lock the fence and move it forward; returns where it stood. Raises Fenced, Outdated."""
        stood = await fences.advance(connection, claim, next_offset)
        if self._held is not None and stood.in_force > self._held():
            raise Outdated(f"activation {stood.in_force} holds, this process goes by {self._held()}")
        return stood.next_offset

    async def add(self, connection: Connection, source: str, events: Sequence[Event]) -> list[OutboxRow]:
        """Write events to the outbox; what is returned is published right after the commit."""
        return await outbox.add_rows(connection, source, events)

    async def bury(self, connection: Connection, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Keep dead letters; each as the letter that it is."""
        return await dead_letters.bury(connection, letters)

    async def unsent(self, source: str) -> list[OutboxRow]:
        """What a source left unpublished."""
        async with self.connection() as connection:
            return await outbox.unsent(connection, source)

    async def incarnations(self, rows: Sequence[OutboxRow]) -> Incarnations:
        """The incarnations of the topics whose rows are kept."""
        return await outbox.incarnations(self._log, rows, self._keep) if self._log else Incarnations()

    async def settle(
        self, rows: Sequence[OutboxRow], positions: Sequence[Position], incarnations: Incarnations
    ) -> bool:
        """Note the broker's answers; False when it was replaced meanwhile."""
        async with self.connection() as connection:  # each of its statements is right by itself
            if self._log:
                return await outbox.settle_if_same(connection, self._log, rows, positions, incarnations)
            await outbox.settle(connection, rows, positions, {})
            return True

    async def sweep(self, consumer: str) -> int:
        """Delete kept outbox rows that the consumer has passed."""
        async with self.connection() as connection:
            return await outbox.sweep(connection, consumer)
