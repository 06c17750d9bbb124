"""Writes that nobody waits for go together: one statement, one round trip.

A small batch costs what its round trips cost, and most of its writes tell nothing that is needed before the commit. In
a transaction of the ledger they wait for the next statement that somebody waits for, or for the commit. So whoever
reads, finds what was written before; and an error is raised within the same transaction, only later.
"""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, Final

from connectors.postgres.pool import Connection

_PARAMETER: Final = re.compile(r"\$(\d+)")

Statement = tuple[str, tuple[Any, ...]]


async def later(connection: Connection, sql: str, *arguments: Any) -> None:
    """Write before the transaction ends: a plain INSERT, UPDATE or DELETE without RETURNING, in which no row is that is
    written by another one that waits. On a connection that is not the ledger's: at once."""
    if isinstance(connection, Together):
        await connection.later(sql, arguments)
    else:
        await connection.execute(sql, *arguments)


class Together:
    """A connection in a transaction, with the writes that wait. It is used as the connection is."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: list[Statement] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def later(self, sql: str, arguments: tuple[Any, ...]) -> None:
        """See `later`. The same statement twice keeps its order: what waits is written before."""
        if any(one == sql for one, _ in self._waiting):
            await self.write()
        self._waiting.append((sql, arguments))

    async def write(self) -> None:
        """Write what waits."""
        if self._waiting:
            *before, (sql, arguments) = self._taken()
            await self._connection.execute(*_joined(before, sql, arguments))

    async def execute(self, sql: str, *arguments: Any) -> Any:
        """As the connection's, after what waits."""
        await self.write()
        return await self._connection.execute(sql, *arguments)

    async def fetch(self, sql: str, *arguments: Any) -> Any:
        """As the connection's, after what waits."""
        await self.write()
        return await self._connection.fetch(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: Any) -> Any:
        """As the connection's, after what waits."""
        await self.write()
        return await self._connection.fetchrow(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        """As the connection's, after what waits."""
        await self.write()
        return await self._connection.fetchval(sql, *arguments)

    async def fetch_with(self, sql: str, *arguments: Any) -> Any:
        """The rows of a write, in one statement with what waits; they must not be about the same rows."""
        return await self._connection.fetch(*_joined(self._taken(), sql, arguments))

    def _taken(self) -> list[Statement]:
        taken, self._waiting = self._waiting, []
        return taken


@asynccontextmanager
async def together(connection: Connection) -> AsyncIterator[Connection]:
    """What waits is written at the end, before the commit."""
    held = Together(connection)
    yield held
    await held.write()


async def fetch_with_waiting(connection: Connection, sql: str, *arguments: Any) -> Any:
    """The rows of a write that may go in one statement with what waits."""
    if isinstance(connection, Together):
        return await connection.fetch_with(sql, *arguments)
    return await connection.fetch(sql, *arguments)


def _joined(before: Sequence[Statement], sql: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The text of all of them with the last one's result, and their arguments."""
    if not before:
        return sql, *arguments
    sizes = tuple((one, len(its)) for one, its in before)
    return _text(sizes, sql), *(value for _, its in before for value in its), *arguments


@lru_cache(maxsize=256)
def _text(before: tuple[tuple[str, int], ...], last: str) -> str:
    parts, first = [], 0
    for number, (sql, size) in enumerate(before):
        parts.append(f"write_{number} AS ({_numbered(sql, first)})")
        first += size
    return f"WITH {', '.join(parts)} {_numbered(last, first)}"


def _numbered(sql: str, first: int) -> str:
    """With the parameters counted on from those before."""
    return _PARAMETER.sub(lambda found: f"${int(found[1]) + first}", sql)
