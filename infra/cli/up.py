"""`rapid up`: the whole system on this machine."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from infra.cli.errors import ExitCode, Oops
from infra.embedded.broker import PortBusy
from infra.embedded.processes import PartFailed
from infra.embedded.state import Held, Home, HomeLock, State, supervisor_of
from infra.logging import configure
from infra.settings import Settings, as_environment

LOOK_EVERY_S = 0.1
GRACE_S = 10.0

Detach = Annotated[
    bool, typer.Option("--detach", "-d", help="Return when it is ready; `rapid down` ends it.")
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-w", min=1, max=64, help="Worker processes.", show_default="RAPID_WORKERS"),
]


def up(detach: Detach = False, workers: Workers = None) -> None:
    """Start broker, database and workers on this machine and keep them running.

    Needs no Docker and no Java. What is accepted is kept in RAPID_HOME (.rapid); the broker keeps nothing, and is
    filled again from the database at the next start.
    """
    settings = Settings()
    if settings.broker_list or settings.database_url:
        raise Oops(
            "RAPID_BROKERS or RAPID_DATABASE_URL is set, so there is nothing to start here: "
            "run `rapid migrate`, `rapid topics create` and `rapid worker` instead.",
            ExitCode.INVALID,
        )
    settings = settings.model_copy(update={"workers": workers or settings.workers})
    home = Home(settings.home_folder)
    _make(home)
    running = supervisor_of(home)
    if running:
        raise _already(home, running.pid)
    if detach:
        _start_detached(settings, home)
    else:
        _run_here(settings, home)


def _make(home: Home) -> None:
    try:
        home.make()
    except OSError as error:
        raise Oops(f"{home.folder} cannot be made: {error.strerror}.", ExitCode.INVALID) from error


def _already(home: Home, pid: int) -> Oops:
    return Oops(
        f"It is already running in {home.folder} (process {pid}): see `rapid status`, or stop it with `rapid down`.",
        ExitCode.ALREADY_RUNNING,
    )


def _run_here(settings: Settings, home: Home) -> None:
    """Be the supervisor until Ctrl-C or SIGTERM."""
    from infra.embedded.supervisor import supervise  # heavy, and not needed by who only waits for it

    began = time.monotonic()
    try:
        with HomeLock(home), home.log("supervisor").open("a", buffering=1) as log:
            configure(settings.log_level, "json", log)
            supervise(settings, lambda state: print_ready(home, state, time.monotonic() - began))
    except Held as held:
        raise _already(home, held.pid) from held
    except PortBusy as busy:
        raise Oops(str(busy), ExitCode.BUSY_PORT) from busy
    except PartFailed as failed:
        raise Oops(str(failed)) from failed


def _start_detached(settings: Settings, home: Home) -> None:
    """Start the supervisor in a session of its own; return when it is ready. Its terminal is a file."""
    terminal = home.logs / "up.out"
    command = [sys.executable, "-P", "-m", "infra.cli.main", "up"]
    with terminal.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd="/",
            env={**os.environ, **_environment(settings)}, start_new_session=True,
        )  # fmt: skip
    _await_ready(process, home, terminal, settings.start_timeout_s)
    print(terminal.read_text(), end="")


def _environment(settings: Settings) -> dict[str, str]:
    """The child works in `/`, so that it holds no folder of the caller: relative paths become absolute.

    Settings that were not set stay unset, because some defaults depend on the broker.
    """
    absolute = settings.model_copy(
        update={
            "home": settings.home_folder,
            "policy": settings.policy and settings.policy.resolve(),
            "sources": settings.sources and settings.sources.resolve(),
            "drop": settings.drop and settings.drop.resolve(),
        }
    )
    chosen = settings.model_fields_set | {"home", "workers"}
    return {name: value for name, value in as_environment(absolute).items() if name[6:].lower() in chosen}


def _await_ready(process: "subprocess.Popen[bytes]", home: Home, terminal: Path, limit_s: float) -> None:
    until = time.monotonic() + limit_s + GRACE_S
    while not _is_ready(home, process.pid):
        if process.poll() is not None:
            raise Oops(_last_words(terminal), process.returncode)
        if time.monotonic() > until:
            process.terminate()
            raise Oops(f"It is not ready after {limit_s:.0f} s and was stopped: see {home.logs}.")
        time.sleep(LOOK_EVERY_S)


def _is_ready(home: Home, pid: int) -> bool:
    """Ready and told so: the supervisor writes its summary after it has saved the phase."""
    state = home.read_state()
    ready = state is not None and state.supervisor.pid == pid and state.phase == "ready"
    return ready and (home.logs / "up.out").stat().st_size > 0


def _last_words(terminal: Path) -> str:
    lines = terminal.read_text().strip().splitlines()
    return lines[-1].removeprefix("rapid: ") if lines else f"It ended without a word: see {terminal.parent}."


def print_ready(home: Home, state: State, seconds: float) -> None:
    """What runs, and what to try next."""
    pids = ", ".join(str(worker.pid) for worker in state.workers)
    summary = f"""Rapid Response is ready after {seconds:.1f} s, in {home.folder}
  broker     {state.broker_address} (in memory)
  database   {state.database_url}
  workers    {len(state.workers)} (processes {pids})
  api        http://{state.api_address}/v1
  logs       {home.logs}

Try next:
  rapid status --watch     what it does
  rapid simulate           invented incidents and issues, as files for `rapid replay`
  rapid down               stop it; what was accepted stays
"""
    summary += f"\n{state.note}\n" if state.note else ""
    sys.stdout.write(summary)  # at once: who waits for it must not read half of it
    sys.stdout.flush()
