"""`rapid policy activate | list | history | diff`: which policy holds, since when, and what changes."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from connectors.kafka.admin import KafkaAdmin, NotAllowed
from connectors.postgres import activations
from connectors.postgres.activations import Activation
from connectors.postgres.policies import all_kept, decisions_taken
from infra.cli.actor import actor
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.session import database, run
from infra.connect import connected, database_url
from infra.embedded.installation import topics_for
from infra.policy.activating import Prospect, prospect, put_in_force, refusal
from infra.policy.differences import Change, by_group, differences
from infra.policy.named import ACTIVE, Named, in_folder, named
from infra.settings import Settings
from schemas.topics import all_topics

MOST_WHY: Final = 200
NO_DIFFERENCE: Final = "Nothing that decides anything is different."

What = Annotated[
    str,
    typer.Argument(metavar="FOLDER|VERSION", help="A policy's folder; `shipped`; or a version that is kept."),
]
Why = Annotated[
    str, typer.Option("--why", help="Why, for the history and the audit trail.", show_default=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change and what it touches.")]


def activate(policy: What, why: Why = "", dry_run: DryRun = False, as_json: Json = False) -> None:
    """Put a policy in force: checked as a whole, kept, audited, and followed by all processes within a second.

    Workers change between two batches, never within one. Orders that are open go on by the policy that opened them.
    What would break running work is refused (exit code 8). Going back is activating the old version.
    """
    reason = "" if dry_run else _why(why)
    if dry_run:
        looked = run(_look(policy))
        _show_prospect(looked, as_json)
        if looked.broken:
            raise typer.Exit(ExitCode.INVALID)
        return
    looked, added = run(_activate(policy, reason))
    if as_json:
        print_json(_prospect_json(looked) | {"activation": _activation_json(added) if added else None})
    elif added is None:
        print(f"{looked.policy.version} is active already.")
    else:
        print(f"Active from now on: {added.version}{_instead(looked)}. {_followed(looked)}")


def _why(text: str) -> str:
    """The reason as typed. Raises typer.BadParameter."""
    why = text.strip()
    if not 0 < len(why) <= MOST_WHY or not why.isprintable():
        raise typer.BadParameter(
            f"say why, in 1 to {MOST_WHY} printable characters: the history keeps it", param_hint="--why"
        )
    return why


def _instead(looked: Prospect) -> str:
    before = looked.before.version if looked.before else None
    changes = f", {len(looked.changes)} differences" if looked.changes else ""
    return f" (before: {before}{changes})" if before else ""


def _followed(looked: Prospect) -> str:
    if looked.other_departments:
        return "Workers end their batches and begin anew, for other departments."
    return "Workers follow within a second, between two batches."


async def _look(name: str) -> Prospect:
    async with database(database_url(Settings())) as connection:
        found = await named(connection, name)
        return await prospect(connection, found.policy)


async def _activate(name: str, why: str) -> tuple[Prospect, Activation | None]:
    settings = connected(Settings())

    async def prepare(looked: Prospect) -> None:
        if looked.new_departments:
            await _make_topics(settings, looked)

    async with database(settings.database_url) as connection:
        found = await named(connection, name)
        return await put_in_force(connection, found.policy, actor(), why, prepare)


async def _make_topics(settings: Settings, looked: Prospect) -> None:
    """Before anybody reads them. Raises Oops, Transient."""
    admin = KafkaAdmin(settings.broker_list, security=settings.security)
    codes = [one.code for one in looked.policy.departments]
    missing = sorted({topic.name for topic in all_topics(codes)} - set(await admin.partitions()))
    if not missing:
        return
    try:
        await admin.create(topics_for(settings, codes), replication=settings.replication)
    except NotAllowed as error:
        raise Oops(
            f"The topics of new departments ({', '.join(missing)}) are not there, and this login may not make them: "
            "activate with an administrator's login, then run `rapid topics acls --apply`.",
            ExitCode.FAILED,
        ) from error


# ---------------------------------------------------------------- what there is


def list_policies(as_json: Json = False) -> None:
    """The policies that are kept: every one that ever held. The active one is marked."""
    rows = run(_kept())
    if as_json:
        print_json(rows)
        return
    shown = [row | {"active": "active" if row["active"] else ""} for row in rows]
    print_table("Policies", shown, "No policy is kept yet: a worker keeps one when it starts.")


async def _kept() -> list[dict[str, Any]]:
    async with database(database_url(Settings())) as connection:
        latest = await activations.latest(connection, "policy")
        return [
            {
                "version": one.version, "active": latest is not None and one.version == latest.version,
                "kept_since": one.recorded_at, "last_activated": one.at, "by": one.by, "why": one.why,
            }
            for one in await all_kept(connection)
        ]  # fmt: skip


def history(as_json: Json = False) -> None:
    """Which policy held from when to when, who activated it, why, and how many decisions were taken under it.

    Some are taken later, when another one holds: an open order lives by the policy that opened it. So the count of a
    period that is over still grows, by what departments say of such orders.
    """
    rows = run(_history())
    if as_json:
        print_json(rows)
        return
    short = [
        row | {end: f"{row[end]:%Y-%m-%d %H:%M:%SZ}" for end in ("from", "to") if row[end]} for row in rows
    ]
    print_table("History", short, "No policy was ever activated here.")


async def _history() -> list[dict[str, Any]]:
    async with database(database_url(Settings())) as connection:
        rows = await activations.history(connection, "policy")
        taken = await decisions_taken(connection)
    ends = [*(row.at for row in rows[1:]), None]
    return [
        {
            "version": row.version,
            "from": row.at,
            "to": end,
            "by": row.by,
            "why": row.why,
            "decisions": taken[row.seq].decisions,
            "of_these_later": taken[row.seq].later,
        }
        for row, end in zip(rows, ends, strict=True)
    ]


# ---------------------------------------------------------------- differences

One = Annotated[str, typer.Argument(metavar="A", help="A folder, `active`, `shipped`, or a version.")]
Other = Annotated[str, typer.Argument(metavar="B", help="The same; what is new here is called new.")]


def diff(a: One, b: Other, as_json: Json = False) -> None:
    """In what two policies differ, in words, grouped: areas, plans, promises, people on call …"""
    old, new = _both(a, b)
    changes = differences(old.policy, new.policy)
    if as_json:
        print_json({"from": old.policy.version, "to": new.policy.version, "changes": _changes_json(changes)})
        return
    _print_changes(old, new, changes)


def _both(a: str, b: str) -> tuple[Named, Named]:
    """Folders need nothing that runs. Raises Oops."""
    one, other = in_folder(a), in_folder(b)
    return (one, other) if one and other else run(_from_database(a, b))


async def _from_database(a: str, b: str) -> tuple[Named, Named]:
    async with database(database_url(Settings())) as connection:
        return await named(connection, a), await named(connection, b)


def _print_changes(old: Named, new: Named, changes: Sequence[Change]) -> None:
    versions = old.policy.version, new.policy.version
    if versions[0] == versions[1]:
        print(f"There is no difference: both are policy {versions[0]}.")
        return
    print(f"From {old.name} ({versions[0]}) to {new.name} ({versions[1]}):")
    _print_groups(changes)


def _print_groups(changes: Sequence[Change]) -> None:
    if not changes:
        print(NO_DIFFERENCE)
    for group, some in by_group(changes).items():
        print(f"\n{group}")
        for change in some:
            print(f"  {change}")


def _changes_json(changes: Sequence[Change]) -> list[dict[str, Any]]:
    return [change._asdict() | {"in_words": str(change)} for change in changes]


# ---------------------------------------------------------------- a dry run


def _show_prospect(looked: Prospect, as_json: bool) -> None:
    if as_json:
        print_json(_prospect_json(looked))
        return
    if looked.is_active:
        print(f"{looked.policy.version} is active already: nothing would change.")
        return
    before = looked.before.version if looked.before else "none"
    print(f"From {ACTIVE} ({before}) to {looked.policy.version}:")
    _print_groups(looked.changes)
    print("\nWhat it touches")
    for line in looked.touched:
        print(f"  {line}")
    print(f"\n{refusal(looked)}" if looked.broken else "\nIt can be activated.")


def _prospect_json(looked: Prospect) -> dict[str, Any]:
    return {
        "version": looked.policy.version,
        "before": looked.before.version if looked.before else None,
        "active_already": looked.is_active,
        "changes": _changes_json(looked.changes),
        "touches": looked.touched,
        "new_departments": looked.new_departments,
        "breaks": list(looked.broken),
    }


def _activation_json(added: Activation) -> dict[str, Any]:
    return added._asdict()
