"""What the agents need of the outside, one small Protocol per stage. Every method works on whole batches.

An instance lives in one transaction of the loop. Rows travel as canonical JSON (`body`), so that what is
stored, hashed, published and replayed is the same bytes.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from schemas.base import Point
from schemas.decision import DecisionRecord
from schemas.incident import Incident
from schemas.issue import Issue
from schemas.response import Location, Response
from schemas.work_order import WorkOrder, WorkOrderCommand


class Fact(NamedTuple):
    """One revision of one report: its identity, the fold it belongs to, its canonical JSON."""

    source: str
    report_id: str
    revised_at: datetime
    digest: int  # signed 64 bit, of body
    owner_id: UUID  # incident or issue
    parent_id: UUID | None  # issues: the parent that this revision names
    body: str


class Row(NamedTuple):
    """A fold to store, when its version is higher than the stored one's."""

    id: UUID
    version: int
    cells: Sequence[int]  # H3 cells of every place that it ever had
    body: str


class Reach(NamedTuple):
    """A place to look around: cells that cover it, and the time in which what is found must lie."""

    owner_id: UUID
    cells: Sequence[int]
    since: datetime
    until: datetime


class KnownOrder(NamedTuple):
    """An order as it is stored, and how often a department was told of it."""

    order: WorkOrder
    told: int


class DecisionStore(Protocol):
    """Where decision records go."""

    async def record(self, decisions: Sequence[DecisionRecord]) -> set[tuple[UUID, int]]:
        """Keep those that are not yet kept; (subject, version) of the new ones."""
        ...


class IntakeStore(DecisionStore, Protocol):
    """Reports, incidents, issues."""

    async def add_incident_reports(self, facts: Sequence[Fact]) -> set[UUID]:
        """Keep the facts; ids of the incidents that have new ones. Known ones are only seen again."""
        ...

    async def add_issue_reports(self, facts: Sequence[Fact]) -> set[UUID]:
        """Keep the facts; ids of the issues with new ones: their own, and every parent they ever named."""
        ...

    async def incident_facts(self, ids: Sequence[UUID]) -> Mapping[UUID, list[str]]:
        """The bodies of all facts of each incident, in byte order."""
        ...

    async def issue_facts(self, ids: Sequence[UUID]) -> Mapping[UUID, list[str]]:
        """The bodies of all facts of each issue, the duplicates' included, in byte order."""
        ...

    async def incident_fact_counts(self, ids: Sequence[UUID]) -> Mapping[UUID, int]:
        """How many facts each incident has, as committed by now."""
        ...

    async def issue_fact_counts(self, ids: Sequence[UUID]) -> Mapping[UUID, int]:
        """How many facts each issue has, as committed by now."""
        ...

    async def save_incidents(self, rows: Sequence[tuple[Incident, Row]]) -> set[UUID]:
        """Store those with a higher version; their ids."""
        ...

    async def save_issues(self, rows: Sequence[tuple[Issue, Row]]) -> set[UUID]:
        """Store those with a higher version; their ids."""
        ...


class TriageStore(DecisionStore, Protocol):
    """Incidents, what is near them, responses."""

    async def incidents(self, ids: Sequence[UUID]) -> list[Incident]:
        """The latest of each that exists."""
        ...

    async def incidents_near(self, reaches: Sequence[Reach]) -> Mapping[UUID, list[Incident]]:
        """Incidents in the cells and the time of each reach, without its owner."""
        ...

    async def issues_near(self, reaches: Sequence[Reach]) -> Mapping[UUID, list[Issue]]:
        """Issues in the cells of each reach, created within its time."""
        ...

    async def save_responses(self, rows: Sequence[tuple[Response, Row]]) -> set[UUID]:
        """Store those with a higher version; their ids."""
        ...


class DispatchStore(DecisionStore, Protocol):
    """Responses and issues, and who is near whom."""

    async def responses(self, incident_ids: Sequence[UUID]) -> list[Response]:
        """The latest response of each incident that has one."""
        ...

    async def issues(self, ids: Sequence[UUID]) -> list[Issue]:
        """The latest of each that exists."""
        ...

    async def issues_near(self, reaches: Sequence[Reach]) -> Mapping[UUID, list[Issue]]:
        """Issues in the cells of each reach, created within its time."""
        ...

    async def responses_near(self, reaches: Sequence[Reach]) -> Mapping[UUID, list[Response]]:
        """Responses in the cells of each reach that open within its time."""
        ...

    async def incidents_near(self, reaches: Sequence[Reach]) -> Mapping[UUID, list[Incident]]:
        """Incidents in the cells and the time of each reach."""
        ...


class OrderStore(DecisionStore, Protocol):
    """Causes and the orders that they add up to."""

    async def add_causes(self, commands: Sequence[WorkOrderCommand]) -> set[str]:
        """Store causes with a higher version; the order keys that changed."""
        ...

    async def causes(self, order_keys: Sequence[str]) -> Mapping[str, list[str]]:
        """The bodies of all causes of each order, by cause id."""
        ...

    async def known(self, order_keys: Sequence[str]) -> Mapping[str, KnownOrder]:
        """What is held of each order that exists."""
        ...

    async def save_orders(self, rows: Sequence[tuple[WorkOrder, Row, int]]) -> set[UUID]:
        """Store those with a higher version and how often their departments were told; their ids."""
        ...


class Geography(Protocol):
    """The city's areas."""

    def locate(self, points: Sequence[Point | None], published: Sequence[int | None]) -> list[Location]:
        """Where each point lies, a whole batch at once; `published` is the area that the source names."""
        ...
