"""Run as a program: the independent clients against an endpoint. Prints what they saw as JSON.

`three` is written for Python 2. Its JSON side runs on Python 3 with one name put back; its XML side does not (it
calls what the standard library dropped), so it reads XML unconverted. `georeport` reads both, and files nothing.
"""

import itertools
import json
import sys
from typing import Any
from xml.etree import ElementTree


def main(url: str, key: str, number: str) -> None:
    print(json.dumps(ask(url, key, number) if number else file(url, key)))


def three_of(url: str, key: str, form: str) -> Any:
    itertools.ifilter = filter  # type: ignore[attr-defined]
    import three  # type: ignore[import-untyped]

    return three.Three(
        url, api_key=key, format=form, jurisdiction="city.example", discovery=_discovery(url, form)
    )


def _discovery(url: str, form: str) -> str:
    return f"{url.removesuffix('/v2')}/discovery.{form}"


def file(url: str, key: str) -> Any:
    """File with `three`, and poll the token once."""
    client = three_of(url, key, "json")
    code = client.services()[0]["service_code"]
    [receipt] = client.post(
        code, address="4015 W West End Ave", lat="41.8836", long="-87.7270", name="Zach Williams",
        phone="555-5555", description="The lamp at my door is out.",
    )  # fmt: skip
    return {"receipt": receipt, "token": client.token(receipt["token"]), "discovery": client.discovery()}


def ask(url: str, key: str, token: str) -> Any:
    """Redeem the token with `three`, then read the request back with both clients in both formats."""
    from georeport import GeoReport  # type: ignore[import-untyped]

    client = three_of(url, key, "json")
    number = client.token(token)[0]["service_request_id"]
    as_xml = three_of(url, key, "xml").get("requests", number, convert=False)
    found: dict[str, Any] = {
        "three": client.request(number), "three list": client.requests(client.services()[0]["service_code"]),
        "three xml": {child.tag: child.text for child in ElementTree.fromstring(as_xml)[0]},
    }  # fmt: skip
    for form in ("json", "xml"):
        geo = GeoReport(url, jurisdiction="city.example", output_format=form)
        services = geo.get_service_list()
        found[f"georeport {form}"] = {
            "services": services,
            "definition": geo.get_service_definition(services[0]["service_code"]),
            "request": geo.get_service_request(number),
            "requests": geo.get_service_requests(service_request_id=number),
        }
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
