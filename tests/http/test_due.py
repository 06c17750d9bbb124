"""Orders by when they are due: filters, order, pages, and the due time wherever an order is shown."""

import asyncio
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.cli.main import app as rapid
from schemas.work_order import PromiseView
from tests.http.conftest import Client
from tests.http.made_up import Stored, order, promise, store, whole
from tests.http.test_orders import ORDERS, references

NOW = datetime.now(UTC)
LATE, SOON, LATER = NOW - timedelta(days=1), NOW + timedelta(days=1), NOW + timedelta(days=2)


async def dated(connection: Any) -> list[Stored]:
    """1 is due later, 2 is late, 3 is on hold, 4 is due soon, 5 was never promised anything."""
    stored = [order(n) for n in range(1, 6)]
    await store(connection, stored)
    for one, due_at in zip(stored, (LATER, LATE, None, SOON), strict=False):
        await promise(connection, one, due_at)
    return stored


def at(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"due_before={at(LATER)}", [4, 2]),
        (f"due_after={at(SOON)}", [4, 1]),
        (f"due_after={at(SOON)}&due_before={at(LATER)}", [4]),
        ("overdue=true", [2]),
        ("overdue=false", [5, 4, 3, 1]),
        ("sort=due", [2, 4, 1, 5, 3]),
        (f"sort=due&due_before={at(LATER)}", [2, 4]),
        ("sort=due&overdue=false&state=new", [4, 1, 5, 3]),
        ("sort=due&area=1", []),
    ],
)
async def test_orders_by_when_they_are_due(
    client: Client, connection: Any, query: str, expected: list[int]
) -> None:
    stored = await dated(connection)
    for who in ("cdot", "supervisor"):
        page = await client.get(who, f"{ORDERS}?{query}")
        assert page.status_code == 200, page.text
        assert references(page) == [stored[n - 1].reference for n in expected], who


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
async def test_pages_by_due_time_cross_over_to_what_has_none(
    client: Client, connection: Any, limit: int
) -> None:
    """Two are due at the same instant: their references decide."""
    stored = await dated(connection)
    same = order(6)
    await store(connection, [same])
    await promise(connection, same, SOON)
    twins = sorted([stored[3].reference, same.reference])
    expected = [stored[1].reference, *twins, stored[0].reference, stored[4].reference, stored[2].reference]
    found: list[str] = []
    path = f"{ORDERS}?sort=due&limit={limit}"
    while path:
        page = await client.get("cdot", path)
        found += references(page)
        path = page.headers.get("Link", "").removeprefix("<").partition(">")[0]
    assert found == expected


async def test_a_cursor_is_of_one_order_of_things_alone(client: Client, connection: Any) -> None:
    await dated(connection)
    by_due = (await client.get("cdot", f"{ORDERS}?sort=due&limit=1")).json()["next"]
    by_age = (await client.get("cdot", f"{ORDERS}?limit=1")).json()["next"]
    for query in (f"cursor={by_due}", f"sort=due&cursor={by_age}"):
        refused = await client.get("cdot", f"{ORDERS}?{query}")
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "cursor")
    both = await client.get("cdot", f"{ORDERS}?sort=due&updated_after={at(NOW)}")
    assert (both.status_code, both.json()["errors"][0]["field"]) == (422, "sort")


async def test_supervisors_read_what_was_promised(client: Client, connection: Any) -> None:
    one = order(1)
    await store(connection, [one])
    assert (await client.get("supervisor", f"{ORDERS}/{one.reference}")).json() == whole(one)
    promises = await promise(connection, one, SOON)
    read = (await client.get("supervisor", f"{ORDERS}/{one.reference}")).json()
    assert read == whole(one, promises)
    assert (read["next_due_at"], read["promises"]["clocks"][0]["name"]) == (at(SOON), "resolve")
    listed = (await client.get("supervisor", ORDERS)).json()["items"]
    assert listed == [read]
    (line,) = (await client.get("supervisor", "/v1/exports/work-orders.ndjson")).text.splitlines()
    assert json.loads(line) == read


async def test_files_have_a_due_time(client: Client, connection: Any) -> None:
    stored = await dated(connection)
    due = {stored[1].reference: LATE, stored[2].reference: None}
    for who in ("cdot", "supervisor"):
        rows = csv.DictReader(io.StringIO((await client.get(who, "/v1/exports/work-orders.csv")).text))
        found = {row["reference"]: row for row in rows}
        features = (await client.get(who, "/v1/exports/work-orders.geojson")).json()["features"]
        shown = {feature["id"]: feature["properties"]["due_at"] for feature in features}
        for reference, moment in due.items():
            assert found[reference]["due_at"] == (at(moment) if moment else "")
            assert shown[reference] == (at(moment) if moment else None)
            assert "promises" not in found[reference]
    late = await client.get("cdot", "/v1/exports/work-orders.ndjson?overdue=true")
    assert [json.loads(line)["reference"] for line in late.text.splitlines()] == [stored[1].reference]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", [5, 4, 3, 2, 1]),
        ("--overdue", [2]),
        ("--due-before 36h", [2, 4]),
        ("--due-before 10d", [2, 4, 1]),
        ("--due-before 10d --overdue", [2]),
        ("--due-before 10d --limit 1", [2]),
        ("--due-before 2026-01-01", []),
    ],
)
async def test_the_command_line_lists_by_due_time_too(
    connection: Any, database_url: str, options: str, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = await dated(connection)
    monkeypatch.setenv("RAPID_DATABASE_URL", database_url)
    command = ["orders", "list", *options.split()]
    listed = await asyncio.to_thread(CliRunner().invoke, rapid, [*command, "--json"])
    found = [one["reference"] for one in json.loads(listed.stdout)]
    assert found == [stored[n - 1].reference for n in expected]
    printed = await asyncio.to_thread(CliRunner().invoke, rapid, command)
    assert (f"{LATE:%Y-%m-%d %H:%M}Z" in printed.stdout) == (2 in expected)


async def test_an_order_is_shown_with_its_promises(
    connection: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = await dated(connection)
    views = (
        PromiseView(clock="acknowledge", due_at=None, on_hold=False, result="met"),
        PromiseView(clock="resolve", due_at=LATE, on_hold=False, result=None),
    )
    seen = stored[1].told.model_copy(update={"promises": views}).model_dump_json()
    await connection.execute(
        "UPDATE work_orders SET department_body = $2 WHERE reference = $1", stored[1].reference, seen
    )
    monkeypatch.setenv("RAPID_DATABASE_URL", database_url)
    for one, stands in ((stored[1], "open and late"), (stored[2], "on hold")):
        shown = await asyncio.to_thread(CliRunner().invoke, rapid, ["orders", "show", one.reference])
        assert shown.exit_code == 0, shown.exception
        assert "4h of always" in shown.stdout
        assert stands in shown.stdout
        seen_so = f"acknowledge met, resolve due {LATE:%Y-%m-%d %H:%M}Z"
        assert (seen_so in shown.stdout) == (one is stored[1])
