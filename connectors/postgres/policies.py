"""Every policy that ever decided anything, by its version, so that its decisions can be computed again."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

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


# ---------------------------------------------------------------- what open orders refer to

_OPEN: Final = "state NOT IN ('resolved', 'verified', 'cancelled', 'void')"

# How many open orders have each value of a column, and the first of them.
_USED: Final = f"""
SELECT {{what}} AS what, count(*) AS count, (array_agg(reference ORDER BY opened_at, reference))[1:5] AS named
FROM work_orders o {{joined}} WHERE {_OPEN} AND {{what}} IS NOT NULL GROUP BY 1 ORDER BY 1"""  # noqa: S608 - made of constants

_TIERS: Final = """
JOIN LATERAL (SELECT DISTINCT r.tier AS asked_in FROM order_causes c JOIN responses r ON r.incident_id = c.incident_id
              WHERE c.order_key = o.order_key AND c.generation = o.generation AND c.standing = 'live') t ON true"""

_CLOCKS: Final = """
JOIN promises p ON p.order_id = o.order_id
JOIN LATERAL json_array_elements(p.body::json -> 'clocks') c ON c ->> 'result' IS NULL"""

_COUNTS: Final = f"""
SELECT (SELECT count(*) FROM work_orders WHERE {_OPEN}) AS open_orders, (SELECT count(*) FROM incidents) AS incidents"""  # noqa: S608 - made of constants

Refers = dict[Any, tuple[int, tuple[str, ...]]]


async def orders_by(
    connection: Connection, what: Literal["department", "category", "area", "tier", "clock", "policy"]
) -> Refers:
    """Open orders by what they refer to: how many, and the references of the first.

    A clock is (category, work, name); a policy the one that the order was decided by last.
    """
    column, joined = {
        "tier": ("asked_in", _TIERS),
        "clock": ("ARRAY[o.category, o.work, c ->> 'name']", _CLOCKS),
        "policy": ("o.body::json ->> 'policy_version'", ""),
    }.get(what, (f"o.{what}", ""))
    rows = await connection.fetch(_USED.format(what=column, joined=joined))
    return {
        tuple(row["what"]) if what == "clock" else row["what"]: (row["count"], tuple(row["named"]))
        for row in rows
    }


async def counts(connection: Connection) -> tuple[int, int]:
    """How many orders are open, and how many incidents are kept."""
    return tuple(await connection.fetchrow(_COUNTS))


# ---------------------------------------------------------------- their lives

_KEPT: Final = """
SELECT p.version, p.recorded_at, a.seq, a.at, a.by, a.why FROM policies p
LEFT JOIN LATERAL (SELECT seq, at, by, why FROM activations WHERE what = 'policy' AND version = p.version
                   ORDER BY seq DESC LIMIT 1) a ON true
ORDER BY p.recorded_at, p.version"""

# Decisions by the activation that they were taken under: of those of their version, the last one before them. A batch
# that had begun when another policy was activated still counts to its own. `later`: those of them that were taken when
# another one was in force already, for an open order lives by the policy that opened it.
_TAKEN: Final = """
WITH a AS (SELECT seq, version, at, lead(at) OVER (ORDER BY seq) AS ended,
                  lead(at) OVER (PARTITION BY version ORDER BY seq) AS again,
                  row_number() OVER (PARTITION BY version ORDER BY seq) AS number
           FROM activations WHERE what = 'policy')
SELECT a.seq, count(d.policy_version) AS decisions, count(*) FILTER (WHERE d.recorded_at >= a.ended) AS later
FROM a LEFT JOIN decisions d ON d.policy_version = a.version
  AND (d.recorded_at >= a.at OR a.number = 1) AND (d.recorded_at < a.again OR a.again IS NULL)
GROUP BY a.seq"""


class KeptPolicy(NamedTuple):
    """A policy that is kept, and its last activation; all None: it never was active."""

    version: str
    recorded_at: datetime
    seq: int | None
    at: datetime | None
    by: str | None
    why: str | None


async def all_kept(connection: Connection) -> list[KeptPolicy]:
    """Every policy that is kept, the oldest first."""
    return [KeptPolicy(*row) for row in await connection.fetch(_KEPT)]


class Taken(NamedTuple):
    """Decisions taken under an activation. `later`: how many of them when another policy was in force already."""

    decisions: int
    later: int


async def decisions_taken(connection: Connection) -> dict[int, Taken]:
    """Decisions under each activation, by its number."""
    return {row["seq"]: Taken(row["decisions"], row["later"]) for row in await connection.fetch(_TAKEN)}
