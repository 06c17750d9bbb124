"""`rapid alerts`: what needs attention, and what somebody does about it."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args
from uuid import uuid4
from zoneinfo import ZoneInfo

import typer
from pydantic import ValidationError
from rich.live import Live

from connectors.alert_commands import STANDING, Rules
from connectors.errors import Transient
from connectors.postgres import alerts, feed
from connectors.postgres.alerts import WantedAlerts
from connectors.postgres.pool import Connection, classified
from connectors.postgres.readmodels import newest_policy
from infra import alert_actions, views
from infra.alert_actions import Acted
from infra.alert_rules import alert_rules
from infra.cli.actor import actor
from infra.cli.alert_screen import (
    SHORT_ID,
    View,
    line_of,
    print_alert,
    print_alerts,
    safe_line,
    screen,
    value_of,
)
from infra.cli.durations import duration, moment
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json
from infra.cli.screen import console
from infra.cli.session import database, run
from infra.connect import connection as connection_of
from infra.connect import database_url
from infra.settings import Settings
from schemas.alert import Alert, AlertCommand, AlertEvent, AlertState
from schemas.expected import expectation
from schemas.work_order import ClockName

app = typer.Typer(
    help="Alerts: what needs attention, and what somebody does about it. Without a command: the list.",
    add_completion=False,
)

MOST_ROWS: Final = 10_000
MOST_EVENTS: Final = 10_000
SHOWN: Final = 200
"""Alerts that `watch` reads: more than any screen shows."""
FEED_ROWS: Final = 500
LOOK_EVERY_S: Final = 0.5
_BEGINNING: Final = re.compile(r"[0-9a-f]{4,32}")
_REFERENCE: Final = re.compile(r"WO-[0-9A-HJKMNP-TV-Z]{5}-[0-9A-HJKMNP-TV-Z]{5}")
_STATES: Final[tuple[AlertState, ...]] = get_args(AlertState)

Kind = Literal["acknowledge", "unacknowledge", "snooze", "hand_over"]

OfStates = Annotated[
    str | None,
    typer.Option(
        "--state", help=f"One or several with commas: {', '.join(_STATES)}, or all.", show_default=False
    ),
]
OfLevel = Annotated[
    int | None,
    typer.Option("--level", min=1, max=4, help="This level and those above.", show_default=False),
]
OfDepartment = Annotated[str | None, typer.Option("--department", help="Code or name.", show_default=False)]
OfArea = Annotated[str | None, typer.Option("--area", help="Number or name.", show_default=False)]
OfClock = Annotated[
    Literal[ClockName, "order"] | None,
    typer.Option("--clock", help="Of this promise; `order`: of the order itself.", show_default=False),
]
OfRung = Annotated[str | None, typer.Option("--rung", help="Of this rung of the policy.", show_default=False)]
OfOrder = Annotated[
    str | None, typer.Option("--order", help="Of the order with this reference.", show_default=False)
]
Since = Annotated[
    str | None,
    typer.Option("--since", help="Reached since a date, a time, or so long ago (24h).", show_default=False),
]
Every = Annotated[
    bool,
    typer.Option("--every", help="Every point that was reached, and not only the highest of each promise."),
]
Limit = Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="How many at most.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Its id, or the first characters.")]
Ids = Annotated[
    list[str],
    typer.Argument(
        metavar="ID", help="Ids or their first characters; or an order's reference: all that stand of it."
    ),
]
By = Annotated[
    str | None, typer.Option("--by", help="Who you are: your name is shown to others.", show_default=False)
]
Words = Annotated[str | None, typer.Option("--text", help="What others should know.", show_default=False)]
Wait = Annotated[float, typer.Option("--wait", min=0, max=60, help="Seconds to wait until it is seen done.")]


# ---------------------------------------------------------------- look


class _Filters(NamedTuple):
    """What somebody asks for, as it was typed."""

    state: str | None
    level: int | None
    department: str | None
    area: str | None
    clock: str | None
    rung: str | None
    order: str | None
    since: str | None
    every: bool
    limit: int

    def wanted(self, now: datetime) -> WantedAlerts:
        """Without department and area, whose names the policy knows. Raises typer.BadParameter."""
        return WantedAlerts(
            states=_states(self.state), levels=_levels(self.level), clock=self.clock, rung=self.rung,
            reference=_reference(self.order), since=moment(self.since, now) if self.since else None,
            highest=not (self.every or self.state or self.rung), most_urgent_first=True, limit=self.limit,
        )  # fmt: skip


@app.callback(invoke_without_command=True)
def glance(
    context: typer.Context, *, state: OfStates = None, level: OfLevel = None, department: OfDepartment = None,
    area: OfArea = None, clock: OfClock = None, rung: OfRung = None, order: OfOrder = None, since: Since = None,
    every: Every = False, limit: Limit = 50, as_json: Json = False,
) -> None:  # fmt: skip
    """What needs attention, and what somebody does about it. Without a command: the same as `list`."""
    if context.invoked_subcommand is None:
        _print(_Filters(state, level, department, area, clock, rung, order, since, every, limit), as_json)


@app.command("list")
def list_alerts(
    *, state: OfStates = None, level: OfLevel = None, department: OfDepartment = None, area: OfArea = None,
    clock: OfClock = None, rung: OfRung = None, order: OfOrder = None, since: Since = None, every: Every = False,
    limit: Limit = 50, as_json: Json = False,
) -> None:  # fmt: skip
    """What needs attention, a line for each promise: the highest level first, and of those the longest first."""
    _print(_Filters(state, level, department, area, clock, rung, order, since, every, limit), as_json)


def _print(filters: _Filters, as_json: bool) -> None:
    now = datetime.now(UTC)
    found, zone = run(_list(filters.wanted(now), filters.department, filters.area))
    if as_json:
        print_json([value_of(alert, now) for alert in found])
        return
    print_alerts(found, View(now, zone))
    if len(found) == filters.limit:
        print(f"The most urgent {filters.limit}: say --limit for more.")


@app.command()
def show(alert: Id, as_json: Json = False) -> None:
    """One alert: what, where, how late, who has it, and all that happened to it."""
    now = datetime.now(UTC)
    found, events, zone = run(_show(alert))
    if as_json:
        shown = [event.model_dump(mode="json", exclude={"alert"}) for event in events]
        print_json(value_of(found, now) | {"events": shown})
    else:
        print_alert(found, events, View(now, zone))


@app.command()
def watch(
    *,
    level: OfLevel = None,
    department: OfDepartment = None,
    area: OfArea = None,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="End after so many events.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """What needs attention, as it changes, until Ctrl-C. Into a pipe: one line for each thing that happens."""
    wanted = WantedAlerts(
        states=STANDING, levels=_levels(level), highest=True, most_urgent_first=True, limit=SHOWN
    )
    run(_watch(wanted, department, area, count, as_json))


def _states(text: str | None) -> Sequence[str] | None:
    if text is None:
        return STANDING
    if text == "all":
        return None
    unknown = [one for one in text.split(",") if one not in _STATES]
    if unknown:
        raise typer.BadParameter(f"one or several of {', '.join(_STATES)} with commas between, or all")
    return text.split(",")


def _levels(least: int | None) -> Sequence[int] | None:
    return None if least is None else range(least, 5)


def _reference(text: str | None) -> str | None:
    if text is not None and not _REFERENCE.fullmatch(text.upper()):
        raise typer.BadParameter("an order's reference, such as WO-7K2QD-M04RX")
    return text and text.upper()


async def _list(
    wanted: WantedAlerts, department: str | None, area: str | None
) -> tuple[list[Alert], ZoneInfo]:
    async with database(database_url(Settings())) as connected:
        wanted = await _named(connected, wanted, department, area)
        rows = await alerts.alerts(connected, wanted)
        return [row.alert for row in rows], await _zone(connected)


async def _named(
    connected: Connection, wanted: WantedAlerts, department: str | None, area: str | None
) -> WantedAlerts:
    """With the department and the area, which people call by name or by code."""
    try:
        return wanted._replace(
            area=await views.area_number(connected, area) if area else None,
            department=await views.department_code(connected, department) if department else None,
        )
    except views.UnknownName as unknown:
        raise Oops(str(unknown), ExitCode.NOT_FOUND) from unknown


async def _zone(connected: Connection) -> ZoneInfo:
    policy = await newest_policy(connected)
    return ZoneInfo(policy.city.time_zone if policy else "UTC")


async def _show(name: str) -> tuple[Alert, list[AlertEvent], ZoneInfo]:
    async with database(database_url(Settings())) as connected:
        found = await _one(connected, name)
        events = await alerts.events_of(connected, found.alert_id, MOST_EVENTS)
        return found, events, await _zone(connected)


async def _one(connected: Connection, name: str) -> Alert:
    digits = name.strip().lower().replace("-", "")
    if not _BEGINNING.fullmatch(digits):
        raise Oops(
            f"{safe_line(name[:40])} is no id: give at least its first 4 characters, as `rapid alerts` shows them.",
            ExitCode.INVALID,
        )
    found = await alerts.beginning_with(connected, digits)
    if not found:
        raise Oops(f"There is no alert {name}: see `rapid alerts`.", ExitCode.NOT_FOUND)
    if len(found) > 1:
        raise Oops(f"Several alerts begin with {name}: give more of the id.", ExitCode.NOT_FOUND)
    return found[0]


# ---------------------------------------------------------------- do something


@app.command()
def acknowledge(
    ids: Ids, *, by: By = None, text: Words = None, wait: Wait = 5, as_json: Json = False
) -> None:
    """Say that you look after it: meanwhile only a higher level is told. It comes back when nothing happens."""
    _do("acknowledge", ids, {"by": by, "text": text}, wait, as_json)


@app.command()
def unacknowledge(
    ids: Ids, *, by: By = None, text: Words = None, wait: Wait = 5, as_json: Json = False
) -> None:
    """Take it back, or end a snooze: it is open again, and people are told again."""
    _do("unacknowledge", ids, {"by": by, "text": text}, wait, as_json)


@app.command()
def snooze(
    ids: Ids, *,
    length: Annotated[str, typer.Option("--for", help="How long: 30m, 2h. The policy has the longest.")],
    by: By = None, text: Words = None, wait: Wait = 5, as_json: Json = False,
) -> None:  # fmt: skip
    """Put it off for a while: then people are told again."""
    until = datetime.now(UTC) + duration(length)
    _do("snooze", ids, {"by": by, "text": text, "until": until}, wait, as_json)


@app.command("hand-over")
def hand_over(
    ids: Ids, *,
    to: Annotated[str, typer.Option("--to", help="A person or a role: see `rapid oncall`.")],
    by: By = None, text: Words = None, wait: Wait = 5, as_json: Json = False,
) -> None:  # fmt: skip
    """Give it to a person or a role, who is told: it is open until they acknowledge it."""
    _do("hand_over", ids, {"by": by, "text": text, "to": to}, wait, as_json)


def _do(kind: Kind, ids: Sequence[str], said: dict[str, Any], wait_s: float, as_json: bool) -> None:
    acted, zone = run(_acted(kind, ids, said, wait_s))
    if as_json:
        print_json([_value(one) for one in acted])
    else:
        for one in acted:
            print(_sentence(one, View(datetime.now(UTC), zone)))
    if any(one.outcome == "refused" for one in acted):
        raise typer.Exit(ExitCode.INVALID)


async def _acted(
    kind: Kind, ids: Sequence[str], said: dict[str, Any], wait_s: float
) -> tuple[list[Acted], ZoneInfo]:
    settings = Settings()
    async with database(database_url(settings)) as connected:
        found = await _chosen(connected, ids)
        now = datetime.now(UTC)
        commands = [(_command(kind, alert, said, now), alert) for alert in found]
        policy = await newest_policy(connected)
        rules = alert_rules(policy) if policy else Rules()
        taken, refused = await alert_actions.act(connected, commands, rules, actor())
        try:
            if taken:
                await alert_actions.publish(connected, lambda: connection_of(settings))
        except Transient as error:
            raise Oops(
                "It is written down, but the broker is away: it is done as soon as the API and the broker are back.",
                ExitCode.UNREACHABLE,
            ) from error
        done = await alert_actions.await_done(connected, taken, wait_s)
        return done + refused, ZoneInfo(policy.city.time_zone if policy else "UTC")


async def _chosen(connected: Connection, names: Sequence[str]) -> list[Alert]:
    """Each once, in the order in which they were named."""
    found: dict[Any, Alert] = {}
    for name in names:
        if _REFERENCE.fullmatch(name.strip().upper()):
            chosen = await _of_order(connected, name.strip().upper())
        else:
            chosen = [await _one(connected, name)]
        found |= {alert.alert_id: alert for alert in chosen}
    return list(found.values())


async def _of_order(connected: Connection, reference: str) -> list[Alert]:
    wanted = WantedAlerts(reference=reference, states=STANDING, limit=MOST_ROWS)
    rows = await alerts.alerts(connected, wanted)
    if not rows:
        raise Oops(f"No alert of {reference} needs attention: see `rapid alerts`.", ExitCode.NOT_FOUND)
    return [row.alert for row in rows]


def _command(kind: Kind, alert: Alert, said: dict[str, Any], now: datetime) -> AlertCommand:
    given = said | {"by": said["by"] if said["by"] is not None else actor().removeprefix("cli:")}
    try:
        return AlertCommand(
            order_key=alert.order_key, order_id=alert.order_id, reference=alert.reference,
            alert_id=alert.alert_id, command_id=str(uuid4()), kind=kind, received_at=now, **given,
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        wrong = f"--{first['loc'][0]} cannot be used: expected {expectation(first)}."
        raise Oops(wrong, ExitCode.INVALID) from error


def _value(acted: Acted) -> dict[str, Any]:
    because = acted.objection.sentence if acted.objection else None
    return {
        "alert_id": str(acted.alert.alert_id),
        "reference": acted.alert.reference,
        "outcome": acted.outcome,
        "state": acted.alert.state,
        "until": acted.alert.until.isoformat() if acted.alert.until else None,
        "because": because,
    }


def _sentence(acted: Acted, view: View) -> str:
    alert = acted.alert
    name = safe_line(f"{str(alert.alert_id)[:SHORT_ID]} ({alert.title}, {alert.reference})")
    if acted.objection is not None and acted.objection.field is not None:
        return f"{name}: not done. Expected {acted.objection.sentence}."
    if acted.objection is not None:
        return f"{name}: not done. {acted.objection.sentence}"
    if acted.outcome == "waits":
        return f"{name}: written down; it is done as soon as a worker comes to it. See `rapid status`."
    back = f", and comes back at {view.time(alert.until)}" if alert.until else ""
    has_it = f", handed to {alert.handed_to}" if alert.state == "open" and alert.handed_to else ""
    return f"{name}: {alert.state}{back}{has_it}."


# ---------------------------------------------------------------- watch


async def _watch(
    wanted: WantedAlerts, department: str | None, area: str | None, count: int | None, as_json: bool
) -> None:
    try:
        async with database(database_url(Settings())) as connected:
            wanted = await _named(connected, wanted, department, area)
            zone = await _zone(connected)
            if console().is_terminal and not as_json:
                await _live(connected, wanted, zone, count)
            else:
                await _lines(connected, wanted, zone, count, as_json)
    except Exception as error:
        meaning = classified(error)
        if meaning is error:
            raise
        raise meaning from error


async def _lines(
    connected: Connection, wanted: WantedAlerts, zone: ZoneInfo, count: int | None, as_json: bool
) -> None:
    seen = 0
    async for events in _news(connected, wanted):
        for event in events:
            text = event.model_dump_json() if as_json else line_of(event, View(datetime.now(UTC), zone))
            print(safe_line(text), flush=True)
            seen += 1
            if seen == count:
                return


async def _live(connected: Connection, wanted: WantedAlerts, zone: ZoneInfo, count: int | None) -> None:
    out, last, seen = console(), list[AlertEvent](), 0
    with Live(console=out, screen=True, auto_refresh=False) as live:
        async for events in _news(connected, wanted):
            rows = await alerts.alerts(connected, wanted)
            seen += len(events)
            last = [*last, *events][-SHOWN:]
            view = View(datetime.now(UTC), zone)
            live.update(screen([row.alert for row in rows], last, view, out), refresh=True)
            if count is not None and seen >= count:
                return


async def _news(connected: Connection, wanted: WantedAlerts) -> AsyncIterator[list[AlertEvent]]:
    """What happened since the last look, twice a second; at first, nothing."""
    cursor = await feed.end(connected)
    yield []
    while True:
        rows = await feed.read(connected, cursor, "", FEED_ROWS)
        cursor = rows[-1].cursor if rows else cursor
        told = [row.told.body for row in rows if row.told.kind == "alert" and row.told.body]
        events = [AlertEvent.model_validate_json(body) for body in told]
        yield [event for event in events if _is_wanted(event.alert, wanted)]
        if len(rows) < FEED_ROWS:
            await asyncio.sleep(LOOK_EVERY_S)


def _is_wanted(alert: Alert, wanted: WantedAlerts) -> bool:
    return (
        (wanted.levels is None or alert.level in wanted.levels)
        and wanted.department in (None, alert.department)
        and wanted.area in (None, alert.area)
    )
