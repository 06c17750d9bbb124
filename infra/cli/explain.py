"""`rapid explain`: why, from the records that decisions left."""

from itertools import groupby
from typing import Annotated, Final

import typer
from rich.tree import Tree

from infra import views
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json
from infra.cli.screen import console, safe
from infra.cli.session import database, run
from infra.connect import database_url
from infra.settings import Settings

HEADINGS: Final = {
    "report": "What was reported",
    "incident": "What is held to be one incident",
    "issue": "What is held to be one issue",
    "triage": "What it calls for",
    "response": "The response",
    "cause": "Which work, and why",
    "order": "Work orders",
    "outcome": "What came of it",
}

Name = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="A case number, a 311 request number, an order's reference, or the id of any of them or of a cause.",
    ),
]


Earlier = Annotated[
    bool,
    typer.Option(
        "--earlier",
        help="Also what triage held of the incident before, oldest first: each time by the facts, the policy and the "
        "boundaries of then.",
    ),
]


def explain(name: Name, earlier: Earlier = False, as_json: Json = False) -> None:
    """Why, in the order of the stream: each step with the rule it followed and the policy it was taken by.

    IDs to try are in `rapid incidents list` and `rapid orders list`. Next: `rapid orders show REFERENCE` has an order
    with all that was said of it, `rapid sla explain REFERENCE` when it is due and why.
    """
    steps = run(_explain(name, earlier))
    if as_json:
        print_json(steps)
    else:
        console().print(_tree(name, steps))


async def _explain(name: str, earlier: bool) -> list[views.Value]:
    async with database(database_url(Settings())) as connected:
        steps = await views.explain(connected, name, earlier=earlier)
    if steps is None:
        raise Oops(
            f"Nothing has the number or id {name}: see `rapid incidents list` and `rapid orders list`.",
            ExitCode.NOT_FOUND,
        )
    return steps


def _tree(name: str, steps: list[views.Value]) -> Tree:
    tree = Tree(f"[bold]{safe(name)}[/]")
    for kind, some in groupby(steps, key=lambda step: step["step"]):
        branch = tree.add(f"[bold]{HEADINGS[kind]}[/]")
        for step in some:
            _add(branch, step)
    return tree


def _add(branch: Tree, step: views.Value) -> None:
    if step["step"] == "outcome":
        branch.add(safe(step["because"]))
        return
    node = branch.add(f"[cyan]{safe(step['title'])}[/]")
    node.add(safe(step["because"]))
    for detail in step["details"]:
        node.add(safe(detail))
    if step["rule"]:
        node.add(f"[dim]rule {safe(step['rule'])}: {safe(step['in_words'])}{_by(step)}[/]")


def _by(step: views.Value) -> str:
    return f" (version {step['version']}, policy {safe(step['policy_version'])})"
