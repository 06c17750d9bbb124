"""A department says what happened: accepted durably, published to its topic, answered when the writer has."""

import asyncio
import json
from typing import Any

import pytest

from connectors.postgres.submissions import lock_id
from tests.http.conftest import Broker, Client, until, until_found
from tests.http.made_up import answer, body_of, enter, order, refuse_same_id, store

ORDERS = "/v1/work-orders"


async def test_an_update_is_published_to_its_departments_topic(
    client: Client, connection: Any, broker: Broker
) -> None:
    one = order(1)
    await store(connection, [one])
    path = f"{ORDERS}/{one.reference}/updates"
    accepted = await client.post("cdot", path, json={"update_id": "A 1/2", "verb": "acknowledge"})
    assert accepted.status_code == 202, accepted.text
    assert accepted.json() == {"update_id": "A 1/2", "reference": one.reference, "verdict": "pending"}
    assert accepted.headers["Location"] == f"{path}/A%201%2F2"
    await until(lambda: broker.records)
    (record,) = broker.records
    assert (record.topic, record.key) == ("work-order-updates.cdot", one.reference.encode())
    assert {name: value for name, value in body_of(record).items() if value is not None} == {
        "update_id": "A 1/2", "reference": one.reference, "verb": "acknowledge",
    }  # fmt: skip
    assert ("ce_type", b"rapid.work-order-update.v1") in record.headers


async def test_a_supervisor_speaks_for_the_centre(client: Client, connection: Any, broker: Broker) -> None:
    one = order(1, state="resolved")
    await store(connection, [one])
    accepted = await client.post("supervisor", f"{ORDERS}/{one.reference}/updates", json={"verb": "verify"})
    assert accepted.status_code == 202
    await until(lambda: broker.records)
    assert broker.records[0].topic == "work-order-updates.cscc"


async def test_the_answer_is_found_where_location_says(client: Client, connection: Any) -> None:
    one = order(1)
    await store(connection, [one])
    accepted = await client.post(
        "cdot", f"{ORDERS}/{one.reference}/updates", json={"update_id": "A 1/2", "verb": "acknowledge"}
    )
    where = accepted.headers["Location"]
    assert (await client.get("cdot", where)).json()["verdict"] == "pending"
    assert (await client.get("dss", where)).status_code == 404
    await answer(connection, "cdot", accepted.json())
    answered = (await client.get("cdot", where)).json()
    assert (answered["verdict"], answered["because"]) == ("accepted", "It was new: acknowledge counts.")


async def test_who_would_wait_gets_the_answer_at_once(client: Client, connection: Any) -> None:
    one = order(1)
    await store(connection, [one])

    async def writer() -> None:
        update_id = await until_found(connection, "SELECT update_id FROM submitted_updates")
        await answer(connection, "cdot", {"update_id": update_id, "reference": one.reference})

    writing = asyncio.create_task(writer())
    answered = await client.post(
        "cdot", f"{ORDERS}/{one.reference}/updates", json={"verb": "acknowledge"},
        headers={"Prefer": "respond-async, wait=10"},
    )  # fmt: skip
    await writing
    assert (answered.status_code, answered.headers["Preference-Applied"]) == (200, "wait=10")
    assert answered.json()["verdict"] == "accepted"


async def test_who_would_wait_and_is_not_answered_gets_202(client: Client, connection: Any) -> None:
    one = order(1)
    await store(connection, [one])
    answered = await client.post(
        "cdot", f"{ORDERS}/{one.reference}/updates", json={"verb": "start"}, headers={"Prefer": "wait=1"}
    )
    assert answered.status_code == 202


async def test_who_would_wait_is_not_given_the_answer_to_another_update_of_that_id(
    client: Client, connection: Any
) -> None:
    one, path = order(1), f"{ORDERS}/{order(1).reference}/updates"
    await store(connection, [one])
    await enter(connection, one, 1, "cdot", verb="note", text="a")
    await answer(connection, "cdot", {"update_id": "U-1", "reference": one.reference})
    note = {"update_id": "U-1", "verb": "note"}
    for text, status in (("a", 200), ("b", 202)):
        said = await client.post("cdot", path, json=note | {"text": text}, headers={"Prefer": "wait=1"})
        assert (said.status_code, text) == (status, text)
    await refuse_same_id(connection, "cdot", one.reference, "U-1")
    again = await client.post("cdot", path, json=note | {"text": "b"}, headers={"Prefer": "wait=10"})
    assert (again.status_code, again.json()["rule"]) == (200, "same_id_other_content")
    assert (await client.get("cdot", f"{path}/U-1")).json()["rule"] == "counts"


async def test_who_would_wait_under_an_id_of_another_order_is_told_so(
    client: Client, connection: Any
) -> None:
    one, two = order(1), order(2)
    await store(connection, [one, two])
    said = {"update_id": "U-1", "verb": "note", "text": "a"}
    await client.post("cdot", f"{ORDERS}/{one.reference}/updates", json=said)
    path = f"{ORDERS}/{two.reference}/updates"
    early = await client.post("cdot", path, json=said, headers={"Prefer": "wait=1"})
    assert (early.status_code, early.json()["verdict"]) == (202, "pending")
    waiting = await client.get("cdot", early.headers["Location"])
    assert (waiting.status_code, waiting.json()) == (200, early.json())
    await enter(connection, one, 1, "cdot", verb="note", text="a")
    await refuse_same_id(connection, "cdot", two.reference, "U-1")
    answered = await client.post("cdot", path, json=said, headers={"Prefer": "wait=10"})
    assert (answered.status_code, answered.json()["rule"]) == (200, "same_id_other_content")


@pytest.mark.parametrize(("who", "etag"), [("cdot", '"3"'), ("supervisor", '"7-3"')])
async def test_if_match_becomes_the_version_that_the_update_asks_for(
    client: Client, connection: Any, broker: Broker, who: str, etag: str
) -> None:
    one = order(1, told=3)
    await store(connection, [one])
    path = f"{ORDERS}/{one.reference}"
    assert (await client.get(who, path)).headers["ETag"] == etag
    await client.post(who, f"{path}/updates", json={"verb": "note", "text": "x"}, headers={"If-Match": etag})
    await until(lambda: broker.records)
    assert body_of(broker.records[0])["if_version"] == 3


async def test_the_same_key_is_one_request_with_one_answer(
    client: Client, connection: Any, broker: Broker
) -> None:
    one = order(1)
    await store(connection, [one])
    path, key = f"{ORDERS}/{one.reference}/updates", {"Idempotency-Key": "k-1"}
    first = await client.post("cdot", path, json={"verb": "start"}, headers=key)
    again = await client.post("cdot", path, json={"verb": "start"}, headers=key)
    assert (again.status_code, again.content, again.headers["Location"]) == (
        202, first.content, first.headers["Location"],
    )  # fmt: skip
    assert first.json()["update_id"] == "k-1"
    other = await client.post("cdot", path, json={"verb": "resume"}, headers=key)
    assert other.status_code == 422
    await until_found(connection, "SELECT count(*) = 0 FROM outbox")
    assert len(broker.records) == 1
    assert await connection.fetchval("SELECT count(*) FROM audit WHERE outcome = 'done'") == 1


async def test_a_key_is_its_callers_own(client: Client, connection: Any) -> None:
    mine, theirs = order(1), order(2, "dss")
    await store(connection, [mine, theirs])
    key = {"Idempotency-Key": "k-1"}
    for who, one in (("cdot", mine), ("dss", theirs)):
        sent = await client.post(
            who, f"{ORDERS}/{one.reference}/updates", json={"verb": "start"}, headers=key
        )
        assert sent.status_code == 202


async def test_a_key_answers_also_when_the_order_is_anothers_by_now(client: Client, connection: Any) -> None:
    one = order(1)
    await store(connection, [one])
    path, key = f"{ORDERS}/{one.reference}/updates", {"Idempotency-Key": "k-1"}
    said = {"verb": "reject", "text": "a park lamp"}
    first = await client.post("cdot", path, json=said, headers=key)
    await connection.execute("UPDATE work_orders SET department = 'dss'")
    again = await client.post("cdot", path, json=said, headers=key)
    assert (again.status_code, again.content) == (202, first.content)
    assert (await client.post("cdot", path, json=said)).status_code == 404


async def test_what_was_said_may_be_said_again_when_the_order_is_anothers_by_now(
    client: Client, connection: Any
) -> None:
    one = order(1)
    await store(connection, [one])
    path = f"{ORDERS}/{one.reference}/updates"
    said = {"update_id": "rej-1", "verb": "reject", "text": "a park lamp"}
    assert (await client.post("cdot", path, json=said)).status_code == 202
    await connection.execute("UPDATE work_orders SET department = 'dss'")
    assert (await client.post("cdot", path, json=said)).status_code == 202
    assert (await client.post("cdot", path, json=said | {"update_id": "rej-2"})).status_code == 404


async def test_a_key_that_is_being_worked_on_is_in_conflict(client: Client, connection: Any) -> None:
    one = order(1)
    await store(connection, [one])
    path, key = f"{ORDERS}/{one.reference}/updates", {"Idempotency-Key": "k-1"}
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_id("key:cdot", "k-1"))
        busy = await client.post("cdot", path, json={"verb": "start"}, headers=key)
        assert (busy.status_code, "Retry-After" in busy.headers) == (409, True)
    assert (await client.post("cdot", path, json={"verb": "start"}, headers=key)).status_code == 202


async def test_after_a_day_a_key_is_new(client: Client, connection: Any) -> None:
    one = order(1)
    await store(connection, [one])
    path, key = f"{ORDERS}/{one.reference}/updates", {"Idempotency-Key": "k-1"}
    await client.post("cdot", path, json={"verb": "start"}, headers=key)
    await connection.execute("UPDATE idempotency_keys SET recorded_at = recorded_at - interval '25 hours'")
    other = await client.post("cdot", path, json={"verb": "resume"}, headers=key)
    assert other.status_code == 202


async def test_an_update_of_anothers_order_changes_nothing_and_is_noted(
    client: Client, connection: Any, broker: Broker
) -> None:
    theirs = order(1, "dss")
    await store(connection, [theirs])
    refused = await client.post("cdot", f"{ORDERS}/{theirs.reference}/updates", json={"verb": "start"})
    assert refused.status_code == 404
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
    assert await connection.fetchval("SELECT count(*) FROM submitted_updates") == 0
    row = await connection.fetchrow("SELECT actor, action, subject, outcome FROM audit")
    assert tuple(row) == ("key:cdot", "http.submit_update", theirs.reference, "refused")
    assert broker.records == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "verb"),
        ({"verb": "dance"}, "verb"),
        ({"verb": "hold"}, "reason"),
        ({"verb": "start", "outcome": "fixed"}, "outcome"),
        ({"verb": "resolve", "outcome": "duplicate_of"}, "duplicate_of"),
        ({"verb": "start", "colour": "red"}, "colour"),
        ({"verb": "start", "reference": "WO-00000-00000"}, "reference"),
        ({"verb": "start", "at": "yesterday"}, "at"),
        ({"verb": "start", "update_id": "a|b"}, "update_id"),
        ({"verb": "start", "if_version": "1"}, "if_version"),
        ({"verb": "photo", "photo": "javascript:alert(1)"}, "photo"),
    ],
)
async def test_what_does_not_fit_is_named(
    client: Client, connection: Any, body: dict[str, Any], field: str
) -> None:
    one = order(1)
    await store(connection, [one])
    refused = await client.post("cdot", f"{ORDERS}/{one.reference}/updates", json=body)
    assert (refused.status_code, refused.headers["Content-Type"]) == (422, "application/problem+json")
    assert refused.json()["errors"][0]["field"] == field
    assert await connection.fetchval("SELECT count(*) FROM submitted_updates") == 0


async def test_every_write_is_in_the_trail(client: Client, connection: Any) -> None:
    one = order(1)
    await store(connection, [one])
    await client.post("cdot", f"{ORDERS}/{one.reference}/updates", json={"update_id": "U", "verb": "start"})
    row = await connection.fetchrow("SELECT actor, action, subject, outcome, details FROM audit")
    assert tuple(row)[:4] == ("key:cdot", "http.submit_update", one.reference, "done")
    assert json.loads(row["details"]) == {"department": "cdot", "update_id": "U", "verb": "start"}
