"""What nobody touched agrees; each planted disagreement is found by the checks that it concerns, and by no other."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from infra.cli.verify import as_values, remark_of
from infra.verify.registry import CHECKS
from infra.verify.report import Outcome
from infra.verify.responses import NOT_CLOSED, TO_CORRECT
from infra.verify.run import verify
from infra.verify.world import World
from schemas.envelope import Event
from tests.verify.made_up import records_of


def disagreeing(outcomes: list[Outcome]) -> dict[str, list[str]]:
    """What was found, by check; enough to read when a test fails."""
    return {
        one.check.name: [f"{d.reference}: expected {d.expected}, found {d.found}" for d in one.disagreements]
        for one in outcomes
        if one.disagreeing
    }


async def seen_file(world: World, folder: Path, **changes: Any) -> Path:
    """A file of what the crews hold; `changes` to the first line."""
    rows = await world.connection.fetch(
        "SELECT department, department_body FROM work_orders WHERE department_body IS NOT NULL ORDER BY order_id"
    )
    lines = [json.loads(row["department_body"]) | {"department": row["department"]} for row in rows]
    lines[0] |= changes
    file = folder / "seen.ndjson"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


async def test_a_world_that_nobody_touched_agrees_in_every_check(world: World, tmp_path: Path) -> None:
    whole = replace(world, seen=(await seen_file(world, tmp_path),))
    outcomes = await verify(whole)
    assert disagreeing(outcomes) == {}
    assert [one.check.name for one in outcomes if not one.compared or one.gone or one.not_done] == []


class Plant(NamedTuple):
    """Something that should not be, and the checks that see it."""

    name: str
    sql: str
    found_by: set[str]


FIX = "(SELECT order_id FROM work_orders WHERE work = 'fix' AND state = 'verified')"
OPEN = "(SELECT order_id FROM work_orders WHERE state = 'new' ORDER BY order_id LIMIT 1)"
ONE_CAUSE = f"""(order_key, cause_id, generation) = (
  SELECT c.order_key, c.cause_id, c.generation FROM order_causes c JOIN work_orders o USING (order_key, generation)
  WHERE o.order_id = {OPEN} LIMIT 1)"""
ALERT = "(SELECT alert_id FROM alerts WHERE state = 'open' ORDER BY alert_id LIMIT 1)"
WAITING = "(SELECT subject_id FROM timers WHERE kind = 'order' ORDER BY subject_id LIMIT 1)"
UNLOCKED = "ALTER TABLE audit DISABLE TRIGGER USER;"

PLANTS = [
    Plant("a line of the ledger deleted", f"DELETE FROM order_ledger WHERE seq = 3 AND order_id = {FIX}",
          {"bodies", "ledger-lines", "ledger-counts", "feed-answers", "promises"}),
    Plant("the last line, a refused one, deleted",
          "DELETE FROM order_ledger l WHERE verdict = 'refused' AND department = 'dss'",
          {"ledger-lines", "feed-answers"}),
    Plant("a verdict changed", f"UPDATE order_ledger SET verdict = 'ignored' WHERE seq = 1 AND order_id = {FIX}",
          {"ledger-lines"}),
    Plant("a verdict changed to refused in column, body and answer",
          "UPDATE order_ledger SET verdict = 'refused', body = replace(body, 'accepted', 'refused'),"
          f" result = replace(result, 'accepted', 'refused') WHERE seq = 1 AND order_id = {FIX}",
          {"bodies", "ledger-counts", "feed-answers", "topic-results"}),
    Plant("another update under the line's digest",
          "UPDATE order_ledger SET body = replace(body, 'Crew 7', 'Crew 8') WHERE body LIKE '%Crew 7%'",
          {"bodies", "ledger-lines"}),
    Plant("an answer changed", f"UPDATE order_ledger SET result = replace(result, 'WO-', 'WO-') || ' ' "
          f"WHERE seq = 1 AND order_id = {FIX}", {"feed-answers", "topic-results"}),
    Plant("an update in two lines",
          "ALTER TABLE order_ledger DROP CONSTRAINT order_ledger_department_update_id_key;"
          "INSERT INTO order_ledger SELECT order_id, seq + 100, order_key, department, update_id, digest, verdict,"
          f" body, result FROM order_ledger WHERE seq = 1 AND order_id = {FIX}",
          {"bodies", "ledger-lines", "ledger-counts", "feed-answers", "topic-results"}),
    Plant("a column changed", f"UPDATE work_orders SET state = 'on_hold' WHERE order_id = {OPEN}", {"columns"}),
    Plant("a place moved", f"UPDATE work_orders SET lat = lat + 1 WHERE order_id = {FIX}", {"columns"}),
    Plant("a body changed", f"UPDATE work_orders SET body = replace(body, '\"Crew 7\"', 'null') WHERE order_id = {FIX}",
          {"bodies", "topic-orders"}),
    Plant("a body that is none", f"UPDATE work_orders SET body = '{{}}' WHERE order_id = {FIX}",
          {"bodies", "columns", "promises", "topic-orders", "response-closings"}),
    Plant("a department that was told something else",
          "UPDATE work_orders SET department_body = replace(department_body, '\"title\":\"', '\"title\":\"Old: ')"
          f" WHERE order_id = {OPEN}",
          {"department-bodies", "feed-orders", "topic-departments"}),
    Plant("a department that was never told", f"UPDATE work_orders SET department_body = NULL, told = 0"
          f" WHERE order_id = {OPEN}", {"department-bodies", "feed-orders", "feed-versions", "topic-departments"}),
    Plant("a department that was told what nobody can read",
          f"UPDATE work_orders SET department_body = '?' WHERE order_id = {OPEN}",
          {"department-bodies", "feed-orders", "feed-versions", "topic-departments"}),
    Plant("an answer that nobody can read", "UPDATE feed SET body = '?'"
          " WHERE kind = 'update-result' AND audience = 'dss'",
          {"feed-answers"}),
    Plant("told decreased", f"UPDATE work_orders SET told = told - 1 WHERE order_id = {FIX}", {"department-bodies"}),
    Plant("a cause deleted", f"DELETE FROM order_causes WHERE {ONE_CAUSE}",
          {"bodies", "causes", "response-closings"}),
    Plant("a cause changed", f"UPDATE order_causes SET body = replace(body, '\"live\"', '\"withdrawn\"')"
          f" WHERE {ONE_CAUSE}", {"bodies", "causes"}),
    Plant("a cause's column changed", f"UPDATE order_causes SET standing = 'void' WHERE {ONE_CAUSE}",
          {"causes", "response-closings"}),
    Plant("a decision of dispatch deleted", "DELETE FROM decisions WHERE stage = 'dispatch' AND subject ="
          f" (SELECT cause_id FROM order_causes WHERE {ONE_CAUSE})", {"causes"}),
    Plant("an incident deleted", "DELETE FROM incidents WHERE number = 'JK512345'", {"evidence"}),
    Plant("a request deleted", "DELETE FROM issues WHERE request_number = 'SR26-01234567'", {"evidence"}),
    Plant("the feed's last row of an order deleted", "DELETE FROM feed WHERE (xid, seq) = (SELECT xid, seq FROM feed"
          " WHERE kind = 'work-order' AND audience = 'dob' ORDER BY xid DESC, seq DESC LIMIT 1)",
          {"feed-orders"}),
    Plant("a row in the middle deleted", "DELETE FROM feed WHERE kind = 'work-order' AND audience = 'cdot' AND"
          f" version = 2 AND subject = (SELECT reference FROM work_orders WHERE order_id = {FIX})",
          {"feed-versions", "webhook-log"}),
    Plant("the feed's last row changed", "UPDATE feed SET body = replace(body, '\"new\"', '\"on_hold\"')"
          f" WHERE subject = (SELECT reference FROM work_orders WHERE order_id = {OPEN})"
          " AND audience <> '' AND kind = 'work-order'",
          {"feed-orders"}),
    Plant("an older version told once more", "INSERT INTO feed (audience, kind, subject, version, body) SELECT"
          f" audience, kind, subject, 1, body FROM feed WHERE audience = '' AND kind = 'work-order' AND subject ="
          f" (SELECT reference FROM work_orders WHERE order_id = {FIX}) ORDER BY xid DESC, seq DESC LIMIT 1",
          {"feed-orders", "feed-versions"}),
    Plant("a former owner who was not told", "DELETE FROM feed WHERE audience = 'cdot' AND body LIKE '%\"rejected\"%'"
          " AND kind = 'work-order'", {"feed-orders", "webhook-log"}),
    Plant("an answer told twice", "INSERT INTO feed (audience, kind, subject, version, body) SELECT audience, kind,"
          " subject, version, body FROM feed WHERE kind = 'update-result' AND audience = 'dss'", {"feed-answers"}),
    Plant("news of a request that was not told", "DELETE FROM feed WHERE kind = 'service-request-news'"
          " AND subject = 'SR26-01234568'", {"feed-news"}),
    Plant("an update parked though its order is there",
          "UPDATE parked_updates SET received_at = now() - interval '1 hour', reference ="
          f" (SELECT reference FROM work_orders WHERE order_id = {FIX})", {"parked"}),
    Plant("a row of the outbox that waits", "INSERT INTO outbox (source, topic, key, value, headers)"
          " VALUES ('door/x', 'incidents', 'x', 'x', '[]')", {"drained"}),
    Plant("a promise line deleted", f"DELETE FROM promise_lines WHERE order_id = {OPEN}",
          {"promises", "promised", "timers"}),
    Plant("a promise line changed", "UPDATE promise_lines SET body = replace(body, '\"48h\"', '\"47h\"')"
          " WHERE body LIKE '%\"48h\"%'", {"promises"}),
    Plant("a line of no order", "INSERT INTO promise_lines (order_id, seq, body) VALUES (gen_random_uuid(), 1, '{}')",
          {"promises"}),
    Plant("promises that nobody can read", f"UPDATE promises SET body = '?' WHERE order_id = {OPEN}",
          {"promises", "promised", "department-bodies"}),
    Plant("a due time changed", "UPDATE promises SET next_due_at = next_due_at + interval '1 s'"
          f" WHERE order_id = {OPEN}", {"promises"}),
    Plant("a clock that was left out", "UPDATE promises SET body = jsonb_set(body::jsonb, '{clocks}', '[]')::text"
          f" WHERE order_id = {OPEN}", {"promises", "promised", "department-bodies"}),
    Plant("a timer deleted", f"DELETE FROM timers WHERE subject_id = {WAITING}", {"timers"}),
    Plant("a timer at another time", "UPDATE timers SET due_at = due_at + interval '1 microsecond'"
          f" WHERE subject_id = {WAITING}", {"timers"}),
    Plant("a timer of an order that waits for nothing", "INSERT INTO timers SELECT order_id, order_key, reference,"
          " now(), 0, now() FROM work_orders WHERE state = 'verified'", {"timers"}),
    Plant("a timer of nothing", "INSERT INTO timers VALUES (gen_random_uuid(), 'k', 'r', now(), 0, now())",
          {"promises"}),
    Plant("a closing deleted", "DELETE FROM response_lines WHERE kind = 'closed'",
          {"response-lives", "feed-responses"}),
    Plant("a response that is closed twice", "INSERT INTO response_lines SELECT response_id, 9, 2, kind, body"
          " FROM response_lines WHERE kind = 'closed'", {"response-lives", "feed-responses"}),
    Plant("a summary changed", "UPDATE response_life SET body = replace(body, '\"late\":0', '\"late\":1')"
          " WHERE state = 'closed'", {"response-lives", "response-closings"}),
    Plant("a response that nobody looked at", "DELETE FROM response_life; DELETE FROM response_lines;"
          " DELETE FROM feed WHERE kind = 'response'", {"response-ends"}),
    Plant("a timer of a closed response", "INSERT INTO timers SELECT response_id, incident_id::text, 'r', now(), 0,"
          " now(), now(), 'response' FROM response_life WHERE state = 'closed'", {"response-ends"}),
    Plant("a department told of a response", "UPDATE feed SET audience = 'cdot' WHERE kind = 'response'",
          {"feed-responses", "privacy", "webhook-log"}),
    Plant("a rung that was left out", f"DELETE FROM alert_events WHERE alert_id = {ALERT};"
          f" DELETE FROM feed WHERE subject = {ALERT}::text; DELETE FROM alerts WHERE alert_id = {ALERT}", {"rungs"}),
    Plant("an alert deleted", f"DELETE FROM alerts WHERE alert_id = {ALERT}", {"alerts", "rungs"}),
    Plant("an alert without a history", f"DELETE FROM alert_events WHERE alert_id = {ALERT}",
          {"alerts", "feed-alerts"}),
    Plant("the last event of an alert deleted", "DELETE FROM alert_events WHERE kind = 'acknowledged'",
          {"alerts", "feed-alerts"}),
    Plant("an alert as it is not", "UPDATE alerts SET body = replace(body, '\"open\"', '\"over\"')"
          f" WHERE alert_id = {ALERT}", {"alerts"}),
    Plant("an alert's column changed", f"UPDATE alerts SET level = 4 WHERE alert_id = {ALERT}", {"alerts"}),
    Plant("an alert of the same rung twice", "ALTER TABLE alerts DROP CONSTRAINT alerts_order_id_clock_cycle_rung_key;"
          " INSERT INTO alerts SELECT gen_random_uuid(), order_id, reference, department, area, clock, cycle, rung,"
          f" level, state, at, fired_at, seq, body FROM alerts WHERE alert_id = {ALERT}", {"alerts"}),
    Plant("an event that the feed did not tell", f"DELETE FROM feed WHERE audience = '' AND subject = {ALERT}::text",
          {"feed-alerts"}),
    Plant("an event that was told twice", "INSERT INTO feed (audience, kind, subject, version, body) SELECT audience,"
          f" kind, subject, version, body FROM feed WHERE audience = '' AND subject = {ALERT}::text", {"feed-alerts"}),
    Plant("an alert that was told to another department", "INSERT INTO feed (audience, kind, subject, version, body)"
          f" SELECT 'dss', kind, subject, version, body FROM feed WHERE audience = '' AND subject = {ALERT}::text",
          {"feed-alerts"}),
    Plant("an alert that tells of an incident", "UPDATE feed SET body = replace(body, '\"because\":\"',"
          f" '\"because\":\"JK512345: ') WHERE audience <> '' AND subject = {ALERT}::text", {"feed-alerts", "privacy"}),
    Plant("the audit trail changed", f"{UNLOCKED} UPDATE audit SET actor = 'cli:you' WHERE seq = 2", {"audit"}),
    Plant("the end of the audit trail cut off", f"{UNLOCKED} DELETE FROM audit WHERE seq = 3", {"audit"}),
    Plant("a delivery deleted", "DELETE FROM webhook_deliveries WHERE delivery_id ="
          " (SELECT max(delivery_id) - 1 FROM webhook_deliveries)", {"webhook-log"}),
    Plant("a delivery of something else", "UPDATE webhook_deliveries SET subject = 'WO-00000-00000' WHERE delivery_id ="
          " (SELECT max(delivery_id) - 1 FROM webhook_deliveries)", {"webhook-log"}),
    Plant("messages that nobody sends", "UPDATE webhook_endpoints SET cursor_seq = 0, cursor_xid = '0';"
          " UPDATE feed SET recorded_at = now() - interval '2 hours' WHERE audience = 'cdot'", {"webhook-lag"}),
]  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS, ids=[plant.name for plant in PLANTS])
async def test_what_is_planted_in_the_database_is_found_by_the_checks_it_concerns(
    world: World, plant: Plant
) -> None:
    assert await world.connection.execute(plant.sql) not in ("UPDATE 0", "DELETE 0", "INSERT 0 0")
    found = disagreeing(await verify(world))
    assert found.keys() == plant.found_by, found


def without(events: list[Event], of: Callable[[Event], bool]) -> list[Event]:
    """All but the last event of a kind."""
    last = max(at for at, event in enumerate(events) if of(event))
    return events[:last] + events[last + 1 :]


def on(topic: str) -> Callable[[Event], bool]:
    return lambda event: event.topic == topic


def twice(events: list[Event], topic: str) -> list[Event]:
    """The log with an event of an order told again at its end, as another event: a writer who came too late."""
    of_topic = [event for event in events if event.topic == topic]
    keys = [event.key for event in of_topic]
    stale = next(event for event in of_topic if keys.count(event.key) > 1)
    return [*events, stale._replace(subject="somebody else")]


def renamed(events: list[Event], topic: str) -> list[Event]:
    """The log with the content of an event changed."""
    at = next(at for at, event in enumerate(events) if event.topic == topic)
    value = events[at].value.replace(b'"verdict":"accepted"', b'"verdict":"refused"')
    return [*events[:at], events[at]._replace(value=value), *events[at + 1 :]]


def reopened(events: list[Event]) -> list[Event]:
    """The log with an alert that is open and was not."""
    at = next(at for at, event in enumerate(events) if b'"kind":"acknowledged"' in event.value)
    value = events[at].value.replace(b'"state":"acknowledged"', b'"state":"open"')
    return [*events[:at], events[at]._replace(value=value), *events[at + 1 :]]


@pytest.mark.parametrize(
    ("name", "tamper", "found_by"),
    [
        ("the last snapshot lost", lambda all_: without(all_, on("work-orders")), {"topic-orders"}),
        ("an older snapshot at the end", lambda all_: twice(all_, "work-orders"), {"topic-orders"}),
        ("a department's last record lost", lambda all_: without(all_, on("work-orders.dob")), {"topic-departments"}),
        (
            "an older record for a department at the end",
            lambda all_: twice(all_, "work-orders.cdot"),
            {"topic-departments"},
        ),
        (
            "a former owner not told",
            lambda all_: without(all_, lambda one: one.topic == "work-orders.cdot" and b'"rejected"' in one.value),
            {"topic-departments"},
        ),
        ("a result missing", lambda all_: without(all_, on("work-order-update-results.dss")), {"topic-results"}),
        (
            "a shared result missing",  # of the ledger's: what nobody knows is answered without a line in it
            lambda all_: without(
                all_, lambda one: one.topic == "work-order-update-results" and b"no_such_order" not in one.value
            ),
            {"topic-results"},
        ),
        ("an event of an alert lost", lambda all_: without(all_, on("sla-alerts")), {"topic-alerts"}),
        ("an event of an alert changed", reopened, {"topic-alerts"}),
        ("the closing of a response lost", lambda all_: without(all_, on("response-life")), {"topic-responses"}),
        ("a result changed", lambda all_: renamed(all_, "work-order-update-results.cdot"), {"topic-results"}),
    ],
)  # fmt: skip
async def test_what_is_planted_in_a_topic_is_found(
    world: World,
    events: list[Event],
    name: str,
    tamper: Callable[[list[Event]], list[Event]],
    found_by: set[str],
) -> None:
    found = disagreeing(await verify(replace(world, records=records_of(tamper(events)))))
    assert found.keys() == found_by, found


async def test_records_published_again_are_no_disagreement(world: World, events: list[Event]) -> None:
    assert disagreeing(await verify(replace(world, records=records_of(events + events)))) == {}


async def test_of_a_broker_that_keeps_nothing_only_what_is_there_is_compared(
    world: World, events: list[Event]
) -> None:
    late = records_of(events[len(events) // 2 :])
    outcomes = await verify(replace(world, records=late, keeps=False))
    assert disagreeing(outcomes) == {}
    by_name = {one.check.name: one for one in outcomes}
    assert by_name["topic-orders"].gone
    assert by_name["topic-orders"].compared
    stale = records_of(without(events, on("work-orders")))
    assert disagreeing(await verify(replace(world, records=stale, keeps=False))).keys() == {"topic-orders"}


async def test_what_is_not_drained_is_said_and_topics_are_left_out(world: World) -> None:
    outcomes = await verify(replace(world, drained=False))
    assert disagreeing(outcomes).keys() == {"drained"}
    left_out = {one.check.name for one in outcomes if one.not_done}
    assert left_out == {
        "causes",
        "parked",
        "seen",
        "topic-orders",
        "topic-departments",
        "topic-results",
        "topic-alerts",
        "topic-responses",
        "response-ends",
        "response-closings",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "in_progress"},
        {"version": 99},
        {"reference": "WO-00000-00000"},
        {"department": "cscc"},
    ],
    ids=str,
)
async def test_a_crew_that_holds_something_else_is_found(
    world: World, tmp_path: Path, changes: dict[str, Any]
) -> None:
    file = await seen_file(world, tmp_path, **changes)
    found = disagreeing(await verify(replace(world, seen=(file,))))
    assert found.keys() == {"seen"}, found


async def test_every_check_changes_nothing_and_says_what_to_do(world: World) -> None:
    before = await world.connection.fetchval("SELECT pg_current_wal_insert_lsn()")
    await verify(world)
    writes = await world.connection.fetchval(
        "SELECT count(*) FROM pg_stat_xact_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0"
    )
    assert before is not None
    assert writes == 0
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.sentence.endswith(".") and check.do.endswith(".") for check in CHECKS)


async def closings(world: World) -> Outcome:
    (outcome,) = await verify(world, [one for one in CHECKS if one.name == "response-closings"])
    return outcome


async def test_a_closing_whose_correction_is_on_its_way_is_not_compared_and_counted_as_that(
    world: World,
) -> None:
    before = await closings(world)
    moved = await world.connection.fetch(
        """UPDATE response_life SET body = replace(body, '"correct_at":null', '"correct_at":"2027-01-01T00:00:00Z"')
        WHERE response_id = (SELECT response_id FROM response_life WHERE state = 'closed' LIMIT 1) RETURNING body"""
    )
    assert ['"correct_at":"2027' in row["body"] for row in moved] == [True]
    after = await closings(world)
    assert (after.compared, after.not_yet[TO_CORRECT.what]) == (before.compared - 1, 1)
    lives = await world.connection.fetchval("SELECT count(*) FROM response_life")
    assert after.compared + after.not_yet.total() == lives
    assert f"1 {TO_CORRECT.what}" in remark_of(after)
    shown = as_values([after], moved=False)["checks"][0]
    assert shown["not_yet"] == dict(after.not_yet)


async def test_responses_that_are_not_closed_yet_are_counted_beside_those_that_are_compared(
    world: World,
) -> None:
    before = await closings(world)
    await world.connection.execute(
        """UPDATE response_life SET body = replace(body, '"state":"closed"', '"state":"open"')
        WHERE response_id = (SELECT response_id FROM response_life WHERE state = 'closed' LIMIT 1)"""
    )
    found = await closings(world)
    assert (found.compared, found.not_yet) == (before.compared - 1, {NOT_CLOSED.what: 1})
    assert remark_of(found) == f"not compared: 1 {NOT_CLOSED.what}"
