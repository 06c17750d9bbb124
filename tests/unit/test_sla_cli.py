"""`rapid sla`, as people type it. The figures are those of the rules; here it is about the command."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from infra.cli.doctor import doctor
from infra.cli.errors import ExitCode, Oops
from infra.cli.sla import app
from infra.policy.load import SHIPPED, load_policy
from infra.watching.examine import calendars as look
from infra.watching.examine import channels

THIS_YEAR = datetime.now(UTC).year


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


def due(
    *arguments: str, calendar: str = "offices", since: str = "2026-07-01T15:00", budget: str = "4h"
) -> Result:
    return run("due", "--calendar", calendar, "--from", since, "--budget", budget, *arguments)


def answer(*arguments: str, **options: str) -> Any:
    result = due(*arguments, "--json", **options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("since", "budget", "expected"),
    [
        ("2026-07-01T15:00", "4h", "2026-07-02T11:00:00-05:00"),
        ("2026-07-01T20:00Z", "4h", "2026-07-02T11:00:00-05:00"),
        ("2026-07-01T22:00+02:00", "240m", "2026-07-02T11:00:00-05:00"),
        ("2026-07-01T15:00", "2wd", "2026-07-06T15:00:00-05:00"),
        ("2026-07-01T15:00", "5d", "2026-07-09T15:00:00-05:00"),
        ("2026-07-01", "1d", "2026-07-02T16:30:00-05:00"),
    ],
)
def test_a_due_time_in_the_zone_of_the_calendar(since: str, budget: str, expected: str) -> None:
    assert answer(since=since, budget=budget)["due_local"] == expected


def test_without_a_beginning_it_is_now() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    result = run("due", "--calendar", "24x7", "--budget", "4h", "--json")
    assert result.exit_code == 0, result.output
    due_at = datetime.fromisoformat(json.loads(result.stdout)["due_at"])
    assert before + timedelta(hours=4) <= due_at <= datetime.now(UTC) + timedelta(hours=4)


def test_what_was_counted_adds_up_to_the_budget() -> None:
    found = answer("--hold", "2026-07-02T09:00/2026-07-02T10:00", budget="2wd")
    assert sum(one["seconds"] for one in found["counted"]) == found["budget_s"] == 16 * 3600
    assert found["holds"] == [{"since": "2026-07-02T14:00:00+00:00", "until": "2026-07-02T15:00:00+00:00"}]
    assert [day["name"] for day in found["holidays"]] == ["Independence Day (observed)", "Independence Day"]


def test_on_hold_there_is_no_due_time_but_what_is_left() -> None:
    found = answer("--hold", "2026-07-02T09:00/")
    assert (found["due_at"], found["left_s"]) == (None, 2 * 3600)
    assert (
        "On hold, with 2:00:00 of working time left: no due time."
        in due("--hold", "2026-07-02T09:00/").output
    )


def test_a_deadline_on_closing_time_as_asked() -> None:
    closing = {"since": "2026-07-01T08:30", "budget": "8h"}
    assert answer(**closing)["due_local"] == "2026-07-01T16:30:00-05:00"
    assert answer("--boundary", "roll", **closing)["due_local"] == "2026-07-02T08:30:00-05:00"


def test_a_long_table_is_cut_in_the_middle() -> None:
    shown = due(budget="800h").output
    assert "61 more" in shown
    assert len(shown.splitlines()) < 70
    assert len(answer(budget="800h")["counted"]) == 101


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((), {"since": "tomorrow"}, "expected a time such as"),
        ((), {"since": "0001-01-01T00:00+14:00"}, "expected a time such as"),
        ((), {"budget": "soon"}, "expected a number and a unit"),
        ((), {"budget": "0h"}, "expected a number and a unit"),
        ((), {"budget": "-4h"}, "expected a number and a unit"),
        (("--hold", "2026-07-02"), {}, "expected FROM/UNTIL"),
        (("--hold", "2026-07-02/2026-07-01"), {}, "expected FROM/UNTIL with UNTIL after FROM"),
        (("--hold", "2026-07-02/2026-07-05", "--hold", "2026-07-03/2026-07-04"), {}, "begins within another"),
        (("--hold", "2026-07-02/", "--hold", "2026-07-03/2026-07-04"), {}, "begins within another"),
        (("--boundary", "bounce"), {}, "bounce"),
    ],
)
def test_a_wrong_option_is_told(arguments: tuple[str, ...], options: dict[str, str], says: str) -> None:
    result = due(*arguments, **options)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.replace("│", "").split())


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ({"calendar": "nope"}, ExitCode.NOT_FOUND, "There is no calendar nope in the policy"),
        (
            {"since": "2036-12-30T12:00", "budget": "5d"},
            ExitCode.INVALID,
            "end on 2036-12-31, before the due date",
        ),
        ({"since": "1999-12-30"}, ExitCode.INVALID, "begin on 2001-01-01"),
        ({"calendar": "24x7", "since": "0001-06-01"}, ExitCode.INVALID, "counts from 1901 to 2199"),
    ],
)
def test_a_calendar_that_cannot_say_is_one_sentence(
    options: dict[str, str], code: ExitCode, says: str
) -> None:
    oops = due(**options).exception
    assert isinstance(oops, Oops)
    assert (oops.exit_code, says in str(oops)) == (code, True)


def test_a_wrong_policy_is_one_sentence(tmp_path: Path) -> None:
    oops = run("calendars", "--policy", str(tmp_path / "nowhere")).exception
    assert isinstance(oops, Oops)
    assert oops.exit_code == ExitCode.INVALID


def test_calendars_with_their_hours_and_ends() -> None:
    offices, around = json.loads(run("calendars", "--json").stdout)
    assert offices["hours"]["mon"] == ["08:30-16:30"]
    assert "sat" not in offices["hours"]
    assert (offices["expires_on"], around["expires_on"]) == ("2036-12-31", None)
    shown = run("calendars").output
    assert "mon-fri 08:30-16:30" in shown
    assert "mon-sun 00:00-24:00" in shown


def test_holidays_that_have_ended_are_a_warning(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "policy"))
    file = folder / "calendars.yaml"
    file.write_text(file.read_text().replace("last: 2036", "last: 2025"))
    shown = run("calendars", "--policy", str(folder))
    assert "Warning: The holidays of the calendar offices end on 2025-12-31" in shown.output
    offices, _ = json.loads(run("calendars", "--policy", str(folder), "--json").stdout)
    assert offices["days_left"] < 0


@pytest.mark.parametrize(
    ("last", "passed", "says"),
    [
        (2036, True, "holidays are known until 2036-12-31"),
        (THIS_YEAR - 1, False, f"The holidays of the calendar offices end on {THIS_YEAR - 1}-12-31"),
    ],
)
def test_the_doctor_looks_at_the_holidays(tmp_path: Path, last: int, passed: bool, says: str) -> None:
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "policy"))
    file = folder / "calendars.yaml"
    file.write_text(file.read_text().replace("last: 2036", f"last: {last}"))
    environment = {"RAPID_POLICY": str(folder), "RAPID_HOME": str(tmp_path / "home")}
    result = CliRunner().invoke(typer_app_of(doctor), ["--json"], env=environment)
    [found] = [one for one in json.loads(result.stdout) if one["check"] == "calendars"]
    assert (found["level"] != "fail", says in found["said"]) == (passed, True)
    assert isinstance(result.exception, Oops) is not passed


def test_holidays_that_end_within_60_days_are_not_wrong_yet(tmp_path: Path) -> None:
    """Asked on a date of the test's own."""
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "policy"))
    file = folder / "calendars.yaml"
    file.write_text(file.read_text().replace("last: 2036", "last: 2026"))
    policy = load_policy(folder)
    before, soon, after = (
        look(folder, policy, date(2026, 12, 31) + timedelta(days=days)) for days in (-61, -60, 1)
    )
    assert [finding.level for finding in (before, soon, after)] == ["ok", "warn", "fail"]
    assert "no clock that is due later can start" in soon.said


def typer_app_of(command: Callable[..., None]) -> typer.Typer:
    app = typer.Typer()
    app.command()(command)
    return app


def test_the_doctor_says_that_nobody_is_told_over_channels_without_an_address() -> None:
    policy = load_policy(SHIPPED)
    found = channels(policy, {})
    assert found.level == "warn"
    assert "15 of 15 have no address here, RAPID_CHANNEL_CDOT_DISPATCH for one" in found.said
    everywhere = {
        channel.url_env: "json://127.0.0.1" for channel in policy.oncall.channels if channel.url_env
    }
    assert channels(policy, everywhere).level == "ok"
