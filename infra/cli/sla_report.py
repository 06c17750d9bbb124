"""`rapid sla report`: what was promised and what was kept. For ourselves: small counts are not hidden here."""

import csv
import sys
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from agents.sla.calendar import Calendars
from agents.sla.report import (
    FEW,
    Counting,
    Departure,
    Grouping,
    Interval,
    Period,
    Promised,
    Report,
    Tally,
    Waiting,
)
from connectors.postgres import promises as stored
from connectors.postgres.policies import policies
from connectors.postgres.readmodels import newest_policy
from infra.cli.durations import moment
from infra.cli.output import Json, print_json, print_table
from infra.cli.screen import safe_row
from infra.cli.session import database, run
from infra.cli.sla_lines import in_hours
from infra.connect import database_url
from infra.settings import Settings
from schemas.policy import Policy
from schemas.promise import Promises
from schemas.work_order import ClockName

COUNTS: Final = ("kept", "late", "open_late", "open_in_time", "on_hold", "cancelled", "no_clock")
MOST_LISTED: Final = 20
"""Promises without a clock in the table; --json has all."""
EVERYTHING: Final = "all"
NOWHERE: Final = "none"


def report(
    *,
    by: Annotated[Grouping, typer.Option("--by", help="What to count by.")] = "department",
    since: Annotated[
        str | None,
        typer.Option("--since", help="Promises that began then or later: 2026-07-01, or 90d.", show_default=False),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="And before this moment.", show_default=False)
    ] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: a line for each group and clock.")] = False,
) -> None:  # fmt: skip
    """What was promised and what was kept: counts, the share kept, and where it may lie (95 %)."""
    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv")
    now = datetime.now(UTC)
    period = Period(now, moment(since, now) if since else None, moment(until, now) if until else None)
    if period.since and period.until and period.until <= period.since:
        raise typer.BadParameter("expected --until after --since")
    found, names = run(_counted(by, period))
    if as_json:
        print_json(_as_json(found, names, period))
    elif as_csv:
        _print_csv(found, names)
    else:
        _print(found, names, period)


async def _counted(by: Grouping, period: Period) -> tuple[Report, dict[str, str]]:
    """The report, and what its groups are called."""
    async with (
        database(database_url(Settings())) as connected,
        connected.transaction(isolation="repeatable_read", readonly=True),
    ):
        found = await counted(connected, by, period)
        newest = await newest_policy(connected)
    groups = {group for group, _ in found.tallies}
    return found, {group: _name(by, group, newest) for group in groups if newest}


def _name(by: Grouping, group: str, policy: Policy) -> str:
    """What people call a group; empty: no name is known."""
    match by:
        case "area":
            known: Any = policy.area(int(group)) if group else None
        case "department":
            known = policy.department(group)
        case "category":
            known = policy.category(group)
        case _:
            known = None
    return known.name if known else ""


async def counted(connection: Any, by: Grouping, period: Period) -> Report:
    """What is stored, counted. Needs a transaction, whose moment it is of."""
    known = await policies(connection)
    calendars = Calendars({version: policy.sla.calendars for version, policy in known.items()})
    left = await stored.departures(connection) if by == "department" else {}
    counting = Counting(Report(by), period, calendars)
    async for order in _orders(connection):
        counting.add(order, [Departure(*one) for one in left.get(order.order_id, ())])
    return counting.found


async def _orders(connection: Any) -> AsyncIterator[Promised]:
    async for page in stored.promised(connection):
        for row in page:
            body = Promises.model_validate_json(row.body) if row.body else None
            yield Promised(*row[:-1], body)


# ---------------------------------------------------------------- for programs


def _as_json(found: Report, names: dict[str, str], period: Period) -> dict[str, Any]:
    return {
        "by": found.by,
        "now": period.now.isoformat(),
        "since": period.since and period.since.isoformat(),
        "until": period.until and period.until.isoformat(),
        "orders": found.orders,
        "orders_without_promise": found.unpromised,
        "rows": [
            {"group": group or None, "name": names.get(group) or None, "clock": clock} | _figures(tally)
            for (group, clock), tally in found.rows()
        ],
        "totals": [{"clock": clock} | _figures(tally) for clock, tally in found.totals()],
        "holds": [
            {"group": group or None, "clock": clock, "reason": reason} | _waited(waiting)
            for (group, clock, reason), waiting in sorted(found.waiting.items())
        ],
        "without_clock": [one._asdict() for one in found.no_clock],
    }


def _figures(tally: Tally) -> dict[str, Any]:
    """The share is left out of few, and the interval of none."""
    interval = tally.interval
    return {
        **{name: getattr(tally, name) for name in COUNTS},
        "judged": tally.judged,
        "share_kept": _rounded(tally.share),
        "share_low": _rounded(interval and interval.low),
        "share_high": _rounded(interval and interval.high),
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _waited(waiting: Waiting) -> dict[str, Any]:
    return {
        "holds": waiting.holds,
        "still_on_hold": waiting.going_on,
        "on_hold_working_s": waiting.working.total_seconds(),
        "on_hold_elapsed_s": waiting.elapsed.total_seconds(),
        "on_hold_uncounted": waiting.uncounted,
    }


def _print_csv(found: Report, names: dict[str, str]) -> None:
    """A line for each group and clock, with its times on hold for all reasons together."""
    rows = [
        {found.by: group or NOWHERE, "name": names.get(group, ""), "clock": clock}
        | _figures(tally)
        | _waited(_together(waiting for key, waiting in found.waiting.items() if key[:2] == (group, clock)))
        for (group, clock), tally in found.rows()
    ]
    columns = [found.by, "name", "clock", *_figures(Tally()), *_waited(Waiting())]
    writer = csv.DictWriter(sys.stdout, list(dict.fromkeys(columns)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if found.no_clock or found.unpromised:
        typer.echo(_not_in_the_rows(found), err=True)


def _together(waits: Iterable[Waiting]) -> Waiting:
    total = Waiting()
    for one in waits:
        total.holds += one.holds
        total.going_on += one.going_on
        total.working += one.working
        total.elapsed += one.elapsed
        total.uncounted += one.uncounted
    return total


# ---------------------------------------------------------------- for people


def _print(found: Report, names: dict[str, str], period: Period) -> None:
    rows = [_row(found, _label(found, names, group), clock, tally) for (group, clock), tally in found.rows()]
    if found.by != "clock":
        rows += [_row(found, EVERYTHING, clock, tally) for clock, tally in found.totals()]
    title = f"Promises by {found.by}{_of_period(period)}"
    print_table(title, rows, "Nothing was promised in this time.")
    if rows:
        print(
            "The share kept is kept / (kept + late + open and late). Of fewer than "
            f"{FEW} only the interval is told (95 %, Wilson)."
        )
    waits = [_wait_row(found, names, key, waiting) for key, waiting in sorted(found.waiting.items())]
    if waits:
        print_table("On hold", waits, "")
    _print_without_clock(found)


def _row(found: Report, group: str, clock: ClockName, tally: Tally) -> dict[str, Any]:
    shown = {found.by: group, "clock": clock} if found.by != "clock" else {"clock": clock}
    return safe_row(shown | {
        "kept": tally.kept,
        "late": tally.late,
        "open and late": tally.open_late,
        "open in time": tally.open_in_time,
        "on hold": tally.on_hold,
        "cancelled": tally.cancelled,
        "no clock": tally.no_clock,
        "n": tally.judged,
        "share kept": _percent(tally.share) if tally.share is not None else _too_few(tally),
        "95 %": _between(tally.interval),
    })  # fmt: skip


def _label(found: Report, names: dict[str, str], group: str) -> str:
    """Areas by name; the names of departments would fill the table."""
    return (names.get(group) if found.by == "area" else None) or group or NOWHERE


def _too_few(tally: Tally) -> str:
    return "too few" if tally.judged else ""


def _percent(share: float) -> str:
    """Never 100 % of what is not all, nor 0 % of what is not none."""
    text = f"{share * 100:.1f}"
    if text == "100.0" and share < 1:
        return "> 99.9 %"
    return "< 0.1 %" if text == "0.0" and share > 0 else f"{text} %"


def _between(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.low * 100:.1f}–{interval.high * 100:.1f} %"


def _wait_row(
    found: Report, names: dict[str, str], key: tuple[str, ClockName, str], waiting: Waiting
) -> dict[str, Any]:
    group, clock, reason = key
    shown = {found.by: _label(found, names, group)} if found.by != "clock" else {}
    return safe_row(shown | {
        "clock": clock,
        "reason": reason,
        "holds": waiting.holds,
        "still on hold": waiting.going_on,
        "working time": in_hours(waiting.working) + (f" ({waiting.uncounted} unknown)" if waiting.uncounted else ""),
        "elapsed": in_hours(waiting.elapsed),
    })  # fmt: skip


def _print_without_clock(found: Report) -> None:
    rows = [safe_row(one._asdict()) for one in found.no_clock[:MOST_LISTED]]
    if rows:
        print_table("Promised, but without a clock", rows, "")
    if len(found.no_clock) > MOST_LISTED:
        print(f"{len(found.no_clock) - MOST_LISTED} more: see --json.")
    if found.no_clock or found.unpromised:
        print(_not_in_the_rows(found))


def _not_in_the_rows(found: Report) -> str:
    unpromised, broken = found.unpromised, len(found.no_clock)
    text = f"{unpromised} of {found.orders} orders {'has' if unpromised == 1 else 'have'} no promise"
    if not broken:
        return f"{text}: they had ended before, or are from before there were promises."
    return (
        f"{text}; {broken} {'promise has' if broken == 1 else 'promises have'} no due time: mend the calendar, see "
        "`rapid sla report --json`."
    )


def _of_period(period: Period) -> str:
    since = f" from {period.since.astimezone(UTC):%Y-%m-%d %H:%MZ}" if period.since else ""
    until = f" until {period.until.astimezone(UTC):%Y-%m-%d %H:%MZ}" if period.until else ""
    return f", begun{since}{until}" if since or until else ""
