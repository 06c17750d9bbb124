"""`rapid policy`: check a policy, or show it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.cli import policy_life
from infra.cli.errors import ExitCode
from infra.policy.feeds import warnings_of
from infra.policy.load import SHIPPED, PolicyErrors, load_policy
from schemas.incident import IncidentKind
from schemas.policy import Policy

app = typer.Typer(
    name="policy",
    help="Check, compare and activate policies; which one holds, since when.",
    no_args_is_help=True,
)
app.command()(policy_life.activate)
app.command()(policy_life.diff)
app.command()(policy_life.history)
app.command("list")(policy_life.list_policies)

KINDS: tuple[IncidentKind, ...] = get_args(IncidentKind)

PolicyPath = Annotated[Path, typer.Argument(help="The folder of the policy.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def check(path: PolicyPath = SHIPPED, as_json: AsJson = False) -> None:
    """Check a policy as a whole. Prints a summary and what will be wrong soon, or every error with file, line and
    key (exit code 1)."""
    policy = _loaded(path, as_json)
    warnings = warnings_of(path, policy, datetime.now(UTC).date())
    if as_json:
        typer.echo(_json({"ok": True, "summary": _summary(policy), "errors": [], "warnings": warnings}))
        return
    console = Console()
    console.print(f"[bold]{escape(str(path))}[/] is right: version [bold]{policy.version}[/]")
    console.print(_counts_table(policy))
    console.print(_plans_table(policy))
    for warning in warnings:
        print(f"Warning: {warning}")


@app.command()
def show(path: PolicyPath = SHIPPED, as_json: AsJson = False) -> None:
    """Show what a policy says."""
    policy = _loaded(path, as_json)
    if as_json:
        typer.echo(policy.model_dump_json(indent=2))
        return
    console = Console()
    console.print(f"[bold]{escape(policy.city.name)}[/], policy version [bold]{policy.version}[/]")
    for table in (
        _categories_table(policy),
        _plans_table(policy),
        _severity_table(policy),
        _areas_table(policy),
    ):
        console.print(table)


def _loaded(path: Path, as_json: bool) -> Policy:
    """The policy, or all that is wrong with it and exit code 1."""
    try:
        return load_policy(path)
    except PolicyErrors as errors:
        if as_json:
            found = [error._asdict() for error in errors.errors]
            typer.echo(_json({"ok": False, "summary": None, "errors": found, "warnings": []}))
        else:
            typer.echo(str(errors), err=True)
        raise typer.Exit(ExitCode.INVALID) from None


def _json(value: object) -> str:
    import json

    return json.dumps(value, indent=2, ensure_ascii=False)


def _tiers(policy: Policy) -> list[str]:
    """Every tier, those that areas have first."""
    named = [area.tier for area in policy.areas]
    weighed = list(policy.severity.tier)
    return list(dict.fromkeys([*weighed, *named, policy.default_tier, policy.outside_tier]))


def _summary(policy: Policy) -> dict[str, object]:
    """A policy in figures."""
    return {
        "version": policy.version,
        "city": policy.city.name,
        "areas": len(policy.areas),
        "tiers": {tier: sum(area.tier == tier for area in policy.areas) for tier in _tiers(policy)},
        "priority_areas_since": policy.priority_areas_since.isoformat(),
        "categories": {c.code: c.department or policy.triage_queue for c in policy.categories},
        "departments": [department.code for department in policy.departments],
        "triage_queue": policy.triage_queue,
        "routes": len(policy.routes),
        "event_kinds": len(policy.event_kinds),
        "people_on_call": len(policy.oncall.persons),
        "roles": {role.code: role.level for role in policy.oncall.roles},
        "plans": {
            kind: {tier: plan.name for tier in _tiers(policy) if (plan := policy.plan_for(kind, tier))}
            for kind in KINDS
        },
    }


def _counts_table(policy: Policy) -> Table:
    tiers = ", ".join(f"{sum(area.tier == tier for area in policy.areas)} {tier}" for tier in _tiers(policy))
    table = Table("what", "how many", "which")
    table.add_row("areas", str(len(policy.areas)), escape(f"{tiers} (since {policy.priority_areas_since})"))
    table.add_row("categories", str(len(policy.categories)), ", ".join(c.code for c in policy.categories))
    table.add_row("departments", str(len(policy.departments)), ", ".join(d.code for d in policy.departments))
    table.add_row("routing rules", str(len(policy.routes)), f"triage queue: {policy.triage_queue}")
    people = policy.oncall.persons
    table.add_row(
        "people on call", str(len(people)), f"roles: {', '.join(r.code for r in policy.oncall.roles)}"
    )
    table.add_row("codes in scope", str(len(policy.event_kinds)), "IUCR")
    return table


def _plans_table(policy: Policy) -> Table:
    """Kind by tier: how far, how long, how much work."""
    tiers = _tiers(policy)
    table = Table("kind", *map(escape, tiers), title="Plans")
    for kind in KINDS:
        cells = []
        for tier in tiers:
            plan = policy.plan_for(kind, tier)
            cells.append(
                f"{plan.radius_m:g} m, {plan.window_days} d, {len(plan.fixes)} fix, "
                f"{len(plan.inspections)} inspect"
                if plan
                else "–"
            )
        table.add_row(kind, *cells)
    return table


def _categories_table(policy: Policy) -> Table:
    table = Table("category", "311 codes", "owner", "a department reads", title="Categories")
    for c in policy.categories:
        owner = policy.route(c.code, "fix", None).department
        table.add_row(c.code, ", ".join(c.sr_codes), owner, escape(f"{c.fix_title} / {c.inspect_title}"))
    return table


def _severity_table(policy: Policy) -> Table:
    weights = policy.severity
    table = Table("factor", "points", title=escape(f"Severity ({weights.source})"))
    for kind in KINDS:
        table.add_row(kind, str(weights.kind[kind]))
    for tier, points in weights.tier.items():
        table.add_row(escape(f"tier {tier}"), str(points))
    table.add_row("each further victim", str(weights.per_further_victim))
    near = policy.near_repeat
    table.add_row(f"near repeat ({near.radius_m:g} m, {near.days} d)", str(weights.near_repeat))
    table.add_row(f"each open issue (at most {weights.open_issues_cap})", str(weights.per_open_issue))
    for step in policy.priorities:
        table.add_row(f"{step.priority} from", str(step.from_severity))
    return table


def _areas_table(policy: Policy) -> Table:
    """The areas that are set apart; the others are counted."""
    table = Table("number", "area", "tier", title=f"Areas since {policy.priority_areas_since}")
    apart = [area for area in policy.areas if area.tier != policy.default_tier]
    for area in apart:
        table.add_row(str(area.number), escape(area.name), escape(area.tier))
    table.add_row("", f"{len(policy.areas) - len(apart)} others", escape(policy.default_tier))
    return table
