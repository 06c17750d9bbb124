"""`rapid bench sla`: both are asked the same, a difference has a rule, and what is missing is said."""

import json
import sys

import pytest
from typer.testing import CliRunner

from infra.bench.sla import RULE_1, UNEXPLAINED, Question, compare
from infra.cli.bench import app
from infra.cli.errors import ExitCode, Oops
from tests.unit.sla_samples import at


def test_offices_agree_also_at_the_edges_and_nights_differ_by_rule_1_alone() -> None:
    offices, nights = compare(
        [Question(at("2026-03-10 15:00"), at("2026-03-11 01:00") - at("2026-03-10 15:00"))]
    )
    assert offices.questions > 1_000
    assert (offices.differ, offices.rules) == (0, {})
    assert nights.differ > 0
    assert nights.rules == {RULE_1: nights.differ}
    assert UNEXPLAINED not in nights.rules


def test_the_figures_as_json() -> None:
    result = CliRunner().invoke(app, ["sla", "--questions", "100", "--timers", "0", "--json"])
    found = json.loads(result.stdout)
    assert found["asked"] == {"questions": 100, "timers": 0, "seed": 1}
    for name in ("ours_per_s", "businesstimedelta_per_s", "folds_per_s", "compile_ms"):
        assert found[name] > 0
    assert found["times_faster_a_year_away"] > 1
    assert "timers" not in found


def test_a_table_for_people() -> None:
    shown = (
        CliRunner().invoke(app, ["sla", "--questions", "100", "--timers", "0"], env={"COLUMNS": "200"}).stdout
    )
    assert "answers compared, 0 differ." in shown
    assert "by rule 1" in shown
    assert "clocks folded" in shown


def test_without_the_other_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "businesstimedelta", None)
    oops = CliRunner().invoke(app, ["sla", "--questions", "100", "--timers", "0"]).exception
    assert isinstance(oops, Oops)
    assert oops.exit_code == ExitCode.NOT_FOUND
    assert "pip install businesstimedelta" in str(oops)
