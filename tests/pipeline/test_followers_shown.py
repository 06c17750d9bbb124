"""An incident that another source's telling of the same event leads: every command says so, and says the same."""

import json
from typing import Any

import pytest

from agents.explain import OPENED
from connectors.geography.areas import Areas
from connectors.postgres.policies import keep_policy
from infra import views
from schemas.policy import Policy
from tests.pipeline.stream import Stream
from tests.pipeline.test_linking import SOURCES, case, sensor
from tests.pipeline.test_read_side import rapid
from tests.pipeline.test_updates import light


@pytest.fixture(params=["leader first", "follower first"])
async def told(connection: Any, policy: Policy, areas: Areas, request: pytest.FixtureRequest) -> Any:
    """A case (JH1) leads a sensor's alert (SST-1); the one that comes first opens orders before the other is known."""
    await keep_policy(connection, policy)
    stream = Stream(connection, policy, areas)
    await stream.feed([light("SR1")])
    order = ("case", "sensor") if request.param == "leader first" else ("sensor", "case")
    for source in order:
        await stream.feed([SOURCES[source]()])
    return connection


class Shell:
    """Commands against this database: as JSON, or as people read them, in one line."""

    def __init__(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._database_url = database_url
        self._monkeypatch = monkeypatch

    async def json(self, *arguments: str) -> Any:
        return json.loads(await self._stdout(*arguments, "--json"))

    async def words(self, *arguments: str) -> str:
        return " ".join((await self._stdout(*arguments)).split())

    async def _stdout(self, *arguments: str) -> str:
        done = await rapid(self._database_url, self._monkeypatch, *arguments)
        assert done.exit_code == 0, (arguments, done.output, done.exception)
        return done.stdout


@pytest.fixture
def shell(told: Any, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(database_url, monkeypatch)


async def test_a_follower_has_no_orders_of_its_own_wherever_it_is_looked_at(shell: Shell) -> None:
    listed = {one["number"]: one for one in await shell.json("incidents", "list")}
    leading, following = [await shell.json("incidents", "show", one) for one in ("JH1", "SST-1")]
    assert {one: listed[one]["open_orders"] for one in listed} == {"JH1": 3, "SST-1": 0}
    assert (len(leading["orders"]), following["orders"]) == (3, [])
    assert (listed["JH1"]["follows"], listed["SST-1"]["follows"]["number"]) == (None, "JH1")
    assert "follows JH1" in await shell.words("incidents", "list")
    assert (
        "It follows JH1 and has no response and no orders of its own: see rapid incidents show JH1"
        in await shell.words("incidents", "show", "SST-1")
    )


async def test_the_story_of_a_follower_gives_one_reason_and_ends_at_its_leader(shell: Shell) -> None:
    steps = await shell.json("explain", "SST-1")
    assert [step for step in steps if step["step"] == "order"] == []
    assert steps[-1]["because"] == (
        "It has no orders of its own. It follows JH1, which has the orders of this event: see `rapid explain JH1`."
    )
    (response,) = [step for step in steps if step["step"] == "response"]
    assert response["title"] == "Response: none of its own, follows JH1"
    assert (
        response["because"] == "It asks for nothing: JH1, which tells of the same event, asks in its place."
    )
    assert (await shell.json("explain", "JH1"))[-1]["because"].startswith("3 orders stand: ")


async def test_the_responses_of_both_name_each_other_and_the_leaders_has_the_orders(shell: Shell) -> None:
    listed = {one["incident_number"]: one for one in await shell.json("responses", "list")}
    assert (listed["SST-1"]["follows_number"], listed["JH1"]["follower_numbers"]) == ("JH1", ["SST-1"])
    references = [one["reference"] for one in (await shell.json("incidents", "show", "JH1"))["orders"]]
    assert (await shell.json("responses", "show", "JH1"))["orders"] == references
    assert (await shell.json("responses", "show", "SST-1"))["orders"] == []
    following = await shell.words("responses", "show", "SST-1")
    assert "It follows JH1 and has no orders of its own: see rapid responses show JH1" in following
    leading = await shell.words("responses", "show", "JH1")
    assert all(word in leading for word in ("also told of by SST-1", "rapid explain JH1", *references))


async def test_a_request_that_both_saw_still_tells_of_the_order(shell: Shell) -> None:
    steps = await shell.json("explain", "SR1")
    assert len([step for step in steps if step["step"] == "order"]) == 1
    assert steps[-1]["because"].startswith("1 order stands: ")


async def test_the_story_says_when_an_order_was_opened_and_that_it_moves_with_its_causes(
    connection: Any, policy: Policy, areas: Areas
) -> None:
    await keep_policy(connection, policy)
    stream = Stream(connection, policy, areas)
    moments = []
    for report in (light("SR1"), sensor(), case()):
        await stream.feed([report])
        steps = await views.explain(connection, "SR1") or []
        moments += [line for step in steps if step["step"] == "order" for line in step["details"][1:2]]
    assert moments == [f"Opened {at}: {OPENED}" for at in ("2026-07-04 03:12Z", "2026-07-04 03:17Z")]
