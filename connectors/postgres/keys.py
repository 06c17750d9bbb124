"""API keys in PostgreSQL. Of a secret only the digest is kept: see connectors/access/key.py."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple

from connectors.access.key import ApiKey, fits
from connectors.access.principal import Role
from connectors.postgres.pool import Connection

KeyState = Literal["active", "expired", "revoked"]

_COLUMNS: Final = """key_id, name, roles, department, digest, previous_digest, previous_until,
  created_at, expires_at, revoked_at, last_used_at"""
_ADD: Final = """
INSERT INTO api_keys (key_id, name, roles, department, digest, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)"""
_FIND: Final = f"SELECT {_COLUMNS} FROM api_keys WHERE key_id = $1"  # noqa: S608 - a constant
_LIST: Final = f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_at, key_id"  # noqa: S608 - a constant
# A new secret; the one before it is good for a while, one before that no longer.
_ROTATE: Final = """
UPDATE api_keys SET previous_digest = digest, previous_until = $3, digest = $2
WHERE key_id = $1 AND revoked_at IS NULL"""
_REVOKE: Final = "UPDATE api_keys SET revoked_at = $2 WHERE key_id = $1 AND revoked_at IS NULL"
# At most once a minute, however many processes see the key used.
_USED: Final = """
UPDATE api_keys SET last_used_at = $2::timestamptz
WHERE key_id = $1 AND (last_used_at IS NULL OR last_used_at <= $2::timestamptz - interval '1 minute')"""


class StoredKey(NamedTuple):
    """A key as it is kept."""

    key_id: str
    name: str
    roles: tuple[Role, ...]
    department: str | None
    digest: bytes
    previous_digest: bytes | None
    previous_until: datetime | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def state(self, now: datetime) -> KeyState:
        """Whether it can be used."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "active"

    def has(self, offered: ApiKey, now: datetime) -> bool:
        """Whether the offered secret is its own, or the one before during the overlap."""
        overlaps = self.previous_until is not None and now < self.previous_until
        return fits(offered, (self.digest, self.previous_digest if overlaps else None))


async def add(
    connection: Connection, key: ApiKey, *, name: str, roles: Sequence[Role], department: str | None,
    created_at: datetime, expires_at: datetime | None,
) -> None:  # fmt: skip
    """Keep a new key."""
    await connection.execute(
        _ADD, key.key_id, name, list(roles), department, key.digest, created_at, expires_at
    )


async def find(connection: Connection, key_id: str) -> StoredKey | None:
    """The key with this id; None: there is none."""
    row = await connection.fetchrow(_FIND, key_id)
    return _stored(row) if row else None


async def every(connection: Connection) -> list[StoredKey]:
    """All keys, the oldest first."""
    return [_stored(row) for row in await connection.fetch(_LIST)]


async def rotate(connection: Connection, key: ApiKey, previous_until: datetime) -> bool:
    """Give a key a new secret; the old one is good until then. False: there is no such key, or it is revoked."""
    return _one(await connection.execute(_ROTATE, key.key_id, key.digest, previous_until))


async def revoke(connection: Connection, key_id: str, now: datetime) -> bool:
    """End a key for ever. False: there is no such key, or it is revoked already."""
    return _one(await connection.execute(_REVOKE, key_id, now))


async def used(connection: Connection, key_id: str, now: datetime) -> None:
    """Note that it was used."""
    await connection.execute(_USED, key_id, now)


def _one(status: str) -> bool:
    return status.endswith(" 1")


def _stored(row: Sequence[object]) -> StoredKey:
    stored = StoredKey(*row)  # type: ignore[arg-type]  # the columns are its fields, in their order
    return stored._replace(roles=tuple(stored.roles))
