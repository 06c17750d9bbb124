"""What the API is given: whoever composes it (infra/serve.py) hands in the rest of the system."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Protocol

from connectors.access.principal import Principal
from connectors.alert_commands import Rules
from connectors.http.fanout import Fanout
from connectors.http.limits import Limits
from connectors.http.problems import FieldError
from connectors.mapping.parts import SourceParts
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.pool import Connection
from connectors.postgres.submissions import Submissions
from schemas.incident import IncidentReport
from schemas.issue import IssueReport

Value = dict[str, Any]


class Authenticate(Protocol):
    """Who sends this `Authorization` header. Raises Unauthenticated or Unavailable of connectors.access."""

    async def __call__(self, authorization: str | None) -> Principal: ...


class Explain(Protocol):
    """The story of an order or an incident, step by step; None: there is none of this name."""

    async def __call__(self, connection: Connection, name: str) -> list[Value] | None: ...


class History(Protocol):
    """The decision records on an order (stage "orders") or an incident ("triage"); None: there is none of this name."""

    async def __call__(self, connection: Connection, stage: str, name: str) -> list[Value] | None: ...


class Refuse(Protocol):
    """What intake would certainly refuse a report for; None: it would let it in."""

    def __call__(self, report: IncidentReport | IssueReport, now: datetime) -> FieldError | None: ...


class AreasOfDay(Protocol):
    """The areas as GeoJSON, of a day or of today (None). May take some tenths of a second the first time."""

    def __call__(self, as_of: date | None = None) -> bytes: ...


@dataclass(frozen=True)
class Parts:
    """What the API stands on. `centre`: the department as which supervisors speak."""

    ledger: PostgresLedger
    submissions: Submissions
    authenticate: Authenticate
    explain: Explain
    decisions: History
    refuse: Refuse
    areas: AreasOfDay
    changes: Fanout
    departments: frozenset[str]
    centre: str
    alert_rules: Rules = field(default_factory=Rules)
    sources: SourceParts = field(default_factory=SourceParts)
    limits: Limits = field(default_factory=Limits)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
