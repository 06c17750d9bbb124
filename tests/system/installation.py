"""An installation as a user has one: a home, and the `rapid` script. Imports nothing of the product."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

RAPID = Path(sys.executable).with_name("rapid")
LIMIT_S = 120.0


class Installation:
    """Commands in one home. `environment` adds settings."""

    def __init__(self, home: Path, environment: dict[str, str] | None = None) -> None:
        self.home = home
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAPID_")}
        self.environment = inherited | {"RAPID_HOME": str(home)} | (environment or {})

    def rapid(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, without a terminal."""
        return subprocess.run(
            [str(RAPID), *arguments], env=self.environment, cwd=self.home.parent, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command and leave it running."""
        return subprocess.Popen(
            [str(RAPID), *arguments], env=self.environment, cwd=self.home.parent, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def up(self, *arguments: str) -> None:
        done = self.rapid("up", "--detach", *arguments)
        assert done.returncode == 0, done.stderr + self.logs()

    def status(self) -> dict[str, Any]:
        done = self.rapid("status", "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def state(self) -> dict[str, Any]:
        """What the supervisor wrote down last; empty before it has."""
        try:
            found: dict[str, Any] = json.loads((self.home / "state.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def pids(self) -> dict[str, int]:
        """The processes of the state by name, the supervisor too."""
        state = self.state()
        parts = [
            state["supervisor"],
            state["database"],
            state["broker"],
            *state["workers"],
            *state["services"],
        ]
        return {part["name"]: part["pid"] for part in parts if part}

    def logs(self) -> str:
        files = sorted((self.home / "logs").glob("*"))
        return "\n".join(f"--- {file.name}\n{file.read_text()[-3000:]}" for file in files)


@contextmanager
def installation(environment: dict[str, str] | None = None) -> Iterator[Installation]:
    """A fresh one, which is ended and removed afterwards.

    Not in pytest's folder: its path is long, and PostgreSQL's user may not enter it.
    """
    folder = Path(tempfile.mkdtemp(prefix="rapid-test-"))
    made = Installation(folder / "home", environment)
    try:
        yield made
    finally:
        made.rapid("down")
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(what: str, condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Look until the condition holds; fail with `what` after `limit_s` seconds."""
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.05)


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not collected does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def running_in(place: Path) -> list[str]:
    """Command lines of processes that were started for this place."""
    found = []
    for process in psutil.process_iter():
        try:
            home = process.environ().get("RAPID_HOME", "")
            if home.startswith(str(place)) or str(place) in " ".join(process.cmdline()):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
