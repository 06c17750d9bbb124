"""What `rapid demo` shows when everything is handled: the orders, one incident's way, what a department sees."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from connectors.postgres.pool import Connection
from infra import views
from infra.cli.explain import HEADINGS
from infra.cli.session import database, run
from infra.connect import Endpoints, connection
from infra.policy.load import SHIPPED, load_policy
from infra.settings import Settings
from infra.verify.privacy import restricted_of
from infra.verify.records import records_of
from infra.verify.world import Read, World
from schemas.incident import Incident
from schemas.policy import Policy
from schemas.response import TriageDecision
from schemas.topics import department_topic
from schemas.work_order import DepartmentWorkOrder, WorkOrder, WorkOrderCommand

AREAS_SHOWN: Final = 12
CAUSES_TO_READ: Final = 6
"""An example with about so many causes has enough to tell and still fits on a screen."""
LEFT_OUT: Final = ("report", "issue")
"""Steps of `rapid explain` that would fill screens."""
MOST_STEPS: Final = 6
"""Of one kind; more only where another rule held."""
TOLD_IN_DETAIL: Final = ("incident", "triage", "response", "outcome")


@dataclass(frozen=True, slots=True)
class Results:
    """What the database and the departments' topics hold."""

    incidents: dict[str, Incident]
    triage: dict[str, TriageDecision]
    causes: list[WorkOrderCommand]
    orders: dict[str, WorkOrder]  # by order key
    reports: int
    decisions: int
    sent: dict[str, DepartmentWorkOrder]  # by reference: what the departments' topics hold last
    records: int  # on those topics
    telling: int  # of them, those that would tell of an incident


def show_results(console: Console, settings: Settings, start_s: float, stream_s: float) -> None:
    """Everything, in the order in which one asks."""
    policy = load_policy(settings.policy or SHIPPED)
    results = run(_results(connection(settings), policy))
    _show_orders(console, results, policy)
    example = example_of(results)
    if example is not None:
        _show_example(console, settings, example)
        _show_privacy(console, results, example, policy)
    _show_measures(console, results, start_s, stream_s)


# -- reading


async def _results(there: Endpoints, policy: Policy) -> Results:
    async with database(there.database_url) as connected:

        async def bodies(query: str) -> list[str]:
            return [row[0] for row in await connected.fetch(query)]

        incidents = map(Incident.model_validate_json, await bodies("SELECT body FROM incidents"))
        triage = map(
            TriageDecision.model_validate_json,
            await bodies("SELECT output FROM standing_decisions WHERE stage = 'triage'"),
        )
        causes = map(WorkOrderCommand.model_validate_json, await bodies("SELECT body FROM order_causes"))
        orders = map(
            WorkOrder.model_validate_json,
            await bodies("SELECT body FROM work_orders WHERE state <> 'void' ORDER BY order_id"),
        )
        reports = await connected.fetchval(
            "SELECT (SELECT count(*) FROM incident_reports) + (SELECT count(*) FROM issue_reports)"
        )
        decisions = await connected.fetchval("SELECT count(*) FROM decisions")
        records = [one async for one in _sent(there, policy)]
        telling = await _telling(connected, policy, records)
    return Results(
        incidents={str(one.incident_id): one for one in incidents},
        triage={str(one.incident_id): one for one in triage},
        causes=list(causes),
        orders={one.order_key: one for one in orders},
        reports=reports,
        decisions=decisions,
        sent=_newest(DepartmentWorkOrder.model_validate_json(record.value) for record in records),
        records=len(records),
        telling=telling,
    )


def _sent(there: Endpoints, policy: Policy) -> AsyncIterator[Read]:
    """Every record that the departments' topics hold now, as a department's own consumer would read it."""
    topics = [department_topic(one.code).name for one in policy.departments]
    return records_of(there.brokers, there.security)(topics)


async def _telling(connected: Connection, policy: Policy, records: Sequence[Read]) -> int:
    """How many records would tell of an incident: the search that `rapid verify` does."""
    async with connected.transaction(readonly=True):
        restricted = await restricted_of(World(connected, {policy.version: policy}))
    try:
        return sum(bool(restricted.hits(record.bytes)) for record in records)
    finally:
        restricted.close()


def _newest(orders: Iterable[DepartmentWorkOrder]) -> dict[str, DepartmentWorkOrder]:
    newest: dict[str, DepartmentWorkOrder] = {}
    for order in orders:
        known = newest.get(order.reference)
        if known is None or order.version > known.version:
            newest[order.reference] = order
    return newest


# -- the orders


def _show_orders(console: Console, results: Results, policy: Policy) -> None:
    orders = list(results.orders.values())
    departments = {one.code: one.name for one in policy.departments}
    categories = {one.code: one.name for one in policy.categories}
    _show_table(console, "Work orders by department", orders, lambda one: departments[one.department])
    _show_table(console, "Work orders by category", orders, lambda one: categories[one.category])
    _show_table(
        console, "Work orders by area", orders, lambda one: _area_name(policy, one.site.area), AREAS_SHOWN
    )
    ended = sum(one.state == "cancelled" for one in orders)
    console.print(
        "fix: an open 311 request near it; inspect: somebody looks although nobody called; ended:"
        f" {ended:,} orders\nwere cancelled again, because the request was closed or the report revised.\n"
    )


def _show_table(
    console: Console,
    title: str,
    orders: Sequence[WorkOrder],
    group_of: Callable[[WorkOrder], str],
    most: int | None = None,
) -> None:
    groups: dict[str, list[WorkOrder]] = {}
    for order in orders:
        groups.setdefault(group_of(order), []).append(order)
    ranked = sorted(groups.items(), key=lambda group: (-_open(group[1]), group[0]))
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1), width=98)
    table.add_column("", ratio=1, overflow="fold")
    for name in ("open", "fix", "inspect", "urgent", "high", "routine", "ended"):
        table.add_column(name, justify="right", min_width=len(name), style="bold" if name == "open" else "")
    for name, members in ranked[:most]:
        table.add_row(name, *_figures(members))
    rest = [order for _, members in ranked[len(ranked[:most]) :] for order in members]
    if rest:
        table.add_row(f"{len(ranked) - len(ranked[:most])} more areas", *_figures(rest), style="dim")
    table.add_row("all", *_figures(orders), style="bold")
    console.print(table)
    console.print()


def _open(orders: Iterable[WorkOrder]) -> int:
    return sum(order.state == "new" for order in orders)


def _figures(orders: Sequence[WorkOrder]) -> list[str]:
    standing = [order for order in orders if order.state == "new"]
    works = Counter(order.work for order in standing)
    priorities = Counter(order.priority for order in standing)
    counts = (
        len(standing), works["fix"], works["inspect"],
        priorities["urgent"], priorities["high"], priorities["routine"], len(orders) - len(standing),
    )  # fmt: skip
    return [f"{count:,}" if count else "" for count in counts]


def _area_name(policy: Policy, number: int | None) -> str:
    area = policy.area(number) if number is not None else None
    if area is None:
        return "no area known"
    tier = policy.tier_of(area.number)
    return f"{area.name}, {tier}" if tier != policy.default_tier else area.name


# -- one incident


@dataclass(frozen=True, slots=True)
class Example:
    """An incident with what it led to."""

    incident: Incident
    triage: TriageDecision
    causes: list[WorkOrderCommand]
    orders: list[WorkOrder]  # those that stand


def example_of(results: Results) -> Example | None:
    """The incident with the most to tell: of those with as many kinds of things to tell, a short one."""
    examples = [_example(results, incident) for incident in results.incidents.values()]
    telling = [one for one in examples if one.orders]
    return max(telling, key=_rank, default=None)


def _example(results: Results, incident: Incident) -> Example:
    causes = [cause for cause in results.causes if cause.incident_id == incident.incident_id]
    keys = sorted({cause.order_key for cause in causes if cause.standing == "live"})
    orders = [results.orders[key] for key in keys if key in results.orders]
    return Example(incident, results.triage[str(incident.incident_id)], causes, orders)


def _rank(example: Example) -> tuple[int, int, str]:
    return (
        sum(_tells(example)),
        -abs(len(example.causes) - CAUSES_TO_READ),
        str(example.incident.incident_id),
    )


def _tells(example: Example) -> tuple[bool, ...]:
    """What there is to tell of it."""
    factors = {part.factor for part in example.triage.parts}
    return (
        any(len(order.incident_ids) > 1 for order in example.orders),  # joined with another incident
        any(cause.issue_id is not None and cause.standing == "live" for cause in example.causes),
        any(cause.issue_id is None and cause.standing == "live" for cause in example.causes),
        any(cause.standing == "withdrawn" for cause in example.causes),
        any(len(order.covers) > 1 for order in example.orders),  # duplicates of one request
        "near_repeat" in factors,
        example.triage.location.differs,
        len(example.incident.phases) > 1,  # revised
        example.incident.victims > 1,
    )


def _show_example(console: Console, settings: Settings, example: Example) -> None:
    number = example.incident.number
    console.print("[bold]One incident, from report to orders, with the rule behind each step[/]")
    steps = run(_steps(connection(settings), number))
    said: set[str] = set()
    for heading, some in groupby(steps, key=lambda step: HEADINGS[step["step"]]):
        chosen = [step for step in some if step["step"] not in LEFT_OUT]
        if chosen:
            console.print(f"[bold]{heading}[/]")
        left_out = 0
        for at, step in enumerate(chosen):
            if at >= MOST_STEPS and step["rule"] in said:
                left_out += 1
            else:
                _print_step(console, step, said)
        if left_out:
            console.print(f"  and {left_out} more by the same rules")
    console.print(f"All of it, reports and requests too, says `rapid explain {number}`.\n")


def _print_step(console: Console, step: dict[str, Any], said: set[str]) -> None:
    """What was decided and why; a rule is told in words the first time."""
    if step["step"] != "outcome":
        _print_indented(console, 2, f"[cyan]{escape(step['title'])}[/]")
    _print_indented(console, 4, escape(step["because"]))
    if step["step"] in TOLD_IN_DETAIL:
        for detail in step["details"]:
            _print_indented(console, 4, escape(detail))
    if step["rule"] and step["rule"] not in said:
        said.add(step["rule"])
        _print_indented(console, 4, f"[dim]rule {step['rule']}: {escape(step['in_words'])}[/]")


def _print_indented(console: Console, by: int, text: str) -> None:
    if text:
        console.print(Padding(text, (0, 0, 0, by)))


async def _steps(there: Endpoints, number: str) -> list[dict[str, Any]]:
    """What `rapid explain` has to say of the incident."""
    async with database(there.database_url) as connected:
        return await views.explain(connected, number) or []


# -- privacy


def _show_privacy(console: Console, results: Results, example: Example, policy: Policy) -> None:
    """One of its orders as its department has it from its topic, beside what we know."""
    order = max(example.orders, key=lambda one: (len(one.incident_ids), len(one.covers), one.order_key))
    seen = results.sent.get(order.reference)
    if seen is None:
        return
    table = Table(
        title="What the department sees of one of these orders, and what it does not",
        title_justify="left", title_style="bold", box=None, padding=(0, 1), width=98,
    )  # fmt: skip
    table.add_column("", style="dim")
    table.add_column(f"on {department_topic(order.department).name}", ratio=1, overflow="fold")
    table.add_column("what we know", ratio=1, overflow="fold")
    for row in _side_by_side(results, example, order, seen, policy):
        table.add_row(*row)
    console.print(table)
    console.print(
        f"Searched all {results.records:,} records of the departments' topics for case numbers, incident ids,"
        f" times,\nand words such as “shooting” or “victim”: {results.telling or 'none'} found.\n",
        soft_wrap=True,
    )


def _side_by_side(
    results: Results, example: Example, order: WorkOrder, seen: DepartmentWorkOrder, policy: Policy
) -> list[tuple[str, str, str]]:
    zone = ZoneInfo(policy.city.time_zone)
    incidents = [results.incidents[str(one)] for one in order.incident_ids]
    why = next(cause for cause in example.causes if cause.order_key == order.order_key)
    area = policy.area(seen.area) if seen.area is not None else None
    severity = " + ".join(f"{part.points} ({part.because})" for part in example.triage.parts)
    return [
        ("reference", seen.reference, f"{order.reference}, order {str(order.order_id)[:8]}, version {order.version}"),
        ("work", seen.title, why.because),
        ("place", f"{seen.address or seen.point}, {area.name if area else ''}",
         "; ".join(f"{one.now.block or 'block unknown'}" for one in incidents)),
        ("when", f"requested {seen.requested_on:%a %d %b}",
         "; ".join(f"{one.occurred_at.astimezone(zone):%a %d %b %H:%M}" for one in incidents)),
        ("priority", seen.priority, f"severity {example.triage.severity}: {severity}"),
        ("requests", ", ".join(seen.service_requests) or "none", ", ".join(order.covers) or "none"),
        ("incidents", "no such field",
         "; ".join(f"{one.number}: {one.kind.replace('_', ' ')}, {one.victims} victim(s)" for one in incidents)),
    ]  # fmt: skip


# -- measured


def _show_measures(console: Console, results: Results, start_s: float, stream_s: float) -> None:
    console.print("[bold]Measured on this machine, just now[/]")
    console.print(f"  {start_s:.0f} s until broker, database and workers were ready, simulating meanwhile")
    console.print(f"  {stream_s:.0f} s from the first row sent until nothing was left to do")
    console.print(
        f"  {results.reports:,} reports, {results.reports / stream_s:,.0f} a second, became"
        f" {len(results.orders):,} work orders by {results.decisions:,} decisions"
    )
