"""The simulator: the same seed gives the same bytes, in the city's formats, inside the city, marked."""

import csv
import itertools
import json
from collections import Counter, defaultdict
from datetime import date, timedelta
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from agents.near import distance_m
from agents.sites import block_of, normalize_address
from connectors.files.datasets import read_row, recognise
from connectors.files.reading import Reading
from connectors.files.rows import rows_of
from connectors.geography.areas import Areas
from infra.cli.simulate import app
from infra.policy.load import SHIPPED, load_policy
from infra.simulate import weights
from infra.simulate.files import REQUESTS_FILE, VICTIMS_FILE, write_requests, write_victims
from infra.simulate.generate import incident_reports, issue_reports
from infra.simulate.places import Places
from infra.simulate.streets import address_near, grid_of, lat_of, lon_of
from schemas.base import Point
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.policy import Policy

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"
JUNE = date(2026, 6, 1)
AUTUMN = date(2026, 10, 30)  # the clocks go back on 1 November


@pytest.fixture(scope="module")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"REAL DATA NOT TESTED: {SHARED_DATA} is absent")
    return SHARED_DATA


@pytest.fixture(scope="module")
def places() -> Places:
    return Places(Areas.of_chicago())


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(SHIPPED)


@pytest.fixture(scope="module")
def year(places: Places) -> list[IncidentReport]:
    return list(incident_reports(7, date(2025, 1, 1), 365, places=places))


@pytest.fixture(scope="module")
def month(places: Places) -> list[IssueReport]:
    return list(issue_reports(7, JUNE, 28, places=places))


def read_back(path: Path, policy: Policy) -> list[object]:
    source = recognise(path)
    reading = Reading.by(policy)
    return [read_row(source, row, reading) for row in rows_of(path, source.dataset.columns)]


def test_the_city_s_readers_read_back_exactly_what_was_simulated(
    tmp_path: Path, places: Places, policy: Policy
) -> None:
    victims = list(incident_reports(3, AUTUMN, 10, rate=20, places=places))
    requests = list(issue_reports(3, AUTUMN, 4, places=places))
    write_victims(tmp_path / VICTIMS_FILE, victims)
    write_requests(tmp_path / REQUESTS_FILE, requests)
    assert read_back(tmp_path / VICTIMS_FILE, policy) == victims
    assert read_back(tmp_path / REQUESTS_FILE, policy) == requests
    assert len(victims) > 500
    assert len(requests) > 1000


def test_request_types_are_those_of_the_policy(policy: Policy) -> None:
    for kind in weights.REQUEST_TYPES:
        category = policy.category_of_sr(kind.code, kind.name)
        assert category is not None
        assert category.code == kind.category


def test_reports_come_in_the_order_in_which_they_become_known(
    year: list[IncidentReport], month: list[IssueReport]
) -> None:
    for clocks in ([report.revised_at for report in year], [report.revised_at for report in month]):
        assert clocks == sorted(clocks)
    assert all(report.occurred_at < report.revised_at for report in year)
    assert all(report.created_at < report.revised_at for report in month)


def test_a_revision_never_repeats_the_clock_of_an_earlier_one(
    year: list[IncidentReport], month: list[IssueReport]
) -> None:
    """Two rows of one victim or request with one clock would be one revision with two contents."""
    victims = Counter((report.report_id, report.revised_at) for report in year)
    requests = Counter((report.request_number, report.revised_at) for report in month)
    assert max(victims.values()) == 1
    assert max(requests.values()) == 1


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    def run(folder: str, *more: str) -> list[bytes]:
        out = tmp_path / folder
        result = CliRunner().invoke(app, ["--days", "3", "--out", str(out), "--json", *more])
        assert result.exit_code == 0, result.output
        assert sorted(entry.name for entry in out.iterdir()) == [REQUESTS_FILE, VICTIMS_FILE]
        return [(out / name).read_bytes() for name in (VICTIMS_FILE, REQUESTS_FILE)]

    first, shuffled = run("a", "--seed", "7"), run("c", "--seed", "7", "--shuffle")
    assert run("b", "--seed", "7") == first
    assert shuffled == run("d", "--seed", "7", "--shuffle") != first
    assert sorted(shuffled[0].splitlines()) == sorted(first[0].splitlines())
    assert run("e", "--seed", "8") != first
    assert run("f", "--seed", "7", "--rate", "0") != first


def test_the_summary_counts_what_the_files_hold(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--days", "5", "--seed", "2", "--out", str(tmp_path), "--json"])
    counts = json.loads(result.output)["counts"]
    with (tmp_path / VICTIMS_FILE).open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    requests = json.loads((tmp_path / REQUESTS_FILE).read_text())
    assert counts["rows of victims"] == len(rows)
    assert counts["incidents"] == len({row["CASE_NUMBER"] for row in rows})
    assert counts["rows of requests"] == len(requests)
    assert counts["requests"] == len({row["sr_number"] for row in requests})


def test_a_window_without_days_that_fit_and_a_folder_that_is_a_file_are_refused(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    runner = CliRunner()
    assert runner.invoke(app, ["--days", "0"]).exit_code == 2
    assert runner.invoke(app, ["--start", "June"]).exit_code == 2
    assert runner.invoke(app, ["--out", str(in_the_way)]).exit_code == 2


def test_no_simulated_id_can_be_a_real_one(year: list[IncidentReport], month: list[IssueReport]) -> None:
    assert all(report.incident_number.startswith("SIM7-") for report in year)
    assert all(report.report_id.startswith("SIM7-") for report in year)
    assert all(report.request_number.startswith("SIM26-7-") for report in month)
    assert all(report.simulated for report in year)
    assert all(report.simulated for report in month)
    parents = {report.parent_number for report in month} - {None}
    assert all(str(parent).startswith("SIM26-7-") for parent in parents)


def test_a_year_has_as_many_cases_as_chicago_and_most_lie_where_most_are(
    year: list[IncidentReport], policy: Policy
) -> None:
    area_of_case = {report.incident_number: report.published_area_name for report in year}
    assert 1_500 < len(area_of_case) < 1_900  # Poisson around 1,700: five standard deviations
    priority = {area.name.upper() for area in policy.areas if area.tier == "priority"}
    share = sum(name in priority for name in area_of_case.values()) / len(area_of_case)
    assert len(priority) == 15
    assert 0.53 < share < 0.63  # 58% of the victims' cases


def test_points_lie_in_the_city_and_mostly_in_the_area_they_are_said_to_be_in(
    year: list[IncidentReport], month: list[IssueReport], places: Places
) -> None:
    number_of = {name: number for number, name in places.names.items()}
    with_points = [report for report in year if report.point]
    published = [number_of[str(report.published_area_name)] for report in with_points]
    found = places.areas.locate([report.point for report in with_points], published)
    assert 0 < sum(location.differs for location in found) < 0.08 * len(found)  # 3.8% in the real data
    exact = [report for report in month if report.point]
    found = places.areas.locate([report.point for report in exact], [one.published_area for one in exact])
    assert not any(location.differs or location.computed_area is None for location in found)


def test_the_awkward_cases_of_the_real_feeds_all_occur(
    year: list[IncidentReport], month: list[IssueReport]
) -> None:
    states = defaultdict(list)
    for report in year:
        states[report.report_id].append(report)
    changes = [pair for rows in states.values() for pair in itertools.pairwise(rows)]
    victims = Counter(report.incident_number for report in {r.report_id: r for r in year}.values())
    assert any(a.event == "assault" and b.event == "homicide" for a, b in changes)
    assert any(a.point and b.point and a.point != b.point for a, b in changes)
    assert any(a.validity == "valid" and b.validity == "unfounded" for a, b in changes)
    assert any(report.event == "homicide" and not report.gunshot_injury for report in year)
    assert any(count > 1 for count in victims.values())
    assert any(report.point is None for report in year)
    assert any(report.block is None for report in year)
    assert {report.status for report in month} == {"open", "completed", "canceled"}
    assert any(report.point is None and report.published_area is None for report in month)
    numbers = {report.request_number for report in month}
    parents = {report.parent_number for report in month if report.duplicate}
    assert None not in parents
    assert parents & numbers
    assert parents - numbers


def test_a_duplicate_has_the_type_the_place_and_the_end_of_its_parent(month: list[IssueReport]) -> None:
    opened = {report.request_number: report for report in month if report.status == "open"}
    closed = {report.request_number: report.closed_at for report in month if report.closed_at}
    pairs = [
        (report, opened[report.parent_number]) for report in opened.values() if report.parent_number in opened
    ]
    assert len(pairs) > 100
    for again, first in pairs:
        assert (again.category, again.address, again.point) == (first.category, first.address, first.point)
        assert first.created_at < again.created_at
        assert not first.duplicate
        assert closed.get(again.request_number) == closed.get(first.request_number)


def test_near_repeats_are_about_as_frequent_as_in_the_real_data(year: list[IncidentReport]) -> None:
    """4.1% of the real cases have an earlier one within 122 m and 14 days."""
    first = {report.incident_number: report for report in reversed(year)}
    cases = [(report.occurred_at, report.point) for report in first.values() if report.point]
    fortnight = timedelta(days=14)
    repeats = sum(
        any(at - fortnight <= before < at and distance_m(there, here) <= 122 for before, there in cases)
        for at, here in cases
    )
    assert 0.02 < repeats / len(cases) < 0.06


def test_the_grid_knows_well_known_corners_to_a_fifth_of_a_mile() -> None:
    """Corners whose numbers follow from the streets' names: 63rd and Halsted is 6300 S, 800 W."""
    corners = {
        (-800, -6300): Point(lat=41.7798, lon=-87.6446),  # 63rd and Halsted
        (-4000, 0): Point(lat=41.8808, lon=-87.7256),  # Madison and Pulaski
        (-2400, 2400): Point(lat=41.9249, lon=-87.6876),  # Fullerton and Western
    }
    for (east, north), point in corners.items():
        computed_east, computed_north = grid_of(point)
        assert abs(computed_east - east) < 160
        assert abs(computed_north - north) < 160


def test_the_grid_goes_there_and_back() -> None:
    for number in (-13_000, -2_500, -700, 0, 500, 7_600):
        lat = lat_of(number)
        point = Point(lat=lat, lon=lon_of(number / 2, lat))
        assert grid_of(point) == pytest.approx((number / 2, number), abs=0.1)


def test_simulated_addresses_are_already_in_normal_form(
    year: list[IncidentReport], month: list[IssueReport]
) -> None:
    addresses = {report.address for report in month} - {None}
    assert {address for address in addresses if normalize_address(address) != address} == set()
    blocks = {report.block for report in year} - {None}
    assert all(str(block_of(block)).startswith(f"{str(block).split()[0]} BLOCK ") for block in blocks)


@pytest.mark.shared
def test_addresses_from_coordinates_are_near_the_real_ones(shared_data: Path) -> None:
    """Measured: half of the 1,328 requests within 60 (north-south) and 93 (east-west) house numbers."""
    requests = json.loads((shared_data / "service_requests_2025-12.json").read_text(encoding="utf-8"))
    errors: dict[bool, list[float]] = {True: [], False: []}
    for row in requests:
        east, north = grid_of(Point(lat=float(row["latitude"]), lon=float(row["longitude"])))
        direction, number = row["street_direction"], int(row["street_number"].rstrip("ABCDEFGH"))
        computed = {"N": north, "S": -north, "E": east, "W": -east}[direction]
        errors[direction in "NS"].append(abs(computed - number))
    for found, most in ((errors[True], 60), (errors[False], 94)):
        assert sorted(found)[len(found) // 2] < most


def test_an_address_near_a_point_stands_near_it(places: Places) -> None:
    chance = Random(1)
    for area in places.areas.shapes:
        place = places.anywhere_in(area, chance)
        address = address_near(place.address.point, chance)
        assert distance_m(address.point, place.address.point) < 150
