"""Policies by the names that people have for them: a folder, `active`, `shipped`, a version or the beginning of one."""

from pathlib import Path
from typing import Final, NamedTuple

from connectors.postgres import activations
from connectors.postgres.policies import all_kept
from connectors.postgres.pool import Connection
from infra.cli.errors import ExitCode, Oops
from infra.in_force import kept
from infra.policy.load import SHIPPED, PolicyErrors, load_policy
from schemas.policy import Policy

ACTIVE: Final = "active"
OWN: Final = "shipped"
LEAST_CHARACTERS: Final = 4
"""Of a version's beginning; fewer would be a folder's name more often than not."""


class Named(NamedTuple):
    """A policy, what it was asked by, and its folder; None: it is one that is kept in the database."""

    policy: Policy
    name: str
    folder: Path | None = None


def in_folder(name: str) -> Named | None:
    """The policy of a folder, or of a file in one; None: the name is none of a folder. Raises Oops."""
    path = SHIPPED if name == OWN else Path(name)
    folder = path.parent if path.is_file() else path
    if name == ACTIVE or not folder.is_dir():
        return None
    try:
        return Named(load_policy(folder), name, folder)
    except PolicyErrors as errors:
        raise Oops(errors.sentence, ExitCode.INVALID) from errors


async def named(connection: Connection, name: str) -> Named:
    """The policy of this name. Raises Oops when there is none, or more than one."""
    found = in_folder(name)
    if found is not None:
        return found
    if name == ACTIVE:
        latest = await activations.latest(connection, "policy")
        if latest is None:
            raise Oops(
                "No policy was ever activated here: start a worker, or activate one.", ExitCode.NOT_FOUND
            )
        return Named(await kept(connection, latest.version), name)
    return Named(await kept(connection, await _version(connection, name)), name)


async def _version(connection: Connection, name: str) -> str:
    versions = [one.version for one in await all_kept(connection)]
    matching = [one for one in versions if one == name] or [
        one for one in versions if len(name) >= LEAST_CHARACTERS and one.startswith(name)
    ]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise Oops(
            f"{name} is the beginning of {len(matching)} versions ({', '.join(matching)}): write more of it.",
            ExitCode.NOT_FOUND,
        )
    raise Oops(
        f"There is no policy {name}: expected a folder, {ACTIVE}, {OWN}, or a version that `rapid policy list` shows.",
        ExitCode.NOT_FOUND,
    )
