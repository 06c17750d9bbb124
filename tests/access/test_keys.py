"""API keys against a real database: made, checked, remembered, rotated, revoked, expired."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from connectors.access.authenticate import Authenticator, Unauthenticated, Unavailable
from connectors.access.key import ApiKey, new_key, new_secret
from connectors.access.keys import ApiKeys
from connectors.access.principal import Principal, Role
from connectors.postgres import keys
from connectors.postgres.pool import Connection, Pool, create_pool
from tests.access.conftest import T0, Clock

MEMORY = timedelta(seconds=5)


def knows(department: str) -> bool:
    return department == "cdot"


async def add(connection: Connection, *roles: Role, expires_at: datetime | None = None) -> ApiKey:
    key = new_key()
    department = "cdot" if "department" in roles else None
    await keys.add(
        connection, key, name="test", roles=roles, department=department, created_at=T0, expires_at=expires_at
    )
    return key


@pytest.fixture
def checked(pool: Pool, clock: Clock) -> ApiKeys:
    return ApiKeys(pool, knows, memory=MEMORY, now=clock)


async def refusal(checked: ApiKeys, key: ApiKey) -> str:
    with pytest.raises(Unauthenticated) as refused:
        await checked.principal(key.text)
    return str(refused.value)


async def test_a_key_is_somebody_with_roles_and_a_department(
    connection: Connection, checked: ApiKeys
) -> None:
    ours, theirs = await add(connection, "intake", "auditor"), await add(connection, "department")
    assert await Authenticator(checked)(f"Bearer {ours.text}") == Principal(
        f"key:{ours.key_id}", frozenset({"intake", "auditor"})
    )
    assert await Authenticator(checked)(f"bearer  {theirs.text} ") == Principal(
        f"key:{theirs.key_id}", frozenset({"department"}), "cdot"
    )


async def test_no_secret_is_in_the_database(connection: Connection) -> None:
    key = await add(connection, "intake")
    stored = await connection.fetchval("SELECT api_keys::text FROM api_keys")
    assert key.key_id in stored
    assert key.secret not in stored
    assert key.secret not in repr(key)


async def test_a_wrong_secret_and_an_unknown_key_are_told_the_same(
    connection: Connection, checked: ApiKeys
) -> None:
    key = await add(connection, "intake")
    await checked.principal(key.text)
    wrong = await refusal(checked, new_secret(key.key_id))
    assert wrong == await refusal(checked, new_key())
    assert key.key_id not in wrong


async def test_an_expiry_holds_at_once_even_for_a_remembered_key(
    connection: Connection, checked: ApiKeys, clock: Clock
) -> None:
    key = await add(connection, "intake", expires_at=T0 + timedelta(seconds=2))
    await checked.principal(key.text)
    clock.pass_(seconds=2)
    assert "is expired" in await refusal(checked, key)


async def test_a_revocation_holds_within_the_memory(
    connection: Connection, checked: ApiKeys, clock: Clock
) -> None:
    key = await add(connection, "intake")
    await checked.principal(key.text)
    assert await keys.revoke(connection, key.key_id, T0)
    clock.pass_(seconds=4.9)
    await checked.principal(key.text)
    clock.pass_(seconds=0.1)
    assert "is revoked" in await refusal(checked, key)
    assert not await keys.revoke(connection, key.key_id, T0)


async def test_after_a_rotation_the_new_secret_is_good_at_once_and_the_old_one_for_a_while(
    connection: Connection, checked: ApiKeys, clock: Clock
) -> None:
    old = await add(connection, "intake")
    await checked.principal(old.text)
    new = new_secret(old.key_id)
    assert await keys.rotate(connection, new, T0 + timedelta(hours=24))
    assert await checked.principal(new.text) == await checked.principal(old.text)
    clock.pass_(hours=24)
    assert "is not known" in await refusal(checked, old)
    assert (await checked.principal(new.text)).name == f"key:{old.key_id}"


async def test_rotated_twice_the_first_secret_is_no_longer_good(
    connection: Connection, checked: ApiKeys
) -> None:
    first = await add(connection, "intake")
    second, third = new_secret(first.key_id), new_secret(first.key_id)
    for one in (second, third):
        await keys.rotate(connection, one, T0 + timedelta(hours=24))
    await checked.principal(second.text)
    await checked.principal(third.text)
    await refusal(checked, first)


async def test_a_revoked_key_is_not_rotated_back_to_life(connection: Connection, checked: ApiKeys) -> None:
    key = await add(connection, "intake")
    await keys.revoke(connection, key.key_id, T0)
    assert not await keys.rotate(connection, new_secret(key.key_id), T0 + timedelta(hours=1))


async def test_a_department_that_left_the_policy_is_refused(connection: Connection, pool: Pool) -> None:
    key = await add(connection, "department")
    assert "not in the policy" in await refusal(ApiKeys(pool, lambda _: False), key)


async def test_last_used_is_written_once_a_minute_whoever_sees_it(
    connection: Connection, pool: Pool, checked: ApiKeys, clock: Clock
) -> None:
    key = await add(connection, "intake")
    await checked.principal(key.text)
    before = await written(connection)
    other = ApiKeys(pool, knows, memory=MEMORY, now=clock)
    for _ in range(11):
        clock.pass_(seconds=5)
        await checked.principal(key.text)
        await other.principal(key.text)
    assert await written(connection) == before
    clock.pass_(seconds=5)
    await checked.principal(key.text)
    await other.principal(key.text)
    assert (await keys.every(connection))[0].last_used_at == clock.at
    assert before != await written(connection)


async def written(connection: Connection) -> Any:
    """Which transaction wrote the row last."""
    return await connection.fetchval("SELECT xmin::text FROM api_keys")


@pytest.fixture
async def watched_pool(database_url: str, queries: list[str]) -> AsyncIterator[Pool]:
    made = await create_pool(database_url, min_size=1, max_size=1)
    async with made.acquire() as connection:
        real = connection._con
    real.add_query_logger(lambda record: queries.append(record.query))
    yield made
    await made.close()


@pytest.fixture
def queries() -> list[str]:
    return []


async def test_a_remembered_key_costs_no_query(
    connection: Connection, watched_pool: Pool, clock: Clock, queries: list[str]
) -> None:
    key = await add(connection, "intake")
    checked = ApiKeys(watched_pool, knows, memory=MEMORY, now=clock)
    await checked.principal(key.text)
    asked = len(queries)
    assert asked > 0
    for _ in range(100):
        await checked.principal(key.text)
    assert len(queries) == asked
    clock.pass_(seconds=5)
    await checked.principal(key.text)
    assert len(queries) > asked


async def test_with_the_database_away_a_remembered_key_is_good_for_its_time_and_nobody_else_gets_in(
    connection: Connection, database_url: str, clock: Clock
) -> None:
    key = await add(connection, "intake")
    pool = await create_pool(database_url, min_size=1, max_size=1)
    checked = ApiKeys(pool, knows, memory=MEMORY, now=clock)
    await checked.principal(key.text)
    await pool.close()
    await checked.principal(key.text)
    with pytest.raises(Unavailable):
        await checked.principal(new_key().text)
    clock.pass_(seconds=5)
    with pytest.raises(Unavailable):
        await checked.principal(key.text)


async def test_a_clock_that_is_set_back_does_not_stretch_the_memory(
    connection: Connection, checked: ApiKeys, clock: Clock
) -> None:
    key = await add(connection, "intake")
    await checked.principal(key.text)
    await keys.revoke(connection, key.key_id, T0)
    clock.pass_(hours=-1)
    assert "is revoked" in await refusal(checked, key)
