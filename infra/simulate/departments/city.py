"""A city's own 311: an Open311 GeoReport v2 endpoint into which orders are filed, and its clerks, who close them.

It knows requests only. It gives a token first and the number later, for that is what some endpoints do.
"""

import asyncio
import heapq
import itertools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.simulate.departments.behaviour import Change
from infra.simulate.departments.capture import Capture

LOOK_EVERY_S: Final = 0.05
SLOW_TOKEN: Final = 4
"""Of so many tokens one has no number yet when it is asked about first."""
UNFILED: Final = ("wanted", "sending", "token")
REFERENCE: Final = re.compile(r"\bWO-[0-9A-Z]{5}-[0-9A-Z]{5}\b")
Course = Callable[[str], tuple[Change, ...]]


@dataclass
class Request311:
    """One request as the city keeps it."""

    number: str
    form: dict[str, str]
    filed_at: datetime
    updated_at: datetime
    status: str = "open"
    notes: str | None = None
    state: str | None = None
    expected_at: datetime | None = None
    asked: int = 0

    def shown(self) -> dict[str, Any]:
        """As the standard has it."""
        return {
            "service_request_id": self.number, "status": self.status, "status_notes": self.notes,
            "service_code": self.form.get("service_code"), "description": self.form.get("description"),
            "requested_datetime": _w3(self.filed_at), "updated_datetime": _w3(self.updated_at),
            "expected_datetime": _w3(self.expected_at) if self.expected_at else None,
            "address": self.form.get("address_string"), "lat": self.form.get("lat"), "long": self.form.get("long"),
            "extended_attributes": {"state": self.state},
        }  # fmt: skip


@dataclass
class City:
    """The endpoint and its clerks. `course`: what becomes of a request, by what it was filed as."""

    key: str
    course: Course
    pace: float
    capture: Capture
    requests: dict[str, Request311] = field(default_factory=dict)
    changes: int = 0
    _waiting: list[tuple[float, int, str, Change]] = field(default_factory=list)
    _by_name: dict[str, str] = field(default_factory=dict)  # Idempotency-Key -> number
    _heard_s: float = field(default_factory=time.monotonic)
    _orders: "itertools.count[int]" = field(default_factory=itertools.count)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def app(self) -> Starlette:
        """The endpoint: `requests.json`, `requests/{id}.json`, `tokens/{token}.json`."""
        return Starlette(routes=[
            Route("/v2/requests.json", self._file, methods=["POST"]),
            Route("/v2/requests.json", self._list, methods=["GET"]),
            Route("/v2/requests/{number}.json", self._one, methods=["GET"]),
            Route("/v2/tokens/{token}.json", self._token, methods=["GET"]),
        ])  # fmt: skip

    async def work(self) -> None:
        """The clerks: enter every change when its time has come, until cancelled."""
        while True:
            now_s = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now_s:
                _, _, number, change = heapq.heappop(self._waiting)
                self._enter(self.requests[number], change)
            await asyncio.sleep(LOOK_EVERY_S)

    @property
    def to_say(self) -> int:
        """How many changes are still to be entered."""
        return len(self._waiting)

    def is_idle(self, quiet_s: float) -> bool:
        """Whether no clerk has anything to enter, and nothing was filed or entered for so long."""
        return not self._waiting and time.monotonic() - self._heard_s >= quiet_s

    def is_followed(self, filings: Sequence[Mapping[str, Any]]) -> bool:
        """Whether all that was to be filed is, and every change was seen by who filed it."""
        if any(one["state"] in UNFILED for one in filings):
            return False
        seen = {one["service_request_id"]: (one["request"], one["notes"]) for one in filings}
        return all(seen.get(one.number) == (one.status, one.notes) for one in self.requests.values())

    def _enter(self, request: Request311, change: Change) -> None:
        self._heard_s = time.monotonic()
        self.changes += 1
        request.status, request.notes, request.state = change.status, change.notes, change.state
        request.updated_at = datetime.now(UTC)
        if change.expected_s is not None:
            request.expected_at = request.filed_at + timedelta(seconds=change.expected_s / self.pace)

    # -- the endpoint

    async def _file(self, request: Request) -> Response:
        body = await request.body()
        self.capture.keep(_raw(request), body)
        form = {name: str(value) for name, value in (await request.form()).items()}
        if form.get("api_key") != self.key:
            return _error(403, "api_key was not valid.")
        if not form.get("service_code"):
            return _error(400, "service_code was not provided.")
        name = request.headers.get("idempotency-key", "")
        number = self._by_name.get(name) if name else None
        return JSONResponse([{"token": f"t-{number or self._filed(form, name)}"}])

    def _filed(self, form: dict[str, str], name: str) -> str:
        self._heard_s = time.monotonic()
        number, now = f"SR-{next(self._numbers):06}", datetime.now(UTC)
        self.requests[number] = Request311(number, form, now, now)
        self._by_name[name] = number
        for change in self.course(f"{form.get('description')} {name}"):
            due_s = self._heard_s + change.after_s / self.pace
            heapq.heappush(self._waiting, (due_s, next(self._orders), number, change))
        return number

    async def _list(self, request: Request) -> Response:
        self.capture.keep(_raw(request))
        asked = request.query_params
        found = list(self.requests.values())
        if "service_request_id" in asked:
            wanted = set(asked["service_request_id"].split(","))
            found = [one for one in found if one.number in wanted]
        size, page = int(asked.get("page_size", "50")), int(asked.get("page", "1"))
        return JSONResponse([one.shown() for one in found[(page - 1) * size : page * size]])

    async def _one(self, request: Request) -> Response:
        found = self.requests.get(request.path_params["number"])
        return JSONResponse([found.shown()]) if found else _error(404, "There is no such request.")

    async def _token(self, request: Request) -> Response:
        number = str(request.path_params["token"]).removeprefix("t-")
        found = self.requests.get(number)
        if found is None:
            return _error(404, "There is no such token.")
        found.asked += 1
        slow = int(number.removeprefix("SR-")) % SLOW_TOKEN == 0
        ready = {"service_request_id": number} if found.asked > 1 or not slow else {}
        return JSONResponse([{"token": f"t-{number}"} | ready])

    def last_seen(self, department: str) -> list[dict[str, Any]]:
        """What was filed for each order: an endpoint is told of the work and the place, never of a version."""
        newest = {_reference(one): one.form for one in self.requests.values()}
        return [
            {
                "department": department, "reference": name, "title": form["description"].removesuffix(f" ({name})"),
                "address": form.get("address_string"),
            }
            for name, form in newest.items()
        ]  # fmt: skip


def _reference(request: Request311) -> str:
    found = REFERENCE.search(request.form.get("description", ""))
    return found[0] if found else ""


def _error(status: int, sentence: str) -> Response:
    return JSONResponse([{"code": status, "description": sentence}], status_code=status)


def _raw(request: Request) -> bytes:
    lines = [f"{request.method} {request.url.path}?{request.url.query}".encode()]
    return b"\n".join([*lines, *(name + b": " + value for name, value in request.headers.raw)])


def _w3(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
