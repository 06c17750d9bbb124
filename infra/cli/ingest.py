"""`rapid ingest`: what is taken in as it comes: the city's portal, and files that are dropped."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn

from connectors.files.fields import TIME_EXAMPLES, zoned
from connectors.files.reading import Reading
from connectors.portal.feeds import FEEDS, Feed, feed_named
from connectors.portal.query import soda_time
from connectors.portal.reading import Counts
from infra.cli.durations import duration
from infra.cli.errors import ExitCode, Oops
from infra.cli.ingest_folder import folder
from infra.cli.output import Json, print_json, print_table
from infra.cli.policy_now import policy_now
from infra.cli.session import run
from infra.logging import configure
from infra.portal import Plan, feeds_of, ingest
from infra.settings import Settings
from infra.stopping import set_by_signals

app = typer.Typer(
    help="Take in what comes: the city's open data portal, files that are dropped.", no_args_is_help=True
)

REFRESH_EVERY_S: Final = 0.2
MOST_TYPES: Final = 3

Datasets = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset", metavar="NAME", show_default="all",
        help="victims, shotspotter, crimes, requests, or the portal's id; may be repeated.",
    ),
]  # fmt: skip
Since = Annotated[
    str | None,
    typer.Option(
        help="Read again what the portal changed from then on; local time of the city. Where nothing was read yet: "
        "begin there.",
        show_default=False,
    ),
]
Once = Annotated[bool, typer.Option("--once", help="One pass over each dataset, then end.")]
Every = Annotated[
    str | None,
    typer.Option(metavar="5m", help="Look at all datasets this often.", show_default="each at its own pace"),
]


app.command("folder")(folder)


@app.command("portal")
def portal(
    dataset: Datasets = None,
    since: Since = None,
    once: Once = False,
    every: Every = None,
    as_json: Json = False,
) -> None:
    """Take in what is new at the city's open data portal.

    Goes on until Ctrl-C or SIGTERM, or ends after one pass with --once. Ended anywhere, also killed, the same command
    goes on where it stopped. Exit code 7: a dataset could not be read to its end; the others were.
    """
    settings = Settings()
    reading = _reading(settings)
    plan = _plan(settings, reading, dataset or [], since, once, every)
    counts = [Counts(feed) for feed in plan.feeds]
    console = Console(stderr=True)
    watched = console.is_terminal and not as_json
    configure("CRITICAL" if watched or once else settings.log_level, settings.log_format)
    run(_run(settings, reading, plan, counts, console if watched else None))
    if as_json:
        print_json([_as_json(one) for one in counts])
    else:
        _print(counts)
    if any(one.problem for one in counts):
        raise Oops(_what_failed(counts), ExitCode.UNREACHABLE)


def _plan(  # noqa: PLR0917 - as typer gives them
    settings: Settings,
    reading: Reading,
    names: Sequence[str],
    since: str | None,
    once: bool,
    every: str | None,
) -> Plan:
    if once and every:
        raise Oops("Say --once or --every: a command that ends after one pass has no pace.", ExitCode.INVALID)
    feeds = list({feed.id: feed for feed in map(_feed, names)}.values()) or feeds_of(settings)
    if not feeds:
        raise Oops("RAPID_PORTAL_EVERY turns every dataset off: name one with --dataset.", ExitCode.INVALID)
    pace = None if every is None else duration(every)
    if pace is not None and not pace:
        raise typer.BadParameter("longer than nothing, such as 5m", param_hint="--every")
    return Plan(feeds, once, pace, _moment(since, reading))


def _feed(name: str) -> Feed:
    feed = feed_named(name)
    if feed is None:
        known = ", ".join(f"{one.name} ({one.id})" for one in FEEDS)
        raise typer.BadParameter(f"no dataset that we read: {known}", param_hint="--dataset")
    return feed


def _moment(text: str | None, reading: Reading) -> datetime | None:
    try:
        return None if text is None else zoned(text, reading.zone)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"expected a time such as 2025-12-02, {TIME_EXAMPLES}", param_hint="--since"
        ) from error


def _reading(settings: Settings) -> Reading:
    return Reading.by(policy_now(settings))


async def _run(
    settings: Settings, reading: Reading, plan: Plan, counts: Sequence[Counts], console: Console | None
) -> None:
    stop = asyncio.Event()
    with set_by_signals(stop):
        async with _shown(counts, console):
            await ingest(settings, reading, plan, counts, stop)


@asynccontextmanager
async def _shown(counts: Sequence[Counts], console: Console | None) -> AsyncIterator[None]:
    """A line for each dataset, kept up to date meanwhile; None shows nothing."""
    if console is None:
        yield
        return
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console) as bars:
        tasks = [bars.add_task(_line(one), total=None) for one in counts]

        def refresh() -> None:
            for task, one in zip(tasks, counts, strict=True):
                _refresh(bars, task, one)

        refreshing = asyncio.create_task(_again_and_again(refresh))
        try:
            yield
        finally:
            refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await refreshing
            refresh()


async def _again_and_again(refresh: Callable[[], None]) -> None:
    while True:
        refresh()
        await asyncio.sleep(REFRESH_EVERY_S)


def _refresh(bars: Progress, task: TaskID, one: Counts) -> None:
    bars.update(task, description=_line(one))


def _line(one: Counts) -> str:
    """The progress of a dataset in words."""
    said = [f"{one.feed.name:<12}{one.rows:,} rows", f"{one.accepted:,} new", f"{one.requests:,} requests"]
    if one.mark:
        said.append(f"up to {soda_time(one.mark)}")
    stuck = one.waits_for or one.problem
    return escape(", ".join(said)) + (f" [yellow]{escape(stuck)}[/]" if stuck else "")


def _print(counts: Sequence[Counts]) -> None:
    print_table("The city's portal", [_row(one) for one in counts], "No dataset.")
    for one in counts:
        for finding in one.findings.values():
            print(f"{one.feed.name}: {finding.sentence}")
        if one.out_of_scope:
            print(f"{one.feed.name}: out of scope were {_types(one)}.")
        if one.left_over:
            print(f"{one.feed.name}: published {one.left_over:,} more that were accepted before.")
    if any(one.defects for one in counts):
        print("Defects: `rapid dead-letters list` says where they stand and why.")


def _row(one: Counts) -> dict[str, str]:
    return {
        "dataset": f"{one.feed.name} ({one.feed.id})",
        "rows read": f"{one.rows:,}",
        "accepted": f"{one.accepted:,}",
        "known already": f"{one.known:,}",
        "out of scope": f"{one.out_of_scope.total():,}",
        "defects": f"{one.defects:,}",
        "requests": f"{one.requests:,}",
        "high-water mark": soda_time(one.mark) if one.mark else "none yet",
        "": "not to its end" if one.problem else "nothing new" if one.unchanged else "",
    }


def _types(one: Counts) -> str:
    first = [f"{count:,} {name}" for name, count in one.out_of_scope.most_common(MOST_TYPES)]
    others = len(one.out_of_scope) - len(first)
    return ", ".join(first) + (f" and {others} more types" if others else "")


def _what_failed(counts: Sequence[Counts]) -> str:
    failed = " ".join(f"{one.feed.name}: {one.problem}" for one in counts if one.problem)
    return f"{failed} What was accepted is kept, and the same command goes on from there."


def _as_json(one: Counts) -> dict[str, Any]:
    return {
        "dataset": one.feed.name,
        "portal_id": one.feed.id,
        "passes": one.passes,
        "rows": one.rows,
        "accepted": one.accepted,
        "known": one.known,
        "out_of_scope": dict(one.out_of_scope.most_common()),
        "defects": one.defects,
        "left_over": one.left_over,
        "requests": one.requests,
        "unchanged": one.unchanged,
        "mark": soda_time(one.mark) if one.mark else None,
        "findings": [finding._asdict() for finding in one.findings.values()],
        "problem": one.problem or None,
    }
