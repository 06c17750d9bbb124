"""What compose provisions: files that are sound, queries of metrics that exist, targets that are there."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from infra.settings import PREFIX, Settings
from infra.watching.metrics import CATALOGUE

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "infra" / "compose"
OTHERS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
WORDS = {
    "sum", "max", "min", "count", "by", "rate", "increase", "deriv", "histogram_quantile", "absent", "time", "vector",
    "or", "and", "le", "on", "job", "service", "instance", "part", "topic", "partition", "stage", "error", "rule",
    "reason", "ending", "source", "route", "status", "method", "rapid", "delivered",
}  # fmt: skip


def yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((COMPOSE / "grafana" / "dashboards" / "rapid.json").read_text())
    return found


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in dashboard()["panels"] if panel["type"] != "row")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml(COMPOSE / "alerts.yml")["groups"] for rule in group["rules"]]


def queries() -> list[str]:
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [*shown, *(rule["expr"] for rule in rules())]


def metrics_in(query: str) -> set[str]:
    """The names in it that are no function, label or value."""
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]', "", query)
    return {name for name in re.findall(r"[a-zA-Z_][a-zA-Z0-9_:]*", bare) if name not in WORDS}


def known() -> dict[str, set[str]]:
    """Every series that our metrics have, with its labels."""
    found: dict[str, set[str]] = {}
    for metric in CATALOGUE:
        labels = set(metric.labels)
        found[metric.name] = labels
        if metric.kind == "histogram":
            found |= {f"{metric.name}_{end}": labels for end in ("sum", "count")}
            found[f"{metric.name}_bucket"] = labels | {"le"}
    return found


@pytest.mark.parametrize("query", queries())
def test_each_query_names_only_metrics_and_labels_that_there_are(query: str) -> None:
    assert query.count("(") == query.count(")")
    series = known()
    names = metrics_in(query)
    assert names
    assert names <= series.keys() | OTHERS
    told = {"job", "service", "instance"}.union(*(series.get(name, set()) for name in names))
    grouped = re.findall(r"by \(([^)]*)\)", query)
    matched = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!=|=)", query)
    used = {label.strip() for group in grouped for label in group.split(",")} | set(matched)
    assert used <= told, f"labels that it has not: {used - told}"


def test_every_metric_of_ours_is_on_the_dashboard_or_wakes_somebody() -> None:
    asked = {name for query in queries() for name in metrics_in(query)}
    unseen = [
        metric.name
        for metric in CATALOGUE
        if not {metric.name, f"{metric.name}_bucket", f"{metric.name}_count"} & asked
    ]
    assert unseen == []


def test_each_rule_says_what_is_wrong_and_what_to_do() -> None:
    assert {rule["alert"] for rule in rules()} >= {
        "RapidProcessDown", "RapidLagGrows", "RapidOutboxOld", "RapidDeadLettersBurst", "RapidTimersLate",
    }  # fmt: skip
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["action"].endswith(".")


def test_panels_lie_beside_each_other_and_each_has_a_title_and_our_datasource() -> None:
    places = set()
    for panel in panels():
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in places, panel["title"]
                places.add((x, y))
        assert panel["title"]
        [datasource] = yaml(COMPOSE / "grafana/provisioning/datasources/prometheus.yml")["datasources"]
        assert panel["datasource"] == {"type": datasource["type"], "uid": datasource["uid"]}
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))


def test_prometheus_asks_the_services_of_compose_at_the_port_that_they_are_given() -> None:
    services = yaml(ROOT / "docker-compose.yml")["services"]
    [job] = [one for one in yaml(COMPOSE / "prometheus.yml")["scrape_configs"] if one["job_name"] == "rapid"]
    asked = {name: look["port"] for look in job["dns_sd_configs"] for name in look["names"]}
    running = {
        name for name, one in services.items() if one.get("image") == "rapid-response" and "restart" in one
    }
    assert set(asked) == running
    for name, port in asked.items():
        assert services[name]["environment"]["RAPID_WATCH_PORT"] == str(port)
        assert services[name]["environment"]["RAPID_WATCH_HOST"] == "0.0.0.0"


def test_compose_pins_images_mounts_what_is_there_and_sets_what_we_read() -> None:
    services = yaml(ROOT / "docker-compose.yml")["services"]
    for name in ("prometheus", "grafana"):
        assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", services[name]["image"])
        mounted = [one.split(":")[0] for one in services[name]["volumes"] if one.startswith("./")]
        assert mounted
        assert all((ROOT / path).exists() for path in mounted)
    known_settings = {PREFIX + name.upper() for name in Settings.model_fields}
    for name, service in services.items():
        ours = {key for key in service.get("environment", {}) if key.startswith(PREFIX)}
        assert ours <= known_settings, name


def test_prometheus_own_tool_takes_the_configuration_and_the_rules(tmp_path: Path) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip(
            "NOT CHECKED BY PROMETHEUS ITSELF: no promtool on PATH (Debian's package prometheus has it)"
        )
    written = tmp_path / "queries.yml"
    quoted = [{"record": f"q{number}", "expr": query} for number, query in enumerate(queries())]
    written.write_text(json.dumps({"groups": [{"name": "queries", "rules": quoted}]}))
    for command in (
        ("config", COMPOSE / "prometheus.yml"),
        ("rules", COMPOSE / "alerts.yml"),
        ("rules", written),
    ):
        done = subprocess.run(
            [tool, "check", command[0], str(command[1])],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
