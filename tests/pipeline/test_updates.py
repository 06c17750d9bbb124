"""What departments say of their orders, through the real agents and the real database."""

from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import ValidationError

from connectors.errors import Transient
from connectors.ports import LedgerRow
from connectors.postgres import audit
from connectors.postgres.orders import PostgresOrders
from connectors.postgres.policies import keep_policy
from connectors.postgres.pool import create_pool
from infra.rebuild import differing, rebuild
from schemas.issue import IssueReport
from schemas.policy import Policy
from schemas.topics import SERVICE_REQUEST_NEWS, WORK_ORDERS, department_topic
from schemas.work_order import DepartmentWorkOrder, WorkOrder
from schemas.work_order_update import ServiceRequestNews, UpdateResult, WorkOrderUpdate
from tests.pipeline.stream import NOW, Stream
from tests.pipeline.test_departments import AT, CORNER, shooting

DAY = timedelta(days=1)


def light(number: str, **changes: Any) -> IssueReport:
    return IssueReport(
        source="city_311", request_number=number, category="street_light", status="open", created_at=AT - DAY,
        revised_at=AT - DAY, address="4001 W WEST END AVE", published_area=26, point=CORNER,
    ).model_copy(update=changes)  # fmt: skip


@pytest.fixture
async def stream(connection: Any, policy: Policy, areas: Any) -> Stream:
    made = Stream(connection, policy, areas)
    await made.feed([shooting("ZZ1"), light("SR1")])
    return made


async def orders(stream: Stream) -> list[WorkOrder]:
    rows = await stream.connection.fetch("SELECT body FROM work_orders ORDER BY order_key, generation")
    return [WorkOrder.model_validate_json(row["body"]) for row in rows]


async def fix(stream: Stream) -> WorkOrder:
    """The order for the street light; the last one at its site."""
    return [order for order in await orders(stream) if order.work == "fix"][-1]


def update(order: WorkOrder, verb: str, number: str = "", **more: Any) -> WorkOrderUpdate:
    fields = {"update_id": f"{verb}{number}", "reference": order.reference, "verb": verb} | more
    return WorkOrderUpdate(**fields)


def seen(stream: Stream, department: str = "cdot") -> list[DepartmentWorkOrder]:
    topic = department_topic(department).name
    return [DepartmentWorkOrder.model_validate_json(one.value) for one in stream.events if one.topic == topic]


def brief(results: list[UpdateResult]) -> list[tuple[str, str, str | None]]:
    return [(one.verdict, one.rule, one.state) for one in results]


async def test_an_order_lives_from_new_to_verified(stream: Stream) -> None:
    order = await fix(stream)
    answers = await stream.say(
        "cdot", update(order, "acknowledge"), update(order, "start", crew="Crew 7"),
        update(order, "hold", reason="weather"), update(order, "resume"), update(order, "resolve", outcome="fixed"),
    )  # fmt: skip
    assert brief(answers) == [
        ("accepted", "counts", "acknowledged"), ("accepted", "counts", "in_progress"),
        ("accepted", "counts", "on_hold"), ("accepted", "counts", "in_progress"), ("accepted", "counts", "resolved"),
    ]  # fmt: skip
    assert [one.version for one in answers] == [2, 3, 4, 5, 6]
    told = [one for one in seen(stream) if one.reference == order.reference]
    assert [(one.version, one.state) for one in told] == [
        (1, "new"), (2, "acknowledged"), (3, "in_progress"), (4, "on_hold"), (5, "in_progress"), (6, "resolved"),
    ]  # fmt: skip
    assert brief(await stream.say("cscc", update(order, "verify"))) == [("accepted", "counts", "verified")]
    done = await fix(stream)
    assert (done.state, done.outcome, done.crew, done.updates) == ("verified", "fixed", "Crew 7", 6)


async def test_what_is_said_again_is_answered_as_before_and_changes_nothing(stream: Stream) -> None:
    order = await fix(stream)
    first = await stream.say("cdot", update(order, "start"))
    snapshots = [one for one in stream.events if one.topic == WORK_ORDERS.name]
    again = await stream.say("cdot", update(order, "start"), update(order, "start"))
    assert again == first * 2
    assert [one for one in stream.events if one.topic == WORK_ORDERS.name] == snapshots
    assert await stream.connection.fetchval("SELECT count(*) FROM order_ledger") == 1
    other = await stream.say("cdot", update(order, "start", text="twice"))
    assert brief(other) == [("refused", "same_id_other_content", None)]
    tried = await audit.rows(stream.connection, actor="department:cdot", subject=None, since=None, limit=9)
    assert [one.outcome for one in tried] == ["refused", "done"]


async def test_an_update_that_is_late_counts_at_its_own_time(stream: Stream) -> None:
    order = await fix(stream)
    await stream.say("cdot", update(order, "start", at=NOW - 4 * DAY))
    early = await stream.say("cdot", update(order, "resume", at=NOW - 1 * DAY))
    assert brief(early) == [("ignored", "nothing_changes", "in_progress")]
    late = await stream.say("cdot", update(order, "hold", reason="utility", at=NOW - 2 * DAY))
    assert brief(late) == [("accepted", "counts", "in_progress")]  # the resume that came before it counts now
    done = await stream.say("cdot", update(order, "resolve", outcome="fixed", at=NOW - 3 * DAY))
    assert brief(done) == [("accepted", "counts", "resolved")]
    assert (await fix(stream)).resolved_at == NOW - 3 * DAY


async def test_another_department_learns_nothing_and_changes_nothing(stream: Stream) -> None:
    order = await fix(stream)
    answers = await stream.say("dss", update(order, "resolve", outcome="fixed"))
    assert brief(answers) == [("refused", "no_such_order", None)]
    assert answers[0].version is None
    assert (await fix(stream)).state == "new"
    rule = await stream.connection.fetchval("SELECT body::json ->> 'rule' FROM order_ledger")
    assert rule == "no_such_order"
    (tried,) = await audit.rows(stream.connection, actor="department:dss", subject=None, since=None, limit=9)
    assert (tried.action, tried.subject, tried.outcome) == ("orders.update", order.reference, "refused")


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ({"verb": "verify"}, "not_yours_to_say"),
        ({"verb": "reopen", "text": "why"}, "not_possible"),
        ({"verb": "hold", "reason": "lunch"}, "unknown_reason"),
        ({"verb": "hold"}, "misfit"),
        ({"verb": "start", "outcome": "fixed"}, "misfit"),
        ({"verb": "start", "at": NOW + DAY}, "from_the_future"),
        ({"verb": "start", "if_version": 7}, "version_conflict"),
        (
            {"verb": "resolve", "outcome": "duplicate_of", "duplicate_of": "WO-00000-00000"},
            "unknown_original",
        ),
        ({"verb": "reject", "text": "not ours", "to_department": "fire"}, "unknown_department"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_rule(
    stream: Stream, said: dict[str, Any], rule: str
) -> None:
    order = await fix(stream)
    said = said | {"update_id": "u"}
    answers = await stream.say("cdot", WorkOrderUpdate(reference=order.reference, **said))
    assert brief(answers) == [("refused", rule, "new")]
    assert await fix(stream) == order


async def test_of_two_who_name_the_same_version_one_is_refused(stream: Stream) -> None:
    order = await fix(stream)
    answers = await stream.say(
        "cdot", update(order, "acknowledge", if_version=1), update(order, "start", if_version=1)
    )
    assert [one.rule for one in answers] == ["counts", "version_conflict"]


async def test_work_that_is_another_s_goes_there_and_never_in_circles(stream: Stream) -> None:
    order = await fix(stream)
    said = update(order, "reject", text="A private lamp.", to_department="dob")
    assert brief(await stream.say("cdot", said)) == [("accepted", "counts", "rejected")]
    assert brief(await stream.say("cdot", said)) == [("accepted", "counts", "rejected")]
    moved = await fix(stream)
    assert (moved.department, moved.state, moved.rejected_by, moved.routing_rule) == (
        "dob", "new", ("cdot",), "rejected",
    )  # fmt: skip
    assert seen(stream, "cdot")[-1].state == "rejected"
    assert seen(stream, "dob")[-1].reference == order.reference
    await stream.say("dob", update(order, "reject", text="Not a building.", to_department="cdot"))
    assert (await fix(stream)).department == "cscc"
    refused = await stream.say("cscc", update(order, "reject", text="Nobody's."))
    assert brief(refused) == [("refused", "nobody_after_the_triage_queue", "new")]
    await stream.say("cscc", update(order, "route", to_department="cdot"))
    assert (await fix(stream)).department == "cdot"


async def test_a_new_shooting_after_the_work_is_done_opens_the_site_s_next_order(stream: Stream) -> None:
    before = [order for order in await orders(stream) if order.work == "inspect"]
    await stream.say(
        "cdot",
        *(update(one, "resolve", str(n), outcome="inspected") for n, one in enumerate(before)
          if one.department == "cdot"),
    )  # fmt: skip
    await stream.feed([shooting("ZZ2", at=AT + 3 * DAY)])
    done = [one for one in before if one.department == "cdot"]
    after = [one for one in await orders(stream) if one.order_key in {order.order_key for order in done}]
    assert {(one.generation, one.state) for one in after} == {(1, "resolved"), (2, "new")}
    assert len({one.reference for one in after}) == 2 * len(done)
    again = await stream.say("cdot", update(done[0], "reopen", text="Dark again."))
    assert brief(again) == [("refused", "work_goes_on", "resolved")]


async def test_what_somebody_has_started_does_not_end_with_the_incident(stream: Stream) -> None:
    order = await fix(stream)
    await stream.say("cdot", update(order, "start"))
    await stream.feed([shooting("ZZ1", validity="unfounded", revised_at=AT + DAY)])
    assert (await fix(stream)).state == "in_progress"
    inspections = [one for one in await orders(stream) if one.work == "inspect"]
    assert {one.state for one in inspections} == {"cancelled"}
    late = await stream.say("cdot", update(inspections[0], "acknowledge"))
    assert [one.rule for one in late] in (["order_cancelled"], ["no_such_order"])


async def test_a_duplicate_closes_with_its_original_and_so_do_the_requests(stream: Stream) -> None:
    await stream.feed([light("SR2", address="4011 W WEST END AVE")])
    both = [order for order in await orders(stream) if order.work == "fix"]
    original, duplicate = both
    await stream.say(
        "cdot", update(duplicate, "resolve", outcome="duplicate_of", duplicate_of=original.reference)
    )
    news = [one for one in stream.events if one.topic == SERVICE_REQUEST_NEWS.name]
    assert news == []  # the light is still out
    await stream.say("cdot", update(original, "resolve", "2", outcome="fixed"))
    told = [ServiceRequestNews.model_validate_json(one.value) for one in stream.events
            if one.topic == SERVICE_REQUEST_NEWS.name]  # fmt: skip
    assert {(one.request_number, one.status, one.outcome) for one in told} == {
        ("SR1", "closed", "fixed"), ("SR2", "closed", "fixed"),
    }  # fmt: skip
    closed = next(one for one in await orders(stream) if one.reference == duplicate.reference)
    assert (closed.outcome, closed.original_outcome) == ("duplicate_of", "fixed")


async def test_an_update_for_an_order_that_nobody_knows_is_parked(stream: Stream) -> None:
    unknown = WorkOrderUpdate(update_id="u", reference="WO-00000-00000", verb="start")
    (answer,) = await stream.say("cdot", unknown)
    assert await stream.connection.fetchval("SELECT count(*) FROM parked_updates") == 1
    another = (
        await fix(stream)
    ).reference  # not theirs: what they read is the same, so nobody can try out what is
    (foreign,) = await stream.say("dss", unknown.model_copy(update={"reference": another}))
    assert foreign.model_dump_json() == answer.model_dump_json().replace(unknown.reference, another)


async def test_a_done_order_is_no_original_of_what_is_asked_for_afterwards(stream: Stream) -> None:
    first = next(order for order in await orders(stream) if order.department == "cdot")
    await stream.say("cdot", update(first, "resolve", outcome="inspected", at=first.opened_at + DAY))
    await stream.feed([shooting("ZZ2", at=AT + 3 * DAY)])
    later = next(
        order
        for order in await orders(stream)
        if order.order_key == first.order_key and order.generation == 2
    )
    said = update(later, "resolve", "2", outcome="duplicate_of", duplicate_of=first.reference)
    assert brief(await stream.say("cdot", said)) == [("refused", "unknown_original", "new")]


async def test_the_ledger_alone_gives_the_orders_again(stream: Stream) -> None:
    order = await fix(stream)
    moment = datetime.fromisoformat("2026-10-01T12:00:00+00:00")
    await stream.say(
        "cdot", update(order, "start", at=moment), update(order, "hold", reason="access", at=moment + DAY)
    )
    await keep_policy(stream.connection, stream.policy)
    assert [one async for one in differing(stream.connection)] == []
    await stream.connection.execute("UPDATE work_orders SET body = replace(body, 'on_hold', 'in_progress')")
    assert [one.reference async for one in differing(stream.connection)] == [order.reference]
    assert await rebuild(stream.connection) == 1
    assert (await fix(stream)).state == "on_hold"
    assert [one async for one in differing(stream.connection)] == []


async def test_one_update_id_for_two_orders_at_once_is_decided_again_not_a_dead_letter(
    stream: Stream,
) -> None:
    order, other = (await orders(stream))[:2]
    row = LedgerRow(order.order_key, order.order_id, 1, "cdot", "u", 1, "accepted", "{}", None)
    store = PostgresOrders(stream.connection)
    await store.add_to_ledger([row])
    with pytest.raises(Transient):
        await store.add_to_ledger([row._replace(order_key=other.order_key, order_id=other.order_id)])


async def test_news_of_a_request_does_not_count_the_causes(stream: Stream) -> None:
    await stream.feed([shooting("ZZ2"), shooting("ZZ3")])
    await stream.say("cdot", update(await fix(stream), "resolve", outcome="fixed"))
    (news,) = [one for one in stream.events if one.topic == SERVICE_REQUEST_NEWS.name]
    assert ServiceRequestNews.model_validate_json(news.value).version == news.version == 1


async def test_an_order_that_ends_on_hold_is_not_held_any_more(stream: Stream) -> None:
    order = await fix(stream)
    await stream.say("cdot", update(order, "hold", reason="weather"))
    await stream.feed([shooting("ZZ1", validity="unfounded", revised_at=AT + DAY)])
    last = [one for one in seen(stream) if one.reference == order.reference][-1]
    assert (last.state, last.hold_reason) == ("cancelled", None)


async def test_what_was_started_and_handed_on_ends_with_its_last_cause(stream: Stream) -> None:
    order = await fix(stream)
    await stream.say("cdot", update(order, "start"), update(order, "reject", text="A private lamp."))
    await stream.feed([shooting("ZZ1", validity="unfounded", revised_at=AT + DAY)])
    assert (await fix(stream)).state == "cancelled"


async def two_lights(stream: Stream) -> tuple[str, str]:
    await stream.feed([light("SR2", address="4011 W WEST END AVE")])
    first, second = [order.reference for order in await orders(stream) if order.work == "fix"]
    return first, second


async def at(stream: Stream, reference: str) -> WorkOrder:
    return next(one for one in await orders(stream) if one.reference == reference)


def news(stream: Stream) -> list[tuple[str, str]]:
    told = [one.value for one in stream.events if one.topic == SERVICE_REQUEST_NEWS.name]
    return [(one.request_number, one.status) for one in map(ServiceRequestNews.model_validate_json, told)]


def duplicate(reference: str, original: str, number: str = "", **more: Any) -> WorkOrderUpdate:
    fields = {"update_id": f"{reference}{number}", "reference": reference, "verb": "resolve"}
    return WorkOrderUpdate(**fields | {"outcome": "duplicate_of", "duplicate_of": original} | more)


async def test_an_original_that_was_resolved_before_its_duplicate_was_named_counts(stream: Stream) -> None:
    first, second = await two_lights(stream)
    await stream.say("cdot", update(await at(stream, first), "resolve", outcome="fixed", at=NOW - 2 * DAY))
    await stream.say("cdot", duplicate(second, first, at=NOW - DAY))
    assert (await at(stream, second)).original_outcome == "fixed"
    assert {one for one, _ in news(stream)} == {"SR1", "SR2"}


async def test_two_orders_are_never_each_other_s_duplicates(stream: Stream) -> None:
    first, second = await two_lights(stream)
    answers = await stream.say("cdot", duplicate(second, first), duplicate(first, second))
    assert [one.rule for one in answers] == ["counts", "unknown_original"]


async def test_who_names_an_original_waits_for_others_who_do(stream: Stream, database_url: str) -> None:
    pool = await create_pool(database_url, max_size=2, lock_timeout_s=0.05)
    async with stream.connection.transaction(), pool.acquire() as other:
        await PostgresOrders(stream.connection).originals(["WO-00000-00000"])
        with pytest.raises(asyncpg.LockNotAvailableError):
            await PostgresOrders(other).originals(["WO-00000-00001"])
    await pool.close()


async def test_requests_of_a_duplicate_are_open_again_with_its_original(stream: Stream) -> None:
    first, second = await two_lights(stream)
    await stream.say("cdot", duplicate(second, first))
    await stream.say("cdot", update(await at(stream, first), "resolve", outcome="fixed"))
    await stream.say("cdot", update(await at(stream, first), "reopen", text="Dark again."))
    assert {**dict(news(stream))} == {"SR1": "open", "SR2": "open"}
    await stream.say("cdot", update(await at(stream, first), "resolve", "2", outcome="fixed"))
    assert {**dict(news(stream))} == {"SR1": "closed", "SR2": "closed"}


async def test_named_again_as_a_duplicate_it_ends_with_its_original(stream: Stream) -> None:
    first, second = await two_lights(stream)
    await stream.say("cdot", duplicate(second, first))
    await stream.say("cdot", update(await at(stream, first), "resolve", outcome="fixed"))
    await stream.say("cdot", update(await at(stream, second), "reopen", text="Another lamp?"))
    assert dict(news(stream)) == {"SR1": "closed", "SR2": "open"}
    await stream.say("cdot", duplicate(second, first, "again"))
    assert dict(news(stream)) == {"SR1": "closed", "SR2": "closed"}


async def test_a_duplicate_of_what_was_cancelled_is_to_be_done_after_all(stream: Stream) -> None:
    first, second = await two_lights(stream)
    await stream.say("cdot", duplicate(second, first))
    await stream.say("cscc", update(await at(stream, first), "cancel", text="A mistake."))
    assert (await at(stream, second)).state == "reopened"
    assert [one.state for one in seen(stream) if one.reference == second][-1] == "reopened"
    refused = await stream.say("cdot", duplicate(second, first, "again"))
    assert brief(refused) == [("refused", "unknown_original", "reopened")]
    await keep_policy(stream.connection, stream.policy)
    assert [one async for one in differing(stream.connection)] == []


async def test_resolved_as_a_duplicate_of_another_one_contradicts(stream: Stream) -> None:
    first, second = await two_lights(stream)
    third = next(
        one.reference for one in await orders(stream) if one.work == "inspect" and one.department == "cdot"
    )
    await stream.say("cdot", duplicate(second, first))
    assert brief(await stream.say("cdot", duplicate(second, third, "2"))) == [
        ("refused", "not_possible", "resolved")
    ]


async def test_a_fast_clock_does_not_put_what_is_said_after_what_follows(stream: Stream) -> None:
    order, ahead = await fix(stream), NOW + timedelta(seconds=60)
    await stream.say("cdot", update(order, "start"))
    await stream.say("cdot", update(order, "hold", reason="weather", at=ahead))
    assert brief(await stream.say("cdot", update(order, "resume"))) == [("accepted", "counts", "in_progress")]


async def test_a_slow_clock_does_not_put_what_is_said_before_the_order_was_theirs(stream: Stream) -> None:
    order = await fix(stream)
    await stream.say("cdot", update(order, "reject", text="A private lamp.", to_department="dob"))
    await stream.say("dob", update(order, "reject", text="Not a building.", at=NOW - DAY))
    moved = await fix(stream)
    assert (moved.department, moved.rejected_by) == ("cscc", ("cdot", "dob"))


async def test_what_was_said_of_an_order_that_had_been_handed_on_before_does_not_count(
    stream: Stream,
) -> None:
    order = await fix(stream)
    await stream.say("cdot", update(order, "start", crew="Crew 7", at=NOW - DAY))
    await stream.say("cscc", update(order, "route", to_department="dob", at=NOW - 2 * DAY))
    moved = await fix(stream)
    assert (moved.department, moved.state, moved.crew) == ("dob", "new", None)


async def test_nothing_happened_to_an_order_before_the_day_on_which_it_was_opened(stream: Stream) -> None:
    order = await fix(stream)
    await stream.say("cdot", update(order, "resolve", outcome="fixed", at=AT - 400 * DAY))
    resolved = (await fix(stream)).resolved_at
    assert resolved is not None
    assert timedelta() <= order.opened_at - resolved < DAY


async def test_late_work_does_not_open_an_order_beside_the_site_s_next_one(stream: Stream) -> None:
    order = await fix(stream)
    await stream.say("cdot", update(order, "note", text="Locked."))
    await stream.feed([shooting("ZZ1", validity="unfounded", revised_at=AT + DAY)])
    await stream.feed([shooting("ZZ2", at=AT + 2 * DAY)])
    late = await stream.say("cdot", update(order, "start", at=AT))
    assert [one.rule for one in late] == ["work_goes_on"]
    at_site = [one.state for one in await orders(stream) if one.order_key == order.order_key]
    assert at_site == ["cancelled", "new"]


async def test_an_order_is_reopened_when_nothing_came_of_the_next_one(stream: Stream) -> None:
    order = await fix(stream)
    await stream.say("cdot", update(order, "resolve", outcome="fixed"))
    await stream.feed([shooting("ZZ2", at=AT + 2 * DAY)])
    await stream.feed([shooting("ZZ2", at=AT + 2 * DAY, validity="unfounded", revised_at=AT + 3 * DAY)])
    again = await stream.say("cdot", update(order, "reopen", text="Dark again."))
    assert brief(again) == [("accepted", "counts", "reopened")]
    await stream.feed([shooting("ZZ2", at=AT + 2 * DAY, revised_at=AT + 4 * DAY)])
    at_site = [one.state for one in await orders(stream) if one.order_key == order.order_key]
    assert [one for one in at_site if one not in ("cancelled", "void")] == ["reopened"]


async def test_another_department_s_next_order_is_not_named(stream: Stream) -> None:
    order = await fix(stream)
    await stream.say("cdot", update(order, "resolve", outcome="fixed"))
    await stream.feed([shooting("ZZ2", at=AT + 2 * DAY)])
    following = await fix(stream)
    await stream.say("cscc", update(following, "route", to_department="dob"))
    (again,) = await stream.say("cdot", update(order, "reopen", text="Dark again."))
    assert (again.rule, following.reference in again.because) == ("work_goes_on", False)


def test_a_text_that_postgresql_could_not_read_back_is_no_update() -> None:
    with pytest.raises(ValidationError):
        WorkOrderUpdate(update_id="u", reference="WO-00000-00000", verb="note", text="a\x00b")
