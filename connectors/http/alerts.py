"""Alerts to read, and what people do about them. A department sees those of its own orders.

What somebody does is a command to the order's one writer: it is durable with the 202, and judged there.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel, TypeAdapter

from connectors.access.principal import Principal
from connectors.alert_commands import OF_DEPARTMENTS, STANDING, event_of, objection
from connectors.http import parameters as given
from connectors.http.access import Given, Who, department_of, not_theirs
from connectors.http.bodies import json_bytes, parsed
from connectors.http.keys import IdempotencyKey, Sent, response_of, submit
from connectors.http.openapi import REFERENCE_TEMPLATE, links, problems, takes
from connectors.http.orders import JSON, MOST_ENTRIES, PRIVATE, names
from connectors.http.parts import Parts
from connectors.http.problems import Refused, invalid, not_found
from connectors.http.updates import LOOK_EVERY_S, LOOK_FIRST_S, wait_s_of
from connectors.postgres import alerts
from connectors.postgres.alerts import AlertRow, WantedAlerts
from connectors.postgres.audit import Entry
from connectors.postgres.pool import Connection
from connectors.postgres.submissions import Answer, Submission
from schemas.alert import Alert, AlertCommand
from schemas.base import derived_id
from schemas.views import (
    AlertHandOver,
    AlertLine,
    AlertRemark,
    AlertSnooze,
    DepartmentAlert,
    department_alert,
    department_line,
    line_of,
    signature,
)

Kind = Literal["acknowledge", "unacknowledge", "snooze", "hand_over"]
FIRST: Final = "alert_id=$response.body#/items/0/alert_id"
_REMARK: Final[TypeAdapter[AlertRemark]] = TypeAdapter(AlertRemark)
_SNOOZE: Final[TypeAdapter[AlertSnooze]] = TypeAdapter(AlertSnooze)
_HAND_OVER: Final[TypeAdapter[AlertHandOver]] = TypeAdapter(AlertHandOver)

Prefer = Annotated[str | None, Header(max_length=100, description="`wait=N`: seconds, at most 10.")]

router = APIRouter(prefix="/v1/alerts", tags=["Alerts"])


class Alerts(BaseModel):
    """A page of alerts: of a department, those of its own orders, without the centre's own words."""

    items: list[DepartmentAlert] | list[Alert]
    next: str | None


class AlertWithHistory(BaseModel):
    """An alert, and what happened to it, the oldest first."""

    alert: DepartmentAlert | Alert
    events: list[AlertLine]


class AlertCommandUnderWay(BaseModel):
    """What somebody does about an alert: durably ours, and not yet judged."""

    command_id: str
    alert_id: UUID
    command: Kind
    status: Literal["pending"] = "pending"


@router.get(
    "", response_model=Alerts,
    responses=problems() | {200: {"links": links(
        read_alert=FIRST, acknowledge_alert=FIRST, unacknowledge_alert=FIRST, snooze_alert=FIRST)}},
)  # fmt: skip
async def list_alerts(
    request: Request, parts: Given, who: Who, *, state: given.States = None, level: given.Levels = None,
    department: given.DepartmentCode = None, clock: given.ClockCode = None, rung: given.RungCode = None,
    area: given.AreaNumber = None, reference: given.ReferenceIs = None, since: given.Since = None,
    until: given.Until = None, cursor: given.CursorText = None, limit: given.Limit = 50,
) -> Response:  # fmt: skip
    """Those that need attention, or those of the states that are asked for: the newest first, by when their point was
    reached. The header Link has the next page."""
    scope = department_of(who)
    if scope is not None and department not in (None, scope):
        raise invalid("department", f"nothing, or {scope}: a department sees the alerts of its own orders")
    wanted = WantedAlerts(
        scope=scope, department=department, states=_states(state), levels=_levels(level), clock=clock, rung=rung,
        area=area, reference=reference, since=since, until=until, after=given.alert_place_of(cursor),
        limit=limit + 1,
    )  # fmt: skip
    async with parts.ledger.connection() as connection:
        rows = await alerts.alerts(connection, wanted)
    return _page(request, rows, limit, scope)


def _states(text: str | None) -> Sequence[str] | None:
    if text is None:
        return STANDING
    return None if text == "all" else text.split(",")


def _levels(text: str | None) -> Sequence[int] | None:
    return None if text is None else [int(one) for one in text.split(",")]


def _page(request: Request, rows: Sequence[AlertRow], limit: int, scope: str | None) -> Response:
    shown, more = rows[:limit], len(rows) > limit
    cursor = given.alert_cursor_of(shown[-1].place) if more else None
    items = ",".join(_shown(row.alert, scope).model_dump_json() for row in shown)
    following = f'"{cursor}"' if cursor else "null"
    headers = PRIVATE | ({"Link": given.next_link(request, cursor)} if cursor else {})
    return Response(f'{{"items":[{items}],"next":{following}}}', headers=headers, media_type=JSON)


def _shown(alert: Alert, scope: str | None) -> Alert | DepartmentAlert:
    return alert if scope is None else department_alert(alert, scope)


@router.get(
    "/{alert_id}", response_model=AlertWithHistory,
    responses=problems(404) | {304: {"description": "Nothing has happened since."}},
)  # fmt: skip
async def read_alert(
    alert_id: given.AlertId, parts: Given, who: Who,
    if_none_match: Annotated[str | None, Header(max_length=500)] = None,
) -> Response:  # fmt: skip
    """One alert with its history. Its ETag is the number of the last event."""
    row, scope = await _alert_of(parts, who, "read_alert", alert_id), department_of(who)
    headers = PRIVATE | {"ETag": f'"{row.seq}"'}
    if if_none_match is not None and names(if_none_match, headers["ETag"]):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    async with parts.ledger.connection() as connection:
        events = await alerts.events_of(connection, alert_id, MOST_ENTRIES)
    lines = [line_of(event) if scope is None else department_line(event, scope) for event in events]
    whole = AlertWithHistory(alert=_shown(row.alert, scope), events=lines)
    return Response(whole.model_dump_json(), headers=headers, media_type=JSON)


async def _alert_of(parts: Parts, who: Principal, operation: str, alert_id: UUID) -> AlertRow:
    """The alert as the caller may see it. Raises Refused: 404, noted in the audit trail for a department."""
    scope = department_of(who)
    async with parts.ledger.connection() as connection:
        row = await alerts.alert(connection, alert_id, scope)
    if row is None and scope is not None:
        await not_theirs(parts, who, operation, "alert", str(alert_id))
    if row is None:
        raise not_found("alert")
    return row


# ---------------------------------------------------------------- what people do


def _answers(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    done = {"model": DepartmentAlert | Alert, "description": "The alert, within the time of Prefer: wait."}
    return problems(403, 404, 409, body=True) | {200: done, 202: {"model": model}}


def _takes(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    return takes({"$ref": REFERENCE_TEMPLATE.format(model=model.__name__)}, required=required)


_ANSWERS: Final = _answers(AlertCommandUnderWay)


@router.post(
    "/{alert_id}/acknowledge", status_code=HTTPStatus.ACCEPTED, response_model=AlertCommandUnderWay,
    openapi_extra=_takes(AlertRemark, required=False), responses=_ANSWERS,
)  # fmt: skip
async def acknowledge_alert(
    request: Request, alert_id: given.AlertId, parts: Given, who: Who, *,
    idempotency_key: IdempotencyKey = None, prefer: Prefer = None,
) -> Response:  # fmt: skip
    """Say that you look after it. It comes back by itself when nothing is said of its order for some hours."""
    sent = Sent(request, await _remark_bytes(request), who, idempotency_key)
    remark = parsed(_REMARK, sent.raw or b"{}")
    return await _done(_Act("acknowledge", alert_id, remark), sent, parts, wait_s_of(prefer))


@router.post(
    "/{alert_id}/unacknowledge", status_code=HTTPStatus.ACCEPTED, response_model=AlertCommandUnderWay,
    openapi_extra=_takes(AlertRemark, required=False), responses=_ANSWERS,
)  # fmt: skip
async def unacknowledge_alert(
    request: Request, alert_id: given.AlertId, parts: Given, who: Who, *,
    idempotency_key: IdempotencyKey = None, prefer: Prefer = None,
) -> Response:  # fmt: skip
    """Take back that it is acknowledged or snoozed: it is open again, and tells again."""
    sent = Sent(request, await _remark_bytes(request), who, idempotency_key)
    remark = parsed(_REMARK, sent.raw or b"{}")
    return await _done(_Act("unacknowledge", alert_id, remark), sent, parts, wait_s_of(prefer))


@router.post(
    "/{alert_id}/snooze", status_code=HTTPStatus.ACCEPTED, response_model=AlertCommandUnderWay,
    openapi_extra=_takes(AlertSnooze), responses=_ANSWERS,
)  # fmt: skip
async def snooze_alert(
    request: Request, alert_id: given.AlertId, parts: Given, who: Who, *,
    idempotency_key: IdempotencyKey = None, prefer: Prefer = None,
) -> Response:  # fmt: skip
    """Put it off until a moment, as far ahead as the policy allows: then it tells again."""
    sent = Sent(request, await json_bytes(request), who, idempotency_key)
    snooze = parsed(_SNOOZE, sent.raw)
    act = _Act("snooze", alert_id, snooze, {"until": snooze.until})
    return await _done(act, sent, parts, wait_s_of(prefer))


@router.post(
    "/{alert_id}/hand-over", status_code=HTTPStatus.ACCEPTED, response_model=AlertCommandUnderWay,
    openapi_extra=_takes(AlertHandOver), responses=_ANSWERS,
)  # fmt: skip
async def hand_over_alert(
    request: Request, alert_id: given.AlertId, parts: Given, who: Who, *,
    idempotency_key: IdempotencyKey = None, prefer: Prefer = None,
) -> Response:  # fmt: skip
    """Give it to a person or a role of the policy, who is told. It is open again until they acknowledge it."""
    sent = Sent(request, await json_bytes(request), who, idempotency_key)
    hand_over = parsed(_HAND_OVER, sent.raw)
    act = _Act("hand_over", alert_id, hand_over, {"to": hand_over.to})
    return await _done(act, sent, parts, wait_s_of(prefer))


class _Act:
    """What somebody does about an alert, as it was sent."""

    def __init__(
        self, kind: Kind, alert_id: UUID, remark: AlertRemark, more: Mapping[str, Any] | None = None
    ) -> None:
        self.kind: Kind = kind
        self.alert_id = alert_id
        self._remark = remark
        self._more = more or {}

    def command(self, alert: Alert, sent: Sent, parts: Parts) -> AlertCommand:
        """As the order's writer reads it. The same key of the same caller is the same command."""
        by, scope = self._remark.by or sent.who.name, department_of(sent.who)
        key = derived_id("alert-command", sent.who.name, sent.key) if sent.key else uuid4()
        return AlertCommand(
            order_key=alert.order_key, order_id=alert.order_id, reference=alert.reference,
            alert_id=alert.alert_id, command_id=str(key), kind=self.kind,
            by=by if scope is None else signature(scope, by), received_at=parts.now(), text=self._remark.text,
            **self._more,
        )  # fmt: skip


async def _remark_bytes(request: Request) -> bytes:
    """A body that may be left out: then its type need not be said."""
    if await request.body() == b"" and "content-type" not in request.headers:
        return b""
    return await json_bytes(request)


async def _done(act: _Act, sent: Sent, parts: Parts, wait_s: float) -> Response:
    operation: str = sent.request.scope["endpoint"].__name__
    alert = (await _alert_of(parts, sent.who, operation, act.alert_id)).alert
    await _check_level(parts, sent, operation, alert)
    command = act.command(alert, sent, parts)
    answer = await submit(parts, _submission(sent, command, parts))
    if wait_s and await _is_done(parts, command, wait_s):
        after = await _alert_of(parts, sent.who, operation, act.alert_id)
        headers = {"Preference-Applied": f"wait={wait_s:.0f}"}
        shown = _shown(after.alert, department_of(sent.who))
        return Response(shown.model_dump_json(), headers=headers, media_type=JSON)
    return response_of(answer)


async def _check_level(parts: Parts, sent: Sent, operation: str, alert: Alert) -> None:
    if department_of(sent.who) is None or alert.level <= OF_DEPARTMENTS:
        return
    await parts.submissions.note(Entry(sent.who.name, f"http.{operation}", str(alert.alert_id), "refused"))
    raise Refused(
        HTTPStatus.FORBIDDEN,
        f"This alert is of level {alert.level}, about which a supervisor decides: a department acts on those of the "
        f"levels 1 to {OF_DEPARTMENTS}.",
    )


def _submission(sent: Sent, command: AlertCommand, parts: Parts) -> Submission:
    async def check(connection: Connection) -> None:
        row = await alerts.alert(connection, command.alert_id, department_of(sent.who))
        if row is None:  # it was there a moment ago, and is another department's now
            raise not_found("alert")
        against = objection(command, row.alert, parts.alert_rules)
        if against is not None and against.field is not None:
            raise invalid(against.field, against.sentence)
        if against is not None:
            raise Refused(HTTPStatus.CONFLICT, against.sentence)

    details = {"command_id": command.command_id, "reference": command.reference, "to": command.to}
    return Submission(
        principal=sent.who.name,
        key=sent.key,
        digest=sent.digest,
        events=[event_of(command)],
        answer=_accepted(command),
        entries=[sent.entry(str(command.alert_id), details)],
        check=check,
    )


def _accepted(command: AlertCommand) -> Answer:
    under_way = AlertCommandUnderWay.model_validate(
        {"command_id": command.command_id, "alert_id": command.alert_id, "command": command.kind}
    )
    location = f"/v1/alerts/{command.alert_id}"
    return Answer(HTTPStatus.ACCEPTED.value, {"Location": location}, under_way.model_dump_json())


async def _is_done(parts: Parts, command: AlertCommand, wait_s: float) -> bool:
    """Whether the order's writer has done it before the time is over."""
    until_s, pause_s = time.monotonic() + wait_s, LOOK_FIRST_S
    while True:
        async with parts.ledger.connection() as connection:
            done = await alerts.done_by(connection, command.alert_id, command.command_id)
        left_s = until_s - time.monotonic()
        if done is not None or left_s <= 0:
            return done is not None
        await asyncio.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, LOOK_EVERY_S)
