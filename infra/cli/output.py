"""How commands print: a table for people, JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

PIPED_WIDTH: Final = 200
"""Columns of a table that is read by no terminal."""

UNBOUNDED_WIDTH: Final = 10_000
"""Columns that are enough for any table: to find out how many it needs."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]


def print_json(value: Any) -> None:
    """One JSON document on stdout; dates and ids as text."""
    print(json.dumps(value, indent=2, default=str))


def print_table(title: str, rows: Sequence[Mapping[str, Any]], empty: str) -> None:
    """The rows as a table whose columns are the keys of the first; `empty` is said when there are none."""
    if not rows:
        print(empty)
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in rows[0]:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else escape(str(value)) for value in row.values()))
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    elif (
        console.measure(table, options=console.options.update(width=UNBOUNDED_WIDTH)).minimum > console.width
    ):
        _print_paragraphs(console, title, rows)  # a table would break references and times in two
        return
    console.print(table)


def _print_paragraphs(console: Console, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """One paragraph for each row, for a terminal that is too narrow for the table: what stands first, then the rest."""
    console.print(f"[bold]{escape(title)}[/bold]")
    for row in rows:
        (_, first), *rest = row.items()
        said = ", ".join(
            f"[dim]{escape(name.replace('_', ' '))}[/dim] {escape(str(value))}"
            for name, value in rest
            if value not in (None, "")
        )
        console.print(f"[bold]{escape(str(first))}[/bold]", highlight=False)
        console.print(Padding(said, (0, 0, 0, 2)), highlight=False)
