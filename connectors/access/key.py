"""What an API key looks like: `rapid_<key id>_<secret>`, so that people and secret scanners recognize one.

The key id names it in lists, logs and the audit trail and is no secret.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from typing import Final, NamedTuple

PREFIX: Final = "rapid_"
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
PATTERN: Final = rf"{PREFIX}[0-9a-f]{{{2 * _ID_BYTES}}}_[0-9a-f]{{{2 * _SECRET_BYTES}}}"
"""The regular expression for a secret scanner."""
_KEY: Final = re.compile(PATTERN)


class ApiKey(NamedTuple):
    """A key in clear. It is shown once and kept nowhere."""

    key_id: str
    secret: str

    @property
    def text(self) -> str:
        """As it is sent."""
        return f"{PREFIX}{self.key_id}_{self.secret}"

    @property
    def digest(self) -> bytes:
        """What is stored of the secret: its SHA-256.

        No slow hash (argon2, scrypt): those protect what people choose and others can guess. The secret is 256
        random bits; at any speed of hashing, guessing it from its digest is hopeless, and a slow hash would only
        let anybody keep our processors busy with wrong keys.
        """
        return hashlib.sha256(self.secret.encode("ascii")).digest()

    def __repr__(self) -> str:
        return f"ApiKey({self.key_id})"  # a secret has no place in a log or a traceback


def parse(text: str) -> ApiKey | None:
    """The key that a text is; None: it is not formed like one."""
    if not _KEY.fullmatch(text):
        return None
    key_id, _, secret = text.removeprefix(PREFIX).partition("_")
    return ApiKey(key_id, secret)


def new_key() -> ApiKey:
    """A new id with a new secret."""
    return new_secret(secrets.token_hex(_ID_BYTES))


def new_secret(key_id: str) -> ApiKey:
    """A new secret for an id."""
    return ApiKey(key_id, secrets.token_hex(_SECRET_BYTES))


def fits(offered: ApiKey, digests: Iterable[bytes | None]) -> bool:
    """Whether the secret belongs to one of these digests. How long it takes does not tell how much of it fits."""
    digest = offered.digest
    results = [hmac.compare_digest(digest, one) for one in digests if one is not None]
    return any(results)
