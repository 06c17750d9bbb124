"""Server-sent events: everything that the caller is told, as it is told. Resumes by Last-Event-ID, over restarts.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from connectors.errors import Transient
from connectors.http.access import Given, Who, department_of
from connectors.http.fanout import SUPERVISORS, Change, Closed
from connectors.http.openapi import problems
from connectors.http.problems import Refused, invalid
from connectors.postgres.feed import Cursor

HEARTBEAT_S: Final = 15.0
SEND_S: Final = 20.0
"""A client that takes nothing for this long is gone, or as good as gone."""
LIFE_S: Final = 3_600.0
"""Then the client comes back with Last-Event-ID, and shows again who it is."""
RETRY_MS: Final = 2_000

Kind = Literal["work-order", "update-result", "service-request-news", "alert", "response"]

router = APIRouter(prefix="/v1", tags=["Changes"])


class EventStream(Response):
    """Sends changes until either side ends it. Each wait for the client is bounded."""

    media_type = "text/event-stream"

    def __init__(self, changes: AsyncGenerator[list[Change]], heartbeat_s: float = HEARTBEAT_S) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._changes = changes
        self._heartbeat_s = heartbeat_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait({sending, leaving})
            with suppress(asyncio.CancelledError, OSError, TimeoutError, Closed, Transient):
                if not sending.cancelled() and (error := sending.exception()) is not None:
                    raise error
        if not leaving.cancelled() and leaving.exception() is None:
            return
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(SEND_S):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send) -> None:
        until_s = time.monotonic() + LIFE_S
        await _send(send, f"retry: {RETRY_MS}\n\n".encode())
        async with aclosing(self._changes) as changes:
            coming = asyncio.ensure_future(anext(changes))
            try:
                while time.monotonic() < until_s:
                    done, _ = await asyncio.wait({coming}, timeout=self._heartbeat_s)
                    if not done:
                        await _send(send, b": still here\n\n")
                        continue
                    await _send(send, b"".join(change.event for change in coming.result()))
                    coming = asyncio.ensure_future(anext(changes))
            finally:
                coming.cancel()
                await asyncio.wait({coming})


async def _send(send: Send, body: bytes) -> None:
    async with asyncio.timeout(SEND_S):
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@router.get(
    "/changes", status_code=HTTPStatus.OK, response_class=EventStream,
    responses=problems() | {200: {"description": "A stream of events that does not end.",
                                  "content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)  # fmt: skip
async def stream_changes(
    parts: Given, who: Who, kind: Annotated[Kind | None, Query(description="Only events of this kind.")] = None,
    last_event_id: Annotated[str | None, Header(max_length=60, description="The id of the last event that you have.")]
    = None,
) -> Response:  # fmt: skip
    """Events `work-order`, `update-result`, `service-request-news`, `alert` and, for supervisors, `response`, in order.
    Without Last-Event-ID: from now on; with `0.0`: from the beginning."""
    try:
        after = Cursor.parse(last_event_id) if last_event_id else None
    except ValueError as error:
        raise invalid("Last-Event-ID", "the id of an event of this stream") from error
    if parts.changes.is_full:
        raise Refused(
            HTTPStatus.SERVICE_UNAVAILABLE, "There are as many streams as there may be: try again later.",
            headers={"Retry-After": "30"},
        )  # fmt: skip
    changes = parts.changes.changes(department_of(who) or SUPERVISORS, after)
    return EventStream(changes if kind is None else _only(kind, changes))


async def _only(kind: str, changes: AsyncGenerator[list[Change]]) -> AsyncGenerator[list[Change]]:
    async with aclosing(changes):
        async for batch in changes:
            wanted = [change for change in batch if change.kind == kind]
            if wanted:
                yield wanted
