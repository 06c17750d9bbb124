"""`rapid sla`: when something is due, the calendars that say so, and what was kept. `due` and `calendars` need no
running system."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from agents.sla.calendar import CalendarError, Calendars, WorkingCalendar
from agents.sla.clock import Rules, explain, fold
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.sla_explain import explain_order
from infra.cli.sla_fetch import PolicyPath, fetch
from infra.cli.sla_lines import explanation_as_json, headline, lengths_as_json, print_explanation
from infra.cli.sla_report import report
from infra.policy.feeds import feed_warnings
from infra.policy.load import SHIPPED, PolicyErrors, load_policy
from infra.settings import Settings
from schemas.policy import Policy
from schemas.sla import (
    WEEKDAYS,
    Boundary,
    Calendar,
    Clock,
    ClockEvent,
    Explanation,
    Held,
    Resumed,
    Started,
    Target,
    length_of,
)

app = typer.Typer(
    help="Promises: due times explained, what was kept, and calendars.",
    no_args_is_help=True,
    add_completion=False,
)
app.command("explain")(explain_order)
app.command("report")(report)
app.command("fetch")(fetch)

HOLD: Final = "hold"
"""Here a hold needs no reason of the policy: who asks says that the clock stood."""
AHEAD: Final = timedelta(days=366)


class Asked(NamedTuple):
    """A question for a due time."""

    calendar: str
    start: datetime
    budget: str
    holds: list[tuple[datetime, datetime | None]]
    boundary: Boundary


@app.command()
def due(
    *,
    calendar: Annotated[str, typer.Option("--calendar", help="Its code: see `rapid sla calendars`.")],
    budget: Annotated[str, typer.Option("--budget", help="Working time: 90m, 4h; or working days: 5d, 5wd.")],
    since: Annotated[
        str | None,
        typer.Option(
            "--from", help="2026-07-02T15:00, of the calendar's zone unless it names one. Unset: now.",
            show_default=False,
        ),
    ] = None,
    hold: Annotated[
        list[str] | None,
        typer.Option("--hold", help="A time on hold, FROM/UNTIL; without UNTIL it still is.", show_default=False),
    ] = None,
    boundary: Annotated[
        Boundary | None,
        typer.Option("--boundary", help="On closing time exactly; the policy's if not given.", show_default=False),
    ] = None,
    policy: PolicyPath = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """When a budget is due, with every working interval that was counted."""
    loaded = _policy(policy)
    calendars = Calendars({loaded.version: loaded.sla.calendars})
    try:
        working = calendars.get(loaded.version, calendar)
    except CalendarError as error:
        raise Oops(str(error), ExitCode.NOT_FOUND) from error
    asked = Asked(
        calendar, _moment(since, working) if since else _this_second(), _budget(budget), _holds(hold or [], working),
        boundary or loaded.sla.boundary,
    )  # fmt: skip
    _answer(_clock(asked, loaded.version, calendars), asked, working, calendars, as_json)


@app.command("calendars")
def list_calendars(policy: PolicyPath = None, as_json: Json = False) -> None:
    """The calendars: hours, the next holidays, and until when holidays are known."""
    folder = policy or Settings().policy or SHIPPED
    today = datetime.now(UTC).date()
    shown = [_shown(calendar, today) for calendar in _policy(folder).sla.calendars]
    if as_json:
        print_json(shown)
    else:
        print_table("Calendars", [_row(one) for one in shown], "The policy has no calendars.")
    for warning in [*(one["warning"] for one in shown if one["warning"]), *feed_warnings(folder)]:
        typer.echo(f"Warning: {warning}", err=as_json)


def _policy(path: Path | None) -> Policy:
    try:
        return load_policy(path or Settings().policy or SHIPPED)
    except PolicyErrors as errors:
        raise Oops(errors.sentence, ExitCode.INVALID) from errors


# ---------------------------------------------------------------- what is asked


def _this_second() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _moment(text: str, calendar: WorkingCalendar) -> datetime:
    try:
        at = datetime.fromisoformat(text.strip())
        return (at if at.tzinfo else at.replace(tzinfo=calendar.zone)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"expected a time such as 2026-07-02T15:00 or 2026-07-02T20:00Z, found {text!r}"
        ) from error


def _budget(text: str) -> str:
    try:
        length_of(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}, such as 90m, 4h or 5wd, found {text!r}") from error
    return text


def _holds(texts: list[str], calendar: WorkingCalendar) -> list[tuple[datetime, datetime | None]]:
    """In order. Only the last can still go on, and none begins within another."""
    holds = sorted((_hold(text, calendar) for text in texts), key=lambda hold: hold[0])
    for (_, until), (since, _) in pairwise(holds):
        if until is None or since < until:
            raise typer.BadParameter(f"expected holds that lie apart; one begins within another, at {since}")
    return holds


def _hold(text: str, calendar: WorkingCalendar) -> tuple[datetime, datetime | None]:
    since_text, slash, until_text = text.partition("/")
    since = _moment(since_text, calendar)
    until = _moment(until_text, calendar) if until_text else None
    if not slash or (until is not None and until < since):
        raise typer.BadParameter(f"expected FROM/UNTIL with UNTIL after FROM, found {text!r}")
    return since, until


def _clock(asked: Asked, version: str, calendars: Calendars) -> Clock:
    target = Target(
        budget=asked.budget, calendar=asked.calendar, boundary=asked.boundary, policy_version=version
    )
    events: list[ClockEvent] = [Started(at=asked.start, target=target)]
    for since, until in asked.holds:
        events.append(Held(at=since, reason=HOLD))
        if until is not None:
            events.append(Resumed(at=until))
    try:
        clock = fold("resolve", events, calendars, Rules(frozenset({HOLD}), timedelta()))
    except CalendarError as error:
        raise Oops(str(error), ExitCode.INVALID) from error
    assert clock is not None
    return clock


# ---------------------------------------------------------------- what is answered


def _answer(
    clock: Clock, asked: Asked, calendar: WorkingCalendar, calendars: Calendars, as_json: bool
) -> None:
    why = explain(clock, calendars)
    if as_json:
        print_json(_as_json(clock, why, asked, calendar))
        return
    print(headline(clock, calendar))
    print_explanation(why, calendar, with_reasons=False)


def _as_json(clock: Clock, why: Explanation, asked: Asked, calendar: WorkingCalendar) -> dict[str, Any]:
    explained = explanation_as_json(why)
    return {
        "calendar": asked.calendar,
        "time_zone": calendar.calendar.time_zone,
        "from": asked.start.isoformat(),
        "budget": asked.budget,
        "boundary": asked.boundary,
        **lengths_as_json(clock, calendar),
        **explained,
        "holds": [{name: hold[name] for name in ("since", "until")} for hold in explained["holds"]],
        "policy_version": why.policy_versions[0],
    }


# ---------------------------------------------------------------- calendars


def _shown(calendar: Calendar, today: date) -> dict[str, Any]:
    working = WorkingCalendar(calendar)
    ahead = [day for day in calendar.holidays if today <= day.on <= today + AHEAD]
    last = working.expires_on
    return {
        "code": calendar.code,
        "name": calendar.name,
        "time_zone": calendar.time_zone,
        "hours": {day: list(calendar.hours[day]) for day in WEEKDAYS if calendar.hours.get(day)},
        "exceptions": [one.model_dump(mode="json") for one in calendar.exceptions if one.on >= today],
        "holidays": [day.model_dump(mode="json") for day in ahead],
        "expires_on": last and last.isoformat(),
        "days_left": None if last is None else (last - today).days,
        "warning": working.expiry_warning(today),
        "source": calendar.source,
    }


def _row(shown: dict[str, Any]) -> dict[str, Any]:
    return {
        "calendar": shown["code"],
        "name": shown["name"],
        "zone": shown["time_zone"],
        "hours": _hours(shown["hours"]),
        "next holidays": "\n".join(f"{day['on']} {day['name']}" for day in shown["holidays"][:3]) or "none",
        "known until": shown["expires_on"] or "no end",
    }


def _hours(hours: dict[str, list[str]]) -> str:
    """`mon-fri 08:30-16:30`: days of the same hours that follow one another as one."""
    groups: list[tuple[list[str], list[str]]] = []
    for day in WEEKDAYS:
        spans = hours.get(day, [])
        if groups and groups[-1][1] == spans:
            groups[-1][0].append(day)
        else:
            groups.append(([day], spans))
    return "\n".join(
        f"{days[0]}{f'-{days[-1]}' if len(days) > 1 else ''} {', '.join(spans)}"
        for days, spans in groups
        if spans
    )
