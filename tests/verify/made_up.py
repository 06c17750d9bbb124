"""A world with something of everything, and doubles for the broker and the courier."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.geography.areas import Areas
from connectors.postgres import audit, webhooks
from connectors.postgres.policies import keep_policy
from connectors.webhooks.schedule import Answer, Step
from infra.verify.world import Read, Records
from schemas.alert import Alert, AlertCommand
from schemas.base import Point
from schemas.envelope import Event, event_id
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.policy import Policy
from schemas.work_order import WorkOrder
from schemas.work_order_update import WorkOrderUpdate
from tests.pipeline.stream import Stream

AT = datetime(2026, 7, 4, 3, 12, 41, tzinfo=UTC)
DAY = timedelta(days=1)
CORNER = Point(lat=41.8837, lon=-87.7262)
FAR = Point(lat=41.7795, lon=-87.6645)  # West Englewood
ENDPOINT = "wh_crew"


def shooting(number: str, **changes: Any) -> IncidentReport:
    return IncidentReport(
        source="cad", report_id=f"CAD-{number}-1", incident_number=number, occurred_at=AT, revised_at=AT,
        event="assault", gunshot_injury=True, block="4000 W WEST END AVE", point=CORNER,
    ).model_copy(update=changes)  # fmt: skip


def light(number: str, **changes: Any) -> IssueReport:
    return IssueReport(
        source="city_311", request_number=number, category="street_light", status="open", created_at=AT - DAY,
        revised_at=AT - DAY, address="4001 W WEST END AVE", published_area=26, point=CORNER,
    ).model_copy(update=changes)  # fmt: skip


def update(order: WorkOrder, verb: str, number: str = "", **more: Any) -> WorkOrderUpdate:
    fields = {"update_id": f"{verb}{number}", "reference": order.reference, "verb": verb} | more
    return WorkOrderUpdate(**fields)


async def make_world(connection: Any, policy: Policy, areas: Areas) -> list[Event]:
    """Incidents, requests, updates of every verdict, an audit trail, a webhook; what the agents published."""
    await keep_policy(connection, policy)
    stream = Stream(connection, policy, areas)
    await stream.feed([shooting("JK512345"), light("SR26-01234567")])
    await stream.feed([light("SR26-01234568", address="4011 W WEST END AVE")])
    await stream.feed([shooting("JK512399", point=FAR, block="6400 S HERMITAGE AVE", occurred_at=AT + DAY)])
    await _departments_speak(stream)
    await _time_passes(stream)
    unfounded = {"validity": "unfounded", "revised_at": AT + 2 * DAY, "occurred_at": AT + DAY}
    await stream.feed([shooting("JK512399", point=FAR, block="6400 S HERMITAGE AVE", **unfounded)])
    await _responses_settle(stream)
    await _trail(connection)
    await _deliver(connection)
    return stream.events


async def orders_of(connection: Any) -> list[WorkOrder]:
    rows = await connection.fetch("SELECT body FROM work_orders ORDER BY order_key, generation")
    return [WorkOrder.model_validate_json(row["body"]) for row in rows]


async def _departments_speak(stream: Stream) -> None:
    found = await orders_of(stream.connection)
    original, duplicate = [order for order in found if order.work == "fix"]
    inspection = next(order for order in found if order.work == "inspect" and order.department == "cdot")
    await stream.say(
        "cdot", update(original, "acknowledge"), update(original, "start", crew="Crew 7"),
        update(original, "start", crew="Crew 7"), update(original, "start", text="another one"),
        update(original, "hold", reason="police_scene"), update(original, "resume"),
        update(original, "hold", "-lunch", reason="lunch"),
    )  # fmt: skip
    no_update = f'{{"update_id": "start", "reference": "{original.reference}", "verb": "begin"}}'
    await stream.send("cdot", no_update.encode())
    await stream.say("dss", update(original, "resolve", outcome="fixed"))
    await stream.say(
        "cdot", update(duplicate, "resolve", outcome="duplicate_of", duplicate_of=original.reference)
    )
    await stream.say(
        "cdot", update(original, "resolve", "-1", outcome="fixed", photo="https://example.org/1.jpg")
    )
    await stream.say("cscc", update(original, "verify"))
    await stream.say("cdot", update(inspection, "reject", text="Not our lamp.", to_department="dob"))
    await stream.say("cdot", WorkOrderUpdate(update_id="early", reference="WO-00000-00000", verb="start"))


async def _time_passes(stream: Stream) -> None:
    """Promises are broken; somebody acknowledges the first alert."""
    await stream.wait(stream.now + 2 * DAY)
    alert = await stream.connection.fetchval(
        "SELECT body FROM alerts WHERE state = 'open' AND clock = 'inspect' ORDER BY at, alert_id LIMIT 1"
    )
    one = Alert.model_validate_json(alert)
    seen = AlertCommand(
        order_key=one.order_key, order_id=one.order_id, reference=one.reference, alert_id=one.alert_id,
        command_id="seen", kind="acknowledge", by="ana", received_at=stream.now,
    )  # fmt: skip
    await stream.do(seen)
    await stream.wait(stream.now + DAY)


async def _responses_settle(stream: Stream) -> None:
    """What was heard late corrects what was closed."""
    stream.now += timedelta(minutes=10)
    for timer in await stream.connection.fetch("SELECT * FROM timers WHERE kind = 'response'"):
        await stream.nudge(timer, stream.now)


async def _trail(connection: Any) -> None:
    async with connection.transaction():
        await audit.write(connection, [audit.Entry("cli:me", "keys.create", f"key {n}") for n in range(3)])


async def _deliver(connection: Any) -> None:
    """As the courier does it, with a receiver that takes everything."""
    await webhooks.add(connection, ENDPOINT, "cdot", "https://example.org", "whsec_x", from_start=True)
    await webhooks.claim(connection, "courier", 60.0, 1)
    while parcel := await webhooks.next_parcel(connection, ENDPOINT, "courier", 60.0):
        answer = Answer("answered", 200, None, "It was taken.")
        assert await webhooks.record(connection, "courier", parcel, answer, Step("delivered", 0.0))


def read_of(event: Event) -> Read:
    """The record that an event becomes."""
    value = event.value.decode()
    name = str(event_id(event.topic, event.key, event.version, event.subject))
    correlation = f"\nce_correlationid: {event.correlation}" if event.correlation else ""
    data = f"{event.key}\n{value}\nce_subject: {event.subject}{correlation}"
    return Read(event.topic, event.key, name, value, data.encode())


def records_of(events: Sequence[Event]) -> Records:
    """A broker that holds these."""

    async def read(topics: Sequence[str]) -> AsyncIterator[Read]:
        for event in events:
            if event.topic in topics:
                yield read_of(event)

    return read
