"""The audit trail's chain."""

from collections.abc import AsyncIterator

from connectors.postgres import audit
from infra.verify.report import Disagreement, Look
from infra.verify.world import World


async def chain(world: World) -> AsyncIterator[Look]:
    """Every row has its hash and follows the one before."""
    verdict = await audit.verify(world.connection)
    for _ in range(verdict.head.seq):
        yield None
    if verdict.broken:
        yield Disagreement(f"after row {verdict.head.seq}", "a chain without a break", verdict.broken)
