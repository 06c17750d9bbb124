"""Alerts, people and a notifier for the tests of notify."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from agents.notify import samples
from connectors.notify.schedule import Limits
from connectors.notify.sender import Sender
from connectors.ports import Told
from connectors.postgres import feed, notifications
from connectors.postgres.pool import create_pool
from infra.notify import Notifier, Pace, Ways
from infra.notify_templates import load_templates
from schemas.alert import Alert, AlertEvent, AlertEventKind
from schemas.oncall import Channel, Holder, OncallPolicy, Person, Role
from schemas.policy import Policy
from tests.webhooks.receiver import LIMIT_S, until

START = datetime(2026, 11, 24, 21, 30, tzinfo=UTC)
CHICAGO = "America/Chicago"
FAST = Limits(first_retry_s=60, longest_retry_s=3600, give_up_s=6 * 3600, dead_failures=3)


class Clock:
    """The time that a notifier is given; the test moves it on."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


def person(code: str, *channels: str, **more: Any) -> Person:
    return Person(code=code, name=f"{code.title()} Desk", time_zone=CHICAGO, channels=channels, **more)


def people(
    urls: Mapping[str, str], *persons: Person, levels: Mapping[int, Sequence[str]] | None = None
) -> OncallPolicy:
    """Persons with their channels; each level's one role is held by those named, level 2 by the first person."""
    levels = levels or {2: [persons[0].code]}
    return OncallPolicy(
        channels=tuple(Channel(code=code, url=url) for code, url in urls.items()),
        persons=persons,
        roles=tuple(
            Role(code=f"role{level}", name=f"Role {level}", level=level, scope="city")
            for level in range(1, 5)
        ),
        holders=tuple(Holder(role=f"role{level}", persons=tuple(codes)) for level, codes in levels.items()),
    )


async def in_force(connection: Any, policy: Policy, oncall: OncallPolicy, version: str = "test") -> None:
    """Store the policy as the newest one."""
    content = policy.model_copy(update={"oncall": oncall, "version": version}).model_dump_json()
    await connection.execute("INSERT INTO policies (version, content) VALUES ($1, $2)", version, content)


async def tell(connection: Any, *events: AlertEvent) -> None:
    """What the orders agent writes to the feed, in one transaction."""
    rows = [Told("", "alert", str(one.alert.alert_id), one.seq, one.model_dump_json()) for one in events]
    async with connection.transaction():
        await feed.add(connection, rows)


def fired(number: int = 1, kind: AlertEventKind = "fired", seq: int = 1, **changes: Any) -> AlertEvent:
    """An event of the alert about an invented order."""
    alert: Alert = samples.alert(number, **changes)
    return samples.event(alert, kind, seq)


@asynccontextmanager
async def notifying(
    database_url: str, clock: Clock, *, name: str = "one", limits: Limits = FAST, timeout_s: float = 5.0,
    gather_s: float = 0.0, lease_s: float = 20.0, templates: Any = None,
    variable: Callable[[str], str | None] = lambda _: None,
) -> AsyncIterator[Notifier]:  # fmt: skip
    """A notifier at work; it drains at the end, and what it raised is raised."""
    pool = await create_pool(database_url, min_size=1, max_size=6)
    ways = Ways(
        Sender(timeout_s), templates or load_templates(None), "https://rapid.example/alerts/{alert}",
        _no_policy, variable=variable, clock=clock, chance=lambda: 1.0,
    )  # fmt: skip
    pace = Pace(look_every_s=0.02, gather_s=gather_s, lease_s=lease_s)
    made = Notifier(pool, ways, limits, pace, name)
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        made.stop()
        async with asyncio.timeout(LIMIT_S):
            await running
        await pool.close()


def _no_policy() -> Policy:
    raise AssertionError("the test stores a policy")


async def states(connection: Any, **where: str) -> list[str]:
    """The states of the notifications, the oldest first."""
    rows = await notifications.listed(connection, None, where.get("channel"), where.get("person"), 1000)
    return [row["state"] for row in rows][::-1]


async def until_states(connection: Any, *wanted: str, **where: str) -> None:
    """Until the notifications have these states."""

    async def they_have() -> bool:
        return await states(connection, **where) == list(wanted)

    await until(they_have)


async def attempts(connection: Any, channel: str | None = None) -> list[tuple[str, str]]:
    """Rule and sentence of each attempt, the oldest first."""
    rows = await connection.fetch(
        "SELECT rule, sentence FROM notify_attempts WHERE $1::text IS NULL OR channel = $1 ORDER BY attempt_id",
        channel,
    )
    return [(row["rule"], row["sentence"]) for row in rows]


async def until_attempts(connection: Any, count: int, channel: str | None = None) -> None:
    """Until so many attempts were written down."""

    async def there_are() -> bool:
        return len(await attempts(connection, channel)) >= count

    await until(there_are)
