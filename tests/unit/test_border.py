"""What the border refuses: reason, field, and what to do."""

from datetime import UTC, datetime, timedelta

import pytest

from agents.intake.border import Refusal, refuse_incident_report, refuse_issue_report
from infra.policy.load import load_policy
from schemas.base import Point
from schemas.policy import Policy
from tests.unit.made_up import day, report, request

NOW = day(30)
WITHIN = "Chicago lies within latitude 41.63 to 42.04 and longitude -87.96 to -87.51; "


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy()


def test_good_reports_come_in(policy: Policy) -> None:
    assert refuse_incident_report(report(), policy, NOW) is None
    assert refuse_issue_report(request(), policy, NOW) is None
    assert refuse_incident_report(report(point=None), policy, NOW) is None


@pytest.mark.parametrize(
    ("point", "hint"),
    [
        ((0, 0), "0, 0 stands for 'not geocoded': leave the point out."),
        ((-87.73, 41.88), "latitude and longitude look swapped: send them the other way round."),
        ((40.7, -74.0), "correct the coordinates, or leave the point out and name the area."),
    ],
)
def test_impossible_coordinates_are_refused_with_what_to_do(
    policy: Policy, point: tuple[float, float], hint: str
) -> None:
    refusal = Refusal("impossible_place", "point", WITHIN + hint)
    place = Point(lat=float(point[0]), lon=float(point[1]))
    assert refuse_incident_report(report(point=place), policy, NOW) == refusal
    assert refuse_issue_report(request(point=place), policy, NOW) == refusal


def test_a_time_may_be_ahead_of_our_clock_by_the_skew_and_no_more(policy: Policy) -> None:
    skew = timedelta(seconds=policy.city.future_skew_s)
    assert refuse_incident_report(report(revised_at=NOW + skew), policy, NOW) is None
    refused = refuse_incident_report(report(revised_at=NOW + skew + timedelta(seconds=1)), policy, NOW)
    assert refused is not None
    assert refused[:2] == ("impossible_time", "revised_at")
    assert "check the sender's clock and zone" in refused.expected


def test_a_time_before_the_earliest_of_the_city_is_refused(policy: Policy) -> None:
    early = datetime(1999, 12, 31, tzinfo=UTC)
    expected = "not before 2001-01-01; correct the date."
    assert refuse_incident_report(report(occurred_at=early), policy, NOW) == Refusal(
        "impossible_time", "occurred_at", expected
    )
    assert refuse_issue_report(request(created_at=early), policy, NOW) == Refusal(
        "impossible_time", "created_at", expected
    )


def test_an_unknown_category_is_refused_with_the_known_ones(policy: Policy) -> None:
    refused = refuse_issue_report(request(category="potholes"), policy, NOW)
    assert refused == Refusal(
        "unknown_category", "category",
        "one of abandoned_building, alley_light, graffiti, street_light, vacant_lot, viaduct_light.",
    )  # fmt: skip


def test_an_area_that_the_city_does_not_have_is_refused(policy: Policy) -> None:
    expected = Refusal("invalid", "published_area", "the number of an area of Chicago, or nothing.")
    assert refuse_incident_report(report(published_area=78), policy, NOW) == expected
    assert refuse_issue_report(request(published_area=78), policy, NOW) == expected
