"""What an earlier policy, or boundaries, asked for: it stays, nothing new joins it, and it ends with its reason."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from connectors.geography.areas import Areas
from connectors.geography.boundaries import Boundaries
from connectors.postgres.policies import keep_policy
from infra.cli.replay_decisions import replay_all
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.policy import Plan, Policy
from schemas.response import Response
from tests.pipeline.stream import Stream, final_tables
from tests.pipeline.test_departments import AT, CORNER, shooting
from tests.pipeline.test_updates import light, orders, update

DAY = timedelta(days=1)
FAR = CORNER.model_copy(update={"lat": CORNER.lat + 0.0018})  # 200 m north: within 244 m, beyond 100 m
ELSEWHERE = CORNER.model_copy(update={"lat": CORNER.lat + 0.02})

Change = Callable[[Plan], Plan]


def without_lights(plan: Plan) -> Plan:
    return plan.model_copy(update={"fixes": ("graffiti",), "inspections": ()})


def smaller(plan: Plan) -> Plan:
    return plan.model_copy(update={"radius_m": 100.0, "inspections": ()})


def shorter(plan: Plan) -> Plan:
    return plan.model_copy(update={"window_days": 1, "inspections": ()})


def other(policy: Policy, change: Change | None = None, version: str = "other") -> Policy:
    """Another policy that counts fewer facts; without `change` it has no plan for anything."""
    plans = tuple(change(plan) for plan in policy.plans) if change else ()
    near = policy.near_repeat.model_copy(update={"radius_m": 10.0})
    fields = {"version": version, "plans": plans, "near_repeat": near, "linking": None, "extension": None}
    return policy.model_copy(update=fields)


def unfounded(number: str = "ZZ1", at: datetime = AT + 9 * DAY) -> IncidentReport:
    return shooting(number, validity="unfounded", revised_at=at)


def closed(number: str, **changes: Any) -> IssueReport:
    return light(number, status="completed", closed_at=AT + 8 * DAY, revised_at=AT + 8 * DAY, **changes)


async def under(policy: Policy, areas: Any, connection: Any) -> Stream:
    await keep_policy(connection, policy)
    return Stream(connection, policy, areas)


@pytest.fixture
async def before(connection: Any, policy: Policy, areas: Areas) -> Stream:
    """A shooting, two requests, and other shootings near by that the first policy counts."""
    made = await under(policy, areas, connection)
    later = [shooting(f"N{day}", AT + day * DAY, point=ELSEWHERE, block="N ELSEWHERE") for day in (1, 2)]
    requests = [light("SR1"), light("SR2", point=FAR, address="4001 W MAYPOLE AVE", created_at=AT + 3 * DAY)]
    await made.feed([shooting("ZZ1"), *requests, *later])
    return made


async def open_orders(stream: Stream, number: str = "ZZ1") -> dict[str, str]:
    """By their key, the state of each order that the incident's causes ask for, live or not."""
    rows = await stream.connection.fetch(
        "SELECT DISTINCT o.order_key, o.state FROM work_orders o JOIN order_causes c USING (order_key) "
        "JOIN incidents i USING (incident_id) WHERE i.number = $1",
        number,
    )
    return {row["order_key"]: row["state"] for row in rows if row["state"] != "void"}


async def response(stream: Stream, number: str = "ZZ1") -> Response:
    query = "SELECT r.body FROM responses r JOIN incidents USING (incident_id) WHERE number = $1"
    return Response.model_validate_json(await stream.connection.fetchval(query, number))


async def all_the_same_again(stream: Stream) -> None:
    replayed = await replay_all(stream.connection)
    assert sum(replayed.decisions.values()) == await stream.connection.fetchval(
        "SELECT count(*) FROM decisions"
    )
    assert replayed.differences == []


@pytest.mark.parametrize("change", [None, without_lights, smaller, shorter])
async def test_unfounded_under_another_policy_cancels_what_nobody_has_started(
    before: Stream, areas: Areas, policy: Policy, change: Change | None
) -> None:
    asked = await open_orders(before)
    assert set(asked.values()) == {"new"}
    assert {key.split("|")[0] for key in asked} >= {"street_light", "alley_light"}
    now = await under(other(policy, change), areas, before.connection)
    await now.feed([unfounded()])
    assert await open_orders(now) == dict.fromkeys(asked, "cancelled")
    assert (await response(now)).status == "ended"
    await all_the_same_again(now)


@pytest.mark.parametrize("change", [None, without_lights, smaller, shorter])
async def test_one_more_fact_leaves_what_was_asked_for_and_the_end_takes_it_back(
    before: Stream, areas: Areas, policy: Policy, change: Change | None
) -> None:
    asked = await open_orders(before)
    now = await under(other(policy, change), areas, before.connection)
    await now.feed([shooting("ZZ1", revised_at=AT + DAY, beat="1113")])
    assert (await response(now)).policy_version == "other"
    assert await open_orders(now) == asked
    back = await under(other(policy, change, "third"), areas, before.connection)
    await back.feed([shooting("ZZ1", revised_at=AT + 2 * DAY, beat="1114")])
    assert await open_orders(back) == asked
    await back.feed([unfounded()])
    assert await open_orders(back) == dict.fromkeys(asked, "cancelled")
    await all_the_same_again(back)


async def test_a_shorter_window_takes_back_nothing_that_a_longer_one_asked_for(
    before: Stream, areas: Areas, policy: Policy
) -> None:
    """Though windows may be extended: what is void beyond today's is what today's policy may have asked for."""
    asked = await open_orders(before)
    changed = other(policy, lambda plan: plan.model_copy(update={"window_days": 1}))
    today = changed.model_copy(update={"extension": policy.extension})
    now = await under(today, areas, before.connection)
    south = CORNER.model_copy(
        update={"lat": CORNER.lat - 0.0018}
    )  # too far from the second request to ask for it
    await now.feed([shooting("ZZ2", AT + 44 * DAY, point=south, block="4000 W MADISON ST")])
    found = await response(now)
    assert found.policy_version == "other"
    assert any(zone.void_for == "window" for zone in found.zones)
    states = await open_orders(now)
    assert {key: states[key] for key in asked} == asked
    await now.feed([unfounded(at=AT + 45 * DAY)])
    assert {(await open_orders(now))[key] for key in asked if "MAYPOLE" in key} == {"cancelled"}


async def test_what_a_crew_has_started_goes_on(before: Stream, areas: Areas, policy: Policy) -> None:
    started = next(one for one in await orders(before) if one.work == "fix")
    await before.say("cdot", update(started, "start", crew="Crew 7"))
    now = await under(other(policy), areas, before.connection)
    await now.feed([unfounded()])
    states = await open_orders(now)
    assert states.pop(started.order_key) == "in_progress"
    assert set(states.values()) == {"cancelled"}


@pytest.mark.parametrize("change", [None, without_lights, smaller, shorter])
async def test_nothing_new_is_asked_for_by_rules_of_before(
    before: Stream, areas: Areas, policy: Policy, change: Change | None
) -> None:
    asked = await open_orders(before)
    now = await under(other(policy, change), areas, before.connection)
    await now.feed([shooting("ZZ1", revised_at=AT + DAY, beat="1113")])
    late = light(
        "SR9", point=FAR, address="4099 W MAYPOLE AVE", created_at=AT + 4 * DAY, revised_at=AT + 4 * DAY
    )
    await now.feed([late])
    assert await open_orders(now) == asked
    await now.feed(
        [closed("SR9", point=FAR, address="4099 W MAYPOLE AVE", created_at=AT + 4 * DAY), unfounded()]
    )
    assert await open_orders(now) == dict.fromkeys(asked, "cancelled")
    await all_the_same_again(now)


@pytest.mark.parametrize("change", [None, without_lights, smaller, shorter])
async def test_a_request_that_the_city_closes_takes_back_its_order(
    before: Stream, areas: Areas, policy: Policy, change: Change | None
) -> None:
    now = await under(other(policy, change), areas, before.connection)
    await now.feed([shooting("ZZ1", revised_at=AT + DAY, beat="1113")])
    asked = await open_orders(now)
    far = {"point": FAR, "address": "4001 W MAYPOLE AVE", "created_at": AT + 3 * DAY}
    await now.feed([closed("SR2", **far)])
    [fix] = [key for key in asked if "MAYPOLE" in key]
    assert await open_orders(now) == asked | {fix: "cancelled"}


async def test_a_place_that_turns_out_wrong_takes_its_orders_along(
    before: Stream, areas: Areas, policy: Policy
) -> None:
    asked = await open_orders(before)
    now = await under(other(policy, without_lights), areas, before.connection)
    await now.feed([shooting("ZZ1", revised_at=AT + DAY, point=ELSEWHERE, block="4000 N ELSEWHERE AVE")])
    assert {state for key, state in (await open_orders(now)).items() if key in asked} == {"cancelled"}


async def test_going_back_to_the_first_policy_asks_again_for_the_same(
    before: Stream, areas: Areas, policy: Policy
) -> None:
    asked = await open_orders(before)
    now = await under(other(policy), areas, before.connection)
    await now.feed([shooting("ZZ1", revised_at=AT + DAY, beat="1113")])
    await before.feed([shooting("ZZ1", revised_at=AT + 2 * DAY, beat="1114")])
    assert (await response(before)).status == "active"
    assert await open_orders(before) == asked
    await before.feed([unfounded()])
    assert await open_orders(before) == dict.fromkeys(asked, "cancelled")
    await all_the_same_again(before)


@pytest.mark.parametrize("change", [without_lights, smaller])
async def test_what_comes_after_the_change_may_come_in_any_order(
    before: Stream, areas: Areas, policy: Policy, change: Change
) -> None:
    """Once something is known that the policy in force decides on, the rest of it may come as it likes."""
    far = {"point": FAR, "address": "4001 W MAYPOLE AVE", "created_at": AT + 3 * DAY}
    news: list[IncidentReport | IssueReport] = [
        closed("SR2", **far),
        unfounded(),
        shooting("ZZ1", event="homicide", revised_at=AT + 7 * DAY),
    ]
    found = []
    now = await under(other(policy, change), areas, before.connection)
    await now.feed([shooting("ZZ1", revised_at=AT + DAY, beat="1113")])
    for order in permutations(news):
        transaction = before.connection.transaction()
        await transaction.start()
        for one in order:
            await now.feed([one])
        tables = await final_tables(before.connection)
        by_whom = {
            "policy_version"
        }  # one that had ended before anybody spoke is folded by the policy in force
        ended = [one.model_dump(exclude=by_whom) for one in await orders(now)]
        found.append((tables["responses"], tables["order_causes"], ended))
        await transaction.rollback()
    assert all(one == found[0] for one in found[1:])
    assert {one["state"] for one in found[0][2] if "WEST END" in one["order_key"]} == {"cancelled"}


async def test_other_boundaries_leave_what_was_asked_for_and_the_end_takes_it_back(
    before: Stream, areas: Areas, policy: Policy
) -> None:
    """The place lies in no area any more: another tier, other plans."""
    asked = await open_orders(before)
    moved = Moved(areas, revision=7)
    now = Stream(before.connection, policy, moved)
    await now.feed([shooting("ZZ1", revised_at=AT + DAY, beat="1113")])
    found = await response(now)
    assert found.area is None
    assert any(zone.earlier for zone in found.zones)
    assert found.floor == 0
    states = await open_orders(now)
    assert {key: states[key] for key in asked} == asked
    await now.feed([unfounded()])
    assert set((await open_orders(now)).values()) == {"cancelled"}
    await all_the_same_again(now)


class Moved(Boundaries):
    """Boundaries in which no place lies in an area."""

    def __init__(self, base: Areas, revision: int) -> None:
        super().__init__(base, revision=revision)

    def locate(self, points: Any, published: Any, at: Any) -> Any:
        nowhere = {"area": None, "computed_area": None, "rule": "point_outside_every_area"}
        return [one.model_copy(update=nowhere) for one in super().locate(points, published, at)]
