"""A city's own endpoint, one request at a time: paced, bounded in time and size, and never surprised by an answer."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx

from connectors.open311.mapping import description_of
from connectors.open311.model import text, w3_time
from schemas.work_order import DepartmentWorkOrder

TIMEOUT_S: Final = 20.0
"""For one request, all of it: an answer that trickles is no answer."""
MOST_ANSWER_BYTES: Final = 4_000_000
MOST_IDS: Final = 50
PAGE_SIZE: Final = 200
MOST_PAGES: Final = 50
LONGEST_WAIT_S: Final = 86_400.0
LOOK_BACK: Final = timedelta(hours=1)
"""The endpoint's clock may be behind ours."""


class Receipt(NamedTuple):
    """What filing gave: the request's id, or a token for it."""

    request_id: str | None
    token: str | None


class Away(Exception):
    """No usable answer now; try again. `reached`: the request may have been acted upon all the same."""

    def __init__(self, sentence: str, *, reached: bool, wait_s: float | None = None) -> None:
        super().__init__(sentence)
        self.reached = reached
        self.wait_s = wait_s


class Declined(Exception):
    """The endpoint will not do it: nothing was filed. `of_key`: no request with this key will be taken."""

    def __init__(self, sentence: str, *, of_key: bool = False, missing: bool = False) -> None:
        super().__init__(sentence)
        self.of_key = of_key
        self.missing = missing


class City:
    """One endpoint. `key`: sent with what is filed, and with nothing else."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        *,
        key: str,
        jurisdiction: str | None = None,
        per_minute: int = 10,
        clock: Callable[[], float] = time.monotonic,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._key = key
        self._always = {"jurisdiction_id": jurisdiction} if jurisdiction else {}
        self._pause_s = 60.0 / per_minute
        self._clock = clock
        self._next_s = 0.0
        self._timeout_s = timeout_s

    async def file(self, service_code: str, order: DepartmentWorkOrder, name: str) -> Receipt:
        """File an order. `name`: the same for each try, for endpoints that know `Idempotency-Key`."""
        form = {"api_key": self._key, "service_code": service_code, "description": description_of(order)}
        form |= _place(order)
        answer = await self._ask("POST", "requests.json", form, {"Idempotency-Key": name})
        found = _members(answer)
        one = found[0] if found else {}
        receipt = Receipt(_id(one.get("service_request_id")), _id(one.get("token")))
        if receipt == (None, None):
            raise Away("The answer to a request has neither an id nor a token.", reached=True)
        return receipt

    async def redeem(self, token: str) -> str | None:
        """The request's id for a token, None when there is none yet."""
        try:
            found = _members(await self._ask("GET", f"tokens/{_segment(token)}.json", {}))
        except Declined as declined:
            if declined.missing:
                return None
            raise
        return next((number for one in found if (number := _id(one.get("service_request_id")))), None)

    async def find(
        self, service_code: str, reference: str, since: datetime, but: frozenset[str] = frozenset()
    ) -> str | None:
        """The id of a request that carries our reference, None when the endpoint shows none `but` those."""
        known: set[str] = set()
        for page in range(1, MOST_PAGES + 1):
            members = await self._list(
                service_code=service_code, start_date=w3_time(since - LOOK_BACK), extensions="true",
                page=str(page), page_size=str(PAGE_SIZE),
            )  # fmt: skip
            for one in members:
                number = _id(one.get("service_request_id"))
                if number and number not in but and reference in str(one.get("description") or ""):
                    return number
            numbers = {str(one.get("service_request_id")) for one in members}
            if numbers <= known:  # the end, or an endpoint that knows no pages and says the same again
                return None
            known |= numbers
        raise Away(f"More than {MOST_PAGES} pages of requests: ours was not among them.", reached=False)

    async def look(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """What the endpoint says of each of these requests, at most 50; those that it does not know are missing."""
        try:
            found = await self._list(service_request_id=",".join(ids), extensions="true")
        except Declined as declined:  # some endpoints take no list
            found = _none_unless_key(declined)
        by_id = {
            number: one for one in found if (number := _id(one.get("service_request_id"))) in ids and number
        }
        for number in ids:
            if number not in by_id and (one := await self._one(number)):
                by_id[number] = one
        return by_id

    async def _one(self, number: str) -> Mapping[str, Any] | None:
        try:
            answer = await self._ask("GET", f"requests/{_segment(number)}.json", {"extensions": "true"})
        except Declined as declined:
            answer = _none_unless_key(declined)
        found = [one for one in _members(answer) if _id(one.get("service_request_id")) == number]
        return found[0] if found else None

    async def _list(self, **arguments: str) -> list[Mapping[str, Any]]:
        try:
            return _members(await self._ask("GET", "requests.json", arguments))
        except Declined as declined:
            if declined.missing:  # some endpoints say so of an empty list
                return []
            raise

    async def _ask(
        self, method: str, path: str, arguments: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> Any:
        await self._take_turn()
        fields = dict(arguments) | self._always
        sent = {"data": fields} if method == "POST" else {"params": fields}
        try:
            async with asyncio.timeout(self._timeout_s):
                status, wait, body = await self._send(method, f"{self._url}/{path}", headers, sent)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Away(f"{self._url} cannot be reached.", reached=False) from error
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise Away(f"{self._url} gave no answer within {self._timeout_s:g} s.", reached=True) from error
        return _parsed(status, wait, body)

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str] | None, sent: dict[str, Any]
    ) -> tuple[int, float | None, bytes]:
        async with self._http.stream(
            method, url, headers=dict(headers or {}), follow_redirects=False, timeout=self._timeout_s, **sent
        ) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MOST_ANSWER_BYTES:
                    raise Away(f"An answer is larger than {MOST_ANSWER_BYTES} bytes.", reached=True)
            wait_s = retry_after_s(response.headers.get("retry-after"), datetime.now(UTC))
            return response.status_code, wait_s, bytes(body)

    async def _take_turn(self) -> None:
        now_s = self._clock()
        turn_s = max(now_s, self._next_s)
        self._next_s = turn_s + self._pause_s
        await asyncio.sleep(turn_s - now_s)


def _none_unless_key(declined: Declined) -> list[Mapping[str, Any]]:
    """What was declined is nothing to see; a key that is declined is declined for all."""
    if declined.of_key:
        raise declined
    return []


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds that a `Retry-After` asks for: a number or a date; at most a day."""
    if value is None:
        return None
    if value.strip().isdigit():
        return min(float(value.strip()[:9]), LONGEST_WAIT_S)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0.0, (at - now).total_seconds()), LONGEST_WAIT_S)


def _parsed(status: int, wait_s: float | None, body: bytes) -> Any:
    if status == 429:
        raise Away("The endpoint takes no more requests for now (429).", reached=False, wait_s=wait_s)
    if status >= 500:
        raise Away(f"The endpoint failed ({status}): {_excerpt(body)}", reached=True, wait_s=wait_s)
    if status >= 300:
        key = status in (401, 403)
        raise Declined(
            f"The endpoint declined ({status}): {_excerpt(body)}", of_key=key, missing=status in (404, 410)
        )
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Away(f"The answer is not JSON: {_excerpt(body)}", reached=True) from error


def _excerpt(body: bytes) -> str:
    """What a person needs to see what happened: the standard's sentences, else the beginning."""
    try:
        members = _members(json.loads(body))
        said = "; ".join(str(one["description"]) for one in members if one.get("description"))
    except (ValueError, RecursionError, Away):
        said = ""
    return " ".join((text((said or body.decode("utf-8", "replace"))[:1000]) or "no words").split())[:300]


def _members(answer: Any) -> list[Mapping[str, Any]]:
    """The members of an answer. Some endpoints wrap the array in an object, some give one member alone."""
    if isinstance(answer, Mapping):
        arrays = [value for value in answer.values() if isinstance(value, list)]
        answer = arrays[0] if len(answer) == 1 and arrays else [answer]
    if not isinstance(answer, list):
        raise Away("The answer is JSON, but no list of requests.", reached=True)
    return [one for one in answer if isinstance(one, Mapping)]


def _id(value: Any) -> str | None:
    """An id as text: some endpoints write numbers."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    written = str(value).strip()
    return written if 0 < len(written) <= 80 and written.isprintable() and "," not in written else None


def _segment(name: str) -> str:
    """A name that a stranger chose, as one part of a path."""
    return quote(name, safe="")


def _place(order: DepartmentWorkOrder) -> dict[str, str]:
    place: dict[str, str] = {}
    if order.point is not None:
        place |= {"lat": f"{order.point.lat:.7f}", "long": f"{order.point.lon:.7f}"}
    if order.address is not None:
        place["address_string"] = order.address
    return place
