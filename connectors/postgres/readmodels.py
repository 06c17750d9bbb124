"""What people and programs look up: orders, incidents, causes, decisions. Read-only, one query per name."""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from connectors.postgres.policies import ACTIVE_FIRST
from connectors.postgres.pool import Connection
from schemas.decision import DecisionRecord, Stage
from schemas.incident import Incident, incident_id_of
from schemas.issue import Issue, issue_id_of
from schemas.policy import Policy
from schemas.response import TriageDecision
from schemas.work_order import WorkOrder, WorkOrderCommand
from schemas.work_order_update import LedgerEntry

PAGE_ROWS: Final = 500
"""Decisions per round trip when all of them are read."""

_NIL: Final = UUID(int=0)

# Orders that fit: the newest first; of those that are asked for by their due times, the first due first. A state of
# NULL is every state but `void`.
_ORDERS: Final = """
SELECT w.body, p.next_due_at FROM work_orders w LEFT JOIN promises p USING (order_id)
WHERE ($1::int IS NULL OR area = $1) AND ($2::text IS NULL OR department = $2)
  AND ($3::text IS NULL OR category = $3) AND ($4::text IS NULL OR work = $4)
  AND CASE WHEN $5::text IS NULL THEN state <> 'void' WHEN $5 = 'all' THEN true
           WHEN $5 = 'open' THEN state NOT IN ('resolved', 'verified', 'cancelled', 'void') ELSE state = $5 END
  AND ($6::timestamptz IS NULL OR p.next_due_at < $6)
ORDER BY CASE WHEN $6::timestamptz IS NOT NULL THEN p.next_due_at END, opened_at DESC, order_id LIMIT $7"""

_ORDER_BY_REFERENCE: Final = "SELECT body FROM work_orders WHERE reference = $1"
_DEPARTMENT_BODY: Final = "SELECT department_body FROM work_orders WHERE order_id = $1"

_ORDER_BY_ID: Final = "SELECT body FROM work_orders WHERE order_id = $1"
_ORDERS_BY_KEY: Final = (
    "SELECT body FROM work_orders WHERE order_key = ANY($1::text[]) ORDER BY opened_at, order_id"
)

# How many orders there are by one of their columns; `void` ones were never asked for and do not count.
_ORDER_COUNTS: Final = """
SELECT CASE $1::text WHEN 'department' THEN department WHEN 'category' THEN category ELSE area::text END AS "group",
       count(*) FILTER (WHERE open AND work = 'fix')        AS fix,
       count(*) FILTER (WHERE open AND work = 'inspect')    AS inspect,
       count(*) FILTER (WHERE open AND priority = 'urgent') AS urgent,
       count(*) FILTER (WHERE open AND priority = 'high')   AS high,
       count(*) FILTER (WHERE state IN ('resolved', 'verified'))     AS resolved,
       count(*) FILTER (WHERE state = 'cancelled')                   AS cancelled,
       count(*)                                                      AS orders
FROM (SELECT *, state NOT IN ('resolved', 'verified', 'cancelled') AS open FROM work_orders WHERE state <> 'void') o
GROUP BY 1 ORDER BY orders DESC, 1"""

_CAUSES_OF_ORDER: Final = """
SELECT body FROM order_causes WHERE order_key = $1 AND generation = $2 ORDER BY cause_id"""

# What was said of an order, as it was handled.
_LEDGER: Final = "SELECT body, result FROM order_ledger WHERE order_id = $1 ORDER BY seq"
_CAUSES_OF_INCIDENTS: Final = """
SELECT body FROM order_causes WHERE incident_id = ANY($1::uuid[]) ORDER BY order_key, cause_id"""
_CAUSES_OF_ISSUES: Final = """
SELECT body FROM order_causes WHERE issue_id = ANY($1::uuid[]) ORDER BY order_key, cause_id"""

_INCIDENTS_BY_ID: Final = "SELECT body FROM incidents WHERE incident_id = ANY($1::uuid[])"
_INCIDENT_OF_RESPONSE: Final = "SELECT incident_id FROM responses WHERE response_id = $1"
_ISSUES_BY_ID: Final = "SELECT body FROM issues WHERE issue_id = ANY($1::uuid[])"
# Which sources have sent requests: the primary key is jumped along, not read through.
_ISSUE_SOURCES: Final = """
WITH RECURSIVE sources AS (
  (SELECT source FROM issue_reports ORDER BY source LIMIT 1)
  UNION ALL
  SELECT (SELECT next.source FROM issue_reports next WHERE next.source > sources.source ORDER BY next.source LIMIT 1)
  FROM sources WHERE sources.source IS NOT NULL)
SELECT source FROM sources WHERE source IS NOT NULL"""

# Incidents that fit, the newest first, each with its standing triage decision and how many orders stand on it.
# The area is the one that triage decided for.
_INCIDENTS: Final = """
WITH chosen AS (
  SELECT incident_id, occurred_at, body, triage.output FROM incidents
  LEFT JOIN LATERAL (SELECT output FROM decisions WHERE stage = 'triage' AND subject = incident_id
                     ORDER BY version DESC LIMIT 1) triage ON true
  WHERE ($1::int IS NULL OR (triage.output::json -> 'location' ->> 'area')::int = $1)
    AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR validity = $3)
  ORDER BY occurred_at DESC, incident_id LIMIT $4)
SELECT body, output, (SELECT count(DISTINCT order_key) FROM order_causes cause
                      WHERE cause.incident_id = chosen.incident_id AND standing = 'live') AS orders
FROM chosen ORDER BY occurred_at DESC, incident_id"""

# The decisions of a stage that stand.
_STANDING: Final = """
SELECT stage, subject, version, rule, because, policy_version, inputs, output
FROM standing_decisions WHERE stage = $1 AND subject = ANY($2::uuid[])"""

# All that was ever decided on one subject, the oldest version first.
_HISTORY: Final = """
SELECT stage, subject, version, rule, because, policy_version, inputs, output
FROM decisions WHERE stage = $1 AND subject = $2 ORDER BY version"""

_COUNT_DECISIONS: Final = "SELECT count(*) FROM decisions WHERE stage = $1"
_DECISIONS_PAGE: Final = """
SELECT stage, subject, version, rule, because, policy_version, inputs, output
FROM decisions WHERE stage = $1 AND (subject, version) > ($2::uuid, $3::bigint)
ORDER BY subject, version LIMIT $4"""
# Decisions of no stage that we know: nothing of ours writes them.
_STRAYS: Final = """
SELECT stage, subject, version, rule, because, policy_version, inputs, output
FROM decisions WHERE NOT stage = ANY($1::text[]) ORDER BY stage, subject, version"""

# The policy in force: its names are the ones people ask by.
_NEWEST_POLICY: Final = f"SELECT content FROM policies {ACTIVE_FIRST}"  # noqa: S608 - made of constants

Grouping = Literal["department", "category", "area"]


class OrderFilter(NamedTuple):
    """Which orders. None: any; a state of None: any but `void`, "all": any,
    "open": those in which something is to be done. `limit`: rows."""

    area: int | None = None
    department: str | None = None
    category: str | None = None
    work: str | None = None
    state: str | None = None
    due_before: datetime | None = None
    limit: int = 50


class IncidentFilter(NamedTuple):
    """Which incidents. None: any. `limit`: rows."""

    area: int | None = None
    kind: str | None = None
    validity: str | None = None
    limit: int = 50


class DatedOrder(NamedTuple):
    """An order, and the first due time of its clocks that run; None: none runs, or all are on hold."""

    order: WorkOrder
    next_due_at: datetime | None


class IncidentRow(NamedTuple):
    """An incident, what triage holds of it (None: not yet handled), and the open orders it asks for."""

    incident: Incident
    triage: TriageDecision | None
    orders: int


class OrderCount(NamedTuple):
    """Orders of one group: open ones by work and by raised priority, cancelled ones, and all of both.

    `group`: the code of a department or category, or the number of an area as text; None: in no area.
    """

    group: str | None
    fix: int
    inspect: int
    urgent: int
    high: int
    resolved: int
    cancelled: int
    orders: int


async def orders(connection: Connection, wanted: OrderFilter) -> list[DatedOrder]:
    """The newest first; with `due_before`, the first due first."""
    rows = await connection.fetch(
        _ORDERS, wanted.area, wanted.department, wanted.category, wanted.work, wanted.state,
        wanted.due_before, wanted.limit,
    )  # fmt: skip
    return [DatedOrder(WorkOrder.model_validate_json(row["body"]), row["next_due_at"]) for row in rows]


async def order_counts(connection: Connection, by: Grouping) -> list[OrderCount]:
    """The largest group first."""
    return [OrderCount(*row) for row in await connection.fetch(_ORDER_COUNTS, by)]


async def order(connection: Connection, name: str) -> WorkOrder | None:
    """The order of a reference (in any case) or an id; None: there is none."""
    identity = as_uuid(name)
    if identity:
        body = await connection.fetchval(_ORDER_BY_ID, identity)
    else:
        body = await connection.fetchval(_ORDER_BY_REFERENCE, name.strip().upper())
    return WorkOrder.model_validate_json(body) if body else None


async def orders_by_key(connection: Connection, keys: Iterable[str]) -> list[WorkOrder]:
    """Those that exist, the oldest first."""
    rows = await connection.fetch(_ORDERS_BY_KEY, sorted(set(keys)))
    return [WorkOrder.model_validate_json(row["body"]) for row in rows]


async def causes_of_order(connection: Connection, order: WorkOrder) -> list[WorkOrderCommand]:
    """Every cause of the order, whatever its standing."""
    return _causes(await connection.fetch(_CAUSES_OF_ORDER, order.order_key, order.generation))


async def ledger(connection: Connection, order_id: UUID) -> list[LedgerEntry]:
    """What was said of an order, as it was handled."""
    return [LedgerEntry.model_validate_json(row["body"]) for row in await connection.fetch(_LEDGER, order_id)]


async def department_body(connection: Connection, order_id: UUID) -> str | None:
    """What the order's department was told last, canonical JSON; None: it was never told."""
    body: str | None = await connection.fetchval(_DEPARTMENT_BODY, order_id)
    return body


async def causes_of_incidents(connection: Connection, ids: Sequence[UUID]) -> list[WorkOrderCommand]:
    """Every cause that comes from these incidents."""
    return _causes(await connection.fetch(_CAUSES_OF_INCIDENTS, list(ids)))


async def causes_of_issues(connection: Connection, ids: Sequence[UUID]) -> list[WorkOrderCommand]:
    """Every cause that these issues are part of."""
    return _causes(await connection.fetch(_CAUSES_OF_ISSUES, list(ids)))


def _causes(rows: Sequence[Any]) -> list[WorkOrderCommand]:
    return [WorkOrderCommand.model_validate_json(row["body"]) for row in rows]


async def incidents(connection: Connection, wanted: IncidentFilter) -> list[IncidentRow]:
    """The newest first."""
    rows = await connection.fetch(_INCIDENTS, wanted.area, wanted.kind, wanted.validity, wanted.limit)
    return [
        IncidentRow(
            Incident.model_validate_json(row["body"]),
            TriageDecision.model_validate_json(row["output"]) if row["output"] else None,
            row["orders"],
        )
        for row in rows
    ]


async def incident(connection: Connection, name: str) -> Incident | None:
    """The incident of a case number, its own id or its response's; None: there is none."""
    identity = as_uuid(name)
    if identity:
        of_response = await connection.fetchval(_INCIDENT_OF_RESPONSE, identity)
        ids = [of_response or identity]
    else:
        ids = [incident_id_of(spelled) for spelled in _spellings(name)]
    found = await incidents_by_id(connection, ids)
    return next((found[one] for one in ids if one in found), None)


async def incidents_by_id(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, Incident]:
    """Those that exist."""
    rows = await connection.fetch(_INCIDENTS_BY_ID, sorted(set(ids)))
    found = [Incident.model_validate_json(row["body"]) for row in rows]
    return {one.incident_id: one for one in found}


async def issues_by_id(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, Issue]:
    """Those that exist."""
    rows = await connection.fetch(_ISSUES_BY_ID, sorted(set(ids)))
    found = [Issue.model_validate_json(row["body"]) for row in rows]
    return {one.issue_id: one for one in found}


async def issues_by_number(connection: Connection, number: str) -> list[Issue]:
    """The issues of a request number: one of each source that uses it."""
    sources = [row["source"] for row in await connection.fetch(_ISSUE_SOURCES)]
    ids = {issue_id_of(source, spelled) for source in sources for spelled in _spellings(number)}
    return list((await issues_by_id(connection, ids)).values())


def _spellings(number: str) -> list[str]:
    """As it was typed, and in capitals, as the city writes its numbers. Ids derive from numbers: no search."""
    return list(dict.fromkeys([number.strip(), number.strip().upper()]))


async def standing(
    connection: Connection, stage: Stage, subjects: Iterable[UUID]
) -> dict[UUID, DecisionRecord]:
    """The decision that stands on each subject that has one."""
    rows = await connection.fetch(_STANDING, stage, sorted(set(subjects)))
    return {row["subject"]: DecisionRecord(**dict(row)) for row in rows}


async def history(connection: Connection, stage: Stage, subject: UUID) -> list[DecisionRecord]:
    """All that was ever decided on one subject, the oldest version first."""
    return [DecisionRecord(**dict(row)) for row in await connection.fetch(_HISTORY, stage, subject)]


async def count_decisions(connection: Connection, stage: Stage) -> int:
    """How many decisions of a stage are recorded."""
    count: int = await connection.fetchval(_COUNT_DECISIONS, stage)
    return count


async def every_decision(
    connection: Connection, stage: Stage, rows: int = PAGE_ROWS
) -> AsyncIterator[list[DecisionRecord]]:
    """Every decision of a stage, at most `rows` at a time, by subject and version. They are not checked against
    the schema: a damaged one has to come through to be found.

    No transaction spans the pages: decisions are only ever added, and a long one would hold back vacuum.
    """
    subject, version = _NIL, -1
    while page := await connection.fetch(_DECISIONS_PAGE, stage, subject, version, rows):
        yield [DecisionRecord.model_construct(**dict(row)) for row in page]
        subject, version = page[-1]["subject"], page[-1]["version"]


async def stray_decisions(connection: Connection, stages: Sequence[str]) -> list[DecisionRecord]:
    """Those of none of these stages; unchecked, as `every_decision` gives them."""
    return [
        DecisionRecord.model_construct(**dict(row)) for row in await connection.fetch(_STRAYS, list(stages))
    ]


async def newest_policy(connection: Connection) -> Policy | None:
    """The policy that is in force; None: none ever was."""
    content = await connection.fetchval(_NEWEST_POLICY)
    return Policy.model_validate_json(content) if content else None


def as_uuid(text: str) -> UUID | None:
    """The id that a text spells; None: it is something else, such as a number or a reference."""
    try:
        return UUID(text.strip())
    except ValueError:
        return None
