"""`rapid sources`: where reports come from, how each source does, and what a mapping file makes of a sample."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.table import Table

from connectors.files.errors import FileProblem
from connectors.mapping.items import Numbered, Sample, sample_of
from connectors.mapping.mapping import Refuse, SourceMapping
from connectors.mapping.taking import Border, take
from infra.cli.errors import ExitCode, Oops
from infra.cli.ingest_folder import policy_now
from infra.cli.output import Json, print_json, print_table
from infra.cli.screen import console, safe
from infra.cli.session import database, run
from infra.connect import database_url
from infra.in_force import file_of
from infra.policy.load import PolicyErrors
from infra.settings import Settings
from infra.sources.ingest import drop_folder, refusals
from infra.sources.load import MappingErrors, Sources, as_rows, load_mapping, load_sources
from infra.sources.overview import overview, ways_of
from schemas.policy import Policy
from schemas.source import SourceLine

app = typer.Typer(
    help="Where reports come from: list, show, check a mapping file.", invoke_without_command=True
)

MOST_SHOWN: Final = 5

MappingPath = Annotated[Path, typer.Argument(metavar="MAPPING", help="A mapping file, or a folder of them.")]
SamplePath = Annotated[
    Path | None,
    typer.Argument(
        metavar="SAMPLE-FILE", help="A file of the source, instead of the mapping's own `sample`."
    ),
]
Rows = Annotated[int, typer.Option("--rows", min=1, max=50, help="Rows that are shown.")]


@app.callback()
def _group(ctx: typer.Context, as_json: Json = False) -> None:
    """Where reports come from. Without a command: list them."""
    if ctx.invoked_subcommand is None:
        list_sources(as_json)


@app.command("list")
def list_sources(as_json: Json = False) -> None:
    """Every source, each with its last success, lag, counts of the last day, and what is wrong with it."""
    settings = Settings()
    _, found = run(_asked(settings))
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    rows = [_row(ways) for ways in _by_source(found)]
    print_table("Sources", rows, "No source is configured, and nothing was reported yet.")
    for one in found:
        if one.problem:
            print(f"{one.source} ({one.way}): {one.problem}")


@app.command("show")
def show(code: Annotated[str, typer.Argument(help="Code of a source.")], as_json: Json = False) -> None:
    """One source: its ways in, its mapping, where its files go."""
    settings = Settings()
    sources, found = run(_asked(settings))
    lines = [one for one in found if one.source == code]
    mapping = sources.right.get(code)
    if not lines and mapping is None:
        raise Oops(f"There is no source {code}: see `rapid sources list`.", ExitCode.NOT_FOUND)
    if as_json:
        print_json({
            "source": code, "lines": [one.model_dump(mode="json") for one in lines],
            "mapping": mapping.file.model_dump(mode="json", exclude_unset=True) if mapping else None,
            "folder": str(drop_folder(settings, code)) if mapping else None,
        })  # fmt: skip
        return
    print_table(code, [_row([one]) for one in lines], "Nothing came of it yet.")
    for one in lines:
        if one.problem:
            print(f"{one.way}: {one.problem}")
    if mapping is not None:
        _print_mapping(settings, mapping)


@app.command("check")
def check(
    mapping: MappingPath, sample: SamplePath = None, rows: Rows = MOST_SHOWN, as_json: Json = False
) -> None:
    """Check a mapping file, and show what the first rows of a sample become.

    Needs nothing that runs. Every error is named with file, line and key (exit code 1).
    """
    settings = Settings()
    try:
        policy = file_of(settings).policy
    except PolicyErrors as errors:
        raise Oops(errors.sentence, ExitCode.INVALID) from errors
    if mapping.is_dir():
        _check_folder(mapping, policy, as_json)
        return
    try:
        found = load_mapping(mapping, policy, sample)
    except MappingErrors as errors:
        _leave_with([errors], as_json)
    _show_sample(mapping, sample, found, refusals(lambda: policy), rows, as_json)
    if found.file.report == "incident" and policy.linking and policy.linking.rank_of([found.source]) is None:
        typer.echo(
            f"Its incidents stay events of their own: linking.ranks in the policy does not name {found.source}.",
            err=True,
        )


def _check_folder(folder: Path, policy: Policy, as_json: bool) -> None:
    found = load_sources(folder, policy)
    if found.wrong:
        _leave_with(list(found.wrong.values()), as_json)
    if as_json:
        print_json({"ok": True, "sources": sorted(found.right), "errors": []})
        return
    rows = [
        {"source": one.source, "report": one.file.report, "ways": ", ".join(ways_of(one))}
        for one in found.right.values()
    ]
    print_table(f"{folder} is right", rows, f"{folder} holds no mapping files.")


def _leave_with(wrong: Sequence[MappingErrors], as_json: bool) -> NoReturn:
    if as_json:
        print_json({"ok": False, "errors": [row for one in wrong for row in as_rows(one)]})
    else:
        for one in wrong:
            typer.echo(str(one), err=True)
    raise typer.Exit(1)


async def _asked(settings: Settings) -> tuple[Sources, Sequence[SourceLine]]:
    sources = load_sources(settings.sources, await policy_now(settings))
    async with database(database_url(settings)) as connection:
        found = await overview(connection, sources, settings.portal, datetime.now(UTC))
    return sources, found.items


def _by_source(lines: Sequence[SourceLine]) -> list[list[SourceLine]]:
    """The lines of each source together: those of its doors. What the stream took in of it stands by itself."""
    found: dict[tuple[str, bool], list[SourceLine]] = {}
    for one in lines:
        found.setdefault((one.source, one.way == "intake"), []).append(one)
    return list(found.values())


def _row(ways: Sequence[SourceLine]) -> dict[str, Any]:
    """One source, by whichever ways it comes."""
    last = max((one.last_success_at for one in ways if one.last_success_at), default=None)
    return {
        "source": ways[0].source,
        "way": _each(one.way for one in ways),
        "what": _each(one.what for one in ways),
        "last success": f"{last:%Y-%m-%d %H:%MZ}" if last else "never",
        "lag": _length(min((one.lag_s for one in ways if one.lag_s is not None), default=None)),
        "accepted, 24 h": f"{sum(one.accepted_24h for one in ways):,}",
        "refused, 24 h": f"{sum(one.refused_24h for one in ways):,}",
        "": _state(ways),
    }


def _each(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _state(ways: Sequence[SourceLine]) -> str:
    if any(one.problem for one in ways):
        return "problem"
    return "" if any(one.configured for one in ways) else "seen, not configured"


def _length(seconds: int | None) -> str:
    """`3 h`: no more than a person wants to know."""
    if seconds is None:
        return ""
    for unit, in_seconds in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * in_seconds:
            return f"{seconds // in_seconds} {unit}"
    return f"{seconds} s"


def _print_mapping(settings: Settings, mapping: SourceMapping) -> None:
    rows = [
        {"field": name, "from": _origin(mapping, name), "": ", ".join(_turns(mapping, name))}
        for name in mapping.file.fields
    ]
    print_table(f"{mapping.file.report} reports from {mapping.file.format}", rows, "")
    print(f"Files: {drop_folder(settings, mapping.source)}/incoming")
    if "webhook" in ways_of(mapping):
        print(f"Webhook: POST /v1/sources/{mapping.source}")


def _origin(mapping: SourceMapping, name: str) -> str:
    rule = mapping.file.fields.get(name)
    if rule is None:
        return ""
    if rule.gives("value"):
        return "always nothing" if rule.value is None else f"always {rule.value}"
    return (", " if rule.lat else " or ").join(rule.columns)


def _turns(mapping: SourceMapping, name: str) -> list[str]:
    """What is done to what is read."""
    rule = mapping.file.fields[name]
    said = [f"{theirs} → {ours}" for theirs, ours in (rule.table or {}).items()]
    if rule.table is not None:
        said.append(f"else {rule.otherwise_value if rule.gives('otherwise_value') else rule.otherwise}")
    return said + ([f"after {rule.prefix}"] if rule.prefix else []) + ([rule.format] if rule.format else [])


def _show_sample(  # noqa: PLR0917 - as they are asked for
    path: Path, sample: Path | None, mapping: SourceMapping, refuse: Refuse, rows: int, as_json: bool
) -> None:
    """What the first rows become, and the counts of all rows of the sample."""
    file = sample or (path.parent / mapping.file.sample if mapping.file.sample else None)
    if file is None:
        if as_json:
            print_json({"ok": True, "source": mapping.source, "errors": [], "rows": []})
        else:
            print(
                f"{path.name} is right. To see what becomes of rows: `rapid sources check {path} SAMPLE-FILE`."
            )
        return
    try:
        found = sample_of(file, mapping.file)
    except FileProblem as problem:
        raise Oops(str(problem), 2) from problem
    _print_sample(_Shown(mapping, refuse, file), found, rows, as_json)


class _Shown:
    """How rows of a sample are shown."""

    def __init__(self, mapping: SourceMapping, refuse: Refuse, file: Path) -> None:
        self.mapping = mapping
        self.border = Border(mapping, refuse, file.name)
        self.now = datetime.now(UTC)

    def row(self, one: Numbered) -> dict[str, Any]:
        """A row as what becomes of it."""
        taken = take([one], self.border, self.now)
        if taken.refusals:
            refusal = taken.refusals[0]
            return {"row": one.number, "refused": refusal.expected, "column": refusal.field or None}
        if taken.skipped:
            return {"row": one.number, "skipped": True}
        return {"row": one.number, "report": taken.reports[0].model_dump(mode="json")}


def _print_sample(shown: _Shown, found: Sample, rows: int, as_json: bool) -> None:
    taken = take(found.items, shown.border, shown.now)
    first = [shown.row(one) for one in found.items[:rows]]
    if as_json:
        print_json({
            "ok": True, "source": shown.mapping.source, "errors": [], "rows": first, "accepted": len(taken.events),
            "skipped": taken.skipped, "refused": len(taken.refusals),
        })  # fmt: skip
    else:
        _print_rows(shown.mapping, first)
        print(
            f"{taken.rows:,} rows: {len(taken.events):,} accepted, {taken.skipped:,} not our subject, "
            f"{len(taken.refusals):,} refused."
        )
        for one in taken.refusals[:MOST_SHOWN]:
            column = f", column {one.field}" if one.field else ""
            print(f"Row {one.row}{column}: expected {one.expected}")
    if taken.refusals and not taken.events and not taken.skipped:
        raise typer.Exit(1)


def _print_rows(mapping: SourceMapping, rows: Sequence[dict[str, Any]]) -> None:
    """A column for each row: reports have more fields than a terminal is wide."""
    table = Table(
        title=f"{mapping.source}: what the first rows become", title_justify="left", header_style="bold"
    )
    table.add_column("field")
    table.add_column("from", style="dim", overflow="fold")
    for row in rows:
        table.add_column(f"row {row['row']}", overflow="fold")
    table.add_row("", "", *(_outcome(row) for row in rows))
    for name in mapping.file.fields:
        cells = [_cell(row["report"].get(name)) if "report" in row else "" for row in rows]
        table.add_row(name, safe(_origin(mapping, name)), *cells)
    console().print(table)


def _outcome(row: dict[str, Any]) -> str:
    if "refused" in row:
        return "[red]refused[/]"
    return "[yellow]not our subject[/]" if "skipped" in row else "[green]accepted[/]"


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['lat']}, {value['lon']}"
    return safe(str(value).lower() if isinstance(value, bool) else value)
