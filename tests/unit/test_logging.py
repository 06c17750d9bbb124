"""Log lines: one form for all, no values, no flood."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from infra.logging import OncePerWhile, bind, configure, logger


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """A stream that everything is logged to as JSON; the former handlers come back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure("INFO", "json", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_ours_and_a_librarys_lines_look_alike(out: io.StringIO) -> None:
    bind(worker=7)
    logger("ours").info("claimed", topic="incidents")
    logging.getLogger("theirs").warning("slow: %s ms", 12)
    found = [{name: line[name] for name in ("event", "level", "logger", "worker")} for line in lines(out)]
    assert found == [
        {"event": "claimed", "level": "info", "logger": "ours", "worker": 7},
        {"event": "slow: 12 ms", "level": "warning", "logger": "theirs", "worker": 7},
    ]


def test_less_severe_lines_are_left_out(out: io.StringIO) -> None:
    logger("ours").debug("detail")
    logging.getLogger("aiokafka.consumer").debug("a whole record")
    assert lines(out) == []


def test_a_traceback_has_no_details_of_a_row(out: io.StringIO) -> None:
    number = "JA-123456"  # whole only in the message, not in the source line
    try:
        raise ValueError(f"duplicate key\nDETAIL:  Key (number)=({number}) already exists.")
    except ValueError:
        logger("ours").exception("failed")
    assert "duplicate key" in lines(out)[0]["exception"]
    assert number not in out.getvalue()


def record(name: str, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "file", 1, message, (), None)


def test_a_noisy_library_repeats_itself_once_per_while() -> None:
    now = [0.0]
    once = OncePerWhile(10.0, lambda: now[0])
    passed = [once.filter(record("aiokafka.client", "no broker")) for _ in range(5)]
    now[0] = 10.0
    later = record("aiokafka.client", "no broker")
    assert passed == [True, False, False, False, False]
    assert once.filter(later)
    assert later.msg == "no broker (4 more like this)"


def test_other_libraries_and_other_messages_pass() -> None:
    once = OncePerWhile(10.0, lambda: 0.0)
    assert once.filter(record("aiokafka.client", "one"))
    assert once.filter(record("aiokafka.client", "two"))
    assert all(once.filter(record("ours", "same")) for _ in range(3))
