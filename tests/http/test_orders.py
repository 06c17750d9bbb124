"""A department lists its orders and reads one; a supervisor sees all."""

import base64
from datetime import timedelta
from typing import Any

import pytest

from schemas.work_order import DepartmentWorkOrder
from tests.http.conftest import Client
from tests.http.made_up import INCIDENT, SHOT_AT, Stored, enter, order, store, whole

ORDERS = "/v1/work-orders"


def references(page: Any) -> list[str]:
    return [one["reference"] for one in page.json()["items"]]


async def test_a_department_lists_its_own_orders_as_it_was_told(client: Client, connection: Any) -> None:
    mine, theirs = order(1), order(2, "dss")
    await store(connection, [mine, theirs])
    answered = await client.get("cdot", ORDERS)
    assert answered.status_code == 200, answered.text
    assert answered.json() == {"items": [mine.told.model_dump(mode="json")], "next": None}


async def test_a_supervisor_lists_all_whole(client: Client, connection: Any) -> None:
    stored = [order(1), order(2, "dss")]
    await store(connection, stored)
    answered = await client.get("supervisor", ORDERS)
    assert answered.json()["items"] == [whole(one) for one in reversed(stored)]


async def test_what_a_department_was_never_told_of_is_not_there(client: Client, connection: Any) -> None:
    one = order(1)
    await store(connection, [one], never_told=True)
    assert (await client.get("cdot", ORDERS)).json()["items"] == []
    assert (await client.get("cdot", f"{ORDERS}/{one.reference}")).status_code == 404


async def test_pages_follow_one_another_without_gap_or_repetition(client: Client, connection: Any) -> None:
    stored = [order(n) for n in range(1, 8)]
    await store(connection, stored)
    found, path = [], f"{ORDERS}?limit=3&category=street_light"
    while path:
        page = await client.get("cdot", path)
        found += references(page)
        path = page.headers.get("Link", "").removeprefix("<").partition(">")[0]
        assert bool(path) == (page.json()["next"] is not None)
    assert found == [one.reference for one in reversed(stored)]


async def test_pages_by_change_follow_one_another(client: Client, connection: Any) -> None:
    stored = [order(n) for n in range(1, 6)]
    for one in stored:
        await store(connection, [one])
    found, path = [], f"{ORDERS}?limit=2&updated_after=2026-01-01T00:00:00Z"
    while path:
        page = await client.get("cdot", path)
        found += references(page)
        path = page.headers.get("Link", "").removeprefix("<").partition(">")[0]
    assert found == [one.reference for one in stored]


async def test_something_that_a_department_is_not_told_is_no_change_to_it(
    client: Client, connection: Any
) -> None:
    """A second shooting at the same lamp moves `recorded_at`."""
    one = order(1)
    await store(connection, [one])
    told_at = await connection.fetchval("SELECT told_at FROM work_orders")
    await connection.execute("UPDATE work_orders SET version = 8, recorded_at = now()")
    after = {"updated_after": told_at.isoformat()}
    assert references(await client.get("cdot", ORDERS, params=after)) == []
    assert references(await client.get("supervisor", ORDERS, params=after)) == [one.reference]
    await connection.execute("UPDATE work_orders SET told = 2")
    assert references(await client.get("cdot", ORDERS, params=after)) == [one.reference]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=acknowledged", [2]),
        ("state=open&area=26", [4, 2, 1]),
        ("area=27", [3]),
        ("category=graffiti", [4]),
        ("bbox=-87.8,41.8801,-87.7,41.88025", [2, 1]),
        ("state=new&area=26", [4, 1]),
        ("bbox=0,0,1,1", []),
    ],
)
async def test_filters(client: Client, connection: Any, query: str, expected: list[int]) -> None:
    stored = {
        1: order(1), 2: order(2, state="acknowledged"), 3: order(3, area=27), 4: order(4, category="graffiti"),
    }  # fmt: skip
    await store(connection, list(stored.values()))
    for who in ("cdot", "supervisor"):
        page = await client.get(who, f"{ORDERS}?{query}")
        assert references(page) == [stored[n].reference for n in expected], who


async def test_a_department_cannot_find_a_point_that_it_is_not_shown(client: Client, connection: Any) -> None:
    """By halving a rectangle one could find the exact point of an incident."""
    one = order(1)
    hidden = Stored(one.order, one.told.model_copy(update={"point": None}))
    await store(connection, [hidden])
    assert references(await client.get("cdot", f"{ORDERS}?bbox=-88,41,-87,42")) == []
    assert references(await client.get("supervisor", f"{ORDERS}?bbox=-88,41,-87,42")) == [one.reference]


async def test_a_rounded_point_is_found_where_it_is_shown(client: Client, connection: Any) -> None:
    one = order(1)
    await store(connection, [one])
    assert one.told.point is not None
    assert one.order.site.point is not None
    shown, true = one.told.point.lat, one.order.site.point.lat
    between = f"-88,{min(shown, true) + 1e-6},-87,{max(shown, true) + 1}"
    assert references(await client.get("cdot", f"{ORDERS}?bbox={between}")) == []
    assert references(await client.get("supervisor", f"{ORDERS}?bbox={between}")) == [one.reference]


async def test_only_supervisors_see_what_is_to_be_verified(client: Client, connection: Any) -> None:
    drawn = order(1, state="resolved", verify=True)
    await store(connection, [drawn, order(2, state="resolved")])
    assert references(await client.get("supervisor", f"{ORDERS}?to_verify=true")) == [drawn.reference]
    refused = await client.get("cdot", f"{ORDERS}?to_verify=true")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "to_verify")


async def test_an_etag_saves_the_body(client: Client, connection: Any) -> None:
    one = order(1, told=3)
    await store(connection, [one])
    path = f"{ORDERS}/{one.reference}"
    first = await client.get("cdot", path)
    assert (first.headers["ETag"], DepartmentWorkOrder.model_validate_json(first.content)) == (
        '"3"',
        one.told,
    )
    again = await client.get("cdot", path, headers={"If-None-Match": '"1", W/"3"'})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", '"3"')
    other = await client.get("cdot", path, headers={"If-None-Match": '"2"'})
    assert other.status_code == 200
    of_supervisors = await client.get("supervisor", path)
    assert (of_supervisors.headers["ETag"], of_supervisors.json()) == ('"7-3"', whole(one))


async def test_another_departments_order_is_not_there_and_the_attempt_is_noted(
    client: Client, connection: Any
) -> None:
    theirs = order(1, "dss")
    await store(connection, [theirs])
    for path in (theirs.reference, f"{theirs.reference}/timeline", f"{theirs.reference}/updates/U-1"):
        foreign = await client.get("cdot", f"{ORDERS}/{path}")
        missing = await client.get("cdot", f"{ORDERS}/{path.replace(theirs.reference, 'WO-00000-00000')}")
        assert (foreign.status_code, foreign.content) == (404, missing.content)
    trail = await connection.fetch("SELECT actor, subject, outcome FROM audit ORDER BY seq")
    assert len(trail) == 6
    assert {(row["actor"], row["outcome"]) for row in trail} == {("key:cdot", "refused")}
    assert sum(theirs.reference in row["subject"] for row in trail) == 3


async def test_a_timeline_has_own_words_and_what_the_centre_decided(client: Client, connection: Any) -> None:
    one = order(1)
    await store(connection, [one])
    await enter(connection, one, 1, "cdot", verb="acknowledge", by="crew 7")
    await enter(connection, one, 2, "cscc", verb="note", text="Two were shot here.", by="Ms. S.")
    await enter(connection, one, 3, "dss", verb="note", text="Not ours.")
    own = await client.get("cdot", f"{ORDERS}/{one.reference}/timeline")
    shown = [(item["department"], item["verb"], item["text"], item["by"]) for item in own.json()["items"]]
    assert shown == [("cdot", "acknowledge", None, "crew 7"), ("cscc", "note", None, None)]
    all_of_it = await client.get("supervisor", f"{ORDERS}/{one.reference}/timeline")
    assert [item["seq"] for item in all_of_it.json()["items"]] == [1, 2, 3]


async def test_no_byte_for_a_department_tells_of_the_incident(client: Client, connection: Any) -> None:
    stored = [order(n) for n in range(1, 6)]
    await store(connection, stored)
    await enter(connection, stored[0], 1, "cscc", verb="note", text="gunfire")
    seen = b""
    for path in (
        "", "?limit=1", "?limit=1&updated_after=2026-01-01T00:00:00Z", f"/{stored[0].reference}",
        f"/{stored[0].reference}/timeline",
    ):  # fmt: skip
        page = await client.get("cdot", ORDERS + path)
        seen += page.content + str(page.headers).encode()
        seen += _decoded(page.json().get("next"))
    minutes = [(SHOT_AT + timedelta(minutes=n)).isoformat()[:16] for n in range(10)]
    words = [str(INCIDENT), "gunfire", "shoot", "incident", "0123456789ab", *minutes]
    assert [word for word in words if word.encode() in seen] == []


def _decoded(cursor: str | None) -> bytes:
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)) if cursor else b""
