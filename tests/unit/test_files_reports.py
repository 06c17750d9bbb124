import gzip
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from connectors.files.datasets import (
    CRIMES,
    KNOWN,
    LEGACY_REQUESTS,
    REQUESTS,
    SHOTSPOTTER,
    VICTIMS,
    Dataset,
    Report,
    SourceFile,
    read_row,
    recognise,
)
from connectors.files.defects import dead_letter_of
from connectors.files.errors import FileProblem, RowDefect
from connectors.files.fields import beat, number_text, zoned
from connectors.files.reading import OutOfScope, Reading
from connectors.files.rows import Row, rows_of
from infra.policy.load import load_policy
from schemas.base import Point
from schemas.dead_letter import DeadLetter
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from tests.unit.files_samples import (
    ALERT,
    CRIME,
    LEGACY,
    PERSONS,
    REQUEST,
    VICTIM,
    snake,
    title,
    write_csv,
    write_json,
)

CHICAGO = ZoneInfo("America/Chicago")
REAL_DATA = Path(__file__).parents[3] / "shared" / "data"
SAMPLES = [
    (VICTIMS, VICTIM),
    (SHOTSPOTTER, ALERT),
    (CRIMES, CRIME),
    (REQUESTS, REQUEST),
    (LEGACY_REQUESTS, LEGACY),
]


@pytest.fixture(scope="module")
def reading() -> Reading:
    return Reading.by(load_policy())


def read(reading: Reading, dataset: Dataset, cells: Mapping[str, str], **changes: str) -> Report | OutOfScope:
    fields = {name: value for name, value in (snake(cells) | changes).items() if name in dataset.columns}
    return read_row(SourceFile(Path("f.csv"), dataset, {}), Row(7, fields), reading)


def incident(reading: Reading, dataset: Dataset, cells: Mapping[str, str], **changes: str) -> IncidentReport:
    report = read(reading, dataset, cells, **changes)
    assert isinstance(report, IncidentReport)
    return report


def issue(reading: Reading, dataset: Dataset, cells: Mapping[str, str], **changes: str) -> IssueReport:
    report = read(reading, dataset, cells, **changes)
    assert isinstance(report, IssueReport)
    return report


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# Recognition


@pytest.mark.parametrize(("dataset", "cells"), SAMPLES)
def test_a_dataset_is_recognised_in_every_form_and_reads_the_same(
    tmp_path: Path, reading: Reading, dataset: Dataset, cells: dict[str, str]
) -> None:
    files = [
        write_csv(tmp_path / "export.csv", [cells], bom=True),
        write_csv(tmp_path / "snake.csv", [snake(cells)]),
        write_csv(tmp_path / "title.csv", [title(cells)]),
        write_json(tmp_path / "array.json", [cells]),
        write_json(tmp_path / "lines.ndjson", [cells], lines=True),
    ]
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(files[0].read_bytes()))
    reports = []
    for file in (*files, packed):
        source = recognise(file)
        assert source.dataset is dataset
        reports += [read_row(source, row, reading) for row in rows_of(file, dataset.columns)]
    assert len(set(reports)) == 1
    assert len(reports) == 6


def test_an_unknown_dataset_is_told_with_its_columns_and_the_known_ones(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "permits.csv", [{"Permit Number": "1", "Fee": "2"}])
    with pytest.raises(FileProblem) as told:
        recognise(file)
    assert "permits.csv is of no known dataset. Its columns: Permit Number, Fee." in str(told.value)
    assert all(dataset.portal_id in str(told.value) for dataset in KNOWN)


# Times


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2024-12-31T23:26:00.000", "2025-01-01T05:26:00"),
        ("2024-12-31 23:26:00", "2025-01-01T05:26:00"),
        ("2024-12-31T23:26:00", "2025-01-01T05:26:00"),
        ("12/31/2024 11:26:00 PM", "2025-01-01T05:26:00"),
        ("12/31/2024 23:26", "2025-01-01T05:26:00"),
        ("07/04/2024 12:30:00 AM", "2024-07-04T05:30:00"),
        ("07/04/2024 12:30:00 PM", "2024-07-04T17:30:00"),
        ("7/4/2024", "2024-07-04T05:00:00"),
        ("2024-07-04", "2024-07-04T05:00:00"),
        ("2024-07-04T05:00:00Z", "2024-07-04T05:00:00"),
        ("2024-07-04T05:00:00+02:00", "2024-07-04T03:00:00"),
    ],
)
def test_the_citys_times_become_moments(text: str, at: str) -> None:
    assert zoned(text, CHICAGO) == utc(at)


@pytest.mark.parametrize("text", ["2024-03-10 02:30:00", "03/10/2024 02:30:00 AM"])
def test_a_wall_time_that_spring_skipped_moves_forward_by_the_gap(text: str) -> None:
    assert zoned(text, CHICAGO).astimezone(CHICAGO).isoformat() == "2024-03-10T03:30:00-05:00"


def test_times_around_the_gap_stay_in_order() -> None:
    assert zoned("2024-03-10 01:59:59", CHICAGO) == utc("2024-03-10T07:59:59")
    assert zoned("2024-03-10 03:00:00", CHICAGO) == utc("2024-03-10T08:00:00")


@pytest.mark.parametrize("text", ["2024-11-03 01:30:00", "11/03/2024 01:30:00 AM"])
def test_a_wall_time_that_autumn_repeats_is_its_first_occurrence(text: str) -> None:
    assert zoned(text, CHICAGO) == utc("2024-11-03T06:30:00")


def test_times_around_the_repeated_hour_stay_as_they_are() -> None:
    assert zoned("2024-11-03 00:59:59", CHICAGO) == utc("2024-11-03T05:59:59")
    assert zoned("2024-11-03 02:00:00", CHICAGO) == utc("2024-11-03T08:00:00")


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        "13/31/2024 11:26:00 PM",
        "12/31/2024 13:26:00 PM",
        "2024-02-30",
        "9999-12-31T23:00:00",
    ],
)
def test_an_unreadable_time_is_a_defect_that_does_not_repeat_it(reading: Reading, text: str) -> None:
    with pytest.raises(RowDefect) as told:
        read(reading, VICTIMS, VICTIM, date=text)
    assert (told.value.column, told.value.reason) == ("date", "impossible_time")
    assert text not in told.value.expected


# Victims


def test_a_victim_is_one_report_of_its_case(reading: Reading) -> None:
    assert read(reading, VICTIMS, VICTIM) == IncidentReport(
        source="cpd", report_id="ZZ100001-#1", incident_number="ZZ100001",
        occurred_at=utc("2025-01-01T05:26:00"), revised_at=utc("2025-01-18T09:11:58"),
        event="assault", gunshot_injury=True, block="100 E MADE UP ST", location_type="STREET",
        published_area_name="ENGLEWOOD", beat="0713", district="7", point=Point(lat=41.7791, lon=-87.6445),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("primary", "event"),
    [
        ("HOMICIDE", "homicide"),
        ("battery", "assault"),
        ("NON-FATAL", "assault"),
        ("ROBBERY", "robbery"),
        ("CRIMINAL SEXUAL ASSAULT", "sexual_assault"),
        ("SOMETHING NEW", "other"),
        ("", "other"),
    ],
)
def test_a_victimization_becomes_an_event(reading: Reading, primary: str, event: str) -> None:
    assert incident(reading, VICTIMS, VICTIM, victimization_primary=primary).event == event


@pytest.mark.parametrize(
    ("text", "injury"),
    [("YES", True), ("Y", True), ("NO", False), ("n", False), ("", None), ("UNKNOWN", None)],
)
def test_a_gunshot_injury_is_yes_no_or_not_said(reading: Reading, text: str, injury: bool | None) -> None:
    assert incident(reading, VICTIMS, VICTIM, gunshot_injury_i=text).gunshot_injury is injury


def test_a_victim_without_a_revision_time_was_last_revised_when_it_happened(reading: Reading) -> None:
    assert incident(reading, VICTIMS, VICTIM, updated="").revised_at == utc("2025-01-01T05:26:00")


def test_simulated_and_unfounded_are_read_when_a_file_has_them(reading: Reading) -> None:
    report = incident(reading, VICTIMS, VICTIM, simulated="true", validity="UNFOUNDED")
    assert (report.simulated, report.validity) == (True, "unfounded")


# ShotSpotter


def test_an_alert_is_gunfire_and_says_nothing_of_injuries(reading: Reading) -> None:
    at = utc("2024-01-31T07:05:09")
    assert read(reading, SHOTSPOTTER, ALERT) == IncidentReport(
        source="shotspotter", report_id="SST-1", incident_number="SST-1", occurred_at=at, revised_at=at,
        event="gunfire", gunshot_injury=None, block="200 W MADE UP ST", point=Point(lat=41.78, lon=-87.64),
    )  # fmt: skip


# Crimes


def test_a_crime_in_scope_is_a_report_and_gets_its_lost_zeros_back(reading: Reading) -> None:
    assert read(reading, CRIMES, CRIME) == IncidentReport(
        source="cpd", report_id="CRIME-900001", incident_number="ZZ100002",
        occurred_at=utc("2024-07-04T05:30:00"), revised_at=utc("2024-07-11T20:41:59"),
        event="homicide", gunshot_injury=None, block="040XX W MADE UP ST", location_type="ALLEY",
        published_area=69, beat="0322", district="3", ward="6",
    )  # fmt: skip


def test_a_crime_that_the_policy_leaves_out_is_counted_by_its_type(reading: Reading) -> None:
    assert read(reading, CRIMES, CRIME, iucr="0820", primary_type="THEFT") == OutOfScope("THEFT")


@pytest.mark.parametrize(("text", "number"), [("0", None), ("", None), ("69", 69), ("69.0", 69)])
def test_area_zero_or_blank_is_no_area(reading: Reading, text: str, number: int | None) -> None:
    assert incident(reading, CRIMES, CRIME, community_area=text).published_area == number


def test_lost_zeros_come_back_and_superfluous_ones_go() -> None:
    assert [beat({"beat": text}) for text in ("322", "0322", "322.0", "1133", "", "3A")] == [
        "0322", "0322", "0322", "1133", None, "3A",
    ]  # fmt: skip
    assert [number_text({"d": text}, "d") for text in ("003", "3", "3.0", "", "0", "H")] == [
        "3", "3", "3", None, None, "H",
    ]  # fmt: skip


# 311


def test_a_request_is_a_report_of_its_category(reading: Reading) -> None:
    assert read(reading, REQUESTS, REQUEST) == IssueReport(
        source="311", request_number="SR24-1", category="street_light", service_code="SFD",
        status="completed", created_at=utc("2024-12-02T14:15:00"), revised_at=utc("2024-12-05T22:00:00"),
        closed_at=utc("2024-12-05T21:59:00"), address="1 E MADE UP ST", published_area=68, ward="16",
        beat="0713", point=Point(lat=41.7791, lon=-87.6445),
    )  # fmt: skip


def test_the_null_fields_that_json_leaves_out_are_blank(reading: Reading) -> None:
    bare = {name: REQUEST[name] for name in ("SR_NUMBER", "SR_TYPE", "STATUS", "CREATED_DATE")}
    report = issue(reading, REQUESTS, bare, status="Open")
    assert (report.revised_at, report.closed_at, report.point) == (report.created_at, None, None)


def test_a_duplicate_names_its_parent(reading: Reading) -> None:
    report = issue(reading, REQUESTS, REQUEST, duplicate="true", parent_sr_number="SR24-0")
    assert (report.duplicate, report.parent_number) == (True, "SR24-0")


def test_a_parent_counts_only_for_a_duplicate_and_never_for_itself(reading: Reading) -> None:
    assert issue(reading, REQUESTS, REQUEST, parent_sr_number="SR24-0").parent_number is None
    own = issue(reading, REQUESTS, REQUEST, duplicate="true", parent_sr_number="SR24-1")
    assert (own.duplicate, own.parent_number) == (True, None)


@pytest.mark.parametrize(
    ("text", "status", "duplicate"),
    [
        ("Open", "open", False),
        ("Completed", "completed", False),
        ("Canceled", "canceled", False),
        ("Open - Dup", "open", True),
        ("Completed - Dup", "completed", True),
    ],
)
def test_statuses_old_and_new(reading: Reading, text: str, status: str, duplicate: bool) -> None:
    for dataset, cells in ((REQUESTS, REQUEST), (LEGACY_REQUESTS, LEGACY)):
        report = issue(reading, dataset, cells, status=text)
        assert (report.status, report.duplicate, report.parent_number) == (status, duplicate, None)


def test_an_open_request_is_not_closed_whatever_its_old_closing_date(reading: Reading) -> None:
    assert issue(reading, REQUESTS, REQUEST, status="Open").closed_at is None


def test_a_type_of_no_category_is_out_of_scope_and_so_is_the_311_centers_own_address(
    reading: Reading,
) -> None:
    for name in ("Pothole in Street Complaint", "311 INFORMATION ONLY CALL"):
        assert read(reading, REQUESTS, REQUEST, sr_type=name, sr_short_code="XXX") == OutOfScope(name)


def test_a_legacy_request_is_revised_when_it_is_completed(reading: Reading) -> None:
    assert read(reading, LEGACY_REQUESTS, LEGACY) == IssueReport(
        source="311", request_number="11-1", category="graffiti", service_code="Graffiti Removal",
        status="completed", created_at=utc("2011-01-01T06:00:00"), revised_at=utc("2011-01-03T06:00:00"),
        closed_at=utc("2011-01-03T06:00:00"), duplicate=True, address="1 S MADE UP AVE",
        published_area=59, ward="11", point=Point(lat=41.8266, lon=-87.6725),
    )  # fmt: skip
    still_open = issue(reading, LEGACY_REQUESTS, LEGACY, status="Open", completion_date="")
    assert still_open.revised_at == still_open.created_at


# Places


@pytest.mark.parametrize(("lat", "lon"), [("", ""), ("41.8", ""), ("", "-87.6")])
def test_a_place_needs_both_coordinates(reading: Reading, lat: str, lon: str) -> None:
    assert incident(reading, VICTIMS, VICTIM, latitude=lat, longitude=lon).point is None


def test_zero_zero_passes_so_that_intake_refuses_it_with_a_reason(reading: Reading) -> None:
    assert incident(reading, VICTIMS, VICTIM, latitude="0", longitude="0").point == Point(lat=0, lon=0)


@pytest.mark.parametrize(
    ("lat", "lon"), [("north", "-87.6"), ("95", "-87.6"), ("nan", "-87.6"), ("41.8", "inf")]
)
def test_coordinates_that_are_none_are_a_defect(reading: Reading, lat: str, lon: str) -> None:
    with pytest.raises(RowDefect) as told:
        read(reading, VICTIMS, VICTIM, latitude=lat, longitude=lon)
    assert told.value.reason == "impossible_place"


# Defects


@pytest.mark.parametrize(
    ("dataset", "cells", "column"),
    [
        (VICTIMS, VICTIM, "unique_id"),
        (VICTIMS, VICTIM, "case_number"),
        (VICTIMS, VICTIM, "date"),
        (SHOTSPOTTER, ALERT, "unique_id"),
        (CRIMES, CRIME, "id"),
        (CRIMES, CRIME, "iucr"),
        (CRIMES, CRIME, "case_number"),
        (REQUESTS, REQUEST, "sr_number"),
        (REQUESTS, REQUEST, "sr_type"),
        (REQUESTS, REQUEST, "status"),
        (REQUESTS, REQUEST, "created_date"),
        (LEGACY_REQUESTS, LEGACY, "service_request_number"),
        (LEGACY_REQUESTS, LEGACY, "creation_date"),
    ],
)
def test_a_row_that_lacks_what_it_needs_is_a_defect_of_that_column(
    reading: Reading, dataset: Dataset, cells: dict[str, str], column: str
) -> None:
    with pytest.raises(RowDefect) as told:
        read(reading, dataset, cells, **{column: ""})
    assert (told.value.column, told.value.reason) == (column, "invalid")


@pytest.mark.parametrize(
    ("column", "text"), [("case_number", "x" * 81), ("unique_id", "a|b"), ("block", "x" * 201)]
)
def test_what_the_schema_refuses_is_a_defect_of_its_column(reading: Reading, column: str, text: str) -> None:
    with pytest.raises(RowDefect) as told:
        read(reading, VICTIMS, VICTIM, **{column: text})
    assert told.value.column == column
    assert text not in told.value.expected


def defects_of(file: Path, reading: Reading) -> list[DeadLetter]:
    source, found = recognise(file), []
    for row in rows_of(file, source.dataset.columns):
        try:
            read_row(source, row, reading)
        except RowDefect as defect:
            found.append(dead_letter_of(source, row, defect))
    return found


def test_a_defect_says_where_it_is_and_how_to_mend_it(tmp_path: Path, reading: Reading) -> None:
    file = write_csv(tmp_path / "v.csv", [VICTIM, VICTIM | {"DATE": "soon"}])
    letter, again = defects_of(file, reading) + defects_of(file, reading)
    assert letter == again
    assert (letter.topic, letter.partition, letter.offset) == ("incident-reports", -1, 3)
    assert (letter.reason, letter.field) == ("impossible_time", "DATE")
    assert letter.expected.startswith("v.csv, row 3, column DATE: expected a time such as ")
    assert letter.expected.endswith("; mend the row and replay the file again.")
    assert b'"case_number": "ZZ100001"' in (letter.value or b"")


def test_nothing_about_persons_comes_out_of_reports_or_defects(tmp_path: Path, reading: Reading) -> None:
    rows = [VICTIM, VICTIM | {"DATE": "soon"}, VICTIM | {"CASE_NUMBER": ""}, VICTIM | {"LATITUDE": "north"}]
    file = write_csv(tmp_path / "v.csv", rows)
    shifted = file.read_text().replace("100 E MADE UP ST", "100 E MADE, UP ST", 1)
    files = [file, write_json(tmp_path / "v.json", rows), tmp_path / "shifted.csv", tmp_path / "broken.jsonl"]
    files[2].write_text(shifted)
    lines = write_json(tmp_path / "v.jsonl", [VICTIM], lines=True).read_text()
    files[3].write_text(lines + lines.replace("}", ""))
    said = ""
    for path in files:
        source = recognise(path)
        for row in rows_of(path, source.dataset.columns):
            try:
                report = read_row(source, row, reading)
                said += repr(report) + (
                    report.model_dump_json() if not isinstance(report, OutOfScope) else ""
                )
            except RowDefect as defect:
                said += repr(defect) + repr(dead_letter_of(source, row, defect))
    assert said.count("DeadLetter(") == 3 + 3 + 4 + 1
    assert not [planted for planted in PERSONS if planted in said]


# The real files, where they are at hand


@pytest.mark.skipif(
    not REAL_DATA.is_dir(), reason="REAL DATA NOT TESTED: no ../shared/data beside the project"
)
@pytest.mark.parametrize(
    ("name", "reports", "rows"),
    [
        ("victims_2024-09_2025.csv", 2291, 2291),
        ("service_requests_2025-12.json", 179, 1328),
        ("graffiti_legacy_2011.csv", 999, 999),
    ],
)
def test_the_real_files_have_no_defects(reading: Reading, name: str, reports: int, rows: int) -> None:
    source = recognise(REAL_DATA / name)
    kinds = Counter(
        type(read_row(source, row, reading)).__name__ for row in rows_of(source.path, source.dataset.columns)
    )
    assert kinds.total() == rows
    assert kinds["IncidentReport"] + kinds["IssueReport"] == reports
