"""Documents like the standard's own examples, with data of ours: their two forms agree, their names are those that
we write, and our client reads them."""

import json
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

import pytest

from connectors.open311.mapping import seen_of
from connectors.open311.model import Document, Many, Value
from connectors.open311.view import definition, discovery, receipt, redeemed, services
from connectors.open311.xml import to_xml
from schemas.policy import Policy
from tests.open311.city import _xml as written_by_the_city
from tests.open311.conformance import DISCOVERY, ENDPOINT, REQUEST, SERVICE, as_text, spark

SERVICES = """<?xml version="1.0" encoding="utf-8"?>
<services>
  <service>
    <service_code>001</service_code><service_name>Bin left out</service_name><description>Too long.</description>
    <metadata>true</metadata><type>realtime</type><keywords>bin, can, cart</keywords><group>sanitation</group>
  </service>
  <service>
    <service_code>002</service_code><metadata>true</metadata><type>realtime</type><keywords>plate</keywords>
    <group>street</group><service_name>Plate moved</service_name><description>A plate in the road.</description>
  </service>
</services>"""
DEFINITION = """<?xml version="1.0" encoding="utf-8"?>
<service_definition>
  <service_code>DMV66</service_code>
  <attributes>
    <attribute>
      <variable>true</variable><code>MAKE</code><datatype>singlevaluelist</datatype><required>true</required>
      <datatype_description></datatype_description><order>1</order><description>Which make?</description>
      <values><value><key>123</key><name>Ford</name></value><value><key>124</key><name>Fiat</name></value></values>
    </attribute>
  </attributes>
</service_definition>"""
REQUESTS = """<?xml version="1.0" encoding="utf-8"?>
<service_requests>
  <request>
    <service_request_id>638344</service_request_id><status>closed</status>
    <status_notes>Duplicate request.</status_notes><service_name>Kerbs</service_name><service_code>006</service_code>
    <description></description><agency_responsible></agency_responsible><service_notice></service_notice>
    <requested_datetime>2010-04-14T06:37:38-08:00</requested_datetime>
    <updated_datetime>2010-04-14T06:37:38-08:00</updated_datetime>
    <expected_datetime>2010-04-15T06:37:38-08:00</expected_datetime>
    <address>8TH AVE and JUDAH ST</address><address_id>545483</address_id><zipcode>94122</zipcode>
    <lat>37.762221815</lat><long>-122.4651145</long><media_url>http://media.example/638344.jpg</media_url>
  </request>
</service_requests>"""
REQUESTS_JSON = """[{"long": -122.4651145, "lat": 37.762221815, "service_request_id": 638344, "status": "closed",
  "status_notes": "Duplicate request.", "service_name": "Kerbs", "service_code": "006", "description": null,
  "agency_responsible": null, "service_notice": null, "requested_datetime": "2010-04-14T06:37:38-08:00",
  "updated_datetime": "2010-04-14T06:37:38-08:00", "expected_datetime": "2010-04-15T06:37:38-08:00",
  "address": "8TH AVE and JUDAH ST", "address_id": 545483, "zipcode": 94122,
  "media_url": "http://media.example/638344.jpg"}]"""


def read(xml: str | bytes) -> Any:
    return spark(ElementTree.fromstring(xml))


def rebuilt(name: str, value: Any) -> Value:
    """The example as our own tree."""
    children = {
        "services": "service",
        "service_requests": "request",
        "attributes": "attribute",
        "values": "value",
    }
    if isinstance(value, list):
        return Many(children[name], [rebuilt("", one) for one in value])
    return {key: rebuilt(key, one) for key, one in value.items()} if isinstance(value, dict) else value


def test_the_two_forms_of_an_example_agree() -> None:
    assert read(REQUESTS) == as_text(json.loads(REQUESTS_JSON))
    assert {name for one in read(REQUESTS) for name in one} == REQUEST
    assert {name for one in read(SERVICES) for name in one} == SERVICE


@pytest.mark.parametrize("example", [SERVICES, DEFINITION, REQUESTS])
def test_what_we_and_the_fake_city_write_of_an_example_reads_the_same(example: str) -> None:
    name = ElementTree.fromstring(example).tag
    content = rebuilt(name, read(example))
    assert isinstance(content, Many | dict)
    assert read(to_xml(Document(name, content))) == read(example)
    if example is not DEFINITION:  # the city's services have no attributes
        assert read(written_by_the_city(name, read(example))) == read(example)


def test_our_documents_have_the_standards_names(policy: Policy) -> None:
    assert {name for one in read(to_xml(services(policy))) for name in one} == SERVICE
    assert set(read(to_xml(definition(policy.categories[0])))) == set(read(DEFINITION))
    assert set(read(to_xml(receipt("t")))[0]) == {"token", "service_notice", "account_id"}
    assert read(to_xml(redeemed("t", "17"))) == [{"service_request_id": "17", "token": "t"}]
    found = read(to_xml(discovery("https://311.example/v2", datetime(2026, 1, 1, tzinfo=UTC), "us")))
    assert set(found) == DISCOVERY
    assert set(found["endpoints"][0]) == ENDPOINT


def test_our_client_reads_an_example() -> None:
    [request] = json.loads(REQUESTS_JSON)
    seen = seen_of(request)
    assert (seen.status, seen.notes, seen.updated) == (
        "closed",
        "Duplicate request.",
        "2010-04-14T06:37:38-08:00",
    )
