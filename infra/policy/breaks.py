"""Pure: what running work would be broken by another policy, and what to do about it."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from schemas.policy import Policy

MOST_NAMED: Final = 5


class Used(NamedTuple):
    """How many open orders refer to something, and the first of them."""

    orders: int
    references: tuple[str, ...]

    def __str__(self) -> str:
        named = ", ".join(self.references[:MOST_NAMED])
        more = f" and {self.orders - MOST_NAMED} more" if self.orders > MOST_NAMED else ""
        return f"{'1 open order' if self.orders == 1 else f'{self.orders} open orders'} ({named}{more})"


class InUse(NamedTuple):
    """What open orders, and the promises on them, refer to."""

    open_orders: int
    departments: dict[str, Used]
    categories: dict[str, Used]
    areas: dict[int, Used]
    tiers: dict[str, Used]
    clocks: dict[tuple[str, str, str], Used]  # category, work, clock: those that run
    opened_under: dict[str, Used]  # policy versions
    incidents: int  # of any age: their cells are stored


def breaks(new: Policy, old: Policy, in_use: InUse, opened_under: Sequence[Policy] = ()) -> list[str]:
    """One sentence for each thing that running work needs and the new policy has not; empty: it can be activated.

    `opened_under`: the policies by which the open orders were opened, as far as they are kept.
    """
    return [
        *_departments(new, in_use, opened_under),
        *_categories(new, in_use),
        *_areas(new, in_use),
        *_tiers(new, in_use),
        *_clocks(new, in_use),
        *_cells(new, old, in_use),
    ]


def _departments(new: Policy, in_use: InUse, opened_under: Sequence[Policy]) -> Iterator[str]:
    for code, used in in_use.departments.items():
        if new.department(code) is None:
            yield (
                f"It has no department {code}, which has {used}: keep the department, give it no routes and categories "
                "any more, and activate without it once its orders are closed or routed to others."
            )
    for policy in opened_under:
        queue, used = policy.triage_queue, in_use.opened_under[policy.version]
        if new.department(queue) is None and queue not in in_use.departments:
            yield (
                f"It has no department {queue}, to which {used} opened under policy {policy.version} go when they are "
                "rejected: keep it until they are closed."
            )


def _categories(new: Policy, in_use: InUse) -> Iterator[str]:
    for code, used in in_use.categories.items():
        if new.category(code) is None:
            yield f"It has no category {code}, which {used} have: keep it, out of every plan, until they are closed."


def _areas(new: Policy, in_use: InUse) -> Iterator[str]:
    for number, used in in_use.areas.items():
        if new.areas and new.area(number) is None:
            yield f"It has no area {number}, in which {used} lie: keep it until they are closed."


def _tiers(new: Policy, in_use: InUse) -> Iterator[str]:
    known = {
        *(area.tier for area in new.areas), *new.severity.tier, new.default_tier, new.outside_tier,
        *(tier for plan in new.plans for tier in plan.tiers),
    }  # fmt: skip
    for tier, used in in_use.tiers.items():
        if tier not in known:
            yield (
                f"It has no tier {tier}, in which {used} were asked for: keep the tier, without areas if need be (a "
                "weight in severity.yaml is enough), until they are closed."
            )


def _clocks(new: Policy, in_use: InUse) -> Iterator[str]:
    for (category, work, clock), used in in_use.clocks.items():
        promised = {
            terms.clock
            for promise in new.sla.promises
            if promise.work == work and category in promise.categories
            for terms in promise.clocks
        }
        if promised and clock not in promised:
            yield (
                f"It promises no {clock} for {work} {category}, and {used} have that clock running: keep the clock in "
                "sla.yaml until they are closed."
            )


def _cells(new: Policy, old: Policy, in_use: InUse) -> Iterator[str]:
    for field in ("cell_resolution", "site_cell_resolution"):
        before, after = getattr(old, field), getattr(new, field)
        if before != after and in_use.incidents:
            yield (
                f"Its {field} is {after}, and places of {in_use.incidents} incidents are stored at {before}: keep "
                f"{before}; another one needs a database that is empty."
            )
