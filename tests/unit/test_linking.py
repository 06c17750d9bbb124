"""Which incidents are one event, who leads, and how that is said. Pure."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from agents.recount import counts_neighbour, may_be_one
from agents.triage.decide import decide
from agents.triage.linking import events_of, followers_of, leader_of
from agents.triage.neighbour import Neighbour, seen
from infra.policy.load import load_policy
from schemas.incident import Incident
from schemas.policy import Linking, Policy
from schemas.response import TriageDecision
from tests.unit.made_up import AT, FAR, HERE, NEAR, day, incident, report, triaged

POLICY = load_policy()
assert POLICY.linking is not None
LINKING: Linking = POLICY.linking
MINUTE = timedelta(minutes=1)


def told(source: str = "cad", number: int = 9, at: datetime = AT, **changed: Any) -> Neighbour:
    """How another source tells of the made-up shooting."""
    fields: dict[str, Any] = {
        "incident_id": UUID(int=number), "version": 1, "validity": "valid", "kind": "gunfire",
        "occurred_at": at, "point": NEAR, "number": f"N{number}", "sources": (source,), "is_kin": True,
    }  # fmt: skip
    return Neighbour(**fields | changed)


def decided(one: Incident, *around: Neighbour, policy: Policy = POLICY) -> TriageDecision:
    ordered = sorted(around, key=lambda other: other.incident_id.int)
    return decide(triaged(one, neighbours=tuple(ordered)), policy)[0]


CALL = incident(report(source="cad"))
CASE = incident(report())


# --- who leads


def test_a_better_source_leads_and_the_other_opens_nothing() -> None:
    decision = decided(CALL, told("cpd"))
    assert (decision.rule, decision.severity) == ("linked", 0)
    assert decision.follows is not None
    assert (decision.follows.number, decision.follows.metres, decision.follows.seconds) == ("N9", 56, 0)
    assert decision.response is not None
    assert [(zone.since, zone.until, zone.void_for) for zone in decision.response.zones] == [
        (AT, AT, "linked")
    ]
    assert decision.response.status == "ended"


def test_who_leads_says_who_follows() -> None:
    decision = decided(CASE, told("cad", 1, AT + 2 * MINUTE), told("shotspotter", 2, AT - 40 * MINUTE / 60))
    assert [one.number for one in decision.followers] == ["N1", "N2"]
    assert decision.because.endswith(
        "45 days. Told of as well by N1 of cad, 56 m and 2 min away; N2 of shotspotter, 56 m and 40 s away."
    )


@pytest.mark.parametrize(
    "other",
    [
        told("cpd", at=AT + timedelta(minutes=15, seconds=1)),
        told("cpd", at=AT - timedelta(minutes=15, seconds=1)),
        told("cpd", point=FAR),
        told("cpd", point=None),
        told("cpd", validity="unfounded"),
        told("cpd", kind="not_gun_violence"),
        told("cpd", simulated=True),
        told("cad"),
        told("oemc"),
        told("shotspotter"),
        told("a_source_without_a_rank"),
        told(sources=("cad", "cpd")),  # the call itself has the number of that case, and so is another one
    ],
)
def test_what_is_late_far_unfounded_simulated_or_of_no_better_source_does_not_lead(other: Neighbour) -> None:
    assert decided(CALL, other).rule == "respond"


def test_it_links_up_to_the_limits() -> None:
    assert decided(CALL, told("cpd", at=AT + timedelta(minutes=15))).rule == "linked"


def test_an_incident_without_a_place_is_an_event_of_its_own() -> None:
    nowhere = incident(report(source="cad", point=None))
    assert decided(nowhere, told("cpd")).rule == "respond"


def test_an_incident_that_did_not_happen_follows_nobody() -> None:
    assert decided(incident(report(source="cad", validity="unfounded")), told("cpd")).rule == "unfounded"


def test_the_best_rank_leads_then_the_nearest_in_time_in_metres_and_the_lowest_id() -> None:
    me = told("shotspotter", 5)
    call, case = told("cad", 1), told("cpd", 2, AT + 9 * MINUTE)
    assert leader_of(me, [call, case], LINKING) is case
    sooner = told("cpd", 8, AT - 8 * MINUTE, point=HERE)
    assert leader_of(me, [call, case, sooner], LINKING) is sooner
    nearer = told("cpd", 9, AT - 8 * MINUTE, point=NEAR)
    assert leader_of(me, [sooner, nearer, case], LINKING) is nearer
    same = told("cpd", 4, AT + 8 * MINUTE, point=NEAR)
    assert leader_of(me, [nearer, same], LINKING) is same


def test_of_two_leaders_each_names_just_what_follows_it() -> None:
    near, far = told("cpd", 1, AT + MINUTE), told("cpd", 2, AT + 9 * MINUTE)
    alert = told("shotspotter", 3)
    assert followers_of(near, [far, alert], LINKING) == [alert]
    assert followers_of(far, [near, alert], LINKING) == []


def test_a_policy_without_linking_links_nothing() -> None:
    without = POLICY.model_copy(update={"linking": None})
    assert decided(CALL, told("cpd"), policy=without).rule == "respond"
    assert not may_be_one(CALL, CASE, without)


def test_many_followers_are_counted_not_listed() -> None:
    decision = decided(CASE, *(told("shotspotter", number) for number in range(1, 400)))
    assert len(decision.followers) == 399
    assert decision.because.endswith("; and 396 more.")


# --- who counts whom


def test_both_sides_count_each_other_whoever_is_later() -> None:
    later = incident(report(source="cad", incident_number="EV1", occurred_at=AT + 10 * MINUTE))
    assert counts_neighbour(CASE, later, POLICY)
    assert counts_neighbour(later, CASE, POLICY)
    too_late = incident(report(source="cad", incident_number="EV1", event="gunfire", gunshot_injury=False,
                               occurred_at=AT + 16 * MINUTE))  # fmt: skip
    assert not counts_neighbour(CASE, too_late, POLICY)


def test_of_one_source_nothing_is_one_event() -> None:
    second = incident(report(incident_number="JH2"))
    assert not may_be_one(CASE, second, POLICY)
    assert may_be_one(
        CASE, incident(report(incident_number="JH2"), report(source="cad", incident_number="JH2")), POLICY
    )


# --- severity


def severity_words(decision: TriageDecision) -> str | None:
    return next((part.because for part in decision.parts if part.factor == "near_repeat"), None)


def test_the_call_of_the_same_event_is_no_near_repeat() -> None:
    call = told("cad", kind="nonfatal_shooting", at=AT - MINUTE)
    assert severity_words(decided(CASE, call)) is None


def test_an_earlier_event_that_three_sources_tell_of_counts_once_and_is_named() -> None:
    earlier = day(-3)
    around = [
        told("cpd", 1, earlier, kind="nonfatal_shooting", is_kin=False),
        told("cad", 2, earlier + MINUTE, kind="nonfatal_shooting", is_kin=False),
        told("shotspotter", 3, earlier, is_kin=False),
    ]
    assert severity_words(decided(CASE, *around)) == (
        "shootings within 122 m in the 14 days before: 1; the last: N1, 56 m away, 3 days before"
    )
    assert [one.number for one in events_of(around, LINKING)] == ["N1"]


@pytest.mark.parametrize(("days", "words"), [(0.5, "less than a day"), (1, "1 day"), (13.9, "13 days")])
def test_how_long_ago_is_said_in_days(days: float, words: str) -> None:
    one = told("cpd", at=day(-days), kind="fatal_shooting", is_kin=False)
    assert str(severity_words(decided(CASE, one))).endswith(f"56 m away, {words} before")


# --- what was written before


def test_a_neighbour_of_before_is_written_as_before() -> None:
    old = Neighbour(
        incident_id=UUID(int=1), version=3, validity="valid", kind="nonfatal_shooting", occurred_at=day(-3),
        point=NEAR,
    )  # fmt: skip
    assert old.model_dump_json() == (
        '{"incident_id":"00000000-0000-0000-0000-000000000001","version":3,"validity":"valid",'
        '"kind":"nonfatal_shooting","occurred_at":"2025-07-01T03:12:00Z","point":{"lat":41.8805,"lon":-87.73}}'
    )
    assert severity_words(decided(CASE, old)) == "shootings within 122 m in the 14 days before: 1"


def test_an_incident_alone_is_decided_as_before_there_was_linking() -> None:
    decision = decided(CASE)
    assert decision.response is not None
    for written, fields in (
        (decision.model_dump_json(), ("follows", "followers")),
        (decision.response.model_dump_json(), ("follows", "followers", "kin", "extended_by", "void_for")),
    ):
        assert not [field for field in fields if f'"{field}"' in written]
    assert seen(CASE).number == "JH1"
