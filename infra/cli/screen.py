"""How the read commands draw: what comes from outside is text, never markup or a terminal's command."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.cli.output import PIPED_WIDTH


def console() -> Console:
    """Stdout; as wide as a table of `print_table` when no terminal reads it."""
    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = PIPED_WIDTH
    return out


def safe(value: Any) -> str:
    """A value as text that rich prints as it is; characters that do not print are written out; None: empty."""
    text = "" if value is None else str(value)
    return escape("".join(one if one.isprintable() or one == "\n" else f"\\x{ord(one):02x}" for one in text))


def safe_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose values are safe to print."""
    return {name: None if value is None else safe(value) for name, value in row.items()}


def fields(values: Mapping[str, Any]) -> Table:
    """Names and values, one to a line; those without a value are left out."""
    grid = Table.grid(padding=(0, 2))
    for name, value in values.items():
        if value not in (None, ""):
            grid.add_row(f"[dim]{escape(name)}[/]", safe(value))
    return grid


def short_time(at: str | None) -> str | None:
    """`2025-12-03 02:16Z` of an ISO time in UTC; None stays None."""
    return f"{at[:10]} {at[11:16]}Z" if at else None
