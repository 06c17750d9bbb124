"""Loading a policy: the shipped one is right, and whatever is wrong is told at once, where it stands."""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from infra.cli.policy import app
from infra.policy.files import FILES
from infra.policy.load import SHIPPED, PolicyError, PolicyErrors, load_policy
from schemas.policy import Policy

CITY, AREAS, DEPARTMENTS, CATEGORIES = "city.yaml", "areas.yaml", "departments.yaml", "categories.yaml"
SEVERITY, PLANS, ROUTING, POLICY = "severity.yaml", "plans.yaml", "routing.yaml", "policy.yaml"
KINDS = "incident_kinds.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped policy, to be spoiled."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "policy"))


def plant(folder: Path, file: str, old: str, new: str) -> int:
    """Replaces the one place where a text stands in a file; the line of that place."""
    text = (folder / file).read_text()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
    (folder / file).write_text(text.replace(old, new))
    return text[: text.index(old)].count("\n") + 1


def line_of(folder: Path, file: str, text: str) -> int:
    before, found, _ = (folder / file).read_text().partition(text)
    assert found
    return before.count("\n") + 1


def errors_of(folder: Path) -> list[PolicyError]:
    with pytest.raises(PolicyErrors) as caught:
        load_policy(folder)
    return caught.value.errors


def test_the_shipped_policy_is_right() -> None:
    assert load_policy().city.name == "Chicago"


# file, what stands there, what is planted instead, how the error goes on after the line
AT_ITS_PLACE: list[tuple[str, str, str, str]] = [
    # shape
    (
        CITY,
        "name: Chicago",
        "name: Chicago\nnam: x",
        "nam: is unknown; expected one of name, time_zone, extent",
    ),
    (CITY, "300", "soon", "future_skew_s: expected a whole number, found 'soon'"),
    (CITY, "300", "-1", "future_skew_s: expected at least 0, found -1"),
    (CITY, "2001-01-01", "2001-02-30", "earliest: expected a possible date, found '2001-02-30'"),
    (CITY, "2001-01-01", "early", "earliest: expected a date such as 2024-01-31, found 'early'"),
    (CITY, "42.04", ".nan", "extent.max_lat: expected a number, found nan"),
    (ROUTING, "routes: []", "routes: {a: 1}", "routes: expected a list, found a mapping"),
    (ROUTING, "routes: []", "routes: [x]", "routes[0]: expected keys with values, found 'x'"),
    (ROUTING, "routes: []", "- a", "expected keys with values, found a list"),
    (AREAS, "{number: 3,", "{", "areas[2].number: is missing"),
    (AREAS, "{number: 3,", "{number: '3',", "areas[2].number: expected a whole number, found '3'"),
    (
        CATEGORIES,
        "code: graffiti",
        "code: Graffiti!",
        "categories[3].code: expected small letters, digits, - and _",
    ),
    (SEVERITY, "    gunfire: 10", "    gunfire: 10\n    x: 1", "weights.kind.x: expected 'fatal_shooting'"),
    (PLANS, "name: gunfire_priority", "name: 7", "plans[3].name: expected text, found 7"),
    (KINDS, '"031A"', '"31A"', "event_kinds[6].iucr: expected text that matches ^[0-9A-Z]{4}$"),
    (KINDS, '"0130"', "0130", "event_kinds[1].iucr: expected text, found 130"),
    (POLICY, "_resolution: 13", "_resolution: 99", "site_cell_resolution: expected at most 15"),
    (POLICY, "minutes: 15", "minutes: 0", "linking.minutes: expected at least 1, found 0"),
    (
        POLICY,
        "minutes: 15",
        "minutes: 15\n  metres: 9",
        "linking.metres: is unknown; expected one of radius_m",
    ),
    (POLICY, "enabled: true", "enabled: yes please", "extension.enabled: expected "),
    # YAML itself
    (CITY, "  min_lat", "\tmin_lat", "is not YAML: a tab; expected spaces for indentation"),
    (CITY, "name: Chicago", "name: a\nname: b", "name: is given twice, first in line 3"),
    (CITY, "name: Chicago", "name: !!binary aGk=", "name: expected a plain value, found one with the tag"),
    (CITY, "name: Chicago", "name: *x", "is not YAML: found undefined alias"),
    (CITY, "name: Chicago", "name: &x [*x]", "name[0]: expected a plain value, found an alias"),
    (CITY, "name: Chicago", "name: C\n1: x", "expected text as a key, found '1': quote it"),
    # within a file and between files
    (CITY, "America/Chicago ", "Chikago ", "time_zone: expected an IANA time zone such as America/Chicago"),
    (CITY, "41.63", "43.0", "extent.min_lat: expected less than max_lat (42.04), found 43.0"),
    (CITY, "-87.96", "-87.5", "extent.min_lon: expected less than max_lon (-87.51), found -87.5"),
    (AREAS, "{number: 3,", "{number: 2,", "areas[2].number: 2 is given twice, first in line"),
    (AREAS, "name: O'Hare", "name: The LOOP", "areas[75].name: 'The LOOP' is given twice"),
    (AREAS, "- 25  # Austin", "- 71", "tiers[0].areas[1]: 71 is given twice"),
    (AREAS, "- 25  # Austin", "- 99", "tiers[0].areas[1]: expected the number of an area, found 99"),
    (DEPARTMENTS, "code: dob", "code: dss", "departments[2].code: 'dss' is given twice, first in line"),
    (DEPARTMENTS, "queue: cscc", "queue: desk", "triage_queue: expected a department (cdot, cscc, dob, dss)"),
    (CATEGORIES, "code: graffiti", "code: alley_light", "categories[3].code: 'alley_light' is given twice"),
    (CATEGORIES, "[GRAF]", "[sfd]", "categories[3].sr_codes[0]: 'sfd' is given twice"),
    (CATEGORIES, "department: dob", "department: x", "categories[5].department: expected a department"),
    (
        CATEGORIES,
        "Remove graffiti",
        "Gun graffiti",
        "categories[3].fix_title: expected words that tell of no",
    ),
    (SEVERITY, "    priority: 25", "    priority: 25\n    x: 1", "weights.tier.x: expected a tier"),
    (SEVERITY, "ity: 40", "ity: 0", "priorities[1].from_severity: expected more than 0, found 0"),
    (SEVERITY, "ity: 0", "ity: 5", "priorities[0].from_severity: expected 0, so that every severity has one"),
    (
        PLANS,
        "_unknown]\n    tiers: [priority]",
        "_unknown]\n    tiers: [x]",
        "plans[2].tiers[0]: expected a tier",
    ),
    (PLANS, "[street_light]", "[lamp]", "plans[4].inspections[0]: expected a category (abandoned_building"),
    (PLANS, "[nonfatal_shooting]", "[not_gun_violence]", "plans[1].kinds[0]: expected a kind with a plan"),
    (
        PLANS,
        "name: gunfire_priority",
        "name: fatal_priority",
        "plans[3].name: 'fatal_priority' is given twice",
    ),
    (ROUTING, "[]", "[{name: a, department: x}]", "routes[0].department: expected a department"),
    (ROUTING, "[]", "[{name: nobody_owns_it, department: dss}]", "routes[0].name: expected another name"),
    (ROUTING, "[]", "[{name: a, department: dss, areas: [99]}]", "routes[0].areas[0]: expected the number"),
    (
        ROUTING,
        "[]",
        "[{name: a, department: dss, categories: [x]}]",
        "routes[0].categories[0]: expected a cat",
    ),
    (POLICY, "- [shotspotter]", "- [CPD!]", "linking.ranks[2][0]: expected small letters, digits, - and _"),
    (POLICY, "- [shotspotter]", "- [cad]", "linking.ranks[2][0]: 'cad' is given twice, first in line"),
    (
        POLICY,
        "cause_unknown, gunfire]",
        "cause_unknown, not_gun_violence]",
        "linking.kinds[0][3]: expected a kind",
    ),
    (POLICY, "most_days: 90", "most_days: 30", "extension.most_days: expected at least the longest window"),
    (KINDS, '"0130"', '"0110"', "event_kinds[1].iucr: '0110' is given twice, first in line"),
]

# file, what stands there, what is planted, the text in whose line the error is told, how the error goes on
ELSEWHERE: list[tuple[str, str, str, str, str]] = [
    (CITY, "name: Chicago", "", "time_zone", "name: is missing"),
    (CITY, "name: Chicago", "name: [x", "time_zone", "is not YAML: expected ',' or ']'"),
    (AREAS, "code: priority", "code: prio", "tiers:", "tiers: expected a tier with the code priority"),
    (
        CATEGORIES,
        "    department: dob",
        "",
        "- code: aband",
        "categories[5].department: is missing: nobody owns",
    ),
    (POLICY, "  minutes: 15", "", "linking:", "linking.minutes: is missing"),
    (SEVERITY, "    standard: 0", "", "tier:", "weights.tier: gives the tier standard no weight"),
    (SEVERITY, "    gunfire: 10", "", "kind:", "weights.kind: gives gunfire no weight"),
    (SEVERITY, "priority: high,", "priority: urgent,", "priorities:", "priorities: has no step for high"),
    (
        PLANS,
        "kinds: [nonfatal_shooting]",
        "kinds: [gunfire]",
        "- name: gunfire_priority",
        "plans[3]: gunfire_priority overlaps nonfatal_priority for gunfire in tier priority",
    ),
]


def test_a_policy_of_before_there_was_linking_goes_on_as_it_was(folder: Path) -> None:
    text = (folder / POLICY).read_text()
    before, after = text.index("linking:"), text.index("# H3 resolutions")
    (folder / POLICY).write_text(text[:before] + text[after:])
    policy = load_policy(folder)
    assert (policy.linking, policy.extension) == (None, None)


@pytest.mark.parametrize(("file", "old", "new", "says"), AT_ITS_PLACE)
def test_an_error_is_told_where_it_was_planted(
    folder: Path, file: str, old: str, new: str, says: str
) -> None:
    line = plant(folder, file, old, new) + new.count("\n")
    assert any(str(error).startswith(f"{file}:{line}: {says}") for error in errors_of(folder)), errors_of(
        folder
    )


@pytest.mark.parametrize("planted", ELSEWHERE)
def test_what_is_missing_is_told_where_it_belongs(
    folder: Path, planted: tuple[str, str, str, str, str]
) -> None:
    file, old, new, at, says = planted
    plant(folder, file, old, new)
    start = f"{file}:{line_of(folder, file, at)}: {says}"
    assert any(str(error).startswith(start) for error in errors_of(folder)), errors_of(folder)


def test_the_cell_of_a_site_is_smaller_than_the_cell_of_what_is_near(folder: Path) -> None:
    plant(folder, POLICY, "\ncell_resolution: 9", "\ncell_resolution: 11")
    line = plant(folder, POLICY, "site_cell_resolution: 13", "site_cell_resolution: 10")
    message = "expected more than cell_resolution (11), found 10"
    assert errors_of(folder) == [PolicyError(POLICY, line, "site_cell_resolution", message)]


def test_one_mistake_is_told_once(folder: Path) -> None:
    line = plant(folder, CITY, "2001-01-01", "2001-02-30")
    message = "expected a possible date, found '2001-02-30'"
    assert errors_of(folder) == [PolicyError(CITY, line, "earliest", message)]


def test_all_errors_of_all_files_are_told_at_once_in_order(folder: Path) -> None:
    lines = [
        plant(folder, CITY, "2001-01-01", "early"),
        plant(folder, AREAS, "{number: 3,", "{number: 2,"),
        plant(folder, AREAS, "{number: 5,", "{number: five,"),
        plant(folder, DEPARTMENTS, "queue: cscc", "queue: desk"),
        plant(folder, PLANS, "name: gunfire_priority", "name: 7"),
        plant(folder, PLANS, "[street_light]", "[lamp]"),
    ]
    found = [(error.file, error.line) for error in errors_of(folder)]
    files = [CITY, AREAS, AREAS, DEPARTMENTS, PLANS, PLANS]
    assert found == list(zip(files, lines, strict=True))


def test_a_file_that_cannot_be_parsed_brings_no_errors_about_references_into_it(folder: Path) -> None:
    line = plant(folder, DEPARTMENTS, "departments:", "departments: [")
    assert [(error.file, error.line is not None) for error in errors_of(folder)] == [(DEPARTMENTS, True)]
    assert line == line_of(folder, DEPARTMENTS, "departments: [")


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_told(folder: Path, file: str) -> None:
    (folder / file).unlink()
    assert PolicyError(file, None, "", "is missing; a policy needs this file") in errors_of(folder)


def test_a_file_with_a_mistyped_name_is_told(folder: Path) -> None:
    (folder / "plan.yml").write_text("plans: []")
    assert [(error.file, error.message[:10]) for error in errors_of(folder)] == [("plan.yml", "is unknown")]


def test_notes_beside_the_policy_are_no_errors(folder: Path) -> None:
    (folder / "README.md").write_text("why")
    assert load_policy(folder) == load_policy()


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (b"", 1, "is empty"),
        (b"# only a comment\n", 1, "is empty"),
        (b"routes: []\n# caf\xe9\n", 2, "is not UTF-8: byte 0xe9"),
        (b"routes: []\x00\n", None, "is not YAML"),
        (b"routes: " + b"[" * 100_000, None, "nests deeper"),
        (b"#" * 1_000_001, None, "is larger than 1000000 bytes"),
        (b"routes: []\n---\nroutes: []\n", 2, "is not YAML"),
    ],
)
def test_a_file_that_is_no_policy_file_is_told(
    folder: Path, content: bytes, line: int | None, says: str
) -> None:
    (folder / ROUTING).write_bytes(content)
    [error] = errors_of(folder)
    assert (error.file, error.line) == (ROUTING, line)
    assert says in error.message


def test_a_file_that_nests_too_deep_is_told(folder: Path) -> None:
    (folder / ROUTING).write_text("routes: " + "[" * 30 + "]" * 30)
    assert any("nests deeper than 20 levels" in error.message for error in errors_of(folder))


def test_a_file_that_cannot_be_read_is_told(folder: Path) -> None:
    (folder / ROUTING).unlink()
    (folder / ROUTING).mkdir()
    assert errors_of(folder) == [PolicyError(ROUTING, None, "", "cannot be read: Is a directory")]


def test_a_path_that_is_no_folder_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    nowhere = tmp_path / "nowhere"
    expected = "expected a folder with a policy"
    assert errors_of(file) == [PolicyError(str(file), None, "", f"is a file; {expected}")]
    assert errors_of(nowhere) == [PolicyError(str(nowhere), None, "", f"does not exist; {expected}")]


def test_a_byte_order_mark_is_accepted(folder: Path) -> None:
    (folder / ROUTING).write_bytes(b"\xef\xbb\xbfroutes: []\n")
    assert load_policy(folder) == load_policy()


# ---------------------------------------------------------------- version


def test_comments_layout_and_the_order_of_keys_do_not_change_the_version(folder: Path) -> None:
    plant(folder, CITY, "name: Chicago\n", "# a comment\n\n")
    (folder / CITY).write_text((folder / CITY).read_text() + '\n\nname:   "Chicago"\n')
    plant(folder, AREAS, "{number: 3, name: Uptown}", "{name: Uptown,   number: 3}")
    assert load_policy(folder).version == load_policy().version


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (CITY, "name: Chicago", "name: Springfield"),
        (AREAS, "since: 2021-01-01", "since: 2024-01-01"),
        (PLANS, "[street_light]", "[alley_light]"),
        (PLANS, "[street_light, alley_light]", "[alley_light, street_light]"),
        (SEVERITY, "near_repeat: 20", "near_repeat: 21"),
    ],
)
def test_content_changes_the_version(folder: Path, file: str, old: str, new: str) -> None:
    plant(folder, file, old, new)
    assert load_policy(folder).version != load_policy().version


# ---------------------------------------------------------------- whatever stands in the files

JUNK = st.sampled_from(
    [
        "",
        "null",
        "[]",
        "{}",
        "x",
        "-1",
        "1e400",
        "2020-01-01T00:00:00Z",
        "? ",
        "!!set {a}",
        '"',
        "[{}]",
        "*a",
        "...",
    ]
)


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_value_is_spoiled_either_loads_or_is_told(data: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "policy", dirs_exist_ok=True))
    file = folder / data.draw(st.sampled_from(sorted(FILES)))
    lines = file.read_text().splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    head, colon, _ = lines[number].partition(":")
    lines[number] = f"{head}{colon} {data.draw(JUNK)}"
    file.write_text("\n".join(lines))
    with suppress(PolicyErrors):  # anything else that is raised fails the test
        load_policy(folder)


# ---------------------------------------------------------------- command line


def test_the_command_sums_up_a_right_policy() -> None:
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 0
    assert load_policy().version in result.output


def test_the_command_tells_every_error_and_fails(folder: Path) -> None:
    first = plant(folder, CITY, "2001-01-01", "early")
    second = plant(folder, DEPARTMENTS, "queue: cscc", "queue: desk")
    result = CliRunner().invoke(app, ["check", str(folder)])
    assert result.exit_code == 8
    assert f"city.yaml:{first}: earliest: " in result.output
    assert f"departments.yaml:{second}: triage_queue: " in result.output


def test_the_command_answers_in_json(folder: Path) -> None:
    right = json.loads(CliRunner().invoke(app, ["check", "--json"]).output)
    assert (right["ok"], right["errors"], right["summary"]["areas"]) == (True, [], 77)
    line = plant(folder, CITY, "2001-01-01", "early")
    result = CliRunner().invoke(app, ["check", str(folder), "--json"])
    wrong = json.loads(result.output)
    assert result.exit_code == 8
    assert [(error["file"], error["line"]) for error in wrong["errors"]] == [(CITY, line)]


def test_the_command_shows_a_policy() -> None:
    shown = CliRunner().invoke(app, ["show", "--json"])
    assert Policy.model_validate_json(shown.output) == load_policy()
    assert "Repair street light" in CliRunner().invoke(app, ["show"]).output
