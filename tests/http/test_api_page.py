"""The commands of docs/api.md, as a department's developer would try them."""

import asyncio
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.docs.examples import matches
from tests.http.conftest import Make, served
from tests.http.made_up import alert_about, happen, order, store, tell

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
BLOCK = re.compile(r"^<!-- curl -->\n```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ (.*\n(?:> .*\n)*)((?:(?!\$ ).*\n)*)", re.MULTILINE)
EXAMPLES = [
    (re.sub(r"^> ", "", found[1], flags=re.MULTILINE).rstrip(), found[2])
    for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))
    for found in COMMAND.finditer(block[1])
]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_the_page_shows_what_curl_does(make_app: Make, connection: Any) -> None:
    one = order(1)
    await store(connection, [one])
    await tell(connection, one, 1)
    alert = alert_about(one)
    await happen(connection, alert)
    assert len(EXAMPLES) == 11
    async with served(make_app()) as url:
        environment = {
            **os.environ,
            "API": url,
            "KEY": "cdot",
            "ORDER": one.reference,
            "ALERT": str(alert.alert_id),
        }
        for command, expected in EXAMPLES:
            running = await asyncio.create_subprocess_shell(
                command, stdout=asyncio.subprocess.PIPE, env=environment
            )
            async with asyncio.timeout(30):
                printed, _ = await running.communicate()
            assert matches(expected, printed.decode()), f"{command}\n{printed.decode()}"
