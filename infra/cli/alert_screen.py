"""How alerts are drawn: a table, one with its history, and a screen that lives."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from infra.cli.output import UNBOUNDED_WIDTH
from infra.cli.screen import console, fields, safe
from schemas.alert import Alert, AlertEvent

ALL: Final = ("id", "level", "what", "where", "order", "promise", "due", "late", "who has it")
FEWER: Final = ("id", "level", "what", "where", "order", "late", "who has it")
BRIEF: Final = ("id", "level", "what", "where", "late")
"""The columns for terminals that are too narrow for all."""
LEAST: Final = 11
"""Characters of a column whose words may be broken into lines."""
WHOLE: Final = ("id", "level", "order", "due", "late")
"""Columns whose values would be of no use when they are broken."""
SHORT_ID: Final = 8
LAST_EVENTS: Final = 8
NOTHING: Final = "Nothing needs attention."
_STYLES: Final = {1: "", 2: "yellow", 3: "red", 4: "bold red"}
_QUIET_STYLE: Final = "dim"


class View(NamedTuple):
    """From when and from where somebody looks."""

    now: datetime
    zone: ZoneInfo

    def time(self, at: datetime | None) -> str | None:
        """`07-04 22:40` on the clocks of the zone."""
        return None if at is None else f"{at.astimezone(self.zone):%m-%d %H:%M}"


def value_of(alert: Alert, now: datetime) -> dict[str, Any]:
    """The alert for programs, with how late its promise is; less than nothing: it is still to come."""
    overdue = None if alert.due_at is None else round((now - alert.due_at).total_seconds())
    return alert.model_dump(mode="json") | {"overdue_s": overdue}


def row_of(alert: Alert, view: View) -> dict[str, str]:
    """The alert for a person, column by column."""
    return {
        "id": str(alert.alert_id)[:SHORT_ID],
        "level": str(alert.level),
        "what": alert.title,
        "where": alert.address or (f"area {alert.area}" if alert.area else ""),
        "order": alert.reference,
        "promise": f"{alert.clock.replace('_', ' ')}, {alert.rung}",
        "due": view.time(alert.due_at) or "",
        "late": lateness(alert, view.now),
        "who has it": who_has(alert, view),
    }


def lateness(alert: Alert, now: datetime) -> str:
    """How late the promise is, or in what time it is due; elapsed time. Of what is over it would only grow."""
    if alert.state in ("over", "withdrawn"):
        return ""
    if alert.due_at is None:
        return "no due time"
    late = now - alert.due_at
    return f"{length(late)} late" if late > timedelta() else f"in {length(-late)}"


def who_has(alert: Alert, view: View) -> str:
    """Who looks after it, as far as is known."""
    if alert.state == "acknowledged":
        return alert.acknowledged_by or "somebody"
    if alert.state == "snoozed":
        return f"snoozed until {view.time(alert.until)}"
    if alert.state != "open":
        return alert.state
    return f"handed to {alert.handed_to}" if alert.handed_to else f"nobody yet ({alert.department})"


def length(time: timedelta) -> str:
    """`2 d 3 h`, `3 h 20 min`, `40 min`: the two largest units."""
    minutes = int(time.total_seconds() // 60)
    days, hours = divmod(minutes // 60, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def table(alerts: Sequence[Alert], view: View, width: int | None = None) -> Table:
    """All columns, or as many as fit into so many characters."""
    for columns in (ALL, FEWER):
        made = _table(alerts, view, columns)
        if width is None or _least_width(made) <= width:
            return made
    return _table(alerts, view, BRIEF)


def _table(alerts: Sequence[Alert], view: View, columns: Sequence[str]) -> Table:
    title = f"Alerts, {view.now.astimezone(view.zone):%Y-%m-%d %H:%M} in {view.zone.key}"
    made = Table(title=title, title_justify="left", header_style="bold")
    rows = [row_of(alert, view) for alert in alerts]
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column in WHOLE, min_width=_least(column))
    for alert, row in zip(alerts, rows, strict=True):
        style = _STYLES[alert.level] if alert.state == "open" else _QUIET_STYLE
        made.add_row(*(safe(row[column]) for column in columns), style=style)
    return made


def _least(column: str) -> int | None:
    return None if column in WHOLE else LEAST


def _least_width(made: Table) -> int:
    wide = Console(width=UNBOUNDED_WIDTH)
    return wide.measure(made).minimum


def print_alerts(alerts: Sequence[Alert], view: View) -> None:
    """The alerts as a table; a sentence when there are none."""
    out = console()
    out.print(table(alerts, view, out.width) if alerts else NOTHING)


def print_alert(alert: Alert, events: Sequence[AlertEvent], view: View) -> None:
    """Everything of one alert, and its history."""
    out = console()
    title = f"Alert {str(alert.alert_id)[:SHORT_ID]}, level {alert.level}"
    out.print(Panel(_facts(alert, view), title=title, title_align="left"))
    history = Table("when", "what", "who", "why", title="What happened", title_justify="left")
    for event in events:
        what = event.kind.replace("_", " ")
        history.add_row(*map(safe, (view.time(event.at), what, event.by, event.because)))
    out.print(history)
    if alert.state == "open":
        out.print(f"You look after it? rapid alerts acknowledge {str(alert.alert_id)[:SHORT_ID]} --by NAME")


def _facts(alert: Alert, view: View) -> Table:
    row = row_of(alert, view)
    return fields({
        "what": row["what"], "where": row["where"], "order": row["order"],
        "priority": alert.priority, "department": alert.department, "promise": row["promise"],
        "why": alert.because, "due": row["due"], "late": row["late"], "reached": view.time(alert.at),
        "told late": "yes: after downtime" if alert.late else None, "state": alert.state,
        "who has it": row["who has it"],
        "comes back": view.time(alert.until), "simulated": "yes" if alert.simulated else None,
        "id": alert.alert_id,
    })  # fmt: skip


def line_of(event: AlertEvent, view: View) -> str:
    """One event on one line."""
    alert = event.alert
    by = f" by {event.by}" if event.by else ""
    where = f" at {alert.address}" if alert.address else ""
    return (
        f"{view.time(event.at)}  {str(alert.alert_id)[:SHORT_ID]}  level {alert.level}  "
        f"{event.kind.replace('_', ' ')}{by}: {alert.title}{where}, {alert.reference}. {event.because}"
    )


def screen(alerts: Sequence[Alert], events: Sequence[AlertEvent], view: View, out: Console) -> RenderableType:
    """What needs attention, as much as there is room for, and what happened last."""
    room = max(3, out.height - LAST_EVENTS - 8)
    if alerts and out.measure(table(alerts[:room], view, out.width)).maximum > out.width:
        room = max(2, room // 2)  # their words are broken into lines
    shown = alerts[:room]
    more = f"… and {len(alerts) - room} more." if len(alerts) > room else ""
    lines = [
        Text(safe_line(line_of(event, view)), overflow="ellipsis", no_wrap=True)
        for event in events[-LAST_EVENTS:]
    ]
    head = table(shown, view, out.width) if shown else Text(NOTHING)
    return Group(head, Text(more), *lines, Text("Ctrl-C ends this.", style="dim"))


def safe_line(text: str) -> str:
    """One line of text that cannot command a terminal."""
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)
