"""What follows from an attempt, as values."""

from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.webhooks.schedule import Answer, Failing, Limits, Step, asked_wait_s, step

NOW = datetime(2026, 7, 4, 12, 0, tzinfo=UTC)
LIMITS = Limits(
    first_retry_s=5,
    longest_retry_s=100,
    breaker_failures=8,
    probe_s=1000,
    retry_after_s=3600,
    give_up_s=86_400,
)
NEVER_TRIED = Failing()


def answered(status: int | None, retry_after: str | None = None) -> Answer:
    return Answer("answered" if status else "unreachable", status, retry_after, "So it went.")


def follows(answer: Answer, before: Failing = NEVER_TRIED, chance: float = 0.5) -> Step:
    return step(answer, before, NOW, chance, LIMITS)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_is_a_delivery(status: int) -> None:
    assert follows(answered(status)) == Step("delivered", 0.0)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 413, 422, 500, 502, None])
def test_anything_else_is_tried_again(status: int | None) -> None:
    assert follows(answered(status)) == Step("retry", 2.5)


@pytest.mark.parametrize(
    ("failures", "wait_s"), [(0, 5.0), (1, 10.0), (2, 20.0), (4, 80.0), (5, 100.0), (6, 100.0)]
)
def test_the_longest_wait_doubles_up_to_a_limit(failures: int, wait_s: float) -> None:
    assert follows(answered(500), Failing(failures, 60.0), chance=1.0) == Step("retry", wait_s)


def test_jitter_is_full() -> None:
    waits = [follows(answered(500), Failing(3, 60.0), chance).wait_s for chance in (0.0, 0.25, 1.0)]
    assert waits == [0.0, 10.0, 40.0]


def test_the_circuit_opens_after_failures_in_a_row_and_then_one_probe_is_sent_per_interval() -> None:
    assert follows(answered(500), Failing(6, 60.0)).rule == "retry"
    assert follows(answered(500), Failing(7, 60.0), chance=0.0) == Step("probe", 1000.0)
    assert follows(answered(500), Failing(70, 60.0), chance=1.0) == Step("probe", 1250.0)
    assert follows(answered(200), Failing(70, 60.0)) == Step("delivered", 0.0)


def test_410_disables_at_once() -> None:
    assert follows(answered(410)) == Step(
        "gone", 0.0, "The receiver answered 410: it wants no more messages."
    )


def test_days_of_failures_disable_and_say_the_last_reason() -> None:
    given_up = follows(answered(500), Failing(20, 86_400.0))
    assert given_up == Step(
        "gave_up", 0.0, "It failed 21 times in a row, for 1.0 days; the last time: So it went."
    )


def test_a_courier_that_was_away_for_days_does_not_give_up_on_the_second_failure() -> None:
    assert follows(answered(500), Failing(1, 10 * 86_400.0)).disable is None


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("999999", 3600.0),
        ("9" * 400, 3600.0),
        ("Sat, 04 Jul 2026 12:01:30 GMT", 90.0),
        ("Sat, 04 Jul 2026 11:00:00 GMT", 0.0),
        ("Sat, 04 Jul 2099 12:00:00 GMT", 3600.0),
        ("Sat, 04 Jul 2026 12:01:30", 90.0),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("", None),
        ("Sat, 99 Jul 2026 12:01:30 GMT", None),
    ],
)
def test_retry_after_in_seconds_and_as_a_date_within_bounds(text: str, wait_s: float | None) -> None:
    assert asked_wait_s(answered(429, text), NOW, LIMITS) == wait_s


@pytest.mark.parametrize(
    ("status", "before", "expected"),
    [
        (429, NEVER_TRIED, Step("retry_after", 120.0)),
        (503, NEVER_TRIED, Step("retry_after", 120.0)),
        (500, NEVER_TRIED, Step("retry", 2.5)),
        (503, Failing(9, 60.0), Step("probe", 1125.0)),
    ],
)
def test_retry_after_is_heard_of_429_and_503(status: int, before: Any, expected: Step) -> None:
    assert follows(answered(status, "120"), before) == expected


def test_retry_after_lengthens_the_wait_of_an_open_circuit() -> None:
    assert follows(answered(503, "3000"), Failing(9, 60.0)) == Step("probe", 3000.0)
