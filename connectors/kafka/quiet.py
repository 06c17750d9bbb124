"""aiokafka logs several lines a second for each node that it cannot reach: let one through now and then."""

import logging
import time
from typing import Final

QUIET_S: Final = 10.0
_LOGGERS: Final = ("aiokafka", "aiokafka.conn", "aiokafka.client", "aiokafka.cluster", "aiokafka.producer.sender",
                   "aiokafka.consumer.group_coordinator", "aiokafka.consumer.fetcher")  # fmt: skip


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


def quieten_aiokafka() -> None:
    """Rate-limit aiokafka's loggers; a second call changes nothing."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(present, OncePer) for present in logger.filters):
            logger.addFilter(OncePer())
