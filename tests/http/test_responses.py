"""Responses with their lives: over the API, its stream, and the command line; for supervisors alone."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from connectors.geography.areas import Areas
from connectors.postgres import response_reads
from connectors.postgres.response_reads import WantedResponses
from infra.cli.errors import Oops
from infra.cli.main import app as rapid
from schemas.policy import Policy
from tests.http.conftest import Client, Make, served
from tests.http.test_stream import listening, next_event
from tests.pipeline.stream import Stream
from tests.pipeline.test_departments import AT, shooting
from tests.pipeline.test_response_life import HOUR, WINDOW, life, work_all_off
from tests.pipeline.test_updates import light

FAR = {"lat": 41.7795, "lon": -87.6645}


@pytest.fixture
async def stream(database_url: str, policy: Policy, areas: Areas) -> AsyncIterator[Stream]:
    """One response that was made safe, on a connection of its own."""
    connected = await asyncpg.connect(database_url)
    made = Stream(connected, policy, areas, now=AT + HOUR)
    await made.feed([shooting("ZZ1"), light("SR1")])
    await work_all_off(made)
    yield made
    await connected.close()


async def test_a_response_is_read_with_its_life_and_its_ledger(client: Client, stream: Stream) -> None:
    found = (await client.get("supervisor", "/v1/responses")).json()["items"]
    (one,) = found
    assert (one["life"]["state"], one["life"]["orders_open"], one["life"]["closed_at"]) == (
        "made_safe",
        0,
        None,
    )
    assert one["life"]["orders_done"] == await stream.connection.fetchval("SELECT count(*) FROM work_orders")
    await stream.wait(AT + WINDOW)
    read = await client.get("supervisor", f"/v1/responses/{one['response_id']}")
    assert read.json()["life"]["summary"] == json.loads((await life(stream)).model_dump_json())["summary"]
    assert (read.json()["life"]["state"], read.json()["life"]["days_left"]) == ("closed", None)
    lines = (await client.get("supervisor", f"/v1/responses/{one['response_id']}/life")).json()["items"]
    assert [line["kind"] for line in lines] == ["opened", "made_safe", "closed"]


async def test_responses_are_found_by_how_they_stand(client: Client, stream: Stream) -> None:
    async def by(life: str) -> int:
        return len((await client.get("supervisor", f"/v1/responses?life={life}")).json()["items"])

    assert [await by(word) for word in ("open", "made_safe", "closed", "void")] == [0, 1, 0, 0]
    await stream.wait(AT + WINDOW)
    assert [await by(word) for word in ("open", "made_safe", "closed", "void")] == [0, 0, 1, 0]
    assert (await client.get("supervisor", "/v1/responses?life=over")).status_code == 422
    no_such = "/v1/responses/00000000-0000-0000-0000-000000000000/life"
    assert (await client.get("supervisor", no_such)).status_code == 404


@pytest.mark.parametrize("path", ["", "/{}", "/{}/life"])
async def test_a_department_reads_nothing_of_it(client: Client, stream: Stream, path: str) -> None:
    response_id = (await life(stream)).response_id
    answer = await client.get("cdot", f"/v1/responses{path.format(response_id)}")
    assert answer.status_code == 403
    assert str(response_id) not in answer.text


async def test_the_stream_tells_supervisors_of_it_and_departments_not(make_app: Make, stream: Stream) -> None:
    app = make_app()
    async with app.router.lifespan_context(app), served(app) as url:
        kinds = "/v1/changes?kind=response"
        async with listening(url, "supervisor", "0.0", kinds) as heard:
            told = await next_event(heard)
            assert (told.kind, told.data["kind"]) == ("response", "made_safe")
            await stream.wait(AT + WINDOW)
            assert (await next_event(heard)).data["kind"] == "closed"
        async with listening(url, "cdot", "0.0", kinds) as heard:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await heard.get()


async def run(database_url: str, *arguments: str) -> Any:
    environment = {"RAPID_DATABASE_URL": database_url}
    done = await asyncio.to_thread(
        CliRunner().invoke, rapid, ["responses", *arguments], env=environment, prog_name="rapid"
    )
    if isinstance(done.exception, Oops):
        return done.exception
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


async def test_the_command_lists_and_shows_them(database_url: str, stream: Stream) -> None:
    await stream.wait(AT + WINDOW)
    (one,) = json.loads(await run(database_url, "list", "--life", "closed", "--json"))
    assert json.loads(await run(database_url, "list", "--life", "open", "--json")) == []
    assert json.loads(await run(database_url, "list", "--closing-before", "9d", "--json")) == []
    for name in ("ZZ1", "zz1", one["response_id"], one["incident_id"]):
        shown = json.loads(await run(database_url, "show", name, "--json"))
        assert [line["kind"] for line in shown["lines"]] == ["opened", "made_safe", "closed"]
    text = await run(database_url, "show", "ZZ1")
    assert all(word in text for word in ("closed", "made safe", "As it was closed", "1 fixed"))
    assert str(await run(database_url, "show", "nobody")).startswith("There is no response nobody")


async def test_what_calls_for_nothing_has_no_response_and_the_command_says_so(
    database_url: str, stream: Stream
) -> None:
    await stream.feed([
        shooting("ZZ9", event="assault", gunshot_injury=False, occurred_at=AT - timedelta(days=1))
    ])  # fmt: skip
    assert "calls for no response" in str(await run(database_url, "show", "ZZ9"))


async def test_the_command_takes_the_first_characters_of_an_id(database_url: str, stream: Stream) -> None:
    response_id = str((await life(stream)).response_id)
    for name in (response_id[:8], response_id[:8].upper(), response_id[:13]):
        assert json.loads(await run(database_url, "show", name, "--json"))["response_id"] == response_id
    assert response_id[:8] in await run(database_url, "list")
    none = f"{(int(response_id[0], 16) + 1) % 16:x}{response_id[1:8]}"
    assert str(await run(database_url, "show", none)).startswith(f"There is no response {none}")
    assert str(await run(database_url, "show", response_id[:3])).startswith("There is no response")


async def test_of_several_responses_that_begin_alike_more_of_the_id_is_asked_for(
    database_url: str, stream: Stream
) -> None:
    response_id = str((await life(stream)).response_id)
    twin = f"{response_id[:-1]}{(int(response_id[-1], 16) + 1) % 16:x}"
    await stream.connection.execute("CREATE TEMP TABLE twin AS SELECT * FROM responses")
    await stream.connection.execute("UPDATE twin SET response_id = $1, incident_id = $1", twin)
    await stream.connection.execute("INSERT INTO responses SELECT * FROM twin")
    said = str(await run(database_url, "show", response_id[:8]))
    assert said == f"Several responses begin with {response_id[:8]}: give more of the id."
    assert "Response" in await run(database_url, "show", response_id)


async def test_between_the_end_of_its_window_and_its_closing_it_says_when_it_is_closed(
    database_url: str, client: Client, stream: Stream
) -> None:
    now = await life(stream)
    assert now.closes_at < datetime.now(UTC), "the window is over, and nobody has closed it yet"
    early, late = [
        (await response_reads.responses(stream.connection, WantedResponses(), at))[0].life
        for at in (now.closes_at - timedelta(hours=25), now.closes_at)
    ]
    assert early is not None
    assert late is not None
    assert (early.days_left, early.to_close_at) == (1, None)
    assert (late.days_left, late.to_close_at) == (None, now.due_at)
    (read,) = (await client.get("supervisor", "/v1/responses")).json()["items"]
    assert datetime.fromisoformat(read["life"]["to_close_at"]) == now.due_at
    words = f"made safe, window over, closes {now.due_at:%Y-%m-%d %H:%M}Z"
    assert words in " ".join((await run(database_url, "show", "ZZ1")).split())
    await stream.wait(AT + WINDOW)
    assert "window over, closes" not in await run(database_url, "show", "ZZ1")
    (read,) = (await client.get("supervisor", "/v1/responses")).json()["items"]
    assert "to_close_at" not in read["life"]
