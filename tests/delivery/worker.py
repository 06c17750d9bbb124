"""A worker process of the delivery tests: `python -m tests.delivery.worker BROKERS DSN NAME`.

TOY_BREAK breaks the product on purpose, here and only here, so that the tests can show that they would notice:
`fence`: transactions neither lock the fence nor check who owns it nor trim what is applied (and no session
timeout ends a frozen transaction, which would hide it);
`commit`: a batch counts as completed as soon as it arrives.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import uvloop

from agents.app import work
from agents.runner import Lane, Limits
from connectors.delivery import Claim, RecordBatch
from connectors.kafka.admin import BrokerUnreachable
from connectors.kafka.worker import WorkerSettings, stop_on_signals
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.pool import create_pool
from schemas.dead_letter import DeadLetter
from tests.delivery.toy import binding

SESSION_TIMEOUT_S = 4.0
BROKEN = os.environ.get("TOY_BREAK", "")
IDLE_S = 60.0 if BROKEN == "fence" else 3.0
EXIT_NO_BROKER = 69
SLOW_S = 0.03  # so that faults hit something at work


MOVE = "UPDATE fences SET next_offset = $4 WHERE consumer = $1 AND topic = $2 AND partition = $3"


def break_fence() -> None:
    """The fence is moved as the last thing, so that nothing holds it locked before."""
    moves: dict[Any, tuple[Any, ...]] = {}
    bury = PostgresLedger.bury

    async def advance(self: PostgresLedger, connection: Any, claim: Claim, next_offset: int) -> int:
        moves[connection] = (*claim.key, next_offset)
        return 0

    async def bury_and_move(
        self: PostgresLedger, connection: Any, letters: Sequence[DeadLetter]
    ) -> list[DeadLetter]:
        kept = await bury(self, connection, letters)
        await connection.execute(MOVE, *moves.pop(connection))
        return kept

    PostgresLedger.advance = advance  # type: ignore[method-assign]  # broken on purpose
    PostgresLedger.bury = bury_and_move  # type: ignore[method-assign]  # broken on purpose


def break_commit() -> None:
    put = Lane.put

    def put_and_complete(self: Lane, batch: RecordBatch) -> None:
        self._feed.complete(batch)
        put(self, batch)

    Lane.put = put_and_complete  # type: ignore[method-assign]  # broken on purpose


async def main(brokers: str, dsn: str, name: str) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    pool = await create_pool(dsn, max_size=8, idle_in_transaction_timeout_s=IDLE_S)
    settings = WorkerSettings(
        group=name,
        brokers=tuple(brokers.split(",")),
        session_timeout_s=SESSION_TIMEOUT_S,
        heartbeat_s=1.0,
        rebalance_timeout_s=20.0,
        max_poll_records=100,
    )
    limits = Limits(reclaim_after_s=1.5, close_timeout_s=8.0, retry_most_s=2.0)
    slow_s = float(os.environ.get("TOY_SLOW_S", SLOW_S))
    await work([binding(name, slow_s)], settings, pool, stop, limits=limits)
    await pool.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    {"": lambda: None, "fence": break_fence, "commit": break_commit}[BROKEN]()
    try:
        uvloop.run(main(*sys.argv[1:]))
    except BrokerUnreachable as nobody:
        print(nobody, file=sys.stderr)
        sys.exit(EXIT_NO_BROKER)
