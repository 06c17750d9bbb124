"""Every alert is what an independent, slow and obvious implementation makes of the ledger alone."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.policy.load import load_policy
from schemas.alert import AlertCommand
from schemas.sla import Calendar, RungTerms, SpecialDay
from schemas.work_order_update import Link, UpdateCommand, WorkOrderUpdate
from tests.properties.alert_world import BEGIN, ELSEWHERE, AlertWorld
from tests.unit.test_order_life import MADE_FOR
from tests.unit.test_orders_decide import cause

POLICY = load_policy()
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
Step = tuple[Any, ...]

# ---------------------------------------------------------------- steps of a history

pauses = st.sampled_from([timedelta(minutes=7), HOUR, 5 * HOUR, 26 * HOUR, 3 * DAY, 16 * DAY])
lateness = st.sampled_from([timedelta()] * 4 + [timedelta(minutes=20), 3 * HOUR, 30 * HOUR, 9 * DAY])
waiting = st.one_of(
    st.tuples(st.just("wait"), pauses),
    st.tuples(st.just("wait"), pauses),
    st.tuples(st.just("nudged late"), pauses, st.sampled_from([timedelta(seconds=61), 2 * HOUR])),
    st.tuples(st.just("not nudged"), pauses),
    st.tuples(st.just("nudge"), st.just(2)),
)
VERBS = [
    "acknowledge", "start", "hold", "hold", "resume", "resolve", "resolve", "reopen", "reject", "route", "cancel",
    "note", "complete", "complete", "verify", "duplicate",
]  # fmt: skip
updates = st.tuples(
    st.just("say"), st.sampled_from(VERBS), st.sampled_from(["owner"] * 5 + ["cscc", "dss"]), lateness,
    st.integers(0, 2), st.integers(0, 1),
)  # fmt: skip
causes = st.tuples(
    st.just("cause"), st.integers(1, 2), st.sampled_from(["live", "live", "withdrawn", "void"]),
    st.sampled_from(["routine", "high", "urgent"]), lateness,
)  # fmt: skip
links = st.tuples(st.just("link"), st.sampled_from(["original_resolved", "original_cancelled"]))
acts = st.tuples(
    st.just("act"), st.sampled_from(["acknowledge"] * 2 + ["unacknowledge", "snooze", "hand_over", "nobody_there"]),
    st.integers(0, 5), pauses,
)  # fmt: skip
batches = st.lists(st.one_of(updates, updates, updates, causes, links, acts), min_size=1, max_size=4)
histories = st.lists(
    st.one_of(waiting, waiting, updates.map(lambda one: [one]), batches, acts.map(lambda one: [one])),
    min_size=1,
    max_size=14,
)
works = st.sampled_from([("street_light", "fix"), ("vacant_lot", "fix"), ("vacant_lot", "inspect")])


class Play:
    """Plays a history."""

    def __init__(self, category: str, work: str) -> None:
        self.world = AlertWorld(POLICY)
        self.category, self.work = category, work
        self.versions = dict.fromkeys(range(1, 3), 1)
        self.number = 0
        self.world.batch(self._cause(1, "live", "routine", timedelta()))

    def play(self, history: list[Any]) -> AlertWorld:
        for step in history:
            if isinstance(step, list):
                bodies = [made for one in step if (made := self._body(one)) is not None]
                if bodies:
                    self.world.batch(*bodies)
            else:
                self._pass(*step)
        return self.world

    def _pass(self, kind: str, pause: Any, late: timedelta = timedelta()) -> None:
        world = self.world
        if kind == "nudge":
            world.now += timedelta(seconds=1)
            for order_id in list(world.store.orders):
                for _ in range(pause):
                    world.nudge(order_id, world.now)
            return
        world.wait(world.now + pause, nudges=kind != "not nudged", late=late)

    def _body(self, step: Step) -> Any:
        self.number += 1
        made: dict[str, Callable[..., Any]] = {
            "say": self._update, "cause": self._cause, "link": self._link, "act": self._act,
        }  # fmt: skip
        return made[step[0]](*step[1:])

    def _cause(self, number: int, standing: str, priority: str, late: timedelta) -> Any:
        self.versions[number] += 1
        site = cause().site
        return cause(
            number, category=self.category, work=self.work, order_key=f"{self.category}|{self.work}|{site.key}",
            version=self.versions[number], standing=standing, priority=priority, at=BEGIN - HOUR,
            ended_at=self.world.now - late if standing == "withdrawn" else None,
        )  # fmt: skip

    def _order(self, place: int) -> Any:
        orders = [known.order for known in self.world.store.orders.values()]
        return orders[min(place, len(orders) - 1)]

    def _update(self, verb: str, who: str, late: timedelta, which: int, place: int) -> UpdateCommand:
        order, now = self._order(place), self.world.now
        more = dict(MADE_FOR.get(verb, {}))
        if verb == "complete":
            more = {"stage": ["inspect", "notify_owner", "abate"][which]}
        if verb == "hold":
            more = {"reason": ["weather", "access", "lunch"][which]}
        if verb == "duplicate":
            verb, more = "resolve", {"outcome": "duplicate_of", "duplicate_of": ELSEWHERE}
        if verb in ("reject", "route") and which:
            more |= {"to_department": ["", "dss", "dob"][which]}
        at = now - late if late else None
        said = {"update_id": f"u{self.number}", "reference": order.reference, "verb": verb, "at": at} | more
        update = WorkOrderUpdate.model_validate(said)
        department = order.department if who == "owner" else who
        if verb in ("verify", "cancel", "route"):
            department = "cscc"
        return UpdateCommand(order_key=order.order_key, department=department, received_at=now, update=update)

    def _link(self, kind: Any) -> Link:
        order = self._order(0)
        return Link(
            order_key=order.order_key, reference=order.reference, kind=kind, other=ELSEWHERE, version=self.number,
            outcome="fixed" if kind == "original_resolved" else None, at=self.world.now,
        )  # fmt: skip

    def _act(self, kind: Any, place: int, until: timedelta) -> AlertCommand | None:
        alerts = [known.alert for known in self.world.store.alerts.values()]
        if not alerts:
            return None
        alert = alerts[place % len(alerts)]
        return AlertCommand(
            order_key=alert.order_key, order_id=alert.order_id, reference=alert.reference, alert_id=alert.alert_id,
            command_id=f"c{self.number}", kind=kind, by="ana", received_at=self.world.now,
            until=self.world.now + until if kind == "snooze" else None,
            to="duty_supervisor" if kind in ("hand_over", "nobody_there") else None,
        )  # fmt: skip


@given(work=works, history=histories)
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_alerts_can_be_recomputed_from_the_ledger_alone(work: tuple[str, str], history: list[Any]) -> None:
    world = Play(*work).play(history)
    world.wait(world.now + 3 * DAY)
    world.check()


# ---------------------------------------------------------------- what such histories have found


def say(verb: str, late: timedelta = timedelta(), which: int = 0, who: str = "owner", place: int = 0) -> Step:
    return ("say", verb, who, late, which, place)


def asks(standing: str, priority: str = "routine", late: timedelta = timedelta(), number: int = 1) -> Step:
    return ("cause", number, standing, priority, late)


def act(kind: str, place: int, until: timedelta = HOUR) -> Step:
    return ("act", kind, place, until)


def wait(pause: timedelta) -> Step:
    return ("wait", pause)


FOUND: dict[str, tuple[str, str, list[Any]]] = {
    "what was done before it was promised counts as of the promise":
        ("street_light", "fix", [[say("resolve", 3 * HOUR)], wait(9 * DAY)]),
    "a hold from before the promise": ("street_light", "fix", [[say("hold", 3 * HOUR)], wait(9 * DAY)]),
    "withdrawn again, at a time before it was asked for again": ("street_light", "fix", [
        wait(HOUR), [asks("withdrawn")], wait(HOUR), [asks("live")], wait(HOUR), [asks("withdrawn", late=2 * HOUR)],
        wait(16 * DAY)]),
    "void after it was asked for again": ("street_light", "fix", [
        wait(HOUR), [asks("withdrawn")], wait(HOUR), [asks("live")], wait(HOUR), [asks("void")], wait(16 * DAY)]),
    "a raised priority does not judge anew what was acknowledged": ("street_light", "fix", [
        wait(22 * HOUR), [say("acknowledge")], wait(HOUR), [asks("live", "urgent", number=2)], wait(HOUR)]),
    "a raised priority does not undo what was acknowledged late": ("street_light", "fix", [
        wait(3 * DAY), [say("acknowledge")], wait(HOUR), [asks("live", "urgent", number=2)], wait(HOUR)]),
    "resolved before a raised priority, heard after it, and reopened": ("street_light", "fix", [
        wait(5 * HOUR), [asks("live", "high", number=2)], wait(HOUR), [say("resolve", 3 * HOUR)], wait(HOUR),
        [say("reopen")], wait(16 * DAY)]),
    "withdrawn before it was resolved, asked for again, and reopened": ("street_light", "fix", [
        wait(26 * HOUR), [asks("withdrawn")], wait(HOUR), [say("resolve", 3 * HOUR)], wait(HOUR), [asks("live")],
        wait(HOUR), [say("reopen")], wait(16 * DAY)]),
    "stages in another order": ("vacant_lot", "fix", [
        wait(HOUR), [say("complete", which=1)], wait(HOUR), [say("complete", which=0)], wait(16 * DAY)]),
    "acknowledged just before another calendar was promised": ("street_light", "fix", [
        wait(HOUR), [asks("live", "high")], wait(26 * HOUR), [asks("live", "routine"), say("acknowledge")]]),
    "acknowledged in the very instant in which a raised priority made it late": ("vacant_lot", "inspect", [
        wait(16 * DAY), [asks("live", "high", number=2)], [say("acknowledge")]]),
    "every stage done, and then it was not": ("vacant_lot", "fix", [
        wait(HOUR), [say("complete", which=0)], [say("complete", which=1)], [say("complete", which=2)],
        [say("resolve")], wait(HOUR), [say("reopen")], wait(16 * DAY), wait(16 * DAY), wait(16 * DAY)]),
    "a cycle that is over is corrected": ("street_light", "fix", [
        wait(8 * DAY), [say("resolve")], wait(16 * DAY), [say("reopen")], wait(HOUR),
        [say("hold", 24 * DAY)], wait(16 * DAY)]),
    "a cycle that never was": ("street_light", "fix", [
        wait(HOUR), [say("resolve")], wait(16 * DAY), [say("reopen")], wait(9 * DAY),
        [say("reopen", 11 * DAY + HOUR)], wait(DAY)]),
    "a stage that never began": ("vacant_lot", "fix", [
        wait(3 * DAY), [say("complete", which=0)], wait(16 * DAY), [say("reject", 17 * DAY)], wait(DAY)]),
    "what was silent in its time stays so, when it is found late": ("street_light", "fix", [
        wait(20 * HOUR), [act("acknowledge", 0)], ("not nudged", 30 * HOUR), ("nudge", 1), wait(DAY)]),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_found(name: str) -> None:
    category, work, history = FOUND[name]
    Play(category, work).play(history).check()


def test_a_look_does_not_go_back_before_what_a_clock_that_is_ahead_has_seen() -> None:
    play = Play("street_light", "fix")
    (timer,) = play.world.store.timers.values()
    play.world.now = timer.due_at - timedelta(seconds=1.5)
    play.world.nudge(timer.subject_id, timer.due_at)  # the timers go by the database's clock, which is ahead
    play.play([[say("note")]])
    assert play.world.now < timer.due_at
    assert [one.kind for one in play.world.store.events] == ["fired"]


# ---------------------------------------------------------------- it can fail


def lived() -> AlertWorld:
    """A world in which much happened."""
    history = [
        wait(20 * HOUR), [act("acknowledge", 0)], wait(4 * DAY), [say("hold")], wait(HOUR), [say("resume")],
        ("not nudged", 3 * DAY), ("nudge", 1), [say("resolve", 3 * HOUR)], wait(HOUR), [say("reopen")], wait(9 * DAY),
    ]  # fmt: skip
    return Play("street_light", "fix").play(history)


def test_what_is_planted_is_found() -> None:
    world = lived()
    world.check()
    events = list(world.store.events)
    assert {one.kind for one in events} >= {
        "fired", "superseded", "silenced", "acknowledged", "unacknowledged", "over", "back",
    }  # fmt: skip
    for number, event in enumerate(events):
        others = [*events[:number], *events[number + 1 :]]
        late = event.alert.model_copy(update={"late": not event.alert.late})
        moved = event.alert.model_copy(update={"at": event.alert.at + timedelta(microseconds=1)})
        planted = {
            "left out": others,
            "twice": [*events, event],
            "another kind": [*others, event.model_copy(update={"kind": "woken"})],
            "another mark": [*others, event.model_copy(update={"alert": late})],
            "another time": [*others, event.model_copy(update={"alert": moved})],
        }
        for what, world.store.events in planted.items():
            assert not agrees(world), f"{event.kind} of {event.alert.clock}, {event.alert.rung}: {what}"


def agrees(world: AlertWorld) -> bool:
    try:
        world.check()
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(
    "change", ["a rung more", "other levels", "another holiday", "another window", "later"]
)
def test_agents_that_go_by_another_policy_are_found(change: str) -> None:
    world, sla = lived(), POLICY.sla
    levels = tuple(one.model_copy(update={"level": 4}) for one in sla.rungs)
    changed: dict[str, dict[str, Any]] = {
        "a rung more": {"rungs": (*sla.rungs, RungTerms(name="late_1h", after_breach="1h", level=3))},
        "other levels": {"rungs": levels},
        "another holiday": {"calendars": tuple(_closed(one, date(2026, 10, 29)) for one in sla.calendars)},
        "another window": {"reopen_within_hours": 0},
        "later": {"alerting": sla.alerting.model_copy(update={"late_after_s": 864_000})},
    }
    version = f"not {POLICY.version}: {change}"
    sla = sla.model_copy(update=changed[change])
    world.policy = POLICY.model_copy(update={"sla": sla, "version": version})
    assert not agrees(world)


def _closed(calendar: Calendar, day: date) -> Calendar:
    special = SpecialDay(on=day, name="closed")
    return calendar.model_copy(update={"exceptions": (*calendar.exceptions, special)})
