"""Decision records: kept once, never changed."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from connectors.postgres.pool import Connection
from connectors.postgres.together import later
from schemas.decision import DecisionRecord

# Keep the records that are not kept yet, and tell which those are.
_KEEP: Final = """
INSERT INTO decisions (stage, subject, version, rule, because, policy_version, inputs, output)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
                     $8::text[])
ON CONFLICT (stage, subject, version) DO NOTHING"""
_RECORD: Final = f"{_KEEP} RETURNING subject, version"


def _place(decision: DecisionRecord) -> tuple[str, int, int]:
    """Rows are locked in one order everywhere. The integer sorts as the UUID does, without a call to compare two."""
    return decision.stage, decision.subject.int, decision.version


class DecisionLog:
    """`connectors.ports.DecisionStore` in one transaction. The other stores derive from it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def record(self, decisions: Sequence[DecisionRecord]) -> set[tuple[UUID, int]]:
        """Keep those that are not yet kept; (subject, version) of the new ones."""
        if not decisions:
            return set()
        rows = await self._connection.fetch(_RECORD, *_columns(decisions))
        return {(row["subject"], row["version"]) for row in rows}

    async def keep(self, decisions: Sequence[DecisionRecord]) -> None:
        """The same, before the transaction ends."""
        if decisions:
            await later(self._connection, _KEEP, *_columns(decisions))


def _columns(decisions: Sequence[DecisionRecord]) -> tuple[Sequence[Any], ...]:
    ordered = sorted(decisions, key=_place)
    return (
        [one.stage for one in ordered],
        [one.subject for one in ordered],
        [one.version for one in ordered],
        [one.rule for one in ordered],
        [one.because for one in ordered],
        [one.policy_version for one in ordered],
        [one.inputs for one in ordered],
        [one.output for one in ordered],
    )
