"""The generic webhook: a source's own JSON, by its mapping file; good elements and bad ones in one answer."""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from fastapi import FastAPI

from connectors.geography.areas import Areas
from connectors.http.limits import Limits
from connectors.mapping.parts import SourceParts
from connectors.postgres.ledger import PostgresLedger
from infra.serve import Current, areas_document, compose, outgoing
from infra.sources.ingest import refusals
from infra.sources.load import load_sources
from infra.sources.overview import overview
from schemas.incident import incident_id_of
from schemas.policy import Policy
from schemas.source import SourceLines
from tests.http.conftest import Broker, Client, authenticate, until
from tests.http.made_up import body_of
from tests.sources.conftest import EXAMPLES, NOW

PATH: Final = "/v1/sources/shotspotter-live"


def alert(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": str(number), "detected": {"at": 1783222800000 + number}, "review": "confirmed",
        "address": {"block": f"{number}00 W MADE UP ST"},
        "location": {"type": "Point", "coordinates": [-87.7262, 41.8837]},
    } | more  # fmt: skip


def body(*alerts: Any) -> dict[str, Any]:
    return {"alerts": list(alerts)}


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
async def app(
    pool: Any, database_url: str, broker: Broker, policy: Policy, areas: Areas
) -> AsyncIterator[FastAPI]:
    ledger, found = PostgresLedger(pool), load_sources(EXAMPLES, policy)

    async def all_of_them(connection: Any) -> SourceLines:
        return await overview(connection, found, False, NOW)

    made = compose(
        ledger, outgoing(ledger, broker, broker, frozenset()), database_url, authenticate, Current(policy),
        areas_document(areas, policy), Limits(rate_per_s=10_000, address_rate_per_s=10_000), None,
        SourceParts(found.right, {"broken": "broken.yaml:1: ..."}, refusals(lambda: policy), all_of_them),
    )  # fmt: skip
    async with made.router.lifespan_context(made):
        yield made


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[Client]:
    made = Client(app)
    yield made
    await made.close()


async def test_what_a_source_says_in_its_own_words_is_accepted_and_published(
    client: Client, broker: Broker
) -> None:
    answer = await client.post("intake", PATH, json=body(alert(1), alert(2)))
    assert answer.status_code == 202, answer.text
    assert answer.json() == {
        "accepted": [
            {"index": n, "id": f"SSL-{n + 1}", "subject": str(incident_id_of(f"SSL-{n + 1}"))}
            for n in range(2)
        ],
        "refused": [],
        "skipped": 0,
    }
    await until(lambda: len(broker.records) == 2)
    assert (broker.records[0].topic, broker.records[0].key) == ("incident-reports", b"shotspotter-live:SSL-1")
    assert body_of(broker.records[0])["point"] == {"lat": 41.8837, "lon": -87.7262}


async def test_a_bad_element_among_good_ones_is_kept_and_told_and_the_good_ones_are_accepted(
    client: Client, broker: Broker, connection: Any
) -> None:
    sent = body(
        alert(1),
        alert(2, detected={"at": "noon"}),
        alert(3, location={"type": "Point", "coordinates": [2.35, 48.85]}),
        "no object",
        alert(5, review="who knows"),
        alert(6),
    )
    answer = await client.post("intake", PATH, json=sent)
    assert answer.status_code == 202, answer.text
    found = answer.json()
    assert [one["index"] for one in found["accepted"]] == [0, 5]
    assert [(one["index"], one["field"]) for one in found["refused"]] == [
        (1, "/detected/at"), (2, "/location"), (3, "element"), (4, "/review"),
    ]  # fmt: skip
    assert found["refused"][0]["expected"] == "milliseconds since 1970 in UTC"
    assert found["refused"][3]["expected"] == "a value of the mapping's table: confirmed, pending, dismissed"
    kept = await connection.fetch("SELECT dead_letter_id, source, field, expected FROM dead_letters")
    assert {str(one["dead_letter_id"]) for one in kept} == {one["dead_letter_id"] for one in found["refused"]}
    assert {one["source"] for one in kept} == {"shotspotter-live"}
    await until(lambda: len(broker.records) == 2)
    row = await connection.fetchrow("SELECT accepted, refused FROM source_hours WHERE way = 'webhook'")
    assert tuple(row) == (2, 4)


async def test_when_none_is_good_it_is_a_problem_and_the_dead_letters_are_kept(
    client: Client, connection: Any
) -> None:
    key = {"Idempotency-Key": "k"}
    for _ in range(2):
        answer = await client.post(
            "intake", PATH, json=body(alert(1, review="?"), alert(2, review="?")), headers=key
        )
        assert (answer.status_code, answer.headers["Content-Type"]) == (422, "application/problem+json")
        assert [one["field"] for one in answer.json()["errors"]] == ["0./review", "1./review"]
    assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 2
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
    assert await connection.fetchval("SELECT refused FROM source_hours") == 2


async def test_a_key_makes_it_once(client: Client, connection: Any, broker: Broker) -> None:
    answers = [
        await client.post(
            "intake", PATH, json=body(alert(1), alert(2, review="?")), headers={"Idempotency-Key": "k"}
        )
        for _ in range(3)
    ]
    assert {one.text for one in answers} == {answers[0].text}
    details = await connection.fetch("SELECT details FROM audit")
    assert [json.loads(row["details"]) for row in details] == [{"reports": 1, "refused": 1, "skipped": 0}]
    other = await client.post("intake", PATH, json=body(alert(9)), headers={"Idempotency-Key": "k"})
    assert other.status_code == 422


async def test_names_are_in_nothing_that_is_kept(client: Client, connection: Any, broker: Broker) -> None:
    named = alert(1, victim_name="Doe, Jane", notes="Jane was there")
    bad = alert(2, review="?", witness={"name": "Jane"}, location={"type": "Jane"})
    assert (await client.post("intake", PATH, json=body(named, bad))).status_code == 202
    await until(lambda: broker.records)
    assert b"Jane" not in broker.records[0].value
    for table in ("audit", "idempotency_keys", "outbox", "dead_letters", "source_hours"):
        rows = await connection.fetch(f"SELECT to_jsonb(t)::text AS row FROM {table} t")
        assert not [row for row in rows if "Jane" in row["row"] or b"Jane".hex() in row["row"]]


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("/v1/sources/nobody", body(alert(1)), 404),
        ("/v1/sources/cad", body(alert(1)), 404),  # CSV: it drops files
        ("/v1/sources/broken", body(alert(1)), 503),
        ("/v1/sources/NOBODY", body(alert(1)), 422),
        (PATH, {"alarms": []}, 422),
        (PATH, body(), 422),
        (PATH, [], 422),
        (PATH, 7, 422),
        (PATH, body(*[alert(n) for n in range(501)]), 422),
    ],
)
async def test_what_is_no_request_for_it(
    client: Client, connection: Any, path: str, sent: Any, status: int
) -> None:
    answer = await client.post("intake", path, json=sent)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), (
        answer.text
    )
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0


@pytest.mark.parametrize("raw", [b"{", b"", b"[" * 100_000, b"\xff"])
async def test_what_is_not_json(client: Client, raw: bytes) -> None:
    answer = await client.post("intake", PATH, content=raw, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")


async def test_one_object_is_a_list_of_one(client: Client) -> None:
    answer = await client.post("intake", PATH, json={"alerts": alert(1)})
    assert [one["id"] for one in answer.json()["accepted"]] == ["SSL-1"]


async def test_who_may_send_and_who_may_look(client: Client) -> None:
    assert (await client.post("supervisor", PATH, json=body(alert(1)))).status_code == 403
    assert (await client.post(None, PATH, json=body(alert(1)))).status_code == 401
    assert (await client.get("intake", "/v1/sources")).status_code == 403
    assert (await client.get("cdot", "/v1/sources")).status_code == 403


async def test_supervisors_see_how_each_source_does(client: Client, connection: Any) -> None:
    await client.post("intake", PATH, json=body(alert(1), alert(2, review="?")))
    report = {
        "source": "rms", "report_id": "1", "incident_number": "JK1", "event": "assault", "gunshot_injury": True,
        "occurred_at": "2026-07-04T22:40:00-05:00", "revised_at": "2026-07-04T22:52:00-05:00",
    }  # fmt: skip
    assert (await client.post("intake", "/v1/incident-reports", json=report)).status_code == 202
    await connection.execute(
        "INSERT INTO source_problems (source, way, problem) VALUES ('cad', 'folder', 'x.csv is empty.')"
    )
    found = (await client.get("supervisor", "/v1/sources")).json()["items"]
    lines = {(one["source"], one["way"]): one for one in found}
    assert list(lines) == [("shotspotter-live", "webhook"), ("cad", "folder"), ("rms", "rest")]
    webhook = lines["shotspotter-live", "webhook"]
    assert (webhook["accepted_24h"], webhook["refused_24h"], webhook["problem"]) == (1, 1, None)
    assert webhook["newest_at"] == "2026-07-05T03:40:00.001000Z"
    assert webhook["lag_s"] == 10_268_399
    assert lines["cad", "folder"]["problem"] == "x.csv is empty."
    assert lines["cad", "folder"]["last_success_at"] is None
    assert lines["rms", "rest"]["configured"] is False
