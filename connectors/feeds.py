"""A file from an address, as long and as large as was agreed: whatever answers, it ends in bytes or one sentence."""

import asyncio
import os
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import urljoin, urlsplit

import httpx

USER_AGENT: Final = "rapid-response (holiday calendars)"
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
HEADER_CHARACTERS: Final = 500
"""Of an ETag or a date that is kept to be said again; a longer one is not kept."""


class Limits(NamedTuple):
    """What is borne. `total_s` is for everything: look-up, redirects, and the last byte."""

    connect_s: float = 10.0
    total_s: float = 30.0
    most_bytes: int = 1_000_000
    redirects: int = 5


class Conditions(NamedTuple):
    """What the server said of the file that we have, so that it can answer that nothing is new."""

    etag: str | None = None
    last_modified: str | None = None

    def headers(self) -> dict[str, str]:
        """As request headers; none, where nothing is known."""
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in named.items() if value}


class Fetched(NamedTuple):
    """A file as it was served, and what the server calls it."""

    body: bytes
    served: Conditions


class Unfetchable(Exception):
    """There is no file to be had from there now. The message is one sentence."""


class Fetcher:
    """Gets files by GET; asks no proxy, sends no credentials. `trusted`: whose certificates count."""

    def __init__(self, trusted: ssl.SSLContext, limits: Limits = Limits()) -> None:  # noqa: B008 - a value
        self._trusted = trusted
        self._limits = limits

    async def fetch(
        self, url: str, have: Conditions = Conditions(), *, allow_http: bool = False  # noqa: B008 - a value
    ) -> Fetched | None:  # fmt: skip
        """The file; None: it is what we have. Raises Unfetchable."""
        where = short(url)
        try:
            async with asyncio.timeout(self._limits.total_s), self._client() as client:
                return await self._follow(client, url, have, allow_http)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise Unfetchable(f"{where} did not answer whole within {self._limits.total_s:g} s.") from error
        except httpx.RemoteProtocolError as error:
            raise Unfetchable(
                f"{where} ended in the middle of its answer, or that was no HTTP: nothing of it is used."
            ) from error
        except (httpx.TransportError, ssl.SSLError, OSError) as error:
            raise Unfetchable(f"{where} cannot be reached: {reason(error)}.") from error
        except (httpx.InvalidURL, httpx.DecodingError, UnicodeError, ValueError) as error:
            raise Unfetchable(f"{where} is no address that can be asked, or leads to one.") from error

    def _client(self) -> httpx.AsyncClient:
        timeout = httpx.Timeout(self._limits.total_s, connect=self._limits.connect_s)
        return httpx.AsyncClient(
            verify=self._trusted, trust_env=False, follow_redirects=False, timeout=timeout
        )

    async def _follow(
        self, client: httpx.AsyncClient, url: str, have: Conditions, allow_http: bool
    ) -> Fetched | None:
        headers = {"User-Agent": USER_AGENT, "Accept": "text/calendar", "Accept-Encoding": "identity"}
        first = url
        for _ in range(self._limits.redirects + 1):
            async with client.stream("GET", url, headers=headers | have.headers()) as answer:
                if answer.status_code not in REDIRECTS:
                    return await self._answered(answer, have, short(url))
                url = next_url(url, answer.headers, allow_http)
        raise Unfetchable(
            f"{short(first)} redirects more than {self._limits.redirects} times, at last to {short(url)}."
        )

    async def _answered(self, answer: httpx.Response, have: Conditions, where: str) -> Fetched | None:
        if answer.status_code == HTTPStatus.NOT_MODIFIED:
            if not have.headers():
                raise Unfetchable(
                    f"{where} answered 304 Not Modified, although it was not asked for changes."
                )
            return None
        if answer.status_code != HTTPStatus.OK:
            raise Unfetchable(f"{where} answered {_status(answer)}; expected 200 and a file.")
        encoding = answer.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise Unfetchable(f"{where} answered in the encoding {encoding[:40]!r}, which was not asked for.")
        body = bytearray()
        async for piece in answer.aiter_raw(65_536):
            body += piece
            if len(body) > self._limits.most_bytes:
                raise Unfetchable(
                    f"{where} sends more than the {self._limits.most_bytes:,} bytes that such a file may have."
                )
        return Fetched(bytes(body), _served(answer.headers))


def next_url(url: str, headers: Mapping[str, str], allow_http: bool) -> str:
    """Where an answer redirects to. Raises Unfetchable where that is no address, or one without TLS."""
    found = urljoin(url, headers.get("Location", ""))
    scheme = urlsplit(found).scheme
    if not headers.get("Location") or scheme not in {"http", "https"} or "@" in urlsplit(found).netloc:
        raise Unfetchable(f"{short(url)} redirects to no address that can be followed.")
    if scheme == "http" and not allow_http:
        raise Unfetchable(
            f"{short(url)} redirects to {short(found)}, without TLS: expected https:// all the way."
        )
    return found


def short(url: str) -> str:
    """An address for a sentence: without its query, which may hold a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]


def reason(error: BaseException) -> str:
    """What the operating system or TLS says, in its words; else the kind of error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno) if cause.errno > 0 else "its name is not known"
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def _status(answer: httpx.Response) -> str:
    phrase = HTTPStatus(answer.status_code).phrase if answer.status_code in _STATUSES else ""
    return f"{answer.status_code} {phrase}".strip()


_STATUSES: Final = frozenset(HTTPStatus)


def _served(headers: Mapping[str, str]) -> Conditions:
    kept = (headers.get(name) for name in ("ETag", "Last-Modified"))
    return Conditions(*(value if value and len(value) <= HEADER_CHARACTERS else None for value in kept))
