"""Bearer tokens: what is let in, what is not, and how often the provider is asked for its keys."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from connectors.access.authenticate import Authenticator, Unauthenticated, Unavailable
from connectors.access.issuer import FETCH_EVERY, KEPT_AT_MOST, MOST_BYTES, Issuer
from connectors.access.principal import Principal
from connectors.access.tokens import OidcTokens, TokenRules
from tests.access.conftest import Clock
from tests.access.provider import AUDIENCE, PrivateKey, Provider, jwk, provider, public_pem, rsa_key, segment

LIFETIME = timedelta(minutes=10)
NOT_SIGNED = "The token is not signed by a key of the identity provider."
ANNA = Principal("oidc:anna", frozenset({"supervisor"}))


@pytest.fixture(scope="session")
def first_key() -> PrivateKey:
    return rsa_key()


@pytest.fixture(scope="session")
def other_key() -> PrivateKey:
    return rsa_key()


@pytest.fixture
def there(first_key: PrivateKey) -> Iterator[Provider]:
    with provider(first_key) as running:
        yield running


def tokens_of(there: Provider, clock: Clock, **rules: Any) -> OidcTokens:
    issuer = Issuer(there.url, lifetime=LIFETIME, now=clock)
    return OidcTokens(issuer, TokenRules(AUDIENCE, **rules), lambda department: department == "cdot")


@pytest.fixture
def tokens(there: Provider, clock: Clock) -> OidcTokens:
    return tokens_of(there, clock)


async def refusal(tokens: OidcTokens, token: str) -> str:
    with pytest.raises(Unauthenticated) as refused:
        await tokens.principal(token)
    return str(refused.value)


async def test_a_good_token_is_somebody(there: Provider, tokens: OidcTokens) -> None:
    assert await tokens.principal(there.token()) == ANNA
    assert await tokens.principal(there.token(roles="openid department:cdot intake")) == Principal(
        "oidc:anna", frozenset({"department", "intake"}), "cdot"
    )
    assert await tokens.principal(
        there.token(aud=["other", AUDIENCE], roles=["auditor", "grafana-admin"])
    ) == (Principal("oidc:anna", frozenset({"auditor"})))


async def test_it_is_asked_for_through_the_header(there: Provider, tokens: OidcTokens) -> None:
    assert await Authenticator(tokens, tokens)(f"Bearer {there.token()}") == ANNA
    with pytest.raises(Unauthenticated, match="no identity provider is configured"):
        await Authenticator(tokens)(f"Bearer {there.token()}")


async def test_roles_come_from_the_claim_that_is_configured(there: Provider, clock: Clock) -> None:
    tokens = tokens_of(there, clock, roles_claim="groups")
    assert (await tokens.principal(there.token(groups=["admin"]))).roles == {"admin"}
    assert "claim groups is of no use" in await refusal(tokens, there.token())


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"aud": "another"}, "another audience"),
        ({"aud": ["another", "third"]}, "another audience"),
        ({"aud": None}, "lacks a claim"),
        ({"iss": "http://127.0.0.1:1"}, "another issuer"),
        ({"iss": None}, "lacks a claim"),
        ({"exp": int(time.time()) - 120}, "has expired"),
        ({"exp": None}, "lacks a claim"),
        ({"exp": "tomorrow"}, "not signed"),
        ({"iat": int(time.time()) + 3600}, "has not come yet"),
        ({"iat": None}, "lacks a claim"),
        ({"nbf": int(time.time()) + 3600}, "has not come yet"),
        ({"sub": None}, "lacks a claim"),
        ({"sub": ""}, "at most 255 characters"),
        ({"sub": "x" * 256}, "at most 255 characters"),
        ({"sub": "a\nb"}, "printable ASCII"),
        ({"roles": None}, "At least one role is needed"),
        ({"roles": []}, "At least one role is needed"),
        ({"roles": ["department"]}, "At least one role is needed"),
        ({"roles": ["Supervisor", "root"]}, "At least one role is needed"),
        ({"roles": {"supervisor": True}}, "must be a list of texts"),
        ({"roles": [["supervisor"]]}, "must be a list of texts"),
        ({"roles": ["department:nowhere"]}, "department that the policy does not know"),
        ({"roles": ["department:"]}, "department that the policy does not know"),
        ({"roles": ["department:cdot", "department:dss"]}, "one department only"),
        ({"roles": ["department:cdot", "supervisor"]}, "cannot be supervisor as well"),
    ],
)
async def test_a_token_that_says_something_else_is_refused_with_a_sentence(
    there: Provider, tokens: OidcTokens, changed: dict[str, Any], sentence: str
) -> None:
    said = await refusal(tokens, there.token(**changed))
    assert sentence in said
    assert said.endswith((".", "?"))


async def test_clocks_may_differ_by_the_leeway(there: Provider, clock: Clock) -> None:
    now = int(time.time())
    late, early = there.token(exp=now - 30), there.token(iat=now + 30, nbf=now + 30)
    for token in (late, early):
        assert await tokens_of(there, clock, leeway_s=60).principal(token) == ANNA
        await refusal(tokens_of(there, clock, leeway_s=5), token)


def hs256(there: Provider, secret: bytes, key_id: str | None) -> str:
    """By hand: the library refuses to sign with a public key."""
    head = {"alg": "HS256", "typ": "JWT"} | ({"kid": key_id} if key_id else {})
    signed = f"{segment(head)}.{segment(there.claims())}"
    return f"{signed}.{segment(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


@pytest.mark.parametrize("key_id", ["first", None])
async def test_forged_signatures_are_refused(
    there: Provider, tokens: OidcTokens, first_key: PrivateKey, other_key: PrivateKey, key_id: str | None
) -> None:
    head = {"typ": "JWT"} | ({"kid": key_id} if key_id else {})
    body = segment(there.claims())
    good = there.token(key_id=key_id)
    forged = [
        f"{segment(head | {'alg': 'none'})}.{body}.",
        f"{segment(head | {'alg': 'NONE'})}.{body}.",
        f"{segment(head)}.{body}.",
        hs256(there, public_pem(first_key), key_id),
        hs256(there, b"", key_id),
        there.token(key=other_key, key_id=key_id),
        ".".join([good.split(".")[0], segment(there.claims(roles=["admin"])), good.split(".")[2]]),
        good.rpartition(".")[0] + ".",
        good[:-8] + "AAAAAAAA",
    ]
    assert await tokens.principal(good) == ANNA
    for token in forged:
        assert await refusal(tokens, token) in (
            NOT_SIGNED, "This is neither an API key nor a token that can be read: send one of them."
        )  # fmt: skip


@pytest.mark.parametrize(
    "token",
    [
        "x", "a.b.c", "..", "....", "!.!.!", f"{segment(b'[]')}.e30.AA", f"{segment(b'[' * 9000)}.e30.AA",
        f"{segment({'alg': 'RS256', 'kid': 7})}.e30.AA", f"{segment(b'{1}')}.e30.AA",
        f"{segment(b'9' * 5000)}.e30.AA",
    ],
)  # fmt: skip
async def test_what_is_no_token_is_refused(tokens: OidcTokens, token: str) -> None:
    assert "neither an API key nor a token" in await refusal(tokens, token)


async def test_a_key_id_of_nobody_is_refused(there: Provider, tokens: OidcTokens) -> None:
    assert await refusal(tokens, there.token(key_id="nobody")) == NOT_SIGNED


async def test_the_usual_kinds_of_keys_work_and_each_only_for_its_own(
    there: Provider, tokens: OidcTokens, first_key: PrivateKey
) -> None:
    curve, edwards = ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()
    there.keys = {"keys": [
        jwk(first_key, "rsa"), jwk(first_key, "pss", alg="PS256"), jwk(curve, "ec"), jwk(edwards, "ed"),
        jwk(first_key, "enc", use="enc"), {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"}, {"kty": "new", "kid": "new"},
        jwk(first_key, "private", d="AQAB"), jwk(first_key, "secret", alg="HS256"), "odd", {},
    ]}  # fmt: skip
    good = [("rsa", first_key, "RS256"), ("rsa", first_key, "PS512"), ("pss", first_key, "PS256"),
            ("ec", curve, "ES384"), ("ed", edwards, "EdDSA")]  # fmt: skip
    for key_id, key, algorithm in good:
        assert await tokens.principal(there.token(key=key, algorithm=algorithm, key_id=key_id)) == ANNA
    bad = [("pss", first_key, "RS256"), ("enc", first_key, "RS256"), ("private", first_key, "RS256"),
           ("secret", first_key, "RS256"), (None, first_key, "RS256"), ("ec", first_key, "RS256")]  # fmt: skip
    for named, key, algorithm in bad:
        assert await refusal(tokens, there.token(key=key, algorithm=algorithm, key_id=named)) == NOT_SIGNED


async def test_a_key_that_is_too_short_is_refused(there: Provider, tokens: OidcTokens) -> None:
    short = rsa_key(1024)
    there.keys = {"keys": [jwk(short, "first")]}
    with pytest.warns(match="RSA key is 1024 bits"):
        token = there.token(key=short)
    assert await refusal(tokens, token) == NOT_SIGNED


# -- the provider's keys


async def test_the_keys_are_fetched_once_and_again_after_their_lifetime(
    there: Provider, tokens: OidcTokens, clock: Clock
) -> None:
    await asyncio.gather(*(tokens.principal(there.token()) for _ in range(20)))
    assert there.asked == 1
    clock.pass_(seconds=LIFETIME.total_seconds() - 1)
    await tokens.principal(there.token())
    assert there.asked == 1
    clock.pass_(seconds=1)
    await asyncio.gather(*(tokens.principal(there.token()) for _ in range(20)))
    assert there.asked == 2


@pytest.mark.parametrize("key_id", ["second", None])
async def test_a_new_key_is_found_as_soon_as_a_token_is_signed_with_it(
    there: Provider, tokens: OidcTokens, clock: Clock, other_key: PrivateKey, key_id: str | None
) -> None:
    old = there.token(key_id=key_id and "first")
    await tokens.principal(old)
    there.keys = {"keys": [jwk(other_key, "second")]}
    clock.pass_(seconds=FETCH_EVERY.total_seconds())
    new = there.token(key=other_key, key_id=key_id)
    assert await tokens.principal(new) == ANNA
    assert there.asked == 2
    assert await refusal(tokens, old) == NOT_SIGNED


async def test_made_up_key_ids_do_not_make_us_ask_more_often(
    there: Provider, tokens: OidcTokens, clock: Clock
) -> None:
    for number in range(50):
        await refusal(tokens, there.token(key_id=f"made-up-{number}"))
    assert there.asked == 1
    clock.pass_(seconds=FETCH_EVERY.total_seconds())
    made_up = [there.token(key_id=f"made-up-{number}") for number in range(50)]
    await asyncio.gather(*(refusal(tokens, token) for token in made_up))
    assert there.asked == 2
    assert await tokens.principal(there.token()) == ANNA


BROKEN: list[dict[str, Any]] = [
    {"status": 500}, {"status": 302}, {"discovery": None}, {"discovery": b"{"}, {"discovery": []},
    {"discovery": b"[" * 100_000}, {"discovery": {"issuer": "http://127.0.0.1:1", "jwks_uri": "x"}},
    {"keys": None}, {"keys": {}}, {"keys": {"keys": []}}, {"keys": {"keys": ["odd"]}}, {"keys": b"\xff"},
]  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_provider_that_answers_nonsense_lets_nobody_in(
    there: Provider, tokens: OidcTokens, clock: Clock, broken: dict[str, Any]
) -> None:
    well = {name: getattr(there, name) for name in broken}
    vars(there).update(broken)
    with pytest.raises(Unavailable):
        await tokens.principal(there.token())
    vars(there).update(well)
    with pytest.raises(Unavailable):  # it was asked a moment ago
        await tokens.principal(there.token())
    clock.pass_(seconds=FETCH_EVERY.total_seconds())
    assert await tokens.principal(there.token()) == ANNA


@pytest.mark.parametrize(
    "address", [None, 7, "ftp://127.0.0.1/keys", "file:///etc/passwd", "/keys", "http://[", ""]
)
async def test_an_odd_address_of_the_keys_is_not_followed(
    there: Provider, tokens: OidcTokens, address: Any
) -> None:
    there.discovery = {"issuer": there.url, "jwks_uri": address}
    with pytest.raises(Unavailable):
        await tokens.principal(there.token())


async def test_a_provider_that_calls_itself_otherwise_is_not_believed(
    there: Provider, tokens: OidcTokens
) -> None:
    there.discovery = there.discovery | {"issuer": f"{there.url}/"}
    with pytest.raises(Unavailable):
        await tokens.principal(there.token())


async def test_an_answer_without_end_is_not_read_to_its_end(there: Provider, tokens: OidcTokens) -> None:
    there.keys = json.dumps(there.keys).encode() + b" " * MOST_BYTES
    with pytest.raises(Unavailable):
        await tokens.principal(there.token())


async def test_with_the_provider_away_its_last_keys_go_on_for_a_day_and_then_nobody_gets_in(
    there: Provider, tokens: OidcTokens, clock: Clock
) -> None:
    await tokens.principal(there.token())
    there.status = 503
    clock.pass_(hours=23)
    assert await tokens.principal(there.token()) == ANNA
    assert "has expired" in await refusal(tokens, there.token(exp=1))
    with pytest.raises(Unavailable):  # it may be a new key: nobody can tell
        await tokens.principal(there.token(key_id="new"))
    clock.pass_(seconds=KEPT_AT_MOST.total_seconds() - 23 * 3600)
    with pytest.raises(Unavailable):
        await tokens.principal(there.token())
    there.status = 200
    clock.pass_(seconds=FETCH_EVERY.total_seconds())
    assert await tokens.principal(there.token()) == ANNA
