"""One attempt: one POST on a connection of its own, to an address that was checked for it."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

import httpx

from connectors.webhooks.guard import Address, Borders, Refused, Resolve, Target, addresses, check_url
from connectors.webhooks.schedule import Answer, Kind

BODY_BYTES: Final = 16_384
"""Most that is read of an answer's body. It is thrown away: the status is the answer, and what a receiver writes is
nothing for our log. It is read at all so that an ordinary receiver is not cut off while it writes."""
BODY_S: Final = 2.0
RETRY_AFTER_CHARACTERS: Final = 100


class Timeouts(NamedTuple):
    """Seconds: until a connection stands, and for the whole attempt with the look-up of the name."""

    connect_s: float = 5.0
    total_s: float = 15.0


class Sender:
    """Sends bodies to URLs; never follows a redirect, never asks a proxy, never raises for a receiver's sake."""

    def __init__(
        self, borders: Borders, timeouts: Timeouts, resolve: Resolve, trusted: ssl.SSLContext
    ) -> None:
        self._borders = borders
        self._timeouts = timeouts
        self._resolve = resolve
        self._trusted = trusted

    async def send(self, url: str, body: str, headers: Mapping[str, str]) -> Answer:
        """Post once; how it ended, within `timeouts.total_s`."""
        began = time.monotonic()
        answer = await self._attempt(url, body, headers)
        return answer._replace(duration_ms=round((time.monotonic() - began) * 1000))

    async def _attempt(self, url: str, body: str, headers: Mapping[str, str]) -> Answer:
        try:
            async with asyncio.timeout(self._timeouts.total_s):
                target = check_url(url, self._borders)
                found = await addresses(target, self._borders, self._resolve)
                return await self._post_to_first(target, found, body, headers)
        except Refused as refused:
            return _failed("refused_address", str(refused))
        except (TimeoutError, httpx.TimeoutException):
            return _failed("timed_out", f"There was no answer within {self._timeouts.total_s:g} s.")
        except httpx.RemoteProtocolError:
            return _failed(
                "bad_answer", "What came back is no HTTP answer, or one with headers beyond all bounds."
            )
        except (httpx.TransportError, ssl.SSLError) as error:
            return _failed("unreachable", f"The connection failed: {_reason(error)}.")
        except OSError:
            return _failed("unreachable", "The host's name could not be resolved.")

    async def _post_to_first(
        self, target: Target, found: list[Address], body: str, headers: Mapping[str, str]
    ) -> Answer:
        """Try one address after the other until a connection stands; what is sent once is not sent to another."""
        for address in found[:-1]:
            with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await self._post(target, address, body, headers)
        return await self._post(target, found[-1], body, headers)

    async def _post(self, target: Target, address: Address, body: str, headers: Mapping[str, str]) -> Answer:
        """The URL is rewritten to the checked address; Host and the certificate's name stay those of the URL."""
        async with (
            httpx.AsyncHTTPTransport(verify=self._trusted, trust_env=False) as transport,
            httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False) as client,
            client.stream(
                "POST",
                target.url.copy_with(host=str(address)),
                content=body.encode(),
                headers={"host": target.url.netloc.decode("ascii"), **headers},
                extensions={"sni_hostname": target.host},
                timeout=httpx.Timeout(self._timeouts.total_s, connect=self._timeouts.connect_s),
            ) as response,
        ):
            await _skim(response)
            return _answered(response)


async def _skim(response: httpx.Response) -> None:
    """Read a little of the body and forget it; whatever goes wrong there, the status was the answer."""
    read = 0
    with contextlib.suppress(httpx.TransportError, httpx.StreamError, TimeoutError):
        async with asyncio.timeout(BODY_S):
            async for chunk in response.aiter_raw(4096):
                read += len(chunk)
                if read >= BODY_BYTES:
                    return


def _answered(response: httpx.Response) -> Answer:
    status = response.status_code
    sentence = f"The receiver answered {status}."
    if 300 <= status < 400:
        sentence = (
            f"The receiver answered {status}; redirects are not followed: register the URL that it leads to."
        )
    asked = response.headers.get("retry-after")
    return Answer("answered", status, asked[:RETRY_AFTER_CHARACTERS] if asked else None, sentence)


def _failed(kind: Kind, sentence: str) -> Answer:
    return Answer(kind, None, None, sentence)


def _reason(error: BaseException) -> str:
    """Why in a few words; a certificate's own reason is worth reading, other texts name addresses only."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not valid, {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "what answers does not speak TLS as we do"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectError):
        return "nobody took the connection at the address"
    return f"{type(error).__name__}, while the message was under way"


def trusted_authorities(own: str | None) -> ssl.SSLContext:
    """The usual certificate authorities, and those of a PEM file. Raises OSError for a file that is none."""
    context = httpx.create_ssl_context(trust_env=False)
    if own:
        context.load_verify_locations(cafile=own)
    return context
