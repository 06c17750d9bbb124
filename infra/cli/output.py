"""How commands print: a table for people, JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

PIPED_WIDTH: Final = 200
"""Columns of a table that is read by no terminal."""

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
    console.print(table)
