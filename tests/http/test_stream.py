"""The stream of changes over real sockets: order, audiences, resuming, slow clients."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from connectors.http.fanout import Change, Closed, Fanout, Listener
from connectors.postgres.feed import Cursor
from connectors.postgres.ledger import PostgresLedger
from tests.http.conftest import Make, served, until
from tests.http.made_up import Stored, order, store, tell, whole


class Event(NamedTuple):
    id: str
    kind: str
    data: dict[str, Any]


@asynccontextmanager
async def listening(
    url: str, who: str, last: str | None = None, path: str = "/v1/changes"
) -> AsyncIterator["asyncio.Queue[Event | None]"]:
    """Events as they come; None when the stream ends."""
    heard: asyncio.Queue[Event | None] = asyncio.Queue()
    headers = {"Authorization": f"Bearer {who}"} | ({"Last-Event-ID": last} if last else {})
    begun = asyncio.Event()

    async def listen() -> None:
        async with (
            httpx.AsyncClient(timeout=20) as client,
            client.stream("GET", f"{url}{path}", headers=headers) as stream,
        ):
            assert (stream.status_code, stream.headers["Content-Type"]) == (
                200,
                "text/event-stream; charset=utf-8",
            )
            fields: dict[str, str] = {}
            async for line in stream.aiter_lines():
                begun.set()
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                elif "data" in fields:
                    heard.put_nowait(Event(fields["id"], fields["event"], json.loads(fields["data"])))
                    fields = {}
        heard.put_nowait(None)

    task = asyncio.create_task(listen())
    try:
        async with asyncio.timeout(10):
            await begun.wait()
        yield heard
    finally:
        task.cancel()
        await asyncio.wait({task})


async def next_event(heard: "asyncio.Queue[Event | None]") -> Event:
    async with asyncio.timeout(10):
        event = await heard.get()
    assert event is not None, "the stream has ended"
    return event


@pytest.fixture
async def one(connection: Any) -> Stored:
    made = order(1)
    await store(connection, [made])
    return made


async def heard_of(app: Any, count: int) -> None:
    """Until so many listen: before that, what is told is not news but history."""
    await until(lambda: app.state.parts.changes.listeners == count)


async def test_each_audience_hears_its_own_in_order(make_app: Make, connection: Any, one: Stored) -> None:
    theirs = order(2, "dss")
    await store(connection, [theirs])
    app = make_app()
    async with served(app) as url, listening(url, "cdot") as cdot, listening(url, "supervisor") as all_of_it:
        await heard_of(app, 2)
        await tell(connection, theirs, 1)
        for version in (2, 3):
            await tell(connection, one, version)
        assert [(await next_event(cdot)).data["version"] for _ in range(2)] == [2, 3]
        references = [(await next_event(all_of_it)).data["reference"] for _ in range(3)]
        assert references == [theirs.reference, one.reference, one.reference]


async def test_supervisors_read_the_order_as_it_is(make_app: Make, connection: Any, one: Stored) -> None:
    await tell(connection, one, 2)
    async with served(make_app()) as url, listening(url, "supervisor", "0.0") as heard:
        event = await next_event(heard)
        assert (event.kind, event.data) == ("work-order", whole(one))


async def test_a_listener_resumes_over_a_restart_of_the_server(
    make_app: Make, connection: Any, one: Stored
) -> None:
    async with served(make_app()) as url, listening(url, "cdot", "0.0") as heard:
        for version in (2, 3):
            await tell(connection, one, version)
        first = [await next_event(heard) for _ in range(2)]
    await tell(connection, one, 4)  # nobody is there to say it
    async with served(make_app()) as url, listening(url, "cdot", first[0].id) as heard:
        again = [await next_event(heard) for _ in range(2)]
        await tell(connection, one, 5)
        again.append(await next_event(heard))
    assert [event.data["version"] for event in [*first, *again]] == [2, 3, 3, 4, 5]
    assert again[0] == first[1]


async def test_a_stream_ends_when_the_server_stops(make_app: Make, one: Stored) -> None:
    app = make_app()
    async with served(app) as url, listening(url, "cdot") as heard:
        await heard_of(app, 1)
        app.state.parts.changes.close()
        async with asyncio.timeout(10):
            assert await heard.get() is None


async def test_more_than_a_page_is_caught_up_with(make_app: Make, connection: Any, one: Stored) -> None:
    count = 1_100
    async with connection.transaction():
        for version in range(1, count + 1):
            await connection.execute(
                "INSERT INTO feed (audience, kind, subject, version, body) VALUES ('cdot', 'work-order', $1, $2, $3)",
                one.reference, version, json.dumps({"version": version}),
            )  # fmt: skip
    async with served(make_app()) as url, listening(url, "cdot", "0.0") as heard:
        assert [(await next_event(heard)).data["version"] for _ in range(count)] == list(range(1, count + 1))


@pytest.mark.parametrize("last", ["x", "1", "1.", "-1.0", "1.1.1", "9" * 30 + ".0"])
async def test_an_id_that_is_none_is_refused(make_app: Make, last: str) -> None:
    async with served(make_app()) as url, httpx.AsyncClient() as client:
        headers = {"Authorization": "Bearer cdot", "Last-Event-ID": last}
        refused = await client.get(f"{url}/v1/changes", headers=headers)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "Last-Event-ID")


async def test_who_is_too_slow_is_dropped_and_misses_nothing(pool: Any, connection: Any, one: Stored) -> None:
    fanout = Fanout(PostgresLedger(pool), most_waiting=3)
    reading = asyncio.create_task(fanout.run())
    seen: list[int] = []
    after: Cursor | None = Cursor()
    try:
        rounds = 0
        while len(seen) < 20:
            rounds += 1
            assert rounds < 50
            changes = fanout.changes("cdot", after)
            try:
                while len(seen) < 20:
                    asking = asyncio.ensure_future(anext(changes))
                    if rounds == 1 and not seen:
                        await until(lambda: fanout.listeners == 1)
                        for version in range(1, 21):
                            await tell(connection, one, version)
                    news = await asyncio.wait_for(asking, 10)
                    seen += [
                        json.loads(change.event.decode().split("data: ")[1])["version"] for change in news
                    ]
                    after = news[-1].cursor
            except Closed:
                continue
            finally:
                await changes.aclose()
    finally:
        reading.cancel()
        await asyncio.wait({reading})
    assert seen == list(range(1, 21))


async def test_a_full_line_is_closed() -> None:
    listener = Listener("cdot", 2)
    for seq in range(5):
        listener.offer(Change(Cursor(1, seq), "cdot", "work-order", b""))
    with pytest.raises(Closed):
        await listener.next()
