"""aiokafka logs several lines a second for each node that it cannot reach: let one through now and then.

And it logs one error that is none: see `Farewell`.
"""

import logging
import time
from typing import Final

QUIET_S: Final = 10.0
_COORDINATOR: Final = "aiokafka.consumer.group_coordinator"
_LEAVE_FAILED: Final = "LeaveGroup request failed: %s"
_LOGGERS: Final = ("aiokafka", "aiokafka.conn", "aiokafka.client", "aiokafka.cluster", "aiokafka.producer.sender",
                   _COORDINATOR, "aiokafka.consumer.fetcher")  # fmt: skip


class OncePer(logging.Filter):
    """Lets one record per message template through in `interval_s`; the next says how many were left out."""

    def __init__(self, interval_s: float = QUIET_S) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it. The templates are aiokafka's, a few dozen: no need to forget any."""
        if record.levelno < logging.WARNING:
            return True
        now = time.monotonic()
        template = str(record.msg)
        if now - self._last.get(template, -self._interval_s) < self._interval_s:
            self._left_out[template] = self._left_out.get(template, 0) + 1
            return False
        self._last[template] = now
        left_out = self._left_out.pop(template, 0)
        if left_out:
            record.msg = f"{template} (and {left_out} more like this)"
        return True


class Farewell(logging.Filter):
    """Whoever stops tells its group, and nothing is lost when that fails: the broker lets it go when its session ends.

    It does fail when several stop at once: the first that leaves has the others join anew, and they are gone before
    they have looked for their coordinator.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it: as information, in words of ours."""
        if record.msg != _LEAVE_FAILED:
            return True
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg = "left without telling the group, which lets it go when its session ends: %s"
        return logging.getLogger(record.name).isEnabledFor(logging.INFO)


def quieten_aiokafka() -> None:
    """Rate-limit aiokafka's loggers; a second call changes nothing."""
    coordinator = logging.getLogger(_COORDINATOR)
    if not any(isinstance(present, Farewell) for present in coordinator.filters):
        coordinator.addFilter(Farewell())
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(present, OncePer) for present in logger.filters):
            logger.addFilter(OncePer())
