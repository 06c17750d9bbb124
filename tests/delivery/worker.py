"""A worker process of the delivery tests: `python -m tests.delivery.worker BROKERS DSN GROUP`."""

import asyncio
import logging
import sys

import uvloop

from agents.runner import Limits
from connectors.kafka.worker import WorkerSettings, run_worker, stop_on_signals
from connectors.postgres.pool import create_pool
from tests.delivery.toy import BINDING


async def main(brokers: str, dsn: str, group: str) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    pool = await create_pool(dsn, max_size=8, idle_in_transaction_timeout_s=5.0)
    settings = WorkerSettings(
        group=group,
        brokers=tuple(brokers.split(",")),
        session_timeout_s=6.0,
        heartbeat_s=1.0,
        rebalance_timeout_s=20.0,
        max_poll_records=200,
        limits=Limits(reclaim_after_s=1.5, close_timeout_s=8.0),
    )
    await run_worker([BINDING], settings, pool, stop, on_ready=lambda: print("READY", flush=True))
    await pool.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    uvloop.run(main(*sys.argv[1:]))
