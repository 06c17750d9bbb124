"""The keys with which an OIDC provider signs: found by discovery, kept, and looked up again when they change."""

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx
import structlog
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from connectors.access.errors import Unavailable

log = structlog.get_logger(__name__)

DISCOVERY: Final = "/.well-known/openid-configuration"
TIMEOUT_S: Final = 5.0
MOST_BYTES: Final = 1_000_000
FETCH_EVERY: Final = timedelta(seconds=10)
"""The provider is asked no more often than this, whatever key ids tokens name."""
KEPT_AT_MOST: Final = timedelta(days=1)
"""With the provider away its last known keys go on this long; a key that it withdrew would, too."""
AWAY: Final = (
    "Tokens cannot be checked at the moment, because the identity provider does not answer: try again."
)

_ALGORITHMS: Final[Mapping[str, tuple[str, ...]]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC P-256": ("ES256",),
    "EC P-384": ("ES384",),
    "EC P-521": ("ES512",),
    "OKP Ed25519": ("EdDSA",),
}
"""What each type and curve of key may sign with: asymmetric algorithms alone, so that no public key is a password."""


class SigningKey(NamedTuple):
    """A public key and the algorithms that it may be used with."""

    key: Any
    algorithms: tuple[str, ...]


class _Kept(NamedTuple):
    keys: Mapping[str | None, SigningKey]  # by key id
    at: datetime


class Misconfigured(Exception):
    """The provider answered with something that is of no use; the message says what."""


class Issuer:
    """One provider. `lifetime`: how long its keys are used before they are fetched again."""

    def __init__(
        self,
        url: str,
        *,
        lifetime: timedelta = timedelta(minutes=10),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.url = url
        self._lifetime = lifetime
        self._now = now
        self._kept = _Kept({}, datetime.min.replace(tzinfo=UTC))
        self._tried_at = self._kept.at
        self._reached = False  # whether the last fetch went well
        self._fetching = asyncio.Lock()

    async def key(self, key_id: str | None, but: SigningKey | None = None) -> SigningKey | None:
        """The key with this id (None: the only one); None: the provider has no such key. Raises Unavailable.

        `but`: a key that turned out not to be it. A token that names no key id may be signed with a newer one.
        """
        if self._age() >= self._lifetime and not (self._usable() and self._fetching.locked()):
            await self._fetch()
        found = self._find(key_id, but)
        if found is None:  # signed with a newer key, or never by this provider
            await self._fetch()
            found = self._find(key_id, but)
        if found is None and not self._reached:
            raise Unavailable(AWAY)
        return found

    def _find(self, key_id: str | None, but: SigningKey | None) -> SigningKey | None:
        if not self._usable():
            return None
        keys = self._kept.keys
        found = (
            keys.get(key_id) if key_id is not None else next(iter(keys.values())) if len(keys) == 1 else None
        )
        return None if found == but else found

    def _age(self) -> timedelta:
        return abs(self._now() - self._kept.at)  # a clock may be set back

    def _usable(self) -> bool:
        return self._age() < KEPT_AT_MOST

    async def _fetch(self) -> None:
        """Fetch the keys, unless that was tried a moment ago; those who come meanwhile wait for the same answer."""
        async with self._fetching:
            now = self._now()
            if abs(now - self._tried_at) < FETCH_EVERY:
                return
            self._tried_at = now
            self._reached = False
            try:
                self._kept = _Kept(await _fetched_keys(self.url), now)
                self._reached = True
            except (httpx.HTTPError, httpx.InvalidURL, Misconfigured, TimeoutError) as error:
                log.warning(
                    "could not fetch the identity provider's keys", issuer=self.url, error=_said(error)
                )


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


async def _fetched_keys(issuer: str) -> Mapping[str | None, SigningKey]:
    """The keys of a provider; raises an error of httpx, TimeoutError or Misconfigured."""
    # a client for each time: once in ten minutes, and nobody has to close it
    async with asyncio.timeout(2 * TIMEOUT_S), httpx.AsyncClient(timeout=TIMEOUT_S) as client:
        described = await _json(client, issuer.rstrip("/") + DISCOVERY)
        if described.get("issuer") != issuer:
            raise Misconfigured("the provider's discovery document names another issuer")
        return signing_keys(await _json(client, _address_of_keys(issuer, described.get("jwks_uri"))))


def _address_of_keys(issuer: str, url: Any) -> str:
    """The address where the keys are; never one less protected than the issuer's own."""
    allowed = ("https://", f"{urlsplit(issuer).scheme}://")
    if not isinstance(url, str) or not url.startswith(allowed):
        raise Misconfigured("the provider's discovery document has no usable jwks_uri")
    return url


async def _json(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    async with client.stream("GET", url, headers={"accept": "application/json"}) as response:
        if response.status_code != httpx.codes.OK:
            raise Misconfigured(f"{url} answered with status {response.status_code}")
        body = b""
        async for part in response.aiter_bytes():
            body += part
            if len(body) > MOST_BYTES:
                raise Misconfigured(f"{url} answered with more than {MOST_BYTES} bytes")
    return _object(body, url)


def _object(body: bytes, url: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Misconfigured(f"{url} did not answer with JSON") from error
    if not isinstance(value, dict):
        raise Misconfigured(f"{url} did not answer with a JSON object")
    return value


def signing_keys(described: Mapping[str, Any]) -> dict[str | None, SigningKey]:
    """The keys of a JSON Web Key Set that we can use, by key id. Raises Misconfigured when there are none.

    The others are left out: a provider may have kinds of keys that nobody here knows.
    """
    listed = described.get("keys")
    if not isinstance(listed, list):
        raise Misconfigured("the provider's key set has no list of keys")
    found = {one.get("kid"): key for one in listed if _for_signatures(one) and (key := _signing_key(one))}
    if not found:
        raise Misconfigured("the provider's key set has no key that we can use")
    return found


def _for_signatures(one: Any) -> bool:
    return (
        isinstance(one, dict)
        and isinstance(one.get("kid"), str | None)
        and one.get("use", "sig") == "sig"
        and "d" not in one  # a private key in public: nothing that it signs is worth anything
    )


def _signing_key(one: dict[str, Any]) -> SigningKey | None:
    """The key with what its type allows, less what the provider says that it does not use it for."""
    allowed = _ALGORITHMS.get(f"{one.get('kty')} {one.get('crv', '')}".strip(), ())
    algorithms = tuple(name for name in allowed if one.get("alg") in (None, name))
    if not algorithms:
        return None
    try:
        return SigningKey(PyJWK(one, algorithms[0]).key, algorithms)
    except PyJWTError:
        return None
