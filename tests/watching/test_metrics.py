"""The catalogue of metrics: its names, its page, and what a scrape gives to real parsers."""

import re
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families

from infra.watching import metrics as m
from infra.watching.metrics import CATALOGUE, MOST_SERIES, OTHER, Metric, Metrics, table

PAGE = Path(__file__).parents[2] / "docs" / "watching.md"
UNITS = ("_seconds", "_records", "_rows", "_total", "_held", "_claimed", "_open", "_ready")
TELLING = {
    "incident",
    "case",
    "victim",
    "kind",
    "block",
    "address",
    "area",
    "order",
    "reference",
    "id",
    "key",
    "path",
}


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_each_has_a_name_by_the_conventions_a_sentence_and_labels_that_tell_of_nothing(
    metric: Metric,
) -> None:
    assert re.fullmatch(r"rapid(_[a-z0-9]+)+", metric.name)
    assert metric.name.endswith(UNITS), "the unit, or what is counted, stands last"
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.says.endswith((".", "0.", "says."))
    assert not TELLING & set(metric.labels)
    assert (metric.kind == "histogram") or not metric.buckets
    assert list(metric.buckets) == sorted(metric.buckets)


def test_no_two_have_one_name_and_each_constant_is_in_the_catalogue() -> None:
    names = [metric.name for metric in CATALOGUE]
    assert len(set(names)) == len(names) >= 30
    assert {one for one in vars(m).values() if isinstance(one, Metric)} == set(CATALOGUE)


def test_nobody_else_registers_a_metric() -> None:
    root = Path(__file__).parents[2]
    made = re.compile(r"\b(Counter|Gauge|Histogram|Summary)\(\s*\"rapid_")
    for folder in ("agents", "connectors", "infra", "schemas"):
        for file in (root / folder).rglob("*.py"):
            text = file.read_text()
            assert not made.search(text), file
            if "prometheus_client" in text:
                assert file.parent.name == "watching", f"{file} has metrics of its own"


def test_the_page_has_the_table_that_the_catalogue_gives() -> None:
    text = PAGE.read_text()
    shown = text.partition("<!-- metrics: python -m infra.watching.metrics -->\n")[2].partition(
        "<!-- /metrics -->"
    )[0]
    assert shown == table(), "write it anew: python -m infra.watching.metrics"


def touch(metrics: Metrics, metric: Metric, value: float = 1.0) -> None:
    labels = tuple(f"some {label}" for label in metric.labels)
    act = {"counter": metrics.add, "gauge": metrics.set, "histogram": metrics.observe}[metric.kind]
    act(metric, value, *labels)


def test_a_scrape_is_read_by_the_parsers_of_both_formats() -> None:
    metrics = Metrics()
    for metric in CATALOGUE:
        touch(metrics, metric)
    plain = {one.name: one for one in families(generate_latest(metrics.registry).decode())}
    text = openmetrics.generate_latest(metrics.registry).decode()  # type: ignore[no-untyped-call] # the library's
    opened = {one.name: one for one in open_families(text)}  # type: ignore[no-untyped-call] # the same
    for metric in CATALOGUE:
        name = metric.name.removesuffix("_total")
        for found in (plain[name], opened[name]):
            assert (found.type, found.documentation) == (metric.kind, metric.says)
            assert found.samples
            assert {*metric.labels} <= {label for sample in found.samples for label in sample.labels}


def test_the_series_of_a_metric_are_bounded_whatever_is_told() -> None:
    metrics = Metrics()
    for number in range(MOST_SERIES + 50):
        metrics.add(m.DEAD_LETTERS, 1, f"topic-{number}", "invalid")
    metrics.add(m.DEAD_LETTERS, 1, "topic-3", "invalid")
    [found] = [one for one in families(generate_latest(metrics.registry).decode()) if "dead_letters" in one.name
               and one.type == "counter"]  # fmt: skip
    samples = [one for one in found.samples if one.name.endswith("_total")]
    assert len(samples) == MOST_SERIES + 1
    by_topic = {one.labels["topic"]: one.value for one in samples}
    assert (by_topic[OTHER], by_topic["topic-3"]) == (50, 2)


def test_a_partition_that_is_another_workers_by_now_is_forgotten() -> None:
    metrics = Metrics()
    metrics.set(m.LANE_LAG, 7, "incidents", "0")
    metrics.set(m.LANE_LAG, 8, "incidents", "1")
    metrics.forget(m.LANE_LAG, "incidents", "0")
    metrics.forget(m.LANE_LAG, "incidents", "0")
    text = generate_latest(metrics.registry).decode()
    assert 'rapid_lane_lag_records{partition="1",topic="incidents"} 8.0' in text
    assert 'partition="0"' not in text
