"""`rapid down`: end what `rapid up` started."""

import signal

from infra.cli.errors import Oops
from infra.embedded.processes import Running, await_end, end, is_alive, send
from infra.embedded.state import Held, Home, HomeLock, end_strays, supervisor_of
from infra.settings import Settings

OVERHEAD_S = 60.0
"""What the supervisor may need beside the draining of its workers: broker and database."""


def down() -> None:
    """Stop workers, broker and database, in this order.

    Workers finish the batches they have begun. What the broker still held is in the database too, and the next
    `rapid up` publishes it again. Done twice it says that nothing is running.
    """
    settings = Settings()
    home = Home(settings.home_folder)
    stopped = _stop_supervisor(home, settings.drain_timeout_s + OVERHEAD_S)
    strays = _end_strays(home)
    if stopped or strays:
        print(
            "\n".join(
                [*stopped, *(f"Ended {one.name} {one.pid}, which had been left behind." for one in strays)]
            )
        )
    else:
        print(f"Nothing is running in {home.folder}.")


def _stop_supervisor(home: Home, limit_s: float) -> list[str]:
    """Ask it to end everything, and wait; returns sentences about what was done."""
    supervisor = supervisor_of(home)
    state = home.read_state()
    if supervisor is None or state is None:
        return []
    send(supervisor, signal.SIGTERM)
    if await_end([supervisor], limit_s):
        end([supervisor], signal.SIGKILL, 5.0)
        return [
            f"Killed the supervisor (process {supervisor.pid}), which did not end within {limit_s:.0f} s."
        ]
    after = home.read_state()
    left = [process for process in (after.processes() if after else []) if is_alive(process)]
    parts = ", ".join(_named(process) for process in state.processes() if process not in left)
    return [f"Stopped {parts or 'the supervisor'} in {home.folder}."]


def _named(process: Running) -> str:
    return f"{process.name} {process.pid}"


def _end_strays(home: Home) -> list[Running]:
    """With the lock held, so that a `rapid up` at this moment is not taken for one."""
    if not home.folder.is_dir():
        return []
    try:
        with HomeLock(home):
            return end_strays(home)
    except Held as held:
        raise Oops(f"Another `rapid up` (process {held.pid}) has just begun in {home.folder}.") from held
