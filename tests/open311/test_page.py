"""The examples of docs/open311.md are run as they stand."""

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.open311.ours import Ours

PAGE = Path(__file__).parents[2] / "docs" / "open311.md"
RUN_S = 30.0


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples are for curl")
async def test_the_examples_of_the_page_work(ours: Ours) -> None:
    commands = re.findall(r"^\$ (curl .+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 6
    env = os.environ | {
        "OPEN311": f"{ours.root}/open311", "KEY": await ours.key("intake"), "NO_PROXY": "127.0.0.1",
        "DEPARTMENT_KEY": await ours.key("department", "cdot"), "no_proxy": "127.0.0.1",
    }  # fmt: skip
    for command in commands:
        child = await asyncio.create_subprocess_shell(
            command, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        async with asyncio.timeout(RUN_S):
            out, _ = await child.communicate()
        assert child.returncode == 0, (command, out)
