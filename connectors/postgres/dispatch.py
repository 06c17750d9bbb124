"""What dispatch reads."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from connectors.ports import Reach
from connectors.postgres import near
from connectors.postgres.decisions import DecisionLog
from schemas.incident import Incident
from schemas.issue import Issue
from schemas.response import Response

_RESPONSES: Final = "SELECT body FROM responses WHERE incident_id = ANY($1::uuid[]) ORDER BY response_id"

_ISSUES: Final = "SELECT body FROM issues WHERE issue_id = ANY($1::uuid[]) ORDER BY issue_id"

_ASKED: Final = """
SELECT DISTINCT subject FROM decisions
WHERE stage = 'dispatch' AND subject = ANY($1::uuid[]) AND rule NOT LIKE '%:void'"""


class PostgresDispatch(DecisionLog):
    """`connectors.ports.DispatchStore` in one transaction."""

    async def responses(self, incident_ids: Sequence[UUID]) -> list[Response]:
        """The latest response of each incident that has one."""
        rows = await self._connection.fetch(_RESPONSES, incident_ids)
        return [near.parsed(Response, row["body"]) for row in rows]

    async def issues(self, ids: Sequence[UUID]) -> list[Issue]:
        """The latest of each that exists."""
        rows = await self._connection.fetch(_ISSUES, ids)
        return [near.parsed(Issue, row["body"]) for row in rows]

    async def asked(self, cause_ids: Sequence[UUID]) -> set[UUID]:
        """Those of these causes that were ever decided on as more than void."""
        return {row["subject"] for row in await self._connection.fetch(_ASKED, cause_ids)}

    async def issues_near(self, reaches: Sequence[Reach]) -> Mapping[UUID, list[Issue]]:
        """Issues in the cells of each reach, created within its time."""
        return await near.issues_near(self._connection, reaches)

    async def responses_near(self, reaches: Sequence[Reach]) -> Mapping[UUID, list[Response]]:
        """Responses in the cells of each reach that end within its time."""
        return await near.responses_near(self._connection, reaches)

    async def incidents_near(self, reaches: Sequence[Reach]) -> Mapping[UUID, list[Incident]]:
        """Incidents in the cells and the time of each reach."""
        return await near.incidents_near(self._connection, reaches)
