"""What becomes of an order's promises, through the real agents and the real database, with time as an argument."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.alert import AlertCommand, AlertEvent
from schemas.policy import Policy
from schemas.promise import PromiseLine, Promises
from schemas.sla import Clock
from schemas.topics import SLA_ALERTS, WORK_ORDERS
from schemas.work_order import WorkOrder
from tests.pipeline.stream import NOW, Stream
from tests.pipeline.test_departments import shooting
from tests.pipeline.test_updates import fix, light, seen, update

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
async def stream(connection: Any, policy: Policy, areas: Any) -> Stream:
    made = Stream(connection, policy, areas)
    await made.feed([shooting("ZZ1"), light("SR1")])
    return made


async def clocks(stream: Stream, order: WorkOrder) -> dict[str, Clock]:
    body = await stream.connection.fetchval("SELECT body FROM promises WHERE order_id = $1", order.order_id)
    return {clock.name: clock for clock in Promises.model_validate_json(body).clocks}


async def lines(stream: Stream, order: WorkOrder) -> list[PromiseLine]:
    rows = await stream.connection.fetch(
        "SELECT body FROM promise_lines WHERE order_id = $1 ORDER BY seq", order.order_id
    )
    return [PromiseLine.model_validate_json(row["body"]) for row in rows]


def told(stream: Stream, order: WorkOrder) -> list[AlertEvent]:
    events = [AlertEvent.model_validate_json(e.value) for e in stream.events if e.topic == SLA_ALERTS.name]
    return [event for event in events if event.alert.order_id == order.order_id]


def brief(events: list[AlertEvent]) -> list[tuple[str, str, str]]:
    return [(one.alert.clock, one.alert.rung, one.kind) for one in events]


def ask(event: AlertEvent, kind: str, number: str = "1", **more: Any) -> AlertCommand:
    fields = {
        "order_key": event.alert.order_key, "order_id": event.alert.order_id, "reference": event.alert.reference,
        "alert_id": event.alert.alert_id, "command_id": f"{kind}{number}", "kind": kind, "by": "ana",
        "received_at": NOW,
    }  # fmt: skip
    return AlertCommand.model_validate(fields | more)


async def test_an_order_is_promised_when_it_is_opened_and_its_department_reads_until_when(
    stream: Stream,
) -> None:
    order = await fix(stream)
    (line,) = await lines(stream, order)
    assert (line.kind, line.at, line.priority) == ("promised", NOW, order.priority)
    stands = await clocks(stream, order)
    shown = [one for one in seen(stream) if one.reference == order.reference][-1]
    assert [(one.clock, one.due_at) for one in shown.promises] == [
        (name, clock.due_at) for name, clock in stands.items()
    ]
    assert {one.clock for one in shown.promises} == {"acknowledge", "resolve"}
    timer = await stream.connection.fetchrow("SELECT * FROM timers WHERE subject_id = $1", order.order_id)
    assert NOW < timer["due_at"] < min(clock.due_at for clock in stands.values() if clock.due_at)


async def test_rungs_fire_once_each_and_in_order_and_when_they_are_due(stream: Stream) -> None:
    order = await fix(stream)
    stands = await clocks(stream, order)
    await stream.wait(NOW + 30 * DAY)
    events = [one for one in told(stream, order) if one.alert.clock == "resolve"]
    assert [one.alert.rung for one in events] == [
        "half", "three_quarters", "soon", "breach", "late_4h", "late_2wd",
    ]  # fmt: skip
    assert {one.kind for one in events} == {"fired"}
    assert [one.alert.level for one in events] == [1, 1, 1, 2, 3, 4]
    breach = events[3].alert
    assert (breach.at, breach.due_at) == (stands["resolve"].due_at, stands["resolve"].due_at)
    assert all(
        timedelta() <= one.alert.fired_at - one.alert.at <= timedelta(microseconds=1) for one in events
    )
    assert not any(one.alert.late for one in events)
    assert (
        await stream.connection.fetchval("SELECT count(*) FROM timers WHERE subject_id = $1", order.order_id)
        == 0
    )


async def test_what_is_acknowledged_and_done_in_time_warns_nobody(stream: Stream) -> None:
    order = await fix(stream)
    await stream.say("cdot", update(order, "acknowledge"), update(order, "resolve", outcome="fixed"))
    await stream.wait(NOW + 30 * DAY)
    assert told(stream, order) == []
    assert {name: clock.result for name, clock in (await clocks(stream, order)).items()} == {
        "acknowledge": "met", "resolve": "met",
    }  # fmt: skip


async def test_rule_5_a_hold_stops_every_clock_but_acknowledge(stream: Stream) -> None:
    order = await fix(stream)
    before = await clocks(stream, order)
    await stream.say("cdot", update(order, "hold", reason="weather"))
    held = await clocks(stream, order)
    assert held["resolve"].due_at is None
    assert held["acknowledge"].result == "met"  # who puts it on hold has seen it
    shown = [one for one in seen(stream) if one.reference == order.reference][-1]
    assert [(one.clock, one.on_hold) for one in shown.promises] == [("acknowledge", False), ("resolve", True)]
    await stream.wait(NOW + 2 * DAY)
    await stream.say("cdot", update(order, "resume"))
    after = await clocks(stream, order)
    assert before["resolve"].due_at is not None
    assert after["resolve"].due_at is not None
    assert after["resolve"].due_at > before["resolve"].due_at
    assert [one for one in told(stream, order) if one.alert.clock == "resolve"] == []


async def test_rule_6_reopened_within_the_window_goes_on_and_its_breach_is_back(stream: Stream) -> None:
    order = await fix(stream)
    due = (await clocks(stream, order))["resolve"].due_at
    assert due is not None
    await stream.wait(due + HOUR)
    await stream.say("cdot", update(order, "resolve", outcome="fixed"))
    assert (await clocks(stream, order))["resolve"].result == "late"
    await stream.wait(due + 2 * HOUR)
    await stream.say("cdot", update(order, "reopen", text="Dark again."))
    again = (await clocks(stream, order))["resolve"]
    assert (again.cycle, again.result) == (1, None)
    kinds = [(one.alert.rung, one.kind) for one in told(stream, order) if one.alert.clock == "resolve"]
    assert kinds == [
        ("half", "fired"), ("three_quarters", "fired"), ("soon", "fired"), ("breach", "fired"),
        ("half", "over"), ("three_quarters", "over"), ("soon", "over"), ("breach", "over"), ("breach", "back"),
    ]  # fmt: skip


async def test_rule_7_a_raised_priority_is_a_retarget_with_both_due_times(stream: Stream) -> None:
    order = await fix(stream)
    before = (await clocks(stream, order))["resolve"]
    stream.now = NOW + HOUR
    await stream.feed([shooting("ZZ2"), shooting("ZZ3"), shooting("ZZ4")])
    raised = await fix(stream)
    if raised.priority == order.priority:
        pytest.fail("the shootings were to raise the priority")
    assert [line.kind for line in await lines(stream, order)] == ["promised", "retargeted"]
    after = (await clocks(stream, order))["resolve"]
    (change,) = after.retargets
    assert (change.old_due, change.new_due, change.at) == (before.due_at, after.due_at, NOW + HOUR)
    assert after.started_at == before.started_at


async def test_rule_9_a_late_event_corrects_the_alert_and_erases_nothing(stream: Stream) -> None:
    order = await fix(stream)
    stands = await clocks(stream, order)
    due = stands["resolve"].due_at
    assert due is not None
    await stream.wait(due + HOUR)
    await stream.say("cdot", update(order, "resolve", outcome="fixed", at=due - timedelta(minutes=1)))
    kinds = {one.alert.rung: one.kind for one in told(stream, order) if one.alert.clock == "resolve"}
    assert kinds == {"half": "over", "three_quarters": "over", "soon": "over", "breach": "withdrawn"}
    assert (await clocks(stream, order))["resolve"].result == "met"
    states = await stream.connection.fetch(
        "SELECT rung, state FROM alerts WHERE order_id = $1 AND clock = 'resolve'", order.order_id
    )
    assert {row["rung"]: row["state"] for row in states}["breach"] == "withdrawn"


async def test_rule_8_after_downtime_rungs_fire_in_order_marked_late_and_only_the_highest_tells(
    stream: Stream,
) -> None:
    order = await fix(stream)
    due = (await clocks(stream, order))["resolve"].due_at
    assert due is not None
    stream.now = due + timedelta(minutes=30)  # nobody nudged
    await stream.wait(stream.now)
    events = [one for one in told(stream, order) if one.alert.clock == "resolve"]
    assert [(one.alert.rung, one.kind, one.alert.late) for one in events] == [
        ("half", "superseded", True), ("three_quarters", "superseded", True), ("soon", "superseded", True),
        ("breach", "fired", True),
    ]  # fmt: skip
    assert [one.alert.at for one in events] == sorted(one.alert.at for one in events)
    assert events[-1].alert.at == due


async def test_a_nudge_twice_or_early_changes_nothing(stream: Stream) -> None:
    order = await fix(stream)
    row = await stream.connection.fetchrow("SELECT * FROM timers WHERE subject_id = $1", order.order_id)
    await stream.nudge(row, row["due_at"] - HOUR)
    assert told(stream, order) == []
    await stream.wait(row["due_at"])
    once = told(stream, order)
    assert len(once) == 1
    await stream.nudge(row, row["due_at"])
    assert told(stream, order) == once


async def test_what_was_due_before_an_update_was_heard_fires_before_it(stream: Stream) -> None:
    """So nothing depends on whether the nudge or the update came first."""
    order = await fix(stream)
    due = (await clocks(stream, order))["resolve"].due_at
    assert due is not None
    stream.now = due + HOUR
    await stream.say("cdot", update(order, "resolve", outcome="fixed"))
    events = [one for one in told(stream, order) if one.alert.clock == "resolve"]
    assert [one.kind for one in events if one.alert.rung == "breach"] == ["fired", "over"]


async def test_an_acknowledged_alert_silences_its_level_and_comes_back_by_itself(
    stream: Stream, policy: Policy
) -> None:
    order = await fix(stream)
    due = (await clocks(stream, order))["resolve"].due_at
    assert due is not None
    first = await stream.connection.fetchval(
        "SELECT due_at FROM timers WHERE subject_id = $1", order.order_id
    )
    await stream.wait(first)
    (half,) = told(stream, order)
    await stream.do(ask(half, "acknowledge"))
    await stream.do(ask(half, "acknowledge"))  # said again
    assert brief(told(stream, order))[1:] == [(half.alert.clock, half.alert.rung, "acknowledged")]
    assert told(stream, order)[-1].by == "ana"
    back = stream.now + timedelta(minutes=policy.sla.alerting.unacknowledge_after_minutes)
    await stream.wait(back - timedelta(seconds=1))
    silent = [one for one in told(stream, order) if one.alert.clock == half.alert.clock][2:]
    assert {(one.kind, one.alert.level) for one in silent} <= {("silenced", 1), ("fired", 2), ("fired", 3)}
    await stream.wait(back)
    assert ("unacknowledged") in [
        one.kind for one in told(stream, order) if one.alert.rung == half.alert.rung
    ]


async def test_a_snoozed_alert_wakes_and_one_that_is_handed_over_names_to_whom(stream: Stream) -> None:
    order = await fix(stream)
    first = await stream.connection.fetchval(
        "SELECT due_at FROM timers WHERE subject_id = $1", order.order_id
    )
    await stream.wait(first)
    (half,) = told(stream, order)
    await stream.do(ask(half, "snooze", until=stream.now + timedelta(minutes=2)))
    await stream.wait(stream.now + timedelta(minutes=2))
    of_half = [one for one in told(stream, order) if one.alert.alert_id == half.alert.alert_id]
    assert [one.kind for one in of_half] == ["fired", "snoozed", "woken"]
    await stream.do(ask(half, "hand_over", to="duty_supervisor", text="I am off."))
    last = [one for one in told(stream, order) if one.alert.alert_id == half.alert.alert_id][-1]
    assert (last.kind, last.alert.handed_to, last.because) == ("handed_over", "duty_supervisor", "I am off.")
    await stream.say("cdot", update(order, "acknowledge"), update(order, "resolve", outcome="fixed"))
    before = len(told(stream, order))
    await stream.do(ask(half, "acknowledge", "late"))
    assert len(told(stream, order)) == before


async def test_handed_on_the_new_department_has_the_whole_time_to_acknowledge(stream: Stream) -> None:
    order = await fix(stream)
    await stream.wait(NOW + 6 * HOUR)
    await stream.say("cdot", update(order, "reject", text="Not ours.", to_department="dss"))
    clock = (await clocks(stream, order))["acknowledge"]
    assert (clock.cycle, clock.started_at, clock.result) == (2, NOW + 6 * HOUR, None)
    assert [cycle.result for cycle in clock.past] == ["cancelled"]


async def test_what_is_handed_on_late_warns_the_new_department_and_no_longer_the_old(stream: Stream) -> None:
    order = await fix(stream)
    due = (await clocks(stream, order))["resolve"].due_at
    assert due is not None
    await stream.wait(due + HOUR)
    before = len(told(stream, order))
    await stream.say("cdot", update(order, "reject", text="Not ours.", to_department="dss"))
    resolve = [one for one in told(stream, order)[before:] if one.alert.clock == "resolve"]
    assert [(one.alert.rung, one.kind, one.alert.department) for one in resolve if one.kind == "back"] == [
        ("breach", "back", "dss")
    ]
    assert {one.kind for one in resolve} == {"back", "over"}
    audiences = await stream.connection.fetch(
        "SELECT audience FROM feed WHERE kind = 'alert' AND body::json ->> 'kind' = 'back'"
    )
    assert sorted(row["audience"] for row in audiences) == ["", "dss"]


async def test_an_order_that_nothing_asks_for_any_longer_ends_its_clocks(stream: Stream) -> None:
    order = await fix(stream)
    await stream.feed([light("SR1", status="completed", revised_at=NOW - HOUR)])
    gone = await fix(stream)
    if gone.state not in ("cancelled", "void"):
        pytest.fail(f"the order was to end, it is {gone.state}")
    assert [line.kind for line in await lines(stream, order)] == ["promised", "withdrawn"]
    assert {clock.result for clock in (await clocks(stream, order)).values()} == {"cancelled"}
    assert (
        await stream.connection.fetchval("SELECT count(*) FROM timers WHERE subject_id = $1", order.order_id)
        == 0
    )


async def test_promises_are_no_facts_of_the_order(stream: Stream) -> None:
    """Its version and its snapshots are the same whatever time has brought."""
    order = await fix(stream)
    snapshots = [one for one in stream.events if one.topic == WORK_ORDERS.name]
    await stream.wait(NOW + 30 * DAY)
    assert (await fix(stream)) == order
    assert [one for one in stream.events if one.topic == WORK_ORDERS.name] == snapshots


async def test_an_alert_says_what_where_and_when_and_nothing_of_the_incident(stream: Stream) -> None:
    order = await fix(stream)
    await stream.wait(NOW + 30 * DAY)
    for event in told(stream, order):
        said = event.model_dump_json().lower()
        hidden = [*map(str, order.incident_ids), "shooting", "homicide", "victim", "incident", "gun", "zz1"]
        assert [word for word in hidden if word in said] == []
    assert datetime.now(UTC) > NOW
