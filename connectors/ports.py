"""What the agents need of the outside, one small Protocol per stage. Every method works on whole batches.

An instance lives in one transaction of the loop. Rows travel as canonical JSON (`body`), so that what is
stored, hashed, published and replayed is the same bytes.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from schemas.alert import Alert, AlertEvent
from schemas.base import Point
from schemas.decision import DecisionRecord
from schemas.incident import Incident
from schemas.issue import Issue
from schemas.policy import Policy
from schemas.promise import PromiseLine, Promises
from schemas.response import Location, Response
from schemas.response_life import LifeLine, OrderHistory, OrderTally, ResponseLife
from schemas.work_order import Standing, WorkOrder
from schemas.work_order_update import LedgerEntry, Verdict, WorkOrderUpdate


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


class Told(NamedTuple):
    """What is told outside of Kafka. `audience`: a department's code, "" for supervisors (restricted)."""

    audience: str
    kind: str  # work-order, update-result, service-request-news, alert, response
    subject: str  # the order's reference; of news, the request's number; the alert's or the response's id
    version: int
    body: str | None  # canonical JSON; None: look at the order as it is


class KnownOrder(NamedTuple):
    """An order as it is stored, how often its department was told of it, and what last (canonical JSON)."""

    order: WorkOrder
    told: int
    department_body: str | None


class CauseRow(NamedTuple):
    """A cause as one of its site's orders holds it."""

    order_key: str
    generation: int
    cause_id: UUID
    version: int
    incident_id: UUID
    issue_id: UUID | None
    standing: Standing
    body: str  # canonical JSON of the command


class LedgerRow(NamedTuple):
    """A line of an order's ledger. `update_id`: unique among those of its `department`."""

    order_key: str
    order_id: UUID
    seq: int
    department: str
    update_id: str
    digest: int  # of what was said
    verdict: Verdict
    body: str  # canonical JSON of the entry
    result: str | None  # of the answer; None: nobody asked


class SaidBefore(NamedTuple):
    """What is held of an update id: what it stood for, and the answer."""

    digest: int
    result: str | None


class OrderRow(NamedTuple):
    """An order to store; `body` is its canonical JSON."""

    known: KnownOrder
    body: str


class SiteRows(NamedTuple):
    """Everything that is held of one order key."""

    causes: Sequence[CauseRow]
    orders: Sequence[KnownOrder]
    entries: Mapping[UUID, Sequence[LedgerEntry]]  # by order
    lines: Mapping[UUID, Sequence[PromiseLine]]  # by order


class KnownAlert(NamedTuple):
    """An alert as it stands, and the number of its last event."""

    alert: Alert
    seq: int


class PromisedOrder(NamedTuple):
    """What an order's clocks are made of, for one that time or a person asks about."""

    order: WorkOrder
    entries: Sequence[LedgerEntry]  # its whole ledger
    lines: Sequence[PromiseLine]


class Attempt(NamedTuple):
    """What somebody tried to do with an order, for the audit trail."""

    department: str
    reference: str
    update_id: str
    verb: str
    verdict: Verdict
    rule: str
    by: str | None = None  # who, where it is no department as such


class ParkedUpdate(NamedTuple):
    """An update whose order nobody knows, until it is there or the time is up."""

    department: str
    update: WorkOrderUpdate
    received_at: datetime


TimerKind = Literal["order", "response"]


class Timer(NamedTuple):
    """An order or a response waits for time to pass: when to look at it again. At most one for each."""

    subject_id: UUID
    key: str  # of the record that tells it that its time has come
    reference: str  # what people call it
    due_at: datetime
    kind: TimerKind = "order"


class DecisionStore(Protocol):
    """Where decision records go."""

    async def record(self, decisions: Sequence[DecisionRecord]) -> set[tuple[UUID, int]]:
        """Keep those that are not yet kept; (subject, version) of the new ones."""
        ...

    async def keep(self, decisions: Sequence[DecisionRecord]) -> None:
        """The same, for whoever knows that they are new: they are written before the transaction ends."""
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

    async def order_keys(self, references: Sequence[str]) -> Mapping[str, str]:
        """The order key of each reference that there is an order for."""
        ...

    async def tell(self, told: Sequence[Told]) -> None:
        """Add to the feed, in this order."""
        ...

    async def park(self, updates: Sequence[ParkedUpdate]) -> None:
        """Keep updates whose order nobody knows."""
        ...

    async def audit(self, attempts: Sequence[Attempt]) -> None:
        """Add to the audit trail; last of all, for others wait until the transaction ends."""
        ...

    async def save_issues(self, rows: Sequence[tuple[Issue, Row]]) -> set[UUID]:
        """Store those with a higher version; their ids."""
        ...


class ResponseRow(NamedTuple):
    """A response, and how it is stored."""

    response: Response
    row: Row


class CalledFor(NamedTuple):
    """A response that stands. `rules`: the policy and the boundaries that made it, None: nobody noted them. `inputs`:
    of the triage decision that made it."""

    response: Response
    rules: str | None
    inputs: str


class TriageStore(DecisionStore, Protocol):
    """Incidents, what is near them, responses."""

    async def responding(self, incident_ids: Sequence[UUID]) -> set[UUID]:
        """Those of these incidents that have a response, whatever it asks for."""
        ...

    async def incidents(self, ids: Sequence[UUID]) -> list[Incident]:
        """The latest of each that exists."""
        ...

    async def incidents_near(self, reaches: Sequence[Reach]) -> Mapping[UUID, list[Incident]]:
        """Incidents in the cells and the time of each reach, without its owner."""
        ...

    async def issues_near(self, reaches: Sequence[Reach]) -> Mapping[UUID, list[Issue]]:
        """Issues in the cells of each reach, created within its time."""
        ...

    async def called_for(self, incident_ids: Sequence[UUID], rules: str) -> Mapping[UUID, CalledFor]:
        """What other rules, or these with something of others, had these incidents call for."""
        ...

    async def save_responses(self, rows: Sequence[ResponseRow], rules: str) -> set[UUID]:
        """Store those with a higher version, as decided by these rules; their ids."""
        ...


class DispatchStore(DecisionStore, Protocol):
    """Responses and issues, and who is near whom."""

    async def asked(self, cause_ids: Sequence[UUID]) -> set[UUID]:
        """Those of these causes that were ever decided on as more than void."""
        ...

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
    """Causes, ledgers, and the orders that they add up to."""

    async def sites(self, order_keys: Sequence[str]) -> Mapping[str, SiteRows]:
        """What is held of each order key; of one that is new, nothing."""
        ...

    async def said_before(self, said: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], SaidBefore]:
        """What is held of each (department, update id) that is not new."""
        ...

    async def orders_of(self, references: Sequence[str]) -> Mapping[str, WorkOrder]:
        """The orders with these references, those that there are."""
        ...

    async def originals(self, references: Sequence[str]) -> Mapping[str, WorkOrder]:
        """The same, with everybody else who names originals waiting until this transaction ends."""
        ...

    async def save_causes(self, rows: Sequence[CauseRow]) -> None:
        """Store causes that are new or newer."""
        ...

    async def add_to_ledger(self, rows: Sequence[LedgerRow]) -> None:
        """Add lines; none is ever changed."""
        ...

    async def save_orders(self, rows: Sequence[OrderRow]) -> None:
        """Store orders and what their departments were told."""
        ...

    async def promised(self, order_ids: Sequence[UUID]) -> Mapping[UUID, PromisedOrder]:
        """Those of these orders to which something is promised."""
        ...

    async def alerts_of(self, order_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[KnownAlert]]:
        """All alerts of these orders."""
        ...

    async def commands_taken(self, command_ids: Sequence[str]) -> set[tuple[UUID, str]]:
        """(Alert, command id) of the commands that are in some alert's history already."""
        ...

    async def policies(self, versions: Sequence[str]) -> Mapping[str, Policy]:
        """These versions of the policy, those that are kept."""
        ...

    async def save_promises(self, lines: Sequence[PromiseLine], promises: Sequence[Promises]) -> None:
        """Add lines, none of which is ever changed, and store what they add up to."""
        ...

    async def save_alerts(self, events: Sequence[AlertEvent]) -> None:
        """Add events, in their order, and store the alerts as the last of each left it."""
        ...

    async def set_timers(self, arm: Sequence[Timer], disarm: Sequence[UUID]) -> None:
        """When to look at these orders again; and those for which nothing is waited for."""
        ...

    async def audit(self, attempts: Sequence[Attempt]) -> None:
        """Add to the audit trail; last of all, for others wait until the transaction ends."""
        ...

    async def tell(self, told: Sequence[Told]) -> None:
        """Add to the feed, in this order."""
        ...

    async def at_rest(self, incident_ids: Sequence[UUID]) -> set[UUID]:
        """Those of these incidents whose response was made safe or is closed, or was never looked at. Whoever is just
        looking at one is waited for, and waits until this transaction ends: so one of the two sees the other."""
        ...


class LifeStore(Protocol):
    """Responses, what their orders came to, and the ledger of their lives."""

    async def lives(self, incident_ids: Sequence[UUID]) -> Mapping[UUID, ResponseLife]:
        """By incident, those that were looked at before; locked until the transaction ends."""
        ...

    async def responses(self, incident_ids: Sequence[UUID]) -> list[Response]:
        """The latest response of each incident that has one."""
        ...

    async def tallies(self, incident_ids: Sequence[UUID]) -> Mapping[UUID, OrderTally]:
        """How the orders of each incident stand, roughly; of one without orders, nothing."""
        ...

    async def histories(self, incident_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[OrderHistory]]:
        """Everything that is held of the orders that each incident ever asked for."""
        ...

    async def policies(self, versions: Sequence[str]) -> Mapping[str, Policy]:
        """These versions of the policy, those that are kept."""
        ...

    async def save_lives(self, lines: Sequence[LifeLine], lives: Sequence[ResponseLife]) -> None:
        """Add lines, none of which is ever changed, and store what they add up to."""
        ...

    async def set_timers(self, arm: Sequence[Timer], disarm: Sequence[UUID]) -> None:
        """When to look at these responses again; and those for which nothing is waited for."""
        ...

    async def tell(self, told: Sequence[Told]) -> None:
        """Add to the feed, in this order."""
        ...


class Geography(Protocol):
    """The city's areas, as their boundaries are at different times."""

    @property
    def revision(self) -> int:
        """How often boundaries have been put in force; 0: those that the software comes with hold."""
        ...

    def locate(
        self, points: Sequence[Point | None], published: Sequence[int | None], at: Sequence[datetime]
    ) -> list[Location]:
        """Where each point lay at its time, a whole batch at once; `published` is the area that the source names."""
        ...
