"""Our own endpoint for tests: the API's app with the Open311 router, and the real agents behind it by hand."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agents.topology import topology
from connectors.access.authenticate import Authenticator
from connectors.access.key import new_key
from connectors.access.keys import ApiKeys
from connectors.access.principal import Role
from connectors.http.app import create_app
from connectors.http.fanout import Fanout
from connectors.http.limits import Limits
from connectors.http.parts import Parts
from connectors.http.problems import FieldError
from connectors.open311.server import InStandardsForm, Place, open311_router
from connectors.postgres import keys
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.submissions import Submissions
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.policy import Policy
from tests.pipeline.stream import STORES, Stream

JURISDICTION = "city.example"


@dataclass
class Ours:
    """The endpoint, and what is needed to use it."""

    app: Any
    pool: Any
    policy: Policy
    root: str = ""

    @property
    def url(self) -> str:
        return f"{self.root}/open311/v2"

    async def key(self, role: Role, department: str | None = None) -> str:
        """A new API key."""
        made = new_key()
        async with self.pool.acquire() as connection:
            await keys.add(
                connection, made, name="test", roles=[role], department=department,
                created_at=datetime.now(UTC), expires_at=None,
            )  # fmt: skip
        return made.text

    async def take_in(self, connection: Any, areas: Any) -> list[IssueReport]:
        """What waits in the outbox goes through the agents, as it would from Kafka."""
        rows = await connection.fetch("DELETE FROM outbox WHERE topic = 'issue-reports' RETURNING value")
        reports = [IssueReport.model_validate_json(row["value"]) for row in rows]
        await today(connection, self.policy, areas).feed(reports)
        return reports


def make_ours(pool: Any, policy: Policy, limits: Limits | None = None) -> Ours:
    """The app, not yet on a socket."""
    ledger = PostgresLedger(pool)
    known = frozenset(one.code for one in policy.departments)
    parts = Parts(
        ledger=ledger, submissions=Submissions(ledger), authenticate=Authenticator(ApiKeys(pool, known.__contains__)),
        explain=_nothing, decisions=_no_records, refuse=_outside(policy),
        areas=lambda as_of=None: b"{}", changes=Fanout(ledger),
        departments=known, centre=policy.triage_queue, limits=limits or Limits(),
    )  # fmt: skip
    app = create_app(parts, [open311_router(parts, lambda: policy, Place(jurisdiction=JURISDICTION))])
    app.add_middleware(InStandardsForm)
    return Ours(app, pool, policy)


def today(connection: Any, policy: Policy, areas: Any) -> Stream:
    """The agents by the wall clock: what is filed over HTTP is filed now."""
    stream = Stream(connection, policy, areas)
    bindings = topology(policy, areas, STORES, lambda: datetime.now(UTC))
    stream._bindings = {binding.topic.name: binding for binding in bindings}
    return stream


async def _nothing(connection: Any, name: str) -> None:
    return None


async def _no_records(connection: Any, stage: str, name: str) -> None:
    return None


def _outside(policy: Policy) -> Any:
    def refuse(report: IncidentReport | IssueReport, now: datetime) -> FieldError | None:
        point = report.point
        if point is None or policy.city.extent.holds(point.lat, point.lon):
            return None
        return FieldError(field="point", expected="a place in the city.")

    return refuse
