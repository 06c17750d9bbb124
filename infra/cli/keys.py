"""`rapid keys`: who may enter with an API key."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer

from connectors.access.key import ApiKey, new_key, new_secret
from connectors.access.principal import ROLES
from connectors.access.roles import Granted, Misfit, granted
from connectors.postgres import audit, keys
from connectors.postgres.audit import Entry
from connectors.postgres.keys import StoredKey
from connectors.postgres.pool import Connection
from infra.cli.actor import actor
from infra.cli.durations import duration
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.policy_now import policy_now
from infra.cli.screen import safe_row, short_time
from infra.cli.session import database, run
from infra.connect import database_url
from infra.settings import Settings

app = typer.Typer(help="API keys: make one, list them, give one a new secret, end one.", no_args_is_help=True)

ONCE: Final = "This is the only time that it is shown: keep it where secrets are kept."

Id = Annotated[str, typer.Argument(metavar="ID", help="The key's id: the middle part of rapid_ID_…")]
Name = Annotated[str, typer.Option("--name", help="Whose it is, for those who read the list.")]
Roles = Annotated[
    list[str], typer.Option("--role", metavar="|".join(ROLES), help="What it may; say it again for more.")
]
OfDepartment = Annotated[
    str | None,
    typer.Option("--department", help="Code of its department, with --role department.", show_default=False),
]
Expires = Annotated[
    timedelta | None,
    typer.Option(
        "--expires",
        parser=duration,
        metavar="DURATION",
        help="How long it is good, such as 90d. Unset: for ever.",
    ),
]
Overlap = Annotated[
    timedelta,
    typer.Option(
        "--overlap", parser=duration, metavar="DURATION",
        help="How long the old secret stays good; 0s when it may have leaked.",
    ),
]  # fmt: skip


@app.command()
def create(
    *,
    name: Name,
    role: Roles,
    department: OfDepartment = None,
    expires: Expires = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it: this once, for only a digest of it is kept."""
    settings = Settings()
    given = _given(role, department, settings)
    key = run(_create(settings, _label(name), given, expires))
    _show(key, f"Key {key.key_id} for {name.strip()}.", as_json=as_json)


@app.command()
def rotate(key_id: Id, overlap: Overlap = "24h", as_json: Json = False) -> None:  # type: ignore[assignment]
    """Give a key a new secret and print it; the old secret stays good for a while."""
    key = run(_rotate(key_id, overlap))
    _show(key, f"The old secret of {key_id} stays good for {overlap}. Above is the new one.", as_json=as_json)


@app.command()
def revoke(key_id: Id) -> None:
    """End a key for ever, within seconds (RAPID_KEY_MEMORY_S)."""
    run(_revoke(key_id))
    print(f"Revoked {key_id}.")


@app.command("list")
def list_keys(as_json: Json = False) -> None:
    """All keys, the oldest first, with what they may and when they were used last; never their secrets."""
    now = datetime.now(UTC)
    found = [_as_json(key, now) for key in run(_list())]
    if as_json:
        print_json(found)
    else:
        print_table(
            "API keys", [_row(key) for key in found], "There are no API keys: see `rapid keys create`."
        )


def _given(names: list[str], department: str | None, settings: Settings) -> Granted:
    for name in set(names) - set(ROLES):
        raise typer.BadParameter(f"{name} is none of {', '.join(ROLES)}", param_hint="--role")
    try:
        given = granted([role for role in ROLES if role in names], department)
    except Misfit as misfit:
        raise typer.BadParameter(str(misfit), param_hint="--role, --department") from misfit
    if department is not None:
        _known(department, settings)
    return given


def _known(department: str, settings: Settings) -> None:
    policy = policy_now(settings)
    if policy.department(department) is None:
        codes = ", ".join(sorted(one.code for one in policy.departments))
        raise Oops(f"The policy has no department {department}; it has {codes}.", ExitCode.NOT_FOUND)


def _label(name: str) -> str:
    label = name.strip()
    if not 0 < len(label) <= 100 or not label.isprintable():
        raise typer.BadParameter("at most 100 printable characters", param_hint="--name")
    return label


async def _create(settings: Settings, name: str, given: Granted, expires: timedelta | None) -> ApiKey:
    key, now = new_key(), datetime.now(UTC)
    expires_at = now + expires if expires else None
    told = {
        "name": name, "roles": sorted(given.roles), "department": given.department, "expires_at": expires_at
    }  # fmt: skip
    async with database(database_url(settings)) as connected, connected.transaction():
        await keys.add(
            connected, key, name=name, roles=sorted(given.roles), department=given.department,
            created_at=now, expires_at=expires_at,
        )  # fmt: skip
        await _tell(connected, "keys.create", key.key_id, told)
    return key


async def _rotate(key_id: str, overlap: timedelta) -> ApiKey:
    key, until = new_secret(key_id), datetime.now(UTC) + overlap
    async with database(database_url(Settings())) as connected, connected.transaction():
        if not await keys.rotate(connected, key, until):
            raise await _why_not(connected, key_id)
        await _tell(connected, "keys.rotate", key_id, {"old_secret_until": until})
    return key


async def _revoke(key_id: str) -> None:
    async with database(database_url(Settings())) as connected, connected.transaction():
        if not await keys.revoke(connected, key_id, datetime.now(UTC)):
            raise await _why_not(connected, key_id)
        await _tell(connected, "keys.revoke", key_id, {})


async def _list() -> list[StoredKey]:
    async with database(database_url(Settings())) as connected:
        return await keys.every(connected)


async def _why_not(connection: Connection, key_id: str) -> Oops:
    if await keys.find(connection, key_id) is None:
        return Oops("There is no such key: see `rapid keys list` for the ids.", ExitCode.NOT_FOUND)
    return Oops(f"The key {key_id} is revoked already.")


async def _tell(connection: Connection, action: str, key_id: str, details: Mapping[str, Any]) -> None:
    await audit.write(connection, [Entry(actor(), action, key_id, "done", details)])


def _show(key: ApiKey, remark: str, *, as_json: bool) -> None:
    """The key alone on stdout, so that a script can take it; the rest is for a person."""
    if as_json:
        print_json({"key_id": key.key_id, "key": key.text})
        return
    print(key.text)
    print(f"{remark} {ONCE}", file=sys.stderr)


def _as_json(key: StoredKey, now: datetime) -> dict[str, Any]:
    overlaps = key.previous_until is not None and now < key.previous_until
    return {
        "key_id": key.key_id, "name": key.name, "state": key.state(now), "roles": list(key.roles),
        "department": key.department, "created_at": _text(key.created_at), "expires_at": _text(key.expires_at),
        "revoked_at": _text(key.revoked_at), "last_used_at": _text(key.last_used_at),
        "old_secret_until": _text(key.previous_until) if overlaps else None,
    }  # fmt: skip


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _row(key: dict[str, Any]) -> dict[str, Any]:
    return safe_row({
        "id": key["key_id"],
        "name": key["name"],
        "state": key["state"],
        "roles": ", ".join(key["roles"]),
        "department": key["department"],
        "created": short_time(key["created_at"]),
        "expires": short_time(key["expires_at"]),
        "last used": short_time(key["last_used_at"]),
        "old secret until": short_time(key["old_secret_until"]),
    })  # fmt: skip
