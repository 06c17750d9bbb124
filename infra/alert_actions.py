"""What somebody at the command line does about alerts: written down first, published then, seen done at last.

It is a line of the API's outbox, which one process at a time publishes: the running API, or we ourselves where none
runs.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

from connectors.alert_commands import Objection, Rules, event_of, objection
from connectors.http.publishing import LOCK_ID
from connectors.postgres import alerts, audit, outbox
from connectors.postgres.audit import Entry
from connectors.postgres.pool import Connection
from connectors.postgres.submissions import SOURCE
from infra.connect import Endpoints
from infra.embedded.installation import publish_unsent
from schemas.alert import Alert, AlertCommand

LOOK_EVERY_S: Final = 0.05

# One process at a time publishes what the API has accepted: connectors/http/publishing.py.
_TRY_LOCK: Final = "SELECT pg_try_advisory_lock($1)"
_UNLOCK: Final = "SELECT pg_advisory_unlock($1)"

Outcome = Literal["done", "waits", "refused"]


class Acted(NamedTuple):
    """What became of one command: done (the alert is as it is now), still under way, or refused and why."""

    alert: Alert
    outcome: Outcome
    objection: Objection | None = None


async def act(
    connection: Connection, commands: Sequence[tuple[AlertCommand, Alert]], rules: Rules, actor: str
) -> tuple[list[AlertCommand], list[Acted]]:
    """Write down those against which nothing speaks; those, and what was refused. `actor`: for the audit trail."""
    judged = [(command, alert, objection(command, alert, rules)) for command, alert in commands]
    taken = [command for command, _, against in judged if against is None]
    async with connection.transaction():
        await outbox.add_rows(connection, SOURCE, [event_of(command) for command in taken])
        await audit.write(connection, [_entry(command, actor) for command in taken])
    return taken, [Acted(alert, "refused", against) for _, alert, against in judged if against is not None]


def _entry(command: AlertCommand, actor: str) -> Entry:
    details = {"command_id": command.command_id, "reference": command.reference, "to": command.to}
    return Entry(actor, f"alerts.{command.kind}", str(command.alert_id), "done", details)


async def publish(connection: Connection, where: Callable[[], Endpoints]) -> None:
    """Publish what was written down, unless a running API does. `where`: asked only then. Raises Transient."""
    if not await connection.fetchval(_TRY_LOCK, LOCK_ID):
        return
    try:
        there = where()
        await publish_unsent(
            connection, there.brokers, SOURCE, embedded=there.embedded, security=there.security
        )
    finally:
        await connection.execute(_UNLOCK, LOCK_ID)


async def await_done(connection: Connection, commands: Sequence[AlertCommand], wait_s: float) -> list[Acted]:
    """What the orders' writer has made of them when the time is over, at the latest."""
    until_s = time.monotonic() + wait_s
    waiting, done = list(commands), []
    while True:
        for command in list(waiting):
            event = await alerts.done_by(connection, command.alert_id, command.command_id)
            if event is not None:
                waiting.remove(command)
                done.append(Acted(event.alert, "done"))
        if not waiting or time.monotonic() >= until_s:
            return done + [await _under_way(connection, command) for command in waiting]
        await asyncio.sleep(LOOK_EVERY_S)


async def _under_way(connection: Connection, command: AlertCommand) -> Acted:
    row = await alerts.alert(connection, command.alert_id, None)
    assert row is not None, "alerts are never erased"
    return Acted(row.alert, "waits")
