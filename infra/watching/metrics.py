"""Every metric of the product, once: its name with its unit, its labels, a sentence. `python -m infra.watching.metrics`
prints the table that `docs/watching.md` holds.

Metrics go to whoever operates the system. Still none of them tells of an incident: labels are names out of the code,
the policy or the topology (stages, topics, rules, reasons), never ids, places, kinds or times of what happened.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

MOST_SERIES: Final = 1_000
"""Series of one metric in one process. What comes on top is counted under OTHER: a mistake costs no memory."""
OTHER: Final = "other"
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
LATENESS_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86_400)
RECORDS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500)

Kind = Literal["counter", "gauge", "histogram"]
Of = Literal["worker", "courier", "timers", "API", "sources", "all"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `of`: whose it is; `buckets`: of a histogram, in the unit of its name."""

    name: str
    kind: Kind
    of: Of
    says: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


STAGE_RECORDS: Final = Metric(
    "rapid_stage_records_total", "counter", "worker",
    "Records that a stage has applied, dead letters included; one that comes again after a takeover counts once.",
    ("stage", "topic"),
)  # fmt: skip
STAGE_ERRORS: Final = Metric(
    "rapid_stage_errors_total", "counter", "worker",
    "Attempts of a stage that failed, by what it was: away (database or broker), refused, fenced.",
    ("stage", "topic", "error"),
)  # fmt: skip
STAGE_SECONDS: Final = Metric(
    "rapid_stage_batch_seconds", "histogram", "worker",
    "From the beginning of a batch until everything that follows from it is published, waiting included.",
    ("stage",), SECONDS,
)  # fmt: skip
STAGE_EVENTS: Final = Metric(
    "rapid_stage_events_total", "counter", "worker",
    "Events that a stage has committed to the outbox.", ("stage",),
)  # fmt: skip
BATCH_RECORDS: Final = Metric(
    "rapid_transaction_records", "histogram", "worker",
    "Records that one transaction has applied: the size of a batch.", ("stage",), RECORDS,
)  # fmt: skip
TRANSACTION_SECONDS: Final = Metric(
    "rapid_transaction_seconds", "histogram", "worker",
    "From the beginning of a transaction of the loop until it is committed.", ("stage",), SECONDS,
)  # fmt: skip
PUBLISH_SECONDS: Final = Metric(
    "rapid_publish_seconds", "histogram", "worker",
    "From the commit of a batch until the broker has its events.", ("stage",), SECONDS,
)  # fmt: skip
LANE_LAG: Final = Metric(
    "rapid_lane_lag_records", "gauge", "worker",
    "Records of a partition of this worker that it has not handled.", ("topic", "partition"),
)  # fmt: skip
LANE_BUSY: Final = Metric(
    "rapid_lane_busy_seconds", "gauge", "worker",
    "For how long a partition has been at the same piece of work; 0 when it waits for records.",
    ("topic", "partition"),
)  # fmt: skip
LANES: Final = Metric(
    "rapid_lanes_claimed", "gauge", "worker", "Partitions that this worker has taken over and reads."
)
DECISIONS: Final = Metric(
    "rapid_decisions_total", "counter", "worker",
    "Decision records that were committed, by the rule that decided.", ("stage", "rule"),
)  # fmt: skip
DEAD_LETTERS: Final = Metric(
    "rapid_dead_letters_total", "counter", "worker",
    "Records that became dead letters, by topic and reason.", ("topic", "reason"),
)  # fmt: skip
OUTBOX_ROWS: Final = Metric(
    "rapid_outbox_rows", "gauge", "worker", "Events in the outbox, committed and not yet published."
)
OUTBOX_AGE: Final = Metric(
    "rapid_outbox_age_seconds", "gauge", "worker",
    "Age of the oldest event in the outbox that is not published; 0 when there is none.",
)  # fmt: skip
OPEN_LETTERS: Final = Metric(
    "rapid_dead_letters_open", "gauge", "worker", "Dead letters that nobody has dealt with."
)
TIMERS_LATE: Final = Metric(
    "rapid_timers_lateness_seconds", "histogram", "timers",
    "From the due time of a timer until the broker has its first nudge, by the database's clock.",
    buckets=LATENESS_SECONDS,
)  # fmt: skip
TIMERS_AGAIN: Final = Metric(
    "rapid_timers_nudges_again_total", "counter", "timers",
    "Nudges that were not the first for their due time: the workers do not keep up, or are away.",
)  # fmt: skip
TIMERS_HELD: Final = Metric(
    "rapid_timers_held", "gauge", "timers", "Timers in memory, leased until they are due."
)
WEBHOOK_SENDS: Final = Metric(
    "rapid_webhook_sends_total", "counter", "courier",
    "Attempts to send a webhook, by what follows: delivered, or why it goes again or is given up.", ("ending",),
)  # fmt: skip
WEBHOOK_SECONDS: Final = Metric(
    "rapid_webhook_send_seconds", "histogram", "courier", "How long an attempt to send a webhook took.",
    buckets=SECONDS,
)  # fmt: skip
NOTIFY_SENDS: Final = Metric(
    "rapid_notify_sends_total", "counter", "courier",
    "Attempts to tell a person of alerts, by how they ended.", ("ending",),
)  # fmt: skip
NOTIFY_SECONDS: Final = Metric(
    "rapid_notify_send_seconds", "histogram", "courier", "How long an attempt to tell a person took.",
    buckets=SECONDS,
)  # fmt: skip
SOURCE_PASSES: Final = Metric(
    "rapid_source_passes_total", "counter", "sources",
    "Passes over a source (a dataset of the city's portal), by how they ended: read, unchanged, failed.",
    ("source", "ending"),
)  # fmt: skip
SOURCE_ROWS: Final = Metric(
    "rapid_source_rows_total", "counter", "sources", "Rows that passes over a source have read.", ("source",)
)
SOURCE_REQUESTS: Final = Metric(
    "rapid_source_requests_total", "counter", "sources", "Requests that a source was asked.", ("source",)
)
SOURCE_LAST: Final = Metric(
    "rapid_source_last_success_timestamp_seconds", "gauge", "sources",
    "When a pass over a source last came to its end, in seconds since 1970.", ("source",),
)  # fmt: skip
HTTP_REQUESTS: Final = Metric(
    "rapid_http_requests_total", "counter", "API",
    "Requests that were answered, by the template of their route (never what stands in it) and status.",
    ("method", "route", "status"),
)  # fmt: skip
HTTP_SECONDS: Final = Metric(
    "rapid_http_request_seconds", "histogram", "API",
    "From a request until the head of its answer; a stream goes on after it.", ("route",), SECONDS,
)  # fmt: skip
LOOP_LATE: Final = Metric(
    "rapid_loop_late_seconds", "gauge", "all",
    "How late the process's loop was the last time it turned: more than a moment, and something holds it up.",
)  # fmt: skip
READY: Final = Metric(
    "rapid_part_ready", "gauge", "all", "1 when this part of the process is ready, else 0: as /readyz says.",
    ("part",),
)  # fmt: skip

CATALOGUE: Final = tuple(found for found in list(globals().values()) if isinstance(found, Metric))


class Metrics:
    """The metrics of one process. Nothing here raises for a value's sake, and nothing waits."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._made = {metric: _made(metric, self.registry) for metric in CATALOGUE}
        self._known: dict[Metric, set[tuple[str, ...]]] = {metric: set() for metric in CATALOGUE}

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """Count; 0 makes the series known."""
        self._series(metric, labels).inc(amount)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """One more value of a histogram."""
        self._series(metric, labels).observe(value)

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """A gauge's value by now."""
        self._series(metric, labels).set(value)

    def look_up(self, metric: Metric, value: Callable[[], float]) -> None:
        """A gauge without labels whose value is asked for when somebody looks."""
        self._series(metric, ()).set_function(value)

    def forget(self, metric: Metric, *labels: str) -> None:
        """No longer ours to tell: a partition that another worker has by now."""
        if labels in self._known[metric]:
            self._known[metric].discard(labels)
            self._made[metric].remove(*labels)

    def _series(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        if not metric.labels:
            return self._made[metric]
        known = self._known[metric]
        if labels not in known:
            if len(known) >= MOST_SERIES:
                labels = (OTHER,) * len(labels)
            known.add(labels)
        return self._made[metric].labels(*labels)


def _made(metric: Metric, registry: CollectorRegistry) -> Any:
    if metric.kind == "histogram":
        return Histogram(
            metric.name, metric.says, metric.labels, buckets=metric.buckets or SECONDS, registry=registry
        )
    made = Counter if metric.kind == "counter" else Gauge
    return made(metric.name, metric.says, metric.labels, registry=registry)


def table(metrics: Iterable[Metric] = CATALOGUE) -> str:
    """The metrics as a table of Markdown."""
    head = ["| metric | labels | kind, process | what it says |", "|---|---|---|---|"]
    return "\n".join([*head, *map(_row, metrics)]) + "\n"


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {labels} | {metric.kind}, {metric.of} | {metric.says} |"


if __name__ == "__main__":
    print(table(), end="")
