"""What the standard asks of an endpoint, in its own element names. Held against ours and against the fake city.

Transcribed from https://wiki.open311.org/GeoReport_v2/ and /Service_Discovery: names and shapes of its examples.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from xml.etree import ElementTree

import httpx

SERVICE = {"service_code", "service_name", "description", "metadata", "type", "keywords", "group"}
REQUEST = {
    "service_request_id", "status", "status_notes", "service_name", "service_code", "description",
    "agency_responsible", "service_notice", "requested_datetime", "updated_datetime", "expected_datetime", "address",
    "address_id", "zipcode", "lat", "long", "media_url",
}  # fmt: skip
DISCOVERY = {"changeset", "contact", "key_service", "endpoints"}
ENDPOINT = {"specification", "url", "changeset", "type", "formats"}
ARRAYS = {
    "services": "service", "service_requests": "request", "errors": "error", "attributes": "attribute",
    "values": "value", "endpoints": "endpoint", "formats": "format",
}  # fmt: skip
JSON, XML = "application/json; charset=utf-8", "text/xml; charset=utf-8"


class Endpoint(NamedTuple):
    """An endpoint under test. `place`: the arguments of a place in its city."""

    http: httpx.AsyncClient
    root: str
    key: str
    jurisdiction: str
    place: Mapping[str, str]

    async def both(self, path: str, expected: int = 200, /, **arguments: str) -> Any:
        """The same in both formats; returns the JSON."""
        json_answer = await self.http.get(f"{self.root}/{path}.json", params=arguments)
        xml_answer = await self.http.get(f"{self.root}/{path}.xml", params=arguments)
        assert (json_answer.status_code, xml_answer.status_code) == (expected, expected), json_answer.text
        return the_same(json_answer, xml_answer)

    async def post(self, form: str, fields: Mapping[str, str], status: int = 200) -> httpx.Response:
        answer = await self.http.post(f"{self.root}/v2/requests.{form}", data=dict(fields))
        assert answer.status_code == status, answer.text
        return answer


def the_same(json_answer: httpx.Response, xml_answer: httpx.Response) -> Any:
    assert json_answer.headers["content-type"] == JSON
    assert xml_answer.headers["content-type"] == XML
    assert xml_answer.text.lower().startswith('<?xml version="1.0" encoding="utf-8"?>')
    content = json_answer.json()
    assert spark(ElementTree.fromstring(xml_answer.content)) == as_text(content)
    return content


def spark(element: ElementTree.Element) -> Any:
    """XML as JSON by the Spark convention: containers of one kind of child are arrays."""
    assert not element.attrib
    if element.tag in ARRAYS:
        assert {child.tag for child in element} <= {ARRAYS[element.tag]}
        return [spark(child) for child in element]
    if len(element):
        tags = [child.tag for child in element]
        assert len(tags) == len(set(tags))
        return {child.tag: spark(child) for child in element}
    return element.text


def as_text(value: Any) -> Any:
    """JSON without the types that XML has no room for."""
    if isinstance(value, dict):
        return {name: as_text(one) for name, one in value.items()}
    if isinstance(value, list):
        return [as_text(one) for one in value]
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)


async def check_discovery(one: Endpoint) -> None:
    found = await one.both("discovery")
    assert set(found) == DISCOVERY
    for endpoint in found["endpoints"]:
        assert set(endpoint) == ENDPOINT
        assert endpoint["type"] in ("production", "test")
        assert set(endpoint["formats"]) <= {"text/xml", "application/json"}
        assert endpoint["specification"] == "http://wiki.open311.org/GeoReport_v2"
    assert found["endpoints"][0]["url"] == f"{one.root}/v2"


async def check_services(one: Endpoint) -> None:
    services = await one.both("v2/services")
    assert services == await one.both("v2/services", jurisdiction_id=one.jurisdiction)
    assert services == await one.both("v2/services", jurisdiction_id="")  # an empty argument is none
    assert services
    for service in services:
        assert set(service) == SERVICE
        assert isinstance(service["metadata"], bool)
        assert service["type"] in ("realtime", "batch", "blackbox")
        definition = await one.both(f"v2/services/{service['service_code']}")
        assert set(definition) == {"service_code", "attributes"}
        assert definition["service_code"] == service["service_code"]
        assert isinstance(definition["attributes"], list)


async def check_errors(one: Endpoint) -> None:
    fields = {
        "api_key": one.key,
        "service_code": (await one.both("v2/services"))[0]["service_code"],
        **one.place,
    }
    await _is_error(one, await one.both("v2/services/nonsense", 404), 404)
    await _is_error(one, await one.both("v2/services", 404, jurisdiction_id="elsewhere.example"), 404)
    await _is_error(one, await one.both("v2/tokens/nonsense", 404), 404)
    await _is_error(one, await one.both("v2/requests/nonsense", 404), 404)
    await _is_error(one, await one.both("v2/requests", 400, start_date="yesterday"), 400)
    await _is_error(one, await one.both("v2/requests", 400, page_size="many"), 400)
    span = {"start_date": "2026-01-01T00:00:00Z", "end_date": "2026-06-01T00:00:00Z"}
    await _is_error(one, await one.both("v2/requests", 400, **span), 400)
    await _cannot_file(one, fields | {"api_key": "wrong"}, 403)
    await _cannot_file(one, fields | {"api_key": ""}, 403)
    await _cannot_file(one, fields | {"service_code": ""}, 400)
    await _cannot_file(one, fields | {"service_code": "nonsense"}, 404)
    await _cannot_file(one, {name: fields[name] for name in ("api_key", "service_code")}, 400)
    unknown = await one.http.get(f"{one.root}/v2/services.yaml")
    assert (unknown.status_code, unknown.headers["content-type"]) == (400, XML)


async def _cannot_file(one: Endpoint, fields: Mapping[str, str], status: int) -> None:
    answers = [await one.post(form, fields, status) for form in ("json", "xml")]
    await _is_error(one, the_same(*answers), status)


async def _is_error(one: Endpoint, content: Any, status: int) -> None:
    assert isinstance(content, list)
    assert content
    for error in content:
        assert set(error) == {"code", "description"}
        assert str(error["code"]) == str(status)
        assert error["description"]


async def check_filing(one: Endpoint) -> str:
    """File by form; returns the token or the id, as the service's type promises."""
    service = (await one.both("v2/services"))[0]
    fields = {
        "api_key": one.key, "jurisdiction_id": one.jurisdiction, "service_code": service["service_code"],
        "description": "A lamp <is> \"out\" & it's dark\nhere ☂", "first_name": "john", "last_name": "smith",
        "email": "john@smith.example", "phone": "111111111", "device_id": "tt222111", "account_id": "123456",
        "media_url": "http://media.example/a.jpg", "attribute[WHISPAWN]": "123456", "attribute[A][]": "COISL001",
        **one.place,
    }  # fmt: skip
    [receipt] = (await one.post("json", fields)).json()
    names = {child.tag for child in ElementTree.fromstring((await one.post("xml", fields)).content)[0]}
    assert names == set(receipt)
    assert ("token" in receipt) != ("service_request_id" in receipt)
    assert set(receipt) <= {"token", "service_request_id", "service_notice", "account_id"}
    return str(receipt.get("token") or receipt["service_request_id"])


async def check_redeemed(one: Endpoint, token: str) -> str:
    [redeemed] = await one.both(f"v2/tokens/{token}")
    assert set(redeemed) == {"service_request_id", "token"}
    assert redeemed["token"] == token
    return str(redeemed["service_request_id"])


async def check_requests(one: Endpoint, number: str) -> Any:
    """A request by its number, in a list of numbers, by its kind, in pages."""
    [request] = await one.both(f"v2/requests/{number}")
    assert set(request) == REQUEST
    assert request["service_request_id"] == number
    assert request["status"] == "open"
    for name in ("requested_datetime", "updated_datetime"):
        assert abs(datetime.now(UTC) - datetime.fromisoformat(request[name])) < timedelta(minutes=5)
    assert [request] == await one.both("v2/requests", service_request_id=f"{number},nonsense")
    by_number = await one.both(
        "v2/requests", service_request_id=number, status="closed"
    )  # overrides all else
    assert [request] == by_number
    everything = await one.both("v2/requests")
    assert request in everything
    assert everything == await one.both(
        "v2/requests", status="open,closed", service_code=request["service_code"]
    )
    assert await one.both("v2/requests", status="closed") == []
    ended = (datetime.now(UTC) - timedelta(days=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert await one.both("v2/requests", end_date=ended) == []
    pages = [await one.both("v2/requests", page_size="1", page=str(page)) for page in (1, 2, 3)]
    assert [one for page in pages for one in page] == everything
    return request
