"""`rapid doctor`: is this machine fit for it, and is what runs sound?"""

import asyncio
import os
from collections.abc import Sequence
from typing import Final

from rich.console import Console

from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json
from infra.cli.screen import safe
from infra.settings import Settings
from infra.watching.examine import examine
from infra.watching.findings import Finding, Level

MARKS: Final[dict[Level, str]] = {
    "ok": "[green]ok  [/]", "warn": "[yellow]warn[/]", "fail": "[bold red]fail[/]", "unknown": "[dim]-   [/]",
}  # fmt: skip


def doctor(as_json: Json = False) -> None:
    """Check this machine, what it decides by, and what runs: each finding with what to do about it.

    `ok`, `warn` (it works, and will not for long or not as it should), `fail`, `-` (nothing runs that could be looked
    at). Exit code 1: something fails.
    """
    found = asyncio.run(examine(Settings(), os.environ))
    if as_json:
        print_json([one._asdict() for one in found])
    else:
        _print(found)
    wrong = dict.fromkeys(one.check for one in found if one.level == "fail")
    if wrong:
        raise Oops(f"Not right: {', '.join(wrong)}.", ExitCode.FAILED)


def _print(found: Sequence[Finding]) -> None:
    console = Console(highlight=False)
    whole_lines = not console.is_terminal
    for one in found:
        console.print(f"{MARKS[one.level]} {one.check:<15} {safe(one.said)}", soft_wrap=whole_lines)
        if one.fix:
            console.print(f"     [dim]{'→':>15}[/] {safe(one.fix)}", soft_wrap=whole_lines)
