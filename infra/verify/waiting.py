"""What should not be left over: accepted and not handled, parked though the order is there."""

from collections.abc import AsyncIterator
from typing import Final

from infra.verify.report import Disagreement, Look
from infra.verify.world import World

# Updates whose order has been there for some time.
_PARKED: Final = """
SELECT p.department, p.update_id, p.reference,
  greatest(p.received_at, o.recorded_at) < clock_timestamp() - make_interval(secs => $1) AND o.order_id IS NOT NULL
    AS late
FROM parked_updates p LEFT JOIN work_orders o USING (reference) ORDER BY p.department, p.update_id"""

_UNSENT: Final = (
    "SELECT source, count(*) AS waiting FROM outbox WHERE sent_offset IS NULL GROUP BY 1 ORDER BY 1"
)


async def drained(world: World) -> AsyncIterator[Look]:
    """Everything that was accepted is handled and published."""
    if not world.drained:
        yield Disagreement("the installation", "everything accepted handled", "records or rows that wait")
        return
    unsent = await world.connection.fetch(_UNSENT)
    for row in unsent:
        yield Disagreement(row["source"], "no row of the outbox that waits", f"{row['waiting']} rows")
    if not unsent:
        yield None


async def parked(world: World) -> AsyncIterator[Look]:
    """Updates wait for orders that are not there, never for one that is."""
    async for row in world.rows(_PARKED, world.late_s):
        if row["late"]:
            said = f"{row['department']}'s update {row['update_id']} sent on: its order is there"
            yield Disagreement(row["reference"], said, "parked")
        else:
            yield None
