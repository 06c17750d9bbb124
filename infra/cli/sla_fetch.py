"""`rapid sla fetch`: download the holiday feeds that calendars.yaml names. What fails leaves the file that is there."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from connectors.feeds import Conditions, Fetched, Fetcher
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.screen import safe_row
from infra.policy.document import Document, read_document
from infra.policy.feeds import FeedFile, FetchResult, feeds_of, refresh
from infra.policy.files import CalendarsFile, shape_errors
from infra.policy.load import SHIPPED
from infra.settings import Settings

PolicyPath = Annotated[
    Path | None,
    typer.Option("--policy", help="The folder of the policy instead of the one in use.", show_default=False),
]


def fetch(
    *,
    calendar: Annotated[
        str | None, typer.Option("--calendar", help="The feeds of this calendar only.", show_default=False)
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only look: download and judge, but write nothing.")
    ] = False,
    policy: PolicyPath = None,
    as_json: Json = False,
) -> None:
    """Download holiday feeds (iCalendar) into the policy's folder. Exit code 1 when one of them fails."""
    folder = policy or Settings().policy or SHIPPED
    feeds = _feeds(_document(folder), calendar)
    try:
        results = asyncio.run(_refresh(feeds, folder, keep=not check))
    except OSError as error:
        raise Oops(f"{folder} cannot be written: {error.strerror or error}.", ExitCode.INVALID) from error
    if as_json:
        print_json([_as_json(one) for one in results])
    else:
        _print(results, check)
    failed = [one.feed.file for one in results if one.outcome == "failed"]
    if failed:
        kept = "Nothing was written" if check else "What was there stays"
        raise Oops(f"Not fetched: {', '.join(failed)}. {kept}.", ExitCode.FAILED)


def _document(folder: Path) -> Document:
    """calendars.yaml, as far as feeds need it: the policy itself cannot load before they have been fetched."""
    document = read_document(folder / "calendars.yaml")
    errors = document.errors or shape_errors(document, CalendarsFile)
    if errors:
        raise Oops(
            f"The calendars cannot be read: {errors[0]}; `rapid policy check {folder}` lists all.", ExitCode.INVALID
        )  # fmt: skip
    return document


def _feeds(document: Document, calendar: str | None) -> list[FeedFile]:
    known = [row.get("code") for _, row in document.rows("calendars")]
    if calendar is not None and calendar not in known:
        raise Oops(
            f"There is no calendar {calendar}: choose from {', '.join(map(str, known))}.", ExitCode.NOT_FOUND
        )
    return feeds_of(document, calendar)


async def _refresh(feeds: list[FeedFile], folder: Path, *, keep: bool) -> list[FetchResult]:
    """One after the other: they are few."""
    fetcher = Fetcher(ssl.create_default_context())

    async def get(url: str, have: Conditions, allow_http: bool) -> Fetched | None:
        return await fetcher.fetch(url, have, allow_http=allow_http)

    return [await refresh(feed, folder, get, datetime.now(UTC), keep=keep) for feed in feeds]


def _print(results: list[FetchResult], check: bool) -> None:
    rows = [
        safe_row({
            "file": one.feed.file,
            "calendars": ", ".join(one.feed.calendars),
            "result": one.outcome,
            "what": one.said,
            "years": ", ".join(sorted({f"{feed.years.first}-{feed.years.last}" for _, feed in one.feed.wanted})),
        })
        for one in results
    ]  # fmt: skip
    print_table("Holiday feeds", rows, "calendars.yaml names no feeds: see docs/sla.md.")
    if not check and any(one.outcome in {"new", "changed"} for one in results):
        print("The policy has another version now: restart what runs, so that it counts with these holidays.")


def _as_json(one: FetchResult) -> dict[str, Any]:
    return {
        "file": one.feed.file,
        "calendars": one.feed.calendars,
        "outcome": one.outcome,
        "said": one.said,
        "provenance": one.provenance.model_dump(mode="json"),
    }
