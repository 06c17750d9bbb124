"""The endpoint: `/open311/discovery.{xml,json}` and `/open311/v2/…`, as a router of the API's app.

One route takes every path, so that whatever is wrong with a request is answered in the standard's form.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.access.errors import Unauthenticated, Unavailable
from connectors.access.principal import Principal, Role
from connectors.errors import Transient
from connectors.http.limits import Rates, address_of
from connectors.http.parts import Parts
from connectors.http.problems import PROBLEM_TYPE, Refused
from connectors.open311 import view
from connectors.open311.model import MEDIA_TYPES, Document, Failure, Format, Value
from connectors.open311.parameters import (
    MOST_FIELDS,
    Arguments,
    Filing,
    Query,
    Target,
    filing_of,
    form_arguments,
    form_of,
    known_only,
    query_of,
    target_of,
)
from connectors.open311.xml import render
from connectors.postgres import open311 as stored
from connectors.postgres.audit import Entry
from connectors.postgres.submissions import (
    Answer,
    InFlight,
    KeyReused,
    Submission,
    digest_of,
)
from schemas.codec import encode
from schemas.envelope import Event
from schemas.issue import IssueReport, issue_id_of
from schemas.policy import Policy
from schemas.topics import ISSUE_REPORTS
from schemas.work_order import REFERENCE_ALPHABET

log = structlog.get_logger(__name__)

ROOT: Final = "/open311/"
VERSION: Final = "v2/"
SOURCE: Final = "open311"
MAY_FILE: Final[tuple[Role, ...]] = ("intake",)  # as for reports over REST
ORDERS_AHEAD: Final = timedelta(days=2)
"""More than the day on which an order was requested can lie ahead: it is the one after the order was opened."""
MOST_BODY_BYTES: Final = 65_536
MOST_KEY_CHARACTERS: Final = 255
NUMBER_CHARACTERS: Final = 12
RETRY_AFTER_S: Final = 5
NO_KEY: Final = "api_key was not provided: this needs one."
WRONG_KEY: Final = "The api_key is not valid here: check it, or ask for a new one."


@dataclass(frozen=True)
class Place:
    """What this endpoint says of itself. `jurisdiction`: None takes any; `url`: None takes the one that was asked."""

    jurisdiction: str | None = None
    url: str | None = None
    contact: str = "Ask the operator of this installation of Rapid Response."


def open311_router(parts: Parts, policy: Callable[[], Policy], place: Place) -> APIRouter:
    """The endpoint's one route. It is no part of the API's OpenAPI document: its contract is the standard.

    `policy`: the one that is in force by now.
    """
    router = APIRouter(include_in_schema=False)
    endpoint = _Endpoint(parts, policy, place)
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    router.add_api_route(ROOT + "{path:path}", endpoint.answer, methods=methods, name="open311")
    return router


class _Endpoint:
    def __init__(self, parts: Parts, policy: Callable[[], Policy], place: Place) -> None:
        self._parts = parts
        self._in_force = policy
        self._place = place
        self._failures = Rates(parts.limits.failures_per_s)

    @property
    def _policy(self) -> Policy:
        return self._in_force()

    @property
    def _categories(self) -> Mapping[str, str]:
        return view.service_codes(self._policy)

    async def answer(self, request: Request) -> Response:
        """Whatever is asked, and whatever happens: in the standard's form."""
        path = request.url.path.removeprefix(ROOT)
        form = form_of(path)
        try:
            return _response(await self._document(request, path), form)
        except Failure as failure:
            return failed(failure, form)
        except Refused as refused:
            return failed(_as_failure(refused), form)
        except (Transient, Unavailable, InFlight) as error:
            log.warning("an Open311 request could not be served", reason=str(error))
            away = "The service is not reachable for the moment: send the same again."
            return failed(Failure(503, away, retry_after_s=RETRY_AFTER_S), form)
        except Exception as error:  # noqa: BLE001 - nothing of it may be told
            log.error("an Open311 request failed", reason=type(error).__name__)
            return failed(Failure(500, "Something unexpected happened; it was logged."), form)

    async def _document(self, request: Request, path: str) -> Document:
        arguments = _of_url(request)
        target = target_of(path.removeprefix(VERSION))
        if (target.resource == "discovery") == path.startswith(VERSION):
            raise Failure(404, "There is no such address: begin with /open311/discovery.xml.")
        _check_method(request, target)
        if request.method == "POST":
            return await self._file(request, arguments)
        self._check_jurisdiction(arguments)
        match target.resource:
            case "discovery":
                return await self._discovery(request)
            case "services":
                return self._services(target)
            case "tokens":
                return await self._token(target.name or "")
            case _:
                return await self._requests(request, target, arguments)

    def _check_jurisdiction(self, arguments: Arguments) -> None:
        asked = arguments.one("jurisdiction_id")
        if asked and self._place.jurisdiction and asked != self._place.jurisdiction:
            raise Failure(404, f"jurisdiction_id was not found: here it is {self._place.jurisdiction}.")

    async def _discovery(self, request: Request) -> Document:
        async with self._parts.ledger.connection() as connection:
            changed_at = await stored.services_changed_at(connection)
        root = self._place.url or str(request.base_url).rstrip("/") + ROOT + VERSION.rstrip("/")
        return view.discovery(root, changed_at, self._place.contact)

    def _services(self, target: Target) -> Document:
        if target.name is None:
            return view.services(self._policy)
        category = self._policy.category(self._categories.get(target.name, ""))
        if category is None:
            raise Failure(404, "service_code was not found: see GET services.")
        return view.definition(category)

    async def _token(self, token: str) -> Document:
        async with self._parts.ledger.connection() as connection:
            found = await stored.redeem(connection, token)
        if found is None:
            raise Failure(404, "The token was not found: use the one that POST requests gave you.")
        return view.redeemed(token, found.request_number if found.is_there else None)

    async def _requests(self, request: Request, target: Target, arguments: Arguments) -> Document:
        who = await self._who(request, arguments)
        ahead = ORDERS_AHEAD if who and who.department else timedelta()
        query = query_of(arguments, self._parts.now(), ahead)
        if target.name is not None:
            query = query._replace(ids=(target.name,))
        shown = await self._shown(who.department if who else None, query)
        if target.name is not None and not shown:
            if who and who.department:
                await self._refused(who.name, target.name)
            raise Failure(404, "service_request_id was not found.")
        return view.requests(shown)

    async def _shown(self, department: str | None, query: Query) -> list[dict[str, Value]]:
        """A department's own orders; for everybody else, and by number, the public requests."""
        codes, more = query.service_codes, query.extensions
        categories = known_only(codes, self._categories) if codes else None
        async with self._parts.ledger.connection() as connection:
            if department is not None:
                zone = self._policy.city.time_zone
                orders = await stored.orders(connection, department, query, categories, zone)
                if orders or not query.ids:
                    return [
                        view.order_request(one, department, self._policy, extensions=more) for one in orders
                    ]
            found = await stored.listed(connection, query, categories)
        return [view.public_request(one, self._policy, extensions=more) for one in found]

    async def _file(self, request: Request, of_url: Arguments) -> Document:
        form = form_arguments(await _body(request), request.headers.get("content-type"))
        who = await self._who(request, form) or await self._who(request, of_url)
        if who is None:
            raise Failure(403, NO_KEY)
        if not who.may(*MAY_FILE):
            await self._refused(who.name, "requests")
            raise Failure(403, "This api_key may not file requests: it needs the role intake.")
        self._check_jurisdiction(form)
        filing = filing_of(form)
        report = self._report(filing, self._parts.now())
        answer = await self._submit(who, report, _key(request), _digest(filing))
        return view.receipt(json.loads(answer.body)["token"])

    def _report(self, filing: Filing, now: datetime) -> IssueReport:
        category = self._categories.get(filing.service_code)
        if category is None:
            raise Failure(404, "service_code was not found: see GET services.")
        report = IssueReport(
            source=SOURCE, request_number=_new_number(), category=category,
            service_code=filing.service_code, status="open", created_at=now, revised_at=now,
            address=filing.address, point=filing.point,
        )  # fmt: skip
        refusal = self._parts.refuse(report, now)
        if refusal is not None:
            raise Failure(400, f"{refusal.field} cannot be used: expected {refusal.expected}")
        return report

    async def _submit(self, who: Principal, report: IssueReport, key: str | None, digest: bytes) -> Answer:
        """Durable with its token when this returns; under a known key, what was answered then."""
        token = secrets.token_hex(16)

        async def note_token(connection: object) -> None:
            issue_id = issue_id_of(report.source, report.request_number)
            await stored.add_token(connection, token, report.request_number, issue_id)

        submission = Submission(
            principal=who.name, key=key and f"open311 {key}", digest=digest, events=[_event(report)],
            answer=Answer(HTTPStatus.OK.value, {}, json.dumps({"token": token})),
            entries=[Entry(who.name, "open311.file", report.request_number)],
            also=note_token,
        )  # fmt: skip
        try:
            return await self._parts.submissions.submit(submission)
        except KeyReused as reused:
            raise Failure(
                400, "This Idempotency-Key was used for another request: take a new one."
            ) from reused

    async def _who(self, request: Request, arguments: Arguments) -> Principal | None:
        """Whose key it is, None without any. In the argument, as the standard has it, or as a bearer token."""
        given = arguments.one("api_key")
        header = f"Bearer {given}" if given else request.headers.get("authorization")
        if header is None:
            return None
        address = address_of(request.scope)
        wait_s = self._failures.would_wait_s(address)
        if wait_s:
            raise Failure(429, "Too many wrong keys: wait.", retry_after_s=int(wait_s) + 1)
        try:
            return await self._parts.authenticate(header)
        except Unauthenticated as error:
            self._failures.wait_s(address)
            await self._refused(f"address:{address}", request.url.path[:300])
            raise Failure(403, WRONG_KEY) from error

    async def _refused(self, actor: str, subject: str) -> None:
        await self._parts.submissions.note(Entry(actor, "open311", subject[:300], "refused"))


def _of_url(request: Request) -> Arguments:
    try:
        pairs = parse_qsl(
            request.scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict",
            max_num_fields=MOST_FIELDS,
        )  # fmt: skip
    except UnicodeDecodeError as error:
        raise Failure(
            400, "The arguments are not in UTF-8: encode them so, then percent-encode them."
        ) from error
    except ValueError as error:
        raise Failure(400, f"There are more than {MOST_FIELDS} arguments: send fewer.") from error
    return Arguments(pairs)


def _check_method(request: Request, target: Target) -> None:
    files = target.resource == "requests" and target.name is None
    if request.method in ("GET", "HEAD") or (request.method == "POST" and files):
        return
    raise Failure(
        400, "This address does not take this method: GET reads, POST requests.xml files a request."
    )


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY_BYTES:
            raise Failure(400, f"The body is larger than {MOST_BODY_BYTES} bytes: shorten the description.")
    return bytes(body)


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= MOST_KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise Failure(400, f"Idempotency-Key must be 1 to {MOST_KEY_CHARACTERS} printable ASCII characters.")
    return key


def _digest(filing: Filing) -> bytes:
    return digest_of("open311", filing.service_code, repr(filing.point), filing.address or "")


def _new_number() -> str:
    """The public number of a request. By chance: a count would tell how many there are."""
    digits = "".join(secrets.choice(REFERENCE_ALPHABET) for _ in range(NUMBER_CHARACTERS))
    return f"RR-{digits[:6]}-{digits[6:]}"


def _event(report: IssueReport) -> Event:
    began = issue_id_of(report.source, report.request_number)
    return Event(
        ISSUE_REPORTS.name, report.key, encode(report), ISSUE_REPORTS.type, report.request_number, 1,
        correlation=str(began),
    )  # fmt: skip


def _as_failure(refused: Refused) -> Failure:
    """What the API's own layers refuse, in the standard's words: 413, 414 and the like are all 400 there."""
    wait = refused.headers.get("Retry-After", "")
    status = refused.status.value if refused.status in (403, 404, 429, 503) else 400
    return Failure(status, str(refused), retry_after_s=int(wait) if wait.isdigit() else None)


def _response(document: Document, form: Format) -> Response:
    return Response(render(document, form), headers={"Content-Type": MEDIA_TYPES[form]})


def failed(failure: Failure, form: Format) -> Response:
    """A failure as a response."""
    headers = {"Content-Type": MEDIA_TYPES[form]}
    if failure.retry_after_s is not None:
        headers["Retry-After"] = str(failure.retry_after_s)
    return Response(render(failure.document(), form), failure.status, headers=headers)


class InStandardsForm:
    """Middleware around the whole app: problem documents on Open311's paths are told in the standard's form.

    They come from layers that know nothing of Open311, such as the gate that refuses what is too large or too often.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(ROOT):
            await self._app(scope, receive, send)
            return
        problem: list[Message] = []

        async def translate(message: Message) -> None:
            if not problem and not _is_problem(message):
                await send(message)
                return
            problem.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await _as_standard(problem, form_of(scope["path"]))(scope, receive, send)

        await self._app(scope, receive, translate)


def _is_problem(message: Message) -> bool:
    return message["type"] == "http.response.start" and _headers(message).get("content-type", "").startswith(
        PROBLEM_TYPE
    )


def _headers(message: Message) -> Mapping[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]}


def _as_standard(problem: list[Message], form: Format) -> Response:
    start, body = problem[0], b"".join(message.get("body", b"") for message in problem[1:])
    refused = Refused(HTTPStatus(start["status"]), json.loads(body)["detail"])
    wait = _headers(start).get("retry-after")
    if wait:
        refused.headers["Retry-After"] = wait
    return failed(_as_failure(refused), form)
