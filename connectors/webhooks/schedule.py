"""What follows from an attempt: pure. Time and chance are arguments, and every step names its rule.

An endpoint gets one message at a time, so a failure delays the endpoint, not the message: first by exponential
backoff with full jitter; after some failures in a row the circuit is open, and one message per interval is a probe;
after days of failures the endpoint is disabled, and a person is told.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal, NamedTuple

Rule = Literal["delivered", "retry", "retry_after", "probe", "gone", "gave_up"]
Kind = Literal["answered", "unreachable", "timed_out", "refused_address", "bad_answer"]

GONE: Final = 410
THROTTLED: Final = (429, 503)


class Limits(NamedTuple):
    """The policy of retries; `infra/settings.py` has a sentence for each."""

    first_retry_s: float = 5.0
    longest_retry_s: float = 3600.0
    breaker_failures: int = 10
    probe_s: float = 1800.0
    retry_after_s: float = 86_400.0
    give_up_s: float = 5 * 86_400.0


class Answer(NamedTuple):
    """How an attempt ended. `sentence` says it to a person, and repeats nothing that the receiver sent."""

    kind: Kind
    status: int | None
    retry_after: str | None
    sentence: str
    duration_ms: int = 0


class Failing(NamedTuple):
    """How an endpoint fares: failures in a row, and seconds since the first of them."""

    failures: int = 0
    for_s: float = 0.0


class Step(NamedTuple):
    """What follows: after how many seconds to go on, or why never by itself (`disable`)."""

    rule: Rule
    wait_s: float
    disable: str | None = None


def is_delivered(answer: Answer) -> bool:
    """Only a 2xx is a delivery; a redirect is not followed, since nobody checked where it leads."""
    return answer.status is not None and 200 <= answer.status < 300


def step(answer: Answer, before: Failing, now: datetime, chance: float, limits: Limits) -> Step:
    """What follows from an answer. `chance` is in [0, 1); `before` does not count this attempt."""
    if is_delivered(answer):
        return Step("delivered", 0.0)
    if answer.status == GONE:
        return Step("gone", 0.0, "The receiver answered 410: it wants no more messages.")
    failures = before.failures + 1
    if failures >= limits.breaker_failures and before.for_s >= limits.give_up_s:
        return Step("gave_up", 0.0, _gave_up(answer, before.for_s, failures))
    asked_s = asked_wait_s(answer, now, limits)
    if failures >= limits.breaker_failures:
        return Step("probe", max(limits.probe_s * (1.0 + chance / 4), asked_s or 0.0))
    wait_s = backoff_s(failures, chance, limits.first_retry_s, limits.longest_retry_s)
    if asked_s is not None:
        return Step("retry_after", max(asked_s, wait_s))
    return Step("retry", wait_s)


def backoff_s(failures: int, chance: float, first_s: float, longest_s: float) -> float:
    """Exponential backoff with full jitter: seconds after so many failures in a row. `chance` is in [0, 1)."""
    return chance * min(longest_s, first_s * 2.0 ** min(failures - 1, 60))


def asked_wait_s(answer: Answer, now: datetime, limits: Limits) -> float | None:
    """The seconds that a 429 or 503 asks us to wait, at most `limits.retry_after_s`; None: it asks nothing we read."""
    if answer.status not in THROTTLED or answer.retry_after is None:
        return None
    text = answer.retry_after.strip()
    if text.isascii() and text.isdigit():
        return limits.retry_after_s if len(text) > 12 else min(float(text), limits.retry_after_s)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), limits.retry_after_s)


def is_open(failures: int, limits: Limits) -> bool:
    """Whether the circuit is open: only probes are sent."""
    return failures >= limits.breaker_failures


def _gave_up(answer: Answer, for_s: float, failures: int) -> str:
    return f"It failed {failures} times in a row, for {for_s / 86_400:.1f} days; the last time: {answer.sentence}"
