"""What an incident calls for, how grave it is, and the sentence that says why."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from agents.triage.decide import NearIssue, decide
from agents.triage.neighbour import Neighbour
from infra.policy.load import load_policy
from schemas.base import Point
from schemas.incident import Incident
from schemas.policy import Policy
from schemas.response import Location, SeverityPart, TriageDecision
from tests.unit.made_up import AT, FAR, HERE, INSIDE, NEAR, day, incident, report, triaged

LOWER, HIGHER = UUID(int=0), UUID(int=2**128 - 1)
STANDARD = INSIDE.model_copy(update={"area": 7, "computed_area": 7})


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy()


def decided(policy: Policy, one: Incident, *locations: Location, **around: Any) -> TriageDecision:
    return decide(triaged(one, locations, **around), policy)[0]


def shooting(at: datetime, point: Point | None = NEAR, **changed: Any) -> Neighbour:
    fields: dict[str, Any] = {"incident_id": HIGHER, "version": 3, "validity": "valid", "kind": "gunfire"}
    return Neighbour(**{**fields, "kind": "nonfatal_shooting", **changed}, occurred_at=at, point=point)


def outage(**changed: Any) -> NearIssue:
    fields: dict[str, Any] = {
        "issue_id": HIGHER, "version": 2, "status": "open", "folded": False, "category": "street_light",
        "created_at": day(-2), "closed_at": None, "point": NEAR,
    }  # fmt: skip
    return NearIssue(**fields | changed)


def part(decision: TriageDecision, factor: str) -> SeverityPart | None:
    return next((one for one in decision.parts if one.factor == factor), None)


# --- rules and locations


def test_a_shooting_in_a_priority_area_opens_its_plan(policy: Policy) -> None:
    decision = decided(policy, incident())
    assert decision.rule == "respond"
    assert decision.because == (
        "A nonfatal shooting in West Garfield Park (priority): plan nonfatal_priority, 45 days."
    )
    assert decision.response is not None
    (zone,) = decision.response.zones
    assert (zone.centre, zone.radius_m, zone.opens_at, zone.ends_at) == (HERE, 244, AT, day(45))
    assert (zone.since, zone.until, decision.response.status) == (AT, None, "active")


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        (
            {"published_area": 25, "differs": True},
            "in West Garfield Park by its point (published as Austin) (priority)",
        ),
        ({"rule": "point_on_border"}, "on the border of West Garfield Park (priority)"),
        (
            {"rule": "point_outside_every_area", "computed_area": None, "area": None},
            "outside every area (standard)",
        ),
        (
            {"rule": "point_outside_every_area", "computed_area": None, "published_area": 26},
            "in West Garfield Park, as published, for its point lies outside every area (priority)",
        ),
        (
            {"rule": "published_name_decides", "computed_area": None, "published_area": 26},
            "in West Garfield Park, as published, for it has no coordinates (priority)",
        ),
        ({"rule": "no_location", "computed_area": None, "area": None}, "outside every area (standard)"),
    ],
)
def test_the_sentence_says_how_the_area_was_found(
    policy: Policy, location: dict[str, Any], sentence: str
) -> None:
    decision = decided(policy, incident(), INSIDE.model_copy(update=location))
    assert decision.because.startswith(f"A nonfatal shooting {sentence}: plan ")


def test_a_homicide_by_other_means_is_kept_and_opens_nothing(policy: Policy) -> None:
    decision = decided(policy, incident(report(event="homicide", gunshot_injury=False)))
    assert (decision.rule, decision.response, decision.severity, decision.parts) == (
        "not_gun_violence", None, 0, (),
    )  # fmt: skip


def test_a_kind_without_a_plan_opens_nothing(policy: Policy) -> None:
    without = policy.model_copy(update={"plans": ()})
    decision = decided(without, incident())
    assert decision.because == "The policy has no plan for a nonfatal shooting in a priority area."
    assert (decision.rule, decision.response) == ("no_plan", None)


def test_an_unfounded_incident_ends_its_response(policy: Policy) -> None:
    decision = decided(policy, incident(report(), report(revised_at=day(2), validity="unfounded")))
    assert decision.rule == "unfounded"
    assert decision.response is not None
    assert decision.response.status == "ended"
    assert [(zone.since, zone.until) for zone in decision.response.zones] == [(AT, day(2))]


def test_a_moved_incident_has_two_zones_of_which_the_first_has_ended(policy: Policy) -> None:
    decision = decided(policy, incident(report(), report(revised_at=day(2), point=FAR)), INSIDE, STANDARD)
    assert decision.response is not None
    assert [(zone.centre, zone.until, zone.area) for zone in decision.response.zones] == [
        (HERE, day(2), 26),
        (FAR, None, 7),
    ]


def test_a_void_phase_has_a_zone_that_ended_when_it_began(policy: Policy) -> None:
    one = incident(report(), report(report_id="V2", revised_at=day(5), point=FAR))
    response = decided(policy, one).response
    assert response is not None
    assert [(zone.centre, zone.since, zone.until) for zone in response.zones] == [
        (FAR, AT, AT),
        (HERE, AT, None),
    ]


# --- severity


def test_severity_is_the_sum_of_its_parts_and_each_part_says_why(policy: Policy) -> None:
    one = incident(report(event="homicide"), report(report_id="V2"))
    decision = decided(policy, one, neighbours=(shooting(day(-3)),), issues=(outage(),))
    assert [(one.factor, one.points) for one in decision.parts] == [
        ("kind", 50), ("victims", 10), ("tier", 25), ("near_repeat", 20), ("open_issues", 2),
    ]  # fmt: skip
    kind, victims, tier, repeat, issues = (one.because for one in decision.parts)
    assert (kind, tier) == ("a fatal shooting", "a priority area")
    assert "1" in victims
    assert "1" in issues
    assert "122 m" in repeat
    assert "14 days" in repeat
    assert (decision.severity, decision.version) == (107, 2 + 3 + 2)
    assert decision.response is not None
    assert decision.response.priority == "urgent"


@pytest.mark.parametrize(
    "other",
    [
        shooting(day(-14) - timedelta(seconds=1)),
        shooting(day(1)),
        shooting(day(-3), FAR),
        shooting(day(-3), None),
        shooting(day(-3), validity="unfounded"),
        shooting(day(-3), kind="gunfire"),
    ],
)
def test_what_is_too_early_later_far_unfounded_or_no_shooting_is_no_near_repeat(
    policy: Policy, other: Neighbour
) -> None:
    assert part(decided(policy, incident(), neighbours=(other,)), "near_repeat") is None


def test_of_two_shootings_at_the_same_instant_just_the_one_with_the_higher_id_is_the_repeat(
    policy: Policy,
) -> None:
    before = decided(policy, incident(), neighbours=(shooting(AT, incident_id=LOWER),))
    after = decided(policy, incident(), neighbours=(shooting(AT, incident_id=HIGHER),))
    assert (part(before, "near_repeat") is None, part(after, "near_repeat") is None) == (False, True)


@pytest.mark.parametrize(
    "other",
    [
        outage(folded=True),
        outage(category="potholes"),
        outage(created_at=day(1)),
        outage(status="completed", closed_at=day(-1)),
        outage(status="completed"),
        outage(point=FAR),
        outage(point=None),
    ],
)
def test_an_issue_that_was_not_open_around_at_the_time_does_not_count(
    policy: Policy, other: NearIssue
) -> None:
    assert part(decided(policy, incident(), issues=(other,)), "open_issues") is None


def test_an_issue_closed_after_the_incident_was_open_at_the_time(policy: Policy) -> None:
    closed = outage(status="completed", closed_at=day(1))
    assert part(decided(policy, incident(), issues=(closed,)), "open_issues") is not None


def test_points_from_open_issues_have_a_cap(policy: Policy) -> None:
    issues = tuple(outage(issue_id=UUID(int=number)) for number in range(20))
    found = part(decided(policy, incident(), issues=issues), "open_issues")
    assert found is not None
    assert (found.points, "20" in found.because) == (10, True)
