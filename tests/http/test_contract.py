"""Everything that the OpenAPI document promises, tried by schemathesis: no 5xx, no schema violation, no status that is
not documented, whoever asks. RAPID_TEST_CONTRACT_EXAMPLES asks for more of them."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.http.conftest import Make, served
from tests.http.made_up import (
    SHOT_AT,
    add_line,
    alert_about,
    answer,
    enter,
    happen,
    order,
    promise,
    store,
    tell,
)

EXAMPLES = os.environ.get("RAPID_TEST_CONTRACT_EXAMPLES", "4")
LIMIT_S = 60.0 * max(4, int(EXAMPLES))
OPTIONS = (
    "--max-examples", EXAMPLES, "--generation-deterministic", "--max-failures", "20", "--no-color", "--checks", "all",
    # intake refuses what no schema can say: a point outside the city, a time in the future
    "--exclude-checks", "positive_data_acceptance",
    "--exclude-path", "/v1/changes",  # does not end; test_stream.py has it
)  # fmt: skip
SHORT = ("--phases", "fuzzing,stateful")
LONG = ("--phases", "coverage,fuzzing,stateful")  # every bound of every parameter, once


@pytest.mark.slow
@pytest.mark.parametrize(("who", "phases"), [("supervisor", LONG), ("cdot", SHORT), ("intake", SHORT)])
async def test_the_document_is_kept(
    make_app: Make, connection: Any, tmp_path: Path, who: str, phases: tuple[str, ...]
) -> None:
    stored = [order(n, told=3) for n in range(1, 4)]
    await store(connection, stored)
    await enter(connection, stored[0], 1, "cdot", verb="acknowledge")
    await answer(connection, "cdot", {"update_id": "U-1", "reference": stored[0].reference})
    await tell(connection, stored[0], 2)
    await promise(connection, stored[0], SHOT_AT)
    await add_line(connection, stored[0], 1, "promised")
    for one in stored:
        await happen(connection, alert_about(one))
    async with served(make_app()) as url:
        running = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "run", f"{url}/v1/openapi.json", *OPTIONS, *phases,
            "--header", f"Authorization: Bearer {who}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path,
        )  # fmt: skip
        try:
            async with asyncio.timeout(LIMIT_S):
                said, _ = await running.communicate()
        finally:
            if running.returncode is None:
                running.kill()
    assert running.returncode == 0, said.decode()[-20_000:]
