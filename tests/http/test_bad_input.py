"""Whatever is sent: a problem document with the right status, nothing changed, nothing told of our insides."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from connectors.http.limits import Limits, Rates
from tests.http.conftest import Client, Make, served
from tests.http.made_up import order, store
from tests.http.test_reports import INCIDENT, INCIDENTS

ORDERS = "/v1/work-orders"
JSON = {"Content-Type": "application/json"}


def is_problem(answer: Any, status: int) -> bool:
    body = answer.json()
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), (
        answer.text
    )
    assert set(body) == {"type", "title", "status", "detail", "errors"}
    assert body["status"] == status
    inner = ("Traceback", "asyncpg", "pydantic", "fastapi", "starlette", "SELECT", "connectors", "http_reads")
    assert not [word for word in inner if word in answer.text]
    return True


BODIES: list[tuple[bytes, dict[str, str], int]] = [
    (b"", JSON, 400),
    (b"{", JSON, 400),
    (b"\xff\xfe", JSON, 400),
    (b'{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", JSON, 400),
    (b"[]", JSON, 422),
    (b'"text"', JSON, 422),
    (b"null", JSON, 422),
    (b'{"source": "\\ud800"}', JSON, 400),
    (b"<a/>", {"Content-Type": "application/xml"}, 415),
    (b"{}", {}, 415),
    (b"{}", {"Content-Type": "application/json; charset=latin-1"}, 415),
    (b"\x1f\x8b\x08", JSON | {"Content-Encoding": "gzip"}, 415),
    (b"{}", JSON | {"Idempotency-Key": "x" * 81}, 422),
    (b"{}", JSON | {"Idempotency-Key": "a b"}, 422),
    (b'{"pad": "' + b"x" * 2_000_000 + b'"}', JSON, 413),
]


async def test_bodies(client: Client, connection: Any) -> None:
    one = order(1)
    await store(connection, [one])
    updates = f"{ORDERS}/{one.reference}/updates"
    for raw, headers, status in BODIES:
        for who, path in (("intake", INCIDENTS), ("cdot", updates)):
            answer = await client.post(who, path, content=raw, headers=headers)
            assert is_problem(answer, status), (path, raw[:80])
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
    assert await connection.fetchval("SELECT count(*) FROM audit WHERE outcome = 'done'") == 0


async def test_a_member_that_is_there_twice_is_named_and_nothing_is_guessed(
    client: Client, connection: Any
) -> None:
    one = order(1)
    await store(connection, [one])
    twice = b'{"verb": "note", "verb": "start", "victim_name": "x"}'
    for who, path in (("intake", INCIDENTS), ("cdot", f"{ORDERS}/{one.reference}/updates")):
        answer = await client.post(who, path, content=twice, headers=JSON)
        assert is_problem(answer, 400), path
        assert answer.json()["errors"] == [{"field": "verb", "expected": "each member once"}]
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0


PARAMETERS = [
    ("limit=0", "limit"),
    ("limit=501", "limit"),
    ("limit=1&limit=2", "limit"),
    ("area=x", "area"),
    ("area=99999999999999999999", "area"),
    ("state=opened", "state"),
    ("category=A%00B", "category"),
    ("bbox=1,2,3", "bbox"),
    ("bbox=5,5,1,1", "bbox"),
    ("bbox=999,0,999,1", "bbox"),
    ("updated_after=2026-01-01", "updated_after"),
    ("updated_after=2026-01-01T00:00:00", "updated_after"),
    ("cursor=%F0%9F%92%A9", "cursor"),
    ("cursor=AAAA", "cursor"),
    ("cursor=V08tMDAwMDAtMDAwMDB8", "cursor"),
    ("colour=red", "colour"),
    ("departement=cdot", "departement"),
    ("department=dss", "department"),
]


async def test_parameters(client: Client) -> None:
    for query, field in PARAMETERS:
        answer = await client.get("cdot", f"{ORDERS}?{query}")
        assert is_problem(answer, 422), query
        assert answer.json()["errors"][0]["field"] == field


ADDRESSES = [
    ("GET", "/", 404),
    ("GET", "/v2/work-orders", 404),
    ("GET", "/v1/work-orders/", 404),
    ("DELETE", ORDERS, 405),
    ("PUT", "/v1/areas", 405),
    ("GET", f"{ORDERS}/WO-ILLEG-ALONE", 422),
    ("GET", f"{ORDERS}/..%2F..%2Fetc", 404),
    ("GET", "/v1/responses/1", 422),
    ("GET", "/v1/responses/00000000-0000-0000-0000-000000000000", 404),
    ("GET", "/v1/incidents/00000000-0000-0000-0000-000000000000/explanation", 404),
    ("GET", f"{ORDERS}/WO-00000-00000", 404),
    ("GET", ORDERS + "?x=" + "y" * 10_000, 414),
]


async def test_addresses(client: Client) -> None:
    for method, path, status in ADDRESSES:
        answer = await client.send("supervisor", method, path)
        assert is_problem(answer, status), path
        assert (status == 405) == ("Allow" in answer.headers)


async def test_a_version_that_is_none(client: Client, connection: Any) -> None:
    one = order(1)
    await store(connection, [one])
    for etag in ("3", "W/x", '"a"', '"1", "2"', '"' + "9" * 40 + '"'):
        answer = await client.post(
            "cdot", f"{ORDERS}/{one.reference}/updates", json={"verb": "start"}, headers={"If-Match": etag}
        )
        assert is_problem(answer, 422)


async def test_headers_have_a_size(client: Client) -> None:
    assert is_problem(await client.get("cdot", ORDERS, headers={"X-Long": "x" * 20_000}), 431)


async def test_what_nobody_foresaw_tells_nothing(client: Client, app: FastAPI) -> None:
    async def fails(*_: Any) -> Any:
        raise RuntimeError("secret at connectors/http")

    object.__setattr__(app.state.parts, "explain", fails)
    answer = await client.get("supervisor", f"{ORDERS}/WO-00000-00000/explanation")
    assert is_problem(answer, 500)
    assert "secret" not in answer.text


async def test_a_database_that_is_away_is_said_so(client: Client, pool: Any) -> None:
    pool.terminate()
    answer = await client.get("cdot", ORDERS)
    assert is_problem(answer, 503)
    assert answer.headers["Retry-After"] == "1"
    assert is_problem(await client.get(None, "/readyz"), 503)
    assert (await client.get(None, "/livez")).status_code == 200


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> Limits:
    generous = Limits(rate_per_s=10_000, address_rate_per_s=10_000, failures_per_s=10_000)
    chosen: Limits = getattr(request, "param", generous)
    return chosen


@pytest.mark.parametrize("limits", [Limits(rate_per_s=0.1)], indirect=True)
async def test_a_caller_who_asks_too_often_waits(client: Client) -> None:
    answers = [await client.get("cdot", ORDERS) for _ in range(3)]
    assert answers[0].status_code == 200
    assert is_problem(answers[-1], 429)
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert (await client.get("dss", ORDERS)).status_code == 200  # others do not


@pytest.mark.parametrize("limits", [Limits(address_rate_per_s=0.1)], indirect=True)
async def test_an_address_that_asks_too_often_waits(client: Client) -> None:
    answers = [await client.get(None, ORDERS) for _ in range(3)]
    assert is_problem(answers[-1], 429)
    assert (await client.get(None, "/livez")).status_code == 200


@pytest.mark.parametrize("limits", [Limits(failures_per_s=0.1)], indirect=True)
async def test_who_guesses_keys_waits_and_does_not_fill_the_trail(client: Client, connection: Any) -> None:
    answers = [await client.get("guess", ORDERS) for _ in range(20)]
    assert is_problem(answers[-1], 429)
    assert await connection.fetchval("SELECT count(*) FROM audit") < 10


def test_a_rate_is_a_rate() -> None:
    now = 0.0
    rates = Rates(10, lambda: now)
    assert [rates.wait_s("a") for _ in range(21)] == [*[0.0] * 20, pytest.approx(0.1)]
    now = 0.1
    assert rates.wait_s("a") == 0
    assert rates.wait_s("a") > 0
    assert rates.wait_s("b") == 0


async def raw_request(url: str, *chunks: bytes) -> bytes:
    """Send bytes as they are, and read until the server closes or is silent."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    received = b""
    try:
        for chunk in chunks:
            writer.write(chunk)
        await writer.drain()
        async with asyncio.timeout(5):
            while b"\r\n\r\n" not in received or not received.endswith(b"}"):
                part = await reader.read(65_536)
                if not part:
                    break
                received += part
    finally:
        writer.close()
    return received


LIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HEAD = (
    b"POST /v1/incident-reports HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer intake\r\n"
    b"Content-Type: application/json\r\n"
)


async def test_a_body_that_is_declared_too_large_is_not_read(make_app: Make) -> None:
    async with served(make_app()) as url:
        answer = await raw_request(url, HEAD + b"Content-Length: 99999999999\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 413")


async def test_a_body_in_pieces_is_too_large_as_well(make_app: Make) -> None:
    async with served(make_app()) as url:
        piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        answer = await raw_request(url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[piece] * 20)
        assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("limits", [Limits(body_s=0.2)], indirect=True)
async def test_a_body_that_does_not_come_is_not_waited_for(make_app: Make) -> None:
    async with served(make_app()) as url:
        answer = await raw_request(url, HEAD + b"Content-Length: 10\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408")


NO_HTTP = [
    (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),  # TLS
    (b"hello\r\n\r\n", 400),
    (b"GET /livez HTTP/1.1\r\n\r\n", 400),  # no Host
    (b"GET /livez HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", 400),
    (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\nno number\r\n", 400),  # while the app waits for the body
    (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 65_600, 431),
    (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000, 431),
    (b"GET /" + b"y" * 65_600, 431),
]


async def test_what_is_no_http_gets_a_problem_document_too(
    make_app: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(make_app()) as url:
        for raw, status in NO_HTTP:
            head, _, body = (await raw_request(url, raw)).partition(b"\r\n\r\n")
            line, *headers = head.decode().lower().split("\r\n")
            fields = dict(one.split(": ") for one in headers)
            assert line.startswith(f"http/1.1 {status} "), raw[:80]
            assert int(fields["content-length"]) == len(body)
            assert is_problem(httpx.Response(status, headers=fields, content=body), status)
            assert fields["connection"] == "close"
        assert (await raw_request(url, LIVE)).startswith(b"HTTP/1.1 200")
    assert [one.message for one in caplog.records if one.levelname in {"ERROR", "CRITICAL"}] == []


async def test_a_body_that_is_none_after_the_answer_ends_the_connection(
    make_app: Make, caplog: pytest.LogCaptureFixture
) -> None:
    unread = HEAD.replace(b"Bearer intake", b"Bearer nobody") + b"Transfer-Encoding: chunked\r\n\r\n"
    async with served(make_app()) as url, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
        writer.write(unread)
        answer = await reader.readuntil(b"}")
        writer.write(b"no number\r\n")
        rest = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 401")
        assert b"HTTP/1.1" not in rest
    assert [one.message for one in caplog.records if one.levelname in {"ERROR", "CRITICAL"}] == []


async def test_nothing_of_us_is_in_the_headers(make_app: Make) -> None:
    async with served(make_app()) as url:
        answer = await raw_request(url, LIVE)
        assert b"uvicorn" not in answer.lower()


async def test_a_report_in_bounds_is_taken_over_a_socket(make_app: Make) -> None:
    body = json.dumps(INCIDENT).encode()
    async with served(make_app()) as url:
        answer = await raw_request(url, HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert answer.startswith(b"HTTP/1.1 202")
