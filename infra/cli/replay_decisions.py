"""`rapid replay-decisions`: take every recorded decision again and compare."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple, get_args

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agents.replay import Difference, difference, of_no_stage
from connectors.postgres.policies import policies
from connectors.postgres.pool import Connection
from connectors.postgres.readmodels import count_decisions, every_decision, stray_decisions
from infra.cli.errors import ExitCode
from infra.cli.output import Json, print_json, print_table
from infra.cli.session import database, run
from infra.connect import database_url
from infra.settings import Settings
from schemas.decision import Stage
from schemas.policy import Policy

STAGES: tuple[Stage, ...] = get_args(Stage)
MOST_SHOWN: Final = 200
"""Differences in the table for people; --json tells all."""

OfStage = Annotated[Stage | None, typer.Option("--stage", help="Only this stage.", show_default=False)]


class Replayed(NamedTuple):
    """What came out. `decisions`: how many of each stage were taken again."""

    decisions: Counter[str]
    differences: list[Difference]


def replay_decisions(stage: OfStage = None, as_json: Json = False) -> None:
    """Take every recorded decision again, from its stored inputs and policy, and compare byte for byte.

    Exit code 1 when any differs: then the record was changed, or the code decides differently by now.
    """
    replayed = run(_replay(Settings(), [stage] if stage else STAGES))
    if as_json:
        print_json(as_values(replayed))
    else:
        _print(replayed)
    if replayed.differences:
        raise typer.Exit(ExitCode.FAILED)


async def _replay(settings: Settings, stages: Sequence[Stage]) -> Replayed:
    async with database(database_url(settings)) as connected:
        with _progress() as progress:
            bars = {
                one: progress.add_task(one, total=await count_decisions(connected, one)) for one in stages
            }
            return await replay_all(
                connected, stages, lambda stage, count: progress.advance(bars[stage], count)
            )


def _progress() -> Progress:
    """On stderr, and only for a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


async def replay_all(
    connection: Connection,
    stages: Sequence[Stage] = STAGES,
    tell: Callable[[Stage, int], None] = lambda *_: None,
) -> Replayed:
    """Take all decisions of these stages again. `tell` hears of every page: its stage and its rows."""
    known = await policies(connection)
    replayed = Replayed(Counter(), [])
    for stage in stages:
        async for page in every_decision(connection, stage):
            replayed.differences.extend(_differing(page, known))
            replayed.decisions[stage] += len(page)
            tell(stage, len(page))
    if set(stages) == set(STAGES):
        for record in await stray_decisions(connection, STAGES):
            replayed.decisions[record.stage] += 1
            replayed.differences.append(of_no_stage(record))
    return replayed


def _differing(page: Sequence[Any], known: Mapping[str, Policy]) -> list[Difference]:
    found = (difference(record, known.get(record.policy_version)) for record in page)
    return [one for one in found if one]


def as_values(replayed: Replayed) -> dict[str, Any]:
    """JSON-ready."""
    return {
        "same": not replayed.differences,
        "stages": _rows(replayed),
        "differences": [one._asdict() for one in replayed.differences],
    }


def _rows(replayed: Replayed) -> list[dict[str, Any]]:
    differing = Counter(one.stage for one in replayed.differences)
    return [
        {"stage": stage, "decisions": count, "same": count - differing[stage], "differing": differing[stage]}
        for stage, count in replayed.decisions.items()
    ]


def _print(replayed: Replayed) -> None:
    print_table("Decisions taken again", _rows(replayed), "No decision is recorded.")
    if replayed.differences:
        print_table("Differences", [_shown(one) for one in replayed.differences[:MOST_SHOWN]], "")
        if len(replayed.differences) > MOST_SHOWN:
            print(f"The first {MOST_SHOWN} of {len(replayed.differences)}: --json tells all.")
    elif replayed.decisions:
        print("All of them are the same, byte for byte.")


def _shown(one: Difference) -> dict[str, Any]:
    return {
        "stage": one.stage,
        "subject": one.subject,
        "version": one.version,
        "field": one.field,
        "byte": one.position,
        "recorded": escape(repr(one.recorded)) if one.position is not None else None,
        "again": escape(repr(one.again)) if one.position is not None else one.again,
    }
