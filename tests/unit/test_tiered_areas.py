"""What a custom area or a hot block with a tier of its own changes in a decision."""

import pytest

from agents.replay import first_difference, recompute
from agents.triage.decide import decide
from infra.areas.tiers import tier_problem
from infra.policy.load import load_policy
from schemas.policy import Policy
from schemas.response import Location, TieredArea
from tests.unit.made_up import INSIDE, incident, triaged

STANDARD = INSIDE.model_copy(update={"area": 7, "computed_area": 7})
HOT = TieredArea(
    number=2,
    name="2100 BLOCK N MADE UP ST",
    tier="priority",
    because="one of the 5 most violent blocks since 2025-01-01",
    boundaries="abc",
)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy()


def within(*areas: TieredArea, place: Location = STANDARD) -> Location:
    return place.model_copy(update={"within": areas})


def test_a_hot_block_raises_the_tier_and_the_decision_says_so(policy: Policy) -> None:
    plain, _ = decide(triaged(incident(), [STANDARD]), policy)
    raised, _ = decide(triaged(incident(), [within(HOT)]), policy)
    assert (plain.tier, raised.tier) == ("standard", "priority")
    assert raised.response is not None
    assert raised.response.tier == "priority"
    assert raised.severity == plain.severity + policy.severity.tier["priority"]
    assert raised.because == (
        "A nonfatal shooting in Lincoln Park, and at 2100 BLOCK N MADE UP ST, one of the 5 most violent blocks "
        "since 2025-01-01 (priority): plan nonfatal_priority, 45 days."
    )


def test_a_lower_tier_and_one_that_the_policy_does_not_know_lower_nothing(policy: Policy) -> None:
    lower = HOT.model_copy(update={"tier": "standard"})
    unknown = HOT.model_copy(update={"tier": "gone"})
    decision, _ = decide(triaged(incident(), [within(lower, unknown, place=INSIDE)]), policy)
    assert decision.tier == "priority"


def test_that_boundaries_were_put_in_force_is_a_fact_and_counts_in_the_version(policy: Policy) -> None:
    inputs = triaged(incident(), [STANDARD])
    first, _ = decide(inputs, policy)
    second, _ = decide(inputs.model_copy(update={"boundaries": 2}), policy)
    assert second.version == first.version + 2


def test_a_decision_from_before_there_were_boundaries_is_taken_again_byte_for_byte(policy: Policy) -> None:
    _, record = decide(triaged(incident(), [STANDARD]), policy)
    assert not any(word in record.inputs + record.output for word in ('"boundaries"', '"within"'))
    assert first_difference(record, recompute(record, policy)) is None


def test_a_decision_by_imported_boundaries_is_taken_again_from_its_own_inputs(policy: Policy) -> None:
    place = within(HOT).model_copy(update={"boundaries": "june"})
    _, record = decide(triaged(incident(), [place]).model_copy(update={"boundaries": 1}), policy)
    assert first_difference(record, recompute(record, policy)) is None
    assert '"boundaries":"june"' in record.inputs


def test_a_layer_can_only_give_a_tier_that_the_policy_plans_for(policy: Policy) -> None:
    weights = policy.severity.model_copy(update={"tier": {**policy.severity.tier, "hot": 40}})
    weighed = policy.model_copy(update={"severity": weights})
    planned = weighed.model_copy(
        update={"plans": tuple(one.model_copy(update={"tiers": (*one.tiers, "hot")}) for one in policy.plans)}
    )
    assert tier_problem("priority", policy) is None
    assert tier_problem("hot", policy) == "the policy knows the tiers priority, standard"
    assert "the policy has no plan for fatal shooting, " in (tier_problem("hot", weighed) or "")
    assert tier_problem("hot", planned) is None
