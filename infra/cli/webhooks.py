"""`rapid webhooks`: who is called when something is told, and how that goes."""

import getpass
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from connectors.postgres import audit, readmodels, webhooks
from connectors.postgres.pool import Connection
from connectors.webhooks.message import TEST_TYPE, envelope, headers, new_secret
from connectors.webhooks.schedule import Answer, is_delivered
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.screen import console, fields, safe_row, short_time
from infra.cli.session import database, run
from infra.connect import database_url
from infra.settings import Settings

app = typer.Typer(
    help="Webhooks: URLs that are called, signed, when a department is told something.", no_args_is_help=True
)

MOST_PENDING: Final = 10_000
"""Waiting messages are counted up to here."""
MOST_ROWS: Final = 10_000

Endpoint = Annotated[
    str, typer.Argument(metavar="ENDPOINT", help="Its id (wh_…), as `rapid webhooks list` shows it.")
]


@app.command()
def add(
    url: Annotated[str, typer.Option("--url", help="Where to post; https://….")],
    department: Annotated[
        str | None, typer.Option("--department", help="Code or name.", show_default=False)
    ] = None,
    supervisors: Annotated[
        bool,
        typer.Option("--supervisors", help="Instead of a department: references of all orders that change."),
    ] = False,
    from_start: Annotated[
        bool,
        typer.Option("--from-start", help="Also what was told before now, from the feed's beginning."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Register a URL. Its secret is shown this once: give it to the receiver's developer over a safe channel."""
    if (department is None) != supervisors:
        raise Oops("Say --department CODE, or --supervisors: one of the two.", ExitCode.INVALID)
    made = run(_add(Settings(), url, department, from_start))
    if as_json:
        print_json(made)
        return
    since = "everything that was told, from the beginning" if from_start else "what is told from now on"
    print(f"Endpoint {made['endpoint']} of {made['audience']}: it gets {since}.")
    _print_secret(made["secret"])
    if made["warning"]:
        print(made["warning"])


@app.command("list")
def list_endpoints(as_json: Json = False) -> None:
    """All endpoints: how they fare, how much waits, and those that were disabled with the reason."""
    found = run(_list(None))
    if as_json:
        print_json(found)
        return
    print_table("Webhook endpoints", [_row(one) for one in found], "There are no webhook endpoints.")
    for one in found:
        if one["alert"]:
            print(
                f"ALERT {one['endpoint']}: {one['alert']} Mend it, then: rapid webhooks enable {one['endpoint']}"
            )


@app.command()
def show(endpoint: Endpoint, as_json: Json = False) -> None:
    """Everything of one endpoint, but for its secret."""
    (found,) = run(_list(endpoint))
    if as_json:
        print_json(found)
    else:
        console().print(fields(found))


@app.command()
def rotate(
    endpoint: Endpoint,
    overlap_h: Annotated[
        float, typer.Option("--overlap-h", min=0, max=720, help="Hours in which the last secret signs too.")
    ] = 24,
    as_json: Json = False,
) -> None:
    """Give it a new secret, shown this once. Until the overlap ends each message carries both signatures."""
    made = run(_rotate(endpoint, overlap_h))
    if as_json:
        print_json(made)
        return
    _print_secret(made["secret"])
    print(f"The last secret signs too until {made['previous_until']}.")


@app.command()
def remove(endpoint: Endpoint) -> None:
    """Forget an endpoint, with its log and what waits for it."""
    run(_remove(endpoint))
    print(f"Removed {endpoint}.")


@app.command()
def disable(endpoint: Endpoint) -> None:
    """Send nothing more to it; what is told meanwhile waits until it is enabled."""
    run(_disable(endpoint))
    print(f"Disabled {endpoint}: what is told meanwhile waits.")


@app.command()
def enable(
    endpoint: Endpoint,
    skip_to_now: Annotated[
        bool, typer.Option("--skip-to-now", help="Without what waits: go on with what is told from now on.")
    ] = False,
    skip_one: Annotated[
        bool, typer.Option("--skip-one", help="Without the next message, which the receiver cannot take.")
    ] = False,
) -> None:
    """Send again, at once and from where it stopped: nothing that waits is lost. Its alerts are resolved."""
    skipped = run(_enable(endpoint, skip_to_now=skip_to_now, skip_one=skip_one))
    print(f"Enabled {endpoint}." + (f" Skipped {skipped}." if skipped else ""))


@app.command()
def redeliver(
    endpoint: Endpoint,
    message: Annotated[
        str | None, typer.Argument(metavar="[MESSAGE_ID]", help="One message (msg_…).", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", help="All that was told from this time on: 2026-07-01T00:00:00Z.", show_default=False
        ),
    ] = None,
) -> None:
    """Send again what was sent before, under the same ids. What waits is not held up by it, and keeps its order."""
    if (message is None) == (since is None):
        raise Oops("Say a MESSAGE_ID, or --since TIME: one of the two.", ExitCode.INVALID)
    count = run(_redeliver(endpoint, message, _instant(since) if since else None))
    print(f"{count} to be sent again, after what waits." if count else "Nothing was told since then.")


@app.command()
def log(
    endpoint: Endpoint,
    limit: Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:
    """Its attempts, the newest first: when, what, the answer, and what followed."""
    found = run(_log(endpoint, limit))
    if as_json:
        print_json(found)
    else:
        print_table(f"Attempts of {endpoint}", [_attempt(one) for one in found], "There were no attempts.")


@app.command("test")
def send_test(endpoint: Endpoint, as_json: Json = False) -> None:
    """Send one message of the type `webhook.test` now, from here, and show the answer. Nothing else changes."""
    answer = run(_test(endpoint, Settings()))
    if as_json:
        print_json(answer._asdict())
    else:
        print(f"{answer.sentence} It took {answer.duration_ms} ms.")
    if not is_delivered(answer):
        raise typer.Exit(ExitCode.FAILED)


# -- what they do


async def _add(settings: Settings, url: str, department: str | None, from_start: bool) -> dict[str, Any]:
    warning = await _warning(url, settings)
    endpoint_id, secret = f"wh_{secrets.token_hex(6)}", new_secret()
    async with _changing(settings) as (connected, done):
        audience = await _audience(connected, settings, department)
        await webhooks.add(connected, endpoint_id, audience, url, secret, from_start=from_start)
        done.append(
            _entry(
                "webhooks.add",
                endpoint_id,
                audience=audience,
                host=urlsplit(url).hostname,
                from_start=from_start,
            )
        )
    return {"endpoint": endpoint_id, "audience": audience or "supervisors", "url": url, "secret": secret,
            "warning": warning}  # fmt: skip


async def _warning(url: str, settings: Settings) -> str | None:
    """Refuse what could never be sent to; a name that does not resolve may do so later."""
    from connectors.webhooks.guard import Refused, addresses, check_url, resolve_by_system
    from infra.courier import borders

    allowed = borders(settings)
    try:
        await addresses(check_url(url, allowed), allowed, resolve_by_system)
    except Refused as refused:
        raise Oops(str(refused), ExitCode.INVALID) from refused
    except OSError:
        return "Its host does not resolve to an address yet: deliveries are tried again until it does."
    return None


async def _audience(connected: Connection, settings: Settings, department: str | None) -> str:
    if department is None:
        return ""
    from infra.policy.load import SHIPPED, load_policy

    policy = await readmodels.newest_policy(connected) or load_policy(settings.policy or SHIPPED)
    for one in policy.departments:
        if department.casefold() in {one.code, one.name.casefold()}:
            return one.code
    known = ", ".join(one.code for one in policy.departments)
    raise Oops(f"There is no department {department}: choose from {known}.", ExitCode.NOT_FOUND)


async def _list(endpoint: str | None) -> list[dict[str, Any]]:
    settings = Settings()
    async with database(database_url(settings)) as connected:
        rows = await webhooks.endpoints(connected, endpoint, MOST_PENDING)
        alerts = {row["endpoint_id"]: row["sentence"] for row in await webhooks.open_alerts(connected)}
    if endpoint is not None and not rows:
        raise _unknown(endpoint)
    return [_view(row, alerts.get(row["endpoint_id"]), settings) for row in rows]


async def _rotate(endpoint: str, overlap_h: float) -> dict[str, Any]:
    secret = new_secret()
    async with _changing(Settings(), endpoint) as (connected, done):
        until = await webhooks.rotate(connected, endpoint, secret, overlap_h * 3600)
        done.append(_entry("webhooks.rotate", endpoint, previous_until=_text(until)))
    return {"endpoint": endpoint, "secret": secret, "previous_until": _text(until)}


async def _remove(endpoint: str) -> None:
    async with _changing(Settings(), endpoint) as (connected, done):
        await webhooks.remove(connected, endpoint)
        done.append(_entry("webhooks.remove", endpoint))


async def _disable(endpoint: str) -> None:
    async with _changing(Settings(), endpoint) as (connected, done):
        await webhooks.disable(connected, endpoint, "Disabled by hand.")
        done.append(_entry("webhooks.disable", endpoint))


async def _enable(endpoint: str, *, skip_to_now: bool, skip_one: bool) -> str | None:
    skipped = None
    async with _changing(Settings(), endpoint) as (connected, done):
        if skip_one:
            skipped = await webhooks.skip_one(connected, endpoint)
        if skip_to_now:
            await webhooks.skip_to_now(connected, endpoint)
            skipped = "all that waited"
        await webhooks.enable(connected, endpoint)
        done.append(_entry("webhooks.enable", endpoint, skipped=skipped))
    return skipped


async def _redeliver(endpoint: str, message: str | None, since: datetime | None) -> int:
    async with _changing(Settings(), endpoint) as (connected, done):
        done.append(_entry("webhooks.redeliver", endpoint, message=message, since=_text(since)))
        if since is not None:
            return await webhooks.redeliver_since(connected, endpoint, since)
        if not await webhooks.redeliver_one(connected, endpoint, str(message)):
            raise Oops(
                f"The log of {endpoint} has no message {message}: see `rapid webhooks log {endpoint}`; "
                "--since reaches further back.",
                ExitCode.NOT_FOUND,
            )
        return 1


async def _log(endpoint: str, limit: int) -> list[dict[str, Any]]:
    async with database(database_url(Settings())) as connected:
        await _known(connected, endpoint)
        rows = await webhooks.attempts(connected, endpoint, limit)
    return [dict(row) | {"at": _text(row["at"])} for row in rows]


async def _test(endpoint: str, settings: Settings) -> Answer:
    from infra.courier import make_sender

    async with database(database_url(settings)) as connected:
        await _known(connected, endpoint)
        signing = await webhooks.signing(connected, endpoint)
    body = envelope(TEST_TYPE, signing.now, "{}")
    signed = headers(f"msg_test_{secrets.token_hex(8)}", body, signing.now, signing.secrets)
    return await make_sender(settings).send(signing.url, body, signed)


@asynccontextmanager
async def _changing(
    settings: Settings, endpoint: str | None = None
) -> AsyncIterator[tuple[Connection, list[audit.Entry]]]:
    """A transaction for a change by hand; what is put into the list goes to the audit trail with it."""
    done: list[audit.Entry] = []
    async with database(database_url(settings)) as connected, connected.transaction():
        if endpoint is not None:
            await _known(connected, endpoint)
        yield connected, done
        await audit.write(connected, done)


def _entry(action: str, endpoint: str, **details: Any) -> audit.Entry:
    return audit.Entry(f"cli:{getpass.getuser()}", action, endpoint, details=details)


async def _known(connected: Connection, endpoint: str) -> None:
    if not await webhooks.endpoints(connected, endpoint, 0):
        raise _unknown(endpoint)


def _unknown(endpoint: str) -> Oops:
    return Oops(f"There is no webhook endpoint {endpoint}: see `rapid webhooks list`.", ExitCode.NOT_FOUND)


# -- how they look


def _view(row: Any, alert: str | None, settings: Settings) -> dict[str, Any]:
    return {
        "endpoint": row["endpoint_id"],
        "audience": row["audience"] or "supervisors",
        "url": row["url"],
        "state": _state(row, settings),
        "pending": row["pending"],
        "failures": row["failures"],
        "failing_since": _text(row["failing_since"]),
        "next_attempt_at": _text(row["next_attempt_at"]) if row["failures"] else None,
        "delivered_at": _text(row["delivered_at"]),
        "rotating": bool(row["rotating"]),
        "created_at": _text(row["created_at"]),
        "disabled_at": _text(row["disabled_at"]),
        "disabled_why": row["disabled_why"],
        "alert": alert,
    }


def _state(row: Any, settings: Settings) -> str:
    if row["disabled_at"]:
        return "disabled"
    if row["failures"]:
        return "circuit open" if row["failures"] >= settings.webhook_breaker_failures else "retrying"
    return "sound"


def _row(one: dict[str, Any]) -> dict[str, Any]:
    return safe_row({
        "endpoint": one["endpoint"],
        "audience": one["audience"],
        "url": one["url"],
        "state": one["state"],
        "pending": f"{one['pending']}+" if one["pending"] == MOST_PENDING else one["pending"],
        "failures": one["failures"],
        "delivered": short_time(one["delivered_at"]),
        "next attempt": short_time(one["next_attempt_at"]),
    })  # fmt: skip


def _attempt(one: dict[str, Any]) -> dict[str, Any]:
    return safe_row({
        "at": one["at"][:19] + "Z",
        "message": one["message_id"],
        "about": one["subject"],
        "attempt": f"{one['attempt']}, again" if one["again"] else one["attempt"],
        "ms": one["duration_ms"],
        "rule": one["rule"],
        "answer": one["sentence"],
    })  # fmt: skip


def _print_secret(secret: str) -> None:
    print(f"Its secret, shown this once: {secret}")


def _text(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat() if at else None


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Oops(
            f"--since {text}: expected a time with its zone, like 2026-07-01T00:00:00Z.", ExitCode.INVALID
        )
    return at
