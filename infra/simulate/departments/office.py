"""What a person does once for a department: a key, a webhook, an Open311 endpoint. By `rapid` commands, as they do."""

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from infra.cli.errors import Oops

RAPID: Final = (sys.executable, "-P", "-m", "infra.cli.main")
LIMIT_S: Final = 60.0
CITY_KEY_VARIABLE: Final = "SIMULATED_311_KEY"
"""Must be set where `rapid courier` runs: the key that the simulated city takes."""
CITY_KEY: Final = "simulated"


class Hook(NamedTuple):
    """A registered webhook."""

    endpoint: str
    secret: str


class Office:
    """Commands in one installation. `environment`: that of a command in it; None: ours."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = environment

    async def key(self, role: str, department: str | None = None) -> str:
        """A new API key."""
        whose = ["--department", department] if department else []
        name = f"simulated crew of {department or role}"
        made = await self.rapid("keys", "create", "--name", name, "--role", role, *whose, "--expires", "1d")
        return str(made["key"])

    async def hook(self, department: str, url: str) -> Hook:
        """A webhook that is told everything from the beginning."""
        made = await self.rapid("webhooks", "add", "--department", department, "--url", url, "--from-start")
        return Hook(made["endpoint"], made["secret"])

    async def endpoint(self, department: str, url: str) -> None:
        """A city's endpoint into which the department's orders are filed, and looked at every second."""
        await self.rapid(
            "open311", "add", department, url, "--key-variable", CITY_KEY_VARIABLE, "--per-minute", "6000",
            "--poll-s", "1", as_json=False,
        )  # fmt: skip

    async def forget(self, department: str) -> None:
        """Remove a city's endpoint."""
        await self.rapid("open311", "remove", department, as_json=False)

    async def unhook(self, hook: Hook) -> None:
        """Remove a webhook."""
        await self.rapid("webhooks", "remove", hook.endpoint, as_json=False)

    async def rapid(self, *arguments: str, as_json: bool = True) -> Any:
        """What a command says. Raises Oops with its last words when it fails."""
        code, output, errors = await self.outcome(*arguments, *(["--json"] if as_json else []))
        if code:
            words = errors.strip().splitlines() or ["it ended without a word."]
            raise Oops(f"rapid {' '.join(arguments[:2])}: {words[-1].removeprefix('rapid: ')}")
        return json.loads(output) if as_json else output

    async def outcome(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a command."""
        process = await asyncio.create_subprocess_exec(
            *RAPID, *arguments, env=self._environment, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(LIMIT_S):
                output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        return process.returncode or 0, output.decode(), errors.decode()
