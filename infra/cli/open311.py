"""`rapid open311`: departments that only know 311, where their orders are filed, and how that goes."""

import asyncio
import os
import re
import signal
from datetime import UTC, datetime
from typing import Annotated, Any, Final, get_args
from urllib.parse import urlsplit

import typer

from connectors.open311.mapping import PHRASES, UNEXPLAINED, Meaning
from connectors.open311.view import service_code_of
from connectors.postgres import audit, feed, open311, open311_filings, readmodels
from connectors.postgres.audit import Entry
from connectors.postgres.open311_filings import Endpoint, Filing, Standing, State
from connectors.postgres.pool import Connection
from infra import views
from infra.cli.actor import actor
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.screen import safe_row, short_time
from infra.cli.session import database, run
from infra.connect import database_url
from infra.settings import Settings

app = typer.Typer(
    help="Open311: departments that only know 311, and the city's endpoint where their orders are filed.",
    no_args_is_help=True,
)

MOST_ROWS: Final = 10_000
MEANINGS: Final[frozenset[str]] = frozenset(
    {"note", *(one for part in get_args(Meaning) for one in get_args(part))}
)

Department = Annotated[str, typer.Argument(metavar="DEPARTMENT", help="Code or name.")]
Limit = Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="How many at most.")]


@app.command()
def add(
    department: Department,
    url: Annotated[str, typer.Argument(metavar="URL", help="What comes before /requests.json.")],
    *,
    key_variable: Annotated[
        str, typer.Option("--key-variable", help="Environment variable that holds the API key.")
    ],
    jurisdiction: Annotated[
        str | None, typer.Option("--jurisdiction", help="Its jurisdiction_id.", show_default=False)
    ] = None,
    service_code: Annotated[
        list[str] | None,
        typer.Option(
            "--service-code", metavar="CATEGORY=CODE", help="Instead of the policy's.", show_default=False
        ),
    ] = None,
    phrase: Annotated[
        list[str] | None,
        typer.Option(
            "--phrase", metavar="WORDS=OUTCOME", show_default=False,
            help="What closing notes mean, tried in this order; with any, ours count no more.",
        ),
    ] = None,
    per_minute: Annotated[
        int, typer.Option("--per-minute", min=1, max=6000, help="Requests that we send at most.")
    ] = 10,
    poll_s: Annotated[
        int, typer.Option("--poll-s", min=1, max=86_400, help="Seconds between two looks at a request.")
    ] = 300,
    only_new: Annotated[
        bool, typer.Option("--only-new", help="Leave out orders that the department was told of before.")
    ] = False,
) -> None:  # fmt: skip
    """Add a department's endpoint, or change it. `rapid courier` files and follows from then on."""
    _check(url, key_variable)
    given = Endpoint(
        department, url.rstrip("/"), key_variable, jurisdiction, _codes(service_code or []),
        _phrases(phrase or []), per_minute, poll_s,
    )  # fmt: skip
    added = run(_add(given, only_new=only_new))
    print(f"Orders of {added.department} are filed at {added.url}.")
    if not os.environ.get(key_variable):
        print(f"{key_variable} is not set here: it must be, where `rapid courier` runs.")


@app.command()
def remove(department: Department) -> None:
    """Forget an endpoint and what is known of its requests. They stay with the city."""
    run(_remove(department))
    print("Removed. What was filed there stays with the city, and is not followed any more.")


@app.command()
def endpoints(as_json: Json = False) -> None:
    """All endpoints, and how they fare."""
    found = [_of_endpoint(one) for one in run(_endpoints())]
    if as_json:
        print_json(found)
    else:
        shown = ("department", "url", "per_minute", "poll_s", "failures", "paused_until", "problem")
        rows = [safe_row({name: one[name] for name in shown}) for one in found]
        print_table("Open311 endpoints", rows, "There are no endpoints: see `rapid open311 add --help`.")


@app.command()
def status(
    department: Annotated[
        str | None, typer.Option("--department", help="Code or name.", show_default=False)
    ] = None,
    state: Annotated[
        State | None, typer.Option("--state", help="How far they are.", show_default=False)
    ] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """What was filed for which order, and what became of it; the newest first."""
    found = [_of_filing(one) for one in run(_status(department, state, limit))]
    if as_json:
        print_json(found)
    else:
        print_table("Filed", [safe_row(one) for one in found], "Nothing was filed.")


@app.command()
def news(limit: Limit = 50, as_json: Json = False) -> None:
    """311 requests that orders cover and that are done with them. The standard cannot close another's request:
    this is the list for whoever can."""
    found = [one.news.model_dump(mode="json") | {"at": one.at.isoformat()} for one in run(_news(limit))]
    if as_json:
        print_json(found)
    else:
        rows = [safe_row(one | {"at": short_time(one["at"])}) for one in found]
        print_table("News of 311 requests", rows, "There is no news of 311 requests.")


@app.command()
def follow() -> None:
    """File and follow in this process, until Ctrl-C or SIGTERM; `rapid courier` does the same."""
    settings = Settings()
    run(_follow(settings, database_url(settings)))


async def _follow(settings: Settings, url: str) -> None:
    from connectors.postgres.pool import create_pool
    from infra.open311 import follow_open311

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with await create_pool(url, max_size=4, application_name="rapid open311") as pool:
        await follow_open311(pool, settings, stop)


def _check(url: str, key_variable: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise Oops(
            f"{url} is no endpoint: give its address up to the version, like https://311.example.gov/open311/v2.",
            ExitCode.INVALID,
        )
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", key_variable):
        raise Oops(
            "--key-variable is the name of an environment variable, not the key itself.", ExitCode.INVALID
        )


def _codes(given: list[str]) -> dict[str, str]:
    return dict(_pair(one, "--service-code", "CATEGORY=CODE") for one in given)


def _phrases(given: list[str]) -> list[tuple[str, Any]]:
    pairs = [_pair(one, "--phrase", "WORDS=OUTCOME") for one in given]
    for _, meaning in pairs:
        if meaning not in MEANINGS - {"duplicate_of"}:
            known = ", ".join(sorted(MEANINGS - {"duplicate_of"}))
            raise Oops(f"--phrase ends in {meaning}: say one of {known}.", ExitCode.INVALID)
    return list(pairs)


def _pair(given: str, option: str, form: str) -> tuple[str, str]:
    left, _, right = given.rpartition("=")
    if not left.strip() or not right.strip():
        raise Oops(f"{option} is {form}: there is no = with words on both sides.", ExitCode.INVALID)
    return left.strip(), right.strip()


async def _add(given: Endpoint, *, only_new: bool) -> Endpoint:
    async with database(database_url(Settings())) as connected:
        code = await _department(connected, given.department)
        policy = await readmodels.newest_policy(connected)
        known = {one.code: service_code_of(one) for one in policy.categories} if policy else {}
        unknown = set(given.service_codes) - set(known)
        if known and unknown:
            raise Oops(f"--service-code names no category: {', '.join(sorted(unknown))}.", ExitCode.INVALID)
        endpoint = given._replace(department=code, service_codes=known | dict(given.service_codes))
        cursor = await feed.end(connected) if only_new else feed.Cursor()
        details = {"url": endpoint.url}
        async with connected.transaction():
            await open311_filings.put_endpoint(connected, endpoint, str(cursor))
            await audit.write(connected, [Entry(actor(), "open311.add", code, "done", details)])
    return endpoint


async def _remove(department: str) -> None:
    async with database(database_url(Settings())) as connected:
        code = await _department(connected, department)
        async with connected.transaction():
            if not await open311_filings.remove_endpoint(connected, code):
                raise Oops(f"{code} has no endpoint: see `rapid open311 endpoints`.", ExitCode.NOT_FOUND)
            await audit.write(connected, [Entry(actor(), "open311.remove", code)])


async def _endpoints() -> list[Standing]:
    async with database(database_url(Settings())) as connected:
        return await open311_filings.endpoints(connected)


async def _status(department: str | None, state: State | None, limit: int) -> list[Filing]:
    async with database(database_url(Settings())) as connected:
        code = await _department(connected, department) if department else None
        return await open311_filings.filings(connected, code, state, limit)


async def _news(limit: int) -> list[open311.News]:
    async with database(database_url(Settings())) as connected:
        return await open311.news(connected, limit)


async def _department(connected: Connection, name: str) -> str:
    try:
        return await views.department_code(connected, name)
    except views.UnknownName as unknown:
        raise Oops(str(unknown), ExitCode.NOT_FOUND) from unknown


def _of_endpoint(one: Standing) -> dict[str, Any]:
    shown = one.endpoint._asdict() | one._asdict()
    del shown["endpoint"], shown["cursor"]
    paused = one.paused_until if one.paused_until and one.paused_until > datetime.now(UTC) else None
    phrases = one.endpoint.phrases or PHRASES
    return shown | {"paused_until": paused, "phrases": phrases, "unexplained": UNEXPLAINED}


def _of_filing(one: Filing) -> dict[str, Any]:
    return {
        "department": one.department,
        "reference": one.reference,
        "number": one.number,
        "state": one.state,
        "service_request_id": one.service_request_id,
        "order": one.order.state,
        "request": one.seen.status if one.seen else None,
        "notes": one.seen.notes if one.seen else None,
        "due": one.due_at and short_time(one.due_at.isoformat()),
        "problem": one.problem,
    }
