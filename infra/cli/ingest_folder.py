"""`rapid ingest folder`: files that other systems drop."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from connectors.filedrop.picker import Counts
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.session import database, run
from infra.connect import database_url
from infra.in_force import file_of, in_force
from infra.logging import configure
from infra.policy.load import PolicyErrors
from infra.settings import Settings
from infra.sources.ingest import Current, Following, Plan, drop_folder, ingest
from infra.sources.live import LiveSources
from infra.sources.load import Sources
from infra.stopping import set_by_signals
from schemas.policy import Policy

MOST_REFUSALS: Final = 5

OfSources = Annotated[
    list[str] | None,
    typer.Option("--source", metavar="CODE", show_default="all", help="Code of a source; may be repeated."),
]
Once = Annotated[bool, typer.Option("--once", help="Take in what is there, then end.")]


def folder(source: OfSources = None, once: Once = False, as_json: Json = False) -> None:
    """Take in files that other systems drop, by the mapping files in RAPID_SOURCES.

    A file that is put into incoming/ of its source's folder ends in processed/ or failed/, with a report beside it.
    Ended anywhere, also killed, the same command goes on where it stopped. Exit code 1: with --once, a file failed.
    """
    settings = Settings()
    configure("CRITICAL" if once else settings.log_level, settings.log_format)
    current = Current(run(policy_now(settings)))
    following = Following(LiveSources(settings.sources, current), current)
    found = following.live.found
    mappings = _chosen(settings, found, source or [], once)
    counts = [Counts(one) for one in mappings]
    if once:
        _tell_wrong(found)
    run(_run(settings, following, Plan(source or [], once), counts))
    if as_json:
        print_json([_as_json(settings, one) for one in counts])
    elif once:
        _print(settings, counts)
    if once and any(one.problem or any(done.failed for done in one.files) for one in counts):
        raise Oops("Not everything could be taken in: see the reports in failed/ and `rapid sources list`.")


async def policy_now(settings: Settings) -> Policy:
    """The policy that is in force. Raises Oops."""
    try:
        async with database(database_url(settings)) as connection:
            found = await in_force(connection)
        return found.policy if found else file_of(settings).policy
    except PolicyErrors as errors:
        raise Oops(errors.sentence, ExitCode.INVALID) from errors


def _chosen(settings: Settings, found: Sources, names: Sequence[str], once: bool) -> list[str]:
    """The codes of the sources that are asked for. Raises Oops where there are none, but for a process that goes on:
    a mistake in a mapping file must not end it again and again."""
    for name in names:
        wrong = next((one for file, one in found.wrong.items() if name in (file, one.source)), None)
        if wrong is not None and name not in found.right:
            raise Oops(f"The mapping of {name} is wrong: {wrong.sentence}", ExitCode.INVALID)
        if name not in found.right:
            known = ", ".join(sorted(found.right)) or "none"
            raise Oops(
                f"There is no source {name}: the mapping files in RAPID_SOURCES name {known}.",
                ExitCode.NOT_FOUND,
            )
    if names:
        return list(dict.fromkeys(names))
    if not found.right and (once or settings.sources is None):
        wrong = next(iter(found.wrong.values()), None)
        raise Oops(
            f"No mapping file can be used: {wrong.sentence}" if wrong
            else "No source is configured: set RAPID_SOURCES to a folder with mapping files (docs/sources.md).",
            ExitCode.INVALID,
        )  # fmt: skip
    return sorted(found.right)


def _tell_wrong(found: Sources) -> None:
    """Mappings that are wrong are left out, and told; the others go on."""
    for name, errors in found.wrong.items():
        print(f"rapid: {name} is left out: {errors.sentence}", file=sys.stderr)


async def _run(settings: Settings, following: Following, plan: Plan, counts: list[Counts]) -> None:
    stop = asyncio.Event()
    with set_by_signals(stop):
        await ingest(settings, following, plan, counts, stop)


def _as_json(settings: Settings, one: Counts) -> dict[str, Any]:
    return {
        "source": one.source,
        "folder": str(drop_folder(settings, one.source)),
        "files": [done.report | {"file": done.name, "failed": done.failed} for done in one.files],
        "left_over": one.left_over,
        "busy": one.busy,
        "problem": one.problem or None,
    }


def _print(settings: Settings, counts: Sequence[Counts]) -> None:
    rows = [
        {
            "source": one.source, "file": done.name, "rows": f"{done.report['rows']:,}",
            "accepted": f"{done.report['accepted']:,}", "skipped": f"{done.report['skipped']:,}",
            "refused": f"{done.report['refused']:,}", "": "failed" if done.failed else "",
        }
        for one in counts
        for done in one.files
    ]  # fmt: skip
    print_table("Dropped files", rows, "No file was there that nobody writes any more.")
    for one in counts:
        _print_more(settings, one)


def _print_more(settings: Settings, one: Counts) -> None:
    for done in one.files:
        for refusal in done.report["refusals"][:MOST_REFUSALS]:
            column = f", column {refusal['field']}" if refusal["field"] else ""
            print(f"{one.source}, {done.name}, row {refusal['row']}{column}: expected {refusal['expected']}")
        more = done.report["refused"] - MOST_REFUSALS
        if more > 0:
            print(
                f"{one.source}, {done.name}: and {more:,} more, which its report and the dead letters name."
            )
    if one.left_over:
        print(f"{one.source}: published {one.left_over:,} more that were accepted before.")
    if one.busy:
        print(f"{one.source}: another process works on {drop_folder(settings, one.source)}.")
    if one.problem:
        print(f"{one.source}: {one.problem}")
