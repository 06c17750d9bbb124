"""A receiver on a real socket: it does what its script says, then answers 204, and remembers what it was sent."""

import asyncio
import inspect
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

LIMIT_S = 60.0


class Received(NamedTuple):
    """One request that arrived whole."""

    path: str
    headers: dict[str, str]
    body: str

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def version(self) -> int:
        version: int = json.loads(self.body)["data"]["version"]
        return version


Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Receiver:
    """`script` holds what to do with the next requests, one each; `at_once` is the most it had open together."""

    def __init__(self) -> None:
        self.script: deque[Behaviour] = deque()
        self.always: Behaviour = answering(204)
        self.received: list[Received] = []
        self.port = 0
        self.open = 0
        self.at_once = 0
        self.tasks: set[asyncio.Task[Any]] = set()

    def url(self, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}/hook"

    @property
    def versions(self) -> list[int]:
        return [one.version for one in self.received]

    async def until(self, count: int) -> None:
        """Until so many requests arrived."""
        await until(lambda: len(self.received) >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()
            self.tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.at_once = max(self.at_once, self.open)
        with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            self.received.append(await _read(reader))
            await (self.script.popleft() if self.script else self.always)(writer)
        self.open -= 1


async def until(holds: Callable[[], Any]) -> Any:
    """Until a condition holds, which may be a coroutine's; what it gave. Fails after LIMIT_S."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            found = holds()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.01)


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver on a free port of 127.0.0.1."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in receiver.tasks:
            task.cancel()
        await asyncio.gather(*receiver.tasks, return_exceptions=True)


def answering(status: int, *headers: str, body: bytes = b"") -> Behaviour:
    """Answer with a status."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *headers]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()

    return behave


def hanging(release: asyncio.Event) -> Behaviour:
    """Say nothing until released, then hang up."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(LIMIT_S):
            await release.wait()

    return behave


def endless(start: bytes, piece: bytes) -> Behaviour:
    """Write on until the other side has had enough; a sender without limits would never end."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        async with asyncio.timeout(LIMIT_S):
            while True:
                writer.write(piece)
                await writer.drain()

    return behave


def saying(raw: bytes) -> Behaviour:
    """Write these bytes and hang up."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return behave


async def hanging_up(writer: asyncio.StreamWriter) -> None:
    """Close without a word."""


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers["content-length"]))
    return Received(head[0].split()[1], headers, body.decode())
