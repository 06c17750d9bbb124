"""Rules of SLA.md that an order keeps, and not its clocks alone: through the real agents and the real database."""

from datetime import date, timedelta
from typing import Any

import pytest

from connectors.geography.areas import Areas
from connectors.postgres.policies import keep_policy
from schemas.policy import Policy
from schemas.promise import Promises
from schemas.sla import Clock
from schemas.work_order import WorkOrder
from tests.pipeline.stream import NOW, Stream
from tests.pipeline.test_departments import shooting
from tests.pipeline.test_updates import fix, light, orders, update

HOUR = timedelta(hours=1)


@pytest.fixture
async def stream(connection: Any, policy: Policy, areas: Areas) -> Stream:
    await keep_policy(connection, policy)
    made = Stream(connection, policy, areas)
    await made.feed([shooting("ZZ1"), light("SR1")])
    return made


async def promised(stream: Stream, order: WorkOrder) -> Promises:
    body = await stream.connection.fetchval("SELECT body FROM promises WHERE order_id = $1", order.order_id)
    return Promises.model_validate_json(body)


async def clocks(stream: Stream, order: WorkOrder) -> dict[str, Clock]:
    return {clock.name: clock for clock in (await promised(stream, order)).clocks}


def without_holidays_after(policy: Policy, last: date) -> Policy:
    """The same policy, had its holidays ended there."""
    calendars = tuple(one.model_copy(update={"holidays_until": last}) for one in policy.sla.calendars)
    sla = policy.sla.model_copy(update={"calendars": calendars})
    return policy.model_copy(update={"sla": sla, "version": f"until-{last}"})


async def test_rule_5_a_hold_without_a_listed_reason_is_refused_and_stops_nothing(stream: Stream) -> None:
    order = await fix(stream)
    before = await promised(stream, order)
    [answer] = await stream.say("cdot", update(order, "hold", reason="lunch"))
    assert answer.verdict == "refused"
    assert "weather" in answer.because  # the reasons that there are
    assert await promised(stream, order) == before


async def test_rule_6_a_duplicate_that_closes_with_its_original_has_its_clocks_cancelled(
    stream: Stream,
) -> None:
    await stream.feed([light("SR2", address="4021 W WEST END AVE")])
    original, duplicate = [order for order in await orders(stream) if order.work == "fix"]
    stream.now = NOW + HOUR
    said = update(duplicate, "resolve", outcome="duplicate_of", duplicate_of=original.reference)
    [answer] = await stream.say("cdot", said)
    assert answer.verdict == "accepted"
    assert (await clocks(stream, duplicate))["resolve"].result == "cancelled"
    assert (await clocks(stream, original))["resolve"].result is None
    await stream.say("cdot", update(original, "resolve", "2", outcome="fixed"))
    assert (await clocks(stream, duplicate))["resolve"].result == "cancelled"
    assert (await clocks(stream, original))["resolve"].result == "met"


async def test_rule_7_an_order_keeps_the_policy_under_which_it_was_promised(
    stream: Stream, areas: Areas
) -> None:
    order = await fix(stream)
    before = await clocks(stream, order)
    newer = stream.policy.model_copy(update={"version": "newer"})
    await keep_policy(stream.connection, newer)
    later = Stream(stream.connection, newer, areas, now=NOW + HOUR)
    await later.say("cdot", update(order, "hold", reason="weather"))
    later.now = NOW + 2 * HOUR
    await later.say("cdot", update(order, "resume"))
    after = (await clocks(later, order))["resolve"]
    assert after.target == before["resolve"].target
    assert {run.policy_version for run in after.runs} == {stream.policy.version}
    assert after.retargets == ()
    before_due, after_due = before["resolve"].due_at, after.due_at
    assert before_due is not None
    assert after_due == before_due + HOUR


async def test_rule_9_what_has_not_happened_yet_is_refused_with_the_reason(stream: Stream) -> None:
    order = await fix(stream)
    before = await promised(stream, order)
    skew = timedelta(seconds=stream.policy.city.future_skew_s)
    said = update(order, "resolve", outcome="fixed", at=NOW + skew + timedelta(seconds=1))
    [answer] = await stream.say("cdot", said)
    assert (answer.verdict, answer.rule) == ("refused", "from_the_future")
    assert f"up to {stream.policy.city.future_skew_s} s are allowed" in answer.because
    assert await promised(stream, order) == before


async def test_rule_10_a_clock_whose_calendar_cannot_say_is_listed_and_the_order_is_opened(
    connection: Any, policy: Policy, areas: Areas
) -> None:
    """No promise is ever silently without a clock, and no order waits for a calendar."""
    ended = without_holidays_after(policy, date(2026, 10, 1))
    await keep_policy(connection, ended)
    stream = Stream(connection, ended, areas)
    await stream.feed([shooting("ZZ1"), light("SR1")])
    order = await fix(stream)
    found = await promised(stream, order)
    assert found.clocks == ()
    assert {failure.clock for failure in found.failures} == {"acknowledge", "resolve"}
    assert all("end on 2026-10-01" in failure.because for failure in found.failures)
    assert found.next_due_at is None
