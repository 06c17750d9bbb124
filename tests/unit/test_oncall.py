"""Who has a role when, and whom an alert tells."""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.sla.oncall import instant_of, member_at, on_call, schedule, whom_to_hand, whom_to_tell
from schemas.oncall import Holder, OncallPolicy, Override, Person, Role, Rotation, Shift

CHICAGO = ZoneInfo("America/Chicago")
MINUTE = timedelta(minutes=1)


def person(code: str) -> Person:
    return Person(code=code, name=code.title(), time_zone="America/Chicago", channels=("mail",))


def rotation(**changed: Any) -> Rotation:
    terms: dict[str, Any] = {
        "members": ("ann", "bob", "cyd"), "starts": date(2026, 3, 2), "hand_over": "08:00",
        "time_zone": "America/Chicago", "turn_days": 7,
    }  # fmt: skip
    return Rotation.model_validate(terms | changed)


ONCALL = OncallPolicy(
    persons=tuple(map(person, ("ann", "bob", "cyd", "dan", "eve", "fay", "gus", "hal"))),
    roles=(
        Role(code="dispatcher", name="Dispatcher", level=1, scope="department"),
        Role(code="supervisor", name="Supervisor", level=2, scope="department"),
        Role(code="manager", name="Area manager", level=2, scope="area"),
        Role(code="duty", name="Duty supervisor", level=3, scope="city"),
        Role(code="deputy", name="Deputy", level=4, scope="city"),
    ),
    holders=(
        Holder(role="dispatcher", departments=("cdot",), persons=("dan",)),
        Holder(role="dispatcher", persons=("eve",)),
        Holder(role="supervisor", persons=("fay",)),
        Holder(role="manager", areas=(25, 26), persons=("gus",)),
        Holder(role="duty", rotation=rotation()),
        Holder(role="deputy", persons=("hal",)),
    ),
)
NOW = datetime(2026, 3, 3, 15, tzinfo=UTC)


def override(number: int, role: str, **changed: Any) -> Override:
    terms: dict[str, Any] = {
        "override_id": number, "role": role, "person": "bob", "since": NOW, "until": NOW + timedelta(hours=8),
        "by": "cli:ops", "why": "on leave", "made_at": NOW,
    }  # fmt: skip
    return Override.model_validate(terms | changed)


def codes(people: tuple[Person, ...]) -> list[str]:
    return [one.code for one in people]


def chicago(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=CHICAGO).astimezone(UTC)


# ---------------------------------------------------------------- roles and holders


@pytest.mark.parametrize(
    ("role", "department", "area", "expected"),
    [
        ("dispatcher", "cdot", None, ["dan"]),
        (
            "dispatcher",
            "dss",
            None,
            ["eve"],
        ),  # the holder that names no department has all that no other names
        ("dispatcher", None, None, ["eve"]),
        ("manager", "cdot", 25, ["gus"]),
        ("manager", "cdot", 1, []),
        ("manager", "cdot", None, []),
        ("duty", "cdot", 25, ["ann"]),  # a role of the city does not ask where
        ("mayor", None, None, []),
    ],
)
def test_who_has_a_role_here(
    role: str, department: str | None, area: int | None, expected: list[str]
) -> None:
    assert codes(on_call(role, NOW, department=department, area=area, oncall=ONCALL)) == expected


def test_all_that_hold_for_the_same_place_have_the_role_each_once() -> None:
    more = (Holder(role="deputy", persons=("ann", "hal")), Holder(role="deputy", rotation=rotation()))
    oncall = ONCALL.model_copy(update={"holders": (*ONCALL.holders, *more)})
    assert codes(on_call("deputy", NOW, oncall=oncall)) == ["hal", "ann"]


# ---------------------------------------------------------------- rotations


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-03-02T07:59:59", "cyd"),  # turns are counted back from the start too: somebody has it always
        ("2026-03-02T08:00:00", "ann"),
        ("2026-03-09T07:59:59", "ann"),  # the clocks went forward on the 8th: still at 08:00
        ("2026-03-09T08:00:00", "bob"),
        ("2026-03-16T08:00:00", "cyd"),
        ("2026-03-23T08:00:00", "ann"),
        ("2026-11-02T07:59:59", "bob"),  # they went back on the 1st; 35 weeks
        ("2026-11-02T08:00:00", "cyd"),
        ("2026-12-28T08:00:00", "bob"),  # 43 weeks
        ("2027-01-01T00:00:00", "bob"),  # the year's end is no boundary
        ("2027-01-04T08:00:00", "cyd"),
    ],
)
def test_a_hand_over_at_eight_stays_at_eight(at: str, expected: str) -> None:
    assert member_at(rotation(), chicago(at)) == expected


def test_where_clocks_go_back_over_midnight_a_hand_over_at_midnight_is_the_first() -> None:
    """In St. John's 00:01 became 23:01 of the day before: the new turn goes on, on the old date."""
    turns = rotation(starts=date(2006, 10, 28), hand_over="00:00", time_zone="America/St_Johns", turn_days=1)
    midnight = datetime(2006, 10, 29, 2, 30, tzinfo=UTC)
    shown = [member_at(turns, midnight + MINUTE * minutes) for minutes in (-1, 0, 10, 60, 61, 90)]
    assert shown == ["ann", "bob", "bob", "bob", "bob", "bob"]


def test_a_rotation_without_members_is_nobody() -> None:
    assert member_at(rotation(members=()), NOW) is None
    oncall = ONCALL.model_copy(update={"holders": (Holder(role="duty", rotation=rotation(members=())),)})
    assert on_call("duty", NOW, oncall=oncall) == ()


@pytest.mark.parametrize(
    ("zone", "day", "wall_time", "expected"),
    [
        ("America/Chicago", date(2026, 3, 8), "02:30", "2026-03-08T08:30"),  # a gap: 03:30 CDT
        ("America/Chicago", date(2026, 11, 1), "01:30", "2026-11-01T06:30"),  # ambiguous: the first, CDT
        ("Europe/Berlin", date(2026, 3, 29), "02:30", "2026-03-29T01:30"),
        ("Europe/Berlin", date(2026, 10, 25), "02:30", "2026-10-25T00:30"),
        ("Australia/Lord_Howe", date(2026, 10, 4), "02:15", "2026-10-03T15:45"),  # a gap of half an hour
        ("Australia/Lord_Howe", date(2026, 4, 5), "01:45", "2026-04-04T14:45"),
        ("America/Santiago", date(2026, 9, 6), "00:00", "2026-09-06T04:00"),  # a day without midnight
        ("Pacific/Apia", date(2011, 12, 30), "08:00", "2011-12-30T18:00"),  # a day that did not exist
    ],
)
def test_a_wall_time_that_is_not_there_or_there_twice(
    zone: str, day: date, wall_time: str, expected: str
) -> None:
    assert instant_of(day, wall_time, ZoneInfo(zone)) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


CHANGES = [
    ("America/Chicago", date(2026, 3, 8)), ("America/Chicago", date(2026, 11, 1)),
    ("Europe/Berlin", date(2026, 3, 29)), ("Europe/Berlin", date(2026, 10, 25)),
    ("Australia/Lord_Howe", date(2026, 4, 5)), ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("America/Santiago", date(2026, 4, 5)), ("America/Santiago", date(2026, 9, 6)),
    ("America/St_Johns", date(2006, 10, 29)),  # back at 00:01, over midnight
    ("Pacific/Apia", date(2011, 12, 30)), ("Asia/Kolkata", date(2026, 1, 1)),
]  # fmt: skip


def slowly(rotation: Rotation, at: datetime) -> str:
    """The obvious way: every hand-over of the days around is looked for minute by minute; those that came count."""
    days = [at.date() + timedelta(days=number) for number in range(-4, 3)]
    last = max(day for day in days if _looked_for(day, rotation) <= at)
    return rotation.members[(last - rotation.starts).days // rotation.turn_days % len(rotation.members)]


def _looked_for(day: date, rotation: Rotation) -> datetime:
    walls, wanted = _minutes_around(day, rotation.time_zone), f"{day} {rotation.hand_over}"
    if wanted in walls:
        return walls[wanted]
    before = max(wall for wall in walls if wall < wanted)  # the last minute before the gap
    return walls[before] + (datetime.fromisoformat(wanted) - datetime.fromisoformat(before))


@cache
def _minutes_around(day: date, zone: str) -> dict[str, datetime]:
    """The first instant at which the clocks of the zone show each minute."""
    walls: dict[str, datetime] = {}
    for number in range(-24 * 60, 36 * 60):
        minute = datetime(day.year, day.month, day.day, tzinfo=UTC) + MINUTE * number
        walls.setdefault(f"{minute.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}", minute)
    return walls


@settings(max_examples=200)
@given(
    change=st.sampled_from(CHANGES),
    starts_before=st.integers(-5, 40),
    turn_days=st.integers(1, 9),
    members=st.integers(1, 4),
    hand_over=st.one_of(
        st.sampled_from(["00:00", "00:01", "01:30", "02:00", "02:15", "02:30", "23:00", "23:30"]),
        st.times().map(lambda at: f"{at:%H:%M}"),
    ),
    after_minutes=st.integers(-3 * 1440, 3 * 1440),
)
def test_whose_turn_it_is_agrees_with_the_obvious_way(
    change: tuple[str, date], starts_before: int, turn_days: int, members: int, hand_over: str, after_minutes: int
) -> None:  # fmt: skip
    zone, day = change
    turns = rotation(
        members=("ann", "bob", "cyd", "dan")[:members], starts=day - timedelta(days=starts_before),
        hand_over=hand_over, time_zone=zone, turn_days=turn_days,
    )  # fmt: skip
    at = datetime(day.year, day.month, day.day, tzinfo=UTC) + MINUTE * after_minutes
    assert member_at(turns, at) == slowly(turns, at)


# ---------------------------------------------------------------- overrides


def test_an_override_holds_from_its_first_instant_until_before_its_last() -> None:
    one = override(1, "deputy")
    for at, expected in (
        (one.since - timedelta(microseconds=1), ["hal"]),
        (one.since, ["bob"]),
        (one.until - timedelta(microseconds=1), ["bob"]),
        (one.until, ["hal"]),
    ):
        assert codes(on_call("deputy", at, oncall=ONCALL, overrides=[one])) == expected


def test_of_overrides_that_overlap_the_newest_holds_however_they_are_given() -> None:
    older = override(1, "deputy", person="ann")
    newer = override(2, "deputy", person="cyd", until=NOW + timedelta(hours=1))
    for given_as in ([older, newer], [newer, older]):
        assert codes(on_call("deputy", NOW, oncall=ONCALL, overrides=given_as)) == ["cyd"]
        assert codes(on_call("deputy", newer.until, oncall=ONCALL, overrides=given_as)) == ["ann"]


@pytest.mark.parametrize(
    ("place", "expected"),
    [({"department": "cdot"}, ["bob"]), ({"department": "dss"}, ["eve"]), ({}, ["eve"])],
)
def test_an_override_of_a_department_is_for_it_alone(place: dict[str, Any], expected: list[str]) -> None:
    one = override(1, "dispatcher", department="cdot")
    assert codes(on_call("dispatcher", NOW, oncall=ONCALL, overrides=[one], **place)) == expected


def test_an_override_of_no_department_is_for_all() -> None:
    for department in ("cdot", "dss"):
        told = on_call(
            "dispatcher", NOW, department=department, oncall=ONCALL, overrides=[override(1, "dispatcher")]
        )
        assert codes(told) == ["bob"]


def test_an_override_of_an_area_is_for_it_alone() -> None:
    one = override(1, "manager", area=25)
    assert codes(on_call("manager", NOW, area=25, oncall=ONCALL, overrides=[one])) == ["bob"]
    assert codes(on_call("manager", NOW, area=26, oncall=ONCALL, overrides=[one])) == ["gus"]


# ---------------------------------------------------------------- levels


def told(
    level: int, overrides: list[Override] | None = None, area: int | None = 25
) -> tuple[list[str], int, list[str]]:
    found = whom_to_tell(level, NOW, department="cdot", area=area, oncall=ONCALL, overrides=overrides or [])
    return codes(found.people), found.level, [climb.because for climb in found.climbed]


def test_each_level_tells_all_of_its_roles() -> None:
    assert [told(level) for level in (1, 2, 3, 4)] == [
        (["dan"], 1, []), (["fay", "gus"], 2, []), (["ann"], 3, []), (["hal"], 4, []),
    ]  # fmt: skip


def test_a_role_that_has_nobody_goes_to_the_next_level_at_once_and_says_so() -> None:
    nobody = override(7, "dispatcher", person=None)
    assert told(1, [nobody]) == (["fay", "gus"], 2, ["Dispatcher: override 7 leaves it to nobody."])


def test_of_two_roles_the_one_that_has_nobody_goes_up_and_the_other_is_told() -> None:
    expected = (["fay", "ann"], 3, ["Area manager of the area 1: nobody holds it."])
    assert told(2, area=1) == expected
    assert told(2, area=None)[2] == ["Area manager of the area (none): nobody holds it."]


def test_who_has_the_role_above_as_well_is_told_once() -> None:
    assert told(2, [override(1, "manager", person=None), override(2, "duty", person="fay")])[0] == ["fay"]


def test_a_person_that_the_policy_no_longer_knows_is_nobody() -> None:
    expected = ["Duty supervisor: override 3 names zoe, whom the policy does not know."]
    assert told(3, [override(3, "duty", person="zoe")]) == (["hal"], 4, expected)
    holders = (Holder(role="duty", persons=("zoe",)), Holder(role="deputy", persons=("hal",)))
    found = whom_to_tell(3, NOW, oncall=ONCALL.model_copy(update={"holders": holders}))
    assert [(climb.role, climb.level, climb.to_level, climb.because) for climb in found.climbed] == [
        ("duty", 3, 4, "Duty supervisor: zoe is not among the persons of the policy.")
    ]


def test_it_climbs_as_far_as_it_must_and_says_every_step() -> None:
    nobody = [
        override(n, role, person=None) for n, role in enumerate(("dispatcher", "supervisor", "duty"), 1)
    ]
    assert told(1, nobody, area=1) == (["hal"], 4, [
        "Dispatcher: override 1 leaves it to nobody.", "Supervisor: override 2 leaves it to nobody.",
        "Area manager of the area 1: nobody holds it.", "Duty supervisor: override 3 leaves it to nobody.",
    ])  # fmt: skip


def test_at_the_top_an_override_cannot_silence() -> None:
    found = whom_to_tell(4, NOW, oncall=ONCALL, overrides=[override(1, "deputy", person=None)])
    assert codes(found.people) == ["hal"]
    assert [(climb.role, climb.to_level) for climb in found.climbed] == [("deputy", None)]


def test_where_nobody_is_left_it_says_so() -> None:
    found = whom_to_tell(3, NOW, oncall=OncallPolicy())
    assert found.people == ()
    assert [(climb.level, climb.to_level, climb.because) for climb in found.climbed] == [
        (3, 4, "The policy has no role of level 3."), (4, None, "The policy has no role of level 4."),
    ]  # fmt: skip


# ---------------------------------------------------------------- handed over


def handed(to: str, overrides: list[Override] | None = None) -> tuple[list[str], int, list[str]]:
    found = whom_to_hand(to, 1, NOW, department="cdot", area=25, oncall=ONCALL, overrides=overrides or [])
    return codes(found.people), found.level, [climb.because for climb in found.climbed]


def test_what_is_handed_over_goes_to_the_person_or_to_who_has_the_role() -> None:
    assert handed("cyd") == (["cyd"], 1, [])
    assert handed("duty") == (["ann"], 3, [])


def test_what_is_handed_to_a_role_that_has_nobody_goes_up() -> None:
    assert handed("duty", [override(1, "duty", person=None)]) == (
        ["hal"], 4, ["Duty supervisor: override 1 leaves it to nobody."]
    )  # fmt: skip
    assert handed("manager", [override(1, "manager", person=None)]) == (
        ["ann"], 3, ["Area manager: override 1 leaves it to nobody."]
    )  # fmt: skip
    assert handed("deputy", [override(1, "deputy", person=None)]) == (
        ["hal"], 4, ["Deputy: override 1 leaves it to nobody."]
    )  # fmt: skip


def test_what_is_handed_to_nobody_known_stays_with_its_level() -> None:
    assert handed("zoe") == (["dan"], 1, ["zoe is neither a person nor a role."])


# ---------------------------------------------------------------- schedules


def shown(shifts: tuple[Shift, ...]) -> list[tuple[str, str, list[str]]]:
    return [(f"{one.since:%m-%dT%H:%M}", f"{one.until:%m-%dT%H:%M}", codes(one.people)) for one in shifts]


def test_a_schedule_has_each_turn_each_override_and_each_gap() -> None:
    overrides = [
        override(1, "duty", person="dan", since=chicago("2026-03-08T20:00"), until=chicago("2026-03-10T20:00")),
        override(2, "duty", person=None, since=chicago("2026-03-12T00:00"), until=chicago("2026-03-12T06:00")),
        override(3, "supervisor", person="eve", since=chicago("2026-03-13T00:00"), until=chicago("2026-03-14T00:00")),
    ]  # fmt: skip
    found = schedule(
        "duty", chicago("2026-03-07T00:00"), chicago("2026-03-18T00:00"), oncall=ONCALL, overrides=overrides
    )
    assert shown(found) == [
        ("03-07T06:00", "03-09T01:00", ["ann"]),  # in CST, UTC-6
        ("03-09T01:00", "03-11T01:00", ["dan"]),  # over a hand-over, as one
        ("03-11T01:00", "03-12T05:00", ["bob"]),
        ("03-12T05:00", "03-12T11:00", []),
        ("03-12T11:00", "03-16T13:00", ["bob"]),
        ("03-16T13:00", "03-18T05:00", ["cyd"]),
    ]
    assert [one.override.override_id for one in found if one.override] == [1, 2]


def test_the_same_person_for_two_reasons_has_two_shifts() -> None:
    overrides = [
        override(1, "deputy", person="hal", since=NOW, until=NOW + MINUTE),
        override(2, "deputy", person="hal", since=NOW + MINUTE, until=NOW + 2 * MINUTE),
    ]
    found = schedule("deputy", NOW, NOW + 3 * MINUTE, oncall=ONCALL, overrides=overrides)
    assert [one.override and one.override.override_id for one in found] == [1, 2, None]


def test_a_schedule_of_no_length_or_no_role_is_empty() -> None:
    assert schedule("duty", NOW, NOW, oncall=ONCALL) == ()
    assert schedule("duty", NOW, NOW - MINUTE, oncall=ONCALL) == ()
    assert schedule("mayor", NOW, NOW + MINUTE, oncall=ONCALL) == ()


moments = st.integers(0, 40 * 24 * 4).map(lambda quarters: NOW + timedelta(minutes=15 * quarters))
people = st.sampled_from(["ann", "bob", "dan", "zoe", None])


@settings(max_examples=150)
@given(
    since=moments, until=moments, at=moments,
    spans=st.lists(st.tuples(moments, moments, people, st.sampled_from([None, "cdot", "dss"])), max_size=6),
    role=st.sampled_from(["duty", "dispatcher"]),
)  # fmt: skip
def test_a_schedule_has_no_holes_and_agrees_with_who_is_on_call_at_any_time(
    since: datetime, until: datetime, at: datetime, spans: list[Any], role: str
) -> None:
    overrides = [
        override(number, role, since=begin, until=end, person=who, department=where if role == "dispatcher" else None)
        for number, (begin, end, who, where) in enumerate(spans, 1)
    ]  # fmt: skip
    found = schedule(role, since, until, department="cdot", oncall=ONCALL, overrides=overrides)
    edges = [one.since for one in found] + [one.until for one in found[-1:]]
    assert edges == sorted(set(edges))
    assert [one.until for one in found[:-1]] == edges[1:-1]
    assert (edges[0], edges[-1]) == (since, until) if since < until else not edges
    for shift in found:
        if shift.since <= at < shift.until:
            people = on_call(role, at, department="cdot", oncall=ONCALL, overrides=overrides)
            assert shift.people == people
