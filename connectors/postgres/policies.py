"""Every policy that ever decided anything, by its version, so that its decisions can be computed again."""

from collections.abc import Sequence
from typing import Final

from connectors.postgres.pool import Connection, Pool, classified
from schemas.policy import Policy

ACTIVE_FIRST: Final = """
LEFT JOIN (SELECT version AS active FROM activations WHERE what = 'policy' ORDER BY seq DESC LIMIT 1) a
  ON active = version
ORDER BY active IS NULL, recorded_at DESC, version LIMIT 1"""
"""Behind `SELECT … FROM policies`: the one that is active, else the one that was stored last."""

_KEEP: Final = "INSERT INTO policies (version, content) VALUES ($1, $2) ON CONFLICT DO NOTHING"

_LOAD: Final = "SELECT version, content FROM policies"

_THESE: Final = "SELECT version, content FROM policies WHERE version = ANY($1::text[])"


async def keep_policy(where: Pool | Connection, policy: Policy) -> None:
    """Store the policy under its version. Raises Transient when the database is away."""
    try:
        await where.execute(_KEEP, policy.version, policy.model_dump_json())
    except Exception as error:
        raise classified(error) from error


async def policies(connection: Connection) -> dict[str, Policy]:
    """All of them by version."""
    rows = await connection.fetch(_LOAD)
    return {row["version"]: Policy.model_validate_json(row["content"]) for row in rows}


async def kept_policies(connection: Connection, versions: Sequence[str]) -> dict[str, Policy]:
    """Those of these versions that are kept."""
    rows = await connection.fetch(_THESE, versions) if versions else []
    return {row["version"]: Policy.model_validate_json(row["content"]) for row in rows}
