"""What an activation leaves as it is: open orders, and decisions on facts that were decided before."""

from datetime import timedelta
from typing import Any

import pytest

from connectors.geography.areas import Areas
from connectors.postgres.policies import keep_policy
from schemas.policy import Policy, Route
from schemas.promise import Promises
from schemas.work_order import WorkOrder
from tests.pipeline.stream import NOW, Stream
from tests.pipeline.test_departments import shooting
from tests.pipeline.test_updates import fix, light, orders, update

HOUR = timedelta(hours=1)


@pytest.fixture
async def stream(connection: Any, policy: Policy, areas: Areas) -> Stream:
    await keep_policy(connection, policy)
    made = Stream(connection, policy, areas)
    await made.feed([shooting("ZZ1"), light("SR1")])
    return made


def newer(policy: Policy) -> Policy:
    """Lights are Streets and Sanitation's, are promised sooner, are called otherwise, and wait for another reason."""
    promises = tuple(
        one.model_copy(update={"clocks": tuple(c.model_copy(update={"budget": "1h"}) for c in one.clocks)})
        for one in policy.sla.promises
    )
    categories = tuple(
        one.model_copy(update={"fix_title": f"New: {one.fix_title}"}) for one in policy.categories
    )
    return policy.model_copy(
        update={
            "version": "newer",
            "sla": policy.sla.model_copy(update={"promises": promises}),
            "categories": categories,
            "routes": (Route(name="lights_elsewhere", categories=("street_light",), department="dss"),),
        }
    )


async def later(stream: Stream, areas: Areas) -> Stream:
    """The same stream, an hour later, under the newer policy."""
    await keep_policy(stream.connection, newer(stream.policy))
    return Stream(stream.connection, newer(stream.policy), areas, now=NOW + HOUR)


async def budgets(stream: Stream, order: WorkOrder) -> dict[str, str]:
    body = await stream.connection.fetchval("SELECT body FROM promises WHERE order_id = $1", order.order_id)
    return {clock.name: clock.target.budget for clock in Promises.model_validate_json(body).clocks}


async def test_an_open_order_keeps_department_promises_and_wording_when_another_cause_joins(
    stream: Stream, areas: Areas
) -> None:
    before = await fix(stream)
    promised = await budgets(stream, before)
    told = await stream.connection.fetchval(
        "SELECT department_body FROM work_orders WHERE order_id = $1", before.order_id
    )
    now = await later(stream, areas)
    await now.feed([shooting("ZZ2")])
    after = await fix(now)
    assert after.version > before.version
    assert len(after.incident_ids) == 2
    assert (after.department, after.routing_rule) == ("cdot", before.routing_rule)
    assert after.policy_version == stream.policy.version
    seen = await stream.connection.fetchval(
        "SELECT department_body FROM work_orders WHERE order_id = $1", after.order_id
    )
    assert "New:" not in seen
    assert "New:" not in told
    assert "1h" not in promised.values()
    # another priority is a re-target: to the terms of the policy that the order was opened by
    terms = stream.policy.promise_for("street_light", "fix", after.priority)
    assert terms is not None
    assert await budgets(now, after) == {clock.clock: clock.budget for clock in terms.clocks}


async def test_what_is_asked_for_now_is_routed_and_promised_by_the_policy_in_force(
    stream: Stream, areas: Areas
) -> None:
    now = await later(stream, areas)
    await now.feed([light("SR2", address="4021 W WEST END AVE")])
    old, new = sorted(
        (one for one in await orders(now) if one.work == "fix"), key=lambda one: one.policy_version
    )
    assert {old.department, new.department} == {"cdot", "dss"}
    opened = new if new.department == "dss" else old
    assert (opened.routing_rule, opened.policy_version) == ("lights_elsewhere", "newer")
    assert set((await budgets(now, opened)).values()) == {"1h"}


async def test_its_department_goes_on_with_it(stream: Stream, areas: Areas) -> None:
    order = await fix(stream)
    now = await later(stream, areas)
    [held] = await now.say("cdot", update(order, "hold", reason="weather"))
    [done] = await now.say("cdot", update(order, "resolve", "2", outcome="fixed"))
    assert (held.verdict, done.verdict) == ("accepted", "accepted")
    after = await fix(now)
    assert (after.state, after.department, after.policy_version) == (
        "resolved",
        "cdot",
        stream.policy.version,
    )


async def test_the_same_facts_decided_again_under_another_policy_change_nothing(
    stream: Stream, areas: Areas
) -> None:
    everything = "SELECT stage, subject, version, policy_version, output FROM decisions ORDER BY 1, 2, 3"
    before = await stream.connection.fetch(everything)
    responses = await stream.connection.fetch("SELECT * FROM responses")
    now = await later(stream, areas)
    await now.feed([shooting("ZZ1"), light("SR1")])  # the same reports once more wake their readers
    assert await stream.connection.fetch(everything) == before
    assert await stream.connection.fetch("SELECT * FROM responses") == responses


async def test_with_one_more_fact_an_incident_is_decided_by_the_policy_in_force(
    stream: Stream, areas: Areas
) -> None:
    now = await later(stream, areas)
    await now.feed([shooting("ZZ2")])
    versions = "SELECT policy_version FROM decisions WHERE stage = 'triage' ORDER BY recorded_at, version"
    found = [row[0] for row in await stream.connection.fetch(versions)]
    assert found[0] == stream.policy.version
    assert set(found[1:]) <= {"newer", stream.policy.version}
    assert found[-1] == "newer"
