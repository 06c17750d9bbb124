"""Checks bearer tokens of an OIDC provider: signature, issuer, audience, times, and the roles that they carry."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import jwt
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidIssuerError,
    MissingRequiredClaimError,
    PyJWTError,
)

from connectors.access.errors import Unauthenticated
from connectors.access.issuer import Issuer, SigningKey
from connectors.access.principal import Principal
from connectors.access.roles import Misfit, of_claim

REQUIRED: Final = ["exp", "iat", "iss", "aud", "sub"]
MOST_SUBJECT_CHARACTERS: Final = 255  # OpenID Connect Core 1.0, section 2

UNREADABLE: Final = "This is neither an API key nor a token that can be read: send one of them."
_SENTENCES: Final[tuple[tuple[type[PyJWTError], str], ...]] = (
    (ExpiredSignatureError, "The token has expired: get a new one."),
    (ImmatureSignatureError, "The token is of a time that has not come yet: are the clocks right?"),
    (InvalidAudienceError, "The token is for another audience than this system."),
    (InvalidIssuerError, "The token is of another issuer than this system trusts."),
    (MissingRequiredClaimError, f"The token lacks a claim: it needs {', '.join(REQUIRED)}."),
)


class _NotSigned(Unauthenticated):
    def __init__(self) -> None:
        super().__init__("The token is not signed by a key of the identity provider.")


class TokenRules(NamedTuple):
    """What a token must say. `leeway_s`: seconds by which clocks may differ."""

    audience: str
    roles_claim: str = "roles"
    leeway_s: float = 60.0


class OidcTokens:
    """The tokens of one issuer. `knows_department`: whether the policy has a department with this code."""

    def __init__(self, issuer: Issuer, rules: TokenRules, knows_department: Callable[[str], bool]) -> None:
        self._issuer = issuer
        self._rules = rules
        self._knows_department = knows_department

    async def principal(self, token: str) -> Principal:
        """Whose token this is. Raises Unauthenticated or Unavailable."""
        claims = await self._claims(token)
        try:
            roles, department = of_claim(claims.get(self._rules.roles_claim, []))
        except Misfit as misfit:
            raise Unauthenticated(
                f"The token's claim {self._rules.roles_claim} is of no use: {misfit}"
            ) from misfit
        if department is not None and not self._knows_department(department):
            raise Unauthenticated("The token is for a department that the policy does not know.")
        return Principal(f"oidc:{_subject(claims)}", roles, department)

    async def _claims(self, token: str) -> Mapping[str, Any]:
        key_id = _key_id(token)
        key = await self._key(key_id)
        try:
            return self._decoded(token, key)
        except _NotSigned:
            if key_id is not None:
                raise
        return self._decoded(token, await self._key(None, but=key))

    async def _key(self, key_id: str | None, but: SigningKey | None = None) -> SigningKey:
        key = await self._issuer.key(key_id, but)
        if key is None:
            raise _NotSigned
        return key

    def _decoded(self, token: str, key: SigningKey) -> Mapping[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=list(key.algorithms),
                audience=self._rules.audience,
                issuer=self._issuer.url,
                leeway=self._rules.leeway_s,
                options={"require": REQUIRED, "enforce_minimum_key_length": True},
            )
        except PyJWTError as error:
            raise _refusal(error) from error
        except (RecursionError, ValueError) as error:  # JSON of absurd depth, numbers of absurd length
            raise Unauthenticated(UNREADABLE) from error
        return claims


def _key_id(token: str) -> str | None:
    """The key id in a token's header, which nobody has vouched for yet; None: it names none."""
    try:
        named = jwt.get_unverified_header(token).get("kid")
    except (PyJWTError, RecursionError, ValueError) as error:
        raise Unauthenticated(UNREADABLE) from error
    return named if isinstance(named, str) else None


def _refusal(error: PyJWTError) -> Unauthenticated:
    for kind, sentence in _SENTENCES:
        if isinstance(error, kind):
            return Unauthenticated(sentence)
    return _NotSigned()


def _subject(claims: Mapping[str, Any]) -> str:
    """Who it is about, fit for the audit trail."""
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= MOST_SUBJECT_CHARACTERS:
        raise Unauthenticated(
            f"The token's sub must be a text of at most {MOST_SUBJECT_CHARACTERS} characters."
        )
    if not subject.isascii() or not subject.isprintable():
        raise Unauthenticated("The token's sub must be of printable ASCII characters.")
    return subject
