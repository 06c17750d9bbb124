"""Mapping files: every kind of mistake is told at load, all at once, with its line; what right ones make of rows."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.files.errors import FileProblem, RowDefect
from connectors.files.reading import OutOfScope
from connectors.mapping.columns import is_about_a_person
from connectors.mapping.items import items_of
from connectors.mapping.mapping import SourceMapping
from connectors.mapping.targets import SCHEMAS, Report
from connectors.mapping.times import why_impossible
from infra.sources.load import MappingErrors, load_mapping, load_sources
from schemas.base import Point
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.policy import Policy
from tests.sources.conftest import EXAMPLES

GOOD = """source: cad
report: incident
format: csv
times: {zone: America/Chicago}
fields:
  report_id: ID
  incident_number: {column: CASE, or_column: ID}
  occurred_at: AT
  revised_at: {column: CHANGED, or_column: AT}
  event: {column: KIND, table: {SHOTS: gunfire, STABBING: assault}}
  gunshot_injury: {value: null}
"""
ROW = {"id": "1", "case": "JK1", "at": "2026-07-04 22:40:00", "kind": "SHOTS"}


@pytest.fixture
def load(tmp_path: Path, policy: Policy) -> Any:
    def loaded(text: str, sample: str | None = None) -> SourceMapping:
        file, given = tmp_path / "cad.yaml", tmp_path / "sample"
        file.write_text(text)
        if sample is not None:
            given.write_text(sample)
        return load_mapping(file, policy, None if sample is None else given)

    return loaded


def with_(*lines: str, without: str = "") -> str:
    """The good file, less the lines that begin so, and with more fields."""
    kept = [one for one in GOOD.splitlines() if not (without and one.strip().startswith(without))]
    return "\n".join([*kept, *(f"  {one}" for one in lines)]) + "\n"


MISTAKES: list[tuple[str, str]] = [
    (
        GOOD.replace("report: incident", "report: incidents"),
        "cad.yaml:2: report: expected 'incident' or 'issue', found 'incidents'",
    ),
    (
        GOOD.replace("format: csv", "format: xml"),
        "cad.yaml:3: format: expected 'csv', 'json' or 'jsonl', found 'xml'",
    ),
    (
        GOOD.replace("source: cad", "source: The CAD"),
        "cad.yaml:1: source: expected small letters, digits, - and _, such as cpd-311, found",
    ),
    (
        GOOD + "colour: red\n",
        "cad.yaml:12: colour: is unknown; expected one of source, report, format, items",
    ),
    (with_("blok: BLOCK"), "cad.yaml:12: fields.blok: is no field of IncidentReport; did you mean block?"),
    (
        with_("color: X"),
        "cad.yaml:12: fields.color: is no field of IncidentReport; expected one of report_id, ",
    ),
    (with_("source: X"), "cad.yaml:12: fields.source: is what `source` at the top of the file says"),
    (with_(without="event"), "cad.yaml:5: fields: event is missing: every report needs it"),
    (with_("occurred_at: B"), "cad.yaml:12: fields.occurred_at: is given twice, first in line 8"),
    (
        with_("block: {column: B, value: x}"),
        "cad.yaml:12: fields.block: expected a column or a value, found column and value",
    ),
    (with_("block: {}"), "cad.yaml:12: fields.block: expected a column or a value, found neither"),
    (
        with_("block: {colum: B}"),
        "cad.yaml:12: fields.block.colum: is unknown; expected one of column, or_column",
    ),
    (with_("block: {or_column: B}"), "cad.yaml:12: fields.block.or_column: is read when `column` is blank"),
    (
        with_("block: {column: B, or_column: B}"),
        "cad.yaml:12: fields.block.or_column: is the same column as `column` (B)",
    ),
    (with_("block: VICTIM_NAME"), "cad.yaml:12: fields.block.column: 'VICTIM_NAME' is about a person"),
    (
        with_("ward: Age"),
        "cad.yaml:12: fields.ward.column: 'Age' is about a person: such columns are never read",
    ),
    (
        with_("block: /a/b"),
        "cad.yaml:12: fields.block.column: expected a column of CSV, found the JSON pointer /a/b",
    ),
    (with_("block: {lat: A, lon: B}"), "cad.yaml:12: fields.block.lat: only point is a place"),
    (
        with_("point: PLACE"),
        "cad.yaml:12: fields.point: expected lat and lon, or lat_lon, or geojson, found column",
    ),
    (
        with_("point: {lat: A}"),
        "cad.yaml:12: fields.point: lat and lon belong together: one of them is missing",
    ),
    (with_("point: {lat: A, lon: A}"), "cad.yaml:12: fields.point.lon: is the same column as lat (A)"),
    (
        with_("point: {lat_lon: A, geojson: B}"),
        "cad.yaml:12: fields.point: expected lat and lon, or lat_lon, or geojson, found lat_lon and geojson",
    ),
    (
        with_("report_id: {value: '1'}", without="report_id"),
        "cad.yaml:11: fields.report_id.value: would make one report of all rows",
    ),
    (
        with_("occurred_at: {value: '2026-01-01'}", without="occurred_at"),
        "fields.occurred_at.value: would give all rows the same time",
    ),
    (
        with_("simulated: {value: maybe}"),
        "cad.yaml:12: fields.simulated.value: expected true or false, found 'maybe'",
    ),
    (
        with_("published_area: {value: Austin}"),
        "fields.published_area.value: expected a whole number, found 'Austin'",
    ),
    (
        with_("event: {column: K, table: {A: gunfires}}", without="event"),
        "cad.yaml:11: fields.event.table.A: expected one of homicide, assault, ",
    ),
    (
        with_("event: {column: K, table: {}}", without="event"),
        "fields.event.table: is empty; expected their values, each with ours",
    ),
    (
        with_("event: {column: K, table: {a b: gunfire, 'A  B': other}}", without="event"),
        "fields.event.table.A  B: is the same value as 'a b'",
    ),
    (
        with_("event: {column: K, otherwise: skip}", without="event"),
        "fields.event.otherwise: says what is unknown to a table, and there is no `table`",
    ),
    (
        with_("event: {column: K, table: {A: other}, otherwise: empty}", without="event"),
        "fields.event.otherwise: event cannot be empty",
    ),
    (
        with_("event: {column: K, table: {A: other}, otherwise: drop}", without="event"),
        "fields.event.otherwise: expected 'refuse', 'skip', 'empty' or 'keep', found 'drop'",
    ),
    (
        with_("event: {column: K, table: {A: other}, otherwise_value: boom}", without="event"),
        "fields.event.otherwise_value: expected one of homicide",
    ),
    (
        with_(
            "event: {column: K, table: {A: other}, otherwise: skip, otherwise_value: other}", without="event"
        ),
        "fields.event.otherwise: stands beside otherwise_value",
    ),
    (
        with_("event: {value: other, table: {A: other}}", without="event"),
        "fields.event.table: translates what a column says, and this field is a constant",
    ),
    (
        with_("occurred_at: {column: A, table: {x: y}}", without="occurred_at"),
        "fields.occurred_at.table: occurred_at cannot come from a table",
    ),
    (
        with_("ward: {column: A, format: iso}"),
        "cad.yaml:12: fields.ward.format: only times have one, ward is none",
    ),
    (
        with_("simulated: {column: A, prefix: x}"),
        "cad.yaml:12: fields.simulated.prefix: only texts have one, simulated is none",
    ),
    (
        with_("occurred_at: {column: A, format: '%m/%d'}", without="occurred_at"),
        "fields.occurred_at.format: expected a pattern with year, month, day, hour",
    ),
    (
        GOOD.replace("America/Chicago", "America/Chigaco"),
        "cad.yaml:4: times.zone: expected a time zone such as America/Chicago, found 'America/Chigaco'",
    ),
    (
        GOOD.replace("{zone: America/Chicago}", "{format: '%Y-%m-%d %H:%M'}"),
        "cad.yaml:4: times.format: has no offset (%z): name the zone",
    ),
    (
        GOOD.replace("format: csv", "format: csv\nitems: /x"),
        "cad.yaml:4: items: only JSON has a path to the list",
    ),
    (
        GOOD.replace("format: csv", "format: json\nitems: x"),
        "cad.yaml:4: items: expected a JSON pointer that begins with /, such as /x",
    ),
    (
        GOOD.replace("format: csv", "format: json\ndelimiter: ';'"),
        "cad.yaml:4: delimiter: only CSV has a delimiter, not json",
    ),
    (GOOD.replace("fields:", "sample: nowhere.csv\nfields:"), "cad.yaml:5: sample: "),
    ("", "cad.yaml:1: is empty"),
    ("- 1\n", "cad.yaml:1: expected keys with values, found a list"),
    ("a: [\n", "cad.yaml:2: is not YAML: "),
    ("fields: 1\n", "cad.yaml:1: fields: expected keys with values, found 1"),
]


@pytest.mark.parametrize(("text", "error"), MISTAKES)
def test_each_mistake_is_told_with_file_line_key_and_what_was_expected(
    load: Any, text: str, error: str
) -> None:
    with pytest.raises(MappingErrors) as found:
        load(text)
    assert error in str(found.value)


def test_all_mistakes_are_told_at_once(load: Any) -> None:
    text = with_("blok: B", "ward: {column: Sex}", "simulated: {value: maybe}", without="gunshot_injury")
    with pytest.raises(MappingErrors) as found:
        load(text.replace("America/Chicago", "Mars/Base") + "colour: red\n")
    assert [(error.line, error.key) for error in found.value.errors] == [
        (4, "times.zone"), (5, "fields"), (11, "fields.blok"), (12, "fields.ward.column"),
        (13, "fields.simulated.value"), (14, "colour"),
    ]  # fmt: skip
    assert [part.split(": ")[1] for part in found.value.sentence.split("; cad.yaml:")] == [
        "times.zone", "fields", "fields.blok", "fields.ward.column", "fields.simulated.value",
    ]  # fmt: skip
    assert found.value.sentence.endswith(f"; and 1 more: `rapid sources check {found.value.path}` tells all.")


def test_the_shape_the_rules_the_sample_s_columns_and_its_rows_are_told_in_one_run(load: Any) -> None:
    text = with_(
        "block: {colum: B, otherwise: skip}", "blok: {value: x, column: Y}", "ward: WARD",
        "district: {column: ID, value: 7, tabel: {}}", "published_area: KIND", without="gunshot_injury",
    ).replace("report: incident", "report: incidents").replace("times: {zone", "colour: red\ntimes: {zon")  # fmt: skip
    sample = "ID,CASE,AT,CHANGED,KIND\n1,JK1,noon,,SHOTS\n2,JK2,midnight,,SHOTS\n"
    with pytest.raises(MappingErrors) as found:
        load(text, sample)
    assert [(error.line, error.key, error.message.split(";")[0][:33]) for error in found.value.errors] == [
        (2, "report", "expected 'incident' or 'issue', f"),
        (4, "colour", "is unknown"),
        (5, "times.zon", "is unknown"),
        (6, "fields", "gunshot_injury is missing: every "),
        (12, "fields.block.colum", "is unknown"),
        (13, "fields.blok", "is no field of IncidentReport"),
        (13, "fields.blok", "expected a column or a value, fou"),
        (13, "fields.blok.column", "the sample has no column 'Y'"),
        (14, "fields.ward.column", "the sample has no column 'WARD'"),
        (15, "fields.district", "expected a column or a value, fou"),
        (15, "fields.district.tabel", "is unknown"),
        (15, "fields.district.value", "expected a text, found 7"),
        (16, "fields.published_area", "no row of the sample can fill it"),
    ]


def test_times_are_tried_on_the_sample_while_something_else_is_wrong(load: Any) -> None:
    sample = "ID,CASE,AT,CHANGED,KIND\n1,JK1,noon,,SHOTS\n2,JK2,midnight,,SHOTS\n"
    with pytest.raises(MappingErrors) as found:
        load(with_("blok: ID"), sample)
    assert [(error.key, error.message.split(";")[0]) for error in found.value.errors] == [
        ("fields.occurred_at", "no row of the sample can fill it"),
        ("fields.revised_at", "no row of the sample can fill it"),
        ("fields.blok", "is no field of IncidentReport"),
    ]
    with pytest.raises(MappingErrors) as absent:
        load(
            with_("blok: ID", "ward: {column: ID, format: iso}").replace("fields:", "sample: no.csv\nfields:")
        )
    assert [error.key for error in absent.value.errors] == ["sample", "fields.blok", "fields.ward.format"]


def test_two_files_of_one_source_are_told_together_with_what_else_is_wrong(
    tmp_path: Path, policy: Policy
) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD + "colour: red\n")
    [wrong] = load_sources(tmp_path, policy).wrong.values()
    assert [error.key for error in wrong.errors] == ["source", "colour"]


def test_a_column_that_never_appears_is_told_with_what_there_is(load: Any) -> None:
    sample = "ID,CASE,AT,CHANGED_AT,KIND\n1,JK1,2026-07-04 22:40:00,,SHOTS\n"
    with pytest.raises(MappingErrors) as found:
        load(with_("block: BLOCK"), sample)
    assert [str(error) for error in found.value.errors] == [
        "cad.yaml:9: fields.revised_at.column: the sample has no column 'CHANGED'; did you mean 'CHANGED_AT'?",
        "cad.yaml:12: fields.block.column: the sample has no column 'BLOCK'; it has ID, CASE, AT, CHANGED_AT, KIND",
    ]
    assert load(with_("block: {column: BLOCK, optional: true}"), sample.replace("CHANGED_AT", "changed"))


def test_a_member_that_no_element_has_is_told(load: Any) -> None:
    text = GOOD.replace("format: csv", "format: json").replace("ID", "/a/id")
    with pytest.raises(MappingErrors) as found:
        load(
            text,
            '[{"a": {"idd": 1}, "AT": "2026-07-04", "KIND": "SHOTS", "CASE": 1, "CHANGED": "2026-07-04"}]',
        )
    assert [str(error) for error in found.value.errors] == [
        "cad.yaml:6: fields.report_id.column: the sample has no column '/a/id'; did you mean '/a/idd'?"
    ]


def test_one_wrong_file_does_not_stop_the_others(tmp_path: Path, policy: Policy) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD)
    (tmp_path / "c.yaml").write_text("source: c\n")
    (tmp_path / "d.yml").write_text(GOOD.replace("source: cad", "source: dad"))
    (tmp_path / ".e.yaml").write_text("nothing")
    found = load_sources(tmp_path, policy)
    assert sorted(found.right) == ["cad", "dad"]
    assert sorted(found.wrong) == ["b", "c"]
    assert found.wrong["b"].sentence == "b.yaml:1: source: 'cad' is also the source of a.yaml."
    assert load_sources(None, policy) == ({}, {}, {})
    assert "cannot be read" in load_sources(tmp_path / "nowhere", policy).wrong["nowhere"].sentence


def test_what_can_be_mapped_is_what_the_schemas_have() -> None:
    mapped = {name: {*schema.targets, "source"} for name, schema in SCHEMAS.items()}
    assert mapped == {"incident": set(IncidentReport.model_fields), "issue": set(IssueReport.model_fields)}


@pytest.mark.parametrize(
    "column",
    ["VICTIM_NAME", "name", "FirstName", "caller/phone", "/person/first", "alias", "DOB", "Suspect Race", "sex"],
)  # fmt: skip
def test_columns_about_persons_are_known(column: str) -> None:
    assert is_about_a_person(column)


@pytest.mark.parametrize(
    "column", ["STREET_NAME", "area_name", "VICTIMIZATION_PRIMARY", "stage", "AGENCY", "/place/block"]
)
def test_other_columns_are_not_about_persons(column: str) -> None:
    assert not is_about_a_person(column)


def read(mapping: SourceMapping, **row: Any) -> Report | OutOfScope:
    return mapping.read({name: value for name, value in (ROW | row).items() if value is not None})


def test_a_row_becomes_a_report(load: Any) -> None:
    mapping = load(with_("beat: BEAT", "published_area: AREA", "district: DIST", "point: {lat_lon: LL}"))
    found = read(mapping, beat="322", area="25.0", dist="003", ll="(41.88, -87.72)")
    assert found == IncidentReport(
        source="cad", report_id="1", incident_number="JK1", occurred_at=datetime(2026, 7, 5, 3, 40, tzinfo=UTC),
        revised_at=datetime(2026, 7, 5, 3, 40, tzinfo=UTC), event="gunfire", gunshot_injury=None, beat="0322",
        published_area=25, district="3", point=Point(lat=41.88, lon=-87.72),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("row", "column", "expected", "reason"),
    [
        ({"id": None}, "ID", "report_id, found nothing", "invalid"),
        ({"at": "noon"}, "AT", "a time such as", "impossible_time"),
        ({"at": None}, "AT", "occurred_at, found nothing", "invalid"),
        ({"kind": "PARTY"}, "KIND", "a value of the mapping's table: SHOTS, STABBING", "invalid"),
        ({"ll": "41.88"}, "LL", "a latitude, a comma and a longitude", "impossible_place"),
        ({"ll": "141.88,-87"}, "LL", "a latitude of -90 to 90", "impossible_place"),
        ({"area": "Austin"}, "AREA", "a whole number", "invalid"),
        ({"id": "1|2"}, "ID", "printable text without | for report_id", "invalid"),
        ({"sim": "perhaps"}, "SIM", "yes or no", "invalid"),
    ],
)
def test_a_row_that_cannot_become_a_report_names_the_column(
    load: Any, row: dict[str, Any], column: str, expected: str, reason: str
) -> None:
    mapping = load(with_("published_area: AREA", "point: {lat_lon: LL}", "simulated: SIM"))
    with pytest.raises(RowDefect) as found:
        read(mapping, **row)
    assert (found.value.column, found.value.reason) == (column, reason)
    assert found.value.expected.startswith(expected)


@pytest.mark.parametrize(
    ("otherwise", "outcome"),
    [("skip", OutOfScope("event")), ("keep", "robbery"), ("value", "other")],
)
def test_what_an_unknown_value_means_is_said_by_the_file(load: Any, otherwise: str, outcome: Any) -> None:
    said = "otherwise_value: other" if otherwise == "value" else f"otherwise: {otherwise}"
    found = read(load(GOOD.replace("assault}}", f"assault}}, {said}}}")), kind="Robbery")
    assert (found.event if isinstance(found, IncidentReport) else found) == outcome


def test_capitals_and_blanks_of_values_do_not_count(load: Any) -> None:
    found = read(load(GOOD), kind="  Shots ")
    assert isinstance(found, IncidentReport)
    assert found.event == "gunfire"


@pytest.mark.parametrize(
    ("times", "text", "at"),
    [
        ("{zone: America/Chicago}", "2026-11-01 01:30:00", "2026-11-01T06:30"),  # came twice: the first one
        ("{zone: America/Chicago}", "2026-03-08 02:30:00", "2026-03-08T08:30"),  # was skipped: moves forward
        ("{zone: America/Chicago}", "2026-11-01T01:30:00-06:00", "2026-11-01T07:30"),  # an offset holds
        ("{zone: America/Chicago, format: '%d.%m.%Y %H:%M'}", "01.11.2026 01:30", "2026-11-01T06:30"),
        ("{format: '%d.%m.%Y %H:%M %z'}", "01.11.2026 01:30 +0100", "2026-11-01T00:30"),
        ("{format: epoch_s}", "1783222800", "2026-07-05T03:40"),
        ("{format: epoch_ms}", "1783222800000", "2026-07-05T03:40"),
        ("{format: iso}", "2026-07-05T03:40Z", "2026-07-05T03:40"),
    ],
)
def test_times_in_their_zone(load: Any, times: str, text: str, at: str) -> None:
    found = read(load(GOOD.replace("{zone: America/Chicago}", times)), at=text)
    assert isinstance(found, IncidentReport)
    assert found.occurred_at == datetime.fromisoformat(f"{at}+00:00")


def test_a_time_without_offset_is_refused_where_no_zone_is_named(load: Any) -> None:
    with pytest.raises(RowDefect, match="a time with an offset"):
        read(load(GOOD.replace("times: {zone: America/Chicago}", "times: {format: iso}")))


def test_patterns_that_tell_no_moment() -> None:
    assert why_impossible("%H:%M", None) is not None
    assert why_impossible("%Q", None) is not None


ISSUE = """source: crm
report: issue
format: json
items: /data/list
fields:
  request_number: {column: /id, prefix: CRM-}
  category: {column: /type, table: {lamp: street_light, paint: graffiti}, otherwise: skip}
  status: {column: /state, table: {new: open, done: completed}}
  created_at: /created
  revised_at: /changed
  address: /place/street
  duplicate: {column: /dup, optional: true}
  point: {geojson: /place/shape}
"""


def test_a_request_from_json_with_a_path_to_the_list(load: Any, tmp_path: Path) -> None:
    mapping = load(ISSUE)
    file = tmp_path / "x.json"
    file.write_text(
        '{"data": {"list": [{"id": 7, "type": "Lamp", "state": "new", "created": "2026-07-02T09:00:00-05:00", '
        '"changed": "2026-07-02T09:00:00-05:00", "place": {"street": "4015 W WEST END AVE", "shape": {"type": '
        '"Feature", "geometry": {"type": "Point", "coordinates": [-87.727, 41.8836]}}}, "dup": true}, 5]}}'
    )
    first, second = items_of(file, mapping.file)
    assert first.item is not None
    found = mapping.read(first.item)
    assert isinstance(found, IssueReport)
    assert (found.key, found.category, found.duplicate) == ("crm:CRM-7", "street_light", True)
    assert found.point == Point(lat=41.8836, lon=-87.727)
    assert second == (2, None, "one JSON object")


def test_an_unknown_category_in_a_table_is_told(load: Any) -> None:
    with pytest.raises(
        MappingErrors, match=r"category.table.lamp: expected one of .*street_light.*, found 'lamps'"
    ):
        load(ISSUE.replace("street_light", "lamps"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"data": {}}', "has no list at /data/list"),
        ('{"data"', "is no JSON"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_a_document_without_the_list(load: Any, tmp_path: Path, content: str, sentence: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(FileProblem, match=sentence):
        list(items_of(file, load(ISSUE).file))


@pytest.mark.parametrize("content", ['[{"a": 1}, {"a": 2}', '[{"a": 1}, ' + "[" * 100_000])
def test_an_array_that_breaks_off_gives_what_stands_before(load: Any, tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    rows = items_of(file, load(ISSUE.replace("items: /data/list\n", "")).file)
    assert next(rows).item == {"a": 1}
    with pytest.raises(FileProblem):
        list(rows)


def test_the_examples_are_right(policy: Policy) -> None:
    found = load_sources(EXAMPLES, policy)
    assert (sorted(found.right), found.wrong) == (["cad", "shotspotter-live"], {})
