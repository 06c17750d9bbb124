"""The webhook keeps what the OpenAPI document promises, tried by schemathesis against a source that is there."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from fastapi import FastAPI

from connectors.geography.areas import Areas
from connectors.http.limits import Limits
from connectors.mapping.parts import SourceParts
from connectors.postgres.ledger import PostgresLedger
from infra.serve import Current, areas_document, compose, outgoing
from infra.sources.ingest import refusals
from infra.sources.load import load_sources
from schemas.policy import Policy
from tests.http.conftest import Broker, authenticate, served
from tests.sources.conftest import EXAMPLES

EXAMPLES_EACH: Final = os.environ.get("RAPID_TEST_CONTRACT_EXAMPLES", "25")
LIMIT_S: Final = 240.0
OPTIONS: Final = (
    "--max-examples", EXAMPLES_EACH, "--generation-deterministic", "--no-color", "--checks", "all",
    "--exclude-checks", "positive_data_acceptance",  # no schema can say what a mapping asks for
    "--include-path-regex", "^/v1/sources", "--phases", "coverage,fuzzing",
)  # fmt: skip
THERE: Final = '[parameters]\n"path.code" = "shotspotter-live"\n'


@pytest.fixture
async def url(pool: Any, database_url: str, policy: Policy, areas: Areas) -> AsyncIterator[str]:
    broker, ledger, found = Broker(), PostgresLedger(pool), load_sources(EXAMPLES, policy)
    made: FastAPI = compose(
        ledger, outgoing(ledger, broker, broker, frozenset()), database_url, authenticate, Current(policy),
        areas_document(areas, policy), Limits(rate_per_s=10_000, address_rate_per_s=10_000, failures_per_s=10_000),
        None, SourceParts(found.right, {}, refusals(lambda: policy)),
    )  # fmt: skip
    async with served(made) as at:
        yield at


@pytest.mark.slow
@pytest.mark.parametrize("who", ["intake", "supervisor"])
async def test_the_document_is_kept_by_a_source_that_is_there(url: str, tmp_path: Path, who: str) -> None:
    (tmp_path / "schemathesis.toml").write_text(THERE)
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "run", f"{url}/v1/openapi.json", *OPTIONS,
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
