"""A month with a stepped clock, once undisturbed, and with an outage of two days: the same alerts."""

import asyncio
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import pytest

from connectors.geography.areas import Areas
from infra.simulate.places import Place, Places
from schemas.alert import Alert, AlertCommand, AlertEvent, AlertEventKind
from schemas.issue import IssueReport
from schemas.policy import Policy
from schemas.promise import PromiseLine
from schemas.topics import SLA_ALERTS
from schemas.work_order import WorkOrder
from schemas.work_order_update import WorkOrderUpdate
from tests.alerts_again import compared
from tests.conftest import TEMPLATE, address_of
from tests.pipeline.stream import NOW, Stream
from tests.pipeline.test_departments import shooting
from tests.pipeline.test_updates import light

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FROM, UNTIL = NOW + 15 * DAY + 12 * HOUR, NOW + 17 * DAY + 12 * HOUR
"""From a Monday to a Wednesday, in working hours."""
END = NOW + 30 * DAY
LATE = timedelta(seconds=60)
INCIDENTS = 9
AREAS = (25, 26, 27, 67)

Key = tuple[str, str, int, str]
"""Reference, clock, cycle, rung."""


class Thing(NamedTuple):
    """Something that happens at its time. In an outage it waits."""

    at: datetime
    number: int
    what: str
    body: Any


@dataclass
class Month:
    """One month. `outage`: what comes in it waits until its end, and nobody is nudged. `nudged_first`: whether then
    timers or reports and updates come first."""

    stream: Stream
    outage: bool
    nudged_first: bool = True
    things: list[Thing] = field(default_factory=list)
    looks: dict[UUID, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    known: set[UUID] = field(default_factory=set)
    answered: int = 0
    number: int = 0

    def at(self, at: datetime, what: str, body: Any) -> None:
        self.number += 1
        heapq.heappush(self.things, Thing(at, self.number, what, body))

    async def run(self) -> None:
        for at, report in reports(self.stream.geography):
            self.at(at, "report", report)
        while True:
            timer = await self.stream.connection.fetchrow(
                "SELECT * FROM timers ORDER BY due_at, subject_id LIMIT 1"
            )
            thing = self.things[0] if self.things else None
            nudge_at = self._when(timer["due_at"]) if timer else END
            thing_at = self._when(thing.at) if thing else END
            if min(nudge_at, thing_at) >= END:
                break
            first = nudge_at < thing_at or (nudge_at == thing_at and self.nudged_first)
            if timer is not None and first:
                self.stream.now = max(self.stream.now, nudge_at)
                self.looks[timer["subject_id"]].append(self.stream.now)
                await self.stream.nudge(timer, timer["due_at"])
            else:
                heapq.heappop(self.things)
                await self._happen(thing, thing_at)
            await self._people_see()

    def _when(self, at: datetime) -> datetime:
        return UNTIL if self.outage and FROM <= at < UNTIL else at

    async def _happen(self, thing: Any, at: datetime) -> None:
        # what waited is heard one after the other, so the writer's clock has gone on in between
        self.stream.now = max(self.stream.now + timedelta(milliseconds=1), at)
        match thing.what:
            case "report":
                await self.stream.feed([thing.body])
                await self._departments_plan()
            case "update":
                department, update = thing.body
                await self.stream.say(department, update)
            case "act":
                self.looks[thing.body.order_id].append(self.stream.now)
                await self.stream.do(thing.body)

    async def _departments_plan(self) -> None:
        for row in await self.stream.connection.fetch("SELECT body FROM work_orders ORDER BY order_id"):
            order = WorkOrder.model_validate_json(row["body"])
            if order.order_id not in self.known:
                self.known.add(order.order_id)
                for after, told_after, department, verb, more in story(order):
                    at = self.stream.now + after
                    update: dict[str, Any] = {
                        "update_id": f"{order.reference}{self.number}",
                        "reference": order.reference,
                    }
                    update |= {"verb": verb, "at": at} | more
                    body = department, WorkOrderUpdate.model_validate(update)
                    self.at(at + told_after, "update", body)

    async def _people_see(self) -> None:
        """Somebody acknowledges every fourth alert, ten minutes after it. Not where the outage would tell."""
        events = [one for one in self.stream.events[self.answered :] if one.topic == SLA_ALERTS.name]
        self.answered = len(self.stream.events)
        for event in (AlertEvent.model_validate_json(one.value) for one in events):
            alert = event.alert
            tells = event.kind == "fired" and Random(str(alert.alert_id)).random() < 0.25
            if tells and not FROM - DAY < event.at < UNTIL + DAY:
                self.at(event.at + timedelta(minutes=10), "act", acknowledge(alert, event.at))


def acknowledge(alert: Alert, at: datetime) -> AlertCommand:
    return AlertCommand(
        order_key=alert.order_key, order_id=alert.order_id, reference=alert.reference, alert_id=alert.alert_id,
        command_id=f"seen-{alert.alert_id}", kind="acknowledge", by="ana", received_at=at,
    )  # fmt: skip


# ---------------------------------------------------------------- what happens in the month


def reports(geography: Any) -> Iterator[tuple[datetime, Any]]:
    """Shootings, and near each of them lights that are out and lots that are overgrown, some reported afterwards. At
    some places somebody is shot again."""
    chance, places = Random(5), Places(geography)
    for number in range(INCIDENTS):
        place = places.anywhere_in(chance.choice(AREAS), chance)
        at = NOW + chance.random() * 20 * DAY
        for other in range(chance.randrange(1, 4)):
            near = places.near(place, 40, chance)
            category = chance.choice(["street_light", "street_light", "vacant_lot", "graffiti"])
            yield at + chance.choice([-HOUR, 5 * HOUR]), issue(f"SR{number}{other}", near, category)
        yield at, shot(f"ZZ{number}", place, at)
        if chance.random() < 0.4:
            again = at + chance.random() * 6 * DAY
            yield again, shot(f"YY{number}", place, again)


def issue(number: str, place: Place, category: str) -> IssueReport:
    return light(
        number, category=category, address=place.address.text, published_area=place.area,
        point=place.address.point, created_at=NOW - DAY, revised_at=NOW - DAY,
    )  # fmt: skip


def shot(number: str, place: Place, at: datetime) -> Any:
    return shooting(number, at, block=place.address.text, point=place.address.point)


Said = tuple[timedelta, timedelta, str, str, dict[str, Any]]


def story(order: WorkOrder) -> list[Said]:
    """What departments say: how long after the order, told how much later, by whom, what."""
    chance = Random(f"story {order.reference}")
    owner, soon = order.department, chance.choice([HOUR, 9 * HOUR, 30 * HOUR, 60 * HOUR])
    told = [timedelta(), timedelta(), chance.choice([timedelta(), 7 * HOUR, 40 * HOUR])]

    def said(after: timedelta, verb: str, department: str = owner, **more: Any) -> Said:
        return after, chance.choice(told), department, verb, more

    done = soon + chance.choice([5 * HOUR, 2 * DAY, 5 * DAY, 8 * DAY])
    tells: dict[str, list[Said]] = {
        "nothing": [],
        "done": [said(soon, "acknowledge"), said(soon + HOUR, "start"), said(done, "resolve", outcome="fixed")],
        "held": [
            said(soon, "acknowledge"), said(soon + HOUR, "hold", reason="weather"), said(done, "resume"),
            said(done + 3 * DAY, "resolve", outcome="fixed"),
        ],
        "not theirs": [
            said(soon, "reject", text="Not ours."), said(soon + DAY, "route", "cscc", to_department="dss"),
            said(done + DAY, "resolve", "dss", outcome="fixed"),
        ],
        "again": [
            said(done, "resolve", outcome="fixed"), said(done + 3 * DAY, "reopen", text="Dark again."),
            said(done + 8 * DAY, "resolve", outcome="fixed"),
        ],
    }  # fmt: skip
    if order.category == "vacant_lot" and order.work == "fix":
        return [
            said(soon, "acknowledge"), said(soon + DAY, "complete", stage="inspect"),
            said(done + 2 * DAY, "complete", stage="notify_owner"),
        ]  # fmt: skip
    return tells[chance.choice(["nothing", "done", "done", "held", "held", "not theirs", "again", "again"])]


# ---------------------------------------------------------------- the months


class Lived(NamedTuple):
    """What is left of a month."""

    alerts: dict[Key, Alert]
    events: dict[Key, list[AlertEvent]]
    lines: dict[str, list[PromiseLine]]  # by reference
    waited: set[str]  # orders with something said in the time of the outage
    compared: Any


async def live(
    server: str, policy: Policy, areas: Areas, name: str, *, outage: bool = True, nudged_first: bool = True
) -> Lived:
    admin = await asyncpg.connect(server)
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    connection = await asyncpg.connect(address_of(server, name))
    await connection.execute("SET synchronous_commit = off")
    month = Month(Stream(connection, policy, areas), outage, nudged_first)
    await month.run()
    lived = await left(connection, month, policy)
    await connection.close()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()
    return lived


async def left(connection: Any, month: Month, policy: Policy) -> Lived:
    events: dict[Key, list[AlertEvent]] = defaultdict(list)
    for row in await connection.fetch("SELECT body FROM alert_events ORDER BY alert_id, seq"):
        event = AlertEvent.model_validate_json(row["body"])
        events[key_of(event.alert)].append(event)
    lines: dict[str, list[PromiseLine]] = defaultdict(list)
    for row in await connection.fetch(
        "SELECT reference, l.body FROM promise_lines l JOIN work_orders USING (order_id) ORDER BY order_id, seq"
    ):
        lines[row["reference"]].append(PromiseLine.model_validate_json(row["body"]))
    waited = await connection.fetch(
        "SELECT DISTINCT reference FROM order_ledger l JOIN work_orders USING (order_id) CROSS JOIN LATERAL"
        " (SELECT (l.body::json ->> 'handled_at')::timestamptz AS at) heard WHERE heard.at >= $1 AND heard.at < $2",
        FROM, UNTIL,
    )  # fmt: skip
    again = await compared(connection, {policy.version: policy}, month.looks)
    alerts = {key: told[-1].alert for key, told in events.items()}
    return Lived(alerts, dict(events), dict(lines), {row["reference"] for row in waited}, again)


def key_of(alert: Alert) -> Key:
    return alert.reference, alert.clock, alert.cycle, alert.rung


@pytest.fixture(scope="module")
def undisturbed(server: str, policy: Policy, areas: Areas) -> Lived:
    return asyncio.run(live(server, policy, areas, "undisturbed", outage=False))


@pytest.fixture(scope="module")
def nudged_first(server: str, policy: Policy, areas: Areas) -> Lived:
    return asyncio.run(live(server, policy, areas, "nudged_first"))


@pytest.fixture(scope="module")
def heard_first(server: str, policy: Policy, areas: Areas) -> Lived:
    return asyncio.run(live(server, policy, areas, "heard_first", nudged_first=False))


@pytest.mark.parametrize("name", ["undisturbed", "nudged_first", "heard_first"])
def test_a_month_can_be_recomputed_from_its_ledgers(request: pytest.FixtureRequest, name: str) -> None:
    orders, events, differences = request.getfixturevalue(name).compared
    assert differences == []
    assert orders > 30
    assert events > 800


def test_the_month_has_something_of_everything(undisturbed: Lived, nudged_first: Lived) -> None:
    """Else the tests below would say little."""
    kinds = Counter(event.kind for told in undisturbed.events.values() for event in told)
    assert min(kinds[kind] for kind in KINDS) >= 5, kinds
    in_it = [one for one in undisturbed.alerts.values() if FROM <= one.at < UNTIL]
    assert len(in_it) > 25
    assert len(undisturbed.waited) > 5
    assert ours(undisturbed)
    assert len(late(nudged_first)) > len(late(undisturbed)) + 20


def test_after_the_outage_it_does_not_matter_who_comes_first(nudged_first: Lived, heard_first: Lived) -> None:
    assert said(nudged_first) == said(heard_first)


@pytest.mark.parametrize("name", ["nudged_first", "heard_first"])
def test_an_outage_of_two_days_leaves_the_same_alerts(
    undisturbed: Lived, request: pytest.FixtureRequest, name: str
) -> None:
    """Of every order that our side did nothing about in the outage (what it promises then, it promises later):

    - every alert that holds in the undisturbed month holds, with the same level and true time, and no other holds;
    - where nothing was said in the outage, its events are the same, but for those of the outage: they come at its end,
      marked late, and a rung below another one that was reached in it is superseded;
    - where something was said in it, which was heard at its end, what fired meanwhile is withdrawn again, and a rung
      that was reached in it either way may keep the time at which it was reached by what was known. That nobody owned
      an order is so from when that was heard.
    """
    disturbed: Lived = request.getfixturevalue(name)
    left_out = ours(undisturbed)
    assert len(left_out) < len(undisturbed.lines) / 4
    assert holding(undisturbed).keys() - holding(disturbed).keys() <= of(left_out, undisturbed)
    assert holding(disturbed).keys() - holding(undisturbed).keys() <= of(left_out, disturbed)
    compared_alerts = 0
    for key, alert in holding(undisturbed).items():
        if key[0] in left_out:
            continue
        compared_alerts += 1
        other = disturbed.alerts[key]
        assert (other.level, other.breach, other.rung) == (alert.level, alert.breach, alert.rung)
        if key[0] in undisturbed.waited:
            both_in_it = all(FROM <= one.at < UNTIL + timedelta(minutes=1) for one in (alert, other))
            assert other.at == alert.at or both_in_it, key
        else:
            assert other.at == alert.at
            assert_as_undisturbed(undisturbed.events[key], disturbed.events[key])
    assert compared_alerts > 200
    for key, told in disturbed.events.items():
        if key not in undisturbed.events and key[0] not in left_out:
            assert key[0] in undisturbed.waited
            assert [event.kind for event in told] in (["fired", "withdrawn"], ["superseded", "withdrawn"]), (
                key
            )
            assert all(timedelta() <= event.at - UNTIL < HOUR for event in told)


def late(lived: Lived) -> list[Key]:
    """Also in a month without outage: where departments tell days later."""
    return [key for key, told in lived.events.items() if any(event.alert.late for event in told)]


def assert_as_undisturbed(undisturbed: list[AlertEvent], disturbed: list[AlertEvent]) -> None:
    """Event by event."""
    outside = [event for event in undisturbed if not FROM <= event.at < UNTIL]
    at_its_end = [event for event in disturbed if timedelta() <= event.at - UNTIL < timedelta(minutes=1)]
    if (
        at_its_end and at_its_end[-1].kind == "superseded"
    ):  # nobody was told, so nobody is told when it is over
        outside = [event for event in outside if event.at < UNTIL]
    assert [brief(one) for one in outside] == [brief(one) for one in disturbed if one not in at_its_end]
    inside = [event for event in undisturbed if FROM <= event.at < UNTIL]
    assert len(at_its_end) <= len(inside)
    if inside and inside[0].kind == "fired":
        assert at_its_end[0].kind in ("fired", "superseded")
        assert at_its_end[0].alert.at == inside[0].alert.at
    for event in at_its_end:
        if event.kind in ("fired", "superseded"):
            assert event.alert.late == (event.at - event.alert.at > LATE)


KINDS: tuple[AlertEventKind, ...] = (
    "fired",
    "over",
    "acknowledged",
    "unacknowledged",
    "withdrawn",
    "silenced",
    "fired_again",
    "back",
)


def brief(event: AlertEvent) -> tuple[Any, ...]:
    until = second(event.alert.until) if event.alert.until else None
    return second(event.at), event.kind, second(event.alert.at), event.alert.state, until


def said(lived: Lived) -> dict[Key, list[tuple[Any, ...]]]:
    """Events without the milliseconds in which what had waited was heard."""
    return {
        key: [(second(one.at), one.kind, second(one.alert.at), one.alert.late) for one in told]
        for key, told in lived.events.items()
    }


def second(at: datetime) -> datetime:
    return at.replace(microsecond=0)


def ours(lived: Lived) -> set[str]:
    """Orders that our side promised something of, or withdrew, in the time of the outage."""
    return {
        reference
        for reference, lines in lived.lines.items()
        if any(FROM <= line.handled_at < UNTIL for line in lines)
    }


def holding(lived: Lived) -> dict[Key, Alert]:
    """Alerts that are true by what is known in the end."""
    return {key: alert for key, alert in lived.alerts.items() if alert.state != "withdrawn"}


def of(references: set[str], lived: Lived) -> set[Key]:
    return {key for key in lived.alerts if key[0] in references}
