"""Exports, areas and explanations: whole, streamed, and a department's only its own."""

import csv
import io
import json
import tracemalloc
from typing import Any

from connectors.http.exports import Form, chunks, ndjson
from connectors.http.parts import Value
from connectors.postgres import http_reads
from connectors.postgres.ledger import PostgresLedger
from schemas.views import WholeWorkOrder
from schemas.work_order import DepartmentWorkOrder
from tests.http.conftest import Client
from tests.http.made_up import Stored, order, store

EXPORT = "/v1/exports/work-orders"


async def many(connection: Any, count: int) -> list[Stored]:
    """More than two pages of an export."""
    stored = [order(n) for n in range(1, count + 1)]
    async with connection.transaction():
        await store(connection, stored)
    return stored


async def test_every_order_is_in_each_file_once_and_only_ones_own(client: Client, connection: Any) -> None:
    stored = await many(connection, 2 * http_reads.EXPORT_ROWS + 1)
    await store(connection, [order(5_000, "dss")])
    expected = [one.reference for one in reversed(stored)]

    lines = (await client.get("cdot", f"{EXPORT}.ndjson")).text.splitlines()
    assert [DepartmentWorkOrder.model_validate_json(line).reference for line in lines] == expected
    features = (await client.get("cdot", f"{EXPORT}.geojson")).json()["features"]
    assert [feature["id"] for feature in features] == expected
    rows = list(csv.DictReader(io.StringIO((await client.get("cdot", f"{EXPORT}.csv")).text)))
    assert [row["reference"] for row in rows] == expected

    whole = (await client.get("supervisor", f"{EXPORT}.ndjson")).text.splitlines()
    assert len([WholeWorkOrder.model_validate_json(line) for line in whole]) == len(stored) + 1


async def test_an_empty_export_is_a_file(client: Client) -> None:
    assert (await client.get("cdot", f"{EXPORT}.ndjson")).text == ""
    assert (await client.get("cdot", f"{EXPORT}.geojson")).json() == {
        "type": "FeatureCollection",
        "features": [],
    }
    assert (await client.get("cdot", f"{EXPORT}.csv")).text.startswith("reference,version,state")


async def test_a_feature_has_its_point_and_no_more_than_the_department_sees(
    client: Client, connection: Any
) -> None:
    one = order(1)
    await store(connection, [one])
    (feature,) = (await client.get("cdot", f"{EXPORT}.geojson")).json()["features"]
    told = one.told.model_dump(mode="json")
    point = told.pop("point")
    assert feature == {
        "type": "Feature", "id": one.reference, "properties": told | {"due_at": None},
        "geometry": {"type": "Point", "coordinates": [point["lon"], point["lat"]]},
    }  # fmt: skip


async def test_filters_hold_for_exports(client: Client, connection: Any) -> None:
    await store(connection, [order(1), order(2, state="resolved")])
    answer = await client.get("cdot", f"{EXPORT}.ndjson?state=resolved")
    assert len(answer.text.splitlines()) == 1
    assert (await client.get("cdot", f"{EXPORT}.ndjson?department=dss")).status_code == 422


async def test_a_cell_is_no_formula(client: Client, connection: Any) -> None:
    one = order(1)
    told = one.told.model_copy(update={"crew": '=cmd|" /C calc"!A0'})
    await store(connection, [Stored(one.order, told)])
    (row,) = csv.DictReader(io.StringIO((await client.get("cdot", f"{EXPORT}.csv")).text))
    assert row["crew"] == '\'=cmd|" /C calc"!A0'


async def test_memory_does_not_grow_with_the_number_of_orders(pool: Any, connection: Any) -> None:
    await many(connection, 6 * http_reads.EXPORT_ROWS)
    ledger = PostgresLedger(pool)
    tracemalloc.start()
    try:
        sizes, peaks = 0, []
        async for chunk in chunks(ledger, http_reads.Wanted("cdot"), Form("ndjson", "", ndjson)):
            sizes += len(chunk)
            peaks.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(peaks[3:]) < max(peaks[:3]) + sizes / 6  # of six pages, one more would show


async def test_areas_are_all_there_and_are_cached(client: Client) -> None:
    first = await client.get("auditor", "/v1/areas")
    areas: Value = first.json()
    assert first.headers["Content-Type"] == "application/geo+json"
    assert sorted(feature["properties"]["number"] for feature in areas["features"]) == list(range(1, 78))
    assert {feature["geometry"]["type"] for feature in areas["features"]} <= {"Polygon", "MultiPolygon"}
    assert len(first.content) < 200_000
    again = await client.get("cdot", "/v1/areas", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    dated = await client.get("cdot", "/v1/areas", params={"as_of": "2025-07-04"})
    assert dated.content == first.content  # nothing was ever imported
    refused = await client.get("cdot", "/v1/areas", params={"as_of": "the fourth of July"})
    assert refused.status_code == 422


async def test_an_explanation_has_the_words_and_the_records(client: Client, connection: Any) -> None:
    one = order(1)
    await store(connection, [one])
    await connection.execute(
        "INSERT INTO decisions VALUES ('orders', $1, 7, 'one_cause', 'One cause asks for it.', 'p', $2, $3)",
        one.order.order_id, json.dumps({"causes": []}), one.order.model_dump_json(),
    )  # fmt: skip
    answer = await client.get("auditor", f"/v1/work-orders/{one.reference}/explanation")
    assert answer.status_code == 200, answer.text
    (record,) = answer.json()["decisions"]
    assert (record["rule"], record["because"]) == ("one_cause", "One cause asks for it.")
    assert record["output"]["reference"] == one.reference
