"""What people look up about alerts: those that stand, one with its history, what was done about it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from connectors.postgres.http_reads import Query
from connectors.postgres.pool import Connection
from schemas.alert import Alert, AlertEvent

_ALERTS: Final = "SELECT alert_id, at, seq, body FROM alerts"
_OF_ORDER: Final = "order_id = (SELECT o.order_id FROM work_orders o WHERE o.reference = {})"
# Of orders that are the department's now, and of which it was told: whose they were when the alert fired is another
# matter.
_OWN: Final = """order_id IN (
  SELECT o.order_id FROM work_orders o WHERE o.department = {} AND o.department_body IS NOT NULL)"""
# Of each promise the highest point that stands in one of these states.
_HIGHEST: Final = """NOT EXISTS (
  SELECT FROM alerts h
  WHERE (h.order_id, h.clock, h.cycle) = (alerts.order_id, alerts.clock, alerts.cycle) AND h.state = ANY ({}::text[])
    AND (h.level, h.at, h.alert_id) > (alerts.level, alerts.at, alerts.alert_id))"""
_NEWEST: Final = "at DESC, alert_id"
_MOST_URGENT: Final = "level DESC, at, alert_id"

# Alerts whose id begins so: two are enough to see that it is not one.
_BEGINNING: Final = """
SELECT body FROM alerts WHERE alert_id BETWEEN $1 AND $2 ORDER BY alert_id LIMIT 2"""
_EVENTS: Final = "SELECT body FROM alert_events WHERE alert_id = $1 ORDER BY seq LIMIT $2"

# What happened to all alerts of an order, in the order in which it was handled.
_EVENTS_OF_ORDER: Final = """
SELECT e.body FROM work_orders o JOIN alerts a USING (order_id) JOIN alert_events e USING (alert_id)
WHERE o.reference = $1 ORDER BY (e.body::json ->> 'at')::timestamptz, a.at, e.alert_id, e.seq LIMIT $2"""

# What a command did; nothing as long as the order's writer has not come to it.
_DONE: Final = """
SELECT body FROM alert_events WHERE alert_id = $1 AND command_id = $2 ORDER BY seq LIMIT 1"""


class AlertPlace(NamedTuple):
    """Where a page of alerts ended."""

    at: datetime
    alert_id: UUID


class WantedAlerts(NamedTuple):
    """Which alerts. None: any. `scope`: the department that asks; None: somebody who sees all."""

    scope: str | None = None
    department: str | None = None
    states: Sequence[str] | None = None
    levels: Sequence[int] | None = None
    clock: str | None = None
    rung: str | None = None
    area: int | None = None
    reference: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    highest: bool = False  # of each promise only the highest point that is in one of `states`
    most_urgent_first: bool = False  # else the newest; pages are for the newest alone
    after: AlertPlace | None = None
    limit: int = 50


class AlertRow(NamedTuple):
    """An alert with the number of its last event."""

    alert: Alert
    seq: int

    @property
    def place(self) -> AlertPlace:
        """Where a page ends that ends with it."""
        return AlertPlace(self.alert.at, self.alert.alert_id)


async def alerts(connection: Connection, wanted: WantedAlerts) -> list[AlertRow]:
    """Those that fit, the newest first by when their rung was reached; or those of the highest level, longest first."""
    query = Query()
    _filters(query, wanted)
    if wanted.after is not None:
        query.where("at <= {}", wanted.after.at)
        query.where("(at < {} OR alert_id > {})", wanted.after.at, wanted.after.alert_id)
    order = _MOST_URGENT if wanted.most_urgent_first else _NEWEST
    rows = await connection.fetch(query.text(_ALERTS, order, wanted.limit), *query.values)
    return [_row(row) for row in rows]


def _filters(query: Query, wanted: WantedAlerts) -> None:
    for condition, value in (
        (_OWN, wanted.scope), ("department = {}", wanted.department), ("clock = {}", wanted.clock),
        ("rung = {}", wanted.rung), ("area = {}", wanted.area), (_OF_ORDER, wanted.reference),
        ("state = ANY ({}::text[])", wanted.states), ("level = ANY ({}::int[])", wanted.levels),
        ("at >= {}", wanted.since), ("at < {}", wanted.until),
    ):  # fmt: skip
        if value is not None:
            query.where(condition, value)
    if wanted.highest and wanted.states is not None:
        query.where(_HIGHEST, wanted.states)


async def alert(connection: Connection, alert_id: UUID, scope: str | None) -> AlertRow | None:
    """One alert; None: there is none, or it is not theirs."""
    query = Query()
    query.where("alert_id = {}", alert_id)
    if scope is not None:
        query.where(_OWN, scope)
    row = await connection.fetchrow(query.text(_ALERTS, _NEWEST, 1), *query.values)
    return _row(row) if row else None


async def beginning_with(connection: Connection, beginning: str) -> list[Alert]:
    """The alerts whose id begins with these hexadecimal digits, two at most."""
    first, last = (UUID(beginning.ljust(32, filler)) for filler in "0f")
    rows = await connection.fetch(_BEGINNING, first, last)
    return [Alert.model_validate_json(row["body"]) for row in rows]


async def events_of(connection: Connection, alert_id: UUID, limit: int) -> list[AlertEvent]:
    """An alert's history, the oldest first."""
    return _events(await connection.fetch(_EVENTS, alert_id, limit))


async def events_of_order(connection: Connection, reference: str, limit: int) -> list[AlertEvent]:
    """What happened to an order's alerts, the oldest first."""
    return _events(await connection.fetch(_EVENTS_OF_ORDER, reference, limit))


async def done_by(connection: Connection, alert_id: UUID, command_id: str) -> AlertEvent | None:
    """What a command did; None: the order's writer has not come to it, or it was too late for it."""
    body = await connection.fetchval(_DONE, alert_id, command_id)
    return AlertEvent.model_validate_json(body) if body else None


def _row(row: Any) -> AlertRow:
    return AlertRow(Alert.model_validate_json(row["body"]), row["seq"])


def _events(rows: Sequence[Any]) -> list[AlertEvent]:
    return [AlertEvent.model_validate_json(row["body"]) for row in rows]
