"""The main path: a department lists its orders, reads one, and says what happened."""

from typing import Any

from tests.http.conftest import Client
from tests.http.made_up import order, store


async def test_a_department_lists_its_own_orders_as_it_was_told(client: Client, connection: Any) -> None:
    mine, theirs = order(1), order(2, "dss")
    await store(connection, [mine, theirs])
    answered = await client.get("cdot", "/v1/work-orders")
    assert answered.status_code == 200, answered.text
    assert answered.json() == {"items": [mine.told.model_dump(mode="json")], "next": None}
