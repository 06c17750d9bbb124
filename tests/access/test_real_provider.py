"""Bearer tokens of a provider that others wrote, in a process of its own: from its login page to a Principal."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import httpx
import pytest

from connectors.access.authenticate import Authenticator, Unauthenticated, Unavailable
from connectors.access.issuer import FETCH_EVERY, Issuer
from connectors.access.principal import Principal
from connectors.access.tokens import OidcTokens, TokenRules
from tests.access.conftest import Clock
from tests.access.provider import AUDIENCE

READY_S = 60.0
REDIRECT = "http://localhost/signed-in"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def started(port: int, *arguments: str) -> Iterator[str]:
    """The provider; its address. Its signing key is a new one each time."""
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_ready(process, f"http://localhost:{port}")
        yield f"http://localhost:{port}"
    finally:
        process.kill()
        process.wait(10)


def await_ready(process: "subprocess.Popen[bytes]", url: str) -> None:
    until = time.monotonic() + READY_S
    while True:
        try:
            httpx.get(f"{url}/jwks").raise_for_status()
            return
        except httpx.HTTPError:
            assert process.poll() is None, "the provider has ended"
            assert time.monotonic() < until, f"the provider is not ready within {READY_S:.0f} s"
            time.sleep(0.05)


def signed_in(url: str, subject: str, roles: object, client: str = AUDIENCE) -> str:
    """The token that somebody with these roles gets by signing in for a client."""
    with httpx.Client(base_url=url) as browser:
        browser.put(f"/users/{subject}", json={"roles": roles}).raise_for_status()
        asked = {"client_id": client, "redirect_uri": REDIRECT, "response_type": "code", "scope": "openid"}
        page = browser.post("/oauth2/authorize", params=asked, data={"sub": subject})
        given = {
            "grant_type": "authorization_code", "redirect_uri": REDIRECT,
            "code": httpx.URL(page.headers["location"]).params["code"],
        }  # fmt: skip
        answer = browser.post("/oauth2/token", data=given, auth=(client, "secret"))
        return str(answer.raise_for_status().json()["id_token"])


def authenticator(url: str, clock: Clock) -> Authenticator:
    issuer = Issuer(url, lifetime=timedelta(minutes=10), now=clock)
    tokens = OidcTokens(issuer, TokenRules(AUDIENCE), lambda department: department == "cdot")
    return Authenticator(tokens, tokens)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with started(free_port()) as address:
        yield address


@pytest.mark.parametrize(
    ("roles", "principal"),
    [
        (["supervisor", "offline_access"], Principal("oidc:anna", frozenset({"supervisor"}))),
        ("admin auditor", Principal("oidc:anna", frozenset({"admin", "auditor"}))),
        (["department:cdot"], Principal("oidc:anna", frozenset({"department"}), "cdot")),
    ],
)
async def test_who_signs_in_there_is_somebody_here(
    url: str, clock: Clock, roles: object, principal: Principal
) -> None:
    assert await authenticator(url, clock)(f"Bearer {signed_in(url, 'anna', roles)}") == principal


async def test_who_has_no_role_here_or_signs_in_elsewhere_is_nobody(url: str, clock: Clock) -> None:
    enter = authenticator(url, clock)
    with pytest.raises(Unauthenticated, match="At least one role"):
        await enter(f"Bearer {signed_in(url, 'ben', ['offline_access'])}")
    with pytest.raises(Unauthenticated, match="another audience"):
        await enter(f"Bearer {signed_in(url, 'anna', ['admin'], client='payroll')}")


async def test_a_token_that_has_expired_is_refused(clock: Clock) -> None:
    with started(free_port(), "--token-max-age", "-120") as url:
        token = signed_in(url, "anna", ["admin"])
        with pytest.raises(Unauthenticated, match="has expired"):
            await authenticator(url, clock)(f"Bearer {token}")


async def test_while_it_is_away_its_tokens_are_good_and_when_it_is_back_with_another_key_the_new_ones_are(
    clock: Clock,
) -> None:
    port = free_port()
    with started(port) as url:
        enter, late = authenticator(url, clock), authenticator(url, clock)
        old = signed_in(url, "anna", ["supervisor"])
        known = await enter(f"Bearer {old}")
    clock.pass_(hours=1)
    assert await enter(f"Bearer {old}") == known
    with pytest.raises(Unavailable):
        await late(f"Bearer {old}")
    with started(port) as url:
        new = signed_in(url, "anna", ["supervisor"])
        clock.pass_(seconds=FETCH_EVERY.total_seconds())
        for one in (enter, late):
            assert await one(f"Bearer {new}") == known
            with pytest.raises(Unauthenticated, match="not signed by a key"):
                await one(f"Bearer {old}")
