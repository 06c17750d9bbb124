"""An installation of one's own for a while: started in a new folder, ended and removed again whatever happens."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from infra.cli.errors import Oops
from infra.embedded.processes import Running, end, identify
from infra.embedded.state import Home, State, end_strays
from infra.settings import PREFIX, Settings

RAPID: Final = (sys.executable, "-P", "-m", "infra.cli.main")
START_LIMIT_S: Final = 120.0
END_LIMIT_S: Final = 60.0


@dataclass(slots=True)
class Temporary:
    """`environment`: that of a `rapid` command in it."""

    home: Home
    workers: int
    environment: Mapping[str, str]
    supervisor: "subprocess.Popen[bytes]"
    identity: Running  # of its supervisor
    kept: bool = False  # to be left running when all went well

    @property
    def settings(self) -> Settings:
        """The defaults, in this home: neither RAPID_ variables nor a .env file of the caller's count."""
        return Settings(
            _env_file=None,
            home=self.home.folder,
            brokers="",
            database_url="",
            policy=None,
            workers=self.workers,
        )

    def state(self) -> State | None:
        """What its supervisor wrote down last; None before it has."""
        state = self.home.read_state()
        return state if state is not None and state.supervisor.pid == self.identity.pid else None

    def is_ready(self) -> bool:
        """Whether everything runs."""
        state = self.state()
        return state is not None and state.phase == "ready"

    def await_ready(self) -> None:
        """Wait until everything runs. Raises Oops, with the last words of what ended instead."""
        until_s = time.monotonic() + START_LIMIT_S
        while not self.is_ready():
            if self.supervisor.poll() is not None:
                words = (self.home.logs / "up.out").read_text().strip().splitlines() or [
                    "it ended without a word."
                ]
                raise Oops(words[-1].removeprefix("rapid: "))
            if time.monotonic() > until_s:
                raise Oops(f"The installation was not ready after {START_LIMIT_S:.0f} s.")
            time.sleep(0.1)


@contextmanager
def temporary(name: str, workers: int, more: Mapping[str, str] | None = None) -> Iterator[Temporary]:
    """`rapid up` in a folder that is removed; it is not waited for. `more`: settings as environment variables."""
    folder = Path(tempfile.mkdtemp(prefix=f"rapid-{name}-"))
    kept = False
    try:
        there = _start(folder, workers, more or {})
        try:
            yield there
            kept = there.kept
        finally:
            if not kept:
                _end(there)
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """SIGTERM and a closed terminal end it as Ctrl-C does: cleaning up."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(folder: Path, workers: int, more: Mapping[str, str]) -> Temporary:
    home = Home(folder / "home")
    home.make()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    scratch = folder / "tmp"  # what is killed cannot remove its own
    scratch.mkdir()
    environment = inherited | {f"{PREFIX}HOME": str(home.folder), "TMPDIR": str(scratch)} | dict(more)
    with (home.logs / "up.out").open("wb") as output:
        supervisor = subprocess.Popen(
            [*RAPID, "up", "--workers", str(workers)], env=environment, cwd=folder, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    return Temporary(home, workers, environment, supervisor, identify("supervisor", supervisor.pid))


def _end(there: Temporary) -> None:
    """Ask the supervisor to end everything; whatever is left after that is ended by id. Ctrl-C waits for it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        end([there.identity], signal.SIGTERM, END_LIMIT_S)
        with suppress(subprocess.TimeoutExpired):
            there.supervisor.wait(5)
        end_strays(there.home)
    finally:
        signal.signal(signal.SIGINT, before)
