"""`rapid policy diff`: what differs, in words."""

import warnings
from pathlib import Path

import pytest

from infra.policy.differences import _PARTS, by_group, differences
from infra.policy.load import load_policy
from schemas.oncall import Channel
from schemas.policy import Policy
from tests.policy_life.changed import changed, tighter


def words(old: Policy, new: Policy) -> dict[str, list[str]]:
    return {group: [str(one) for one in some] for group, some in by_group(differences(old, new)).items()}


def test_a_policy_does_not_differ_from_itself(policy: Policy) -> None:
    assert differences(policy, load_policy()) == []


def test_what_differs_is_told_by_group_with_old_and_new(policy: Policy, tmp_path: Path) -> None:
    assert words(policy, load_policy(tighter(tmp_path / "p"))) == {
        "Severity": ["kind nonfatal shooting 30 → 5"],
        "Plans": [
            "plan fatal_priority: radius m 244 → 150",
            "plan nonfatal_priority: radius m 244 → 150",
        ],
        "Promises": [
            "promise lights_routine: clocks resolve budget 4wd → 3wd",
            "promise graffiti_routine: clocks resolve budget 4wd → 3wd",
        ],
    }


def test_areas_whose_tier_changed_and_lists_that_lost_and_gained(policy: Policy, tmp_path: Path) -> None:
    new = changed(
        tmp_path / "p",
        areas=("      - 68  # Englewood\n", ""),
        plans=("inspections: [street_light, alley_light, vacant_lot, abandoned_building]", "inspections: [graffiti]"),
    )  # fmt: skip
    assert words(policy, load_policy(new)) == {
        "Areas": ["area 68 (Englewood): tier priority → standard"],
        "Plans": [
            "plan fatal_priority: inspections street_light, alley_light, vacant_lot, abandoned_building → graffiti"
        ],
    }


def test_what_is_new_and_what_is_gone_turn_round_with_the_policies(policy: Policy) -> None:
    fewer = policy.model_copy(update={"departments": policy.departments[:-1]})
    gone, new = words(policy, fewer), words(fewer, policy)
    assert gone == {"Departments": ["department cscc (Community Safety Coordination Center) is gone"]}
    assert new == {"Departments": ["department cscc (Community Safety Coordination Center) is new"]}


@pytest.mark.parametrize("url", ["mailto://desk:secret@example.org", None])
def test_an_address_is_never_told(policy: Policy, url: str | None) -> None:
    first, *rest = policy.oncall.channels
    before = Channel(code=first.code, url="json://10.0.0.1/token-of-ours")
    after = Channel(code=first.code, url=url, url_env=None if url else "RAPID_CHANNEL_X")
    one, other = (
        policy.model_copy(update={"oncall": policy.oncall.model_copy(update={"channels": (channel, *rest)})})
        for channel in (before, after)
    )
    said = str(words(one, other))
    assert "People on call" in said
    assert "address" in said
    assert "token" not in said
    assert "secret" not in said


def test_every_field_of_a_policy_is_compared(policy: Policy) -> None:
    """Whatever is added to a policy later: a difference in it is never passed over."""
    whole = policy.model_dump(mode="json", exclude={"version"})
    assert {part.path[0] for part in _PARTS} <= whole.keys()
    for name, value in whole.items():
        other = policy.model_copy(update={name: {} if isinstance(value, dict) else None})
        with warnings.catch_warnings(
            action="ignore", category=UserWarning
        ):  # it is no policy, and need not be
            found = differences(other, policy)
        assert found, name
