"""One site's orders under any sequence of causes and updates: what must hold whatever is said in which order."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from agents.orders.agent import Around, Said, _take, said_of
from agents.orders.judge import MOST_ENTRIES
from agents.orders.life import CLOSED
from agents.orders.rebuild import again
from agents.orders.site import Answered, Site, is_closed
from agents.sla.book import Book
from connectors.ports import SiteRows
from infra.policy.load import load_policy
from schemas.work_order import DepartmentWorkOrder, WorkOrderCommand, order_id_of, reference_of
from schemas.work_order_update import UpdateCommand, WorkOrderUpdate
from tests.unit.made_up import AT
from tests.unit.test_order_life import MADE_FOR
from tests.unit.test_orders_decide import cause

POLICY = load_policy()
KEY = cause().order_key
REFERENCES = [reference_of(order_id_of(KEY, generation).int) for generation in (1, 2, 3)]
VERBS = sorted({*MADE_FOR, "acknowledge", "start", "resume", "verify"})

causes = st.builds(
    lambda number, version, standing: cause(
        number, version=version, standing=standing,
        ended_at=AT + timedelta(days=3, hours=4) if standing == "withdrawn" else None,
    ),
    st.integers(1, 3), st.integers(1, 6), st.sampled_from(["live", "withdrawn", "void"]),
)  # fmt: skip
updates = st.builds(
    lambda department, number, reference, verb, hours, version: UpdateCommand(
        order_key=KEY, department=department, received_at=AT + timedelta(days=30),
        update=WorkOrderUpdate(
            update_id=f"{number}", reference=reference, verb=verb, at=AT + timedelta(days=3, hours=hours),
            if_version=version, **MADE_FOR.get(verb, {}),
        ),
    ),
    st.sampled_from(["cdot", "cdot", "cdot", "cscc", "dss"]), st.integers(1, 12), st.sampled_from(REFERENCES),
    st.sampled_from(VERBS), st.integers(0, 9), st.sampled_from([None, None, None, 1, 2]),
)  # fmt: skip
commands = st.lists(st.one_of(causes, updates, updates), min_size=1, max_size=25).map(
    lambda said: [cause(1, version=1), *said]
)


NOW = AT + timedelta(days=30)
BOOK = Book([POLICY])


def run(said: list[WorkOrderCommand | UpdateCommand]) -> tuple[Site, list[Answered]]:
    """Everything in one batch."""
    site, around, answers = Site(KEY, POLICY, BOOK, NOW), Around({}, {}, {}), []
    for command in said:
        answer = _take(site, command, around)
        if answer:
            answers.append(answer)
    site.settle()
    return site, answers


def unversioned(one: UpdateCommand) -> UpdateCommand:
    return one.model_copy(update={"update": one.update.model_copy(update={"if_version": None})})


@given(said=commands)
def test_the_projection_is_what_causes_and_ledger_say(said: list[Any]) -> None:
    site, _ = run(said)
    rows = SiteRows(
        list(site.causes.values()), list(site.orders.values()),
        {known.order.order_id: site.entries.get(number, []) for number, known in site.orders.items()}, {},
    )  # fmt: skip
    assert [one.reference for one in again(rows, {POLICY.version: POLICY}) if one.differs] == []


@given(said=commands)
def test_every_update_is_answered_and_counts_once(said: list[Any]) -> None:
    site, answers = run(said)
    spoken = [one for one in said if isinstance(one, UpdateCommand)]
    assert [(one.department, one.result.update_id) for one in answers] == [said_of(one) for one in spoken]
    entries = [entry for held in site.entries.values() for entry in held]
    ids = [Said(entry.department, entry.update.update_id) for entry in entries if entry.update]
    assert len(ids) == len(set(ids))
    assert sum(known.order.updates for known in site.orders.values()) == sum(
        entry.verdict != "refused" for entry in entries
    )


@given(said=commands)
def test_said_again_nothing_changes(said: list[Any]) -> None:
    once, first = run(said)
    twice, answers = run([*said, *said])
    assert twice.orders == once.orders
    again_answered = [one for one in answers[len(first) :] if one.result.rule != "same_id_other_content"]
    bodies = {one.body for one in first}
    assert {one.body for one in again_answered} <= bodies


@given(said=commands)
def test_versions_only_grow_and_a_department_hears_each_once(said: list[Any]) -> None:
    site, _ = run(said)
    versions: dict[UUID, int] = {}
    told: dict[UUID, int] = {}
    for turn in site.turns:
        order = turn.after.order
        assert order.version > versions.get(order.order_id, -1)
        assert turn.after.told - told.get(order.order_id, 0) in (0, 1)
        versions[order.order_id], told[order.order_id] = order.version, turn.after.told
        if turn.after.department_body:
            seen = DepartmentWorkOrder.model_validate_json(turn.after.department_body)
            assert seen.version == turn.after.told


@given(said=commands)
def test_a_site_has_one_open_order_unless_a_person_reopened_one(said: list[Any]) -> None:
    site, _ = run(said)
    still_open = [known.order for known in site.orders.values() if known.order.state not in CLOSED]
    assert len(still_open) <= 1
    assert sorted(site.orders) == list(range(1, len(site.orders) + 1))


@given(said=commands)
def test_what_asks_anew_after_the_work_was_closed_opens_the_next_order(said: list[Any]) -> None:
    site, around = Site(KEY, POLICY, BOOK, NOW), Around({}, {}, {})
    for command in said:
        before = dict(site.orders)
        rows = [row for row in site.causes.values() if row.cause_id == getattr(command, "cause_id", None)]
        old = max(rows, key=lambda row: row.version, default=None)
        _take(site, command, around)
        site.settle()
        if not isinstance(command, WorkOrderCommand) or command.standing != "live":
            continue
        if old is not None and (old.standing == "live" or command.version <= old.version):
            continue
        last = before[max(before)].order if before else None
        if any(known.order.state not in CLOSED for known in before.values()):
            assert len(site.orders) == len(before)
        elif last is None or is_closed(last):
            assert site.orders[max(site.orders)].order.state == "new"
            assert len(site.orders) == len(before) + 1
        else:
            assert len(site.orders) == len(before)


@given(said=commands)
def test_the_size_of_batches_does_not_show(said: list[Any]) -> None:
    """Except to who names a version: a batch tells a department less often."""
    said = [one if isinstance(one, WorkOrderCommand) else unversioned(one) for one in said]
    site, _ = run(said)
    apart, around = Site(KEY, POLICY, BOOK, NOW), Around({}, {}, {})
    for command in said:
        _take(apart, command, around)
        apart.settle()
    assert {n: known.order for n, known in apart.orders.items()} == {
        n: k.order for n, k in site.orders.items()
    }
    assert apart.entries == site.entries


def say(number: int, verb: str, reference: str = REFERENCES[0], **more: Any) -> UpdateCommand:
    fields = {"update_id": f"{verb}{number}", "reference": reference, "verb": verb} | MADE_FOR.get(verb, {})
    received_at = AT + timedelta(days=4, minutes=number)
    update = WorkOrderUpdate(**fields | more)
    return UpdateCommand(order_key=KEY, department="cdot", received_at=received_at, update=update)


def test_a_system_that_repeats_itself_for_ever_is_stopped_and_may_still_resolve() -> None:
    site, answers = run([cause(), *(say(n, "note") for n in range(MOST_ENTRIES + 5)), say(999, "resolve")])
    assert [one.result.rule for one in answers].count("too_much_said") == 5
    assert (answers[-1].result.verdict, site.orders[1].order.state) == ("accepted", "resolved")


def test_about_as_many_as_the_policy_says_are_looked_at_again_and_nobody_chooses_which() -> None:
    policy = POLICY.model_copy(update={"reinspect": {"cdot": 30}})
    drawn = []
    book = Book([policy])
    for number in range(200):
        site = Site(KEY, policy, book, NOW)
        for command in (cause(), say(number, "resolve", update_id="always-the-same")):
            _take(site, command, Around({}, {}, {}))
        site.settle()
        drawn.append(site.orders[1].order.verify)
    assert 40 <= sum(drawn) <= 80
    again = Site(KEY, policy, BOOK, NOW)
    for command in (cause(), say(7, "resolve", update_id="another")):
        _take(again, command, Around({}, {}, {}))
    assert again.orders[1].order.verify == drawn[7]
