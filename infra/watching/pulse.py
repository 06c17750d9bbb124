"""Whether a process lives and whether it is ready, from what it really does. Read by the thread that serves it."""

import time
from collections.abc import Callable
from typing import Final

BEAT_S: Final = 0.25
DEAD_S: Final = 10.0
"""A loop that has not turned for so long is held to be dead: the longest piece of work in it takes a second."""

Why = Callable[[], str | None]
"""Why a part is not ready, in a sentence; None: it is."""


class Heard:
    """Something that has to answer every now and then: it is ready when it has lately."""

    def __init__(self, what: str, limit_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._limit_s = limit_s
        self._monotonic = monotonic
        self._began_s = monotonic()
        self._last_s: float | None = None
        self._reason = ""

    def answered(self) -> None:
        """It did, just now."""
        self._last_s, self._reason = self._monotonic(), ""

    def failed(self, reason: str) -> None:
        """It was asked, and did not."""
        self._reason = reason

    def why(self) -> str | None:
        """Why this is not ready."""
        reason = f": {self._reason}" if self._reason else "."
        if self._last_s is None:
            return f"{self._what} has not answered since the start{reason}"
        silent_s = self._monotonic() - self._last_s
        return (
            f"{self._what} has not answered for {silent_s:.0f} s{reason}"
            if silent_s > self._limit_s
            else None
        )


class Pulse:
    """The parts of one process, and the beat of its loop."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, dead_s: float = DEAD_S) -> None:
        self._monotonic = monotonic
        self._dead_s = dead_s
        self._beat_s = monotonic()
        self._parts: dict[str, Why] = {}

    def beat(self) -> float:
        """The loop has turned; seconds since the last time."""
        now = self._monotonic()
        since, self._beat_s = now - self._beat_s, now
        return since

    def part(self, name: str, why: Why) -> None:
        """A part that has to be ready for the whole to be."""
        self._parts[name] = why

    def dead(self) -> str | None:
        """Why the process is not alive."""
        silent_s = self._monotonic() - self._beat_s
        return f"The loop has not turned for {silent_s:.0f} s." if silent_s > self._dead_s else None

    def not_ready(self) -> dict[str, str]:
        """Each part that is not ready, with why."""
        parts = {"loop": self.dead, **self._parts}
        return {name: why for name, ask in parts.items() if (why := ask()) is not None}

    @property
    def parts(self) -> tuple[str, ...]:
        """Their names."""
        return ("loop", *self._parts)
