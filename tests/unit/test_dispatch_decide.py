"""Which work a response asks for, where, and whether it still does."""

import pytest

from agents.dispatch.decide import DispatchInputs, decide
from infra.policy.load import load_policy
from schemas.incident import Incident
from schemas.issue import Issue
from schemas.policy import Policy
from schemas.work_order import Site, WorkOrderCommand
from tests.unit.made_up import AT, FAR, NEAR, day, incident, issue, report, request, response

ADDRESS = "4015 W WASHINGTON BLVD"


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy()


def commands(policy: Policy, one: Incident, reason: Issue | None) -> list[WorkOrderCommand]:
    inputs = DispatchInputs(response=response(one, policy), issue=reason)
    return [command for command, _ in decide(inputs, policy)]


def test_an_open_issue_in_the_zone_becomes_a_cause_to_fix_it(policy: Policy) -> None:
    (command,) = commands(policy, incident(), issue())
    assert command.order_key == f"street_light|fix|{ADDRESS}"
    assert command.site == Site(key=ADDRESS, basis="address", address=ADDRESS, point=NEAR, area=26)
    assert (command.rule, command.standing, command.covers) == ("open_issue_in_zone", "live", ("SR1",))
    assert command.because == "Request SR1 was open 56 m away, within 244 m."
    assert (command.at, command.ended_at, command.version) == (AT, None, 2)


def test_a_request_made_after_the_incident_counts_from_when_it_was_made(policy: Policy) -> None:
    (command,) = commands(policy, incident(), issue(request(created_at=day(3), revised_at=day(3))))
    assert command.at == day(3)


@pytest.mark.parametrize(
    "reason",
    [
        issue(request(point=FAR)),
        issue(request(point=None)),
        issue(request(created_at=day(45), revised_at=day(45))),
        issue(request(parent_number="SR9")),
        issue(request(status="completed")),
        issue(request(status="canceled")),
        issue(request(category="potholes")),
    ],
)
def test_what_is_far_late_folded_closed_or_not_of_the_plan_asks_for_nothing(
    policy: Policy, reason: Issue
) -> None:
    assert commands(policy, incident(), reason) == []


def test_a_request_closed_before_the_incident_never_asked_and_is_void(policy: Policy) -> None:
    closed = issue(request(), request(revised_at=day(-1), status="completed"))
    (command,) = commands(policy, incident(), closed)
    assert (command.standing, command.ended_at) == ("void", None)
    assert "before both held" in command.because


def test_a_request_closed_after_the_incident_is_withdrawn_at_that_time(policy: Policy) -> None:
    closed = issue(request(), request(revised_at=day(6), status="completed"))
    (command,) = commands(policy, incident(), closed)
    assert (command.standing, command.at, command.ended_at) == ("withdrawn", AT, day(6))


def test_an_unfounded_incident_withdraws_its_causes(policy: Policy) -> None:
    one = incident(report(), report(revised_at=day(2), validity="unfounded"))
    (fix,) = commands(policy, one, issue())
    inspections = commands(policy, one, None)
    assert {(command.standing, command.ended_at) for command in [fix, *inspections]} == {
        ("withdrawn", day(2))
    }
    assert len(inspections) == 2


def test_a_moved_incident_withdraws_its_inspections_there_and_asks_for_them_here(policy: Policy) -> None:
    moved = report(revised_at=day(2), point=FAR, block="4000 W NORTH AVE")
    asked = commands(policy, incident(report(), moved), None)
    assert {(command.order_key, command.standing) for command in asked} == {
        ("street_light|inspect|4000 BLOCK W WASHINGTON BLVD", "withdrawn"),
        ("alley_light|inspect|4000 BLOCK W WASHINGTON BLVD", "withdrawn"),
        ("street_light|inspect|4000 BLOCK W NORTH AVE", "live"),
        ("alley_light|inspect|4000 BLOCK W NORTH AVE", "live"),
    }


def test_a_place_that_never_held_is_void(policy: Policy) -> None:
    late = report(report_id="V2", revised_at=day(5), block="4000 W NORTH AVE")
    standings = {
        command.site.key: command.standing for command in commands(policy, incident(report(), late), None)
    }
    assert standings == {"4000 BLOCK W WASHINGTON BLVD": "live", "4000 BLOCK W NORTH AVE": "void"}


def test_the_sentence_says_that_what_never_held_never_did(policy: Policy) -> None:
    alone = request(request_number="SR2", parent_number="SR1", revised_at=day(5), address="10 N PULASKI RD")
    never, live = commands(policy, incident(), issue(request(), alone))
    assert (never.site.key, never.standing, live.standing) == ("10 N PULASKI RD", "void", "live")
    assert never.because.endswith("All reports of the request together say that this never held.")


def test_a_battery_that_becomes_a_homicide_has_more_looked_at_from_then_on(policy: Policy) -> None:
    one = incident(report(), report(revised_at=day(4), event="homicide"))
    asked = {command.category: (command.standing, command.at) for command in commands(policy, one, None)}
    assert asked == dict.fromkeys(
        ("street_light", "alley_light", "vacant_lot", "abandoned_building"), ("live", AT)
    )


def test_a_request_that_was_reopened_asks_again_under_the_same_cause(policy: Policy) -> None:
    closed = request(revised_at=day(6), status="completed")
    (before,) = commands(policy, incident(), issue(request(), closed))
    (after,) = commands(policy, incident(), issue(request(), closed, request(revised_at=day(7))))
    assert (before.standing, after.standing) == ("withdrawn", "live")
    assert (before.cause_id, before.version + 1) == (after.cause_id, after.version)


def test_each_cause_has_a_record_that_gives_the_command(policy: Policy) -> None:
    inputs = DispatchInputs(response=response(incident(), policy), issue=issue())
    ((command, record),) = decide(inputs, policy)
    assert (record.subject, record.version, record.rule) == (command.cause_id, 2, "open_issue_in_zone")
    assert record.inputs == inputs.model_dump_json()
    assert record.output == command.model_dump_json()
