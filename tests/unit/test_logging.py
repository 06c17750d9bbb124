"""Log lines: one form for all, no values, no flood."""

import inspect
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from aiokafka.consumer import group_coordinator

from connectors.kafka.quiet import quieten_aiokafka
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


@pytest.fixture
def quiet() -> Iterator[None]:
    """aiokafka's loggers as a worker has them."""
    names = ["aiokafka", *(name for name in logging.root.manager.loggerDict if name.startswith("aiokafka."))]
    before = {name: list(logging.getLogger(name).filters) for name in names}
    quieten_aiokafka()
    quieten_aiokafka()
    yield
    for name, filters in before.items():
        logging.getLogger(name).filters[:] = filters


@pytest.mark.usefixtures("quiet")
def test_who_cannot_tell_its_group_that_it_leaves_says_so_and_it_is_no_error(out: io.StringIO) -> None:
    coordinator = logging.getLogger("aiokafka.consumer.group_coordinator")
    coordinator.error("LeaveGroup request failed: %s", "[Error 15] GroupCoordinatorNotAvailableError")
    coordinator.error("Heartbeat failed: %s", "why")
    words = "left without telling the group, which lets it go when its session ends: [Error 15] "
    assert [(line["level"], line["event"]) for line in lines(out)] == [
        ("info", f"{words}GroupCoordinatorNotAvailableError"),
        ("error", "Heartbeat failed: why"),
    ]


def test_the_librarys_words_for_that_are_still_the_same() -> None:
    assert "LeaveGroup request failed: %s" in inspect.getsource(group_coordinator)


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
