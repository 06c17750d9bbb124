"""Who may do what: the table, the refusals, and that each attempt is in the audit trail."""

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from connectors.access.errors import Unavailable
from connectors.http.access import MAY
from connectors.http.routes import ROUTERS
from tests.http.conftest import PRINCIPALS, Client

ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
NAMES = {route.endpoint.__name__: route for route in ROUTES}
ANY = "00000000-0000-0000-0000-000000000000"


def address_of(route: APIRoute) -> tuple[str, str]:
    (method,) = route.methods or set()
    path = route.path.replace("{update_id:path}", "U").replace("{reference}", "WO-00000-00000")
    return method, path.replace("{response_id}", ANY).replace("{incident_id}", ANY)


def test_every_route_is_in_the_table_once_and_nothing_else_is() -> None:
    assert len(NAMES) == len(ROUTES)
    assert NAMES.keys() == MAY.keys()


def kept_out(operation: str) -> list[str]:
    return sorted(name for name, who in PRINCIPALS.items() if not who.may(*MAY[operation]))


async def test_who_is_in_the_table_gets_in(client: Client) -> None:
    for operation in sorted(NAMES.keys() - {"stream_changes"}):  # a stream does not end
        method, path = address_of(NAMES[operation])
        for name in PRINCIPALS.keys() - kept_out(operation):
            answer = await client.send(name, method, path)
            assert answer.status_code not in (401, 403), (name, operation)


async def test_who_is_not_in_the_table_is_kept_out(client: Client, connection: Any) -> None:
    expected = []
    for operation in sorted(NAMES):
        method, path = address_of(NAMES[operation])
        for name in kept_out(operation):
            answer = await client.send(name, method, path)
            assert (answer.status_code, answer.headers["Content-Type"]) == (403, "application/problem+json")
            expected.append((PRINCIPALS[name].name, f"http.{operation}", "refused"))
    trail = await connection.fetch("SELECT actor, action, outcome FROM audit ORDER BY seq")
    assert [tuple(row) for row in trail] == expected


async def test_nobody_gets_in_without_a_key(client: Client, connection: Any) -> None:
    for operation in sorted(NAMES):
        method, path = address_of(NAMES[operation])
        for who in (None, "made up"):
            answer = await client.send(who, method, path, content=b"not even JSON")
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    rows = await connection.fetch("SELECT actor, action FROM audit ORDER BY seq")
    expected = [("address:127.0.0.1", f"http.{operation}") for operation in sorted(NAMES) for _ in range(2)]
    assert [tuple(row) for row in rows] == expected


async def test_what_cannot_be_checked_is_not_let_in(client: Client, app: FastAPI) -> None:
    async def away(_: str | None) -> Any:
        raise Unavailable("The identity provider does not answer.")

    object.__setattr__(app.state.parts, "authenticate", away)
    answer = await client.get("cdot", "/v1/work-orders")
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/openapi.json"])
async def test_what_needs_no_key(client: Client, path: str) -> None:
    assert (await client.get(None, path)).status_code == 200


async def test_no_page_that_loads_from_foreign_hosts(client: Client) -> None:
    for path in ("/docs", "/redoc", "/v1/docs", "/docs/oauth2-redirect"):
        assert (await client.get(None, path)).status_code == 404
