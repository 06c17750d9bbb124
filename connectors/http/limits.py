"""How much anybody may ask for: sizes, rates, times. Checked before anything is read or looked up."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.http.problems import Refused, answer

REMEMBERED: Final = 10_000
"""Callers whose rate is remembered; the one that asked longest ago is forgotten first."""
OPEN_PATHS: Final = frozenset({"/livez", "/readyz"})


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, rates in requests per second; a burst is as many as come in two seconds."""

    body_bytes: int = 1_000_000
    header_bytes: int = 16_384
    url_bytes: int = 8_192
    body_s: float = 10.0  # until a body is here
    rate_per_s: float = 50.0  # of one principal
    address_rate_per_s: float = 100.0  # of one address, before we know who it is
    failures_per_s: float = 2.0  # of one address: requests with a credential that is none
    page: int = 500
    batch: int = 500  # reports in one request
    streams: int = 1_000  # open at once in one process


class Rates:
    """A token bucket for each caller, refilled at `per_s`."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = max(1.0, per_s * 2)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, as of

    def wait_s(self, caller: str) -> float:
        """0 when the caller may go on, which counts; else the seconds until it may."""
        wait_s = self.would_wait_s(caller)
        if not wait_s:
            tokens, as_of = self._buckets[caller]
            self._buckets[caller] = (tokens - 1, as_of)
        return wait_s

    def would_wait_s(self, caller: str) -> float:
        """The same without counting."""
        now = self._clock()
        tokens, as_of = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - as_of) * self._per_s)
        self._buckets[caller] = (tokens, now)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return 0.0 if tokens >= 1 else (1 - tokens) / self._per_s


def too_many(wait_s: float) -> Refused:
    """429, with the seconds to wait."""
    return Refused(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many requests: wait as long as the header Retry-After says.",
        headers={"Retry-After": str(math.ceil(wait_s))},
    )


class Gate:
    """The outermost layer: what is too large, too often or too slow gets no further."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._addresses = Rates(limits.address_rate_per_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, _Bounded(receive, self._limits), send)
            return
        response = answer(refusal.status, str(refusal), headers=refusal.headers)
        await response(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refused | None:
        limits = self._limits
        if sum(len(name) + len(value) for name, value in scope["headers"]) > limits.header_bytes:
            return Refused(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"All headers together may have {limits.header_bytes} bytes.",
            )
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > limits.url_bytes:
            return Refused(HTTPStatus.REQUEST_URI_TOO_LONG, f"A URL may have {limits.url_bytes} bytes.")
        if _declared_bytes(scope) > limits.body_bytes:
            return _too_large(limits)
        if scope["path"] in OPEN_PATHS:
            return None
        wait_s = self._addresses.wait_s(address_of(scope))
        return too_many(wait_s) if wait_s else None


class _Bounded:
    """`receive` that ends a body which is too long, or too long on its way."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self._bytes = 0
        self._complete = False
        self._until_s = time.monotonic() + limits.body_s

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()  # what is left is that the client goes away
        try:
            async with asyncio.timeout(max(0.0, self._until_s - time.monotonic())):
                message = await self._receive()
        except TimeoutError as error:
            raise Refused(
                HTTPStatus.REQUEST_TIMEOUT,
                f"The body was not here within {self._limits.body_s:.0f} s.",
                headers={"Connection": "close"},
            ) from error
        self._bytes += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._bytes > self._limits.body_bytes:
            raise _too_large(self._limits)
        return message


def _too_large(limits: Limits) -> Refused:
    return Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"A body may have {limits.body_bytes} bytes: send fewer at a time.",
        headers={"Connection": "close"},
    )


def _declared_bytes(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def address_of(scope: Scope) -> str:
    """Where the connection comes from. One IPv6 network of 64 bits is one caller."""
    client = scope.get("client")
    host: str = client[0] if client else "unknown"
    return ":".join(host.split(":")[:4]) if host.count(":") > 3 else host
