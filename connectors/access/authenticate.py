"""Who sends a request: an `Authorization` header becomes a Principal, whatever framework it came through."""

from typing import Final, Protocol

from connectors.access.errors import Unauthenticated, Unavailable
from connectors.access.key import PREFIX
from connectors.access.principal import Principal

__all__ = ["Authenticator", "Unauthenticated", "Unavailable"]

MOST_CHARACTERS: Final = 16_384
MISSING: Final = (
    "This needs an API key or a token: send the header Authorization with Bearer and one of them."
)
ODD: Final = "The header Authorization must be Bearer, a space, and an API key or a token."
NO_PROVIDER: Final = "This is not an API key, and no identity provider is configured whose tokens would do."


class Credentials(Protocol):
    """One kind of credential."""

    async def principal(self, text: str) -> Principal:
        """Whose it is. Raises Unauthenticated or Unavailable."""


class Authenticator:
    """API keys (`rapid_…`) and, when a provider is configured, its tokens (everything else)."""

    def __init__(self, keys: Credentials, tokens: Credentials | None = None) -> None:
        self._keys = keys
        self._tokens = tokens

    async def __call__(self, authorization: str | None) -> Principal:
        """Who sent this header. Raises Unauthenticated (401) or Unavailable (503)."""
        text = bearer(authorization)
        if text.startswith(PREFIX):
            return await self._keys.principal(text)
        if self._tokens is None:
            raise Unauthenticated(NO_PROVIDER)
        return await self._tokens.principal(text)


def bearer(authorization: str | None) -> str:
    """The credential in an `Authorization` header (RFC 6750, 2.1). Raises Unauthenticated."""
    if authorization is None or not authorization.strip():
        raise Unauthenticated(MISSING, offered=False)
    scheme, _, text = authorization.strip().partition(" ")
    text = text.strip()
    printable = text.isascii() and text.isprintable() and " " not in text
    if scheme.lower() != "bearer" or not text or not printable or len(text) > MOST_CHARACTERS:
        raise Unauthenticated(ODD)
    return text
