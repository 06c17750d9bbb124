"""docs/webhooks.md says what is so, and its receiver works as it stands."""

import asyncio
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from connectors.postgres import webhooks
from connectors.webhooks.message import TEST_TYPE, TYPES, new_secret
from connectors.webhooks.schedule import Limits
from infra.courier import borders
from infra.settings import Settings
from tests.webhooks.conftest import tell
from tests.webhooks.receiver import LIMIT_S, until
from tests.webhooks.test_courier import courier, until_state

ROOT: Final = Path(__file__).parents[2]
RECEIVER: Final = ROOT / "docs" / "examples" / "webhook_receiver.py"
PAGE: Final = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")


@asynccontextmanager
async def receiver(secret: str) -> AsyncIterator[tuple[str, asyncio.StreamReader]]:
    """The receiver of the page as a process: its URL, and what it prints."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = os.environ | {"WEBHOOK_SECRET": secret, "PORT": str(port)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, RECEIVER, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        await until(lambda: _listens(port))
        yield f"http://127.0.0.1:{port}/hook", process.stdout
    finally:
        process.kill()
        await process.communicate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_the_receiver_keeps_each_order_and_drops_what_it_knows(
    connection: Any, database_url: str
) -> None:
    secret = new_secret()
    async with receiver(secret) as (url, printed), courier(database_url):
        await webhooks.add(connection, "wh_1", "cdot", url, secret, from_start=False)
        await tell(connection, 1, 2)
        await tell(connection, 2, 1, 3)  # what it knows, and what is older
        await tell(connection, 1, kind="update-result")
        await until_state(connection, pending=0)
        async with asyncio.timeout(LIMIT_S):
            lines = [(await printed.readline()).decode() for _ in range(3)]
    assert lines == [f"keep WO-00000-00000 {version}\n" for version in (1, 2, 3)]
    assert {row["status"] for row in await webhooks.attempts(connection, "wh_1", 10)} == {204}


async def test_the_receiver_refuses_what_another_secret_signed(connection: Any, database_url: str) -> None:
    async with receiver(new_secret()) as (url, _), courier(database_url):
        await webhooks.add(connection, "wh_1", "cdot", url, new_secret(), from_start=False)
        await tell(connection, 1)
        await until(lambda: webhooks.attempts(connection, "wh_1", 1))
    assert {row["status"] for row in await webhooks.attempts(connection, "wh_1", 10)} == {401}


def test_the_receiver_is_shown_as_it_is() -> None:
    assert f"```python\n{RECEIVER.read_text(encoding='utf-8')}```\n" in PAGE


def test_the_page_names_every_type() -> None:
    assert set(re.findall(r"^\| `([\w.-]+)` \|", PAGE, re.MULTILINE)) == {"type", *TYPES.values(), TEST_TYPE}


def test_the_pages_figures_are_the_settings_defaults() -> None:
    settings = Settings(_env_file=None)
    assert settings.webhook_timeout_s == 15
    assert Limits() == Limits(
        settings.webhook_first_retry_s, settings.webhook_longest_retry_s, settings.webhook_breaker_failures,
        settings.webhook_probe_s, settings.webhook_retry_after_s, settings.webhook_disable_days * 86_400,
    )  # fmt: skip
    assert borders(settings).ports == ((443, 443), (8443, 8443))
    for said in (
        "at most 5 s later",
        "up to an hour",
        "ten failures",
        "every half hour",
        "five days",
        "443 and 8443",
    ):
        assert said in PAGE
