"""What running work needs of a policy, and what is said when it has not."""

import pytest

from infra.policy.breaks import InUse, Used, breaks
from schemas.policy import Policy

ONE = Used(1, ("WO-AAAAA-AAAAA",))
MANY = Used(7, tuple(f"WO-AAAAA-AAAA{number}" for number in range(5)))
NOTHING = InUse(0, {}, {}, {}, {}, {}, {}, 0)


def test_nothing_open_breaks_nothing(policy: Policy) -> None:
    emptied = policy.model_copy(update={"departments": (), "categories": ()})
    assert breaks(emptied, policy, NOTHING) == []


def test_the_same_policy_breaks_nothing(policy: Policy) -> None:
    used = InUse(
        7, {one.code: MANY for one in policy.departments}, {one.code: MANY for one in policy.categories},
        {one.number: MANY for one in policy.areas}, {"priority": MANY, "standard": MANY},
        {(one.categories[0], one.work, one.clocks[0].clock): MANY for one in policy.sla.promises},
        {policy.version: MANY}, 9,
    )  # fmt: skip
    assert breaks(policy, policy, used, [policy]) == []


def test_how_many_orders_and_which_are_named(policy: Policy) -> None:
    fewer = policy.model_copy(
        update={"departments": [one for one in policy.departments if one.code != "dob"]}
    )
    [said] = breaks(fewer, policy, NOTHING._replace(departments={"dob": MANY}))
    assert said.startswith(
        "It has no department dob, which has 7 open orders (WO-AAAAA-AAAA0, WO-AAAAA-AAAA1, WO-AAAAA-AAAA2, "
        "WO-AAAAA-AAAA3, WO-AAAAA-AAAA4 and 2 more): keep the department"
    )


@pytest.mark.parametrize(
    ("update", "used", "said"),
    [
        ({"categories": ()}, {"categories": {"graffiti": ONE}}, "It has no category graffiti, which 1 open order (WO-"),
        ({"areas": "first"}, {"areas": {77: ONE}}, "It has no area 77, in which 1 open order"),
        ({}, {"tiers": {"extra": ONE}}, "It has no tier extra, in which 1 open order"),
        (
            {}, {"clocks": {("street_light", "fix", "abate"): ONE}},
            "It promises no abate for fix street_light, and 1 open order",
        ),
        ({"cell_resolution": 8}, {"incidents": 3}, "Its cell_resolution is 8, and places of 3 incidents"),
    ],
)  # fmt: skip
def test_what_open_orders_and_promises_refer_to_has_to_stay(
    policy: Policy, update: dict[str, object], used: dict[str, object], said: str
) -> None:
    if update.get("areas") == "first":
        update = {"areas": policy.areas[:1]}
    new = policy.model_copy(update=update)
    in_use = NOTHING._replace(**used)  # type: ignore[arg-type]
    [found] = breaks(new, policy, in_use)
    assert found.startswith(said)


def test_the_queue_to_which_open_orders_hand_on_has_to_stay(policy: Policy) -> None:
    new = policy.model_copy(update={"triage_queue": "dss", "departments": policy.departments[:-1]})
    [said] = breaks(new, policy, NOTHING._replace(opened_under={policy.version: ONE}), [policy])
    assert said.startswith("It has no department cscc, to which 1 open order")
