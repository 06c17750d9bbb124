"""What is in force in a process: one policy, one set of boundaries. Settled at its start, followed while it runs.

How to use it
-------------
*To put something in force*: keep its content under a version of its own (a policy in `policies`, boundaries in the
tables of areas), then, last in the same transaction,

    await activations.activate(connection, New("areas", version, actor(), why))

which waits for others who activate, adds the row, and writes the audit trail. To look before (what breaks?), call
`activations.wait_for_turn(connection)` first. Going back is activating the old version.

*To follow it in a process*:

    began = await settle(pool, settings)          # InForce(policy, areas, marks): what holds now
    ... build with began.policy, began.areas ...
    async with following(Follower(pool, began, changed)): ...

`changed(in_force)` is awaited within a second after a commit, with both of them; it is never called for what holds
already. When it raises, it is called again at the next look. `in_force.areas` is the version of the boundaries, None
as long as nothing but what comes with the product was ever activated.

*In a worker* all of that is done: `agents/app.py` builds the topology anew from (policy, geography) and turns the
switch (`agents/switch.py`), which each lane looks at once, at the start of a batch's transaction. So one batch is
decided wholly by one policy and one set of boundaries, and by the newest: the fence's statement tells of an activation
that the worker has not seen yet, and the batch begins anew once it has. Whoever adds boundaries changes
`agents.app.geography_of(settings, pool, version)` and nothing else; it is awaited in the running loop, before the
switch is turned, and may take its time (`asyncio.to_thread`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import asyncpg
from pydantic import ValidationError

from connectors.errors import Transient
from connectors.postgres import activations
from connectors.postgres.activations import ITSELF, New
from connectors.postgres.policies import keep_policy, kept_policies
from connectors.postgres.pool import Connection, Pool, classified
from infra.cli.errors import ExitCode, Oops
from infra.logging import logger
from infra.policy.load import SHIPPED, PolicyErrors, load_policy
from infra.settings import Settings
from schemas.policy import Policy

LOOK_EVERY_S: Final = 0.5
"""How soon a process follows: the row is small, and the look is one statement for the whole process."""
EXIT_OTHER_TOPICS: Final = 75
"""A worker of an embedded installation ends so when there are other topics to read: its supervisor sees to them."""
AT_FIRST_START: Final = "at first start"
WITH_THE_SOFTWARE: Final = "the software came with another policy"

log = logger(__name__)


class InForce(NamedTuple):
    """What holds. `areas`: the version of the boundaries, None: those that come with the product. `marks`: the numbers
    of the activations that say so."""

    policy: Policy
    areas: str | None
    marks: dict[str, int]

    @property
    def number(self) -> int:
        """Of the newest of these activations."""
        return max(self.marks.values())


class File(NamedTuple):
    """The policy that the settings name. `shipped`: it is the product's own."""

    policy: Policy
    shipped: bool


def file_of(settings: Settings) -> File:
    """The policy in RAPID_POLICY, else the shipped one. Raises PolicyErrors."""
    folder = settings.policy or SHIPPED
    return File(load_policy(folder), folder.resolve() == SHIPPED.resolve())


async def settle(pool: Pool, settings: Settings) -> InForce:
    """What holds when a process starts: the active policy, or, when there never was one, the file, which is activated.

    A file that differs from the active policy is told of once, and one that cannot be loaded is no reason not to start
    when another policy is active. Raises Transient, PolicyErrors, Oops.
    """
    try:
        file = file_of(settings)
    except PolicyErrors as errors:
        found = await _in_force(pool)
        if found is None:
            raise
        log.warning(
            "the active policy holds, the file is wrong", reason=errors.sentence, active=found.policy.version
        )
        return found
    try:
        async with pool.acquire() as connection, connection.transaction():
            await _begin(connection, file)
    except asyncpg.UndefinedTableError as error:
        raise Transient("The database has no tables of this version yet: run `rapid migrate`.") from error
    except Exception as error:
        raise classified(error) from error
    found = await _in_force(pool)
    assert found is not None
    if found.policy.version != file.policy.version:
        hint = differs(settings, found.policy.version)
        log.warning("the active policy holds, the file says something else", hint=hint)
    return found


def differs(settings: Settings, active: str) -> str:
    """What to say where the file is not what is active."""
    folder = settings.policy or SHIPPED
    return (
        f"The policy in {folder} differs from the active one ({active}): see `rapid policy diff active {folder}`, "
        f"and `rapid policy activate {folder} --why …` if it is to hold."
    )


async def _begin(connection: Connection, file: File) -> None:
    """Activate the file if nothing is active, or if it is the next of those that came with the software: one that never
    ran anything but shipped policies goes on with them. One that was active before does not come back by itself, so
    that two versions of the software that run at once do not take turns."""
    await activations.wait_for_turn(connection)
    before = await activations.history(connection, "policy")
    why = AT_FIRST_START
    if before:
        versions = {one.version for one in before}
        if not file.shipped or file.policy.version in versions or any(one.by != ITSELF for one in before):
            return
        why = WITH_THE_SOFTWARE
    await keep_policy(connection, file.policy)
    await activations.activate(connection, New("policy", file.policy.version, ITSELF, why))
    log.info("policy activated", policy=file.policy.version, why=why)


async def _in_force(pool: Pool) -> InForce | None:
    """What the database says holds; None: no policy was ever activated. Raises Transient, Oops."""
    try:
        async with pool.acquire() as connection:
            return await in_force(connection)
    except Exception as error:
        raise classified(error) from error


async def in_force(connection: Connection) -> InForce | None:
    """What holds, of one moment; None: no policy was ever activated. Raises Oops."""
    marks = await activations.marks(connection)
    policy = await activations.of_seq(connection, marks["policy"]) if "policy" in marks else None
    areas = await activations.of_seq(connection, marks["areas"]) if "areas" in marks else None
    if policy is None:
        return None
    return InForce(await kept(connection, policy.version), areas.version if areas else None, marks)


async def kept(connection: Connection, version: str) -> Policy:
    """A policy that is kept, by its version. Raises Oops."""
    try:
        found = await kept_policies(connection, [version])
    except ValidationError as error:
        raise Oops(
            f"The policy {version} was kept by another version of this program and cannot be read by this one: "
            "activate a policy from its folder, with `rapid policy activate FOLDER --why …`.",
            ExitCode.INVALID,
        ) from error
    if version not in found:
        raise Oops(
            f"The policy {version} is not kept in the database: activate one from its folder, with `rapid policy "
            "activate FOLDER --why …`.",
            ExitCode.NOT_FOUND,
        )
    return found[version]


class Follower:
    """Looks whether something else holds by now, and says so once. One for each process."""

    def __init__(self, pool: Pool, began: InForce, changed: Callable[[InForce], Awaitable[Any]]) -> None:
        self._pool = pool
        self._marks = began.marks
        self._changed = changed
        self._one_at_a_time = asyncio.Lock()

    async def look(self) -> None:
        """Raises Transient when the database is away; then what held goes on holding. What `changed` raises, too."""
        async with self._one_at_a_time:
            await self._look()

    async def _look(self) -> None:
        try:
            async with self._pool.acquire() as connection:
                if await activations.marks(connection) == self._marks:
                    return
                found = await in_force(connection)
        except Exception as error:
            raise classified(error) from error
        if found is not None:
            await self._changed(found)
            self._marks = found.marks
            log.info("in force from now on", policy=found.policy.version, areas=found.areas)


@asynccontextmanager
async def following(follower: Follower) -> AsyncIterator[None]:
    """Look again and again meanwhile."""
    task = asyncio.create_task(_look_again_and_again(follower), name="what is in force")
    try:
        yield
    finally:
        task.cancel()


async def _look_again_and_again(follower: Follower) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            await follower.look()
        except (Transient, Oops) as error:
            log.warning("what is in force is looked at later", reason=str(error))
        except Exception:  # nobody would miss this task, and the process would stay behind
            log.exception("unexpected, what is in force is looked at later")
