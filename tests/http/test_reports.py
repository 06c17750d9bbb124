"""The way in: one report or a batch, durable or not at all, without anybody's name."""

import json
from typing import Any

import pytest

from schemas.incident import incident_id_of
from tests.http.conftest import Broker, Client, until
from tests.http.made_up import body_of

INCIDENTS, ISSUES = "/v1/incident-reports", "/v1/issue-reports"
INCIDENT: dict[str, Any] = {
    "source": "cad", "report_id": "JK200001-1", "incident_number": "JK200001", "event": "assault",
    "occurred_at": "2026-07-04T22:40:00-05:00", "revised_at": "2026-07-04T22:52:00-05:00", "gunshot_injury": True,
    "block": "4000 W WEST END AVE", "point": {"lat": 41.8837, "lon": -87.7262},
}  # fmt: skip
ISSUE: dict[str, Any] = {
    "source": "311", "request_number": "SR26-00000001", "category": "street_light", "status": "open",
    "created_at": "2026-07-02T09:00:00-05:00", "revised_at": "2026-07-02T09:00:00-05:00",
    "address": "4015 W WEST END AVE", "point": {"lat": 41.8836, "lon": -87.7270},
}  # fmt: skip


async def test_an_incident_is_accepted_and_published(client: Client, broker: Broker) -> None:
    answer = await client.post("intake", INCIDENTS, json=INCIDENT)
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"accepted": [{"id": "JK200001-1", "subject": str(incident_id_of("JK200001"))}]}
    await until(lambda: broker.records)
    (record,) = broker.records
    assert (record.topic, record.key) == ("incident-reports", b"cad:JK200001")
    assert body_of(record)["occurred_at"] == "2026-07-05T03:40:00Z"


async def test_a_batch_is_published_in_its_order(client: Client, broker: Broker) -> None:
    batch = [ISSUE | {"request_number": f"SR26-{n}"} for n in range(20)]
    assert (await client.post("intake", ISSUES, json=batch)).status_code == 202
    await until(lambda: len(broker.records) == 20)
    assert [body_of(record)["request_number"] for record in broker.records] == [
        f"SR26-{n}" for n in range(20)
    ]


async def test_a_batch_is_accepted_as_a_whole_or_not_at_all(
    client: Client, connection: Any, broker: Broker
) -> None:
    batch = [ISSUE, ISSUE | {"point": {"lat": 0, "lon": 0}}, ISSUE | {"category": "potholes"}]
    refused = await client.post("intake", ISSUES, json=batch)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == ["1.point", "2.category"]
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
    assert broker.records == []


@pytest.mark.parametrize(
    ("path", "report", "field"),
    [
        (INCIDENTS, INCIDENT | {"point": {"lat": -87.7, "lon": 41.8}}, "point"),
        (INCIDENTS, INCIDENT | {"occurred_at": "2099-01-01T00:00:00Z"}, "occurred_at"),
        (INCIDENTS, INCIDENT | {"occurred_at": "2026-07-04T22:40:00"}, "occurred_at"),
        (INCIDENTS, INCIDENT | {"event": "party"}, "event"),
        (INCIDENTS, INCIDENT | {"gunshot_injury": "yes"}, "gunshot_injury"),
        (INCIDENTS, {name: value for name, value in INCIDENT.items() if name != "source"}, "source"),
        (ISSUES, ISSUE | {"published_area": 99}, "published_area"),
        (ISSUES, ISSUE | {"request_number": "a|b"}, "request_number"),
        (ISSUES, ISSUE | {"colour": "red"}, "colour"),
    ],
)
async def test_what_intake_would_refuse_is_refused_at_once(
    client: Client, connection: Any, path: str, report: Any, field: str
) -> None:
    refused = await client.post("intake", path, json=report)
    assert (refused.status_code, refused.headers["Content-Type"]) == (422, "application/problem+json")
    assert refused.json()["errors"][0]["field"] == field
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0


@pytest.mark.parametrize("batch", [[], [INCIDENT] * 501])
async def test_a_batch_has_bounds(client: Client, batch: Any) -> None:
    assert (await client.post("intake", INCIDENTS, json=batch)).status_code == 422


async def test_a_name_is_dropped_before_anything_is_stored(
    client: Client, connection: Any, broker: Broker
) -> None:
    named = INCIDENT | {"victim_name": "Doe, Jane", "person": {"first": "Jane"}}
    key = {"Idempotency-Key": "k"}
    assert (await client.post("intake", INCIDENTS, json=named, headers=key)).status_code == 202
    await until(lambda: broker.records)
    assert b"Jane" not in broker.records[0].value
    for table in ("audit", "idempotency_keys", "outbox"):
        rows = await connection.fetch(f"SELECT to_json(t)::text AS row FROM {table} t")
        assert not [row for row in rows if "Jane" in row["row"]]


async def test_the_same_report_has_the_same_event_id(client: Client, broker: Broker) -> None:
    for _ in range(2):
        await client.post("intake", INCIDENTS, json=INCIDENT)
    await until(lambda: len(broker.records) == 2)
    first, second = (dict(record.headers)["ce_id"] for record in broker.records)
    assert first == second


async def test_a_key_makes_it_once(client: Client, connection: Any, broker: Broker) -> None:
    for _ in range(3):
        sent = await client.post("intake", INCIDENTS, json=INCIDENT, headers={"Idempotency-Key": "k"})
        assert sent.status_code == 202
    await until(lambda: broker.records)
    details = await connection.fetch("SELECT details FROM audit")
    assert [json.loads(row["details"]) for row in details] == [{"reports": 1}]
