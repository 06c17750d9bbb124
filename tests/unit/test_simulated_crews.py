"""How simulated crews behave: the same seed and order, the same words; and everything that departments do occurs."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import pairwise

import pytest
import typer

from infra.cli.errors import Oops
from infra.cli.simulate import times_faster
from infra.policy.load import SHIPPED, load_policy
from infra.simulate.departments.behaviour import (
    LONGEST_S,
    Crew,
    Planned,
    course,
    look_again,
    route,
    visit,
)
from infra.simulate.departments.command import uses_of
from infra.simulate.departments.crew import Crew as Worker
from infra.simulate.departments.crew import Declined, Listener
from infra.simulate.faults import schedule
from schemas.policy import Policy
from schemas.work_order import DepartmentWorkOrder, WorkOrder, order_id_of, reference_of
from schemas.work_order_update import UpdateResult, WorkOrderUpdate, misfit

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
TELLTALE = ("shoot", "shot", "gun", "homicide", "victim", "incident", "crime", "police report")
MANY = 600


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(SHIPPED)


@pytest.fixture(scope="module")
def crew(policy: Policy) -> Crew:
    return Crew.of(policy, "cdot", 7)


def order(number: int = 1, *, version: int = 1, state: str = "new", work: str = "fix") -> DepartmentWorkOrder:
    return DepartmentWorkOrder.model_validate({
        "reference": reference_of(order_id_of(f"order {number}").int), "version": version, "state": state,
        "category": "street_light", "work": work, "title": "Repair street light", "address": "4015 W WEST END AVE",
        "point": None, "area": 26, "priority": "high", "requested_on": date(2026, 7, 2), "outcome": None,
        "hold_reason": None, "crew": None, "estimate": None, "service_requests": (), "simulated": True,
    })  # fmt: skip


def restricted(number: int, *, verify: bool, state: str = "resolved") -> WorkOrder:
    seen = order(number)
    return WorkOrder.model_validate({
        "order_id": order_id_of(f"order {number}"), "order_key": f"street_light|fix|{number}", "generation": 1,
        "reference": seen.reference, "version": 5, "state": state, "category": seen.category, "work": "fix",
        "site": {"key": f"{number}", "basis": "block", "address": None, "point": None, "area": None},
        "department": "cdot", "routing_rule": "owner", "priority": "high", "opened_at": NOW, "cancelled_at": None,
        "updates": 3, "acknowledged_at": NOW, "resolved_at": NOW, "outcome": "fixed", "hold_reason": None,
        "crew": None, "estimate": None, "rejected_by": (), "duplicate_of": None, "duplicates": (),
        "original_outcome": None, "verify": verify, "covers": (), "incident_ids": (), "policy_version": "1",
        "simulated": True,
    })  # fmt: skip


def visits(crew: Crew, number: int = 1) -> list[tuple[Planned, ...]]:
    known = [order(one).reference for one in range(5)]
    return [
        visit(crew, order(one, work="fix" if one % 2 else "inspect"), number, known) for one in range(MANY)
    ]


# -- one visit


def test_the_same_seed_and_order_give_the_same_words_and_another_seed_others(crew: Crew) -> None:
    assert visits(crew) == visits(crew)
    assert visits(crew) != visits(crew._replace(seed=8))


def test_every_update_has_what_its_verb_needs_and_nothing_else(crew: Crew) -> None:
    said = [one.dated(NOW, 1_000) for planned in visits(crew) for one in planned]
    assert [misfit(one) for one in said if misfit(one)] == []
    ids = Counter(one.update_id for one in said)
    assert max(ids.values()) == 1


def test_nothing_is_said_before_it_happened_and_all_within_some_days(crew: Crew) -> None:
    for one in (one for planned in visits(crew) for one in planned):
        assert 0 < one.happens_s <= one.sent_s <= LONGEST_S + 60
        said = one.dated(NOW, 100)
        assert said.at == NOW + timedelta(seconds=one.happens_s / 100)


def test_what_departments_do_all_occurs(crew: Crew) -> None:
    planned = visits(crew)
    flat = [one for plan in planned for one in plan]
    verbs = Counter(one.update.verb for one in flat)
    assert {
        "acknowledge",
        "start",
        "hold",
        "resume",
        "resolve",
        "reject",
        "note",
        "photo",
        "estimate",
    } <= verbs.keys()
    assert () in planned  # silence
    assert any(plan and plan[0].update.verb == "start" for plan in planned)
    assert any(one.copies == 2 for one in flat)
    assert any(one.sent_s - one.happens_s > 3_600 for one in flat)
    assert any(a.happens_s > b.happens_s for plan in planned for a, b in pairwise(plan))  # in another order
    assert any(one.update.if_version for one in flat)
    assert any(one.update.reason == "lunch" for one in flat)
    outcomes = {one.update.outcome for one in flat}
    assert {"fixed", "found_working", "no_such_address", "inspected", "duplicate_of"} <= outcomes
    assert any(
        sum(one.update.verb == "resolve" and not one.update.if_version for one in plan) == 2
        for plan in planned
    )


def test_who_was_told_again_does_not_reject(crew: Crew) -> None:
    assert not any(one.update.verb == "reject" for plan in visits(crew, 2) for one in plan)


def test_what_reaches_the_centre_goes_to_its_owner_then_to_another_then_to_nobody(policy: Policy) -> None:
    centre = Crew.of(policy, policy.triage_queue, 1)
    said = [route(centre, order(), number, policy)[0].update for number in (1, 2, 3)]
    assert [one.verb for one in said] == ["route", "route", "cancel"]
    assert said[0].to_department == "cdot"
    assert said[1].to_department in centre.others


def test_the_centre_looks_at_every_order_that_is_drawn_and_hears_of_few_others(policy: Policy) -> None:
    centre = Crew.of(policy, policy.triage_queue, 1)
    drawn = [look_again(centre, restricted(one, verify=True)) for one in range(200)]
    others = [look_again(centre, restricted(one, verify=False)) for one in range(200)]
    assert {one.update.verb for plan in drawn for one in plan} == {"verify", "reopen"}
    assert all(drawn)
    assert {one.update.verb for plan in others for one in plan} == {"reopen"}
    assert 0 < sum(map(bool, others)) < 40
    assert look_again(centre, restricted(1, verify=False, state="in_progress")) == ()


def test_a_citys_requests_begin_end_and_sometimes_begin_again() -> None:
    courses = [course(3, f"request {number}") for number in range(MANY)]
    assert courses == [course(3, f"request {number}") for number in range(MANY)]
    assert () in courses
    assert any("closed" in [change.status for change in one[:-1]] for one in courses)
    assert all(a.after_s < b.after_s for one in courses for a, b in pairwise(one))
    assert all(one[-1].status == "closed" for one in courses if one)


def test_no_word_of_theirs_tells_of_an_incident(policy: Policy, crew: Crew) -> None:
    centre = Crew.of(policy, policy.triage_queue, 1)
    said = [one.update for plan in visits(crew) for one in plan]
    said += [one.update for one in route(centre, order(), 3, policy)]
    said += [
        one.update for number in range(200) for one in look_again(centre, restricted(number, verify=True))
    ]
    words = {text.lower() for one in said for text in (one.text, one.by, one.crew) if text}
    words |= {one.notes.lower() for number in range(MANY) for one in course(1, f"{number}") if one.notes}
    assert len(words) > 5
    assert [word for word in words if any(part in word for part in TELLTALE)] == []


# -- a crew at work


class Answering:
    """An interface that answers each update at once; what `declines` says, it declines."""

    name = "double"

    def __init__(self, declines: Callable[[WorkOrderUpdate], bool] = lambda _: False) -> None:
        self.said: list[WorkOrderUpdate] = []
        self.declines = declines
        self.listener: Listener | None = None

    async def listen(self, listener: Listener) -> None:
        self.listener = listener
        await asyncio.Event().wait()

    async def say(self, update: WorkOrderUpdate) -> None:
        self.said.append(update)
        if self.declines(update):
            raise Declined("http_404")
        assert self.listener is not None
        self.listener.hear_answer(
            UpdateResult(
                update_id=update.update_id, reference=update.reference, verdict="accepted", rule="counts",
                because="It counts.", state="acknowledged", version=2,
            )
        )  # fmt: skip


async def worked(worker: Worker, *told: DepartmentWorkOrder) -> None:
    """Tell a crew, and let it work until it has nothing to say."""
    working = asyncio.create_task(worker.work())
    for one in told:
        worker.hear_order(one)
    async with asyncio.timeout(10):
        while not worker.is_idle(0.0):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


def always(crew: Crew, one: DepartmentWorkOrder, _number: int, _known: Sequence[str]) -> tuple[Planned, ...]:
    """A plan without silence: acknowledge, twice, then resolve."""
    update = WorkOrderUpdate(
        update_id=f"{one.reference}-{one.version}", reference=one.reference, verb="acknowledge"
    )
    done = update.model_copy(
        update={"update_id": f"{update.update_id}-done", "verb": "resolve", "outcome": "fixed"}
    )
    return (Planned(1, 1, update, copies=2), Planned(2, 2, done))


async def test_a_crew_says_what_it_planned_and_counts_the_answers(crew: Crew) -> None:
    interface = Answering()
    worker = Worker("cdot", interface, partial(always, crew), 1_000)
    await worked(worker, order(1), order(2))
    assert Counter(one.verb for one in interface.said) == {"acknowledge": 4, "resolve": 2}
    assert worker.answers == {("accepted", "counts"): 6}
    answered = UpdateResult(
        update_id=interface.said[0].update_id, reference=order(1).reference, verdict="accepted", rule="counts",
        because="It counts.", state="acknowledged", version=2,
    )  # fmt: skip
    worker.hear_answer(answered)  # once more, as Kafka may
    assert worker.answers == {("accepted", "counts"): 6}
    assert {line["reference"] for line in worker.last_seen()} == {order(1).reference, order(2).reference}


async def test_an_older_version_is_no_news_and_a_new_priority_no_second_visit(crew: Crew) -> None:
    interface = Answering()
    worker = Worker("cdot", interface, partial(always, crew), 1_000)
    await worked(worker, order(1, version=2), order(1, version=1), order(1, version=3))
    assert len(interface.said) == 3
    assert worker.last_seen() == [
        {"department": "cdot", "reference": order(1).reference, "version": 3, "state": "new"}
    ]


async def test_what_is_reopened_is_done_again_and_what_is_over_no_more(crew: Crew) -> None:
    interface = Answering()
    worker = Worker("cdot", interface, partial(always, crew), 1_000)
    await worked(
        worker, order(1), order(1, version=4, state="resolved"), order(1, version=5, state="reopened")
    )
    assert Counter(one.verb for one in interface.said)["resolve"] == 2
    await worked(worker, order(2), order(2, version=2, state="cancelled"))
    assert [one for one in interface.said if one.reference == order(2).reference] == []


async def test_what_the_interface_declines_is_not_waited_for(crew: Crew) -> None:
    worker = Worker("cdot", Answering(lambda one: one.verb == "resolve"), partial(always, crew), 1_000)
    await worked(worker, order(1))
    assert worker.answers == {("accepted", "counts"): 2, ("declined", "http_404"): 1}


# -- the command, and the kills


def test_departments_and_interfaces_that_are_none_are_refused(policy: Policy) -> None:
    assert uses_of(["dob=rest"], policy) == {"dob": "rest"}
    assert set(uses_of([], policy).values()) == {"kafka", "rest", "webhook", "open311"}
    for wrong in ("dob", "dob=fax", "parks=rest"):
        with pytest.raises(Oops, match="expected DEPARTMENT=INTERFACE, with one of cdot, cscc, dob, dss"):
            uses_of([wrong], policy)


def test_a_pace_is_a_factor() -> None:
    assert times_faster("100x") == times_faster("100") == 100
    for wrong in ("fast", "0.5x", "nan", "inf", "-1x"):
        with pytest.raises(typer.BadParameter, match="expected a factor"):
            times_faster(wrong)


def test_kills_are_spread_over_the_day_and_the_broker_is_not_the_first() -> None:
    parts = {"worker": 3, "api": 2, "broker": 1}
    for seed in range(50):
        planned = schedule(seed, parts)
        assert Counter(one.part for one in planned) == parts
        assert planned[0].part != "broker"
        assert [one.share for one in planned] == sorted(one.share for one in planned)
        assert 0.1 <= planned[0].share < planned[-1].share < 0.95
    assert schedule(1, parts) == schedule(1, parts)
    assert len({schedule(seed, parts) for seed in range(10)}) > 1
