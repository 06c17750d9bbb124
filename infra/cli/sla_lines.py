"""How a due time and what was counted for it are printed: for a question (`sla due`), for an order (`sla explain`)."""

from datetime import datetime, timedelta
from typing import Any, Final

from agents.sla.calendar import WorkingCalendar
from infra.cli.output import print_table
from schemas.sla import Clock, Counted, Explanation

MOST_ROWS: Final = 40
"""Intervals of a table; --json has all."""


def headline(clock: Clock, calendar: WorkingCalendar) -> str:
    """When a clock is due, in its own zone and in UTC."""
    if clock.due_at is None:
        return f"On hold, with {in_hours(clock.budget - clock.consumed)} of working time left: no due time."
    return f"Due {local(clock.due_at, calendar)} ({clock.due_at:%Y-%m-%d %H:%M:%SZ})"


def print_explanation(why: Explanation, calendar: WorkingCalendar, *, with_reasons: bool = True) -> None:
    """The intervals that were counted, holds, holidays and policy."""
    rows = [_counted_row(one, calendar) for one in why.counted]
    if len(rows) > MOST_ROWS:
        left_out = len(rows) - MOST_ROWS
        between = dict.fromkeys(rows[0], "…") | {"day": f"{left_out} more"}
        rows = [*rows[: MOST_ROWS // 2], between, *rows[-MOST_ROWS // 2 :]]
    print_table("Counted", rows, "Nothing was counted.")
    for hold in why.holds:
        until = local(hold.until, calendar) if hold.until else "now"
        reason = f" ({hold.reason})" if with_reasons else ""
        print(f"On hold: {local(hold.since, calendar)} to {until}{reason}")
    for holiday in why.holidays:
        print(f"Holiday: {holiday.on} {holiday.name} ({holiday.source})")
    print(f"Policy: {', '.join(why.policy_versions)}")


def lengths_as_json(clock: Clock, calendar: WorkingCalendar) -> dict[str, Any]:
    """Budget, due time, and on hold what is left."""
    return {
        "budget_s": clock.budget.total_seconds(),
        "due_at": clock.due_at and clock.due_at.isoformat(),
        "due_local": clock.due_at and clock.due_at.astimezone(calendar.zone).isoformat(),
        "left_s": None if clock.due_at else (clock.budget - clock.consumed).total_seconds(),
    }


def explanation_as_json(why: Explanation) -> dict[str, Any]:
    """What was counted, holds and holidays."""
    return {
        "counted": [
            {
                "since": one.since.isoformat(),
                "until": one.until.isoformat(),
                "seconds": (one.until - one.since).total_seconds(),
            }
            for one in why.counted
        ],
        "holds": [
            {
                "since": one.since.isoformat(),
                "until": one.until and one.until.isoformat(),
                "reason": one.reason,
            }
            for one in why.holds
        ],
        "holidays": [holiday.model_dump(mode="json") for holiday in why.holidays],
    }


def local(at: datetime, calendar: WorkingCalendar) -> str:
    """`Tue 2026-07-07 09:00:00 CDT`"""
    return f"{at.astimezone(calendar.zone):%a %Y-%m-%d %H:%M:%S %Z}"


def in_hours(length: timedelta) -> str:
    """`12:30:00` in hours, whatever their number."""
    seconds = int(length.total_seconds())
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _counted_row(one: Counted, calendar: WorkingCalendar) -> dict[str, Any]:
    since, until = one.since.astimezone(calendar.zone), one.until.astimezone(calendar.zone)
    end = f"{until:%H:%M:%S}" if until.date() == since.date() else f"{until:%Y-%m-%d %H:%M:%S}"
    return {
        "day": f"{since:%a %Y-%m-%d}",
        "from": f"{since:%H:%M:%S}",
        "until": end,
        "zone": until.tzname(),
        "working time": in_hours(one.until - one.since),
        "consumed": in_hours(one.consumed),
    }
