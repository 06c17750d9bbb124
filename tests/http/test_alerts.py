"""Alerts over the API: read, paged, filtered, acted on; a department sees and touches its own."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from schemas.alert import Alert, AlertCommand
from schemas.policy import Policy
from schemas.views import department_alert
from tests.http.conftest import Broker, Client, Make, served, until
from tests.http.made_up import (
    INCIDENT,
    SHOT_AT,
    add_line,
    alert_about,
    body_of,
    enter,
    happen,
    order,
    promise,
    store,
    tell,
)
from tests.http.test_stream import heard_of, listening, next_event

ALERTS = "/v1/alerts"
AT = datetime(2026, 7, 7, tzinfo=UTC)
SECRET = "It was gunfire, says Ms. Supervisor."


def ids(page: Any) -> list[str]:
    return [one["alert_id"] for one in page.json()["items"]]


async def fired(connection: Any, *alerts: Alert) -> None:
    for alert in alerts:
        await happen(connection, alert)


async def two(connection: Any) -> tuple[Alert, Alert]:
    """An alert about an order of CDOT's, and one about an order of the sanitation department's."""
    mine, theirs = order(1), order(2, "dss")
    await store(connection, [mine, theirs])
    alerts = alert_about(mine), alert_about(theirs, at=AT + timedelta(hours=1))
    await fired(connection, *alerts)
    return alerts


# ---------------------------------------------------------------- read


async def test_supervisors_and_auditors_see_all_and_a_department_its_own(
    client: Client, connection: Any
) -> None:
    mine, theirs = await two(connection)
    for who in ("supervisor", "auditor", "admin"):
        page = await client.get(who, ALERTS)
        assert (page.status_code, page.json()["items"]) == (
            200,
            [theirs.model_dump(mode="json"), mine.model_dump(mode="json")],
        )
    own = (await client.get("cdot", ALERTS)).json()
    assert own == {"items": [department_alert(mine, "cdot").model_dump(mode="json")], "next": None}
    assert (await client.get("intake", ALERTS)).status_code == 403


async def test_pages_of_alerts_follow_one_another_without_gap_or_repetition(
    client: Client, connection: Any
) -> None:
    one = order(1)
    await store(connection, [one])
    at_once = [alert_about(one, f"r{n}", at=AT + timedelta(hours=n // 3)) for n in range(8)]
    await fired(connection, *at_once)
    expected = sorted(at_once, key=lambda alert: (-alert.at.timestamp(), alert.alert_id))
    found: list[str] = []
    path = f"{ALERTS}?limit=3&level=2"
    while path:
        page = await client.get("cdot", path)
        found += ids(page)
        path = page.headers.get("Link", "").removeprefix("<").partition(">")[0]
        assert bool(path) == (page.json()["next"] is not None)
    assert found == [str(alert.alert_id) for alert in expected]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "acd"),  # those that need attention
        ("state=all", "abcd"),
        ("state=over", "b"),
        ("state=over,acknowledged", "bd"),
        ("level=1", "a"),
        ("level=1,4&state=all", "ab"),
        ("department=dss", "c"),
        ("clock=resolve", "acd"),
        ("clock=order", ""),
        ("rung=p50&state=all", "b"),
        ("area=27", "d"),
        ("reference={c}", "c"),
        ("reference=WO-00000-00000", ""),
        ("since=2026-07-07T02:00:00Z", "cd"),
        ("until=2026-07-07T02:00:00Z&state=all", "ab"),
    ],
)
async def test_filters_of_alerts(client: Client, connection: Any, query: str, expected: str) -> None:
    first, second, third = order(1), order(2, "dss"), order(3, area=27)
    await store(connection, [first, second, third])
    alerts = {
        "a": alert_about(first, level=1),
        "b": alert_about(first, "p50", level=4, state="over", at=AT + timedelta(hours=1)),
        "c": alert_about(second, at=AT + timedelta(hours=2)),
        "d": alert_about(third, state="acknowledged", at=AT + timedelta(hours=3)),
    }
    await fired(connection, *alerts.values())
    page = await client.get("supervisor", f"{ALERTS}?{query.format(c=second.reference)}")
    assert page.status_code == 200, page.text
    names = {str(alert.alert_id): name for name, alert in alerts.items()}
    assert "".join(sorted(names[one] for one in ids(page))) == expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=closed", "state"),
        ("level=5", "level"),
        ("cursor=abc", "cursor"),
        ("since=yesterday", "since"),
        ("clock=breakfast", "clock"),
        ("lvl=1", "lvl"),
    ],
)
async def test_a_filter_that_cannot_be_is_named(client: Client, query: str, field: str) -> None:
    refused = await client.get("supervisor", f"{ALERTS}?{query}")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)


async def test_a_department_cannot_ask_for_anothers_alerts(client: Client, connection: Any) -> None:
    _, theirs = await two(connection)
    refused = await client.get("cdot", f"{ALERTS}?department=dss")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "department")
    path = f"{ALERTS}/{theirs.alert_id}"
    for foreign in (await client.get("cdot", path), await client.post("cdot", f"{path}/acknowledge")):
        assert (foreign.status_code, foreign.json()["detail"]) == (404, "There is no such alert.")
    missing = await client.get("supervisor", f"{ALERTS}/{INCIDENT}")
    assert (missing.status_code, missing.json()["detail"]) == (404, "There is no such alert.")
    trail = await connection.fetch("SELECT actor, action, outcome FROM audit ORDER BY seq")
    assert [tuple(row) for row in trail] == [
        ("key:cdot", "http.read_alert", "refused"),
        ("key:cdot", "http.acknowledge_alert", "refused"),
    ]


async def test_an_alert_is_the_business_of_whose_the_order_is_now(client: Client, connection: Any) -> None:
    mine, _ = await two(connection)
    await connection.execute("UPDATE work_orders SET department = 'dss' WHERE order_id = $1", mine.order_id)
    assert ids(await client.get("cdot", ALERTS)) == []
    assert str(mine.alert_id) in ids(await client.get("dss", ALERTS))
    path = f"{ALERTS}/{mine.alert_id}/acknowledge"
    assert (await client.post("cdot", path)).status_code == 404
    assert (await client.post("dss", path)).status_code == 202


async def history(connection: Any) -> Alert:
    """An alert that was acknowledged by a supervisor, came back, and was acknowledged by the department."""
    one = order(1)
    await store(connection, [one])
    alert = alert_about(one)
    await happen(connection, alert)
    held = alert.model_copy(update={"state": "acknowledged", "acknowledged_by": "Ms. Supervisor"})
    await happen(connection, held, 2, "acknowledged", by="Ms. Supervisor", because=SECRET, command_id="c-2")
    said = "Ms. Supervisor acknowledged it, and nothing has happened since."
    await happen(connection, alert, 3, "unacknowledged", because=said)
    own = alert.model_copy(update={"state": "acknowledged", "acknowledged_by": "cdot: Ann"})
    await happen(connection, own, 4, "acknowledged", by="cdot: Ann", because="A crew is there.")
    return own


async def test_an_alert_has_its_history(client: Client, connection: Any) -> None:
    alert = await history(connection)
    read = await client.get("supervisor", f"{ALERTS}/{alert.alert_id}")
    assert read.json()["alert"] == alert.model_dump(mode="json")
    events = [(one["seq"], one["kind"], one["by"], one["state"]) for one in read.json()["events"]]
    assert events == [
        (1, "fired", None, "open"),
        (2, "acknowledged", "Ms. Supervisor", "acknowledged"),
        (3, "unacknowledged", None, "open"),
        (4, "acknowledged", "cdot: Ann", "acknowledged"),
    ]
    assert read.headers["ETag"] == '"4"'
    again = await client.get("supervisor", f"{ALERTS}/{alert.alert_id}", headers={"If-None-Match": '"4"'})
    assert (again.status_code, again.content) == (304, b"")


async def test_a_department_does_not_read_the_centres_words(client: Client, connection: Any) -> None:
    alert = await history(connection)
    read = await client.get("cdot", f"{ALERTS}/{alert.alert_id}")
    events = [(one["kind"], one["by"], one["because"]) for one in read.json()["events"]]
    assert events == [
        ("fired", None, "The time to resolve it is over."),
        ("acknowledged", "the coordination centre", None),
        ("unacknowledged", None, None),
        ("acknowledged", "cdot: Ann", "A crew is there."),
    ]
    listed = await client.get("cdot", f"{ALERTS}?state=all")
    for answer in (read, listed):
        assert [
            word for word in ("Supervisor", "gunfire", "order_key", "order_id") if word in answer.text
        ] == []


# ---------------------------------------------------------------- do something


async def command_of(broker: Broker) -> tuple[AlertCommand, Any]:
    await until(lambda: broker.records)
    (record,) = broker.records
    return AlertCommand.model_validate_json(record.value), record


@pytest.mark.parametrize(
    ("action", "body", "kind", "member"),
    [
        ("acknowledge", None, "acknowledge", None),
        ("acknowledge", {"text": "On my way."}, "acknowledge", None),
        ("unacknowledge", {}, "unacknowledge", None),
        ("hand-over", {"to": "ROLE", "text": SECRET}, "hand_over", "to"),
        ("snooze", {"until": "SOON"}, "snooze", "until"),
    ],
)
async def test_what_a_supervisor_does_is_a_command_to_the_orders_writer(
    client: Client, connection: Any, broker: Broker, policy: Policy, action: str, body: Any, kind: str, member: str
) -> None:  # fmt: skip
    mine, _ = await two(connection)
    if action == "unacknowledge":
        held = mine.model_copy(update={"state": "acknowledged", "acknowledged_by": "Kim"})
        await happen(connection, held, 2, "acknowledged")
    soon = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    filled = {"ROLE": policy.oncall.roles[0].code, "SOON": soon}
    sent = None if body is None else {name: filled.get(value, value) for name, value in body.items()}
    path = f"{ALERTS}/{mine.alert_id}/{action}"
    options: dict[str, Any] = {} if sent is None else {"json": sent | {"by": "Kim"}}
    accepted = await client.post("supervisor", path, **options)
    assert accepted.status_code == 202, accepted.text
    command, record = await command_of(broker)
    assert accepted.json() == {
        "command_id": command.command_id, "alert_id": str(mine.alert_id), "command": kind, "status": "pending",
    }  # fmt: skip
    assert accepted.headers["Location"] == f"{ALERTS}/{mine.alert_id}"
    assert (record.topic, record.key) == ("work-order-commands", mine.order_key.encode())
    assert ("ce_type", b"rapid.alert-command.v1") in record.headers
    of_order = (command.order_key, command.order_id, command.reference, command.alert_id)
    assert of_order == (mine.order_key, mine.order_id, mine.reference, mine.alert_id)
    assert (command.kind, command.by) == (kind, "Kim" if sent is not None else "key:supervisor")
    assert command.text == (sent or {}).get("text")
    if member is not None:
        assert body_of(record)[member] == command.model_dump(mode="json")[member]
    assert (command.until is not None, command.to is not None) == (member == "until", member == "to")
    (entry,) = await connection.fetch("SELECT actor, action, subject, outcome, details FROM audit")
    operation = {"hand-over": "hand_over"}.get(action, action)
    assert tuple(entry)[:4] == (
        "key:supervisor", f"http.{operation}_alert", str(mine.alert_id), "done",
    )  # fmt: skip
    assert "Kim" not in entry["details"]


async def test_the_same_key_is_the_same_command(client: Client, connection: Any, broker: Broker) -> None:
    mine, theirs = await two(connection)
    key = {"Idempotency-Key": "ack-1"}
    path = f"{ALERTS}/{mine.alert_id}/acknowledge"
    first = await client.post("supervisor", path, headers=key)
    await happen(connection, mine.model_copy(update={"state": "over"}), 2, "over")
    again = await client.post("supervisor", path, headers=key)
    assert (first.status_code, again.status_code, again.json()) == (202, 202, first.json())
    other = await client.post("supervisor", f"{ALERTS}/{theirs.alert_id}/acknowledge", headers=key)
    assert (other.status_code, "Idempotency-Key" in other.json()["detail"]) == (422, True)
    await until(lambda: broker.records)
    assert len(broker.records) == 1
    assert str(UUID(first.json()["command_id"])) == first.json()["command_id"]


async def test_two_callers_may_have_the_same_key(client: Client, connection: Any, broker: Broker) -> None:
    mine, _ = await two(connection)
    path, key = f"{ALERTS}/{mine.alert_id}/acknowledge", {"Idempotency-Key": "1"}
    answers = [await client.post(who, path, headers=key) for who in ("supervisor", "cdot")]
    assert len({answer.json()["command_id"] for answer in answers}) == 2


async def test_who_waits_gets_the_alert_as_it_is_afterwards(client: Client, connection: Any) -> None:
    mine, _ = await two(connection)
    path = f"{ALERTS}/{mine.alert_id}/acknowledge"
    headers = {"Idempotency-Key": "k", "Prefer": "wait=10"}
    known = (await client.post("cdot", path, headers={"Idempotency-Key": "k"})).json()["command_id"]
    held = mine.model_copy(update={"state": "acknowledged", "acknowledged_by": "cdot: key:cdot"})
    waiting = asyncio.create_task(client.post("cdot", path, headers=headers))
    await happen(connection, held, 2, "acknowledged", by="cdot: key:cdot", command_id=known)
    answered = await waiting
    assert (answered.status_code, answered.headers.get("Preference-Applied")) == (200, "wait=10")
    assert answered.json() == department_alert(held, "cdot").model_dump(mode="json")


async def test_who_waits_for_nothing_is_told_that_it_is_accepted(client: Client, connection: Any) -> None:
    mine, _ = await two(connection)
    answered = await client.post(
        "supervisor", f"{ALERTS}/{mine.alert_id}/acknowledge", headers={"Prefer": "wait=1"}
    )
    assert (answered.status_code, answered.json()["status"]) == (202, "pending")


@pytest.mark.parametrize("state", ["recorded", "withdrawn", "over"])
async def test_what_is_not_open_any_more_is_a_conflict_that_names_its_state(
    client: Client, connection: Any, broker: Broker, state: str
) -> None:
    mine, _ = await two(connection)
    await happen(connection, mine.model_copy(update={"state": state}), 2, "over")
    for action in ("acknowledge", "unacknowledge"):
        refused = await client.post("supervisor", f"{ALERTS}/{mine.alert_id}/{action}")
        assert (refused.status_code, f"is {state}" in refused.json()["detail"]) == (409, True), refused.text
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
    assert await connection.fetchval("SELECT count(*) FROM audit") == 0


async def test_nobody_takes_back_what_nobody_did(client: Client, connection: Any) -> None:
    mine, _ = await two(connection)
    refused = await client.post("supervisor", f"{ALERTS}/{mine.alert_id}/unacknowledge")
    assert (refused.status_code, "nobody has acknowledged" in refused.json()["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("action", "body", "field"),
    [
        ("snooze", {}, "until"),
        ("snooze", {"until": "PAST"}, "until"),
        ("snooze", {"until": "FAR"}, "until"),
        ("snooze", {"until": "tomorrow"}, "until"),
        ("snooze", {"until": 1_800_000_000}, "until"),
        ("snooze", {"until": "SOON", "till": 1}, "till"),
        ("hand-over", {}, "to"),
        ("hand-over", {"to": "the-mayor"}, "to"),
        ("hand-over", {"to": "not a code"}, "to"),
        ("acknowledge", {"by": ""}, "by"),
        ("acknowledge", {"text": "x" * 2001}, "text"),
    ],
)
async def test_what_cannot_be_is_refused_by_its_member(
    client: Client, connection: Any, action: str, body: dict[str, Any], field: str
) -> None:
    mine, _ = await two(connection)
    now = datetime.now(UTC)
    times = {
        "PAST": now - timedelta(seconds=1), "FAR": now + timedelta(hours=25), "SOON": now + timedelta(hours=1),
    }  # fmt: skip
    sent = {name: times[value].isoformat() if value in times else value for name, value in body.items()}
    refused = await client.post("supervisor", f"{ALERTS}/{mine.alert_id}/{action}", json=sent)
    assert refused.status_code == 422, refused.text
    assert refused.json()["errors"][0]["field"] == field
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0


async def test_the_addressees_that_there_are_are_named(
    client: Client, connection: Any, policy: Policy
) -> None:
    mine, _ = await two(connection)
    refused = await client.post("supervisor", f"{ALERTS}/{mine.alert_id}/hand-over", json={"to": "the-mayor"})
    expected = refused.json()["errors"][0]["expected"]
    assert all(role.code in expected for role in policy.oncall.roles)


@pytest.mark.parametrize(("level", "status"), [(1, 202), (2, 202), (3, 403), (4, 403)])
async def test_a_department_acts_on_the_levels_that_tell_it(
    client: Client, connection: Any, level: int, status: int
) -> None:
    one = order(1)
    await store(connection, [one])
    alert = alert_about(one, level=level)
    await fired(connection, alert)
    path = f"{ALERTS}/{alert.alert_id}"
    assert (await client.get("cdot", path)).status_code == 200
    until_then = {"until": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    for answer in (
        await client.post("cdot", f"{path}/acknowledge", json={"by": "Ann"}),
        await client.post("cdot", f"{path}/snooze", json=until_then),
    ):
        assert answer.status_code == status, answer.text
    outcomes = await connection.fetch("SELECT outcome FROM audit")
    assert {row["outcome"] for row in outcomes} == {"done" if status == 202 else "refused"}


async def test_a_department_signs_with_its_code(client: Client, connection: Any, broker: Broker) -> None:
    mine, _ = await two(connection)
    await client.post("cdot", f"{ALERTS}/{mine.alert_id}/acknowledge", json={"by": "Ann"})
    command, _ = await command_of(broker)
    assert command.by == "cdot: Ann"


async def test_who_may_not_act_is_told_so(client: Client, connection: Any) -> None:
    mine, _ = await two(connection)
    path = f"{ALERTS}/{mine.alert_id}"
    assert (await client.post("auditor", f"{path}/acknowledge")).status_code == 403
    assert (await client.post("intake", f"{path}/acknowledge")).status_code == 403
    assert (await client.post("cdot", f"{path}/hand-over", json={"to": "x"})).status_code == 403
    assert (await client.post("admin", f"{path}/acknowledge")).status_code == 202


async def test_a_body_that_is_no_json_is_told_so(client: Client, connection: Any) -> None:
    mine, _ = await two(connection)
    path = f"{ALERTS}/{mine.alert_id}/acknowledge"
    as_text = await client.post("supervisor", path, content=b"{}", headers={"Content-Type": "text/plain"})
    as_json = {"Content-Type": "application/json"}
    broken = await client.post("supervisor", path, content=b"{", headers=as_json)
    a_list = await client.post("supervisor", path, content=b"[]", headers=as_json)
    assert (as_text.status_code, broken.status_code, a_list.status_code) == (415, 400, 422)


# ---------------------------------------------------------------- as it comes, and beside the order


async def test_alerts_come_as_they_happen_to_those_they_are_for(make_app: Make, connection: Any) -> None:
    app = make_app()
    async with (
        served(app) as url,
        listening(url, "cdot", path="/v1/changes?kind=alert") as cdot,
        listening(url, "supervisor", path="/v1/changes?kind=alert") as all_of_it,
    ):
        await heard_of(app, 2)
        alert = await history(connection)
        heard = [await next_event(cdot) for _ in range(4)]
        whole = [await next_event(all_of_it) for _ in range(4)]
    assert {event.kind for event in (*heard, *whole)} == {"alert"}
    assert [event.data["seq"] for event in heard] == [event.data["seq"] for event in whole] == [1, 2, 3, 4]
    assert whole[3].data["alert"] == alert.model_dump(mode="json")
    assert whole[1].data["because"] == SECRET
    said = json.dumps([event.data for event in heard])
    assert [word for word in ("Supervisor", "gunfire", "order_key", "command_id") if word in said] == []
    assert heard[3].data["by"] == "cdot: Ann"


async def test_a_stream_of_alerts_goes_on_where_it_ended_and_has_nothing_else(
    make_app: Make, connection: Any
) -> None:
    alert = await history(connection)
    await tell(connection, order(1), 2)
    async with (
        served(make_app()) as url,
        listening(url, "cdot", "0.0", path="/v1/changes?kind=alert") as first,
    ):
        begun = [await next_event(first) for _ in range(4)]
    over = alert.model_copy(update={"state": "over"})
    await happen(connection, over, 5, "over", because="It was done in time.")
    async with (
        served(make_app()) as url,
        listening(url, "cdot", begun[-1].id, path="/v1/changes?kind=alert") as again,
    ):
        event = await next_event(again)
    assert (event.kind, event.data["seq"], event.data["kind"]) == ("alert", 5, "over")


async def test_a_timeline_has_promises_and_alerts_beside_what_was_said(
    client: Client, connection: Any
) -> None:
    one = order(1)
    await store(connection, [one])
    await enter(connection, one, 1, "cdot", verb="acknowledge")
    lines = [
        await add_line(connection, one, 1, "promised"),
        await add_line(connection, one, 2, "retargeted", 1, "urgent"),
        await add_line(connection, one, 3, "withdrawn", 1),
    ]
    event = await happen(connection, alert_about(one))
    await happen(connection, event.alert.model_copy(update={"state": "over"}), 2, "over")
    whole = (await client.get("supervisor", f"/v1/work-orders/{one.reference}/timeline")).json()
    assert whole["promises"] == [line.model_dump(mode="json") for line in lines]
    assert [(line["seq"], line["kind"]) for line in whole["alerts"]] == [(1, "fired"), (2, "over")]
    assert whole["alerts"][0]["alert_id"] == str(event.alert.alert_id)
    own = await client.get("cdot", f"/v1/work-orders/{one.reference}/timeline")
    assert [(line["kind"], line["at"], line["priority"], line["clocks"]) for line in own.json()["promises"]] == [
        ("promised", "2026-07-06T01:30:00Z", "high", [{"clock": "resolve", "budget": "4h"}]),
        ("retargeted", "2026-07-06T02:30:00Z", "urgent", [{"clock": "resolve", "budget": "4h"}]),
        ("withdrawn", "2026-07-06T03:30:00Z", "high", []),
    ]  # fmt: skip
    assert own.json()["alerts"] == whole["alerts"]


async def test_no_byte_about_promises_and_alerts_tells_a_department_of_the_incident(
    client: Client, connection: Any
) -> None:
    one = order(1)
    await store(connection, [one])
    await promise(connection, one, AT)
    await add_line(connection, one, 1, "promised")
    await happen(connection, alert_about(one))
    seen = b""
    for path in (
        "/v1/work-orders?sort=due", f"/v1/work-orders/{one.reference}/timeline", ALERTS,
        f"{ALERTS}/{alert_about(one).alert_id}", "/v1/exports/work-orders.csv", "/v1/exports/work-orders.geojson",
        "/v1/exports/work-orders.ndjson",
    ):  # fmt: skip
        answered = await client.get("cdot", path)
        assert answered.status_code == 200
        seen += answered.content
    minutes = [(SHOT_AT + timedelta(minutes=n)).isoformat()[:16] for n in range(10)]
    words = [str(INCIDENT), "gunfire", "shoot", "incident", "0123456789ab", "source", *minutes]
    assert [word for word in words if word.encode() in seen] == []


async def test_a_department_reads_of_promises_only_since_the_order_is_its_own(
    client: Client, connection: Any
) -> None:
    one = order(1)
    await store(connection, [one])
    other = order(1, "dss")
    await add_line(connection, one, 1, "promised", 0)
    await add_line(connection, one, 2, "withdrawn", 0)
    await add_line(connection, one, 3, "asked_again", 0)
    await enter(connection, other, 1, "cscc", verb="route", to_department="cdot")
    await add_line(connection, one, 4, "retargeted", 1)
    own = (await client.get("cdot", f"/v1/work-orders/{one.reference}/timeline")).json()
    assert [line["kind"] for line in own["promises"]] == ["promised", "retargeted"]
