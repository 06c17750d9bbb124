"""Alerts to people: settings → connectors and decisions → the loop that takes events, plans, and sends.

Runs in the courier's process; as many as wanted. One at a time takes events, a channel is served by one at a time.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from pydantic import ValidationError

from agents.notify.gather import bundles
from agents.notify.plan import Circle, Desk, Plan
from agents.notify.render import Reader, Rendered, Templates
from agents.notify.trouble import Instead, Outage, Stranded, instead, of_outage, of_template
from agents.notify.view import Names
from connectors.alert_commands import event_of
from connectors.errors import Transient
from connectors.notify.schedule import Answer, Limits, step
from connectors.notify.sender import Outgoing, Sender
from connectors.postgres import notifications, outbox, readmodels
from connectors.postgres.notifications import Ended, Failure, Parcel
from connectors.postgres.oncall import within
from connectors.postgres.pool import Connection, Pool, classified
from connectors.postgres.submissions import SOURCE
from connectors.serving import Serving
from infra.logging import logger
from infra.notify_templates import load_templates
from infra.policy.load import SHIPPED, load_policy
from infra.settings import Settings
from infra.watching import metrics as m
from infra.watching.metrics import Metrics
from schemas.alert import Alert, AlertCommand, AlertEvent
from schemas.notification import Bundle, Notification, Waiting
from schemas.oncall import OncallPolicy
from schemas.policy import Policy

EVENTS: Final = 500
"""Rows of the feed that are taken at once."""
CHANNELS: Final = 4
"""Served at once: each holds a thread of Apprise's while it sends."""
MESSAGES_PER_LEASE: Final = 50
PRUNE_EVERY_S: Final = 3600.0
DAY_S: Final = 86_400.0

log = logger(__name__)


class Pace(NamedTuple):
    """How it works: look so often; messages gather for so long, and more than a few are one; leases; the log."""

    look_every_s: float = 0.5
    gather_s: float = 20.0
    few: int = 3
    lease_s: float = 60.0  # longer than an attempt can take
    keep_log_s: float = 30 * DAY_S


class Ways(NamedTuple):
    """What a notifier works with. `variable`: of the environment; `clock`, `chance` (in [0, 1)) as for any decision."""

    sender: Sender
    templates: Templates
    link: str  # with {alert} and {order}; empty: none
    fallback: Callable[[], Policy]  # as long as none is stored
    variable: Callable[[str], str | None] = os.environ.get
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    chance: Callable[[], float] = random.random


class Notifier:
    """Takes events, plans, and sends, until it is stopped. `name` is unique among all notifiers."""

    def __init__(
        self, pool: Pool, ways: Ways, limits: Limits, pace: Pace, name: str, *, metrics: Metrics | None = None,
        looked: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._pool = pool
        self._ways = ways
        self._limits = limits
        self._pace = pace
        self._name = name
        self._metrics = metrics
        self._looked = looked
        self._serving = Serving(self._take_over, pace.look_every_s, CHANNELS)
        self._policy: Policy | None = None
        self._claims = 0
        self._tried_under: str | None = ""  # the policy; "": dead channels were not tried yet
        self._pruned_at = float("-inf")

    def stop(self) -> None:
        """End after the attempts that are under way."""
        self._serving.stop()

    async def run(self) -> None:
        """Work until `stop`; what is under way then is finished and written down."""
        await self._serving.run()

    # -- taking events

    async def _take_over(self, most: int) -> set[asyncio.Task[None]]:
        """Take what has happened, then serve the channels that have something to send, each time under a name of its
        own, so that a lease which ended tells even from a later one of ours."""
        self._claims += 1
        holder = f"{self._name}/{self._claims}"
        try:
            await self._start()
            await self._prune()
            while not self._serving.stopping and await self.take_events():
                pass
            async with self._connection() as connection:
                now = self._ways.clock()
                found = await notifications.claim(connection, holder, self._pace.lease_s, most, now)
        except Transient as error:
            log.warning("notify waits for the database", reason=str(error))
            return set()
        self._looked()
        return {asyncio.create_task(self._serve(channel, holder), name=channel) for channel in found}

    async def take_events(self) -> bool:
        """Take the next events of the feed and keep what follows from them, in one transaction; whether there were
        any."""
        async with self._transaction() as connection:
            bodies, cursor = await notifications.take(connection, EVENTS)
            if cursor is None:
                return False
            events = [event for body in bodies if (event := _event(body)) is not None]
            if events:
                await self._plan(connection, events)
            await notifications.advance(connection, cursor)
        return True

    async def _plan(self, connection: Connection, events: Sequence[AlertEvent]) -> None:
        desk = await self._desk(connection)
        subjects = list(dict.fromkeys(str(event.alert.alert_id) for event in events))
        plan = Plan(desk, await notifications.held(connection, subjects))
        for event in events:
            plan.take(event)
        made = list(plan.new.values())
        await notifications.keep(connection, made, desk.now)
        await notifications.take_back(connection, plan.not_needed, desk.now)
        await _tell_orders(connection, plan.commands)
        for one in made:
            if one.state == "undeliverable":
                log.error("nobody could be told of an alert", alert=one.subject, why=one.why)

    async def _desk(self, connection: Connection) -> Desk:
        now = self._ways.clock()
        policy = await self._current(connection)
        overrides = await within(connection, now, now + timedelta(microseconds=1))
        dead = await notifications.dead_channels(connection)
        return Desk(Circle(policy.oncall, overrides, dead), now, timedelta(seconds=self._pace.gather_s))

    async def _current(self, connection: Connection) -> Policy:
        """The policy that was stored last."""
        version = await notifications.policy_version(connection)
        if self._policy is None or self._policy.version != version:
            stored = await readmodels.newest_policy(connection) if version else None
            self._policy = stored or self._policy or self._ways.fallback()
        return self._policy

    # -- sending

    async def _serve(self, channel: str, holder: str) -> None:
        """Send what waits for a channel, until there is nothing, it fails, or others should have their turn."""
        try:
            await self._ways.sender.ready()
            for _ in range(MESSAGES_PER_LEASE):
                if self._serving.stopping or not await self._send_next(channel, holder):
                    break
            async with self._connection() as connection:
                await notifications.let_go(connection, channel, holder)
        except Transient as error:  # the lease ends by itself
            log.warning("notify waits for the database", reason=str(error), channel=channel)

    async def _send_next(self, channel: str, holder: str) -> bool:
        now = self._ways.clock()
        async with self._connection() as connection:
            policy = await self._current(connection)
            parcel = await notifications.next_parcel(
                connection, channel, holder, lease_s=self._pace.lease_s, now=now,
                gathered=now + timedelta(seconds=self._pace.gather_s), form=self._form,
            )  # fmt: skip
        if parcel is None:
            return False
        rendered = render(parcel, policy, self._ways, now)
        answer = await self._send(policy.oncall, parcel, rendered)
        return await self._record(holder, parcel, rendered, answer)

    def _form(self, waiting: Sequence[Waiting]) -> Sequence[Bundle]:
        return bundles(waiting, self._pace.few)

    async def _send(self, oncall: OncallPolicy, parcel: Parcel, rendered: Rendered) -> Answer:
        address = address_of(oncall, parcel.channel, self._ways.variable)
        if isinstance(address, Answer):
            return address
        breach = any(one.item.event and one.item.event.alert.breach for one in parcel.waiting)
        return await self._ways.sender.send(address.url, outgoing(parcel.message_id, rendered, breach=breach))

    async def _record(self, holder: str, parcel: Parcel, rendered: Rendered, answer: Answer) -> bool:
        """Write down how it ended, and keep what follows from it, in one transaction; whether the channel goes on."""
        now = self._ways.clock()
        age_s = (now - parcel.due_at).total_seconds()
        follows = step(answer, parcel.health.failures, age_s, self._ways.chance(), self._limits)
        ended = Ended(parcel, answer, follows)
        async with self._transaction() as connection:
            if follows.rule == "delivered":
                goes_on = await notifications.delivered(connection, holder, ended, now)
                await self._after_delivery(connection, parcel, rendered)
            else:
                goes_on = False
                failure = await notifications.failed(connection, holder, ended, now)
                if failure is not None:
                    await self._after_failure(connection, ended, failure)
        _tell(ended)
        self._count(answer)
        return goes_on

    def _count(self, answer: Answer) -> None:
        if self._metrics is not None:
            self._metrics.add(m.NOTIFY_SENDS, 1, answer.ending)
            self._metrics.observe(m.NOTIFY_SECONDS, answer.duration_ms / 1000)

    async def _after_delivery(self, connection: Connection, parcel: Parcel, rendered: Rendered) -> None:
        """A channel that works again, and a template that failed, are told of."""
        health = parcel.health
        back = health.failing_since if health.on_probation else health.dead_since
        if back is None and rendered.failed is None:
            return
        desk = await self._desk(connection)
        notices: tuple[Notification, ...] = ()
        if back is not None:
            notices += of_outage(Outage(parcel.channel, parcel.health.outages, back), "channel_back", desk)
        if rendered.failed is not None:
            log.error("template failed", where=str(rendered.failed))
            notices += of_template(str(rendered.failed), desk)
        await notifications.keep(connection, notices, desk.now)

    async def _after_failure(self, connection: Connection, ended: Ended, failure: Failure) -> None:
        """A dead channel is told of once; alerts that reach somebody over no channel go to the next level."""
        if not failure.outage and ended.step.undeliverable is None:
            return
        channel = ended.parcel.channel
        desk = await self._desk(connection)
        rows = await notifications.stranded(connection, ended.parcel, dead=bool(failure.outage))
        others: Instead = instead([Stranded(*row) for row in rows], desk)
        made = list(others.notifications)
        if failure.outage:
            waiting = await notifications.waiting_count(connection, channel)
            outage = Outage(channel, failure.outage, failure.failing_since, waiting)
            made += of_outage(outage, "channel_dead", desk)
        await notifications.keep(connection, made, desk.now)
        await _tell_orders(connection, others.commands)

    # -- the database

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except Exception as error:
            raise classified(error) from error

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with self._connection() as connection, connection.transaction():
            yield connection

    async def _start(self) -> None:
        """Who starts, and a policy that takes effect, may have other addresses than before: what was mended is not
        waited for."""
        async with self._connection() as connection:
            version = await notifications.policy_version(connection)
            if version != self._tried_under:
                await notifications.try_dead(connection, self._ways.clock())
        self._tried_under = version

    async def _prune(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._pruned_at >= PRUNE_EVERY_S:
            self._pruned_at = now
            async with self._connection() as connection:
                await notifications.prune(connection, self._pace.keep_log_s)


# ---------------------------------------------------------------- what a message is


class Address(NamedTuple):
    """Where a channel leads: an Apprise URL."""

    url: str


def address_of(oncall: OncallPolicy, code: str, variable: Callable[[str], str | None]) -> Address | Answer:
    """The address of a channel, or why there is none."""
    channel = oncall.channel(code)
    if channel is None:
        return Answer("misconfigured", f"The policy has no channel {code}.")
    if channel.url is not None:
        return Address(channel.url)
    found = variable(channel.url_env or "")
    if not found:
        return Answer("misconfigured", f"{channel.url_env} is not set where `rapid courier` runs.")
    return Address(found)


def outgoing(message_id: str, rendered: Rendered, *, breach: bool) -> Outgoing:
    """A rendered message with its id."""
    return Outgoing(message_id, rendered.subject, rendered.text, rendered.html, rendered.short, breach)


def render(parcel: Parcel, policy: Policy, ways: Ways, now: datetime) -> Rendered:
    """The message in its reader's language and zone."""
    items = [one.item for one in parcel.waiting]
    return ways.templates.render(
        parcel.template, items, reader_of(policy, parcel.person), now, names_of(policy, ways.link)
    )


def reader_of(policy: Policy, code: str) -> Reader:
    """Who reads; one who is not in the policy any more, in its city's zone."""
    person = policy.oncall.person(code)
    if person is None:
        return Reader(code, policy.city.time_zone, "en")
    return Reader(person.name, person.time_zone, person.language)


def names_of(policy: Policy, link: str) -> Names:
    """How the policy calls departments and areas, and where an alert is found."""

    def department(code: str) -> str:
        found = policy.department(code)
        return found.name if found else code

    def area(number: int) -> str:
        found = policy.area(number)
        return found.name if found else str(number)

    def address(alert: Alert) -> str | None:
        filled = link.replace("{alert}", str(alert.alert_id)).replace("{order}", alert.reference)
        return filled or None

    return Names(department, area, address)


def _event(body: str) -> AlertEvent | None:
    try:
        return AlertEvent.model_validate_json(body)
    except ValidationError as error:  # of another version of this program; the others go on
        log.error("an alert's event cannot be read", fields=[one["loc"] for one in error.errors()])
        return None


async def _tell_orders(connection: Connection, commands: Sequence[AlertCommand]) -> None:
    """Into the alerts' own histories: waits in the outbox, an API process publishes it."""
    await outbox.add_rows(connection, SOURCE, [event_of(command) for command in commands])


def _tell(ended: Ended) -> None:
    parcel, answer, follows = ended
    said = log.bind(channel=parcel.channel, message=parcel.message_id, rule=follows.rule)
    if follows.rule == "delivered":
        if parcel.health.failures:
            said.info("channel is back", after_failures=parcel.health.failures)
    elif follows.dead is not None and parcel.health.dead_since is None:
        said.error("channel is dead", why=follows.dead)
    elif follows.undeliverable is not None:
        said.error("message is undeliverable", why=follows.undeliverable)
    else:
        said.warning("channel failed", why=answer.sentence, next_in_s=round(follows.wait_s, 1))


# ---------------------------------------------------------------- as part of a process


async def tell_people(  # noqa: PLR0917 - the parts of a process
    pool: Pool, settings: Settings, name: str, stop: asyncio.Event, metrics: Metrics | None = None,
    looked: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    """Tell people of alerts, until `stop`. `looked` is called after each look for something to tell."""
    folder = settings.policy or SHIPPED
    ways = Ways(
        sender=Sender(settings.notify_timeout_s),
        templates=load_templates(folder),
        link=settings.alert_link,
        fallback=lambda: load_policy(folder),
    )
    notifier = Notifier(
        pool, ways, limits_of(settings), pace_of(settings), name, metrics=metrics, looked=looked
    )
    running = asyncio.create_task(notifier.run())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    notifier.stop()
    await running


def limits_of(settings: Settings) -> Limits:
    """How failures are met."""
    return Limits(
        first_retry_s=settings.notify_first_retry_s,
        longest_retry_s=settings.notify_longest_retry_s,
        give_up_s=settings.notify_give_up_h * 3600.0,
        dead_failures=settings.notify_dead_failures,
    )


def pace_of(settings: Settings) -> Pace:
    """How it works."""
    return Pace(
        gather_s=settings.notify_gather_s,
        few=settings.notify_few,
        lease_s=settings.notify_timeout_s * 2 + settings.courier_grace_s,
        keep_log_s=settings.notify_log_days * DAY_S,
    )
