"""`rapid verify`: compare everything that the installation holds, and say where two places disagree."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from connectors.postgres import feed
from connectors.postgres.policies import policies
from connectors.postgres.pool import Connection
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.screen import safe, safe_row
from infra.cli.session import database, run
from infra.connect import Endpoints, connection
from infra.drain import drained
from infra.settings import Settings
from infra.verify.records import records_of
from infra.verify.registry import CHECKS
from infra.verify.report import Check, Outcome
from infra.verify.run import verify as verify_all
from infra.verify.world import World

MOST_SHOWN: Final = 50
"""Disagreements of one check in the table for people; --json tells more."""

Seen = Annotated[
    list[Path] | None,
    typer.Option(
        "--seen", help="NDJSON of what crews hold: a file, or a folder of *.ndjson.", show_default=False
    ),
]
Captured = Annotated[
    list[Path] | None,
    typer.Option(
        "--captured", help="Bytes that departments were sent, to be searched as well.", show_default=False
    ),
]
Only = Annotated[
    list[str] | None, typer.Option("--only", help="Only this check; may be repeated.", show_default=False)
]
Wait = Annotated[
    float, typer.Option("--wait", min=0, help="Seconds to wait until everything accepted is handled.")
]


def verify(
    seen: Seen = None, captured: Captured = None, only: Only = None, wait: Wait = 60.0, as_json: Json = False
) -> None:
    """Compare what the installation holds: orders, ledgers, what departments were told, topics, webhooks, audit.

    Changes nothing. Exit code 1 when any two places disagree, or when something accepted is not handled yet.
    """
    checks = _chosen(only or [])
    files = _seen_files(seen or [])
    _all_there(captured or [])
    outcomes, moved = run(_verify(Settings(), checks, files, tuple(captured or []), wait))
    if as_json:
        print_json(as_values(outcomes, moved))
    else:
        _print(outcomes, moved)
    if any(one.disagreeing for one in outcomes):
        raise typer.Exit(ExitCode.FAILED)


# -- what to look at


def _chosen(names: Sequence[str]) -> list[Check]:
    known = {check.name: check for check in CHECKS}
    for name in names:
        if name not in known:
            raise Oops(f"There is no check {name}: there are {', '.join(known)}.", ExitCode.NOT_FOUND)
    return [check for check in CHECKS if not names or check.name in names]


def _seen_files(paths: Sequence[Path]) -> tuple[Path, ...]:
    _all_there(paths)
    files = [file for path in paths for file in (sorted(path.glob("*.ndjson")) if path.is_dir() else [path])]
    if paths and not files:
        raise Oops(f"No *.ndjson in {paths[0]}: expected one order per line.", ExitCode.NOT_FOUND)
    return tuple(files)


def _all_there(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.exists():
            raise Oops(f"There is no file or folder {path}.", ExitCode.NOT_FOUND)


async def _verify(
    settings: Settings,
    checks: Sequence[Check],
    seen: tuple[Path, ...],
    captured: tuple[Path, ...],
    wait_s: float,
) -> tuple[list[Outcome], bool]:
    """What the checks showed, and whether orders changed meanwhile."""
    there = connection(settings)
    is_drained = await _wait(settings, wait_s)
    async with database(there.database_url) as connected:
        before = await feed.end(connected)
        world = await _world(connected, there, is_drained, seen, captured)
        with _progress() as tell:
            outcomes = await verify_all(world, checks, tell)
        return outcomes, await feed.end(connected) != before


async def _world(
    connected: Connection,
    there: Endpoints,
    is_drained: bool,
    seen: tuple[Path, ...],
    captured: tuple[Path, ...],
) -> World:
    return World(
        connected, await policies(connected), records_of(there.brokers, there.security),
        keeps=not there.embedded, drained=is_drained, seen=seen, captured=captured,
    )  # fmt: skip


async def _wait(settings: Settings, wait_s: float) -> bool:
    """Whether everything that was accepted is handled, within this time."""
    looks = 0

    def count(_: object) -> None:
        nonlocal looks
        looks += 1
        if looks > 1 and asyncio.get_running_loop().time() > deadline:
            raise TimeoutError

    deadline = asyncio.get_running_loop().time() + wait_s
    try:
        await drained(settings, count)
    except TimeoutError:
        return False
    return True


@contextmanager
def _progress() -> Iterator[Any]:
    """On stderr, and only for a terminal."""
    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(), TextColumn("{task.description:<20}"), TextColumn("{task.completed:,}"),
        console=console, transient=True, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        bar = progress.add_task("", total=None)

        def tell(outcome: Outcome) -> None:
            progress.update(bar, description=outcome.check.name, completed=outcome.compared)

        yield tell


# -- what to say


def as_values(outcomes: Sequence[Outcome], moved: bool) -> dict[str, Any]:
    """JSON-ready. `changed_meanwhile`: something was handled during the comparison, so run it again."""
    return {
        "agree": not any(one.disagreeing for one in outcomes),
        "changed_meanwhile": moved,
        "checks": [
            {
                "check": one.check.name, "sentence": one.check.sentence, "compared": one.compared,
                "disagreeing": one.disagreeing, "no_longer_there": one.gone, "not_yet": dict(one.not_yet),
                "not_done": one.not_done, "do": one.check.do,
                "disagreements": [each._asdict() for each in one.disagreements],
            }
            for one in outcomes
        ],
    }  # fmt: skip


def _print(outcomes: Sequence[Outcome], moved: bool) -> None:
    print_table("What was compared", [_row(one) for one in outcomes], "Nothing.")
    for one in outcomes:
        if one.disagreeing:
            rows = [safe_row(each._asdict()) for each in one.disagreements[:MOST_SHOWN]]
            print_table(f"{one.check.name}: {one.check.sentence}", rows, "")
            if one.disagreeing > MOST_SHOWN:
                print(f"The first {MOST_SHOWN} of {one.disagreeing:,}: --json tells more.")
            print(f"What to do: {one.check.do}\n")
    print(_conclusion(outcomes))
    if moved:
        print("Something was handled meanwhile; what seems to disagree may only be newer. Run it again.")


def _row(one: Outcome) -> dict[str, Any]:
    return {
        "check": one.check.name,
        "compared": f"{one.compared:,}",
        "disagree": f"{one.disagreeing:,}" if one.disagreeing else "",
        "remark": remark_of(one),
    }


def remark_of(one: Outcome) -> str:
    """What was not compared, and why."""
    if one.not_done:
        return f"left out: {one.not_done}"
    left = [f"{count:,} {what}" for what, count in sorted(one.not_yet.items())]
    left += [f"{one.gone:,} not kept there any more"] if one.gone else []
    return f"not compared: {'; '.join(left)}" if left else ""


def _conclusion(outcomes: Sequence[Outcome]) -> str:
    failed = [one.check.name for one in outcomes if one.disagreeing]
    left_out = sum(one.not_done is not None for one in outcomes)
    suffix = f" {left_out} of {len(outcomes)} checks were left out." if left_out else ""
    if failed:
        return safe(f"Disagreements in {', '.join(failed)}.") + suffix
    return (
        f"Everything that was compared agrees: {sum(one.compared for one in outcomes):,} comparisons.{suffix}"
    )
