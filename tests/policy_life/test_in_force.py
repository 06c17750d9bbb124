"""Which policy holds when a process starts, and how it follows."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agents.messages import Binding, Message, Outcome
from agents.switch import Switch
from connectors.postgres import activations, readmodels
from connectors.postgres.activations import ITSELF, New
from connectors.postgres.policies import keep_policy
from connectors.postgres.pool import create_pool
from infra.cli.errors import Oops
from infra.in_force import WITH_THE_SOFTWARE, File, Follower, InForce, _begin, settle
from infra.policy.activating import put_in_force
from infra.settings import Settings
from schemas.policy import Policy
from schemas.topics import INCIDENTS, RESPONSES
from tests.policy_life.changed import tighter


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Any]:
    made = await create_pool(database_url, min_size=1, max_size=4)
    yield made
    await made.close()


def named(policy: Policy, version: str) -> Policy:
    return policy.model_copy(update={"version": version})


async def activate(connection: Any, policy: Policy, by: str = "cli:ann") -> None:
    async with connection.transaction():
        await keep_policy(connection, policy)
        await activations.activate(connection, New("policy", policy.version, by, "because"))


async def versions(connection: Any) -> list[str]:
    return [one.version for one in await activations.history(connection, "policy")]


async def test_the_file_is_activated_at_the_first_start_and_audited(
    pool: Any, connection: Any, policy: Policy
) -> None:
    assert (await settle(pool, Settings())).policy == policy
    [row] = await activations.history(connection, "policy")
    assert (row.version, row.by, row.why) == (policy.version, ITSELF, "at first start")
    audited = await connection.fetchrow("SELECT actor, action, subject, outcome FROM audit")
    assert tuple(audited) == (ITSELF, "policy.activate", policy.version, "done")


async def test_two_processes_that_start_at_once_activate_it_once(pool: Any, connection: Any) -> None:
    found = await asyncio.gather(settle(pool, Settings()), settle(pool, Settings()))
    assert found[0] == found[1]
    assert len(await versions(connection)) == 1


async def test_the_active_policy_holds_against_another_file(
    pool: Any, connection: Any, policy: Policy, tmp_path: Path
) -> None:
    await settle(pool, Settings())
    found = await settle(pool, Settings(policy=tighter(tmp_path / "p")))
    assert found.policy.version == policy.version
    assert len(await versions(connection)) == 1


async def test_a_file_that_is_wrong_stops_nobody_while_another_policy_is_active(
    pool: Any, policy: Policy, tmp_path: Path
) -> None:
    await settle(pool, Settings())
    broken = tighter(tmp_path / "p")
    (broken / "sla.yaml").write_text("promises: [")
    assert (await settle(pool, Settings(policy=broken))).policy == policy


async def begin(connection: Any, policy: Policy, *, shipped: bool) -> list[str]:
    async with connection.transaction():
        await _begin(connection, File(policy, shipped))
    return await versions(connection)


async def test_an_installation_that_only_ever_ran_shipped_policies_goes_on_with_the_next(
    connection: Any, policy: Policy
) -> None:
    assert await begin(connection, named(policy, "first"), shipped=True) == ["first"]
    assert await begin(connection, named(policy, "second"), shipped=True) == ["first", "second"]
    assert (await activations.history(connection, "policy"))[-1].why == WITH_THE_SOFTWARE
    # the older software, which still runs beside, does not take it back
    assert await begin(connection, named(policy, "first"), shipped=True) == ["first", "second"]


async def test_one_that_a_person_has_activated_does_not(connection: Any, policy: Policy) -> None:
    await begin(connection, named(policy, "first"), shipped=True)
    await activate(connection, named(policy, "ours"))
    assert await begin(connection, named(policy, "second"), shipped=True) == ["first", "ours"]


async def test_a_file_of_ones_own_that_was_changed_is_not_activated_by_a_start(
    connection: Any, policy: Policy
) -> None:
    await begin(connection, named(policy, "own"), shipped=False)
    assert await begin(connection, named(policy, "edited"), shipped=False) == ["own"]


async def test_a_process_follows_once_and_in_order(pool: Any, connection: Any, policy: Policy) -> None:
    seen: list[str] = []

    async def changed(found: InForce) -> None:
        seen.append(found.policy.version)

    follower = Follower(pool, await settle(pool, Settings()), changed)
    await follower.look()
    await activate(connection, named(policy, "second"))
    await follower.look()
    await follower.look()
    await activate(connection, named(policy, policy.version))
    await follower.look()
    assert seen == ["second", policy.version]
    newest = await readmodels.newest_policy(connection)
    assert newest is not None
    assert newest.version == policy.version


async def test_what_could_not_be_followed_is_tried_again(pool: Any, connection: Any, policy: Policy) -> None:
    attempts: list[str] = []

    async def changed(found: InForce) -> None:
        attempts.append(found.policy.version)
        if len(attempts) == 1:
            raise Oops("not now")

    follower = Follower(pool, await settle(pool, Settings()), changed)
    await activate(connection, named(policy, "second"))
    with pytest.raises(Oops):
        await follower.look()
    await follower.look()
    await follower.look()
    assert attempts == ["second", "second"]


async def test_activations_are_only_ever_added_to(connection: Any, policy: Policy) -> None:
    await activate(connection, policy)
    for change in ("UPDATE activations SET why = 'x'", "DELETE FROM activations", "TRUNCATE activations"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(change)


async def test_the_policy_that_is_active_is_not_activated_again(connection: Any, policy: Policy) -> None:
    async def prepare(_: Any) -> None:
        raise AssertionError("there is nothing to prepare")

    await activate(connection, policy)
    _, added = await put_in_force(connection, policy, "cli:ann", "again", prepare)
    assert added is None
    assert len(await versions(connection)) == 1


async def test_when_the_topics_cannot_be_made_nothing_is_activated(connection: Any, policy: Policy) -> None:
    async def prepare(_: Any) -> None:
        raise Oops("the broker is away")

    await activate(connection, policy)
    with pytest.raises(Oops):
        await put_in_force(connection, named(policy, "second"), "cli:ann", "x", prepare)
    assert await versions(connection) == [policy.version]
    assert await connection.fetchval("SELECT count(*) FROM policies") == 1


async def test_a_batch_that_has_begun_ends_by_the_bindings_that_it_began_with() -> None:
    said: list[str] = []
    turned, begun = asyncio.Event(), asyncio.Event()

    def bindings(name: str) -> list[Binding]:
        async def handle(connection: Any, messages: Sequence[Message]) -> Outcome:
            begun.set()
            await turned.wait()
            said.append(name)
            return Outcome()

        return [Binding(INCIDENTS, "triage", handle), Binding(RESPONSES, "dispatch", handle)]

    switch = Switch(bindings("old"))
    at_work = asyncio.create_task(_run(switch.bindings[0]))
    await begun.wait()
    assert switch.reads_the_same(bindings("new"))
    switch.turn(bindings("new"))
    turned.set()
    await at_work
    await _run(switch.bindings[0])
    await _run(switch.bindings[1])
    assert said == ["old", "new", "new"]
    assert not switch.reads_the_same(bindings("new")[:1])


async def _run(binding: Binding) -> None:
    await binding.handle(None, [])
