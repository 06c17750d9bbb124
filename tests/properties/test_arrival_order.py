"""Arrival order does not show: any permutation, chunking, batch size, repetition, number of workers."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.final_tables import differences
from tests.properties.bench import Bench, Way
from tests.properties.worlds import Report, events_retold, worlds

on_the_database = settings(
    max_examples=25,  # 500 of each were run by hand
    deadline=None,  # the machine is shared
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
seeds = st.integers(0, 2**16)


def assert_same(bench: Bench, world: list[Report], one: Way, other: Way) -> None:
    difference = differences(bench.run(world, one), bench.run(world, other))
    assert not difference, difference


@given(world=worlds, seed=seeds)
@on_the_database
def test_the_order_of_arrival_does_not_show(bench: Bench, world: list[Report], seed: int) -> None:
    assert_same(bench, world, Way(seed), Way(seed + 1, chunks=len(world)))


@given(world=worlds, seed=seeds, batch=st.sampled_from((1, 7, 500)), chunks=st.integers(1, 5))
@on_the_database
def test_batches_chunks_and_repeated_deliveries_do_not_show(
    bench: Bench, world: list[Report], seed: int, batch: int, chunks: int
) -> None:
    assert_same(bench, world, Way(seed), Way(seed + 1, batch, chunks, repeats=5))


@given(world=events_retold, seed=seeds, batch=st.sampled_from((1, 3, 500)))
@on_the_database
def test_who_tells_of_an_event_first_does_not_show(
    bench: Bench, world: list[Report], seed: int, batch: int
) -> None:
    assert_same(bench, world, Way(seed), Way(seed + 1, batch, chunks=len(world), repeats=3))


@given(world=worlds | events_retold, seed=seeds, batch=st.sampled_from((1, 3)))
@on_the_database
def test_workers_at_the_same_time_do_not_show(
    bench: Bench, world: list[Report], seed: int, batch: int
) -> None:
    assert_same(bench, world, Way(seed), Way(seed + 1, batch, repeats=3, workers=3))
