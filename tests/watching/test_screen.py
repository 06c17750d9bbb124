"""`rapid status --watch`: what is drawn, at 80 columns, and that keys end it."""

import os
import pty
import signal
import struct
import termios
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fcntl import ioctl
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from infra.cli.board import BARS, Screen, age, pick, sparkline
from infra.connect import Endpoints
from infra.standing import Behind, Standing
from infra.watching.board import STAGES, Board, Happened, Process, Unseen, readiness, stage_of
from infra.watching.world import Waiting
from tests.system.installation import RAPID

NOW = datetime(2026, 7, 4, 22, 40, tzinfo=UTC)
COUNTS = {"dead_letters": 2, "parked_updates": 0, "incidents": 467, "issues": 10_003}


def happened(seconds: int, what: str = "order", says: str = "WO-1 for cdot: Repair street light") -> Happened:
    return Happened(NOW - timedelta(seconds=seconds), what, says)


def board(at_s: float = 0.0, handled: int = 0, latest: Sequence[Happened] = ()) -> Board:
    processes = [
        Process("worker-1", 4711, 61.0, 2, False, {"database": "PostgreSQL has not answered for 17 s."}),
        Process("api", 4712, 7300.0, 0, True, {}),
        Process("courier", 4713, 7300.0, 0, None, {}),
    ]
    standing = Standing(COUNTS, 3, (), Behind({"incidents": 7}, 18.0))
    return Board(
        NOW, at_s, "ready", Endpoints(("127.0.0.1:9092",), "", embedded=True), "127.0.0.1:8311", standing,
        dict.fromkeys(STAGES, handled), {"triage": 7}, Waiting(3, 75.0, 2), 958, 4, 1, processes, latest,
    )  # fmt: skip


def drawn(screen: Screen, width: int = 80, height: int = 30) -> list[str]:
    console = Console(width=width, height=height, force_terminal=False, record=True, file=StringIO())
    console.print(screen.drawn(width, height), height=height)
    return console.export_text().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 30), (100, 40), (200, 60), (40, 12)])
def test_it_fits_every_terminal_and_shows_what_counts(width: int, height: int) -> None:
    screen = Screen()
    screen.take(board(0.0, 0))
    screen.take(board(2.0, 200, [happened(1)]))
    lines = drawn(screen, width, height)
    assert len(lines) == height
    assert all(len(line) <= width for line in lines)
    if width < 80:
        return
    text = "\n".join(lines)
    assert "RAPID RESPONSE" in lines[0]
    for said in (
        "intake",
        "100",
        "open orders",
        "958",
        "outbox",
        "3, 75 s",
        "worker-1",
        "4711",
        "WO-1 for cdot",
    ):
        assert said in text, said
    assert "worker-1: PostgreSQL has not answered for 17 s." in lines[-1]


def test_what_fails_is_said_and_what_was_seen_last_stays() -> None:
    screen = Screen()
    screen.take(Unseen(NOW, "Nothing is running in /srv/rapid."))
    assert any("Nothing is running in /srv/rapid." in line for line in drawn(screen))
    screen.take(board())
    screen.take(Unseen(NOW + timedelta(seconds=12), "PostgreSQL does not answer"))
    lines = drawn(screen, 120)
    assert "not seen for 12 s: PostgreSQL does not answer" in lines[0]
    assert any("958" in line for line in lines)


def test_a_log_that_begins_anew_is_no_flow_backwards() -> None:
    screen = Screen()
    for at_s, handled in ((0.0, 1000), (2.0, 1500), (4.0, 20)):
        screen.take(board(at_s, handled))
    [row] = [line for line in drawn(screen) if "intake" in line]
    assert " 0 " in row
    assert BARS[-1] in row  # the flow before


def test_bars_and_ages() -> None:
    assert sparkline([0, 1, 4, 8], 6) == "   ▁▄█"
    assert sparkline([], 3) == "   "
    assert sparkline([1000, 0.001], 2) == "█▁"  # something is never drawn as nothing
    assert [age(seconds) for seconds in (3, 119, 780, 7300, 400_000)] == [
        "3 s",
        "119 s",
        "13 min",
        "2 h",
        "5 d",
    ]


def test_what_is_rare_keeps_its_place_however_many_orders_are_opened() -> None:
    orders = [happened(n) for n in range(20)]
    rare = [happened(100 + n, "restart", f"worker-{n}") for n in range(5)]
    assert [one.what for one in pick([*orders, *rare], 6)] == ["order"] * 3 + ["restart"] * 3
    assert len(pick(orders, 6)) == 6
    assert [one.what for one in pick([*orders[:1], *rare], 6)].count("restart") == 5


def test_nothing_from_outside_commands_the_terminal() -> None:
    screen = Screen()
    screen.take(board(latest=[happened(1, "dead letter", "\x1b[2Jincident-reports")]))
    assert not any("\x1b" in line for line in drawn(screen))


def test_stages_are_who_reads() -> None:
    assert (stage_of("incidents"), stage_of("work-order-updates.cdot")) == ("triage", "intake")
    assert list(STAGES)[:3] == ["intake", "triage", "dispatch"]


def test_a_process_that_does_not_answer_is_not_ready() -> None:
    assert readiness("") == (None, {})
    ready, why = readiness("127.0.0.1:1")
    assert ready is False
    assert "does not answer at 127.0.0.1:1" in why["process"]


def run_in_terminal(home: Path, keys: bytes, *, signal_number: int = 0) -> tuple[int, bytes]:
    """`rapid status --watch` in a terminal of 80 columns, until it ends; its exit code and what it wrote."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update({"RAPID_HOME": str(home), "TERM": "xterm"})
        os.execv(RAPID, ["rapid", "status", "--watch"])
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 80, 0, 0))
    written, sent, deadline = b"", False, time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline, written
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # its end is closed
            break
        written += part
        if not part:
            break
        if not sent and b"Nothing is running" in written:
            sent = True
            ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))  # it is drawn anew
            if signal_number:
                os.kill(pid, signal_number)
            os.write(terminal, keys)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), written


@pytest.mark.parametrize(
    ("keys", "number"), [(b"q", 0), (b"\x03", 0), (b"", signal.SIGINT), (b"", signal.SIGTERM)]
)
def test_keys_and_signals_end_it_and_the_terminal_is_as_it_was(
    tmp_path: Path, keys: bytes, number: int
) -> None:
    code, written = run_in_terminal(tmp_path, keys, signal_number=number)
    assert code == 0
    assert b"\x1b[?1049h" in written, "its own screen"
    assert written.rstrip().endswith((b"\x1b[?25h", b"\x1b[?1049l")), "left again, the cursor shown"
