"""Putting a policy in force: judged against running work, kept, activated, in one transaction."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from connectors.postgres import activations
from connectors.postgres.activations import Activation, New
from connectors.postgres.policies import counts, keep_policy, kept_policies, orders_by
from connectors.postgres.pool import Connection
from infra.cli.errors import ExitCode, Oops
from infra.in_force import in_force
from infra.policy.breaks import InUse, Used, breaks
from infra.policy.differences import Change, differences
from schemas.policy import Policy

MOST_BROKEN: Final = 10


class Prospect(NamedTuple):
    """What it would mean to activate a policy now. `before` None: none is active."""

    policy: Policy
    before: Policy | None
    changes: Sequence[Change]
    in_use: InUse
    broken: Sequence[str]

    @property
    def is_active(self) -> bool:
        """Whether it holds already."""
        return self.before is not None and self.before.version == self.policy.version

    @property
    def new_departments(self) -> list[str]:
        """Departments that the active policy has not: their topics are to be made."""
        known = {one.code for one in self.before.departments} if self.before else set()
        return [one.code for one in self.policy.departments if one.code not in known]

    @property
    def other_departments(self) -> bool:
        """Whether workers have other topics to read afterwards, and so begin anew."""
        before = {one.code for one in self.before.departments} if self.before else set()
        return before != {one.code for one in self.policy.departments}

    @property
    def touched(self) -> list[str]:
        """What becomes of what is open."""
        if not self.in_use.open_orders:
            return ["No order is open."]
        count = self.in_use.open_orders
        goes_on = "1 open order goes on" if count == 1 else f"{count} open orders go on"
        lines = [f"{goes_on} by the policy that opened them: department, promises, stages, wording."]
        if self.other_departments:
            lines.append("Workers end their batches and begin anew, because the departments are others.")
        return lines


async def prospect(connection: Connection, policy: Policy) -> Prospect:
    """Look at what it would change and break, as things stand."""
    held = await in_force(connection)
    in_use = await used(connection)
    before = held.policy if held else None
    opened_under = list((await kept_policies(connection, list(in_use.opened_under))).values())
    return Prospect(
        policy,
        before,
        differences(before, policy) if before else (),
        in_use,
        breaks(policy, before or policy, in_use, opened_under),
    )


async def used(connection: Connection) -> InUse:
    """What open orders refer to."""
    open_orders, incidents = await counts(connection)
    found = {
        what: {key: Used(*value) for key, value in (await orders_by(connection, what)).items()}
        for what in ("department", "category", "area", "tier", "clock", "policy")
    }
    return InUse(
        open_orders, found["department"], found["category"], found["area"], found["tier"], found["clock"],
        found["policy"], incidents,
    )  # fmt: skip


async def put_in_force(
    connection: Connection, policy: Policy, by: str, why: str, prepare: Callable[[Prospect], Awaitable[None]]
) -> tuple[Prospect, Activation | None]:
    """Activate it, unless it is active already (None) or would break running work. `prepare`: what has to be there
    before anybody follows, such as topics. Raises Oops; then nothing has changed."""
    async with connection.transaction():
        await activations.wait_for_turn(connection)
        looked = await prospect(connection, policy)
        if looked.is_active:
            return looked, None
        if looked.broken:
            raise Oops(refusal(looked), ExitCode.INVALID)
        await prepare(looked)
        await keep_policy(connection, policy)
        return looked, await activations.activate(connection, New("policy", policy.version, by, why))


def refusal(looked: Prospect) -> str:
    """Why a policy cannot be activated now, and what to do."""
    active = f"; {looked.before.version} goes on" if looked.before else ""
    more = len(looked.broken) - MOST_BROKEN
    lines = [f"- {sentence}" for sentence in looked.broken[:MOST_BROKEN]]
    lines += [f"- and {more} more; `--json` tells all"] if more > 0 else []
    return "\n".join([f"The policy {looked.policy.version} would break running work{active}:", *lines])
