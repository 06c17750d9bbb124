"""`rapid responses`: look at responses, their windows, and what became of them."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

import typer
from rich.panel import Panel
from rich.table import Table

from connectors.postgres import readmodels, response_reads
from connectors.postgres.pool import Connection
from connectors.postgres.response_reads import WantedResponses
from infra import views
from infra.cli.durations import coming
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.screen import console, fields, safe, safe_row, short_time
from infra.cli.session import database, run
from infra.connect import database_url
from infra.settings import Settings
from schemas.incident import Incident
from schemas.response_life import LifeLine, LifeView, LifeWord, Summary, WholeResponse
from schemas.work_order import WorkOrder

app = typer.Typer(
    help="What incidents call for: each response has a zone and a window of time in which it opens orders. Begin with "
    "`rapid responses list`.",
    no_args_is_help=True,
)

MOST_ROWS: Final = 10_000
MOST_LINES: Final = 1_000
SHORT_ID: Final = 8
_BEGINNING: Final = re.compile(r"[0-9a-f]{4,32}")

OfArea = Annotated[
    str | None,
    typer.Option("--area", help="Only those in this community area, by number or name.", show_default=False),
]
OfLife = Annotated[
    LifeWord | None,
    typer.Option(
        "--life",
        help="Only those whose life is so; `open`: not closed yet, and not made safe.",
        show_default=False,
    ),
]
ClosingBefore = Annotated[
    str | None,
    typer.Option(
        "--closing-before",
        help="Only those not closed yet whose window ends before a date, a time, or in so long (7d) from now.",
        show_default=False,
    ),
]
Limit = Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="How many at most, the newest first.")]
Name = Annotated[
    str,
    typer.Argument(
        metavar="RESPONSE", help="Its id or the first characters of it, or the number or id of its incident."
    ),
]


class Found(NamedTuple):
    """Responses, and the incidents that they are of, that they follow, or that follow them."""

    responses: list[WholeResponse]
    incidents: Mapping[UUID, Incident]

    def number(self, incident_id: UUID | None) -> str | None:
        """Of an incident, as people call it; None: of none."""
        if incident_id is None:
            return None
        known = self.incidents.get(incident_id)
        return known.number if known else str(incident_id)


class Shown(NamedTuple):
    """One of them, with the orders that are its own and what has happened in its life."""

    found: Found
    orders: list[WorkOrder]
    lines: list[LifeLine]

    @property
    def response(self) -> WholeResponse:
        """The one."""
        return self.found.responses[0]


@app.command("list")
def list_responses(
    *,
    area: OfArea = None,
    life: OfLife = None,
    closing_before: ClosingBefore = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """The newest first: how long their windows run, what is done and what is not, since when they are safe.

    Next: `rapid responses show RESPONSE` has one with its orders and its life.
    """
    now = datetime.now(UTC)
    until = coming(closing_before, now) if closing_before else None
    found = run(_list(area, WantedResponses(life=life, closing_before=until, limit=limit), now))
    if as_json:
        print_json([_value(found, one) for one in found.responses])
        return
    print_table("Responses", [_row(found, one) for one in found.responses], "There are no such responses.")
    if len(found.responses) == limit:
        print(f"The newest {limit}: say --limit for more.")


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """One response: its window, its orders, what has happened in its life, and what it was closed with.

    Next: `rapid explain` with its incident's number says why, and `rapid orders show` has an order with all that was
    said of it.
    """
    shown = run(_show(name, datetime.now(UTC)))
    if as_json:
        print_json(
            _value(shown.found, shown.response)
            | {"orders": [order.reference for order in shown.orders]}
            | {"lines": [line.model_dump(mode="json") for line in shown.lines]}
        )
    else:
        _print(shown)


def _value(found: Found, one: WholeResponse) -> dict[str, Any]:
    return {
        "incident_number": found.number(one.incident_id),
        "follows_number": found.number(one.follows),
        "follower_numbers": [found.number(each) for each in one.followers],
    } | one.model_dump(mode="json")


async def _list(area: str | None, wanted: WantedResponses, now: datetime) -> Found:
    async with database(database_url(Settings())) as connected:
        try:
            number = await views.area_number(connected, area) if area else None
        except views.UnknownName as unknown:
            raise Oops(str(unknown), ExitCode.NOT_FOUND) from unknown
        listed = await response_reads.responses(connected, wanted._replace(area=number), now)
        return await _with_incidents(connected, listed)


async def _show(name: str, now: datetime) -> Shown:
    async with database(database_url(Settings())) as connected:
        one = await _one(connected, name, now)
        found = await _with_incidents(connected, [one])
        orders = [] if one.follows else await views.orders_of_incident(connected, one.incident_id)
        return Shown(found, orders, list(await response_reads.lines(connected, one.response_id, MOST_LINES)))


async def _one(connected: Connection, name: str, now: datetime) -> WholeResponse:
    incident = await readmodels.incident(connected, name)
    identity = incident.incident_id if incident else readmodels.as_uuid(name)
    identity = identity or await _beginning_with(connected, name)
    found = await response_reads.response(connected, identity, now) if identity else None
    if found is None and incident is not None:
        raise Oops(
            f"The incident {name} calls for no response: see `rapid incidents show {name}`.",
            ExitCode.NOT_FOUND,
        )
    if found is None:
        raise Oops(f"There is no response {name}: see `rapid responses list`.", ExitCode.NOT_FOUND)
    return found


async def _beginning_with(connected: Connection, name: str) -> UUID | None:
    digits = name.strip().lower().replace("-", "")
    found = await response_reads.beginning_with(connected, digits) if _BEGINNING.fullmatch(digits) else []
    if len(found) > 1:
        raise Oops(f"Several responses begin with {name}: give more of the id.", ExitCode.NOT_FOUND)
    return found[0] if found else None


async def _with_incidents(connected: Connection, responses: list[WholeResponse]) -> Found:
    ids = {one for each in responses for one in (each.incident_id, each.follows, *each.followers) if one}
    return Found(responses, await readmodels.incidents_by_id(connected, ids))


def _row(found: Found, one: WholeResponse) -> dict[str, Any]:
    life = one.life
    return safe_row({
        "response": str(one.response_id)[:SHORT_ID],
        "incident": found.number(one.incident_id),
        "life": _life(found, one),
        "opened": _short(one.opens_at),
        "ends": _short(life.closes_at if life else one.ends_at),
        "days left": life.days_left if life else None,
        "kind": _spaced(one.kind),
        "area": one.area,
        "priority": one.priority,
        "done": life.orders_done if life else None,
        "open": life.orders_open if life else None,
        "safe since": _short(life.safe_since) if life else None,
        "closed": _short(life.closed_at) if life else None,
    })  # fmt: skip


def _life(found: Found, one: WholeResponse) -> str:
    """How its life stands. Between the end of its window and its closing neither `open` nor `closed` says it."""
    if one.follows:
        return f"follows {found.number(one.follows)}"
    if one.life is None:
        return "not looked at yet"
    word = _spaced(one.life.state)
    if one.life.to_close_at is None:
        return word
    safe_before = f"{word}, " if one.life.state == "made_safe" else ""
    return f"{safe_before}window over, closes {_short(one.life.to_close_at)}"


def _print(shown: Shown) -> None:
    one, out, number = shown.response, console(), shown.found.number(shown.response.incident_id)
    out.print(Panel(_facts(shown.found, one), title=f"Response {one.response_id}", title_align="left"))
    if one.life is not None and one.life.summary is not None:
        out.print(Panel(_summary(one.life.summary), title="As it was closed", title_align="left"))
        _print_counts(one.life.summary)
    if one.follows:
        leader = safe(shown.found.number(one.follows))
        out.print(f"It follows {leader} and has no orders of its own: see rapid responses show {leader}")
    else:
        print_table("Orders", [_order(order) for order in shown.orders], "It has opened no order.")
    rows = [
        safe_row({
            "happened": _short(line.at), "handled": _short(line.handled_at), "what": _spaced(line.kind),
            "because": line.because,
        })
        for line in shown.lines
    ]  # fmt: skip
    print_table("Its life", rows, "" if one.follows else "Nobody has looked at it yet.")
    out.print(f"Why, step by step: rapid explain {safe(number)}")


def _order(order: WorkOrder) -> dict[str, Any]:
    return safe_row({
        "reference": order.reference, "state": _spaced(order.state), "priority": order.priority, "work": order.work,
        "category": order.category, "address": order.site.address or order.site.key,
        "department": order.department,
    })  # fmt: skip


def _facts(found: Found, one: WholeResponse) -> Table:
    life = one.life
    return fields({
        "incident": found.number(one.incident_id),
        "life": _life(found, one),
        "also told of by": ", ".join(filter(None, map(found.number, one.followers))),
        "kind": f"{_spaced(one.kind)}, {one.tier} area, priority {one.priority}",
        "window": f"{_short(one.opens_at)} to {_short(life.closes_at if life else one.ends_at)}",
        "days left": life.days_left if life else None,
        "orders": _orders(life) if life and not one.follows else None,
        "safe since": _short(life.safe_since) if life else None,
        "closed": f"{_short(life.closed_at)}, {_spaced(life.rule)}" if life and life.closed_at else None,
    })  # fmt: skip


def _orders(life: LifeView) -> str:
    return f"{life.orders_done} done, {life.orders_open} open, {life.orders_cancelled} cancelled"


def _summary(found: Summary) -> Table:
    fixed_at, days = _short(found.last_fixed_at), found.days_to_last_fix
    return fields({
        "as of": _short(found.as_of),
        "orders": f"{found.orders}; {found.fixed} fixed, {found.done - found.fixed} otherwise done",
        "to be verified": found.to_verify or None,
        "open": f"{found.open}; {found.held} on hold, {found.late} late" if found.open else None,
        "cancelled": found.cancelled or None,
        "last fix": f"{fixed_at}, {days:g} days after the incident" if days is not None else None,
    })  # fmt: skip


def _print_counts(found: Summary) -> None:
    counted = [safe_row({**one.model_dump(), "standing": _spaced(one.standing)}) for one in found.by]
    print_table("Orders by then", counted, "It had asked for nothing.")
    left = [
        safe_row({
            "reference": one.reference, "category": one.category, "work": one.work, "with": one.department,
            "state": _spaced(one.state), "held for": one.hold_reason, "late": "yes" if one.late else None,
        })
        for one in found.left_open
    ]  # fmt: skip
    if left:
        print_table("What stayed open, and with whom", left, "")


def _spaced(code: str | None) -> str:
    return safe((code or "").replace("_", " "))


def _short(at: datetime | None) -> str | None:
    return short_time(at.astimezone(UTC).isoformat()) if at else None
