"""All checks, one after the other, in one moment of the database."""

from collections.abc import Callable, Sequence
from typing import Final

import asyncpg

from infra.verify.registry import CHECKS
from infra.verify.report import Check, Disagreement, Need, Outcome
from infra.verify.world import World

TELL_EVERY: Final = 500
NOT_DONE: Final[dict[Need, str]] = {
    "drained": "not everything that was accepted is handled yet",
    "topics": "no broker to look at, or not everything that was accepted is handled yet",
    "seen": "no file of what crews hold was named (--seen)",
}


async def verify(
    world: World, checks: Sequence[Check] = CHECKS, tell: Callable[[Outcome], None] = lambda _: None
) -> list[Outcome]:
    """Run the checks; `tell` hears of each at its beginning, now and then, and at its end. Changes nothing.

    Raises Transient where broker or database are away.
    """
    async with world.connection.transaction(isolation="repeatable_read", readonly=True):
        return [await _run(check, world, tell) for check in checks]


async def _run(check: Check, world: World, tell: Callable[[Outcome], None]) -> Outcome:
    outcome = Outcome(check)
    tell(outcome)
    if not _can(check.needs, world):
        outcome.not_done = NOT_DONE[check.needs]
    else:
        await _compare(check, world, outcome, tell)
    tell(outcome)
    return outcome


async def _compare(check: Check, world: World, outcome: Outcome, tell: Callable[[Outcome], None]) -> None:
    """In a savepoint: what PostgreSQL cannot read ends this check and no other."""
    try:
        async with world.connection.transaction():
            async for look in check.run(world):
                outcome.add(look)
                if outcome.compared % TELL_EVERY == 0:
                    tell(outcome)
    except asyncpg.DataError as error:
        said = f"{type(error).__name__} after {outcome.compared:,} comparisons"
        outcome.add(Disagreement("a row of its tables", "JSON and numbers that can be read", said))


def _can(needs: Need, world: World) -> bool:
    return {
        "nothing": True,
        "drained": world.drained,
        "topics": world.drained and world.records is not None,
        "seen": bool(world.seen),
    }[needs]
