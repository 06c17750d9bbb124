"""Tells how each request was answered: by the template of its route, never by what stands in it."""

import time
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Tell = Callable[[str, str, int, float], None]
"""Method, route, status, and the seconds until the head of the answer."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE: Final = "none"
"""Of what no route takes, and what was refused before one was looked for."""


class Counted:
    """The outermost layer of all: it sees what the others refuse, too."""

    def __init__(self, app: ASGIApp, tell: Tell) -> None:
        self._app = app
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s, told = time.monotonic(), False

        async def send_and_tell(message: Message) -> None:
            nonlocal told
            if message["type"] == "http.response.start" and not told:
                told = True
                self._tell(_method(scope), _route(scope), message["status"], time.monotonic() - began_s)
            await send(message)

        await self._app(scope, receive, send_and_tell)


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in METHODS else "other"


def _route(scope: Scope) -> str:
    return str(getattr(scope.get("route"), "path", NO_ROUTE))
