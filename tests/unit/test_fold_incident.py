"""What the reports about one case add up to."""

from itertools import permutations

import pytest

from agents.intake.fold import agreed, incident_report_identity
from schemas.incident import Incident, IncidentPhase, IncidentReport, incident_id_of
from tests.unit.made_up import AT, FAR, HERE, day, incident, report


def in_any_order(*reports: IncidentReport) -> Incident:
    """The fold, the same in all orders."""
    first, *others = [incident(*order) for order in permutations(reports)]
    assert others == [first] * len(others)
    return first


def test_one_report_is_an_incident_known_from_the_moment_it_happened() -> None:
    phase = IncidentPhase(
        since=AT, validity="valid", kind="nonfatal_shooting", occurred_at=AT, block="4000 W WASHINGTON BLVD",
        published_area_name=None, published_area=None, point=HERE,
    )  # fmt: skip
    assert incident(report()) == Incident(
        incident_id=incident_id_of("JH1"), number="JH1", version=1, validity="valid", kind="nonfatal_shooting",
        victims=1, killed=0, occurred_at=AT, revised_at=day(1), location_type=None, beat=None, district=None,
        ward=None, phases=(phase,), sources=("cpd",), simulated=False,
    )  # fmt: skip


def test_victims_of_one_case_are_one_incident() -> None:
    one = in_any_order(report(), report(report_id="V2"), report(report_id="V3", event="homicide"))
    assert (one.victims, one.killed, one.kind, one.version) == (3, 1, "fatal_shooting", 3)
    assert len(one.phases) == 1


def test_a_person_whom_two_sources_report_is_one_victim() -> None:
    one = in_any_order(report(), report(source="cad", report_id="C1"))
    assert (one.victims, one.killed, one.sources) == (1, 0, ("cad", "cpd"))


def test_the_source_that_tells_of_most_victims_is_believed_and_so_is_the_one_of_most_killed() -> None:
    one = in_any_order(
        report(),
        report(report_id="V2"),
        report(source="cad", report_id="C1", event="homicide"),
        report(source="cad", report_id="C2", gunshot_injury=False),
    )
    assert (one.victims, one.killed, one.kind) == (2, 1, "fatal_shooting")


def test_a_source_whose_reports_are_all_unfounded_counts_nobody() -> None:
    taken_back = [
        report(source="cad", report_id=name, revised_at=day(2), validity="unfounded") for name in ("C1", "C2")
    ]
    one = in_any_order(report(), *taken_back)
    assert (one.validity, one.victims) == ("valid", 1)


def test_a_row_without_gunshot_injury_is_no_victim_of_the_shooting() -> None:
    one = in_any_order(report(), report(report_id="V2", gunshot_injury=False))
    assert (one.victims, one.kind) == (1, "nonfatal_shooting")


def test_the_newest_revision_of_a_report_holds() -> None:
    one = in_any_order(
        report(),
        report(revised_at=day(3), block="10 N PULASKI RD"),
        report(revised_at=day(2), block="1 N PULASKI RD"),
    )
    assert [phase.block for phase in one.phases] == [
        "4000 W WASHINGTON BLVD", "1 N PULASKI RD", "10 N PULASKI RD",
    ]  # fmt: skip
    assert (one.now.since, one.revised_at, one.void_phases) == (day(3), day(3), ())


def test_a_battery_that_becomes_a_homicide_is_a_fatal_shooting_from_then_on() -> None:
    one = in_any_order(report(), report(revised_at=day(4), event="homicide"))
    assert [(phase.since, phase.kind) for phase in one.phases] == [
        (AT, "nonfatal_shooting"),
        (day(4), "fatal_shooting"),
    ]


def test_an_unfounded_report_ends_the_incident_and_keeps_what_it_was() -> None:
    one = in_any_order(report(), report(revised_at=day(2), validity="unfounded"))
    assert (one.validity, one.kind, one.occurred_at) == ("unfounded", "nonfatal_shooting", AT)
    assert [phase.validity for phase in one.phases] == ["valid", "unfounded"]


def test_an_incident_stands_as_long_as_one_of_its_reports_does() -> None:
    one = in_any_order(
        report(), report(report_id="V2", event="homicide"),
        report(report_id="V2", event="homicide", revised_at=day(2), validity="unfounded"),
    )  # fmt: skip
    assert (one.validity, one.kind, one.victims, one.killed) == ("valid", "nonfatal_shooting", 1, 0)


def test_a_moved_point_begins_a_phase() -> None:
    one = in_any_order(report(), report(revised_at=day(2), point=FAR))
    assert [(phase.since, phase.point) for phase in one.phases] == [(AT, HERE), (day(2), FAR)]


def test_a_revision_that_changes_nothing_of_a_phase_begins_none() -> None:
    one = in_any_order(report(), report(revised_at=day(2), beat="1114"))
    assert (len(one.phases), one.version, one.beat, one.revised_at) == (1, 2, "1114", day(2))


@pytest.mark.parametrize(
    ("gunshot", "kind"),
    [(True, "fatal_shooting"), (False, "not_gun_violence"), (None, "homicide_cause_unknown")],
)
def test_a_homicide_is_kept_whatever_its_cause(gunshot: bool | None, kind: str) -> None:
    one = incident(report(event="homicide", gunshot_injury=gunshot))
    assert (one.kind, one.victims) == (kind, 1 if gunshot else 0)


def test_gunfire_that_hit_nobody_is_gunfire() -> None:
    assert incident(report(event="gunfire", gunshot_injury=False)).kind == "gunfire"


def test_of_two_contents_of_one_revision_the_smaller_counts_and_the_other_is_reported() -> None:
    smaller, larger = report(block="A ST"), report(block="B ST")
    assert agreed([larger, smaller], incident_report_identity) == ([smaller], [larger])
    one = in_any_order(larger, smaller)
    assert (one.version, one.now.block, len(one.phases)) == (2, "A ST", 1)


def test_what_a_contradicting_report_would_say_alone_is_void() -> None:
    one = in_any_order(report(block="A ST"), report(block="B ST"))
    assert one.void_phases == (one.now.model_copy(update={"block": "B ST"}),)


def test_a_place_that_only_an_order_of_arrival_could_have_acted_on_is_void() -> None:
    later = report(report_id="V2", revised_at=day(5), point=FAR)
    one = in_any_order(report(), later)
    assert [phase.point for phase in one.phases] == [HERE]
    assert one.void_phases == (one.now.model_copy(update={"point": FAR}),)
