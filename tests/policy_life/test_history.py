"""How many decisions were taken under each activation, and which of them when another policy held already."""

from typing import Any

from connectors.geography.areas import Areas
from connectors.postgres import activations
from connectors.postgres.activations import New
from connectors.postgres.policies import Taken, decisions_taken, keep_policy
from schemas.policy import Policy
from tests.pipeline.stream import Stream
from tests.pipeline.test_departments import shooting
from tests.pipeline.test_updates import fix, light, update
from tests.policy_life.test_pinned import later, newer


async def put_in_force(connection: Any, policy: Policy) -> int:
    await keep_policy(connection, policy)
    async with connection.transaction():
        return (await activations.activate(connection, New("policy", policy.version, "cli:me", "a test"))).seq


async def test_a_period_that_is_over_still_grows_by_what_departments_say_of_orders_that_it_opened(
    connection: Any, policy: Policy, areas: Areas
) -> None:
    first = await put_in_force(connection, policy)
    stream = Stream(connection, policy, areas)
    await stream.feed([shooting("ZZ1"), light("SR1")])
    second = await put_in_force(connection, newer(policy))
    before = (await decisions_taken(connection))[first]
    assert before.decisions
    assert before.later == 0
    after = await later(stream, areas)
    await after.say("cdot", update(await fix(stream), "acknowledge"), update(await fix(stream), "start"))
    assert await decisions_taken(connection) == {
        first: Taken(before.decisions + 2, 2),
        second: Taken(0, 0),
    }
