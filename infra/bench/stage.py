"""The installation that is measured: one of its own in a temporary home, started as a user starts it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from infra.cli.errors import Oops
from infra.embedded.processes import end, identify
from infra.embedded.state import Home, State
from infra.settings import PREFIX

START_S: Final = 90.0
STOP_S: Final = 45.0
LOOK_EVERY_S: Final = 0.1


@contextmanager
def installation(workers: int, settings: Mapping[str, str]) -> Iterator[State]:
    """An installation that is ready, and is gone afterwards with everything it held."""
    with tempfile.TemporaryDirectory(prefix="rapid-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # PostgreSQL's own user has to pass
        home = Home(Path(folder) / "home")
        home.make()
        process = _start(home, Path(folder), workers, settings)
        try:
            yield _await_ready(process, home)
        finally:
            end(
                [identify("supervisor", process.pid)] if process.poll() is None else [],
                signal.SIGTERM,
                STOP_S,
            )
            process.wait()


def _start(home: Home, folder: Path, workers: int, settings: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """`rapid up`. Nothing of the caller's own settings is left, neither in the environment nor as a `.env`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment = {
        **inherited,
        f"{PREFIX}HOME": str(home.folder),
        f"{PREFIX}WORKERS": str(workers),
        **{f"{PREFIX}{name.upper()}": value for name, value in settings.items()},
    }
    with home.log("up").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "infra.cli.main", "up"], cwd=folder, env=environment,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def _await_ready(process: "subprocess.Popen[bytes]", home: Home) -> State:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        state = home.read_state()
        if state is not None and state.phase == "ready":
            return state
        if process.poll() is not None:
            raise Oops(f"The installation to measure did not start: {home.log('up').read_text().strip()}")
        time.sleep(LOOK_EVERY_S)
    raise Oops(f"The installation to measure is not ready after {START_S:.0f} s.")


def memory_mb(state: State) -> list[float]:
    """Resident memory of each worker, in megabytes of 2**20 bytes."""
    return [psutil.Process(worker.pid).memory_info().rss / 2**20 for worker in state.workers]


def cpu_seconds(state: State) -> dict[str, float]:
    """Processor time used so far: by the workers, the database, the broker, ourselves, and by all of the machine."""
    assert state.database is not None
    assert state.broker is not None
    busy = psutil.cpu_times()
    return {
        "workers": sum(_used(worker.pid) for worker in state.workers),
        "database": _used_with_children(state.database.pid),
        "broker": _used(state.broker.pid),
        "bench": _used(os.getpid()),
        "machine": busy.user + busy.nice + busy.system,
    }


def _used(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _used_with_children(pid: int) -> float:
    """Those that have ended are in their parent's books."""
    process = psutil.Process(pid)
    ended = process.cpu_times()
    living = sum(_used(child.pid) for child in process.children())
    return living + _used(pid) + float(ended.children_user + ended.children_system)
