"""`rapid responses`: look at responses, their windows, and what became of them."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from rich.panel import Panel
from rich.table import Table

from connectors.postgres import readmodels, response_reads
from connectors.postgres.response_reads import WantedResponses
from infra import views
from infra.cli.durations import coming
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.screen import console, fields, safe, safe_row, short_time
from infra.cli.session import database, run
from infra.connect import database_url
from infra.settings import Settings
from schemas.response_life import LifeLine, LifeView, LifeWord, Summary, WholeResponse

app = typer.Typer(help="Responses: their windows, and what became of them.", no_args_is_help=True)

MOST_ROWS: Final = 10_000
MOST_LINES: Final = 1_000

OfArea = Annotated[str | None, typer.Option("--area", help="Number or name.", show_default=False)]
OfLife = Annotated[
    LifeWord | None,
    typer.Option("--life", help="`open`: its window runs, and it is not made safe.", show_default=False),
]
ClosingBefore = Annotated[
    str | None,
    typer.Option(
        "--closing-before",
        help="Whose window runs and ends before a date, a time, or in so long (7d) from now.",
        show_default=False,
    ),
]
Limit = Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="How many at most.")]
Name = Annotated[str, typer.Argument(metavar="RESPONSE", help="Its id, or the number or id of its incident.")]


@app.command("list")
def list_responses(
    *,
    area: OfArea = None,
    life: OfLife = None,
    closing_before: ClosingBefore = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """The newest first: how long their windows run, what is done and what is not, since when they are safe."""
    now = datetime.now(UTC)
    until = coming(closing_before, now) if closing_before else None
    found = run(_list(area, WantedResponses(life=life, closing_before=until, limit=limit), now))
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    print_table("Responses", [_row(one) for one in found], "There are no such responses.")
    if len(found) == limit:
        print(f"The newest {limit}: say --limit for more.")


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """One response: its window, its orders, what has happened in its life, and what it was closed with."""
    found, lines = run(_show(name, datetime.now(UTC)))
    if as_json:
        print_json(
            {**found.model_dump(mode="json"), "lines": [line.model_dump(mode="json") for line in lines]}
        )
    else:
        _print(found, lines)


async def _list(area: str | None, wanted: WantedResponses, now: datetime) -> list[WholeResponse]:
    async with database(database_url(Settings())) as connected:
        try:
            number = await views.area_number(connected, area) if area else None
        except views.UnknownName as unknown:
            raise Oops(str(unknown), ExitCode.NOT_FOUND) from unknown
        return await response_reads.responses(connected, wanted._replace(area=number), now)


async def _show(name: str, now: datetime) -> tuple[WholeResponse, list[LifeLine]]:
    async with database(database_url(Settings())) as connected:
        incident = await readmodels.incident(connected, name)
        identity = incident.incident_id if incident else readmodels.as_uuid(name)
        found = await response_reads.response(connected, identity, now) if identity else None
        if found is None and incident is not None:
            raise Oops(
                f"The incident {name} calls for no response: see `rapid incidents show`.", ExitCode.NOT_FOUND
            )
        if found is None:
            raise Oops(f"There is no response {name}: see `rapid responses list`.", ExitCode.NOT_FOUND)
        return found, list(await response_reads.lines(connected, found.response_id, MOST_LINES))


def _row(one: WholeResponse) -> dict[str, Any]:
    life = one.life
    return safe_row({
        "response": one.response_id,
        "life": _spaced(life.state) if life else "not looked at yet",
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


def _print(one: WholeResponse, lines: list[LifeLine]) -> None:
    out = console()
    out.print(Panel(_facts(one), title=f"Response {one.response_id}", title_align="left"))
    if one.life is not None and one.life.summary is not None:
        out.print(Panel(_summary(one.life.summary), title="As it was closed", title_align="left"))
        _print_counts(one.life.summary)
    rows = [
        safe_row({
            "happened": _short(line.at), "handled": _short(line.handled_at), "what": _spaced(line.kind),
            "because": line.because,
        })
        for line in lines
    ]  # fmt: skip
    print_table("Its life", rows, "Nobody has looked at it yet.")
    out.print(f"Why, step by step: rapid explain {one.incident_id}")


def _facts(one: WholeResponse) -> Table:
    life = one.life
    return fields({
        "life": _spaced(life.state) if life else "not looked at yet",
        "kind": f"{_spaced(one.kind)}, {one.tier} area, priority {one.priority}",
        "window": f"{_short(one.opens_at)} to {_short(life.closes_at if life else one.ends_at)}",
        "days left": life.days_left if life else None,
        "orders": _orders(life) if life else None,
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
