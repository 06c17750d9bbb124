"""`rapid demo` as somebody who has just cloned the repository sees it."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.installation import RAPID, running_in, wait_for

SHOWN = (
    "Simulated, and marked so in every row: 3 days",
    "Work orders by department",
    "Work orders by category",
    "Work orders by area",
    "One incident, from report to orders, with the rule behind each step",
    "What it calls for",
    "Which work, and why",
    "What the department sees of one of these orders, and what it does not",
    "none found.",
    "Measured on this machine, just now",
    "What to try next",
)


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the demo makes its folder. Not pytest's: PostgreSQL's user may not enter that."""
    with tempfile.TemporaryDirectory(prefix="demo-test-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def start(place: Path, *arguments: str) -> "subprocess.Popen[str]":
    """A demo that is given another installation's address and a wrong home, and must look at neither."""
    environment = os.environ | {
        "TMPDIR": str(place),
        "RAPID_HOME": str(place / "never"),
        "RAPID_BROKERS": "kafka.invalid:9092",
    }
    return subprocess.Popen(
        [str(RAPID), "demo", *arguments], env=environment, cwd=place, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_the_demo_shows_the_main_job_and_leaves_nothing(place: Path) -> None:
    demo = start(place, "--days", "3")
    output, _ = demo.communicate(timeout=240)
    assert demo.returncode == 0, output
    assert [part for part in SHOWN if part not in output] == [], output
    assert max(map(len, output.splitlines())) <= 100
    assert running_in(place) == []
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(place: Path, number: signal.Signals) -> None:
    demo = start(place)
    wait_for("a database", lambda: any(place.glob("rapid-demo-*/home/database/postmaster.pid")))
    demo.send_signal(number)
    output, _ = demo.communicate(timeout=90)
    assert demo.returncode == 130, output
    assert running_in(place) == []
    assert list(place.iterdir()) == []
