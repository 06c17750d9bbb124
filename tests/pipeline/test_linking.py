"""One event told by a sensor, a call and a case: one response, whichever comes first and however late the others.

Through the real agents and the real database; each source may come days after the one before, and departments may
have worked on the orders meanwhile.
"""

from collections.abc import Iterable
from datetime import timedelta
from itertools import permutations
from random import Random
from typing import Any, Final, NamedTuple

import pytest

from agents.replay import difference
from connectors.postgres import readmodels
from infra import views
from schemas.base import Point
from schemas.incident import IncidentReport, Validity
from schemas.policy import Policy
from schemas.response import Response, TriageDecision
from schemas.topics import department_topic
from schemas.work_order import DepartmentWorkOrder, WorkOrder, WorkOrderCommand
from tests.final_tables import differences
from tests.pipeline.stream import NOW, Stream, final_tables
from tests.pipeline.test_departments import AT, CORNER
from tests.pipeline.test_updates import light, update
from tests.properties.bench import TABLES

NORTH: Final = Point(lat=41.8842, lon=-87.7262)  # 56 m from the corner
FAR: Final = Point(lat=41.8937, lon=-87.7262)  # 1.1 km
ORDERS: Final = tuple(permutations(("sensor", "call", "case")))
HANDS: Final[dict[str, list[str]]] = {
    "nobody": [], "acknowledged": ["acknowledge"], "started": ["acknowledge", "start"],
    "resolved": ["acknowledge", "start", "resolve"],
}  # fmt: skip
"""What the department says of the light once the first source has told of the event."""


def sensor(**changes: Any) -> IncidentReport:
    return IncidentReport(
        source="shotspotter", report_id="SST-1", incident_number="SST-1", occurred_at=AT, revised_at=AT,
        event="gunfire", gunshot_injury=None, block="4000 W WEST END AVE", point=NORTH,
    ).model_copy(update=changes)  # fmt: skip


def call(**changes: Any) -> IncidentReport:
    at = AT + timedelta(minutes=2)
    return IncidentReport(
        source="cad", report_id="C-1", incident_number="EV-77", occurred_at=at, revised_at=at, event="assault",
        gunshot_injury=True, block="4000 W WEST END AVE", point=NORTH,
    ).model_copy(update=changes)  # fmt: skip


def case(**changes: Any) -> IncidentReport:
    return IncidentReport(
        source="cpd", report_id="V1", incident_number="JH1", occurred_at=AT + timedelta(minutes=5),
        revised_at=AT + timedelta(days=2), event="assault", gunshot_injury=True, block="4000 W WEST END AVE",
        point=CORNER,
    ).model_copy(update=changes)  # fmt: skip


SOURCES: Final = {"sensor": sensor, "call": call, "case": case}


class Came(NamedTuple):
    """What came of it, in the tables and in what the department was told."""

    tables: dict[str, list[tuple[Any, ...]]]
    told: list[DepartmentWorkOrder]
    active: list[str]
    orders: list[WorkOrder]


async def orders(connection: Any) -> list[WorkOrder]:
    rows = await connection.fetch("SELECT body FROM work_orders ORDER BY order_key, generation")
    return [WorkOrder.model_validate_json(row["body"]) for row in rows]


async def fix(connection: Any) -> WorkOrder:
    (found,) = [one for one in await orders(connection) if one.work == "fix"]
    return found


async def active(connection: Any) -> list[str]:
    """The numbers of the incidents that have an active response."""
    rows = await connection.fetch(
        "SELECT number FROM responses JOIN incidents USING (incident_id) WHERE status = 'active' ORDER BY 1"
    )
    return [row["number"] for row in rows]


async def decision(connection: Any, number: str) -> TriageDecision:
    incident = await readmodels.incident(connection, number)
    assert incident is not None
    record = (await readmodels.standing(connection, "triage", [incident.incident_id]))[incident.incident_id]
    return TriageDecision.model_validate_json(record.output)


def told(stream: Stream) -> list[DepartmentWorkOrder]:
    topic = department_topic("cdot").name
    return [DepartmentWorkOrder.model_validate_json(one.value) for one in stream.events if one.topic == topic]


async def work(stream: Stream, verbs: Iterable[str]) -> None:
    """The department says this of the light, a minute after the other."""
    for number, verb in enumerate(verbs):
        more = {"outcome": "fixed"} if verb == "resolve" else {}
        at = NOW - timedelta(days=3) + timedelta(minutes=number)
        (answer,) = await stream.say("cdot", update(await fix(stream.connection), verb, at=at, **more))
        assert answer.verdict == "accepted"


async def run(
    connection: Any, policy: Policy, areas: Any, order: Iterable[str], verbs: list[str], seed: int
) -> Came:
    """The light is out; the sources come in this order, hours or days apart; the crew works after the first."""
    for table in (*TABLES.split(", "), "order_ledger", "feed"):
        await connection.execute(f"DELETE FROM {table}")
    stream = Stream(connection, policy, areas, order=Random(seed))
    await stream.feed([light("SR1")])
    for number, source in enumerate(order):
        await stream.feed([SOURCES[source]()])
        if number == 0:
            await work(stream, verbs)
    assert stream.rejections == []
    return Came(
        await final_tables(connection), told(stream), await active(connection), await orders(connection)
    )


@pytest.mark.parametrize("hands", HANDS)
async def test_all_six_orders_of_arrival_end_as_one_response_and_the_same_tables(
    connection: Any, policy: Policy, areas: Any, hands: str
) -> None:
    first: Came | None = None
    for seed, order in enumerate(ORDERS):
        came = await run(connection, policy, areas, order, HANDS[hands], seed)
        assert came.active == ["JH1"], order
        lights = [one for one in came.orders if one.work == "fix"]
        assert [one.generation for one in lights] == [1], "work that was done is not done again"
        expected = {"nobody": "new", "started": "in_progress"}.get(hands, hands)
        assert lights[0].state == expected
        heard = [one.state for one in came.told if one.reference == lights[0].reference]
        assert "cancelled" not in heard, order
        first = first or came
        assert not differences(first.tables, came.tables), (order, differences(first.tables, came.tables))


async def test_the_decisions_say_who_leads_and_who_follows_and_are_taken_again_byte_for_byte(
    connection: Any, policy: Policy, areas: Any
) -> None:
    stream = Stream(connection, policy, areas)
    await stream.feed([light("SR1"), sensor(), call(), case()])
    leading, following = await decision(connection, "JH1"), await decision(connection, "SST-1")
    assert (leading.rule, following.rule) == ("respond", "linked")
    assert following.because == (
        "One event with JH1 of cpd, 56 m and 5 min away, whose source leads (rank 1; this one's: 3): that one "
        "responds, this one follows. The policy links within 244 m and 15 min."
    )
    assert "Told of as well by " in leading.because
    assert "SST-1 of shotspotter, 56 m and 5 min away" in leading.because
    assert {one.number for one in leading.followers} == {"SST-1", "EV-77"}
    assert following.response is not None
    assert (following.response.status, following.severity, following.parts) == ("ended", 0, ())
    assert following.follows is not None
    assert following.follows.number == "JH1"
    assert leading.response is not None
    assert not [part for part in leading.parts if part.factor == "near_repeat"], "its own call is no repeat"
    for stage in ("triage", "dispatch", "orders"):
        async for page in readmodels.every_decision(connection, stage):
            assert [difference(one, policy) for one in page] == [None] * len(page)


async def test_incident_and_story_show_both_sides(connection: Any, policy: Policy, areas: Any) -> None:
    await Stream(connection, policy, areas).feed([light("SR1"), sensor(), call(), case()])
    leading = await views.show_incident(connection, "JH1")
    following = await views.show_incident(connection, "SST-1")
    assert leading is not None
    assert following is not None
    assert [one["number"] for one in leading["followers"]] == ["EV-77", "SST-1"]
    assert following["follows"]["number"] == "JH1"
    story = await views.explain(connection, "SST-1")
    assert story is not None
    words = " ".join(step["because"] for step in story)
    assert "One event with JH1 of cpd" in words
    row = await connection.fetchval(
        "SELECT r.body FROM responses r JOIN incidents i USING (incident_id) WHERE i.number = 'SST-1'"
    )
    response = Response.model_validate_json(row)
    assert str(response.follows) == leading["incident_id"]


@pytest.mark.parametrize(
    "seed", range(6)
)  # which topic is served next: some let the one that stops be heard first
@pytest.mark.parametrize("first", ["leader", "follower"])
async def test_an_unfounded_leader_gives_back_what_it_took(
    connection: Any, policy: Policy, areas: Any, first: str, seed: int
) -> None:
    stream = Stream(connection, policy, areas, batch=1, order=Random(seed))
    pair = [case(), sensor()] if first == "leader" else [sensor(), case()]
    await stream.feed([light("SR1")])
    for one in pair:
        await stream.feed([one])
    await work(stream, ["acknowledge"])
    unfounded: Validity = "unfounded"
    await stream.feed([case(validity=unfounded, revised_at=AT + timedelta(days=9))])
    assert await active(connection) == ["SST-1"]
    assert (await decision(connection, "JH1")).rule == "unfounded"
    order = await fix(connection)
    assert (order.state, order.generation) == ("acknowledged", 1)
    heard = [one.state for one in told(stream) if one.reference == order.reference]
    assert "cancelled" not in heard
    await stream.feed([case(validity="valid", revised_at=AT + timedelta(days=10))])
    assert await active(connection) == ["JH1"]
    assert (await fix(connection)).state == "acknowledged"


async def test_a_leader_that_moves_away_unlinks_and_one_that_comes_near_links_anew(
    connection: Any, policy: Policy, areas: Any
) -> None:
    stream = Stream(connection, policy, areas)
    await stream.feed([light("SR1"), sensor()])
    await stream.feed([case(point=FAR, block=None)])
    assert await active(connection) == ["JH1", "SST-1"]
    await stream.feed([case(revised_at=AT + timedelta(days=3))])
    assert await active(connection) == ["JH1"]
    await stream.feed([case(revised_at=AT + timedelta(days=4), occurred_at=AT + timedelta(hours=2))])
    assert await active(connection) == ["JH1", "SST-1"]
    assert (await decision(connection, "SST-1")).rule == "respond"


async def test_a_chain_has_one_active_response_in_every_order(
    connection: Any, policy: Policy, areas: Any
) -> None:
    """The sensor is near the call, the call near the case, the sensor not near the case."""
    west = Point(lat=41.8837, lon=-87.7286)  # 199 m from the corner
    away = Point(lat=41.8837, lon=-87.7310)  # 397 m
    chain = [sensor(point=away), call(point=west), case()]
    first = None
    for seed, order in enumerate(permutations(chain)):
        for table in TABLES.split(", "):
            await connection.execute(f"DELETE FROM {table}")
        stream = Stream(connection, policy, areas, order=Random(seed))
        await stream.feed([light("SR1")])
        for one in order:
            await stream.feed([one])
        assert await active(connection) == ["JH1"]
        tables = await final_tables(connection)
        first = first or tables
        assert not differences(first, tables)


async def test_what_is_simulated_never_leads_what_is_real(
    connection: Any, policy: Policy, areas: Any
) -> None:
    await Stream(connection, policy, areas).feed([sensor(), case(simulated=True)])
    assert await active(connection) == ["JH1", "SST-1"]


async def test_no_cause_is_left_asking_for_what_follows(connection: Any, policy: Policy, areas: Any) -> None:
    await Stream(connection, policy, areas).feed([light("SR1"), sensor(), call(), case()])
    rows = await connection.fetch("SELECT body FROM order_causes")
    causes = [WorkOrderCommand.model_validate_json(row["body"]) for row in rows]
    leader = (await decision(connection, "JH1")).incident_id
    assert {one.incident_id for one in causes if one.standing == "live"} == {leader}
    assert {one.standing for one in causes if one.incident_id != leader} == {"void"}
    assert "Another incident of the same event asks in its place." in " ".join(
        one.because for one in causes if one.standing == "void"
    )
