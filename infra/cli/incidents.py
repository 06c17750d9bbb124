"""`rapid incidents`: look at incidents and at what became of them."""

from typing import Annotated, Any, Final, Literal

import typer
from rich.panel import Panel
from rich.table import Table

from connectors.postgres.readmodels import IncidentFilter
from infra import views
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.screen import console, fields, safe, safe_row, short_time
from infra.cli.session import database, run
from infra.connect import database_url
from infra.settings import Settings
from schemas.incident import IncidentKind, Validity

app = typer.Typer(
    help="Incidents and what became of them: what was held of each, its response, its orders. Begin with "
    "`rapid incidents list`.",
    no_args_is_help=True,
)

MOST_ROWS: Final = 10_000

OfArea = Annotated[
    str | None,
    typer.Option(
        "--area",
        help="Only those in this community area, by number or name; the area is the one that decided.",
        show_default=False,
    ),
]
OfKind = Annotated[
    IncidentKind | None,
    typer.Option("--kind", help="Only those held to be of this kind now.", show_default=False),
]
OfState = Annotated[
    Validity | None,
    typer.Option(
        "--state",
        help="Only those that stand (`valid`), or of which all sources say by now that they did not happen.",
        show_default=False,
    ),
]
Limit = Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="How many at most, the newest first.")]
Number = Annotated[str, typer.Argument(metavar="NUMBER", help="Its case number or its id.")]
Order = Literal["reference", "state", "priority", "work", "category", "address", "department"]
ORDER_COLUMNS: Final[tuple[Order, ...]] = (
    "reference", "state", "priority", "work", "category", "address", "department",
)  # fmt: skip


@app.command("list")
def list_incidents(
    *,
    area: OfArea = None,
    kind: OfKind = None,
    state: OfState = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """The newest first, each with how many orders it asks for; one that follows another has none of its own.

    Next: `rapid incidents show NUMBER` has one with its response and its orders.
    """
    found = run(_list(area, IncidentFilter(kind=kind, validity=state, limit=limit)))
    if as_json:
        print_json(found)
        return
    print_table("Incidents", [_row(incident) for incident in found], "There are no such incidents.")
    if len(found) == limit:
        print(f"The newest {limit}: say --limit for more.")


@app.command()
def show(number: Number, as_json: Json = False) -> None:
    """One incident: what was held of it and when, where it lies, its response, the orders it asks for.

    Next: `rapid explain NUMBER` says why, step by step, and `rapid responses show NUMBER` what became of its response.
    """
    found = run(_show(number))
    if as_json:
        print_json(found)
    else:
        _print(found)


async def _list(area: str | None, wanted: IncidentFilter) -> list[views.Value]:
    async with database(database_url(Settings())) as connected:
        try:
            number = await views.area_number(connected, area) if area else None
        except views.UnknownName as unknown:
            raise Oops(str(unknown), ExitCode.NOT_FOUND) from unknown
        return await views.list_incidents(connected, wanted._replace(area=number))


async def _show(number: str) -> views.Value:
    async with database(database_url(Settings())) as connected:
        found = await views.show_incident(connected, number)
    if found is None:
        raise Oops(f"There is no incident {number}: see `rapid incidents list`.", ExitCode.NOT_FOUND)
    return found


def _row(incident: views.Value) -> dict[str, Any]:
    leader = incident["follows"]
    return safe_row({
        "number": incident["number"],
        "occurred": short_time(incident["occurred_at"]),
        "kind": _spaced(incident["kind"]),
        "state": incident["validity"],
        "shot": incident["victims"],
        "block": incident["block"],
        "area": incident["area_name"],
        "rule": f"follows {leader['number']}" if leader else _spaced(incident["rule"]),
        "priority": None if leader else incident["priority"],
        "orders": incident["open_orders"],
    })  # fmt: skip


def _print(incident: views.Value) -> None:
    out = console()
    out.print(Panel(_facts(incident), title=f"Incident {incident['number']}", title_align="left"))
    out.print(_phases(incident["phases"]))
    if incident["follows"]:
        leader = safe(incident["follows"]["number"])
        out.print(
            f"It follows {leader} and has no response and no orders of its own: see rapid incidents show {leader}"
        )
    else:
        out.print(_response(incident))
        orders = [safe_row({name: order[name] for name in ORDER_COLUMNS}) for order in incident["orders"]]
        print_table("Orders", orders, "It has opened no order.")
    out.print(f"Why, step by step: rapid explain {safe(incident['number'])}")


def _facts(incident: views.Value) -> Table:
    triage = incident["triage"]
    return fields({
        "kind": f"{_spaced(incident['kind'])}, {incident['validity']}",
        "shot": f"{incident['victims']}, {incident['killed']} of them killed",
        "occurred": short_time(incident["occurred_at"]),
        "newest revision": short_time(incident["revised_at"]),
        "block": incident["block"],
        "place": _spaced(incident["location_type"]),
        "area": incident["location_in_words"],
        "tier": incident["tier"],
        "triage": f"{_spaced(triage['rule'])} – {triage['because']}" if triage else "not yet handled",
        "follows": _tie(incident["follows"]) if incident["follows"] else None,
        "also told of by": "; ".join(map(_tie, incident["followers"])) or None,
        "sources": ", ".join(incident["sources"]),
        "simulated": "yes" if incident["simulated"] else None,
    })  # fmt: skip


def _tie(tie: views.Value) -> str:
    """Which incident of which source, and how far apart the two are."""
    apart = f"{tie['metres']} m, {tie['seconds'] / 60:.0f} min apart"
    return f"{tie['number']} ({', '.join(tie['sources'])}; {apart})"


def _phases(phases: list[views.Value]) -> Table:
    table = Table(
        "since", "state", "kind", "occurred", "block", title="What was held of it", title_justify="left"
    )
    for phase in phases:
        table.add_row(
            short_time(phase["since"]), phase["validity"], _spaced(phase["kind"]),
            short_time(phase["occurred_at"]), safe(phase["block"]),
        )  # fmt: skip
    return table


def _response(incident: views.Value) -> Panel:
    response = incident["response"]
    if response is None:
        return Panel("None: no phase of it ever called for one.", title="Response", title_align="left")
    parts = ", ".join(f"{part['points']:+d} {part['because']}" for part in incident["severity_parts"])
    zone = response["zones"][-1]
    return Panel(
        fields({
            "status": response["status"],
            "severity": f"{response['severity']}: {parts}" if parts else str(response["severity"]),
            "priority": response["priority"],
            "open": f"{short_time(response['opens_at'])} to {short_time(response['ends_at'])}",
            "looks within": f"{zone['radius_m']:g} m" if zone["centre"] else "nowhere: it has no coordinates",
            "fixes": ", ".join(map(_spaced, zone["fixes"])),
            "inspects": ", ".join(map(_spaced, zone["inspections"])),
        }),
        title="Response", title_align="left",
    )  # fmt: skip


def _spaced(code: str | None) -> str:
    return (code or "").replace("_", " ")
