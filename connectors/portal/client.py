"""The portal over HTTP: one question at a time, bounded in time and size, tried again with growing pauses."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import httpx

from connectors.portal.answers import Away, Page, Raw, Refused, Unchanged, Validators, read
from connectors.portal.query import Query
from connectors.webhooks.schedule import backoff_s

MOST_ANSWER_BYTES: Final = 100_000_000
AGENT: Final = "rapid-response"


class Limits(NamedTuple):
    """How patient we are; `infra/settings.py` has a sentence for each."""

    timeout_s: float = 60.0
    tries: int = 5
    first_retry_s: float = 2.0
    longest_wait_s: float = 300.0


DEFAULT_LIMITS: Final = Limits()

Tell = Callable[[str], None]
"""Is told what is waited for, "" when it goes on."""


class Portal:
    """One portal for all its datasets. When it throttles one, all wait: they share the token and the address."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        *,
        chance: Callable[[], float],
        token: str = "",
        limits: Limits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._headers = {"Accept": "application/json", "User-Agent": AGENT}
        if token:
            self._headers["X-App-Token"] = token
        self._chance = chance
        self._limits = limits
        self._clock = clock
        self._not_before_s = 0.0

    async def page(
        self, dataset: str, asked: Query, known: Validators | None, tell: Tell, count: Callable[[], None]
    ) -> Page | Unchanged:
        """One page, or that nothing is new since `known`. `count` is called per request.

        Raises Away when it still fails after all tries or asks for a longer wait than ours, Refused, ColumnGone.
        """
        failures = 0
        while True:
            await self._wait_for_turn(tell)
            count()
            try:
                raw = await self._ask(dataset, asked, known)
                found = await asyncio.to_thread(read, raw, asked, datetime.now(UTC))
            except Away as away:
                failures += 1
                await self._pause(away, failures, tell)
            else:
                tell("")
                return found

    async def _wait_for_turn(self, tell: Tell) -> None:
        while (wait_s := self._not_before_s - self._clock()) > 0:
            tell(f"the portal asked to wait {wait_s:.0f} s")
            await asyncio.sleep(wait_s)

    async def _pause(self, away: Away, failures: int, tell: Tell) -> None:
        """Raises Away when it is not worth to wait any more."""
        longest_s = self._limits.longest_wait_s
        if away.wait_s is not None and away.wait_s > longest_s:
            raise Away(f"{away}, and asks to wait {away.wait_s:,.0f} s", away.wait_s)
        if failures >= self._limits.tries:
            raise Away(f"{away}, {failures} times in a row", away.wait_s)
        if away.wait_s is not None:
            self._not_before_s = max(self._not_before_s, self._clock() + away.wait_s)
        tell(f"the portal {away}")
        await asyncio.sleep(backoff_s(failures, self._chance(), self._limits.first_retry_s, longest_s))

    async def _ask(self, dataset: str, asked: Query, known: Validators | None) -> Raw:
        parameters = asked.parameters()
        headers = self._headers | (known.headers_for(parameters) if known else {})
        timeout_s = self._limits.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await self._send(f"{self._url}/resource/{dataset}.json", parameters, headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            raise Away(f"cannot be reached at {self._url}") from None
        except (TimeoutError, httpx.TimeoutException):
            raise Away(f"gave no whole answer within {timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.StreamError):
            raise Away("broke off in the middle of its answer") from None
        except httpx.InvalidURL:
            raise Refused(f"has no usable address ({self._url}): see RAPID_PORTAL_URL") from None

    async def _send(self, url: str, parameters: dict[str, str], headers: dict[str, str]) -> Raw:
        """A redirect is not followed: the token belongs to the portal that is named in the settings."""
        async with self._http.stream(
            "GET",
            url,
            params=parameters,
            headers=headers,
            follow_redirects=False,
            timeout=self._limits.timeout_s,
        ) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MOST_ANSWER_BYTES:
                    raise Refused(
                        f"answered more than {MOST_ANSWER_BYTES:,} bytes: lower RAPID_PORTAL_PAGE_ROWS"
                    )
            return Raw(response.status_code, dict(response.headers), bytes(body))
