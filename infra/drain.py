"""Waiting until everything that was accepted has been handled."""

import asyncio
from collections.abc import Callable
from typing import Final

from connectors.errors import Transient
from infra.cli.session import database
from infra.connect import Endpoints, connection
from infra.embedded.installation import incarnations
from infra.embedded.state import Home
from infra.settings import Settings
from infra.standing import Standing, standing

LOOK_EVERY_S: Final = 0.5


async def drained(settings: Settings, tell: Callable[[Standing | None], None]) -> Standing:
    """Look until nothing is left to publish and nothing to read. `tell` gets every look, None for a failed one.

    Raises Oops when the system is not running any more.
    """
    while True:
        found = await _look(settings)
        tell(found)
        if found is not None and found.drained:
            return found
        await asyncio.sleep(LOOK_EVERY_S)


async def _look(settings: Settings) -> Standing | None:
    """None while something is away. A broker that starts again is empty, so its lag says nothing until it is
    filled: a look counts only when the same boot was ready before and after it."""
    there = connection(settings)
    boot = _ready_boot(settings, there)
    try:
        async with database(there.database_url) as connected:
            known = await incarnations(there.brokers, there.security)
            found = await standing(connected, there.brokers, known, there.security)
    except Transient:
        return None
    return found if boot is not None and boot == _ready_boot(settings, there) else None


def _ready_boot(settings: Settings, there: Endpoints) -> str | None:
    """The embedded broker's boot while the installation is ready, else None; a real broker is one boot for ever."""
    if not there.boot_id:
        return ""
    state = Home(settings.home_folder).read_state()
    return state.boot_id if state is not None and state.phase == "ready" else None
