"""A department that reads its orders over Open311, with its own key: its own, and nothing of why."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from schemas.policy import Policy
from schemas.work_order_update import WorkOrderUpdate
from tests.open311.conformance import REQUEST, Endpoint
from tests.open311.ours import JURISDICTION, Ours, today
from tests.pipeline.stream import Stream
from tests.pipeline.test_departments import shooting, told

SUMMER = {"start_date": "2026-07-01T00:00:00Z", "end_date": "2026-08-01T00:00:00Z"}
BETRAYS = re.compile(
    r"shoot|shot|gun|victim|homicid|assault|incident|ZZ1|\bcad\b|03:12|22:12|T0[1-4]:", re.IGNORECASE
)


@pytest.fixture
async def stream(connection: Any, policy: Policy, areas: Any) -> Stream:
    made = Stream(connection, policy, areas)
    await made.feed([shooting("ZZ1")])
    return made


@pytest.fixture
async def endpoint(ours: Ours) -> AsyncIterator[Endpoint]:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
        yield Endpoint(http, f"{ours.root}/open311", await ours.key("department", "cdot"), JURISDICTION, {})


async def test_a_department_reads_its_own_orders_as_requests_and_nothing_betrays_why(
    stream: Stream, endpoint: Endpoint
) -> None:
    own = [
        one for one in told(stream.events) if one.category in ("street_light", "alley_light", "viaduct_light")
    ]
    shown = await endpoint.both("v2/requests", api_key=endpoint.key, extensions="true", **SUMMER)
    assert {one["service_request_id"] for one in shown} == {one.reference for one in own} != set()
    by_id = {one.reference: one for one in own}
    for request in shown:
        order = by_id[request["service_request_id"]]
        assert set(request) == REQUEST | {"extended_attributes"}
        assert request["description"] == order.title
        assert (request["status"], request["status_notes"]) == ("open", "New.")
        assert request["requested_datetime"] == "2026-07-04T05:00:00Z"  # the day, as it begins in the city
        assert request["extended_attributes"]["priority"] == order.priority
        assert not BETRAYS.search(str({k: v for k, v in request.items() if k != "updated_datetime"}))
    assert not any("extended_attributes" in one for one in await endpoint.both(
        "v2/requests", api_key=endpoint.key, **SUMMER))  # fmt: skip


async def test_an_order_of_today_is_listed_at_once_although_its_day_is_tomorrow(
    endpoint: Endpoint, connection: Any, policy: Policy, areas: Any
) -> None:
    now = datetime.now(UTC)
    await today(connection, policy, areas).feed([shooting("ZZ2", now)])
    shown = await endpoint.both("v2/requests", api_key=endpoint.key, status="open")
    assert shown
    assert all(datetime.fromisoformat(one["requested_datetime"]) > now for one in shown)


async def test_the_key_also_comes_as_a_bearer_token(stream: Stream, endpoint: Endpoint, ours: Ours) -> None:
    headers = {"Authorization": f"Bearer {endpoint.key}"}
    answer = await endpoint.http.get(f"{ours.url}/requests.json", params=SUMMER, headers=headers)
    assert answer.json() == await endpoint.both("v2/requests", api_key=endpoint.key, **SUMMER)


async def test_without_a_key_or_with_anothers_there_are_no_orders_and_the_attempt_is_in_the_trail(
    stream: Stream, endpoint: Endpoint, ours: Ours, connection: Any
) -> None:
    [first, *_] = await endpoint.both("v2/requests", api_key=endpoint.key, **SUMMER)
    path = f"v2/requests/{first['service_request_id']}"
    assert await endpoint.both(path, api_key=endpoint.key) == [first]
    other = await ours.key("department", "dob")
    await endpoint.both(path, 404, api_key=other)
    await endpoint.both(path, 404)
    assert await endpoint.both("v2/requests", service_request_id=first["service_request_id"]) == []
    assert await endpoint.both("v2/requests", **SUMMER) == []
    trail = await connection.fetch("SELECT subject, outcome FROM audit")
    assert set(trail) == {(first["service_request_id"], "refused")}


async def test_what_becomes_of_an_order_shows_and_is_found_by_status_and_by_change(
    stream: Stream, endpoint: Endpoint, connection: Any
) -> None:
    shown = await endpoint.both("v2/requests", api_key=endpoint.key, **SUMMER)
    reference = shown[0]["service_request_id"]
    before = await connection.fetchval(
        "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    )
    update = WorkOrderUpdate(update_id="1", reference=reference, verb="resolve", outcome="found_working")
    [result] = await stream.say("cdot", update)
    assert result.verdict == "accepted"
    [closed] = await endpoint.both("v2/requests", api_key=endpoint.key, status="closed", **SUMMER)
    assert (closed["service_request_id"], closed["status_notes"]) == (
        reference,
        "Resolved, outcome: found working.",
    )
    assert await endpoint.both("v2/requests", api_key=endpoint.key, updated_after=before) == [closed]
    still_open = await endpoint.both("v2/requests", api_key=endpoint.key, status="open", **SUMMER)
    assert len(still_open) == len(shown) - 1


async def test_a_second_incident_that_is_no_news_to_the_department_changes_nothing_that_it_reads(
    stream: Stream, endpoint: Endpoint
) -> None:
    before = await endpoint.both("v2/requests", api_key=endpoint.key, extensions="true", **SUMMER)
    already = len(stream.events)
    await stream.feed([shooting("ZZ1", revised_at=shooting("ZZ1").revised_at.replace(hour=9), beat="1113")])
    assert told(stream.events[already:]) == []
    assert len(stream.events) > already
    assert await endpoint.both("v2/requests", api_key=endpoint.key, extensions="true", **SUMMER) == before
