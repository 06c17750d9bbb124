"""Whatever is sent: the standard's form, the right status, nothing half-applied, nothing told of the inside."""

from collections.abc import AsyncIterator
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from connectors.http.limits import Limits
from schemas.policy import Policy
from tests.open311.ours import JURISDICTION, Ours, make_ours
from tests.open311.sockets import served

FORM = {"content-type": "application/x-www-form-urlencoded"}
CODE = "4ffa9f2d6018277d400000c8"


@pytest.fixture
async def http(ours: Ours) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{ours.url}/", timeout=20, trust_env=False) as client:
        yield client


def errors(answer: httpx.Response) -> list[str]:
    """The sentences of an answer in the standard's form."""
    if answer.headers["content-type"].startswith("text/xml"):
        root = ElementTree.fromstring(answer.content)
        assert root.tag == "errors"
        found = [(one.findtext("code"), one.findtext("description")) for one in root]
    else:
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        found = [(str(one["code"]), one["description"]) for one in answer.json()]
    assert found
    assert {code for code, _ in found} == {str(answer.status_code)}
    sentences = [words or "" for _, words in found]
    assert not any(word in sentence for sentence in sentences for word in ("Traceback", "Error:", "asyncpg"))
    return sentences


WRONG_ARGUMENTS = [  # loops, not parameters: a database and a socket for each would take minutes
    ("page=0", "page"),
    ("page=-1", "page"),
    ("page=999999&page_size=1000", "page"),
    ("page=9999999999999999999999", "page"),
    ("page_size=1001", "page_size"),
    ("page=1&page=2", "page"),
    ("status=broken", "status"),
    ("start_date=2026-01-01", "start_date"),
    ("start_date=2026-13-01T00:00:00Z", "start_date"),
    ("start_date=2026-01-02T00:00:00Z&end_date=2026-01-01T00:00:00Z", "start_date"),
    ("updated_after=now", "updated_after"),
    ("start_date=2026-01-01T00:00:00", "start_date"),
    ("service_request_id=" + ",".join(map(str, range(501))), "service_request_id"),
    ("service_request_id=%00", "service_request_id"),
    ("status=%FF", "UTF-8"),
    ("&".join(f"a{n}=1" for n in range(300)), "arguments"),
]
ODD_ARGUMENTS = [
    "start_date=0001-01-01T00:00:00%2B14:00",
    "end_date=9999-12-31T23:59:59-14:00",
    "end_date=9999-12-31T23:59:59Z",
    "start_date=0001-01-01T00:00:00Z",
    "updated_before=0001-01-01T00:00:00Z",
    "service_code=%00",
    "service_code=nope",
    "service_request_id=%F0%9F%92%A5%27%22%3C",
    "start_date=2026-01-01T00:00:00+00:00",
]
WRONG_ADDRESSES = [
    ("GET", "services", 400),
    ("GET", "services.html", 400),
    ("GET", "nonsense.json", 404),
    ("GET", ".json", 400),
    ("GET", "tokens.json", 404),
    ("GET", "discovery.json", 404),
    ("DELETE", "requests.json", 400),
    ("PUT", "requests/1.xml", 400),
    ("POST", "services.json", 400),
    ("GET", "requests/a/b/c.json", 404),
    ("GET", "requests/%00.json", 404),
    ("GET", "tokens/%ff.json", 404),
    ("GET", "../discovery.xml?x=%ff", 400),
]
WRONG_BODIES: list[tuple[bytes, dict[str, str], int]] = [
    (b"api_key=%FF", FORM, 400),
    (b"api_key=\xff", FORM, 400),
    (b"x=" + b"a" * 70_000, FORM, 400),
    (b"a=1&" * 500, FORM, 400),
    (b"{}", {"content-type": "application/json"}, 400),
    (b"", {}, 400),
    (b"a=1", {"content-type": "application/x-www-form-urlencoded; charset=latin-1"}, 400),
    (b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", {"content-type": "text/xml"}, 400),
    (b"", FORM, 403),
    (b"api_key=rapid_000000000000_" + b"0" * 64, FORM, 403),
    (b"api_key=a%0d%0ab", FORM, 403),
]
WRONG_FORMS: list[tuple[dict[str, str], int, str]] = [
    ({"lat": "41.88"}, 400, "lat and long"),
    ({"lat": "nan", "long": "-87.7"}, 400, "lat"),
    ({"lat": "1e5", "long": "-87.7"}, 400, "lat"),
    ({"lat": "95", "long": "-87.7"}, 400, "lat"),
    ({"lat": "0", "long": "0"}, 400, "point"),
    ({"address_string": "a" * 201}, 400, "address_string"),
    ({"address_string": "a\nb"}, 400, "address_string"),
    ({"address_string": "a\x00b"}, 400, "address_string"),
    ({"address_string": "here", "description": "a" * 4001}, 400, "description"),
    ({"address_string": "here", "service_code": "nope"}, 404, "service_code"),
    ({"address_string": "here", "jurisdiction_id": "elsewhere"}, 404, "jurisdiction_id"),
    ({}, 400, "place"),
]


async def test_an_argument_that_is_wrong_is_named_and_all_that_are_at_once(http: httpx.AsyncClient) -> None:
    for query, name in WRONG_ARGUMENTS:
        answer = await http.get(f"requests.json?{query}")
        assert answer.status_code == 400, query
        assert any(name in sentence for sentence in errors(answer)), query
    for form in ("json", "xml"):
        assert len(errors(await http.get(f"requests.{form}?page=x&status=y&start_date=z"))) == 3


async def test_the_ends_of_the_calendar_and_odd_texts_find_nothing_and_break_nothing(
    http: httpx.AsyncClient,
) -> None:
    for query in ODD_ARGUMENTS:
        answer = await http.get(f"requests.json?{query}")
        assert answer.status_code in (200, 400), query
        assert answer.json() == [] if answer.status_code == 200 else errors(answer), query


async def test_an_address_that_is_wrong(http: httpx.AsyncClient) -> None:
    for method, path, status in WRONG_ADDRESSES:
        answer = await http.request(method, path)
        assert answer.status_code == status, path
        errors(answer)


async def test_a_body_that_is_no_request_changes_nothing(ours: Ours, connection: Any) -> None:
    for body, headers, status in WRONG_BODIES:
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(f"{ours.url}/requests.xml", content=body, headers=headers)
        assert answer.status_code == status, body[:40]
        errors(answer)
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0


async def test_a_request_that_cannot_be_filed_is_told_why_and_changes_nothing(
    ours: Ours, http: httpx.AsyncClient, connection: Any
) -> None:
    key = await ours.key("intake")
    for fields, status, names in WRONG_FORMS:
        answer = await http.post("requests.json", data={"api_key": key, "service_code": CODE} | fields)
        assert answer.status_code == status, fields
        assert any(names in sentence for sentence in errors(answer)), fields
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
    assert await connection.fetchval("SELECT count(*) FROM open311_tokens") == 0


async def test_a_key_without_the_role_files_nothing_and_is_in_the_trail(
    ours: Ours, http: httpx.AsyncClient, connection: Any
) -> None:
    form = {"api_key": await ours.key("department", "cdot"), "service_code": CODE, "address_string": "here"}
    answer = await http.post("requests.json", data=form)
    assert answer.status_code == 403
    assert await connection.fetch("SELECT action, outcome FROM audit") == [("open311", "refused")]


async def test_the_same_idempotency_key_files_once_and_another_request_under_it_is_refused(
    ours: Ours, http: httpx.AsyncClient, connection: Any
) -> None:
    form = {
        "api_key": await ours.key("intake"),
        "service_code": CODE,
        "address_string": "4015 W WEST END AVE",
    }
    headers = {"Idempotency-Key": "one"}
    first, again = [await http.post("requests.json", data=form, headers=headers) for _ in range(2)]
    assert first.json() == again.json()
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 1
    other = await http.post("requests.json", data=form | {"address_string": "5 N STATE ST"}, headers=headers)
    assert other.status_code == 400
    assert "Idempotency-Key" in errors(other)[0]


async def test_what_the_gate_refuses_is_told_in_the_standards_form(pool: Any, policy: Policy) -> None:
    one = make_ours(pool, policy, Limits(url_bytes=500, address_rate_per_s=1.0))
    async with served(one.app) as root, httpx.AsyncClient(base_url=root, trust_env=False) as http:
        long = await http.get("/open311/v2/requests.json", params={"service_code": "a" * 600})
        assert (long.status_code, len(errors(long))) == (400, 1)
        answers = [await http.get("/open311/v2/services.xml") for _ in range(4)]
    assert answers[-1].status_code == 429
    assert answers[-1].headers["retry-after"]
    errors(answers[-1])


async def test_without_its_database_it_says_so(ours: Ours, http: httpx.AsyncClient) -> None:
    await ours.pool.close()
    answer = await http.get(f"requests.json?jurisdiction_id={JURISDICTION}")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    errors(answer)
