"""`rapid sla explain`, for orders that the real agents made."""

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from connectors.geography.areas import Areas
from connectors.postgres.policies import keep_policy
from infra.cli.errors import ExitCode, Oops
from infra.cli.sla import app
from schemas.policy import Policy
from schemas.promise import Failure, Promises
from schemas.work_order import WorkOrder
from tests.pipeline.stream import NOW, Stream
from tests.pipeline.test_departments import shooting
from tests.pipeline.test_updates import fix, light, update

HOUR = timedelta(hours=1)
DAY = 24 * HOUR


@pytest.fixture
async def stream(connection: Any, policy: Policy, areas: Areas) -> Stream:
    """An order for a street light, promised at midnight UTC of the day on which Chicago's clocks go back."""
    await keep_policy(connection, policy)
    made = Stream(connection, policy, areas)
    await made.feed([shooting("ZZ1"), light("SR1")])
    return made


async def run(database_url: str, *arguments: str) -> Result:
    environment = {"RAPID_DATABASE_URL": database_url, "COLUMNS": "200"}
    return await asyncio.to_thread(CliRunner().invoke, app, ["explain", *arguments], env=environment)


async def explained(database_url: str, order: WorkOrder, *arguments: str) -> Any:
    result = await run(database_url, order.reference, "--json", *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


async def say(stream: Stream, verb: str, at: datetime, **more: Any) -> None:
    stream.now = at
    [answer] = await stream.say("cdot", update(await fix(stream), verb, **more))
    assert answer.verdict == "accepted"


async def stored(stream: Stream) -> Promises:
    order = await fix(stream)
    body = await stream.connection.fetchval("SELECT body FROM promises WHERE order_id = $1", order.order_id)
    return Promises.model_validate_json(body)


async def replace(stream: Stream, promises: Promises) -> None:
    await stream.connection.execute(
        "UPDATE promises SET body = $1 WHERE order_id = $2", promises.model_dump_json(), promises.order_id
    )


async def test_what_was_counted_holds_and_the_ledger(stream: Stream, database_url: str) -> None:
    await say(stream, "acknowledge", NOW + HOUR)
    await say(stream, "hold", NOW + 2 * HOUR, reason="weather")
    await say(stream, "resume", NOW + 5 * HOUR)
    order = await fix(stream)
    found = await explained(database_url, order)
    read, resolve = found["clocks"]
    assert (found["reference"], found["department"]) == (order.reference, "cdot")
    assert (read["clock"], read["state"], read["holds"]) == ("acknowledge", "met", [])
    assert resolve["holds"] == [
        {"since": (NOW + 2 * HOUR).isoformat(), "until": (NOW + 5 * HOUR).isoformat(), "reason": "weather"}
    ]
    budget = timedelta(seconds=resolve["budget_s"])
    assert resolve["due_at"] == (NOW + budget + 3 * HOUR).isoformat()
    assert sum(one["seconds"] for one in resolve["counted"]) == resolve["budget_s"]
    assert resolve["from_ledger"] == {"agrees": True, "due_at": resolve["due_at"]}
    assert resolve["policy_version"] == stream.policy.version
    shown = (await run(database_url, order.reference)).stdout
    assert "On hold: Sat 2026-10-31 21:00:00 CDT to Sun 2026-11-01 00:00:00 CDT (weather)" in shown
    assert shown.count("From the ledger: the same.") == 2
    assert "│ CST  │" in shown  # the night in which the clocks went back


async def test_one_clock_alone(stream: Stream, database_url: str) -> None:
    found = await explained(database_url, await fix(stream), "--clock", "resolve")
    assert [one["clock"] for one in found["clocks"]] == ["resolve"]


async def test_on_hold_there_is_no_due_time_but_what_is_left(stream: Stream, database_url: str) -> None:
    await say(stream, "hold", NOW + 2 * HOUR, reason="utility")
    found = await explained(database_url, await fix(stream), "--clock", "resolve")
    [resolve] = found["clocks"]
    assert (resolve["state"], resolve["due_at"]) == ("on hold", None)
    assert resolve["left_s"] == resolve["budget_s"] - 2 * 3600
    assert (resolve["from_ledger"]["agrees"], resolve["from_ledger"]["due_at"]) == (True, None)
    assert "no due time" in (await run(database_url, (await fix(stream)).reference)).stdout


async def test_a_retarget_tells_both_due_times(stream: Stream, database_url: str) -> None:
    before = await fix(stream)
    stream.now = NOW + HOUR
    await stream.feed([shooting(f"ZZ{number}") for number in range(2, 6)])
    after = await fix(stream)
    assert before.priority != after.priority
    [resolve] = (await explained(database_url, after, "--clock", "resolve"))["clocks"]
    [change] = resolve["retargets"]
    assert change["new_due"] < change["old_due"]
    assert resolve["from_ledger"]["agrees"] is True
    assert "Re-target Sat 2026-10-31 20:00:00 CDT: " in (await run(database_url, after.reference)).stdout


async def test_a_past_cycle_is_told(stream: Stream, database_url: str) -> None:
    await say(stream, "resolve", NOW + HOUR, outcome="fixed")
    await say(stream, "reopen", NOW + 20 * DAY, text="out again")
    order = await fix(stream)
    [resolve] = (await explained(database_url, order, "--clock", "resolve"))["clocks"]
    assert (resolve["cycle"], resolve["past"][0]["result"]) == (2, "met")
    assert (
        "Before, cycle 1: met, ended Sat 2026-10-31 20:00:00 CDT"
        in (await run(database_url, order.reference)).stdout
    )


async def test_a_stored_clock_that_the_ledger_does_not_bear_out_is_told(
    stream: Stream, database_url: str
) -> None:
    promises = await stored(stream)
    true = {clock.name: clock.due_at for clock in promises.clocks}
    wrong = [clock.model_copy(update={"due_at": NOW + 99 * DAY}) for clock in promises.clocks]
    await replace(stream, promises.model_copy(update={"clocks": tuple(wrong)}))
    order = await fix(stream)
    [resolve] = (await explained(database_url, order, "--clock", "resolve"))["clocks"]
    assert true["resolve"] is not None
    assert resolve["from_ledger"] == {"agrees": False, "due_at": true["resolve"].isoformat()}
    assert "From the ledger: it DIFFERS, due " in (await run(database_url, order.reference)).stdout


async def test_a_difference_beside_the_due_time_is_named(stream: Stream, database_url: str) -> None:
    promises = await stored(stream)
    wrong = [clock.model_copy(update={"cycle": 4}) for clock in promises.clocks]
    await replace(stream, promises.model_copy(update={"clocks": tuple(wrong)}))
    shown = (await run(database_url, (await fix(stream)).reference)).stdout
    assert "the same due time, but it DIFFERS otherwise (cycle)" in shown


async def test_a_promise_without_a_clock_says_why(stream: Stream, database_url: str) -> None:
    promises = await stored(stream)
    failure = Failure(clock="abate", because="The holidays of the calendar offices end on 2026-12-31.")
    await replace(stream, promises.model_copy(update={"failures": (failure,)}))
    order = await fix(stream)
    assert f"abate: no clock. {failure.because}" in (await run(database_url, order.reference)).stdout
    found = await explained(database_url, order, "--clock", "abate")
    assert (found["clocks"], found["without_clock"]) == ([], [failure.model_dump()])


async def test_a_policy_that_is_gone_is_told_and_the_due_time_stays(
    stream: Stream, database_url: str
) -> None:
    await stream.connection.execute("DELETE FROM policies")
    order = await fix(stream)
    resolve = (await explained(database_url, order))["clocks"][1]
    assert resolve["due_at"] is not None
    assert "There is no calendar" in resolve["error"]
    assert resolve["from_ledger"] == {"agrees": None, "due_at": None}
    assert "cannot be shown: There is no calendar" in (await run(database_url, order.reference)).stdout


async def test_a_wrong_question_is_one_sentence(stream: Stream, database_url: str) -> None:
    order = await fix(stream)
    unpromised = "Nothing is promised of the order"
    for arguments, says in (
        (["WO-00000-00000"], "There is no order WO-00000-00000: see `rapid orders list`."),
        ([order.reference, "--clock", "abate"], "has no clock abate now: it has acknowledge, resolve."),
    ):
        oops = (await run(database_url, *arguments)).exception
        assert isinstance(oops, Oops)
        assert (oops.exit_code, says in str(oops)) == (ExitCode.NOT_FOUND, True)
    await stream.connection.execute("DELETE FROM promises")
    oops = (await run(database_url, str(order.order_id))).exception
    assert isinstance(oops, Oops)
    assert unpromised in str(oops)
