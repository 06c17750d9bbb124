"""A department that is called: a receiver of webhooks, which checks each signature; it answers over REST."""

import asyncio
import json
from typing import Final

from standardwebhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.simulate.departments.capture import Capture
from infra.simulate.departments.crew import Listener
from infra.simulate.departments.rest import Api, hear
from schemas.work_order_update import WorkOrderUpdate

KINDS: Final = {"work-order.changed": "work-order", "work-order-update.answered": "update-result"}


class OverWebhook:
    """`app` is to be served first, for its address; what is sent before `secret` is set is to be sent again."""

    name = "webhook"

    def __init__(self, api: Api, capture: Capture) -> None:
        self.secret = ""
        self.forged = 0
        self.app = Starlette(routes=[Route("/hook", self._receive, methods=["POST"])])
        self._api = api
        self._capture = capture
        self._received: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def _receive(self, request: Request) -> Response:
        if not self.secret:
            return Response(status_code=503)  # it is called before it has been told how to check who calls
        body = await request.body()
        self._capture.keep(b"\n".join(name + b": " + value for name, value in request.headers.raw), body)
        try:
            message = Webhook(self.secret).verify(body, dict(request.headers))
        except WebhookVerificationError:
            self.forged += 1
            return Response(status_code=401)
        if message["type"] in KINDS:
            self._received.put_nowait((KINDS[message["type"]], json.dumps(message["data"])))
        return Response(status_code=204)

    async def listen(self, listener: Listener) -> None:
        """Until cancelled. What comes twice is told by its version, or by the id of what was said."""
        while True:
            hear(listener, *await self._received.get())

    async def say(self, update: WorkOrderUpdate) -> None:
        """Durable when it returns; the answer comes by webhook. Raises Declined."""
        await self._api.say(update)

    async def close(self) -> None:
        """Let go of the API."""
        await self._api.close()
