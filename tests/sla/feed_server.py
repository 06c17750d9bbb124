"""A web server on a real socket that publishes holidays, or whatever a test tells it to answer."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from tests.webhooks.receiver import Behaviour, answering

LIMIT_S: Final = 20.0


def ics(*events: str) -> bytes:
    """`"20260814 Day of the lake"` as an iCalendar file."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//EN"]
    for event in events:
        day, _, name = event.partition(" ")
        lines += ["BEGIN:VEVENT", f"UID:{day}", f"DTSTART;VALUE=DATE:{day}", f"SUMMARY:{name}", "END:VEVENT"]
    return ("\r\n".join([*lines, "END:VCALENDAR"]) + "\r\n").encode()


GOOD: Final = ics("20260814 Day of the lake", "20271228 Closing day")


@dataclass
class FeedServer:
    """Answers each path as told; `asked` are the headers of every request, in order."""

    port: int = 0
    scheme: str = "http"
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)

    def url(self, path: str = "/city.ics") -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"

    def serve(self, body: bytes, *headers: str, path: str = "/city.ics", status: int = 200) -> None:
        self.behaviours[path] = answering(status, *headers, body=body)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(LIMIT_S):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                pairs = (line.partition(":") for line in head[1:] if line)
                self.asked.append({name.lower(): value.strip() for name, _, value in pairs})
                await self.behaviours.get(head[0].split()[1], answering(404))(writer)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass  # the client went away, as some tests want it to
        finally:
            writer.close()


@asynccontextmanager
async def feed_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[FeedServer]:
    served = FeedServer(scheme="https" if tls else "http")
    listening = await asyncio.start_server(served.answer, "127.0.0.1", 0, ssl=tls)
    served.port = listening.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        listening.close()
        await listening.wait_closed()
