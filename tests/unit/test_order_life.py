"""The state table, and how a ledger is folded by it."""

from datetime import datetime, timedelta
from itertools import permutations
from typing import Any, get_args
from uuid import UUID

import pytest

from agents.orders.life import TABLE, Lived, effect_of, live
from infra.policy.load import load_policy
from schemas.policy import Policy
from schemas.work_order import Life
from schemas.work_order_update import MEMBERS, LedgerEntry, Link, Verb, WorkOrderUpdate, misfit
from tests.unit.made_up import AT

MADE_FOR: dict[str, dict[str, Any]] = {
    "hold": {"reason": "weather"}, "resolve": {"outcome": "fixed"}, "reject": {"text": "Not ours."},
    "cancel": {"text": "A mistake."}, "reopen": {"text": "Dark again."}, "route": {"to_department": "dss"},
    "note": {"text": "Locked."}, "photo": {"photo": "https://example.org/1.jpg"}, "assign": {"crew": "7"},
    "estimate": {"estimate": AT}, "complete": {"stage": "inspect"},
}  # fmt: skip
LEADS_TO: dict[Life, list[str]] = {
    "new": [], "acknowledged": ["acknowledge"], "in_progress": ["start"], "on_hold": ["start", "hold"],
    "resolved": ["resolve"], "verified": ["resolve", "verify"], "reopened": ["resolve", "reopen"],
    "cancelled": ["cancel"],
}  # fmt: skip
# Written down a second time, from DESIGN.md's line of states: what a verb leads to, "=" nothing new, "-" refused.
#            ack          start       hold    resume      resolve  verify   reopen   reject cancel    route complete
EXPECTED = """
new          acknowledged in_progress on_hold =           resolved -        -        new    cancelled new   in_progress
acknowledged =            in_progress on_hold =           resolved -        -        new    cancelled new   in_progress
in_progress  =            =           on_hold =           resolved -        -        new    cancelled new   in_progress
on_hold      =            in_progress on_hold in_progress resolved -        -        new    cancelled new   on_hold
resolved     =            =           -       =           =        verified reopened -      -         -     -
verified     =            =           -       =           =        =        reopened -      -         -     -
reopened     acknowledged in_progress on_hold =           resolved -        =        new    cancelled new   in_progress
cancelled    -            -           -       -           -        -        -        -      =         -     -
"""
VERBS = ("acknowledge", "start", "hold", "resume", "resolve", "verify", "reopen", "reject", "cancel", "route",
         "complete")  # fmt: skip


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy()


def entry(seq: int, verb: str, *, at: datetime | None = None, **more: Any) -> LedgerEntry:
    fields = {"update_id": f"u{seq}", "reference": "WO-00000-00001", "verb": verb}
    update = WorkOrderUpdate(**fields | MADE_FOR.get(verb, {}) | more)
    return LedgerEntry(
        order_id=UUID(int=1), seq=seq, department="cdot", owner="cdot", at=at or AT + timedelta(minutes=seq),
        received_at=AT, update=update, link=None, verdict="accepted", rule="counts", because="-",
    )  # fmt: skip


def lived(policy: Policy, *verbs: str) -> Lived:
    return live([entry(number, verb) for number, verb in enumerate(verbs, 1)], "cdot", policy)


@pytest.mark.parametrize("line", EXPECTED.strip().splitlines(), ids=lambda line: line.split()[0])
def test_what_may_follow_what(line: str, policy: Policy) -> None:
    state, *cells = line.split()
    earlier = [entry(number, verb) for number, verb in enumerate(LEADS_TO[state], 1)]  # type: ignore[index]
    found = []
    for verb in VERBS:
        new = entry(9, verb)
        effect, before = effect_of(new, earlier, "cdot", policy)
        assert before.state == state
        after = live([*earlier, new], "cdot", policy).state
        found.append({"counts": after, "same": "=", "refused": "-"}[effect])
    assert found == cells


def test_the_table_knows_every_state_and_every_verb_its_members() -> None:
    assert set(TABLE) == set(get_args(Life))
    assert {verb for row in TABLE.values() for verb in row} == set(get_args(Verb)) == set(MEMBERS)


def test_notes_and_photos_are_taken_in_every_state(policy: Policy) -> None:
    for verbs in LEADS_TO.values():
        earlier = [entry(number, verb) for number, verb in enumerate(verbs, 1)]
        assert [effect_of(entry(9, verb), earlier, "cdot", policy)[0] for verb in ("note", "photo")] == [
            "counts"
        ] * 2


def test_the_order_of_arrival_does_not_matter_to_what_happened(policy: Policy) -> None:
    said = [("start", 1), ("hold", 2), ("resume", 3), ("resolve", 4)]
    results = {
        live([entry(seq, verb, at=AT + timedelta(hours=at)) for seq, (verb, at) in enumerate(order, 1)], "cdot", policy)
        .resolved_at
        for order in permutations(said)
    }  # fmt: skip
    assert results == {AT + timedelta(hours=4)}


def test_another_outcome_is_refused_until_it_is_reopened(policy: Policy) -> None:
    resolved = [entry(1, "resolve")]
    assert effect_of(entry(2, "resolve"), resolved, "cdot", policy)[0] == "same"
    other = entry(2, "resolve", outcome="found_working")
    assert effect_of(other, resolved, "cdot", policy)[0] == "refused"
    again = live(
        [*resolved, entry(2, "reopen"), entry(3, "resolve", outcome="found_working")], "cdot", policy
    )
    assert again.outcome == "found_working"


def test_who_starts_has_seen_it_and_a_hold_ends_with_its_reason(policy: Policy) -> None:
    on_hold = lived(policy, "start", "hold")
    assert (on_hold.acknowledged_at, on_hold.hold_reason) == (AT + timedelta(minutes=1), "weather")
    assert lived(policy, "start", "hold", "resume").hold_reason is None


def test_a_rejected_order_starts_anew_elsewhere(policy: Policy) -> None:
    there = live([entry(1, "assign"), entry(2, "reject", to_department="dss")], "cdot", policy)
    assert there == Lived("new", "dss", rejected_by=("cdot",))
    back = live([entry(1, "reject", to_department="cdot")], "cdot", policy)
    assert back.department == policy.triage_queue


def test_a_stage_is_done_once_and_says_that_somebody_has_started(policy: Policy) -> None:
    assert (lived(policy, "complete").stages, lived(policy, "complete").started) == (("inspect",), True)
    assert effect_of(entry(9, "complete"), [entry(1, "complete")], "cdot", policy)[0] == "same"
    next_stage = entry(9, "complete", stage="notify_owner")
    assert effect_of(next_stage, [entry(1, "complete")], "cdot", policy)[0] == "counts"


def test_an_original_s_outcome_counts_for_its_duplicates_only(policy: Policy) -> None:
    link = Link(order_key="k|fix|1", reference="WO-00000-00001", kind="original_resolved", other="WO-00000-00002",
                version=1, outcome="fixed", at=AT)  # fmt: skip
    said = entry(2, "note").model_copy(update={"update": None, "link": link})
    duplicate = entry(1, "resolve", outcome="duplicate_of", duplicate_of="WO-00000-00002")
    assert live([duplicate, said], "cdot", policy).original_outcome == "fixed"
    assert live([entry(1, "resolve"), said], "cdot", policy).original_outcome is None


@pytest.mark.parametrize(
    ("verb", "more", "field"),
    [
        ("hold", {"reason": None}, "reason"),
        ("resolve", {"outcome": None}, "outcome"),
        ("resolve", {"outcome": "duplicate_of"}, "duplicate_of"),
        ("resolve", {"duplicate_of": "WO-00000-00002"}, "duplicate_of"),
        ("resolve", {"outcome": "duplicate_of", "duplicate_of": "WO-00000-00001"}, "duplicate_of"),
        ("acknowledge", {"outcome": "fixed"}, "outcome"),
        ("note", {"crew": "7"}, "crew"),
    ],
)
def test_a_member_that_does_not_fit_its_verb_is_named(verb: str, more: dict[str, Any], field: str) -> None:
    update = entry(1, verb, **more).update
    assert update is not None
    wrong = misfit(update)
    assert wrong is not None
    assert wrong.field == field


@pytest.mark.parametrize("verb", get_args(Verb))
def test_what_a_verb_needs_is_enough(verb: str) -> None:
    update = entry(1, verb).update
    assert update is not None
    assert misfit(update) is None
