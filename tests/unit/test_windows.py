"""A later shooting in its zone extends a response's window. Pure."""

from typing import Any
from uuid import UUID

import pytest

from agents.dispatch.decide import DispatchInputs
from agents.dispatch.decide import decide as dispatch
from agents.recount import may_extend
from agents.triage.decide import decide
from agents.triage.neighbour import Neighbour
from infra.policy.load import load_policy
from schemas.incident import Incident
from schemas.policy import Policy
from schemas.response import TriageDecision
from tests.unit.made_up import AT, FAR, NEAR, day, incident, issue, report, request, triaged

POLICY = load_policy()
CASE = incident()


def later(days: float, number: int = 1, **changed: Any) -> Neighbour:
    """Another shooting so many days later, 56 m away."""
    at = day(days)
    fields: dict[str, Any] = {
        "incident_id": UUID(int=number), "version": 1, "validity": "valid", "kind": "nonfatal_shooting",
        "occurred_at": at, "point": NEAR, "number": f"N{number}", "sources": ("cpd",), "may_extend_from": at,
    }  # fmt: skip
    return Neighbour(**fields | changed)


def decided(*around: Neighbour, one: Incident = CASE, policy: Policy = POLICY) -> TriageDecision:
    return decide(triaged(one, neighbours=around), policy)[0]


def days_of(decision: TriageDecision) -> float:
    assert decision.response is not None
    return (decision.response.ends_at - AT).total_seconds() / 86_400


def test_the_window_ends_with_the_later_ones_and_the_decision_says_why() -> None:
    decision = decided(later(20))
    assert days_of(decision) == 65
    assert decision.because.endswith(
        "45 days. Extended to 2025-09-07 by a later shooting in its zone: N1, 20 days after."
    )
    assert decision.response is not None
    assert decision.response.extended_by == (UUID(int=1),)
    assert [zone.ends_at for zone in decision.response.zones] == [decision.response.ends_at]


@pytest.mark.parametrize(
    "other",
    [
        later(46),
        later(20, point=FAR),
        later(20, point=None),
        later(20, validity="unfounded"),
        later(20, kind="gunfire"),
        later(20, simulated=True),
        later(0.001, sources=("cad",), is_kin=True),
    ],
)
def test_what_is_after_it_far_away_unfounded_or_the_event_itself_extends_nothing(other: Neighbour) -> None:
    assert days_of(decided(other)) == 45


def test_it_goes_on_from_there_up_to_the_most() -> None:
    assert days_of(decided(later(40), later(60, 2))) == 90
    assert days_of(decided(later(60, 2))) == 45


def test_gunfire_is_not_extended() -> None:
    heard = incident(report(event="gunfire", gunshot_injury=False))
    assert days_of(decided(later(3), one=heard)) == 14


def test_a_policy_that_extends_nothing_says_so() -> None:
    for extension in (None, POLICY.extension and POLICY.extension.model_copy(update={"enabled": False})):
        assert days_of(decided(later(20), policy=POLICY.model_copy(update={"extension": extension}))) == 45


def test_only_a_later_shooting_within_the_most_days_is_counted() -> None:
    def at(days: float, **changed: Any) -> Incident:
        return incident(report(incident_number="JH2", occurred_at=day(days), **changed))

    assert may_extend(CASE, at(80), POLICY)
    assert not may_extend(CASE, at(91), POLICY)
    assert not may_extend(CASE, at(-1), POLICY)
    assert not may_extend(CASE, at(80, point=FAR), POLICY)
    assert not may_extend(CASE, at(80, event="gunfire", gunshot_injury=False), POLICY)


def test_what_is_reported_in_the_longer_window_is_asked_for_and_taken_back_with_it() -> None:
    light = issue(request(created_at=day(50), revised_at=day(50)))
    standings = []
    for around in ((), (later(20),), (later(20, validity="unfounded", version=2),)):
        response = decided(*around).response
        assert response is not None
        commands = dispatch(DispatchInputs(response=response, issue=light), POLICY)
        standings.append([(one.standing, one.because) for one, _ in commands])
    assert standings[0] == []
    ((live, _),), ((void, why),) = standings[1:]
    assert (live, void) == ("live", "void")
    assert why.endswith("The response's window is not extended so far.")
