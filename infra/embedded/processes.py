"""Processes by identity: a pid is used again by the system, a pid with its start time is not."""

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

SAME_START_S: Final = 2.0
"""Start times are derived from the clock, which may be set meanwhile: this close is the same process."""
LOOK_EVERY_S: Final = 0.05


class PartFailed(Exception):
    """A part of the embedded installation could not be started; the message is a sentence for a person."""


@dataclass(frozen=True, slots=True)
class Running:
    """A process that we started: what it is, its pid, and when it started (seconds since 1970)."""

    name: str
    pid: int
    started: float


def identify(name: str, pid: int) -> Running:
    """The identity of a process that lives now. Raises psutil.NoSuchProcess when it has gone."""
    return Running(name, pid, psutil.Process(pid).create_time())


def is_alive(process: Running) -> bool:
    """Whether this very process still runs; one that has ended and waits to be collected does not."""
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.started) < SAME_START_S
        return same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def send(process: Running, number: signal.Signals) -> None:
    """Send a signal to this very process; nothing when it has gone."""
    if is_alive(process):
        try:
            psutil.Process(process.pid).send_signal(number)
        except psutil.NoSuchProcess:
            return


def await_end(processes: Sequence[Running], limit_s: float) -> list[Running]:
    """Wait until all have ended; returns those that still run after `limit_s` seconds."""
    until = time.monotonic() + limit_s
    left = [process for process in processes if is_alive(process)]
    while left and time.monotonic() < until:
        time.sleep(LOOK_EVERY_S)
        left = [process for process in left if is_alive(process)]
    return left


def end(processes: Sequence[Running], gently: signal.Signals, limit_s: float) -> list[Running]:
    """Ask all to end, wait, kill those that do not; returns the killed ones."""
    for process in processes:
        send(process, gently)
    stubborn = await_end(processes, limit_s)
    for process in stubborn:
        send(process, signal.SIGKILL)
    await_end(stubborn, 5.0)
    return stubborn


def spawn(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    user: int | None = None,
    group: int | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own, so that it shares no terminal, with its output appended to `log`.

    `user`, `group`: ids to run as, only for root.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            user=user,
            group=group,
            extra_groups=[] if user is not None else None,
            start_new_session=True,
        )
