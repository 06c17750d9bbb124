"""Publishes what the API accepted: one process at a time, in the order in which it was committed.

All API processes write to one line of the outbox. Whoever holds the lock publishes it, also what a killed process
left; the lock belongs to a database session, so it is free as soon as its holder is gone. The rows are read on that
same session: who has lost it finds out at once.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg
import structlog

from connectors.errors import Permanent, Transient
from connectors.postgres import outbox
from connectors.postgres.outgoing import Outgoing
from connectors.postgres.pool import Connection, classified
from connectors.postgres.submissions import SOURCE, Submissions

log = structlog.get_logger(__name__)

ROWS: Final = 1_000
LOOK_EVERY_S: Final = 0.1
"""How soon what another process accepted is seen; our own is published at once."""
STAND_BY_S: Final = 0.5
PAUSE_S: Final = 1.0
REFUSED_PAUSE_S: Final = 10.0
TIDY_EVERY_S: Final = 600.0
LOCK_ID: Final = 7_214_803_552  # any number; every API process uses this one
_LOCK: Final = "SELECT pg_try_advisory_lock($1)"


class Publishing:
    """The background publisher of one API process. `dsn`: for the session that holds the lock."""

    def __init__(self, dsn: str, outgoing: Outgoing) -> None:
        self._dsn = dsn
        self._outgoing = outgoing
        self._news = asyncio.Event()

    def wake(self) -> None:
        """There is something to publish."""
        self._news.set()

    async def run(self) -> None:
        """Publish for as long as the process lives."""
        while True:
            try:
                async with _session(self._dsn) as connection:
                    await self._stand_by(connection)
                    await self._outgoing.unsend_stale(SOURCE)
                    await self._publish_all(connection)
            except Transient as error:
                log.warning("what was accepted is published later", reason=str(error))
                await asyncio.sleep(PAUSE_S)
            except Permanent as error:
                log.error("the broker refuses what was accepted: it waits in the outbox", reason=str(error))
                await asyncio.sleep(REFUSED_PAUSE_S)

    async def _stand_by(self, connection: Connection) -> None:
        while not await connection.fetchval(_LOCK, LOCK_ID):  # noqa: ASYNC110 - another process lets go of it
            await asyncio.sleep(STAND_BY_S)

    async def _publish_all(self, connection: Connection) -> None:
        while True:
            self._news.clear()
            rows = await outbox.unsent(connection, SOURCE, ROWS)
            if rows:
                await self._outgoing.publish(rows)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_EVERY_S)


@asynccontextmanager
async def _session(dsn: str) -> AsyncIterator[Any]:
    """A session of our own. Errors leave it classified."""
    try:
        connection = await asyncpg.connect(
            dsn, timeout=10.0, server_settings={"application_name": "rapid api door"}
        )
        try:
            yield connection
        finally:
            connection.terminate()
    except Exception as error:
        meaning = classified(error)
        if meaning is error:
            raise
        raise meaning from error


async def tidy(submissions: Submissions) -> None:
    """Let go of what is too old, every now and then."""
    while True:
        with suppress(Transient):
            await submissions.forget_old()
        await asyncio.sleep(TIDY_EVERY_S)


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run this as long as the context is entered."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
