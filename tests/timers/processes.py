"""`rapid timers` as processes, to be killed."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

COMMAND: Final = (sys.executable, "-P", "-m", "infra.cli.main", "timers")
LIMIT_S: Final = 30.0


def environment_of(database_url: str, brokers: str, home: Path, *, embedded: bool = True) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAPID_")}
    return env | {
        "RAPID_HOME": str(home), "RAPID_DATABASE_URL": database_url, "RAPID_BROKERS": brokers,
        "RAPID_LOG_FORMAT": "json", "RAPID_EMBEDDED": str(embedded).lower(),
    }  # fmt: skip


@dataclass
class Timers:
    """One process and what it says."""

    process: asyncio.subprocess.Process
    log: Path

    @property
    def said(self) -> list[dict[str, Any]]:
        """The lines of its log that are JSON."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def has_said(self, event: str) -> bool:
        return any(one["event"] == event for one in self.said)

    async def until_said(self, event: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not self.has_said(event):
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.returncode is None, self.log.read_text()
            await asyncio.sleep(0.02)


@asynccontextmanager
async def timers_process(env: dict[str, str], log: Path, *, ready: bool = True) -> AsyncIterator[Timers]:
    """A process; killed at the end if it still runs."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*COMMAND, env=env, stderr=output)
    found = Timers(process, log)
    try:
        if ready:
            await found.until_said("timers are ready")
        yield found
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
