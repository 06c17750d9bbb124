"""What follows from an attempt: pure."""

import pytest

from connectors.notify.schedule import Answer, Ending, Limits, step

LIMITS = Limits(first_retry_s=5, longest_retry_s=900, give_up_s=6 * 3600, dead_failures=5)


def after(
    ending: Ending, failures: int = 0, age_s: float = 0, chance: float = 0.999999
) -> tuple[str, float, bool, bool]:
    """Rule, wait, whether the message is given up, whether the channel is dead."""
    found = step(Answer(ending, "It said so."), failures, age_s, chance, LIMITS)
    return found.rule, round(found.wait_s), found.undeliverable is not None, found.dead is not None


def test_what_is_delivered_is_done_whatever_failed_before() -> None:
    assert after("delivered", 99, 99 * 3600) == ("delivered", 0, False, False)


def test_failures_wait_twice_as_long_each_time_up_to_a_limit() -> None:
    waits = [after("failed", failures)[1] for failures in range(10)]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]
    assert after("failed", 3, chance=0.0)[1] == 0


@pytest.mark.parametrize("ending", ["failed", "unknown"])
def test_a_channel_is_dead_after_some_failures_in_a_row(ending: Ending) -> None:
    assert [after(ending, failures)[3] for failures in range(6)] == [False] * 4 + [True] * 2


def test_a_channel_that_is_not_set_up_is_dead_at_once_and_tried_on() -> None:
    assert after("misconfigured") == ("retry", 5, False, True)


def test_a_message_that_is_refused_for_good_is_given_up_at_once() -> None:
    assert after("refused") == ("refused", 5, True, False)


def test_a_message_that_is_too_old_is_given_up_and_the_next_tried_at_once() -> None:
    assert after("failed", 9, 6 * 3600 - 1)[2] is False
    assert after("failed", 9, 6 * 3600) == ("gave_up", 0, True, True)
    found = step(Answer("unknown", "There was no answer."), 0, 7 * 3600, 0.5, LIMITS)
    assert (
        found.undeliverable == "It could not be delivered for 7.0 hours; the last time: There was no answer."
    )
