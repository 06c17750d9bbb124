"""What the loop tells of its lanes, as metrics and as readiness."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import UUID

from connectors.delivery import FenceKey, Moment
from connectors.ports import DecisionStore
from infra.watching import metrics as m
from infra.watching.metrics import Metrics
from schemas.decision import DecisionRecord

S = TypeVar("S", bound=DecisionStore)
NAMED: Final = 3
"""Partitions that a sentence names."""

_decided: ContextVar[Counter[tuple[str, str]] | None] = ContextVar("decided", default=None)
"""Stage and rule of the decisions in the lane's transaction, until it is committed."""


@dataclass(slots=True)
class Lane:
    """One partition of this worker. Seconds are monotonic; `busy_since_s` None: it waits for records."""

    stage: str
    claimed: bool = False
    busy_since_s: float | None = None
    applied_s: float | None = None  # when what is being published was committed
    position: int = 0  # one past the last record that is done
    seen: int = 0  # one past the last record that was polled
    trouble: str = ""


class Lanes:
    """See `connectors.delivery.Watch`; and whether the lanes get on."""

    def __init__(
        self, metrics: Metrics, stuck_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics = metrics
        self._stuck_s = stuck_s
        self._monotonic = monotonic
        self._lanes: dict[FenceKey, Lane] = {}
        self._noting = threading.Lock()  # else a lane that was just closed could be noted once more
        self.ends: Mapping[tuple[str, int], int] = {}
        """Where the logs of our partitions end, as the broker said last."""
        self.assigned: Callable[[], bool] = lambda: bool(self._lanes)
        """Whether this worker has got its share of the partitions, perhaps none."""

    # -- told by the loop

    def tell(self, stage: str, key: FenceKey, moment: Moment) -> None:
        """See `connectors.delivery.Watch`."""
        if moment.what == "closed":
            self._close(key)
            return
        lane = self._lanes.setdefault(key, Lane(stage))
        getattr(self, f"_{moment.what}")(lane, key, moment)

    def _claiming(self, lane: Lane, key: FenceKey, moment: Moment) -> None:  # noqa: ARG002 - all are called alike
        lane.claimed = False
        lane.busy_since_s = self._monotonic()

    def _claimed(self, lane: Lane, key: FenceKey, moment: Moment) -> None:
        lane.claimed, lane.busy_since_s, lane.trouble = True, None, ""
        lane.position = moment.offset
        lane.seen = max(lane.seen, moment.offset)
        for error in ("away", "refused", "fenced"):
            self._metrics.add(m.STAGE_ERRORS, 0, lane.stage, key.topic, error)

    def _polled(self, lane: Lane, key: FenceKey, moment: Moment) -> None:  # noqa: ARG002
        lane.seen = max(lane.seen, moment.offset)

    def _began(self, lane: Lane, key: FenceKey, moment: Moment) -> None:  # noqa: ARG002
        lane.busy_since_s = self._monotonic()
        _decided.set(Counter())

    def _failed(self, lane: Lane, key: FenceKey, moment: Moment) -> None:
        lane.trouble = moment.why
        self._metrics.add(m.STAGE_ERRORS, 1, lane.stage, key.topic, moment.error)
        _taken()

    def _applied(self, lane: Lane, key: FenceKey, moment: Moment) -> None:
        lane.applied_s, lane.trouble = self._monotonic(), ""
        add = self._metrics.add
        add(m.STAGE_RECORDS, moment.records, lane.stage, key.topic)
        add(m.STAGE_EVENTS, moment.events, lane.stage)
        self._metrics.observe(m.BATCH_RECORDS, moment.records, lane.stage)
        self._metrics.observe(m.TRANSACTION_SECONDS, moment.seconds, lane.stage)
        for reason, letters in moment.letters.items():
            add(m.DEAD_LETTERS, letters, key.topic, reason)
        for (stage, rule), decisions in _taken().items():
            add(m.DECISIONS, decisions, stage, rule)

    def _published(self, lane: Lane, key: FenceKey, moment: Moment) -> None:  # noqa: ARG002
        if lane.applied_s is not None:  # else it was what the last owner had left
            self._metrics.observe(m.PUBLISH_SECONDS, self._monotonic() - lane.applied_s, lane.stage)
            lane.applied_s = None

    def _done(self, lane: Lane, key: FenceKey, moment: Moment) -> None:  # noqa: ARG002
        if lane.busy_since_s is not None:
            self._metrics.observe(m.STAGE_SECONDS, self._monotonic() - lane.busy_since_s, lane.stage)
        lane.position, lane.busy_since_s, lane.trouble = moment.offset, None, ""

    def _close(self, key: FenceKey) -> None:
        with self._noting:
            self._lanes.pop(key, None)
            for metric in (m.LANE_LAG, m.LANE_BUSY):
                self._metrics.forget(metric, key.topic, str(key.partition))

    # -- asked by who watches

    @property
    def places(self) -> list[tuple[str, int]]:
        """Topic and partition of each lane."""
        return [(key.topic, key.partition) for key in self._lanes]

    def note(self) -> None:
        """The lanes as they are now, as metrics; called by the thread that is asked for them."""
        with self._noting:
            lanes = list(self._lanes.items())
            for key, lane in lanes:
                self._metrics.set(m.LANE_LAG, self._lag(key, lane), key.topic, str(key.partition))
                self._metrics.set(m.LANE_BUSY, self._busy_s(lane), key.topic, str(key.partition))
            self._metrics.set(m.LANES, sum(lane.claimed for _, lane in lanes))

    def _lag(self, key: FenceKey, lane: Lane) -> int:
        """What was polled may be ahead of what the broker said last."""
        end = max(self.ends.get((key.topic, key.partition), 0), lane.seen)
        return max(0, end - lane.position) if lane.claimed else 0

    def why_unclaimed(self) -> str | None:
        """Why not every partition that is ours is claimed."""
        if not self.assigned():
            return "The broker has not assigned partitions yet."
        missing = [key for key, lane in list(self._lanes.items()) if not lane.claimed]
        return f"Not claimed yet: {_names(missing)}." if missing else None

    def why_stuck(self) -> str | None:
        """Which lanes have been at the same piece of work for too long."""
        stuck = {key: lane for key, lane in list(self._lanes.items()) if self._busy_s(lane) > self._stuck_s}
        if not stuck:
            return None
        longest_s = max(map(self._busy_s, stuck.values()))
        reason = next((lane.trouble for lane in stuck.values() if lane.trouble), "")
        return f"At the same work for {longest_s:.0f} s: {_names(stuck)}{f' ({reason})' if reason else ''}."

    def _busy_s(self, lane: Lane) -> float:
        since = lane.busy_since_s
        return 0.0 if since is None else self._monotonic() - since


def counting(make: Callable[[Any], S]) -> Callable[[Any], S]:
    """The store with the decisions that it keeps noted by rule; they count when the lane's transaction is committed."""

    def made(connection: Any) -> S:
        store = make(connection)
        record = store.record

        async def record_and_note(decisions: Sequence[DecisionRecord]) -> set[tuple[UUID, int]]:
            new = await record(decisions)
            _note(one for one in decisions if (one.subject, one.version) in new)
            return new

        keep = store.keep

        async def keep_and_note(decisions: Sequence[DecisionRecord]) -> None:
            await keep(decisions)
            _note(decisions)

        store.record = record_and_note  # type: ignore[method-assign]
        store.keep = keep_and_note  # type: ignore[method-assign]
        return store

    return made


def _note(decisions: Iterable[DecisionRecord]) -> None:
    noted = _decided.get()
    if noted is not None:
        noted.update((one.stage, one.rule) for one in decisions)


def _taken() -> Counter[tuple[str, str]]:
    noted = _decided.get()
    found = Counter(noted)
    if noted is not None:
        noted.clear()
    return found


def _names(keys: Iterable[FenceKey]) -> str:
    names = sorted(f"{key.topic}/{key.partition}" for key in keys)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
