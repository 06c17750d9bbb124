"""What `rapid simulate day` shows: live, and at the end."""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from infra.cli.session import run
from infra.embedded.temporary import signals_as_interrupts, temporary
from infra.policy.load import SHIPPED
from infra.simulate.day import FULL, SETTINGS, SMALL, Asked, Progress, Result, run_day
from infra.simulate.departments.command import loaded, uses_of

WIDTH: Final = 100
SHOW_EVERY_S: Final = 1.0
SAY_EVERY_S: Final = 5.0
"""Without a terminal, a line so often."""
PLANTED: Final = "SIMULATED_DAY_PLANTED"
MINUTES: Final = 3.0
MINUTES_SMALL: Final = 0.5


def live(
    seed: int, minutes: float | None, use: Sequence[str], *, small: bool, kill: bool, quiet: bool
) -> Result:
    """Run the day and show it. Raises Oops."""
    console = Console(highlight=False, stderr=quiet)
    if not console.is_terminal or console.width > WIDTH:
        console.width = WIDTH
    stream_s = (minutes or (MINUTES_SMALL if small else MINUTES)) * 60
    asked = Asked(seed, stream_s, SMALL if small else FULL, kill, uses_of(use, loaded(SHIPPED)), _plant)
    console.print("Starting broker, database, workers, API and couriers in a folder of their own.")
    with signals_as_interrupts(), temporary("day", asked.size.workers, SETTINGS) as there:
        there.await_ready()
        progress = Progress()
        result = run(_shown(console, progress, run_day(there, there.home.folder.parent, asked, progress)))
        if not quiet:
            _show(console, result)
    return result


def _plant(seen: Path, received: Path) -> None:
    """For the test that the day's checks can fail: one line of each is made wrong, where the environment says so."""
    if PLANTED in os.environ:
        first, *others = seen.read_text().splitlines()
        seen.write_text("\n".join([json.dumps(json.loads(first) | {"area": 99}), *others]) + "\n")
        with next(received.iterdir()).open("ab") as captured:
            captured.write(os.environ[PLANTED].encode() + b"\n")


async def _shown(console: Console, progress: Progress, day: Any) -> Result:
    """The day, with what it does on the screen meanwhile."""
    running: asyncio.Task[Result] = asyncio.create_task(day)
    picture = Live(console=console, auto_refresh=False) if console.is_terminal else None
    every_s = SHOW_EVERY_S if picture else SAY_EVERY_S
    if picture:
        picture.start()
    try:
        while not running.done():
            if picture:
                picture.update(_picture(progress), refresh=True)
            else:
                console.print(_sentence(progress), soft_wrap=True)
            await asyncio.wait({running}, timeout=every_s)
        return running.result()
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await running
        if picture:
            picture.stop()


def _sentence(progress: Progress) -> str:
    parts = [
        f"{progress.seconds:3.0f} s  {progress.doing}: {progress.sent:,} of {progress.reports:,} reports"
    ]
    if progress.status:
        parts.append(f"{progress.status['work_orders']:,} work orders")
    if progress.team:
        rows = progress.team.rows()
        parts.append(
            f"{sum(row['said'] for row in rows):,} said, {sum(row['to say'] for row in rows):,} to say"
        )
    if progress.faults.killed:
        parts.append(f"killed {', '.join(progress.faults.killed)}")
    return "; ".join(parts)


def _picture(progress: Progress) -> Group:
    rows = progress.team.rows() if progress.team else []
    return Group(_sentence(progress), _table("", rows)) if rows else Group(_sentence(progress))


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for name in rows[0] if rows else ():
        table.add_column(
            name.replace("_", " "), justify="left" if name in ("department", "interface") else "right"
        )
    for row in rows:
        table.add_row(*("" if value is None else escape(str(value)) for value in row.values()))
    return table


def _show(console: Console, result: Result) -> None:
    console.print()
    console.print(_table("Work orders by department and state", result.orders))
    console.print(_table("Updates, by who sent them and the verdict", result.updates))
    faults = [{"killed": part, "times": times, "came back": result.faults["back"].get(part, 0)}
              for part, times in result.faults["killed"].items()]  # fmt: skip
    if faults:
        console.print(_table("Faults (SIGKILL)", faults))
    told = ", ".join(f"{code} {size:,}" for code, size in result.received_bytes.items())
    console.print(f"Told to departments, bytes: {told}; searched for whatever would tell of an incident.")
    if result.agrees:
        console.print(f"[bold green]Everything agrees[/], after {result.seconds:.0f} s.")
    else:
        console.print("[bold red]Not everything agrees:[/]")
        console.print(json.dumps(result.verify, indent=2), soft_wrap=True)
