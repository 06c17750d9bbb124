"""The database's clock as it is known here: never ahead, however the looks go."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from connectors.timers.clock import KEPT_S, DatabaseClock

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)

# Looks: (seconds since the last, seconds that the answer was under way).
LOOKS = st.lists(st.tuples(st.floats(0, 30), st.floats(0, 5)), min_size=1, max_size=30)


def at(seconds: float) -> datetime:
    """What the database's clock says at this monotonic time."""
    return NOON + timedelta(seconds=seconds)


def test_before_it_was_heard_nobody_knows() -> None:
    assert DatabaseClock().now(5.0) is None


@given(LOOKS, st.floats(0, 100))
def test_it_is_never_ahead_and_behind_by_the_quickest_answer_of_the_last_seconds(
    looks: list[tuple[float, float]], later_s: float
) -> None:
    clock, now_s, quickest = DatabaseClock(), 0.0, list[tuple[float, float]]()
    for since_s, underway_s in looks:
        said = at(now_s + since_s)
        now_s += since_s + underway_s
        clock.hear(said, now_s)
        quickest = [one for one in [*quickest, (now_s, underway_s)] if now_s - one[0] <= KEPT_S]
    found = clock.now(now_s + later_s)
    assert found is not None
    behind_s = (at(now_s + later_s) - found).total_seconds()
    assert abs(behind_s - min(one for _, one in quickest)) < 1e-3
    assert behind_s > -1e-3


def test_a_clock_that_was_set_back_is_followed_when_what_it_said_before_is_old() -> None:
    clock = DatabaseClock()
    clock.hear(at(3600.0), 0.0)
    clock.hear(at(1.0), 1.0)
    assert clock.now(1.0) == at(3601.0)
    clock.hear(at(KEPT_S + 0.5), KEPT_S + 0.5)
    assert clock.now(KEPT_S + 0.5) == at(KEPT_S + 0.5)
