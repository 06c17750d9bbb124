"""What departments are told of an order as it changes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.base import Point
from schemas.envelope import Event
from schemas.incident import IncidentReport
from schemas.policy import Policy
from schemas.topics import WORK_ORDERS
from schemas.work_order import DepartmentWorkOrder
from tests.pipeline.stream import Stream

AT = datetime(2026, 7, 4, 3, 12, tzinfo=UTC)
CORNER = Point(lat=41.8837, lon=-87.7262)  # West Garfield Park, a priority area


def shooting(number: str, at: datetime = AT, **changes: Any) -> IncidentReport:
    return IncidentReport(
        source="cad", report_id=f"{number}-1", incident_number=number, occurred_at=at, revised_at=at,
        event="assault", gunshot_injury=True, block="4000 W WEST END AVE", point=CORNER,
    ).model_copy(update=changes)  # fmt: skip


def told(events: list[Event]) -> list[DepartmentWorkOrder]:
    return [
        DepartmentWorkOrder.model_validate_json(event.value)
        for event in events
        if event.topic.startswith("work-orders.")
    ]


@pytest.fixture
async def stream(connection: Any, policy: Policy, areas: Any) -> Stream:
    made = Stream(connection, policy, areas)
    await made.feed([shooting("ZZ1")])
    return made


async def test_a_department_is_told_of_each_order_once(stream: Stream) -> None:
    first = told(stream.events)
    assert {one.version for one in first} == {1}
    assert len({one.reference for one in first}) == len(first) > 0


async def test_what_is_learned_of_an_incident_is_no_news_to_its_departments(stream: Stream) -> None:
    before = len(stream.events)
    await stream.feed([shooting("ZZ1", revised_at=AT + timedelta(hours=1), beat="1113")])
    assert any(event.topic == WORK_ORDERS.name for event in stream.events[before:])
    assert told(stream.events[before:]) == []


async def test_a_raised_priority_and_the_end_are_news(stream: Stream) -> None:
    first = {one.reference: one for one in told(stream.events)}
    before = len(stream.events)
    await stream.feed([shooting("ZZ1", event="homicide", revised_at=AT + timedelta(days=1))])
    raised = {one.reference: one for one in told(stream.events[before:]) if one.reference in first}
    assert raised
    assert all(one.version == 2 and one.priority != first[one.reference].priority for one in raised.values())
    before = len(stream.events)
    await stream.feed([shooting("ZZ1", validity="unfounded", revised_at=AT + timedelta(days=2))])
    ended = told(stream.events[before:])
    assert {one.state for one in ended} == {"cancelled"}
    assert {one.reference for one in ended} >= set(first)
