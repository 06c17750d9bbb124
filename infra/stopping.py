"""A process that is asked to stop: by which signals, and what it does not wait for any longer then."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from connectors.errors import Transient
from connectors.postgres.pool import Pool
from infra.logging import logger

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log = logger(__name__)


@contextlib.contextmanager
def set_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """The first signal sets it, so that what is under way can end; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def leave_alone() -> None:
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    def asked() -> None:
        stop.set()
        leave_alone()

    for number in SIGNALS:
        loop.add_signal_handler(number, asked)
    try:
        yield
    finally:
        leave_alone()


async def pool_when_there(
    connect: Callable[[], Awaitable[Pool]], stop: asyncio.Event, *, look_every_s: float
) -> Pool | None:
    """A pool, as soon as the database answers; None when `stop` is set before."""
    while not stop.is_set():
        try:
            return await connect()
        except Transient as error:
            log.warning("waiting for the database", reason=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), look_every_s)
    return None
