"""One renderer for every log line, ours and the libraries': JSON for machines, colours for a terminal.

Log lines carry ids, counts and reasons, never the value of a record.
"""

import logging
import sys
import time
from collections.abc import Callable
from typing import Final, Literal, TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

NOISY: Final = ("aiokafka", "faust", "mode", "kafka")
"""Libraries that say the same several times a second while a broker is away."""
QUIET_S: Final = 10.0
"""A noisy library may repeat one message this often, in seconds."""
MOST_MESSAGES: Final = 1000
"""Most different messages that are remembered."""


def configure(
    level: str = "INFO",
    form: Literal["json", "console", "auto"] = "auto",
    stream: TextIO | None = None,
) -> None:
    """Send structlog and the standard library through one renderer to `stream` (stderr)."""
    out = stream or sys.stderr
    shared = _shared_processors()
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared,
                    structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )  # fmt: skip
    handler = logging.StreamHandler(out)
    handler.addFilter(OncePerWhile(QUIET_S, time.monotonic))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_renderers(form, out))
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in NOISY:
        _route_to_root(logging.getLogger(name))
    logging.captureWarnings(True)


def _route_to_root(logger: logging.Logger) -> None:
    """Below INFO these libraries log whole records, so they never get there."""
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(max(logging.INFO, logging.getLogger().level))


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _renderers(form: Literal["json", "console", "auto"], out: TextIO) -> list[Processor]:
    people = form == "console" or (form == "auto" and out.isatty())
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        without_details,
        structlog.dev.ConsoleRenderer() if people else structlog.processors.JSONRenderer(),
    ]


def without_details(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Drop PostgreSQL's DETAIL lines from a traceback: they repeat the values of the row."""
    text = event.get("exception")
    if isinstance(text, str):
        event["exception"] = "\n".join(
            line for line in text.splitlines() if not line.lstrip().startswith("DETAIL:")
        )
    return event


class OncePerWhile(logging.Filter):
    """Lets each message of a noisy library through once per `quiet_s` seconds; errors always pass.

    The count of those held back is added to the next one that passes.
    """

    def __init__(self, quiet_s: float, clock: Callable[[], float]) -> None:
        super().__init__()
        self._quiet_s = quiet_s
        self._clock = clock
        self._seen: dict[
            tuple[str, str], tuple[float, int]
        ] = {}  # (logger, message) -> (passed at, held back)

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(NOISY):
            return True
        key = (record.name, str(record.msg))
        now = self._clock()
        passed_at, held_back = self._seen.get(key, (float("-inf"), 0))
        if now - passed_at < self._quiet_s:
            self._seen[key] = (passed_at, held_back + 1)
            return False
        if held_back:
            record.msg = f"{record.msg} ({held_back} more like this)"
        self._remember(key, now)
        return True

    def _remember(self, key: tuple[str, str], now: float) -> None:
        if len(self._seen) >= MOST_MESSAGES:
            self._seen.clear()
        self._seen[key] = (now, 0)


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """A structlog logger of the standard library's `name`."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound


def bind(**ids: str | int) -> None:
    """Add ids (worker, topic, partition, …) to every later line of this task."""
    structlog.contextvars.bind_contextvars(**ids)
