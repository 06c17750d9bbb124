"""The command line in this process: a process for each command would take a second for each."""

import asyncio
import json
from typing import Any, NamedTuple

from typer.testing import CliRunner

from infra.cli.errors import Oops
from infra.cli.main import app


class Done(NamedTuple):
    """How a command ended; `stderr` without the frames that are drawn around it."""

    returncode: int
    stdout: str
    stderr: str


class Rapid:
    """Commands of one group, `rapid oncall …`."""

    def __init__(self, group: str, environment: dict[str, str]) -> None:
        self._group = group
        self.environment = environment

    async def __call__(self, *arguments: object) -> Done:
        return await asyncio.to_thread(self._run, [str(one) for one in arguments])

    def _run(self, arguments: list[str]) -> Done:
        done = CliRunner().invoke(app, [self._group, *arguments], env=self.environment, prog_name="rapid")
        if isinstance(done.exception, Oops):
            return Done(done.exception.exit_code, done.stdout, str(done.exception))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Done(done.exit_code, done.stdout, " ".join(done.stderr.replace("│", " ").split()))

    async def json(self, *arguments: object) -> Any:
        """What a command that works prints for machines."""
        done = await self(*arguments, "--json")
        assert done.returncode == 0, done.stderr or done.stdout
        return json.loads(done.stdout)
