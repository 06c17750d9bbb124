"""`rapid sla explain`: why an order's promises are due when they are, and whether its ledger says the same."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple

import typer

from agents.orders.promises import clocks_of
from agents.orders.watch import Held, history_of
from agents.sla.book import Book
from agents.sla.calendar import CalendarError, WorkingCalendar
from agents.sla.clock import breached, consumed, explain
from connectors.postgres import promises as stored
from connectors.postgres import readmodels
from connectors.postgres.policies import policies
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json
from infra.cli.screen import console, safe
from infra.cli.session import database, run
from infra.cli.sla_lines import (
    explanation_as_json,
    headline,
    in_hours,
    lengths_as_json,
    local,
    print_explanation,
)
from infra.connect import database_url
from infra.settings import Settings
from schemas.promise import Failure, Promises
from schemas.sla import Clock, Retargeting, Target
from schemas.work_order import ClockName, WorkOrder

UNKNOWN_POLICY: Final = "its policy is not stored"


class Explained(NamedTuple):
    """An order's promises as stored, and again from its ledger; None: they cannot be computed again."""

    order: WorkOrder
    promises: Promises
    again: Promises | None
    book: Book

    def clock_again(self, name: ClockName) -> Clock | None:
        """The same clock from the ledger."""
        return next((one for one in self.again.clocks if one.name == name), None) if self.again else None

    def agrees(self, clock: Clock) -> bool | None:
        """Whether the ledger says the same of it; None: it cannot be asked."""
        return None if self.again is None else self.clock_again(clock.name) == clock


def explain_order(
    order: Annotated[str, typer.Argument(metavar="ORDER", help="Its reference (WO-…) or its id.")],
    clock: Annotated[
        ClockName | None, typer.Option("--clock", help="This clock only.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """When an order's promises are due and why: what was counted, holds, holidays, re-targets, and the ledger."""
    found = run(_explained(order))
    shown = [one for one in found.promises.clocks if clock in {None, one.name}]
    failed = [one for one in found.promises.failures if clock in {None, one.clock}]
    if clock and not shown and not failed:
        known = ", ".join(one.name for one in found.promises.clocks) or "none"
        raise Oops(
            f"The order {found.order.reference} has no clock {clock} now: it has {known}.", ExitCode.NOT_FOUND
        )
    now = datetime.now(UTC)
    if as_json:
        print_json(_as_json(found, shown, failed, now))
    else:
        _print(found, shown, failed, now)


async def _explained(name: str) -> Explained:
    async with (
        database(database_url(Settings())) as connected,
        connected.transaction(isolation="repeatable_read", readonly=True),
    ):
        order = await readmodels.order(connected, name)
        if order is None:
            raise Oops(f"There is no order {name}: see `rapid orders list`.", ExitCode.NOT_FOUND)
        promises = await stored.promises_of(connected, order.order_id)
        if promises is None:
            raise Oops(
                f"Nothing is promised of the order {order.reference}: it had ended before it could be, or is from "
                "before there were promises.", ExitCode.NOT_FOUND,
            )  # fmt: skip
        return Explained(order, promises, *(await _again(connected, order)))


async def _again(connection: Any, order: WorkOrder) -> tuple[Promises | None, Book]:
    """What the ledger and the promise lines add up to, whatever is stored."""
    known = await policies(connection)
    book = Book(known.values())
    lines = await stored.promise_lines(connection, order.order_id)
    policy = known.get(order.policy_version)
    if policy is None or not lines or any(line.policy_version not in book for line in lines):
        return None, book
    entries = [one for one in await readmodels.ledger(connection, order.order_id) if one.verdict != "refused"]
    stands = clocks_of(order.order_id, history_of(Held(order, entries, lines)), policy, book)
    return stands.promises if stands else None, book


# ---------------------------------------------------------------- for programs


def _as_json(found: Explained, shown: list[Clock], failed: list[Failure], now: datetime) -> dict[str, Any]:
    return {
        "reference": found.order.reference,
        "order_id": str(found.order.order_id),
        "department": found.order.department,
        "priority": found.order.priority,
        "clocks": [_clock_as_json(found, clock, now) for clock in shown],
        "without_clock": [failure.model_dump(mode="json") for failure in failed],
    }


def _clock_as_json(found: Explained, clock: Clock, now: datetime) -> dict[str, Any]:
    again = found.clock_again(clock.name)
    value = {
        "clock": clock.name,
        "cycle": clock.cycle,
        "state": _state(clock, now),
        "started_at": clock.started_at.isoformat(),
        "ended_at": clock.ended_at and clock.ended_at.isoformat(),
        **clock.target.model_dump(mode="json"),
        "retargets": [one.model_dump(mode="json") for one in clock.retargets],
        "past": [one.model_dump(mode="json") for one in clock.past],
        "from_ledger": {
            "agrees": found.agrees(clock),
            "due_at": again.due_at.isoformat() if again and again.due_at else None,
        },
    }
    try:
        calendar = _calendar(found, clock.target)
        why = explain(clock, found.book.calendars)
        worked = consumed(clock, now, found.book.calendars).total_seconds()
    except CalendarError as error:
        return value | {"due_at": clock.due_at and clock.due_at.isoformat(), "error": str(error)}
    return value | lengths_as_json(clock, calendar) | {"consumed_s": worked} | explanation_as_json(why)


def _state(clock: Clock, now: datetime) -> str:
    late = breached(clock, now)
    if clock.result is not None:
        return clock.result
    if clock.due_at is None:
        return "on hold"
    waits = ", on hold" if clock.holds and clock.holds[-1].until is None else ""
    return ("open and late" if late else "open in time") + waits


# ---------------------------------------------------------------- for people


def _print(found: Explained, shown: list[Clock], failed: list[Failure], now: datetime) -> None:
    order = found.order
    place = safe(order.site.address or order.site.key)
    print(
        f"{order.reference}: {order.work} {order.category} at {place}, {order.priority}, {order.department}"
    )
    for clock in shown:
        print()
        _print_clock(found, clock, now)
    for failure in failed:
        print(f"\n{failure.clock}: no clock. {failure.because}")


def _print_clock(found: Explained, clock: Clock, now: datetime) -> None:
    cycle = f", cycle {clock.cycle}" if clock.cycle > 1 else ""
    console().print(f"[bold]{clock.name}{cycle}: {_state(clock, now)}[/]")
    try:
        calendar = _calendar(found, clock.target)
        worked = consumed(clock, now, found.book.calendars)
        why = explain(clock, found.book.calendars)
    except CalendarError as error:
        print(f"Due {clock.due_at}, but what was counted cannot be shown: {error}")
        return
    print(headline(clock, calendar))
    print(
        f"Promised: {clock.target.budget} of {clock.target.calendar} from {local(clock.started_at, calendar)}; "
        f"{in_hours(worked)} of {in_hours(clock.budget)} consumed{_ended(clock, calendar)}"
    )
    print_explanation(why, calendar)
    for change in clock.retargets:
        print(_retarget(change, calendar))
    for past in clock.past:
        due = local(past.due_at, calendar) if past.due_at else "on hold"
        print(
            f"Before, cycle {past.cycle}: {past.result}, ended {local(past.ended_at, calendar)}, due {due}, "
            f"{in_hours(past.consumed)} consumed"
        )
    print(_ledger_says(found, clock, calendar))


def _ended(clock: Clock, calendar: WorkingCalendar) -> str:
    return f", ended {local(clock.ended_at, calendar)}" if clock.ended_at else ""


def _retarget(change: Retargeting, calendar: WorkingCalendar) -> str:
    """`Re-target …: 48h of 24x7 (due …) became 24h of 24x7 (due …)`"""
    old, new = (
        f"{target.budget} of {target.calendar} ({f'due {local(due, calendar)}' if due else 'no due time'})"
        for target, due in ((change.old, change.old_due), (change.new, change.new_due))
    )
    return f"Re-target {local(change.at, calendar)}: {old} became {new}"


def _ledger_says(found: Explained, clock: Clock, calendar: WorkingCalendar) -> str:
    match found.agrees(clock):
        case None:
            return f"From the ledger: it cannot be computed again, {UNKNOWN_POLICY}."
        case True:
            return "From the ledger: the same."
    again = found.clock_again(clock.name)
    if again is None:
        return "From the ledger: it DIFFERS, there is no such clock."
    due = local(again.due_at, calendar) if again.due_at else "no due time"
    if again.due_at == clock.due_at:
        return f"From the ledger: the same due time, but it DIFFERS otherwise ({_differs(clock, again)})."
    return f"From the ledger: it DIFFERS, due {due}."


def _differs(clock: Clock, again: Clock) -> str:
    return ", ".join(name for name in Clock.model_fields if getattr(clock, name) != getattr(again, name))


def _calendar(found: Explained, target: Target) -> WorkingCalendar:
    return found.book.calendars.get(target.policy_version, target.calendar)
