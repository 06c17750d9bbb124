"""Thousands of orders whose promises come due one after the other, written as their writer leaves them."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from agents.orders.life import live
from agents.orders.promises import Present, with_lines_due
from agents.orders.watch import Held, Seen, Watch
from agents.sla.book import Book
from connectors.ports import KnownOrder, OrderRow
from connectors.postgres.orders import PostgresOrders
from infra.policy.load import SHIPPED, load_policy
from schemas.policy import Policy
from schemas.promise import PromiseLine
from schemas.work_order import WorkOrder
from tests.sla.made_up import order_of

RUNGS = ("half", "breach")
BATCH = 500
WARM_UP_S = 3


class Plan(NamedTuple):
    """`orders` of them. Their first rung is due evenly over `spread_s` from `begins_at` on, their second rung when all
    first ones were. Some more come in the seconds before, at the same rate: who has just started finds its servers by
    them."""

    orders: int
    spread_s: int
    begins_at: datetime

    @property
    def numbers(self) -> range:
        return range(-self.orders * WARM_UP_S // self.spread_s, self.orders)

    @property
    def ends_at(self) -> datetime:
        """When the last rung is due."""
        return self.begins_at + timedelta(seconds=self.spread_s + gap_s(self.spread_s))

    def first_rung_at(self, number: int) -> datetime:
        return self.begins_at + timedelta(microseconds=round(number * self.spread_s * 1e6 / self.orders))


def gap_s(spread_s: int) -> int:
    """Seconds between the two rungs of an order."""
    return spread_s + 2 * WARM_UP_S


def policy_folder(folder: Path, spread_s: int) -> Path:
    """The shipped policy, but that the repair of a street light has these two rungs, and that it takes a year until
    anybody asks whether its order was seen."""
    shutil.copytree(SHIPPED, folder)
    yaml, file = YAML(), folder / "sla.yaml"
    terms = yaml.load(file)
    for promise in terms["promises"]:
        if promise["name"].startswith("lights_"):
            promise["clocks"] = [
                {"clock": "acknowledge", "budget": "17520h", "calendar": "24x7", "source": "test"},
                {
                    "clock": "resolve",
                    "budget": f"{2 * gap_s(spread_s)}s",
                    "calendar": "24x7",
                    "source": "test",
                },
            ]
    terms["rungs"] = [
        {"name": "half", "percent": 50, "level": 1}, {"name": "breach", "percent": 100, "level": 2},
    ]  # fmt: skip
    yaml.dump(terms, file)
    return folder


async def promise(connection: Any, folder: Path, plan: Plan) -> None:
    """Write the orders, their promises and their timers."""
    policy = load_policy(folder)
    book = Book([policy])
    for first in range(0, len(plan.numbers), BATCH):
        made = [_made(number, plan, policy, book) for number in plan.numbers[first : first + BATCH]]
        async with connection.transaction():
            await _store(PostgresOrders(connection), made)


class Made(NamedTuple):
    order: WorkOrder
    line: PromiseLine
    seen: Seen


def _made(number: int, plan: Plan, policy: Policy, book: Book) -> Made:
    at = plan.first_rung_at(number) - timedelta(seconds=gap_s(plan.spread_s))
    order = order_of(number, at, policy)
    present = with_lines_due(Present(order, live([], order.department, policy), (), 0), policy, at)
    seen = Watch(None, Held(order, [], present.lines)).look((), policy, book, at)
    assert seen is not None
    assert seen.timer is not None
    assert seen.timer.due_at == plan.first_rung_at(number)
    return Made(order, present.lines[0], seen)


async def _store(store: PostgresOrders, made: list[Made]) -> None:
    rows = [OrderRow(KnownOrder(one.order, 0, None), one.order.model_dump_json()) for one in made]
    await store.save_orders(rows)
    await store.save_promises([one.line for one in made], [one.seen.promises for one in made])
    await store.set_timers([one.seen.timer for one in made if one.seen.timer], [])
