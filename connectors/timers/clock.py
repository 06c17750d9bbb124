"""The database's clock, read here. Who arms a timer and who nudges may be on different machines: one clock rules."""

from collections import deque
from datetime import datetime, timedelta
from typing import Final

KEPT_S: Final = 10.0
"""Clocks drift: at 500 ppm, the most that NTP corrects, this is 5 ms."""


class DatabaseClock:
    """What the database's clock says at least, between two looks at it. Times of ours are monotonic seconds.

    What it says is heard some time after it was said, so each look gives a bound that is a little behind: never ahead,
    so that nobody is nudged early. The best of the last seconds holds; an older one is forgotten, which also follows
    a clock that was set back.
    """

    def __init__(self) -> None:
        self._heard: deque[tuple[float, datetime]] = deque()  # (when it was heard, what it said)

    def hear(self, said: datetime, at_s: float) -> None:
        """It said so, no later than at `at_s`."""
        self._heard.append((at_s, said))
        while at_s - self._heard[0][0] > KEPT_S:
            self._heard.popleft()

    def now(self, at_s: float) -> datetime | None:
        """What it says now, or a little less; None before it was ever heard."""
        return max((said + timedelta(seconds=at_s - heard_s) for heard_s, said in self._heard), default=None)
