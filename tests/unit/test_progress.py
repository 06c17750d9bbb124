"""Which offset may be committed, and how much of a partition lies in our memory."""

from connectors.kafka.driver import Progress


def state(progress: Progress) -> tuple[int | None, int, int]:
    return progress.committable, progress.in_flight, progress.records


def test_only_the_end_of_the_completed_prefix_may_be_committed() -> None:
    progress = Progress(1, 10)
    for last in (12, 15, 16, 20):
        progress.delivered(last, 3)
    assert state(progress) == (10, 4, 12)
    progress.complete(15)
    progress.complete(16)
    assert state(progress) == (10, 2, 6)
    progress.complete(12)
    assert state(progress) == (17, 1, 3)
    progress.complete(20)
    assert state(progress) == (21, 0, 0)


def test_batch_that_is_done_twice_or_was_not_handed_out_changes_nothing() -> None:
    progress = Progress(1, 0)
    progress.delivered(4, 5)
    progress.delivered(9, 5)
    for last in (7, 9, 9):
        progress.complete(last)
    assert state(progress) == (None, 1, 5)
    for _ in range(2):
        progress.complete(4)
    assert state(progress) == (10, 0, 0)
