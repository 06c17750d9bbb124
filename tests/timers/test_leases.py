"""Arming, leasing and giving back, as statements on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from connectors.postgres import timers
from connectors.postgres.timers import Lease
from tests.timers.conftest import order_id, seconds_from_now, timer

FIRST_S, LONGEST_S = 10.0, 600.0


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Any]:
    connected = await asyncpg.connect(database_url)
    yield connected
    await connected.close()


async def claim(connection: Any, within_s: float = 1.0, most: int = 1000) -> list[Lease]:
    return (await timers.claim(connection, within_s, most, FIRST_S, LONGEST_S)).leases


async def row(connection: Any, number: int) -> tuple[datetime, datetime, int]:
    found = await connection.fetchrow(
        "SELECT due_at, nudge_at, nudges FROM timers WHERE subject_id = $1", order_id(number)
    )
    return tuple(found)


async def age(connection: Any, seconds: float) -> None:
    """As if so much time had gone by."""
    await connection.execute(
        "UPDATE timers SET due_at = due_at - $1::interval, nudge_at = nudge_at - $1::interval",
        timedelta(seconds=seconds),
    )


async def test_an_order_has_one_timer_and_the_last_due_time_holds(connection: Any) -> None:
    soon, later = [await seconds_from_now(connection, s) for s in (1, 2)]
    await timers.arm(connection, [timer(1, later), timer(2, soon), timer(1, soon)])
    assert await row(connection, 1) == (soon, soon, 0)
    await timers.arm(connection, [timer(1, later)])
    assert await row(connection, 1) == (later, later, 0)


async def test_an_unchanged_due_time_keeps_its_lease_and_another_ends_it(connection: Any) -> None:
    due, later = [await seconds_from_now(connection, s) for s in (0, 60)]
    await timers.arm(connection, [timer(1, due)])
    (leased,) = await claim(connection)
    await timers.arm(connection, [timer(1, due)])
    assert await row(connection, 1) == (due, leased.leased_until, 1)
    await timers.arm(connection, [timer(1, later)])
    assert await row(connection, 1) == (later, later, 0)


async def test_disarmed_is_gone_and_what_was_never_armed_as_well(connection: Any) -> None:
    due = await seconds_from_now(connection, 0)
    await timers.arm(connection, [timer(1, due), timer(2, due)])
    await timers.disarm(connection, [order_id(1), order_id(3)])
    assert [one.subject_id for one in await claim(connection)] == [order_id(2)]


async def test_a_lease_has_what_a_nudge_needs_and_only_what_is_due_soon_is_leased(connection: Any) -> None:
    due, later = [await seconds_from_now(connection, s) for s in (0.5, 60)]
    await timers.arm(connection, [timer(1, due), timer(2, later)])
    (leased,) = await claim(connection)
    until = due + timedelta(seconds=FIRST_S)
    expected = timer(1, due)
    assert leased == Lease(due, expected.subject_id, expected.key, expected.reference, due, 1, until)


async def test_the_longest_due_are_leased_first(connection: Any) -> None:
    dues = [await seconds_from_now(connection, -number) for number in range(50)]
    await timers.arm(connection, [timer(number, due) for number, due in enumerate(dues)])
    leased = await claim(connection, most=10)
    assert sorted(one.due_at for one in leased) == sorted(dues)[:10]


async def test_two_at_once_lease_nothing_twice(connection: Any, other: Any) -> None:
    due = await seconds_from_now(connection, 0)
    await timers.arm(connection, [timer(number, due) for number in range(2000)])
    leased: list[Lease] = []
    while any(found := await asyncio.gather(claim(connection, most=50), claim(other, most=50))):
        leased += [*found[0], *found[1]]
    assert sorted(one.subject_id for one in leased) == sorted(order_id(number) for number in range(2000))


async def test_what_another_is_leasing_is_passed_over_and_not_waited_for(connection: Any, other: Any) -> None:
    due = await seconds_from_now(connection, 0)
    await timers.arm(connection, [timer(1, due), timer(2, due)])
    async with other.transaction():
        assert len(await claim(other, most=1)) == 1
        async with asyncio.timeout(5):
            assert len(await claim(connection)) == 1


async def test_a_lease_that_ends_is_taken_again_and_doubles_up_to_a_limit(connection: Any) -> None:
    await timers.arm(connection, [timer(1, await seconds_from_now(connection, 0))])
    lengths = []
    for nudge in range(1, 12):
        (leased,) = await claim(connection, within_s=0)
        assert leased.nudges == nudge
        assert await claim(connection) == []
        lengths.append(round((leased.leased_until - leased.at).total_seconds()))
        await age(connection, lengths[-1])
    assert lengths == [10, 20, 40, 80, 160, 320, 600, 600, 600, 600, 600]


async def test_who_does_not_answer_for_two_days_is_nudged_some_hundred_times_and_no_more(
    connection: Any,
) -> None:
    await timers.arm(connection, [timer(1, await seconds_from_now(connection, 0))])
    passed_s, nudges = 0.0, 0
    while passed_s < 2 * 86_400:
        (leased,) = await claim(connection, within_s=0)
        nudges += 1
        length_s = (leased.leased_until - leased.at).total_seconds()
        await age(connection, length_s)
        passed_s += length_s
    assert nudges < 300


async def test_a_timer_of_a_downtime_has_its_lease_from_now_on(connection: Any) -> None:
    due = await seconds_from_now(connection, -2 * 86_400)
    await timers.arm(connection, [timer(1, due)])
    (leased,) = await claim(connection)
    now = await seconds_from_now(connection, 0)
    assert timedelta(seconds=FIRST_S - 5) < leased.leased_until - now <= timedelta(seconds=FIRST_S)
    assert leased.due_at == due


async def test_what_is_given_back_is_as_it_was(connection: Any) -> None:
    due = await seconds_from_now(connection, 0)
    await timers.arm(connection, [timer(1, due)])
    leased = await claim(connection)
    await timers.let_go(connection, leased)
    assert await row(connection, 1) == (due, due, 0)
    assert await claim(connection) != []


async def test_what_was_armed_or_leased_since_is_not_given_back(connection: Any) -> None:
    due, later = [await seconds_from_now(connection, s) for s in (0, 60)]
    await timers.arm(connection, [timer(1, due), timer(2, due)])
    old = await claim(connection)
    await timers.arm(connection, [timer(1, later)])
    await age(connection, FIRST_S)
    (new,) = await claim(connection, within_s=0)
    await timers.let_go(connection, old)
    assert (await row(connection, 2))[1:] == (new.leased_until, 2)
    assert (await row(connection, 1))[2] == 0


async def test_what_its_writer_is_just_arming_is_not_waited_for(connection: Any, other: Any) -> None:
    due, later = [await seconds_from_now(connection, s) for s in (0, 60)]
    await timers.arm(connection, [timer(1, due), timer(2, due)])
    leased = await claim(connection)
    async with other.transaction():
        await timers.arm(other, [timer(1, later)])
        async with asyncio.timeout(5):
            await timers.let_go(connection, leased)
    assert await row(connection, 1) == (later, later, 0)
    assert await row(connection, 2) == (due, due, 0)
