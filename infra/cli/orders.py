"""`rapid orders`: look at work orders."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import typer
from rich.panel import Panel
from rich.table import Table

from connectors.postgres.readmodels import Grouping, OrderFilter
from infra import views
from infra.cli.durations import coming
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.screen import console, fields, safe, safe_row, short_time
from infra.cli.session import database, run
from infra.connect import database_url
from infra.rebuild import differing, rebuild
from infra.settings import Settings

app = typer.Typer(help="Work orders: list them, show one, count them.", no_args_is_help=True)

MOST_ROWS: Final = 10_000

OfArea = Annotated[str | None, typer.Option("--area", help="Number or name.", show_default=False)]
OfDepartment = Annotated[str | None, typer.Option("--department", help="Code or name.", show_default=False)]
OfCategory = Annotated[str | None, typer.Option("--category", help="Code or name.", show_default=False)]
OfState = Annotated[
    Literal[
        "open",
        "new",
        "acknowledged",
        "in_progress",
        "on_hold",
        "resolved",
        "verified",
        "reopened",
        "cancelled",
        "void",
        "all",
    ]
    | None,
    typer.Option(
        "--state",
        help="`open`: something is to be done. `void`: nothing ever asked for it; all but those are shown without.",
        show_default=False,
    ),
]
OfWork = Annotated[
    Literal["fix", "inspect"] | None, typer.Option("--work", help="Kind of work.", show_default=False)
]
DueBefore = Annotated[
    str | None,
    typer.Option(
        "--due-before", help="Due before a date, a time, or in so long (24h) from now.", show_default=False
    ),
]
Overdue = Annotated[
    bool, typer.Option("--overdue", help="Only what has a promise that is over and not kept.")
]
Limit = Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="How many at most.")]
Reference = Annotated[str, typer.Argument(metavar="REFERENCE", help="Its reference (WO-…) or its id.")]


@app.command("list")
def list_orders(
    *, area: OfArea = None, department: OfDepartment = None, category: OfCategory = None, state: OfState = None,
    work: OfWork = None, due_before: DueBefore = None, overdue: Overdue = False, limit: Limit = 50,
    as_json: Json = False,
) -> None:  # fmt: skip
    """The newest first, by when the work began to be called for. With --due-before, --overdue: the first due first."""
    due = _due_before(due_before, overdue, datetime.now(UTC))
    wanted = OrderFilter(state=state, work=work, due_before=due, limit=limit)
    found = run(_list(area, department, category, wanted))
    if as_json:
        print_json(found)
        return
    print_table("Work orders", [_row(order) for order in found], "There are no such orders.")
    if len(found) == limit:
        print(f"The {'first' if due else 'newest'} {limit}: say --limit for more.")


def _due_before(text: str | None, overdue: bool, now: datetime) -> datetime | None:
    """The earlier of both, of which either may be absent."""
    asked = coming(text, now) if text else None
    return min(asked or now, now) if overdue else asked


@app.command()
def show(reference: Reference, as_json: Json = False) -> None:
    """Everything of one order, and what its department sees of it."""
    found = run(_show(reference))
    if as_json:
        print_json(found)
    else:
        _print(found)


@app.command()
def summary(
    by: Annotated[Grouping, typer.Option("--by", help="What to count by.")] = "department",
    as_json: Json = False,
) -> None:
    """How many orders there are: open ones by work and raised priority, cancelled ones, and all of both."""
    found = run(_summarize(by))
    if as_json:
        print_json(found)
    else:
        print_table(f"Work orders by {by}", [safe_row(row) for row in found], "There are no orders.")


@app.command("rebuild")
def rebuild_orders(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Only look: exit code 1 when an order differs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compute every order again from its causes and its ledger, and put right what differs."""
    found = run(_rebuild(check))
    if as_json:
        print_json(found)
    elif not found["differing"]:
        print("Every order is what its causes and its ledger say.")
    else:
        done = "differ" if check else f"differed; {found['replaced']} were put right"
        print(f"{len(found['differing'])} orders {done}: {', '.join(found['differing'])}")
    if check and found["differing"]:
        raise typer.Exit(1)


async def _rebuild(check: bool) -> views.Value:
    async with database(database_url(Settings())) as connected:
        # One moment for all tables: else what is decided meanwhile looks like a difference.
        async with connected.transaction(isolation="repeatable_read", readonly=True):
            differ = [one.reference async for one in differing(connected)]
        return {"differing": differ, "replaced": 0 if check or not differ else await rebuild(connected)}


async def _list(
    area: str | None, department: str | None, category: str | None, wanted: OrderFilter
) -> list[views.Value]:
    async with database(database_url(Settings())) as connected:
        try:
            wanted = wanted._replace(
                area=await views.area_number(connected, area) if area else None,
                department=await views.department_code(connected, department) if department else None,
                category=await views.category_code(connected, category) if category else None,
            )
        except views.UnknownName as unknown:
            raise Oops(str(unknown), ExitCode.NOT_FOUND) from unknown
        return await views.list_orders(connected, wanted)


async def _show(reference: str) -> views.Value:
    async with database(database_url(Settings())) as connected:
        found = await views.show_order(connected, reference)
    if found is None:
        raise Oops(f"There is no order {reference}: see `rapid orders list`.", ExitCode.NOT_FOUND)
    return found


async def _summarize(by: Grouping) -> list[views.Value]:
    async with database(database_url(Settings())) as connected:
        return await views.summarize_orders(connected, by)


def _row(order: views.Value) -> dict[str, Any]:
    return safe_row({
        "reference": order["reference"],
        "state": order["state"],
        "priority": order["priority"],
        "work": order["work"],
        "category": order["category"],
        "address": order["address"],
        "area": order["area_name"],
        "department": order["department"],
        "opened": short_time(order["opened_at"]),
        "due": short_time(order["due_at"]),
    })  # fmt: skip


def _print(order: views.Value) -> None:
    out = console()
    out.print(Panel(_facts(order), title=f"Order {order['reference']}", title_align="left"))
    if order["promises"]:
        out.print(_promises(order["promises"], datetime.now(UTC)))
    out.print(_causes(order["causes"]))
    if order["timeline"]:
        out.print(_timeline(order["timeline"]))
    out.print(_decisions(order["decisions"]))
    out.print(
        Panel(_department(order["department_sees"]), title="What the department sees", title_align="left")
    )
    out.print(f"Why, step by step: rapid explain {order['reference']}")


def _facts(order: views.Value) -> Table:
    return fields({
        "state": f"{order['state']} – {order['state_in_words']}",
        "work": f"{order['work']} {order['category']}",
        "site": f"{order['address']} (by {order['site']['basis']})",
        "area": order["area_name"],
        "department": f"{order['department_name']} ({order['department']})",
        "routed by": f"{order['routing_rule']} – {order['routing_in_words']}",
        "priority": order["priority"],
        "outcome": order["outcome"],
        "on hold for": order["hold_reason"],
        "crew": order["crew"],
        "expected": short_time(order["estimate"]),
        "opened": short_time(order["opened_at"]),
        "acknowledged": short_time(order["acknowledged_at"]),
        "resolved": short_time(order["resolved_at"]),
        "cancelled": short_time(order["cancelled_at"]),
        "covers 311 requests": ", ".join(order["covers"]),
        "policy": order["policy_version"],
        "simulated": "yes" if order["simulated"] else None,
    })  # fmt: skip


def _causes(causes: list[views.Value]) -> Table:
    table = Table("standing", "incident", "request", "why", "rule", title="Causes", title_justify="left")
    for cause in causes:
        table.add_row(*(safe(text) for text in (
            cause["standing"], f"{cause['incident_number']}, {_spaced(cause['incident_kind'])}",
            cause["request_number"], cause["because"], cause["rule_in_words"],
        )))  # fmt: skip
    return table


def stands(promise: views.Value, now: datetime) -> str:
    """How a promise stands, in the words of `rapid sla explain`."""
    if promise["result"]:
        return str(promise["result"])
    if promise["on_hold"]:
        return "on hold"
    due_at = promise["due_at"]
    return "open and late" if due_at and datetime.fromisoformat(due_at) < now else "open in time"


def _promises(promises: list[views.Value], now: datetime) -> Table:
    table = Table("promise", "in which time", "due", "stands", title="Promises", title_justify="left")
    for one in promises:
        ended = f" {short_time(one['ended_at'])}" if one["ended_at"] else ""
        table.add_row(*map(safe, (
            _spaced(one["clock"]), one["promised"], short_time(one["due_at"]), f"{stands(one, now)}{ended}",
        )))  # fmt: skip
    return table


def _timeline(said: list[views.Value]) -> Table:
    table = Table("when", "who", "what", "verdict", "because", title="What was said", title_justify="left")
    for one in said:
        details = ", ".join(f"{name} {value}" for name, value in one["said"].items())
        what = f"{one['what']}: {details}" if details else one["what"]
        table.add_row(*map(safe, (short_time(one["at"]), one["by"], what, one["verdict"], one["because"])))
    return table


def _decisions(decisions: list[views.Value]) -> Table:
    table = Table(
        "version", "rule", "because", title="What was decided, the oldest first", title_justify="left"
    )
    for one in decisions:
        table.add_row(str(one["version"]), safe(one["rule"]), safe(one["because"]))
    return table


def _department(seen: views.Value | None) -> Table | str:
    if seen is None:
        return views.NEVER_TOLD
    point = seen["point"] and f"{seen['point']['lat']}, {seen['point']['lon']}"
    promises = [f"{_spaced(one['clock'])} {_stands(one)}" for one in seen.get("promises", [])]
    requests = ", ".join(seen["service_requests"])
    shown = seen | {"point": point, "service_requests": requests, "promises": ", ".join(promises)}
    return fields({name.replace("_", " "): value for name, value in shown.items()})


def _stands(promise: views.Value) -> str:
    """Of a promise as its department sees it."""
    if promise["result"]:
        return str(promise["result"])
    return f"due {short_time(promise['due_at'])}" if promise["due_at"] else "without a due time"


def _spaced(code: str | None) -> str:
    return (code or "not known").replace("_", " ")
