"""Closes one response after the other in the real loop, killed after every single step of it, and begun anew.

    python -m tests.pipeline.closing DSN NOW PUBLISHED INCIDENT…

The process that closes the nth response is killed (SIGKILL) at its nth step; then another one takes the partition over.
Steps: each statement, just before and just after each commit, before and after publishing. Prints how many were killed.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from agents.messages import Binding
from agents.responses.agent import Responses
from agents.runner import Limits, Runner
from agents.topology import on
from connectors.delivery import OutboxRow, Position
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.pool import create_pool
from connectors.postgres.response_life import PostgresLife
from infra.policy.load import load_policy
from schemas.envelope import header
from schemas.policy import Policy
from schemas.topics import RESPONSE_LOOKS
from tests.delivery.doubles import MemoryFeed, MemoryLog, Raw
from tests.delivery.scenario import until

FAST = Limits(settle_pause_s=0.01, retry_first_s=0.01, retry_most_s=0.02)
DONE_S = 30.0


class Steps:
    """Counts, and dies at one; 0: never."""

    def __init__(self, die_at: int) -> None:
        self._die_at = die_at
        self._taken = 0

    def take(self) -> None:
        self._taken += 1
        if self._taken == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)


class Stepping:
    """A connection; each statement is a step."""

    def __init__(self, connection: Any, steps: Steps) -> None:
        self._connection = connection
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)
        if name not in ("fetch", "fetchrow", "fetchval", "execute"):
            return found

        async def stepping(*arguments: Any) -> Any:
            answer = await found(*arguments)
            self._steps.take()
            return answer

        return stepping


class SteppingLedger(PostgresLedger):
    """A ledger whose transactions are taken step by step."""

    def __init__(self, pool: Any, steps: Steps) -> None:
        super().__init__(pool)
        self._steps = steps

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with super().transaction() as connection:
            yield Stepping(connection, self._steps)
            self._steps.take()
        self._steps.take()


class FilePublisher:
    """A broker that is a file: a line for each record that it has."""

    def __init__(self, file: Path, steps: Steps) -> None:
        self._file = file
        self._steps = steps

    async def publish(self, rows: Sequence[OutboxRow]) -> list[Position]:
        self._steps.take()
        with self._file.open("a") as out:
            for row in rows:
                print(row.topic, header(row.headers, "ce_id"), file=out)
        self._steps.take()
        return [Position(0, 0) for _ in rows]


async def close_one(dsn: str, now: datetime, published: Path, record: Raw, die_at: int) -> None:
    """Take the partition over, and read on where the last owner stood."""
    steps, policy = Steps(die_at), loaded()
    pool = await create_pool(dsn, min_size=1, max_size=3)
    responses = Responses(policy, lambda: now)
    binding = Binding(RESPONSE_LOOKS, "responses", on(PostgresLife, responses.looks), reads="key")
    feed = MemoryFeed()
    runner = Runner(
        [binding], consumer="unit", ledger=SteppingLedger(pool, steps), publisher=FilePublisher(published, steps),
        source=MemoryLog(), limits=FAST,
    )  # fmt: skip
    runner.feed = feed
    runner.open([(RESPONSE_LOOKS.name, 0)])
    assert await until(lambda: bool(feed.begun), DONE_S)
    if feed.begun[0] <= record.offset:
        runner.accept(feed.batch(RESPONSE_LOOKS.name, [record]))
        assert await until(lambda: record.offset in feed.completed, DONE_S)
    await runner.close()
    await pool.close()


_policies: list[Policy] = []


def loaded() -> Policy:
    """Loaded once, before the first fork."""
    if not _policies:
        _policies.append(load_policy())
    return _policies[0]


def in_child(*arguments: Any) -> int:
    """Run it in a process of its own; by which signal that died, 0: it came to its end."""
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(close_one(*arguments))
        except BaseException:  # noqa: BLE001 - nothing may go on as if it were the parent
            os.write(2, b"a child failed\n")
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a child failed")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def main(dsn: str, now: str, published: str, *incidents: str) -> None:
    loaded()
    killed = 0
    for number, incident in enumerate(incidents, 1):
        record = Raw(number, incident.encode(), b"{}")
        arguments = (dsn, datetime.fromisoformat(now), Path(published), record)
        killed += in_child(*arguments, number) == signal.SIGKILL
        in_child(*arguments, 0)
    print(killed)


if __name__ == "__main__":
    main(*sys.argv[1:])
