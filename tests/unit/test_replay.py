"""A decision taken again from its record: the same, or where it differs."""

from datetime import UTC, datetime
from typing import get_args, get_type_hints

import pytest

from agents.dispatch.decide import DispatchInputs
from agents.dispatch.decide import decide as decide_dispatch
from agents.explain import LOCATIONS, RULES, STANDINGS, STATES, routing_in_words, rule_in_words
from agents.intake.decide import decide_incident, decide_issue
from agents.intake.fold import IncidentInputs, IssueInputs
from agents.orders.decide import OrderInputs
from agents.orders.decide import decide as decide_order
from agents.replay import Difference, Irreproducible, difference, first_difference, recompute
from agents.triage.decide import TriageInputs
from agents.triage.decide import decide as decide_triage
from infra.policy.load import load_policy
from schemas.base import Point
from schemas.decision import DecisionRecord
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.policy import Policy
from schemas.response import Location, TriageDecision
from schemas.work_order import OrderState, Standing, WorkOrderCommand

AT = datetime(2026, 7, 4, 3, 12, tzinfo=UTC)
HERE = Point(lat=41.7791, lon=-87.6445)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy()


@pytest.fixture(scope="module")
def records(policy: Policy) -> list[DecisionRecord]:
    """One record of each stage, and a second one of dispatch, all from one incident with an issue next to it."""
    report = IncidentReport(
        source="cpd", report_id="R1", incident_number="ZZ1", occurred_at=AT, revised_at=AT, event="homicide",
        gunshot_injury=True, block="700 W MADE UP ST", point=HERE,
    )  # fmt: skip
    request = IssueReport(
        source="311", request_number="SR1", category="street_light", status="open", created_at=AT, revised_at=AT,
        address="710 W MADE UP ST", point=HERE,
    )  # fmt: skip
    incident, incident_record = decide_incident(IncidentInputs(reports=(report,)), policy.version)
    issue, issue_record = decide_issue(
        IssueInputs(source="311", request_number="SR1", reports=(request,)), policy.version
    )
    location = Location(
        area=68, computed_area=68, published_area=None, rule="point_inside_area", differs=False
    )
    triage, triage_record = decide_triage(TriageInputs(incident=incident, locations=(location,)), policy)
    assert triage.response is not None
    (fix,) = decide_dispatch(DispatchInputs(response=triage.response, issue=issue), policy)
    inspections = decide_dispatch(DispatchInputs(response=triage.response, issue=None), policy)
    _, order_record = decide_order(OrderInputs(causes=(fix[0],)), policy)
    assert len(inspections) > 1
    return [incident_record, issue_record, triage_record, fix[1], inspections[-1][1], order_record]


def of_stage(records: list[DecisionRecord], stage: str) -> DecisionRecord:
    return next(record for record in records if record.stage == stage)


def test_every_stage_gives_its_record_again(records: list[DecisionRecord], policy: Policy) -> None:
    assert [recompute(record, policy) for record in records] == records
    assert [difference(record, policy) for record in records] == [None] * 6


def test_a_change_is_found_at_its_first_byte(records: list[DecisionRecord], policy: Policy) -> None:
    record = of_stage(records, "triage")
    changed = record.model_copy(update={"output": record.output.replace("respond", "reZpond", 1)})
    found = difference(changed, policy)
    assert found is not None
    assert (found.stage, found.subject, found.version, found.field) == (
        "triage", record.subject, record.version, "output",
    )  # fmt: skip
    assert found.position == record.output.index("respond") + 2
    assert (found.recorded[:3], found.again[:3]) == ("Zpo", "spo")


def test_positions_count_bytes_and_a_missing_end_is_a_difference(records: list[DecisionRecord]) -> None:
    record = of_stage(records, "triage").model_copy(update={"because": "–x"})
    shorter = record.model_copy(update={"because": "–"})
    found = first_difference(record, shorter)
    assert found == Difference("triage", record.subject, record.version, "because", 3, "x", "")


def test_inputs_that_say_the_same_in_other_bytes_are_a_difference(
    records: list[DecisionRecord], policy: Policy
) -> None:
    record = of_stage(records, "orders")
    found = difference(record.model_copy(update={"inputs": record.inputs.replace(":", ": ", 1)}), policy)
    assert found is not None
    assert found.field == "inputs"


def test_another_policy_is_a_difference(records: list[DecisionRecord], policy: Policy) -> None:
    other = policy.model_copy(update={"plans": (), "version": "other"})
    assert difference(of_stage(records, "triage"), other) is not None


def test_a_record_of_an_unknown_policy_cannot_be_taken_again(records: list[DecisionRecord]) -> None:
    found = difference(records[0], None)
    assert found is not None
    assert (found.field, found.position) == ("policy_version", None)


@pytest.mark.parametrize("stage", ["intake.incident", "intake.issue", "triage", "dispatch", "orders"])
@pytest.mark.parametrize("inputs", ["", "{", "{}", "[]", "null", '{"reports":[]}', '{"causes":[]}'])
def test_inputs_that_cannot_be_read_are_told_not_raised(
    records: list[DecisionRecord], policy: Policy, stage: str, inputs: str
) -> None:
    damaged = of_stage(records, stage).model_copy(update={"inputs": inputs})
    with pytest.raises(Irreproducible):
        recompute(damaged, policy)
    found = difference(damaged, policy)
    assert found is not None
    assert found.position is None


def test_a_cause_that_its_inputs_do_not_lead_to(records: list[DecisionRecord], policy: Policy) -> None:
    record = of_stage(records, "dispatch").model_copy(update={"subject": records[0].subject})
    with pytest.raises(Irreproducible, match="do not lead to this cause"):
        recompute(record, policy)


# --- the words that decisions are explained in ----------------------------------------------------------


def choices(model: type, field: str) -> set[str]:
    return set(get_args(get_type_hints(model)[field]))


def test_every_rule_standing_state_and_location_has_words() -> None:
    assert choices(TriageDecision, "rule") <= RULES.keys()
    assert choices(WorkOrderCommand, "rule") <= RULES.keys()
    assert choices(Location, "rule") == LOCATIONS.keys()
    assert set(get_args(Standing)) == STANDINGS.keys()
    assert set(get_args(OrderState)) == STATES.keys()


def test_the_standing_of_a_cause_is_part_of_its_rule_in_words() -> None:
    words = rule_in_words("standing_inspection:withdrawn")
    assert words == f"{RULES['standing_inspection']} {STANDINGS['withdrawn']}"
    assert rule_in_words("a_rule_of_tomorrow") is None


def test_a_routing_rule_of_the_policy_is_named(policy: Policy) -> None:
    assert routing_in_words("parks_first") == "The policy's routing rule parks_first holds."
    assert routing_in_words("owner_of_category").startswith("No exception holds")
