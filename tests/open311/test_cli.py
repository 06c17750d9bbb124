"""`rapid open311`: an endpoint is added, shown, changed and removed; what is wrong is said in one sentence."""

import asyncio
import json
import os
import sys
from typing import Any

import pytest

from connectors.ports import Told
from connectors.postgres import feed
from connectors.postgres.policies import keep_policy
from schemas.policy import Policy
from schemas.work_order_update import ServiceRequestNews

RUN_S = 60.0
ADD = ("add", "cdot", "https://311.example/open311/v2/", "--key-variable", "CITY_KEY")


async def rapid(database_url: str, *arguments: str) -> tuple[int, str]:
    """The exit code, and what was printed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.cli.main", "open311", *arguments,
        env=os.environ | {"RAPID_DATABASE_URL": database_url, "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(RUN_S):
        out, _ = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode()


@pytest.fixture
async def known_policy(pool: Any, policy: Policy) -> Policy:
    await keep_policy(pool, policy)
    return policy


async def test_an_endpoint_is_added_shown_changed_and_removed_and_all_of_it_is_in_the_trail(
    database_url: str, connection: Any, known_policy: Policy
) -> None:
    assert await rapid(database_url, *ADD) == (
        0,
        (
            "Orders of cdot are filed at https://311.example/open311/v2.\n"
            "CITY_KEY is not set here: it must be, where `rapid courier` runs.\n"
        ),
    )
    await connection.execute("UPDATE open311_endpoints SET cursor = '7.7', failures = 3")
    more = ("--service-code", "graffiti=G1", "--phrase", "code 7=fixed", "--per-minute", "5")
    assert (await rapid(database_url, *ADD, *more))[0] == 0
    _, shown = await rapid(database_url, "endpoints", "--json")
    [endpoint] = json.loads(shown)
    assert endpoint["service_codes"]["graffiti"] == "G1"
    assert endpoint["service_codes"]["street_light"] == "4ffa9f2d6018277d400000c8"
    assert (endpoint["phrases"], endpoint["per_minute"], endpoint["failures"]) == (
        [["code 7", "fixed"]],
        5,
        0,
    )
    assert (
        await connection.fetchval("SELECT cursor FROM open311_endpoints") == "7.7"
    )  # it goes on where it was
    assert (await rapid(database_url, "remove", "cdot"))[0] == 0
    assert await rapid(database_url, "endpoints", "--json") == (0, "[]\n")
    actions = [row["action"] for row in await connection.fetch("SELECT action FROM audit ORDER BY seq")]
    assert actions == ["open311.add", "open311.add", "open311.remove"]


async def test_what_is_wrong_is_said_in_one_sentence(database_url: str, known_policy: Policy) -> None:
    for changes, code, words in (
        (("add", "nobody", *ADD[2:]), 6, "nobody"),
        (("add", "cdot", "ftp://x", *ADD[3:]), 8, "is no endpoint"),
        ((*ADD[:4], "not a name"), 8, "the name of an environment variable"),
        ((*ADD, "--service-code", "nonsense=1"), 8, "names no category: nonsense"),
        ((*ADD, "--phrase", "gone"), 8, "--phrase is WORDS=OUTCOME"),
        ((*ADD, "--phrase", "gone=away"), 8, "say one of"),
        (("remove", "dob"), 6, "has no endpoint"),
    ):
        ended, printed = await rapid(database_url, *changes)
        assert (ended, printed.count("\n")) == (code, 1), printed
        assert words in printed


async def test_the_newest_news_of_each_request_is_listed(database_url: str, connection: Any) -> None:
    for version, status, outcome in ((1, "closed", "fixed"), (2, "open", None)):
        for number in ("SR1", "SR2")[: 3 - version]:
            one = ServiceRequestNews.model_validate(
                {"request_number": number, "reference": "WO-00000-00001", "status": status, "outcome": outcome,
                 "version": version}
            )  # fmt: skip
            rows = [Told(audience, "service-request-news", number, version, one.model_dump_json())
                    for audience in ("cdot", "")]  # fmt: skip
            await feed.add(connection, rows)
    _, shown = await rapid(database_url, "news", "--json")
    assert {(one["request_number"], one["status"], one["outcome"]) for one in json.loads(shown)} == {
        ("SR1", "open", None), ("SR2", "closed", "fixed"),
    }  # fmt: skip
