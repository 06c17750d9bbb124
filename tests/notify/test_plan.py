"""What events mean for those who are told: whom, over what, and what is needed no more. Pure."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agents.notify.gather import bundles
from agents.notify.plan import SAID_ANEW, Circle, Desk, Plan
from agents.notify.samples import item
from agents.notify.trouble import Outage, Stranded, instead, of_outage
from schemas.alert import AlertEvent, AlertEventKind
from schemas.notification import Held, Item, ItemKind, Notification, Wait, Waiting
from schemas.oncall import OncallPolicy, Override
from tests.notify.world import START, fired, people, person

URLS = {"mail": "json://a", "phone": "json://b", "desk": "json://c", "duty": "json://d"}
PAT, KIM, LEE, ADA = (
    person("pat", "mail", "phone"),
    person("kim", "desk"),
    person("lee", "duty"),
    person("ada", "duty"),
)
ONCALL = people(URLS, PAT, KIM, LEE, ADA, levels={1: ["kim"], 2: ["pat"], 3: ["lee"], 4: ["ada"]})


def desk(oncall: OncallPolicy = ONCALL, overrides: Sequence[Override] = (), dead: Iterable[str] = ()) -> Desk:
    return Desk(Circle(oncall, overrides, frozenset(dead)), START, timedelta(seconds=20))


def planned(*events: AlertEvent, at: Desk | None = None, held: Any = None) -> Plan:
    plan = Plan(at or desk(), held or {})
    for event in events:
        plan.take(event)
    return plan


def told(plan: Plan, kind: ItemKind = "alert") -> list[tuple[str, str, str]]:
    return [(one.person, one.channel, one.state) for one in plan.new.values() if one.item.kind == kind]


def kept(
    event: AlertEvent, who: str, channel: str, state: str, *, perhaps: bool = False
) -> dict[str, dict[str, Held]]:
    """A notification of the alert's first event as it is kept."""
    one = Notification(str(event.alert.alert_id), 1, who, channel, "gathering", START, item())
    held = Held(one.notification_id, who, channel, "alert", state, perhaps)
    return {one.subject: {one.notification_id: held}}


def test_an_alert_tells_the_people_of_its_level_over_each_of_their_channels() -> None:
    assert told(planned(fired())) == [("pat", "mail", "waiting"), ("pat", "phone", "waiting")]
    assert told(planned(fired(level=1))) == [("kim", "desk", "waiting")]


def test_events_that_tell_nobody_change_nothing() -> None:
    for kind in ("superseded", "silenced", "nobody_there"):
        plan = planned(fired(1, kind))
        assert (plan.new, plan.not_needed, plan.commands) == ({}, {}, [])


def test_an_alert_that_was_handed_over_tells_the_person_or_role() -> None:
    assert told(planned(fired(1, "handed_over", 2, handed_to="kim"))) == [("kim", "desk", "waiting")]
    assert told(planned(fired(1, "handed_over", 2, handed_to="role3"))) == [("lee", "duty", "waiting")]
    assert told(planned(fired(1, "woken", 3, handed_to="kim"))) == [("kim", "desk", "waiting")]


def test_what_waits_is_needed_no_more_when_the_alert_ended_or_somebody_has_it() -> None:
    ends: tuple[AlertEventKind, ...] = ("withdrawn", "over", "acknowledged", "snoozed")
    for kind in ends:
        held = kept(fired(), "pat", "mail", "waiting")
        plan = planned(fired(1, kind, 2), held=held)
        assert list(plan.not_needed) == [one for of in held.values() for one in of]
        assert plan.new == {}


def test_what_is_planned_and_ended_in_one_batch_is_recorded_and_not_sent() -> None:
    plan = planned(fired(), fired(1, "over", 2))
    assert told(plan) == [("pat", "mail", "not_needed"), ("pat", "phone", "not_needed")]


def test_a_newer_message_about_the_same_alert_takes_the_place_of_one_that_waits() -> None:
    plan = planned(fired(1, "unacknowledged", 3), held=kept(fired(), "pat", "mail", "waiting"))
    assert list(plan.not_needed.values()) == [SAID_ANEW]
    assert told(plan) == [("pat", "mail", "waiting"), ("pat", "phone", "waiting")]


def test_only_who_was_told_is_told_that_it_does_not_hold_and_only_over_that_channel() -> None:
    withdrawn = fired(1, "withdrawn", 2)
    assert told(planned(withdrawn, held=kept(fired(), "pat", "mail", "sent")), "correction") == [
        ("pat", "mail", "waiting")
    ]
    for state in ("not_needed", "undeliverable", "waiting"):
        assert told(planned(withdrawn, held=kept(fired(), "pat", "mail", state)), "correction") == []
    assert told(
        planned(withdrawn, held=kept(fired(), "pat", "mail", "not_needed", perhaps=True)), "correction"
    ) == [("pat", "mail", "waiting")]


def test_an_alert_that_is_over_or_acknowledged_needs_no_correction() -> None:
    for kind in ("over", "acknowledged"):
        assert planned(fired(1, kind, 2), held=kept(fired(), "pat", "mail", "sent")).new == {}


def test_an_empty_role_climbs_says_so_to_those_above_and_to_the_alert() -> None:
    nobody = Override(
        override_id=1, role="role2", person=None, since=START, until=START + timedelta(hours=1), by="kim",
        why="training", made_at=START,
    )  # fmt: skip
    plan = planned(fired(), at=desk(overrides=[nobody]))
    assert told(plan) == [("lee", "duty", "waiting")]
    ((reason,),) = [one.item.reasons for one in plan.new.values()]
    assert (reason.kind, reason.name) == ("nobody", "Role 2")
    ((command,),) = [plan.commands]
    assert (command.kind, command.to) == ("nobody_there", "role2")
    again = planned(fired(), at=desk(overrides=[nobody])).commands[0]
    assert again.command_id == command.command_id
    later = planned(fired(1, "fired_again", 2), at=desk(overrides=[nobody])).commands[0]
    assert later.command_id != command.command_id


def test_who_can_be_reached_over_no_channel_is_told_all_the_same_and_the_next_level_too() -> None:
    plan = planned(fired(), at=desk(dead=["mail", "phone"]))
    assert told(plan) == [("pat", "mail", "waiting"), ("pat", "phone", "waiting"), ("lee", "duty", "waiting")]
    (lee,) = [one for one in plan.new.values() if one.person == "lee"]
    assert [(reason.kind, reason.name) for reason in lee.item.reasons] == [("unreachable", "Pat Desk")]
    assert told(planned(fired(), at=desk(dead=["mail"]))) == [
        ("pat", "mail", "waiting"),
        ("pat", "phone", "waiting"),
    ]
    assert [who for who, _, _ in told(planned(fired(), at=desk(dead=["mail", "phone", "duty"])))] == [
        "pat",
        "pat",
    ]


def test_a_policy_without_people_leaves_a_trace() -> None:
    plan = planned(fired(), at=desk(OncallPolicy()))
    assert [(one.person, one.state) for one in plan.new.values()] == [("nobody", "undeliverable")]


KINDS: tuple[AlertEventKind, ...] = (
    "fired", "superseded", "silenced", "withdrawn", "fired_again", "over", "back", "acknowledged",
    "unacknowledged", "snoozed", "woken", "handed_over", "nobody_there",
)  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from(KINDS)), max_size=12),
    st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_it_does_not_matter_in_which_batches_events_are_taken(
    happened: list[tuple[int, AlertEventKind]], cuts: list[bool]
) -> None:
    events = [fired(number, kind, seq) for seq, (number, kind) in enumerate(happened, 1)]
    at_once = planned(*events)
    held: dict[str, dict[str, Held]] = {}
    batch: list[AlertEvent] = []
    why: dict[str, str] = {}
    for event, cut in zip([*events, None], [*cuts[: len(events)], True], strict=True):
        if event is not None:
            batch.append(event)
        if cut:
            plan = planned(*batch, held=held)
            held, batch = plan.held, []
            why |= plan.not_needed
    assert held == at_once.held
    assert why == at_once.not_needed
    assert planned(*events, held=held).new == {}  # taken again, nothing is new


# ---------------------------------------------------------------- one message or several


def waiting(number: int, kind: ItemKind = "alert", wait: Wait = "gathering", who: str = "pat") -> Waiting:
    says = item(kind=kind) if kind in ("alert", "correction") else Item(kind=kind, level=3, about="mail")
    return Waiting(f"n_{number}", who, wait, START + timedelta(seconds=number), 0, says)


def shape(*ones: Waiting, few: int = 3) -> list[tuple[str, str, int]]:
    return [(one.person, one.template, len(one.waiting)) for one in bundles(ones, few)]


def test_a_few_go_alone_more_are_one() -> None:
    assert shape(*(waiting(number) for number in range(3))) == [("pat", "alert", 1)] * 3
    assert shape(*(waiting(number) for number in range(4))) == [("pat", "alerts", 4)]
    assert shape(*(waiting(number) for number in range(40))) == [("pat", "alerts", 40)]


def test_a_digest_is_one_however_little_it_has() -> None:
    assert shape(waiting(1, wait="digest"), waiting(2), waiting(3, "correction", "digest")) == [
        ("pat", "digest", 2), ("pat", "alert", 1)
    ]  # fmt: skip


def test_corrections_gather_and_so_do_the_notices_of_one_outage() -> None:
    ones = [waiting(number, "correction") for number in range(5)] + [
        waiting(9, "channel_dead") for _ in range(5)
    ]
    assert shape(*ones) == [("pat", "correction", 5), ("pat", "notice", 5)]
    assert shape(*(waiting(number, "channel_back") for number in range(2))) == [("pat", "notice", 1)] * 2
    assert shape(*(waiting(number, "template_failed") for number in range(5))) == [("pat", "notice", 1)] * 5


def test_a_notice_is_in_no_digest_where_it_would_not_be_read() -> None:
    assert shape(waiting(1, wait="digest"), waiting(2, "channel_dead", "digest")) == [
        ("pat", "digest", 1), ("pat", "notice", 1)
    ]  # fmt: skip


def test_persons_who_share_a_channel_get_messages_of_their_own() -> None:
    assert shape(waiting(1), waiting(2, who="kim")) == [("pat", "alert", 1), ("kim", "alert", 1)]


def test_a_message_keeps_its_id_and_tried_anew_by_hand_gets_another() -> None:
    (one,), (again,) = bundles([waiting(1)], 3), bundles([waiting(1)], 3)
    (anew,) = bundles([waiting(1)._replace(rounds=1)], 3)
    assert one.message_id == again.message_id != anew.message_id


# ---------------------------------------------------------------- when a way fails


def test_a_dead_channel_is_told_of_over_other_channels_and_to_level_3_never_over_itself() -> None:
    notices = of_outage(Outage("mail", 1, START, 4), "channel_dead", desk(dead=["mail"]))
    assert [(one.person, one.channel) for one in notices] == [("pat", "phone"), ("lee", "duty")]
    again = of_outage(Outage("mail", 1, START, 9), "channel_dead", desk(dead=["mail"]))
    assert [one.notification_id for one in again] == [one.notification_id for one in notices]
    next_time = of_outage(Outage("mail", 2, START), "channel_dead", desk(dead=["mail"]))
    assert not {one.notification_id for one in next_time} & {one.notification_id for one in notices}


def test_a_notice_goes_over_channels_that_work_only() -> None:
    notices = of_outage(Outage("mail", 1, START), "channel_dead", desk(dead=["mail", "phone"]))
    assert [(one.person, one.channel) for one in notices] == [("lee", "duty")]
    back = of_outage(Outage("mail", 1, START), "channel_back", desk())
    assert [(one.person, one.channel) for one in back] == [("pat", "phone"), ("lee", "duty")]


def test_somebody_is_told_instead_of_who_cannot_be_reached() -> None:
    says = item()
    others = instead([Stranded("alert", 1, "pat", says)], desk(dead=["mail", "phone"]))
    assert [(one.person, one.channel) for one in others.notifications] == [("lee", "duty")]
    assert [command.to for command in others.commands] == ["pat"]
    assert instead([Stranded("alert", 1, "pat", says)], desk(dead=["mail", "phone", "duty"])) == ((), ())
    correction = item(kind="correction")
    assert instead([Stranded("alert", 1, "pat", correction)], desk(dead=["mail", "phone"])) == ((), ())
