"""A city's endpoint that keeps all in memory, and misbehaves when told to."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

KEY = "a key of the city's"
JURISDICTION = "city.example"
CODE = "4ffa9f2d6018277d400000c8"
FIELDS = (
    "service_request_id", "status", "status_notes", "service_name", "service_code", "description",
    "agency_responsible", "service_notice", "requested_datetime", "updated_datetime", "expected_datetime",
    "address", "address_id", "zipcode", "lat", "long", "media_url",
)  # fmt: skip
CHILDREN = {
    "services": "service", "service_requests": "request", "errors": "error", "attributes": "attribute",
    "endpoints": "endpoint", "formats": "format",
}  # fmt: skip

Fault = Callable[[Request], Any]


@dataclass
class FakeCity:
    """`gives_tokens`: POST answers a token, redeemed after so many polls. `faults`: what happens instead, in order.

    `after_filing`: what happens to the answer of a POST that was acted upon.
    """

    gives_tokens: int | None = None
    takes_lists: bool = True
    knows_keys: bool = True  # Idempotency-Key
    declines: frozenset[str] = frozenset()  # of "lists", "tokens": what is answered with 400
    root: str = ""
    requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, list[Any]] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    after_filing: deque[Fault] = field(default_factory=deque)
    seen: list[str] = field(default_factory=list)
    _by_key: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])

    @property
    def url(self) -> str:
        return f"{self.root}/open311/v2"

    def close(self, number: str, notes: str, **more: Any) -> None:
        self.change(number, status="closed", status_notes=notes, **more)

    def change(self, number: str, **members: Any) -> None:
        self.requests[number] |= members | {"updated_datetime": _now()}

    async def _answer(self, request: Request) -> Response:
        path = request.path_params["path"]
        self.seen.append(f"{request.method} {path}")
        if self.faults:
            outcome = self.faults.popleft()(request)
            return await outcome if asyncio.iscoroutine(outcome) else outcome  # type: ignore[no-any-return]
        form = path.rpartition(".")[2]
        try:
            root, content = await self._content(request, path.rpartition(".")[0])
            status = 200
        except _Refusal as refusal:
            root, content, status = (
                "errors",
                [{"code": refusal.status, "description": refusal.words}],
                refusal.status,
            )
        if root == "service_requests" and request.method == "POST" and status == 200 and self.after_filing:
            outcome = self.after_filing.popleft()(request)
            return await outcome if asyncio.iscoroutine(outcome) else outcome  # type: ignore[no-any-return]
        return _response(form, root, content, status)

    async def _content(self, request: Request, path: str) -> tuple[str, Any]:
        if path == "open311/discovery":
            return "discovery", self._discovery()
        path = path.removeprefix("open311/v2/")
        sent: Any = request.query_params if request.method == "GET" else await request.form()
        if sent.get("jurisdiction_id") not in (None, "", JURISDICTION):
            raise _Refusal(404, "jurisdiction_id was not found")
        if path == "services":
            return "services", [_SERVICE]
        if path.startswith("services/"):
            if path != f"services/{CODE}":
                raise _Refusal(404, "service_code was not found")
            return "service_definition", {"service_code": CODE, "attributes": []}
        if path.startswith("tokens/"):
            if "tokens" in self.declines:
                raise _Refusal(400, "not yet")
            return "service_requests", [self._redeem(path.removeprefix("tokens/"))]
        if path == "requests" and request.method == "POST":
            return "service_requests", [self._file(request, sent)]
        return "service_requests", self._list(path, sent)

    def _discovery(self) -> dict[str, Any]:
        endpoint = {
            "specification": "http://wiki.open311.org/GeoReport_v2", "url": self.url, "changeset": "2026-01-01 00:00",
            "type": "test", "formats": ["text/xml", "application/json"],
        }  # fmt: skip
        return {
            "changeset": "2026-01-01 00:00",
            "contact": "us",
            "key_service": "us",
            "endpoints": [endpoint],
        }

    def _file(self, request: Request, sent: Any) -> dict[str, Any]:
        if sent.get("api_key") != KEY:
            raise _Refusal(403, "Invalid api_key received")
        if not sent.get("service_code"):
            raise _Refusal(400, "service_code was not provided")
        if sent["service_code"] != CODE:
            raise _Refusal(404, "service_code was not found")
        if not (sent.get("lat") and sent.get("long")) and not sent.get("address_string"):
            raise _Refusal(400, "a location was not provided")
        name = request.headers.get("idempotency-key") if self.knows_keys else None
        number = self._by_key.get(name or "") or self._keep(sent)
        if name:
            self._by_key[name] = number
        if self.gives_tokens is None:
            return {"service_request_id": number, "service_notice": None, "account_id": None}
        self.tokens.setdefault(f"token-{number}", [number, self.gives_tokens])
        return {"token": f"token-{number}", "service_notice": None, "account_id": None}

    def _keep(self, sent: Any) -> str:
        number = str(100_000 + len(self.requests))
        self.requests[number] = dict.fromkeys(FIELDS) | {
            "service_request_id": number, "status": "open", "service_name": "Street Light Out",
            "service_code": sent["service_code"], "description": sent.get("description"),
            "requested_datetime": _now(), "updated_datetime": _now(), "address": sent.get("address_string"),
            "lat": float(sent["lat"]) if sent.get("lat") else None,
            "long": float(sent["long"]) if sent.get("long") else None,
        }  # fmt: skip
        return number

    def _redeem(self, token: str) -> dict[str, Any]:
        if token not in self.tokens:
            raise _Refusal(404, "token not found")
        number, polls = self.tokens[token]
        self.tokens[token][1] = polls - 1
        return {"service_request_id": number if polls <= 0 else None, "token": token}

    def _list(self, path: str, sent: Any) -> list[dict[str, Any]]:
        number = path.removeprefix("requests/") if path != "requests" else None
        if number is not None:
            if number not in self.requests:
                raise _Refusal(404, "service_request_id was not found")
            return [self.requests[number]]
        if "lists" in self.declines:
            raise _Refusal(400, "we show no lists")
        given = {name: value for name, value in sent.items() if value}
        if "service_request_id" in given:
            wanted = (
                given["service_request_id"].split(",") if self.takes_lists else [given["service_request_id"]]
            )
            return [one for one in self.requests.values() if one["service_request_id"] in wanted]
        since, until, chosen = *_window(given), _slice(given)
        return [one for one in self.requests.values() if _fits(one, given, since, until)][chosen]


_SERVICE = {
    "service_code": CODE, "service_name": "Street Light Out", "description": "A light is out & dark <b>",
    "metadata": False, "type": "batch", "keywords": "light, lamp", "group": "Lights",
}  # fmt: skip


class _Refusal(Exception):
    def __init__(self, status: int, words: str) -> None:
        self.status, self.words = status, words


def _window(given: dict[str, str]) -> tuple[datetime, datetime]:
    try:
        since = datetime.fromisoformat(given.get("start_date", "2000-01-01T00:00:00Z"))
        until = datetime.fromisoformat(given.get("end_date", "2100-01-01T00:00:00Z"))
    except ValueError as error:
        raise _Refusal(400, "a date is no date") from error
    if {"start_date", "end_date"} <= given.keys() and (until - since).days > 90:
        raise _Refusal(400, "start_date and end_date span more than 90 days")
    return since, until


def _fits(one: dict[str, Any], given: dict[str, str], since: datetime, until: datetime) -> bool:
    return (
        since <= datetime.fromisoformat(one["requested_datetime"]) <= until
        and one["status"] in given.get("status", "open,closed").split(",")
        and one["service_code"] in given.get("service_code", one["service_code"]).split(",")
    )


def _slice(given: dict[str, str]) -> slice:
    try:
        size, page = int(given.get("page_size", 1000)), int(given.get("page", 1))
    except ValueError as error:
        raise _Refusal(400, "page and page_size are numbers") from error
    return slice((page - 1) * size, page * size)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _response(form: str, root: str, content: Any, status: int) -> Response:
    if form == "json":
        return Response(json.dumps(content), status, media_type="application/json; charset=utf-8")
    if form != "xml":
        content, root, status = [{"code": 400, "description": "the format is not known"}], "errors", 400
    body = f'<?xml version="1.0" encoding="utf-8"?>{_xml(root, content)}'
    return Response(body, status, media_type="text/xml; charset=utf-8")


def _xml(name: str, value: Any) -> str:
    """Strings put together, unlike ours: the same conformance suite must hold for both."""
    if isinstance(value, dict):
        inner = "".join(_xml(member, one) for member, one in value.items())
    elif isinstance(value, list):
        inner = "".join(_xml(CHILDREN[name], one) for one in value)
    elif isinstance(value, bool):
        inner = str(value).lower()
    else:
        inner = "" if value is None else escape(str(value))
    return f"<{name}>{inner}</{name}>"


def html(request: Request) -> Response:
    return Response("<html><body>Down for maintenance</body></html>", 200, media_type="text/html")


def failing(status: int, retry_after: str | None = None) -> Fault:
    headers = {"Retry-After": retry_after} if retry_after else {}
    return lambda request: Response("no", status, headers=headers)


async def hang(request: Request) -> Response:
    await asyncio.sleep(30)
    return Response("late")


def raw(body: bytes) -> Fault:
    return lambda request: Response(body, 200, media_type="application/json")
