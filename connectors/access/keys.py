"""Checks API keys, with a short memory so that a request need not cost a query."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import structlog

from connectors.access.errors import Unauthenticated, Unavailable
from connectors.access.key import ApiKey, parse
from connectors.access.principal import Principal
from connectors.access.roles import Misfit, granted
from connectors.errors import Transient
from connectors.postgres import keys
from connectors.postgres.keys import StoredKey
from connectors.postgres.pool import Pool, classified

log = structlog.get_logger(__name__)

TOUCH_EVERY: Final = timedelta(minutes=1)
ACQUIRE_TIMEOUT_S: Final = 5.0
UNKNOWN: Final = "This API key is not known: check it, or have a new one made with `rapid keys create`."
AWAY: Final = "API keys cannot be checked at the moment, because the database is away: try again."


class _Remembered(NamedTuple):
    stored: StoredKey
    at: datetime


class ApiKeys:
    """The API keys of a database.

    `memory`: how long what was read of a key is held to be so. A revocation takes effect within it; an expiry and
    a new secret at once. `knows_department`: whether the policy has a department with this code.
    """

    def __init__(
        self,
        pool: Pool,
        knows_department: Callable[[str], bool],
        *,
        memory: timedelta = timedelta(seconds=5),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool = pool
        self._knows_department = knows_department
        self._memory = memory
        self._now = now
        self._remembered: dict[str, _Remembered] = {}  # keys whose secret was offered: no more than there are

    async def principal(self, text: str) -> Principal:
        """Whose key this is. Raises Unauthenticated or Unavailable.

        Only who has the secret is told that a key has expired or was revoked.
        """
        offered = parse(text)
        if offered is None:
            raise Unauthenticated(UNKNOWN)
        stored = await self._verified(offered)
        now = self._now()
        state = stored.state(now)
        if state != "active":
            raise Unauthenticated(f"The API key {stored.key_id} is {state}: have a new one made.")
        principal = self._principal_of(stored)
        await self._touch(stored, now)
        return principal

    def _principal_of(self, stored: StoredKey) -> Principal:
        try:
            roles, department = granted(stored.roles, stored.department)
        except Misfit as misfit:
            raise Unauthenticated(f"The API key {stored.key_id} is of no use: {misfit}") from misfit
        if department is not None and not self._knows_department(department):
            raise Unauthenticated(f"The department of the API key {stored.key_id} is not in the policy.")
        return Principal(f"key:{stored.key_id}", roles, department)

    async def _verified(self, offered: ApiKey) -> StoredKey:
        """From memory if that lets them in, else from the database: memory never refuses anybody."""
        now = self._now()
        known = self._remembered.get(offered.key_id)
        fresh = known is not None and timedelta() <= now - known.at < self._memory  # a clock may be set back
        if known is not None and fresh and known.stored.has(offered, now):
            return known.stored
        stored = await self._read(offered.key_id)
        if stored is None or not stored.has(offered, now):
            raise Unauthenticated(UNKNOWN)
        self._remembered[offered.key_id] = _Remembered(stored, now)
        return stored

    async def _read(self, key_id: str) -> StoredKey | None:
        try:
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                return await keys.find(connection, key_id)
        except Exception as error:
            if isinstance(classified(error), Transient):
                raise Unavailable(AWAY) from error
            raise

    async def _touch(self, stored: StoredKey, now: datetime) -> None:
        """Note the use, once a minute. Not being able to is no reason to refuse anybody."""
        if stored.last_used_at is not None and now - stored.last_used_at < TOUCH_EVERY:
            return
        known = self._remembered[stored.key_id]  # first: requests that come meanwhile need not write it too
        self._remembered[stored.key_id] = known._replace(stored=stored._replace(last_used_at=now))
        try:
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                await keys.used(connection, stored.key_id, now)
        except Exception as error:
            if not isinstance(classified(error), Transient):
                raise
            log.warning("could not note that an API key was used", key_id=stored.key_id, error=str(error))
