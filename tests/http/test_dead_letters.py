"""Dead letters over the API: where and why, for who mends them; never what the record said."""

import json
from typing import Any

from connectors.postgres import dead_letters
from tests.dead_letters.test_report import letter
from tests.http.conftest import Client

SECRET = "Quill"


async def test_pages_hold_every_one_once_and_nothing_of_what_they_said(
    client: Client, connection: Any
) -> None:
    letters = [letter(n) for n in range(5)] + [letter(9, "not_json", source="cpd")]
    hidden = [one.model_copy(update={"value": json.dumps({"block": SECRET}).encode()}) for one in letters]
    await dead_letters.bury(connection, hidden)
    found, cursor = [], ""
    while cursor is not None:
        answer = await client.get("admin", f"/v1/dead-letters?limit=4{cursor and f'&cursor={cursor}'}")
        assert answer.status_code == 200
        assert SECRET not in answer.text
        page = answer.json()
        assert ("Link" in answer.headers) == (page["next"] is not None)
        found += page["items"]
        cursor = page["next"]
    assert sorted(one["dead_letter_id"] for one in found) == sorted(
        str(one.dead_letter_id) for one in letters
    )
    assert {(one["state"], one["attempts"], one["seen"]) for one in found} == {("open", 0, 1)}
    some = await client.get(
        "supervisor", "/v1/dead-letters?source=cpd&reason=not_json&topic=incident-reports"
    )
    assert [one["offset"] for one in some.json()["items"]] == [9]
    none = await client.get("supervisor", "/v1/dead-letters?state=discarded")
    assert none.json() == {"items": [], "next": None}


async def test_a_bad_feed_is_in_the_report(client: Client, connection: Any) -> None:
    await dead_letters.bury(connection, [letter(n) for n in range(6)])
    answer = await client.get("supervisor", "/v1/dead-letters/report?hours=2")
    (cad,) = answer.json()["sources"]
    assert (cad["source"], cad["bad"], cad["refused"], cad["accepted"], cad["share"]) == (
        "cad",
        True,
        6,
        0,
        1.0,
    )
    assert [(one["reason"], one["records"], one["before"]) for one in cad["reasons"]] == [
        ("impossible_place", 6, 0)
    ]


async def test_what_makes_no_sense_is_a_problem(client: Client) -> None:
    for query in ("?reason=bad-luck", "?topic=%00", "?cursor=x", "?limit=0", "?colour=red", "/report?hours=0",
                  "/report?threshold=nan"):  # fmt: skip
        answer = await client.get("admin", f"/v1/dead-letters{query}")
        assert (answer.status_code, answer.headers["Content-Type"]) == (422, "application/problem+json"), (
            query
        )
