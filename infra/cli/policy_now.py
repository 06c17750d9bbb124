"""The policy that a command goes by: the one in force where something runs, else the one in the folder."""

import asyncio
import contextlib

import asyncpg

from connectors.errors import Transient
from connectors.postgres.readmodels import newest_policy
from infra.cli.errors import ExitCode, Oops
from infra.cli.session import database
from infra.connect import database_url
from infra.policy.load import SHIPPED, PolicyErrors, load_policy
from infra.settings import Settings
from schemas.policy import Policy


def policy_now(settings: Settings) -> Policy:
    """Raises Oops when nothing runs and the folder's policy does not load."""
    with contextlib.suppress(Oops, Transient, OSError, asyncpg.PostgresError):
        found = asyncio.run(_in_force(database_url(settings)))
        if found is not None:
            return found
    try:
        return load_policy(settings.policy or SHIPPED)
    except PolicyErrors as errors:
        raise Oops(errors.sentence, ExitCode.INVALID) from errors


async def _in_force(url: str) -> Policy | None:
    async with database(url) as connection:
        return await newest_policy(connection)
