"""An installation that is looked at over its watch ports, and stopped in parts."""

import http.client
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families as families

from tests.system.installation import Installation

LIMIT_S = 120.0


def ask(address: str, path: str, timeout_s: float = 3.0) -> tuple[int, str]:
    """Status and body; 0: no answer."""
    host, _, port = address.rpartition(":")
    asking = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
    try:
        asking.request("GET", path)
        answer = asking.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, type(error).__name__
    finally:
        asking.close()


def addresses(running: Installation) -> dict[str, str]:
    found: dict[str, str] = running.state().get("watch", {})
    return found


def not_ready(address: str) -> dict[str, str]:
    """Why a process is not ready, part by part; empty: it is."""
    status, body = ask(address, "/readyz")
    if not status:
        return {"process": body}
    said: dict[str, Any] = json.loads(body)
    assert said["ready"] is (status == 200) is (not said["not_ready"])
    found: dict[str, str] = said["not_ready"]
    return found


def is_live(address: str) -> bool:
    return ask(address, "/livez")[0] == 200


def all_ready(running: Installation) -> bool:
    found = addresses(running)
    return bool(found) and not any(not_ready(address) for address in found.values())


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """These processes, and what they started, hold still meanwhile."""
    found = map(psutil.Process, pids)
    with _held_still([one for first in found for one in (first, *first.children(recursive=True))]):
        yield


@contextmanager
def held_still(pid: int) -> Iterator[None]:
    """This one alone."""
    with _held_still([psutil.Process(pid)]):
        yield


@contextmanager
def _held_still(ours: list[psutil.Process]) -> Iterator[None]:
    for one in ours:
        one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in ours:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGCONT)


def until(what: str, condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.1)


Series = dict[str, dict[str, set[float]]]
"""The values that were seen, by metric and series."""


def scrape(running: Installation, seen: Series) -> None:
    """Note what each process's metrics are now. A series that was not there was 0."""
    for name, address in addresses(running).items():
        status, text = ask(address, "/metrics")
        if status != 200:
            continue
        for family in families(text):
            for sample in family.samples:
                if not sample.name.endswith("_created"):
                    key = f"{name} {sample.name} {sorted(sample.labels.items())}"
                    seen[family.name].setdefault(key, {0.0}).add(sample.value)


def nothing_seen() -> Series:
    return defaultdict(dict)


def moved(seen: Mapping[str, Mapping[str, set[float]]], name: str) -> bool:
    """Whether any of its series had two values; a counter's family is named without its `_total`."""
    return any(len(values) > 1 for values in seen.get(name.removesuffix("_total"), {}).values())


def kill(pid: int) -> None:
    """If it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
