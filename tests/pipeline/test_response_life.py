"""The life of responses through the real agents and the real database: made safe, closed once, corrected."""

from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from schemas.policy import Policy
from schemas.response import Response
from schemas.response_life import LifeLine, ResponseLife, Summary
from schemas.topics import RESPONSE_LIFE
from schemas.work_order import WorkOrder
from tests.pipeline.stream import Stream
from tests.pipeline.test_departments import AT, CORNER, shooting
from tests.pipeline.test_updates import light, update

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
WINDOW = 45 * DAY
SETTLED = timedelta(minutes=10)


@pytest.fixture
async def stream(connection: Any, policy: Policy, areas: Any) -> Stream:
    """An hour after a shooting near a lamp that is out."""
    made = Stream(connection, policy, areas, now=AT + HOUR)
    await made.feed([shooting("ZZ1"), light("SR1")])
    return made


async def lines(stream: Stream) -> list[LifeLine]:
    rows = await stream.connection.fetch("SELECT body FROM response_lines ORDER BY response_id, seq")
    return [LifeLine.model_validate_json(row["body"]) for row in rows]


async def life(stream: Stream) -> ResponseLife:
    (body,) = await stream.connection.fetchrow("SELECT body FROM response_life")
    return ResponseLife.model_validate_json(body)


async def kinds(stream: Stream) -> list[str]:
    return [line.kind for line in await lines(stream)]


async def summary(stream: Stream) -> Summary:
    found = (await life(stream)).summary
    assert found is not None
    return found


async def open_orders(stream: Stream) -> list[WorkOrder]:
    rows = await stream.connection.fetch(
        "SELECT body FROM work_orders WHERE state NOT IN ('resolved', 'verified', 'cancelled', 'void') ORDER BY 1"
    )
    return [WorkOrder.model_validate_json(row["body"]) for row in rows]


async def work_off(stream: Stream, order: WorkOrder, at: datetime | None = None, **more: Any) -> None:
    """As its department does it, and the centre if it is drawn for re-inspection."""
    number = f"-{order.reference}-{order.updates}"
    fields = {"outcome": "fixed" if order.work == "fix" else "inspected", "at": at or stream.now} | more
    await stream.say(order.department, update(order, "resolve", number, **fields))
    await stream.say("cscc", update(order, "verify", number, at=at or stream.now))


async def work_all_off(stream: Stream, **more: Any) -> None:
    for order in await open_orders(stream):
        await work_off(stream, order, **more)


async def settled(stream: Stream) -> None:
    """Wait until what was heard late is written."""
    await stream.wait(stream.now + SETTLED)


async def never_was(stream: Stream, *, after_all: bool = False) -> None:
    """Void every zone of the response, as triage does when none of it ever held; or take that back."""
    body = await stream.connection.fetchval("SELECT body FROM responses")
    response = Response.model_validate_json(body)
    zones = [zone.model_copy(update={"until": None if after_all else zone.since}) for zone in response.zones]
    status = "active" if after_all else "ended"
    changed = response.model_copy(update={"zones": tuple(zones), "status": status})
    await stream.connection.execute("UPDATE responses SET body = $1", changed.model_dump_json())
    await stream.look(str(response.incident_id))


async def published(stream: Stream) -> list[str]:
    """What was told, the same on Kafka and in the feed."""
    events = [one.value.decode() for one in stream.events if one.topic == RESPONSE_LIFE.name]
    rows = await stream.connection.fetch(
        "SELECT audience, body FROM feed WHERE kind = 'response' ORDER BY seq"
    )
    assert [row["body"] for row in rows] == events
    assert {row["audience"] for row in rows} <= {""}
    return [LifeLine.model_validate_json(event).kind for event in events]


async def test_a_window_that_nothing_happens_in_is_closed_once_at_its_end(stream: Stream) -> None:
    assert await kinds(stream) == ["opened"]
    await stream.wait(AT + WINDOW - timedelta(microseconds=1))
    assert await kinds(stream) == ["opened"]
    await stream.wait(AT + WINDOW + 30 * DAY)
    opened, closed = await lines(stream)
    assert (opened.at, opened.handled_at) == (AT, AT + HOUR)
    assert (closed.kind, closed.rule, closed.at, closed.handled_at) == (
        "closed", "window_over", AT + WINDOW, AT + WINDOW,
    )  # fmt: skip
    assert closed.summary is not None
    assert closed.summary.orders == closed.summary.open == len(await open_orders(stream)) > 0
    assert closed.summary.late == closed.summary.open
    assert {one.reference for one in closed.summary.left_open} == {
        one.reference for one in await open_orders(stream)
    }
    assert await published(stream) == ["closed"]
    assert await stream.connection.fetchval("SELECT count(*) FROM timers WHERE kind = 'response'") == 0


async def test_a_zone_is_made_safe_when_all_is_done_and_closed_when_its_window_ends(stream: Stream) -> None:
    *others, last = await open_orders(stream)
    stream.now = AT + 2 * DAY
    for order in others:
        await work_off(stream, order)
    assert await kinds(stream) == ["opened"]
    stream.now = AT + 5 * DAY
    await work_off(stream, last, at=AT + 4 * DAY)
    assert await kinds(stream) == ["opened", "made_safe"]
    safe = (await lines(stream))[-1]
    assert (safe.at, safe.handled_at) == (AT + 4 * DAY, AT + 5 * DAY)
    await stream.wait(AT + WINDOW)
    assert await kinds(stream) == ["opened", "made_safe", "closed"]
    found = await summary(stream)
    assert (found.orders, found.done, found.open, found.late) == (len(others) + 1, len(others) + 1, 0, 0)
    assert (found.fixed, found.days_to_last_fix) == (1, 2.0 if last.work == "inspect" else 4.0)
    assert (await life(stream)).safe_since == AT + 4 * DAY
    assert await published(stream) == ["made_safe", "closed"]


async def test_what_could_not_be_done_leaves_no_zone_safe_and_is_not_fixed(stream: Stream) -> None:
    for order in await open_orders(stream):
        await work_off(stream, order, outcome="no_access")
    await stream.wait(AT + WINDOW)
    assert await kinds(stream) == ["opened", "closed"]
    found = await summary(stream)
    assert (found.done, found.fixed, found.open) == (found.orders, 0, 0)
    assert {one.standing for one in found.by} == {"no_access"}


async def test_a_new_request_in_the_window_opens_the_zone_again(stream: Stream) -> None:
    await work_all_off(stream)
    stream.now = AT + 20 * DAY
    late = {"created_at": AT + 20 * DAY, "revised_at": AT + 20 * DAY}
    await stream.feed([light("SR2", address="4011 W WEST END AVE", **late)])
    assert await kinds(stream) == ["opened", "made_safe", "open_again"]
    assert (await lines(stream))[-1].at == AT + 20 * DAY
    stream.now = AT + 22 * DAY
    await work_all_off(stream)
    await stream.wait(AT + WINDOW)
    assert await kinds(stream) == ["opened", "made_safe", "open_again", "made_safe", "closed"]


async def test_an_order_that_is_reopened_opens_the_zone_again_and_is_told_after_the_end_too(
    stream: Stream,
) -> None:
    (order, *_) = await open_orders(stream)
    await work_all_off(stream)
    await stream.wait(AT + WINDOW + DAY)
    await stream.say(order.department, update(order, "reopen", text="Dark again.", at=stream.now))
    assert await kinds(stream) == ["opened", "made_safe", "closed", "open_again"]
    assert (await life(stream)).state == "closed"
    (order,) = await open_orders(stream)
    await work_off(stream, order, at=stream.now)
    assert (await kinds(stream))[-2:] == ["open_again", "made_safe"]


async def test_what_is_heard_late_corrects_the_closing_and_what_happens_later_does_not(
    stream: Stream,
) -> None:
    first, second, *_ = await open_orders(stream)
    await stream.wait(AT + WINDOW + DAY)
    before = await summary(stream)
    await work_off(stream, first, at=AT + WINDOW + HOUR)
    assert await summary(stream) == before
    assert await kinds(stream) == ["opened", "closed"]
    await work_off(stream, second, at=AT + WINDOW - HOUR)
    assert await kinds(stream) == ["opened", "closed"]
    await settled(stream)
    assert await kinds(stream) == ["opened", "closed", "corrected"]
    after = await summary(stream)
    assert (after.as_of, after.done, after.open) == (before.as_of, before.done + 1, before.open - 1)
    corrected = (await lines(stream))[-1]
    assert (corrected.at, corrected.handled_at) == (AT + WINDOW, stream.now)
    assert await published(stream) == ["closed", "corrected"]
    assert await stream.connection.fetchval("SELECT count(*) FROM timers WHERE kind = 'response'") == 0


async def test_what_is_heard_late_at_about_the_same_time_is_one_correction(stream: Stream) -> None:
    found = await open_orders(stream)
    await stream.wait(AT + WINDOW + DAY)
    for order in found:
        await work_off(stream, order, at=AT + WINDOW - HOUR)
        await stream.wait(stream.now + timedelta(minutes=1))
    await settled(stream)
    assert await kinds(stream) == ["opened", "closed", "made_safe", "corrected"]
    assert (await summary(stream)).done == len(found) > 1


async def test_what_is_over_before_the_correction_is_written_is_not_in_it(stream: Stream) -> None:
    (order, *_) = await open_orders(stream)
    await stream.wait(AT + WINDOW + DAY)
    hour_before = AT + WINDOW - HOUR
    await stream.say(order.department, update(order, "hold", reason="weather", at=hour_before))
    assert (await life(stream)).correct_at == stream.now + SETTLED
    await stream.say(order.department, update(order, "resume", at=hour_before + timedelta(minutes=5)))
    await stream.say(order.department, update(order, "note", text="x"))
    await settled(stream)
    assert (await summary(stream)).held == 0


async def test_a_hold_that_is_heard_late_corrects_it_too(stream: Stream) -> None:
    (order, *_) = await open_orders(stream)
    await stream.wait(AT + WINDOW + DAY)
    assert (await summary(stream)).held == 0
    await stream.say(order.department, update(order, "hold", reason="weather", at=AT + WINDOW - HOUR))
    await settled(stream)
    assert (await summary(stream)).held == 1


async def test_a_revision_moves_the_window_before_its_end_and_reopens_it_afterwards(stream: Stream) -> None:
    later = AT + 3 * DAY
    stream.now = later + HOUR
    await stream.feed([shooting("ZZ1", occurred_at=later, revised_at=later)])
    assert await kinds(stream) == ["opened", "moved"]
    await stream.wait(AT + WINDOW + DAY)
    assert await kinds(stream) == ["opened", "moved"]
    await stream.wait(later + WINDOW)
    assert (await life(stream)).closed_at == later + WINDOW
    stream.now = later + WINDOW + HOUR
    again = AT + 10 * DAY
    await stream.feed([shooting("ZZ1", occurred_at=again, revised_at=stream.now)])
    assert (await kinds(stream))[-2:] == ["closed", "reopened"]
    await stream.wait(again + WINDOW)
    assert [(line.kind, line.cycle) for line in await lines(stream)][-3:] == [
        ("closed", 1), ("reopened", 2), ("closed", 2),
    ]  # fmt: skip


async def test_an_incident_that_is_unfounded_calls_its_response_off(stream: Stream) -> None:
    (order, *others) = await open_orders(stream)
    await stream.say(order.department, update(order, "start"))
    stream.now = AT + 2 * DAY
    unfounded: dict[str, Any] = {"validity": "unfounded", "revised_at": AT + 2 * DAY}
    await stream.feed([shooting("ZZ1", **unfounded)])
    assert await kinds(stream) == ["opened", "moved"]
    await stream.wait(AT + 2 * DAY + SETTLED)
    assert await kinds(stream) == ["opened", "moved", "closed"]
    closed = (await lines(stream))[-1]
    assert (closed.rule, closed.at, closed.handled_at) == ("called_off", AT + 2 * DAY, stream.now)
    assert closed.summary is not None
    assert (closed.summary.open, closed.summary.cancelled) == (1, len(others))
    await work_off(stream, order, at=AT + 3 * DAY)
    assert await kinds(stream) == ["opened", "moved", "closed"]  # one order of many: that is not called safe


async def test_unfounded_after_its_end_changes_nothing_unless_it_was_so_before(stream: Stream) -> None:
    await stream.wait(AT + WINDOW + DAY)
    unfounded: dict[str, Any] = {"validity": "unfounded", "revised_at": AT + WINDOW + HOUR}
    await stream.feed([shooting("ZZ1", **unfounded)])
    assert await kinds(stream) == ["opened", "closed"]
    await stream.feed([shooting("ZZ1", **unfounded | {"revised_at": AT + DAY})])
    await settled(stream)
    corrected = (await lines(stream))[-1]
    assert (corrected.kind, corrected.rule, corrected.at) == ("corrected", "called_off", AT + DAY)


@pytest.mark.parametrize("when", ["before its end", "after its end"])
async def test_what_never_was_is_void_and_does_not_count(stream: Stream, when: str) -> None:
    """As when an incident turns out to be another's."""
    await work_all_off(stream)
    await stream.wait(AT + WINDOW + DAY if when == "after its end" else AT + DAY)
    before = await kinds(stream)
    await never_was(stream)
    assert await kinds(stream) == [*before, "void"]
    assert ((await life(stream)).state, (await life(stream)).safe_since) == ("void", None)
    await stream.wait(AT + 2 * WINDOW)
    assert await kinds(stream) == [*before, "void"]
    assert await stream.connection.fetchval("SELECT count(*) FROM timers WHERE kind = 'response'") == 0
    await never_was(stream, after_all=True)
    assert await kinds(stream) == [*before, "void", "reopened", "made_safe"]


async def test_what_never_was_when_it_is_first_seen_has_no_life(stream: Stream) -> None:
    await stream.connection.execute("DELETE FROM response_lines; DELETE FROM response_life")
    await never_was(stream)
    assert await kinds(stream) == []


async def test_history_is_closed_soon_after_it_becomes_known_with_its_orders_in_the_summary(
    connection: Any, policy: Policy, areas: Any
) -> None:
    stream = Stream(connection, policy, areas, now=AT + 400 * DAY)
    known = stream.now
    await stream.feed([shooting("ZZ1"), light("SR1")])
    assert await kinds(stream) == ["opened"]
    await stream.wait(known + HOUR)
    opened, closed = await lines(stream)
    assert (opened.closes_at, opened.handled_at) == (AT + WINDOW, known)
    assert (closed.at, closed.handled_at) == (AT + WINDOW, known + SETTLED)
    assert (await summary(stream)).orders == len(await open_orders(stream)) > 0
    assert (await summary(stream)).late == 0


async def test_after_downtime_the_closing_has_its_true_time_and_that_at_which_it_was_handled(
    stream: Stream,
) -> None:
    (order, *_) = await open_orders(stream)
    stream.now = AT + WINDOW + 3 * DAY  # nobody nudged for three days
    await work_off(stream, order, at=AT + WINDOW + DAY)
    await stream.wait(stream.now)
    (closed,) = [line for line in await lines(stream) if line.kind == "closed"]
    assert (closed.at, closed.handled_at) == (AT + WINDOW, AT + WINDOW + 3 * DAY)
    assert closed.summary is not None
    assert closed.summary.done == 0
    assert order.reference in {one.reference for one in closed.summary.left_open}


async def test_a_nudge_early_late_or_twice_changes_nothing(stream: Stream) -> None:
    timer = await stream.connection.fetchrow("SELECT * FROM timers WHERE kind = 'response'")
    await stream.nudge(timer, timer["due_at"])
    assert await kinds(stream) == ["opened"]
    await stream.wait(AT + WINDOW)
    for _ in range(2):
        await stream.nudge(timer, timer["due_at"])
    assert await kinds(stream) == ["opened", "closed"]


async def test_the_database_refuses_a_second_closing_of_one_cycle(stream: Stream) -> None:
    await stream.wait(AT + WINDOW)
    again = """INSERT INTO response_lines (response_id, seq, cycle, kind, body)
        SELECT response_id, seq + 1, cycle, kind, body FROM response_lines WHERE kind = 'closed'"""
    with pytest.raises(asyncpg.UniqueViolationError):
        await stream.connection.execute(again)


async def test_two_responses_share_an_order_and_each_has_it_in_its_summary(stream: Stream) -> None:
    stream.now = AT + 3 * DAY
    second = AT + 3 * DAY
    await stream.feed([shooting("ZZ2", second, report_id="ZZ2-1", point=CORNER)])
    await work_all_off(stream)
    await stream.wait(second + WINDOW)
    found = [line for line in await lines(stream) if line.kind == "closed"]
    assert len({line.response_id for line in found}) == len(found) == 2
    assert {line.summary.fixed for line in found if line.summary} == {1}
