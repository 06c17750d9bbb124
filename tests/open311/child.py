"""Run as a program: the follower as a process of its own, to be killed. What it says goes to the outbox."""

import asyncio
import os
import random
import signal
import sys

from connectors.open311.follower import Pace, Surroundings, follow
from connectors.open311.say import say_durably
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.pool import create_pool
from connectors.postgres.submissions import Submissions

PACE = Pace(
    idle_s=0.05, lease_s=1.0, settle_s=0.6, first_retry_s=0.05, longest_retry_s=0.3, requests_at_once=20
)


async def main(dsn: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with await create_pool(dsn, max_size=4) as pool:
        tell = say_durably(Submissions(PostgresLedger(pool)))
        around = Surroundings(pool, tell, f"child-{os.getpid()}", os.environ.get, random.random, pace=PACE)
        await follow(around, stop)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
