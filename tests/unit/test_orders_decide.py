"""What the causes for one order add up to, and how little of it a department sees."""

import re
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest

from agents.orders.decide import NO_LOCATION, OrderInputs, decide, department_view, highest
from infra.policy.load import load_policy
from schemas.policy import Policy, Route
from schemas.work_order import Site, WorkOrder, WorkOrderCommand, order_id_of, reference_of
from tests.unit.made_up import AT, HERE, NEAR, day

ADDRESS = Site(
    key="4015 W WASHINGTON BLVD", basis="address", address="4015 W WASHINGTON BLVD", point=NEAR, area=26
)
BLOCK = Site(key="4000 BLOCK W WASHINGTON BLVD", basis="block", address="4000 BLOCK W WASHINGTON BLVD",
             point=HERE, area=26)  # fmt: skip


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy()


def cause(number: int = 1, **changed: Any) -> WorkOrderCommand:
    site = changed.get("site", ADDRESS)
    category = changed.get("category", "street_light")
    fields: dict[str, Any] = {
        "order_key": f"{category}|fix|{site.key}", "category": category, "work": "fix", "site": site,
        "cause_id": UUID(int=number), "version": 2, "standing": "live", "rule": "open_issue_in_zone",
        "because": "It was open.", "response_id": UUID(int=100 + number), "incident_id": UUID(int=200 + number),
        "issue_id": UUID(int=300), "at": day(number), "ended_at": None, "priority": "routine", "covers": ("SR1",),
        "policy_version": "v", "simulated": False,
    }  # fmt: skip
    return WorkOrderCommand(**fields | changed)


def order(policy: Policy, *causes: WorkOrderCommand) -> WorkOrder:
    return decide(OrderInputs(causes=causes), policy)[0]


def test_one_live_cause_opens_an_order_for_the_owner_of_the_category(policy: Policy) -> None:
    key = f"street_light|fix|{ADDRESS.key}"
    assert order(policy, cause()) == WorkOrder(
        order_id=order_id_of(key), order_key=key, generation=1, reference=reference_of(order_id_of(key).int), version=2,
        state="new", category="street_light", work="fix", site=ADDRESS, department="cdot",
        routing_rule="owner_of_category", priority="routine", opened_at=day(1), cancelled_at=None,
        updates=0, acknowledged_at=None, resolved_at=None, outcome=None, hold_reason=None, crew=None, estimate=None,
        rejected_by=(), duplicate_of=None, duplicates=(), original_outcome=None, verify=False,
        covers=("SR1",), incident_ids=(UUID(int=201),), policy_version=policy.version, simulated=False,
    )  # fmt: skip


def test_a_second_incident_joins_and_raises_the_priority(policy: Policy) -> None:
    joined = order(policy, cause(1), cause(2, priority="urgent", covers=("SR2", "SR1")))
    assert (joined.priority, joined.opened_at, joined.version) == ("urgent", day(1), 4)
    assert joined.incident_ids == (UUID(int=201), UUID(int=202))
    assert joined.covers == ("SR1", "SR2")


def test_a_withdrawn_cause_no_longer_speaks_for_an_order_that_another_keeps_open(policy: Policy) -> None:
    kept = order(policy, cause(1, standing="withdrawn", ended_at=day(5), priority="urgent"), cause(2))
    assert (kept.state, kept.priority, kept.opened_at, kept.incident_ids) == (
        "new", "routine", day(2), (UUID(int=202),),
    )  # fmt: skip


def test_an_order_ends_with_its_last_cause(policy: Policy) -> None:
    ended = order(policy, cause(1, standing="withdrawn", ended_at=day(5)),
                  cause(2, standing="withdrawn", ended_at=day(4)))  # fmt: skip
    assert (ended.state, ended.opened_at, ended.cancelled_at) == ("cancelled", day(1), day(5))


def test_an_order_that_nothing_ever_asked_for_is_void(policy: Policy) -> None:
    void = order(policy, cause(1, standing="void"), cause(2, standing="void"))
    assert (void.state, void.cancelled_at) == ("void", None)


def test_a_void_cause_says_nothing_about_a_cancelled_order(policy: Policy) -> None:
    ended = order(policy, cause(1, standing="void", priority="urgent"),
                  cause(2, standing="withdrawn", ended_at=day(4)))  # fmt: skip
    assert (ended.state, ended.priority, ended.opened_at) == ("cancelled", "routine", day(2))


def test_a_rule_for_the_area_comes_before_the_owner(policy: Policy) -> None:
    route = Route(name="lights_of_26", categories=("street_light",), areas=(26,), department="dss")
    routed = order(policy.model_copy(update={"routes": (route,)}), cause())
    assert (routed.department, routed.routing_rule) == ("dss", "lights_of_26")


def test_what_nobody_owns_goes_to_the_triage_queue(policy: Policy) -> None:
    routed = order(policy, cause(category="potholes"))
    assert (routed.department, routed.routing_rule) == (policy.triage_queue, "nobody_owns_it")


def test_work_without_a_place_goes_to_the_triage_queue(policy: Policy) -> None:
    nowhere = Site(key="area:26", basis="area", address=None, point=None, area=26)
    routed = order(policy, cause(site=nowhere))
    assert (routed.department, routed.routing_rule) == (policy.triage_queue, NO_LOCATION)


def test_the_highest_priority_is_by_urgency_not_by_letter() -> None:
    assert highest(["routine", "urgent", "high"]) == "urgent"


def test_references_are_opaque_and_have_nothing_to_misread() -> None:
    references = {reference_of(order_id_of(f"street_light|fix|{number}").int) for number in range(500)}
    assert len(references) == 500
    assert all(re.fullmatch(r"WO-[0-9A-HJKMNP-TV-Z]{5}-[0-9A-HJKMNP-TV-Z]{5}", one) for one in references)


# --- what a department sees


def test_a_department_sees_the_work_and_the_place_and_nothing_of_the_incident(policy: Policy) -> None:
    one = order(policy, cause(at=AT, because="A fatal shooting next to it.", priority="urgent"))
    view = department_view(one, policy, 1)
    assert set(view.model_dump()) == {
        "reference", "version", "state", "category", "work", "title", "address", "point", "area", "priority",
        "requested_on", "outcome", "hold_reason", "crew", "estimate", "service_requests", "promises",
        "simulated",
    }  # fmt: skip
    told = view.model_dump_json().lower()
    hidden = [*one.incident_ids, one.order_id, UUID(int=101), AT.isoformat(), "03:12", "shooting", "homicide",
              "incident", "victim", "gun", "plan"]  # fmt: skip
    assert [word for word in hidden if str(word) in told] == []
    assert view.title == "Repair street light"


def test_a_department_sees_the_next_day_of_the_city_not_the_time_of_the_event(policy: Policy) -> None:
    late = datetime(2026, 7, 5, 3, 12, tzinfo=UTC)  # 22:12 on the 4th in Chicago
    assert department_view(order(policy, cause(at=late)), policy, 1).requested_on == date(2026, 7, 5)


def test_the_point_of_a_block_is_the_incidents_and_is_left_out(policy: Policy) -> None:
    block = department_view(order(policy, cause(site=BLOCK)), policy, 1)
    assert (block.point, block.address) == (None, "4000 BLOCK W WASHINGTON BLVD")


def test_an_order_that_became_void_is_cancelled_to_its_department(policy: Policy) -> None:
    assert department_view(order(policy, cause(standing="void")), policy, 2).state == "cancelled"
