"""Orders become requests in a city's endpoint and come back closed, whatever the endpoint does, and through kill -9."""

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import pytest

from connectors.open311.follower import Pace, Surroundings, follow
from connectors.ports import Told
from connectors.postgres import feed
from connectors.postgres import open311_filings as filings
from connectors.postgres.open311_filings import Endpoint, Filing
from schemas.base import Point
from schemas.policy import Policy
from schemas.work_order import DepartmentState, DepartmentWorkOrder
from schemas.work_order_update import WorkOrderUpdate
from tests.open311.city import CODE, JURISDICTION, KEY, FakeCity, failing, hang, html, raw
from tests.open311.ours import today
from tests.pipeline.test_departments import shooting, told

LONG_S = 30.0
PACE = Pace(idle_s=0.05, lease_s=10.0, settle_s=0.3, first_retry_s=0.02, longest_retry_s=0.1)
REFERENCE = "WO-00000-00001"


def order(state: DepartmentState = "new", version: int = 1, **changes: Any) -> DepartmentWorkOrder:
    return DepartmentWorkOrder(
        reference=REFERENCE, version=version, state=state, category="street_light", work="fix",
        title="Repair street light", address="4015 W WEST END AVE", point=Point(lat=41.8836, lon=-87.727), area=26,
        priority="urgent", requested_on=date(2026, 7, 4), outcome=None, hold_reason=None, crew=None, estimate=None,
        service_requests=(), simulated=False,
    ).model_copy(update=changes)  # fmt: skip


class World:
    """A department whose orders are filed with the city; `said` is what comes back."""

    def __init__(self, pool: Any, city: FakeCity) -> None:
        self.pool, self.city = pool, city
        self.said: list[WorkOrderUpdate] = []

    async def told(self, *orders: DepartmentWorkOrder) -> None:
        async with self.pool.acquire() as connection:
            rows = [
                Told("cdot", "work-order", one.reference, one.version, one.model_dump_json())
                for one in orders
            ]
            await feed.add(connection, rows)

    async def filings(self) -> list[Filing]:
        async with self.pool.acquire() as connection:
            return sorted(await filings.filings(connection, None, None, 100), key=lambda one: one.key)

    async def filing(self) -> Filing:
        return (await self.filings())[-1]

    async def problem(self) -> str:
        async with self.pool.acquire() as connection:
            return (await filings.endpoints(connection))[0].problem or ""

    async def tell(self, department: str, update: WorkOrderUpdate) -> None:
        assert department == "cdot"
        self.said.append(update)

    @property
    def verbs(self) -> list[str]:
        return [update.verb for update in self.said]

    @asynccontextmanager
    async def following(self, **changes: Any) -> AsyncIterator[None]:
        stop = asyncio.Event()
        around = Surroundings(
            self.pool, self.tell, "test", {"CITY_KEY": KEY}.get, random.Random(1).random,
            pace=Pace(**{name: getattr(PACE, name) for name in PACE.__slots__} | changes),
        )  # fmt: skip
        task = asyncio.create_task(follow(around, stop))
        try:
            yield
        finally:
            stop.set()
            async with asyncio.timeout(LONG_S):
                await task


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what may be awaited or not to become true."""
    async with asyncio.timeout(LONG_S):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.02)


@pytest.fixture
async def world(pool: Any, city: FakeCity) -> World:
    one = Endpoint("cdot", city.url, "CITY_KEY", JURISDICTION, {"street_light": CODE}, (), 60_000, 1)
    async with pool.acquire() as connection:
        await filings.put_endpoint(connection, one, str(feed.Cursor()))
    return World(pool, city)


@pytest.mark.parametrize("polls", [None, 3])
async def test_an_order_is_filed_acknowledged_and_comes_back_fixed(world: World, polls: int | None) -> None:
    world.city.gives_tokens = polls
    await world.told(order())
    async with world.following():
        await until(lambda: world.verbs == ["acknowledge"])
        [(number, request)] = world.city.requests.items()
        assert request["description"] == f"Repair street light ({REFERENCE})"
        assert (request["address"], request["lat"]) == ("4015 W WEST END AVE", 41.8836)
        assert "urgent" not in json.dumps(request)
        world.city.close(number, "Lamp replaced.")
        await until(lambda: world.verbs[1:] == ["resolve"])
    assert (world.said[-1].outcome, world.said[-1].text) == ("fixed", "Lamp replaced.")
    assert world.said[-1].by == f"311 request {number}"
    assert (await world.filing()).state == "closed"


async def test_what_the_city_says_counts_for_the_order_itself(
    pool: Any, city: FakeCity, connection: Any, policy: Policy, areas: Any
) -> None:
    stream = today(connection, policy, areas)
    await stream.feed([shooting("ZZ1")])
    codes = {one.code: CODE for one in policy.categories}
    one = Endpoint("cdot", city.url, "CITY_KEY", JURISDICTION, codes, (), 60_000, 1)
    await filings.put_endpoint(connection, one, str(feed.Cursor()))
    world = World(pool, city)
    orders = {each.reference for each in told(stream.events) if each.category.endswith("light")}
    async with world.following():
        await until(lambda: len(world.said) == len(orders))
        for number in city.requests:
            city.close(number, "Fixed")
        await until(lambda: len(world.said) == 2 * len(orders))
    results = await stream.say("cdot", *world.said)
    assert {(result.verdict, result.reference) for result in results} == {("accepted", one) for one in orders}
    states = await connection.fetch("SELECT state, outcome FROM work_orders WHERE department = 'cdot'")
    assert set(states) == {("resolved", "fixed")}
    assert not any(
        word in json.dumps(city.requests).lower() for word in ("shoot", "gun", "zz1", "urgent", "high")
    )


@pytest.mark.parametrize(
    "fault", [failing(500), failing(503, "0"), failing(429, "0"), html, raw(b"[" * 100_000), raw(b"{}"), raw(b"[]"),
              raw(b"null"), failing(302), raw(b'[{"service_request_id": {"a": 1}}]')],
)  # fmt: skip
async def test_a_wrong_answer_is_kept_explained_and_tried_again(world: World, fault: Any) -> None:
    world.city.faults.extend([fault] * 2)
    await world.told(order())
    async with world.following():
        await until(lambda: "acknowledge" in world.verbs)
    assert len(world.city.requests) == 1


async def test_a_wrong_answer_while_following_changes_nothing(world: World) -> None:
    await world.told(order())
    async with world.following():
        await until(lambda: world.verbs == ["acknowledge"])
        world.city.faults.extend(
            [html, failing(500), raw(b"[{}]"), raw(b'[{"service_request_id": 100000}]'), hang]
        )
        await until(lambda: len(world.city.faults) == 0)
    assert world.verbs == ["acknowledge"]


async def test_the_endpoints_last_problem_is_kept_for_people(world: World) -> None:
    world.city.faults.extend([html] * 1000)
    await world.told(order())
    async with world.following():
        await until(world.problem)
    assert "not JSON: <html><body>Down for maintenance" in await world.problem()


async def test_a_retry_after_is_obeyed(world: World) -> None:
    world.city.faults.append(failing(429, "3600"))
    await world.told(order())
    async with world.following():
        await until(world.problem)
        asked = len(world.city.seen)
        await until(lambda: _passes(world))
    assert len(world.city.seen) == asked == 1


async def _passes(world: World) -> bool:
    """A second order was told and read, or would have been: the endpoint is left alone meanwhile."""
    async with world.pool.acquire() as connection:
        standing = (await filings.endpoints(connection))[0]
        paused = await connection.fetchval(
            "SELECT paused_until > now() + interval '50 minutes' FROM open311_endpoints"
        )
    return bool(paused) and standing.failures == 1


async def test_a_wrong_key_or_none_stops_the_endpoint_and_says_so(world: World) -> None:
    async with world.pool.acquire() as connection:
        await connection.execute("UPDATE open311_endpoints SET key_variable = 'NOT_THERE'")
    await world.told(order())
    async with world.following():
        await until(world.problem)
    assert "NOT_THERE is not set" in await world.problem()
    assert world.city.seen == []


async def test_an_answer_that_never_came_is_looked_for_before_anything_is_filed_again(world: World) -> None:
    world.city.knows_keys = False
    world.city.after_filing.extend([failing(500), html, failing(504)])
    await world.told(order())
    async with world.following():
        await until(lambda: "acknowledge" in world.verbs)
    assert len(world.city.requests) == 1


async def test_an_endpoint_that_takes_no_lists_is_asked_one_by_one(world: World) -> None:
    world.city.takes_lists = False
    await world.told(order(), order(reference="WO-00000-00002"))
    async with world.following():
        await until(lambda: len(world.said) == 2)
        for number in world.city.requests:
            world.city.close(number, "Repaired")
        await until(lambda: world.verbs.count("resolve") == 2)


async def test_an_endpoint_that_declines_lists_is_asked_one_by_one(world: World) -> None:
    world.city.declines = frozenset({"lists"})
    await world.told(order())
    async with world.following():
        await until(lambda: world.verbs == ["acknowledge"])


async def test_where_nobody_can_see_whether_it_was_filed_people_are_told_and_nothing_is_sent_again(
    world: World,
) -> None:
    world.city.knows_keys, world.city.declines = False, frozenset({"lists"})
    world.city.after_filing.append(failing(500))
    await world.told(order(), order(reference="WO-00000-00002"))
    async with world.following():
        await until(lambda: world.verbs == ["acknowledge"])  # the other one goes its way
        await until(lambda: _asks_people(world))
    assert len(world.city.requests) == 2


async def _asks_people(world: World) -> bool:
    return any("Ask the city" in (one.problem or "") for one in await world.filings())


async def test_a_token_that_is_declined_is_asked_about_again_and_holds_up_no_other(world: World) -> None:
    world.city.gives_tokens, world.city.declines = 0, frozenset({"tokens"})
    await world.told(order())
    async with world.following():
        await until(lambda: _problem_of_any(world))
        assert "not yet" in str((await world.filing()).problem)
        world.city.declines = frozenset()
        await until(lambda: world.verbs == ["acknowledge"])


async def test_what_is_taken_back_before_it_is_sent_is_never_filed(world: World) -> None:
    await world.told(order(), order("cancelled", 2), order(reference="WO-00000-00002"))
    async with world.following():
        await until(lambda: world.verbs == ["acknowledge"])
    assert [request["description"][-15:-1] for request in world.city.requests.values()] == ["WO-00000-00002"]


async def test_a_cancelled_order_stays_with_the_city_and_people_are_told(world: World) -> None:
    await world.told(order())
    async with world.following():
        await until(lambda: world.verbs == ["acknowledge"])
        await world.told(order("cancelled", 2))
        await until(lambda: _problem_of(world))
    assert "no words to take a request back" in str((await world.filing()).problem)


async def _problem_of(world: World) -> str | None:
    return (await world.filing()).problem


async def test_an_order_that_is_opened_again_is_filed_again(world: World) -> None:
    await world.told(order())
    async with world.following():
        await until(lambda: world.verbs == ["acknowledge"])
        world.city.close("100000", "Repaired")
        await until(lambda: world.verbs[-1] == "resolve")
        await world.told(order("resolved", 2, outcome="fixed"), order("reopened", 3))
        await until(lambda: len(world.city.requests) == 2)
        await until(lambda: world.verbs.count("acknowledge") == 2)
    assert [(one.number, one.state) for one in await world.filings()] == [(1, "closed"), (2, "filed")]


async def test_a_request_that_the_city_opens_again_reopens_the_order(world: World) -> None:
    await world.told(order())
    async with world.following():
        await until(lambda: world.verbs == ["acknowledge"])
        world.city.close("100000", "Repaired")
        await until(lambda: world.verbs[-1] == "resolve")
        world.city.change("100000", status="open", status_notes="Out again")
        await until(lambda: world.verbs[-1] == "reopen")
    assert world.said[-1].text == "Out again"


async def test_a_category_without_a_service_code_is_said_to_have_none(world: World) -> None:
    await world.told(order(category="graffiti"))
    async with world.following():
        await until(lambda: _problem_of_any(world))
    assert (await world.filing()).problem == "There is no service code for graffiti."


async def _problem_of_any(world: World) -> str | None:
    found = await world.filings()
    return found[-1].problem if found else None


# ---------------------------------------------------------------- kill -9


@asynccontextmanager
async def child(dsn: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The follower as a process; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.open311.child", dsn, stdout=asyncio.subprocess.DEVNULL,
        env=os.environ | {"CITY_KEY": KEY, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        async with asyncio.timeout(LONG_S):
            await process.wait()


async def test_killed_between_the_post_and_our_note_nothing_is_filed_twice(
    world: World, database_url: str
) -> None:
    world.city.knows_keys = False
    world.city.after_filing.append(hang)
    await world.told(order())
    async with child(database_url):
        await until(lambda: len(world.city.requests) == 1)
    assert (await world.filing()).state == "sending"
    async with child(database_url):
        await until(lambda: _is_filed(world))
    assert len(world.city.requests) == 1


async def _is_filed(world: World) -> bool:
    return (await world.filing()).state == "filed" and (await world.filing()).seen is not None


async def test_killed_at_random_each_order_is_filed_once_and_closed_once(
    world: World, database_url: str
) -> None:
    """With a seed; `settle_s` of the child is longer than the city needs to show what it has."""
    world.city.knows_keys = False
    world.city.gives_tokens = 1
    chance = random.Random(311)
    references = {f"WO-00000-0000{digit}" for digit in "123456789"}
    await world.told(*(order(reference=reference) for reference in sorted(references)))
    for _ in range(4):
        async with child(database_url):
            await until(lambda: len(world.city.seen) > 0)
            before = len(world.city.seen)
            more = chance.randrange(1, 8)
            await until(lambda at=before + more: len(world.city.seen) >= at)  # type: ignore[misc]
        world.city.seen.clear()
    async with child(database_url):
        await until(lambda: _all_are(world, "filed"))
        for number in world.city.requests:
            world.city.close(number, "Repaired")
        await until(lambda: _all_are(world, "closed"))
    described = sorted(one["description"] for one in world.city.requests.values())
    assert described == [f"Repair street light ({reference})" for reference in sorted(references)]
    async with world.pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT value FROM outbox WHERE topic = 'work-order-updates.cdot' ORDER BY seq"
        )
    updates = [WorkOrderUpdate.model_validate_json(row["value"]) for row in rows]
    told_of = sorted((update.reference, update.verb) for update in updates)
    assert told_of == sorted((one, verb) for one in references for verb in ("acknowledge", "resolve"))


async def _all_are(world: World, state: str) -> bool:
    found = await world.filings()
    return bool(found) and all(one.state == state for one in found)


async def test_another_process_goes_on_where_one_was_paused_or_has_died(world: World) -> None:
    async with world.pool.acquire() as connection:
        assert await filings.lease(connection, "cdot", "first", 60.0)
        assert await filings.free_departments(connection, "second") == []
        assert await filings.lease(connection, "cdot", "second", 60.0) is None
        await filings.pause(connection, "cdot", 0.0, "away")
        assert await filings.lease(connection, "cdot", "second", 0.0)  # it dies at once
        assert await filings.free_departments(connection, "third") == ["cdot"]
        assert await filings.lease(connection, "cdot", "third", 60.0)
