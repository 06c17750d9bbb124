"""A department on the REST API: it listens to the stream of changes, and posts its updates."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx

from infra.cli.errors import Oops
from infra.simulate.departments.capture import Capture
from infra.simulate.departments.crew import Declined, Listener
from schemas.work_order import DepartmentWorkOrder
from schemas.work_order_update import UpdateResult, WorkOrderUpdate

AGAIN_S: Final = 0.5
TIMEOUT_S: Final = 20.0
BEGINNING: Final = "0.0"
PASSES: Final = frozenset({408, 409, 429})
"""Answers that mean: send the same again."""


class Api:
    """The API as one caller uses it. Waits for an API that is away or asks for patience."""

    def __init__(self, url: str, key: str, capture: Capture) -> None:
        self.http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT_S, trust_env=False
        )
        self._capture = capture

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The answer, once there is one that stays."""
        while True:
            try:
                answer = await self.http.request(method, path, **more)
            except httpx.HTTPError:
                await asyncio.sleep(AGAIN_S)
                continue
            self._capture.keep(path.encode(), _headers(answer), answer.content)
            if answer.status_code < 500 and answer.status_code not in PASSES:
                return answer
            await asyncio.sleep(float(answer.headers.get("retry-after", AGAIN_S)))

    async def say(self, update: WorkOrderUpdate) -> UpdateResult | None:
        """Post an update; its answer when that came at once. The same id may be posted again. Raises Declined."""
        body = update.model_dump(mode="json", exclude_none=True, exclude={"reference"})
        answer = await self.ask("POST", f"/v1/work-orders/{update.reference}/updates", json=body)
        if answer.status_code >= 400:
            raise Declined(f"http_{answer.status_code}")
        return UpdateResult.model_validate_json(answer.content) if answer.status_code == 200 else None

    async def close(self) -> None:
        """Let go of the API."""
        await self.http.aclose()


class OverRest:
    """Server-sent events in, posts out. What it was told last it resumes behind, over restarts of the API."""

    name = "rest"

    def __init__(self, api: Api, capture: Capture) -> None:
        self._api = api
        self._capture = capture
        self._last_id = BEGINNING

    async def listen(self, listener: Listener) -> None:
        """Until cancelled; it goes on behind the last event whenever the stream ends. Raises Oops."""
        while True:
            try:
                async for kind, data in self.events():
                    hear(listener, kind, data)
            except httpx.HTTPError:
                pass
            await asyncio.sleep(AGAIN_S)

    async def events(self) -> AsyncIterator[tuple[str, str]]:
        """Kind and data of each event, until the stream ends (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
        headers = {"Last-Event-ID": self._last_id, "Accept": "text/event-stream"}
        async with self._api.http.stream("GET", "/v1/changes", headers=headers) as answer:
            if answer.status_code != httpx.codes.OK:
                self._capture.keep(_headers(answer), await answer.aread())
                if answer.status_code < 500 and answer.status_code not in PASSES:
                    raise Oops(f"The API refuses the stream of changes ({answer.status_code}).")
                return
            self._capture.keep(_headers(answer))
            event: dict[str, str] = {}
            async for line in answer.aiter_lines():
                self._capture.keep(line.encode())
                if line:
                    name, _, value = line.partition(":")
                    event[name] = value.removeprefix(" ")
                elif "data" in event:
                    yield event.get("event", "message"), event["data"]
                    self._last_id = event.get("id", self._last_id)
                    event = {}

    async def say(self, update: WorkOrderUpdate) -> None:
        """Durable when it returns; the answer comes with the stream. Raises Declined."""
        await self._api.say(update)

    async def close(self) -> None:
        """Let go of the API."""
        await self._api.close()


def hear(listener: Listener, kind: str, data: str) -> None:
    """Hand over one thing that was told, by its kind in the feed; of others there is nothing to do."""
    if kind == "work-order":
        listener.hear_order(DepartmentWorkOrder.model_validate_json(data))
    elif kind == "update-result":
        listener.hear_answer(UpdateResult.model_validate_json(data))


def _headers(answer: httpx.Response) -> bytes:
    return b"\n".join(name + b": " + value for name, value in answer.headers.raw)
