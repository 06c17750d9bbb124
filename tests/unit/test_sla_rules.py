"""The numbered rules of SLA.md that calendars and clocks keep. (8 and the firing of rungs are the ladder's.)"""

from datetime import UTC, date, datetime, timedelta
from itertools import permutations

import pytest

from agents.sla.calendar import CalendarError, Calendars, WorkingCalendar
from agents.sla.clock import (
    Rules,
    breached,
    consumed,
    due_if_resumed,
    explain,
    fold,
    passed,
    rungs,
)
from schemas.sla import (
    Cancelled,
    Clock,
    ClockEvent,
    Counted,
    Held,
    Holiday,
    Length,
    Reopened,
    Resolved,
    Resumed,
    Retargeted,
    Retargeting,
    Started,
)
from tests.unit.sla_samples import (
    AROUND,
    KNOWN,
    LADDER,
    OFFICE,
    RULES,
    VERSION,
    B,
    G,
    H,
    at,
    calendar,
    compiled,
    folded,
    hold,
    start,
    target,
)

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def hours(number: float) -> Length:
    return Length(number * HOUR, 0)


# ---------------------------------------------------------------- 1: zones, gaps, half open


def test_rule_1_working_time_follows_the_zone_over_both_changes_of_the_clocks() -> None:
    office = compiled(OFFICE)
    assert office.due(at("2026-03-06 22:00"), hours(1)) == at("2026-03-09 14:00")  # 08:30-16:30 CST, then CDT
    assert office.due(at("2026-10-30 21:00"), hours(1)) == at("2026-11-02 15:00")


def test_rule_1_intervals_are_half_open() -> None:
    office = compiled(OFFICE)
    closing, opening = at("2026-03-10 21:30"), at("2026-03-11 13:30")
    assert office.consumed(closing, opening) == timedelta()
    assert office.consumed(closing - MINUTE, opening + MINUTE) == 2 * MINUTE


def test_rule_1_an_interval_that_the_change_makes_empty_is_skipped() -> None:
    night = compiled(calendar("night", "America/Chicago", {"sun": "02:00-03:00", "mon": "02:00-03:00"}))
    assert night.consumed(at("2026-03-08 00:00"), at("2026-03-09 00:00")) == timedelta()
    assert night.due(at("2026-03-08 00:00"), hours(1)) == at("2026-03-09 08:00")
    assert night.add_days(at("2026-03-07 00:00"), 1) == at(
        "2026-03-09 08:00"
    )  # and its date is no working day


def test_rule_1_hours_that_would_begin_after_their_end_are_skipped_too() -> None:
    night = compiled(calendar("night", "America/Chicago", {"sun": "02:30-03:00 05:00-06:00"}))
    [interval] = night.intervals(at("2026-03-08 00:00"), at("2026-03-09 00:00"))
    assert interval == (at("2026-03-08 10:00"), at("2026-03-08 11:00"))  # 02:30 is 03:30, after 03:00


def test_rule_1_a_wall_time_in_a_gap_moves_forward_by_the_gap() -> None:
    night = compiled(calendar("night", "America/Chicago", {"sun": "02:15-02:45 03:00-04:00"}))
    [interval] = night.intervals(at("2026-03-08 00:00"), at("2026-03-09 00:00"))
    assert interval == (at("2026-03-08 08:00"), at("2026-03-08 09:00"))  # 03:15-03:45 lies in 03:00-04:00
    assert night.consumed(at("2026-03-08 00:00"), at("2026-03-09 00:00")) == HOUR


def test_rule_1_an_ambiguous_wall_time_is_its_first_occurrence() -> None:
    early = compiled(calendar("early", "America/Chicago", {"sun": "00:30-01:30"}))
    late = compiled(calendar("late", "America/Chicago", {"sun": "01:30-03:00"}))
    [morning] = early.intervals(at("2026-11-01 00:00"), at("2026-11-02 00:00"))
    [rest] = late.intervals(at("2026-11-01 00:00"), at("2026-11-02 00:00"))
    assert morning == (at("2026-11-01 05:30"), at("2026-11-01 06:30"))  # 01:30 CDT
    assert rest == (at("2026-11-01 06:30"), at("2026-11-01 09:00"))  # two and a half hours


def test_rule_1_instants_are_kept_in_utc_whatever_zone_they_are_told_in() -> None:
    told = (
        '{"kind":"start","at":"2034-06-06T12:00:00+02:00","target":' + target("1h", B).model_dump_json() + "}"
    )
    started = Started.model_validate_json(told)
    assert (started.at.tzinfo, started.at) == (UTC, at("2034-06-06 10:00"))
    assert folded(started).model_dump(mode="json")["due_at"] == "2034-06-06T11:00:00Z"


# ---------------------------------------------------------------- 2: budget and consumed


def test_rule_2_due_is_derived_from_budget_and_consumed() -> None:
    clock = folded(start("2034-06-05 10:00", "4h", G), *hold("2034-06-05 11:00", "2034-06-05 12:00"))
    assert (clock.budget, clock.consumed) == (4 * HOUR, 30 * MINUTE)
    assert consumed(clock, at("2034-06-05 13:00"), KNOWN) == 90 * MINUTE
    assert clock.due_at == compiled(G).add(at("2034-06-05 12:00"), clock.budget - clock.consumed)


def test_rule_2_whether_it_is_overdue_is_never_stored() -> None:
    clock = folded(start("2034-06-06 10:00", "1h", G))
    assert (breached(clock, at("2034-06-06 11:00")), breached(clock, at("2034-06-06 11:01"))) == (False, True)
    assert not {"overdue", "breached", "late"} & Clock.model_fields.keys()


# ---------------------------------------------------------------- 3: on closing time


def test_rule_3_a_deadline_on_closing_time_stays() -> None:
    assert compiled(OFFICE).due(at("2026-03-10 13:30"), hours(8)) == at("2026-03-10 21:30")


def test_rule_3_the_policy_can_say_roll() -> None:
    assert compiled(OFFICE).due(at("2026-03-10 13:30"), hours(8), "roll") == at("2026-03-11 13:30")
    assert compiled(OFFICE).due(at("2026-03-13 21:30"), Length(timedelta(), 1), "roll") == at(
        "2026-03-17 13:30"
    )


def test_rule_3_midnight_is_no_closing_time_around_the_clock() -> None:
    for boundary in ("stay", "roll"):
        due = compiled(AROUND).add(at("2026-03-10 04:00"), HOUR, boundary)
        assert due == at("2026-03-10 05:00")  # midnight in Chicago


def test_rule_3_a_budget_that_ends_as_a_hold_begins_is_due_then_or_with_roll_when_it_goes_on() -> None:
    waits = hold("2034-06-06 12:00", "2034-06-06 15:00")
    assert folded(start("2034-06-06 10:00", "2h", G, "stay"), *waits).due_at == at("2034-06-06 12:00")
    assert folded(start("2034-06-06 10:00", "2h", G, "stay"), waits[0]).due_at == at("2034-06-06 12:00")
    assert folded(start("2034-06-06 10:00", "2h", G, "roll"), *waits).due_at == at("2034-06-06 15:00")
    assert folded(start("2034-06-06 10:00", "2h", G, "roll"), waits[0]).due_at is None


# ---------------------------------------------------------------- 4: breached


def test_rule_4_breached_is_strictly_after_due() -> None:
    clock = folded(start("2034-06-06 10:00", "1h", G))
    assert not breached(clock, at("2034-06-06 11:00"))
    assert breached(clock, at("2034-06-06 11:00:00.000001"))


def test_rule_4_a_later_hold_does_not_hide_a_breach() -> None:
    clock = folded(start("2034-06-06 10:00", "1h", G), Held(at=at("2034-06-06 11:30"), reason="weather"))
    assert (clock.due_at, breached(clock, at("2034-06-06 12:00"))) == (at("2034-06-06 11:00"), True)


def test_rule_4_met_late_is_not_met() -> None:
    in_time = folded(start("2034-06-06 10:00", "1h", G), Resolved(at=at("2034-06-06 11:00")))
    late = folded(start("2034-06-06 10:00", "1h", G), Resolved(at=at("2034-06-06 11:00:01")))
    assert (in_time.result, late.result) == ("met", "late")
    assert not breached(in_time, at("2034-07-01 00:00"))
    assert breached(late, at("2034-07-01 00:00"))


def test_rule_4_a_breach_stays_after_a_reopening() -> None:
    clock = folded(
        start("2034-06-06 10:00", "1h", G), Resolved(at=at("2034-06-06 12:00")),
        Reopened(at=at("2034-06-06 13:00")), Resolved(at=at("2034-06-06 13:01")),
    )  # fmt: skip
    assert (clock.result, clock.due_at) == ("late", at("2034-06-06 11:00"))


# ---------------------------------------------------------------- 5: holds


def test_rule_5_a_hold_stops_every_clock_but_acknowledge() -> None:
    events: list[ClockEvent] = [
        start("2034-06-06 10:00", "2h", G),
        *hold("2034-06-06 11:00", "2034-06-06 14:00"),
    ]
    due = {
        name: folded(*events, name=name).due_at
        for name in ("acknowledge", "inspect", "resolve", "notify_owner", "abate")
    }
    assert due.pop("acknowledge") == at("2034-06-06 12:00")
    assert set(due.values()) == {at("2034-06-06 15:00")}


def test_rule_5_only_listed_reasons_stop_a_clock() -> None:
    clock = folded(
        start("2034-06-06 10:00", "2h", G), *hold("2034-06-06 11:00", "2034-06-06 14:00", reason="lunch")
    )
    assert (clock.due_at, clock.holds) == (at("2034-06-06 12:00"), ())


def test_rule_5_on_hold_there_is_no_due_time_but_what_it_would_be() -> None:
    clock = folded(start("2034-06-06 10:00", "2h", G), Held(at=at("2034-06-06 11:00"), reason="weather"))
    assert clock.due_at is None
    assert due_if_resumed(clock, at("2034-06-06 18:30"), KNOWN) == at("2034-06-07 09:00")
    assert consumed(clock, at("2034-06-20 00:00"), KNOWN) == HOUR
    assert not breached(clock, at("2034-06-20 00:00"))


def test_rule_5_a_hold_for_another_reason_goes_on_as_another_hold() -> None:
    clock = folded(
        start("2034-06-06 10:00", "2h", G), Held(at=at("2034-06-06 11:00"), reason="weather"),
        Held(at=at("2034-06-06 12:00"), reason="owner_notice"), Resumed(at=at("2034-06-06 13:00")),
    )  # fmt: skip
    assert [(one.reason, one.until) for one in clock.holds] == [
        ("weather", at("2034-06-06 12:00")),
        ("owner_notice", at("2034-06-06 13:00")),
    ]
    assert clock.due_at == at("2034-06-06 14:00")


def test_rule_5_an_order_that_waits_starts_its_clocks_on_hold() -> None:
    clock = folded(Held(at=at("2034-06-05 11:00"), reason="weather"), start("2034-06-06 10:00", "2h", G))
    assert (clock.due_at, clock.holds[0].since) == (None, at("2034-06-06 10:00"))


def test_rule_5_a_resumption_without_a_hold_changes_nothing() -> None:
    events: list[ClockEvent] = [start("2034-06-06 10:00", "2h", G)]
    assert folded(*events, Resumed(at=at("2034-06-06 11:00"))) == folded(*events)


# ---------------------------------------------------------------- 6: resolved, reopened, cancelled


def test_rule_6_reopened_within_the_window_the_same_clock_goes_on() -> None:
    clock = folded(
        start("2034-06-06 10:00", "2h", G),
        Resolved(at=at("2034-06-06 11:00")),
        Reopened(at=at("2034-06-20 11:00")),  # to the second within 14 days
    )
    assert (clock.cycle, clock.consumed, clock.due_at) == (1, HOUR, at("2034-06-20 12:00"))


def test_rule_6_reopened_later_a_new_cycle_begins() -> None:
    clock = folded(
        start("2034-06-06 10:00", "2h", G),
        Resolved(at=at("2034-06-06 13:00")),
        Reopened(at=at("2034-06-20 13:00:01")),
    )
    assert (clock.cycle, clock.consumed, clock.due_at) == (2, timedelta(), at("2034-06-20 15:00:01"))
    [over] = clock.past
    assert (over.result, over.due_at, over.consumed) == ("late", at("2034-06-06 12:00"), 3 * HOUR)
    assert not breached(clock, at("2034-06-20 14:00"))


def test_rule_6_resolved_stops_the_clock() -> None:
    clock = folded(start("2034-06-06 10:00", "2h", G), Resolved(at=at("2034-06-06 11:00")))
    assert consumed(clock, at("2034-06-30 00:00"), KNOWN) == HOUR
    assert not breached(clock, at("2034-06-30 00:00"))


def test_rule_6_a_duplicate_that_ends_with_its_original_is_cancelled() -> None:
    clock = folded(start("2034-06-06 10:00", "2h", G), Cancelled(at=at("2034-06-06 11:00")))
    assert (clock.result, clock.consumed) == ("cancelled", HOUR)


def test_rule_6_what_ended_is_not_ended_again() -> None:
    met: list[ClockEvent] = [start("2034-06-06 10:00", "2h", G), Resolved(at=at("2034-06-06 11:00"))]
    for event in (Cancelled(at=at("2034-06-07 11:00")), Resolved(at=at("2034-06-07 11:00"))):
        assert folded(*met, event) == folded(*met)


# ---------------------------------------------------------------- 7: pinned, re-targeted


def test_rule_7_a_clock_keeps_the_policy_that_it_began_with() -> None:
    longer = calendar("g", "UTC", {"mon-sun": "00:00-24:00"})
    both = Calendars({VERSION: [G], "v2": [longer]})
    clock = fold("resolve", [start("2034-06-09 18:00", "2h", G)], both, RULES)
    assert clock is not None
    assert clock.due_at == at("2034-06-12 11:30")


def test_rule_7_a_retarget_carries_over_what_was_consumed_and_records_both_due_times() -> None:
    clock = folded(
        start("2034-06-06 10:00", "8h", G),
        Retargeted(at=at("2034-06-06 12:00"), target=target("4h", AROUND, version="v2")),
    )
    assert (clock.consumed, clock.budget, clock.due_at) == (2 * HOUR, 4 * HOUR, at("2034-06-06 14:00"))
    assert clock.retargets == (
        Retargeting(
            at=at("2034-06-06 12:00"), old=target("8h", G), new=target("4h", AROUND, version="v2"),
            old_due=at("2034-06-06 18:00"), new_due=at("2034-06-06 14:00"),
        ),
    )  # fmt: skip


def test_rule_7_rungs_already_passed_under_the_new_budget_are_reached_at_once() -> None:
    clock = folded(
        start("2034-06-06 10:00", "8h", G),
        Retargeted(at=at("2034-06-06 12:00"), target=target("150m", G, version="v2")),
    )
    assert [(rung.name, rung.at) for rung in rungs(clock, LADDER, KNOWN)] == [
        ("half", at("2034-06-06 12:00")),
        ("soon", at("2034-06-06 12:15")),
        ("breach", at("2034-06-06 12:30")),
        ("late_10h", at("2034-06-07 12:00")),
    ]


def test_rule_7_a_budget_that_was_consumed_before_is_breached_at_once() -> None:
    clock = folded(
        start("2034-06-06 10:00", "8h", G),
        Retargeted(at=at("2034-06-06 12:00"), target=target("1h", G, version="v2")),
    )
    assert clock.due_at == at("2034-06-06 11:00")
    assert breached(clock, at("2034-06-06 12:00"))
    assert rungs(clock, LADDER, KNOWN)[2].at == at("2034-06-06 12:00")


def test_rule_7_a_wider_budget_takes_a_breach_back() -> None:
    narrow: list[ClockEvent] = [start("2034-06-06 10:00", "1h", G)]
    wide = Retargeted(at=at("2034-06-06 12:00"), target=target("8h", G, version="v2"))
    assert breached(folded(*narrow), at("2034-06-06 12:00"))
    assert not breached(folded(*narrow, wide), at("2034-06-06 12:00"))


def test_rule_7_days_of_a_retarget_count_from_the_start() -> None:
    clock = folded(
        start("2034-06-09 08:46:12", "5d", G),
        Retargeted(at=at("2034-06-12 12:00"), target=target("2d", G, version="v2")),
    )
    assert clock.due_at == at("2034-06-13 08:46:12")


def test_rule_7_what_ended_is_not_judged_anew() -> None:
    clock = folded(
        start("2034-06-06 10:00", "1h", G), Resolved(at=at("2034-06-06 12:00")),
        Retargeted(at=at("2034-06-06 13:00"), target=target("8h", G, version="v2")),
    )  # fmt: skip
    assert (clock.result, clock.due_at, clock.target.budget) == ("late", at("2034-06-06 11:00"), "1h")
    assert [change.new.budget for change in clock.retargets] == ["8h"]


def test_rule_7_what_was_promised_anew_counts_when_it_goes_on() -> None:
    clock = folded(
        start("2034-06-06 10:00", "2h", G), Resolved(at=at("2034-06-06 11:00")),
        Retargeted(at=at("2034-06-06 12:00"), target=target("4h", G, version="v2")),
        Reopened(at=at("2034-06-06 13:00")),
    )  # fmt: skip
    assert (clock.target.budget, clock.due_at) == ("4h", at("2034-06-06 16:00"))


def test_rule_7_a_retarget_on_hold_is_due_when_it_goes_on() -> None:
    events: list[ClockEvent] = [
        start("2034-06-06 10:00", "8h", G), Held(at=at("2034-06-06 11:00"), reason="weather"),
        Retargeted(at=at("2034-06-06 12:00"), target=target("2h", G, version="v2")),
    ]  # fmt: skip
    assert folded(*events).due_at is None
    assert folded(*events, Resumed(at=at("2034-06-06 13:00"))).due_at == at("2034-06-06 14:00")


# ---------------------------------------------------------------- 8: the points of the ladder


def test_rule_8_rungs_are_instants_of_the_present_state() -> None:
    clock = folded(start("2034-06-06 10:00", "10h", G), *hold("2034-06-06 12:00", "2034-06-06 13:00"))
    assert [rung.at for rung in rungs(clock, LADDER, KNOWN)] == [
        at("2034-06-06 16:00"),
        at("2034-06-07 09:30"),
        at("2034-06-07 10:30"),
        at("2034-06-08 10:00"),
    ]


def test_rule_8_on_hold_or_ended_only_what_was_reached_has_an_instant() -> None:
    running = start("2034-06-06 10:00", "4h", G)
    for stop in (Held(at=at("2034-06-06 13:00"), reason="weather"), Resolved(at=at("2034-06-06 13:00"))):
        clock = folded(running, stop)
        assert [rung.at for rung in rungs(clock, LADDER, KNOWN)] == [at("2034-06-06 12:00"), None, None, None]


def test_rule_8_a_warning_is_passed_at_its_time_a_breach_strictly_after() -> None:
    clock = folded(start("2034-06-06 10:00", "4h", G))
    half, _, breach, _ = rungs(clock, LADDER, KNOWN)
    assert passed(half, clock, at("2034-06-06 12:00"))
    assert not passed(breach, clock, at("2034-06-06 14:00"))
    assert passed(breach, clock, at("2034-06-06 14:00:01"))
    ended = folded(start("2034-06-06 10:00", "4h", G), Resolved(at=at("2034-06-06 14:00")))
    assert not passed(rungs(ended, LADDER, KNOWN)[2], ended, at("2034-06-07 00:00"))


# ---------------------------------------------------------------- 9: event time


def test_rule_9_events_count_at_their_own_time_in_whatever_order_they_are_heard() -> None:
    events: list[ClockEvent] = [
        start("2034-06-06 10:00", "4h", G), *hold("2034-06-06 11:00", "2034-06-06 12:00"),
        Resolved(at=at("2034-06-06 13:00")), Reopened(at=at("2034-06-06 14:00")),
    ]  # fmt: skip
    assert {folded(*heard).model_dump_json() for heard in permutations(events)} == {
        folded(*events).model_dump_json()
    }


def test_rule_9_a_late_resolution_takes_back_what_was_a_breach() -> None:
    began = start("2034-06-06 09:00", "2h", G)
    now = at("2034-06-06 12:00")
    assert breached(folded(began), now)
    heard_late = folded(began, Resolved(at=at("2034-06-06 10:00")))
    assert (heard_late.result, breached(heard_late, now)) == ("met", False)


def test_rule_9_what_happened_before_the_start_counts_as_of_the_start() -> None:
    clock = folded(start("2034-06-06 10:00", "2h", G), Resolved(at=at("2034-06-06 09:59")))
    assert (clock.result, clock.ended_at, clock.consumed) == ("met", at("2034-06-06 10:00"), timedelta())


# ---------------------------------------------------------------- 10: calendars that cannot say


def test_rule_10_an_unknown_calendar_is_an_error_when_the_clock_starts() -> None:
    unknown = Started(
        at=at("2034-06-06 10:00"), target=target("1h", calendar("nope", "UTC", {"mon": "09:00-10:00"}))
    )
    with pytest.raises(CalendarError, match="There is no calendar nope in the policy v1: expected one of"):
        folded(unknown)


@pytest.mark.parametrize("hours", [{}, {"mon": ""}])
def test_rule_10_a_calendar_without_working_time_is_an_error(hours: dict[str, str]) -> None:
    with pytest.raises(CalendarError, match="The calendar empty has no working time: give it hours"):
        WorkingCalendar(calendar("empty", "UTC", hours))


def test_rule_10_a_holiday_list_that_ends_before_the_due_date_is_an_error() -> None:
    last_hours = start("2016-12-30 17:00", "2h", H)  # 18:00 in Berlin
    assert folded(last_hours).due_at == at("2016-12-30 19:00")
    with pytest.raises(
        CalendarError, match="of the calendar h end on 2016-12-31, before the due date 2017-01-02"
    ):
        folded(start("2016-12-30 17:00", "3h", H))
    with pytest.raises(CalendarError, match="begin on 2016-01-01: what starts on 2015-12-31 has no due date"):
        folded(start("2015-12-31 10:00", "1h", H))


def test_rule_10_the_last_instant_of_the_last_known_date_can_be_due() -> None:
    whole_days = compiled(
        calendar("days", "Europe/Berlin", {"mon-sun": "00:00-24:00"}, holidays_until=date(2016, 12, 31))
    )
    assert whole_days.due(at("2016-12-31 22:00"), hours(1)) == at("2016-12-31 23:00")  # midnight in Berlin
    with pytest.raises(CalendarError, match="end on 2016-12-31"):
        whole_days.due(at("2016-12-31 22:00:01"), hours(1))


def test_rule_10_a_clock_that_runs_is_not_lost_when_the_holidays_end() -> None:
    clock = folded(start("2016-12-30 17:00", "2h", H), *hold("2016-12-30 18:00", "2017-01-03 10:00"))
    assert clock.due_at == at("2017-01-03 11:00")


def test_rule_10_the_end_is_told_60_days_before() -> None:
    known = compiled(H)
    assert known.expires_on == date(2016, 12, 31)
    assert known.expiry_warning(date(2016, 10, 31)) is None
    assert "end on 2016-12-31" in (known.expiry_warning(date(2016, 11, 1)) or "")
    assert "end on 2016-12-31" in (known.expiry_warning(date(2026, 1, 1)) or "")
    assert compiled(G).expiry_warning(date(2026, 1, 1)) is None


def test_rule_10_an_unknown_zone_is_an_error() -> None:
    with pytest.raises(CalendarError, match=r"in no known time zone \(Mars/Olympus\)"):
        WorkingCalendar(calendar("mars", "Mars/Olympus", {"mon": "09:00-10:00"}))


def test_rule_10_hours_that_are_used_up_are_an_error() -> None:
    once = calendar(
        "once", "UTC", {}, exceptions=({"on": date(2026, 1, 1), "name": "x", "hours": ("09:00-10:00",)},)
    )
    assert compiled(once).add(at("2025-06-01 00:00"), HOUR) == at("2026-01-01 10:00")
    with pytest.raises(CalendarError, match="not enough working time"):
        compiled(once).add(at("2025-06-01 00:00"), 61 * MINUTE)
    with pytest.raises(CalendarError, match="not enough working time"):
        compiled(once).back(at("2026-06-01 00:00"), 61 * MINUTE)


# ---------------------------------------------------------------- 11: explainable


def test_rule_11_the_counted_intervals_holds_holidays_and_policy_are_told() -> None:
    clock = folded(start("2016-10-31 18:00", "3h", H), *hold("2016-11-02 07:30", "2016-11-02 09:00"))
    why = explain(clock, KNOWN)
    assert why.counted == (
        Counted(since=at("2016-10-31 18:00"), until=at("2016-10-31 19:00"), consumed=HOUR),
        Counted(since=at("2016-11-02 07:00"), until=at("2016-11-02 07:30"), consumed=1.5 * HOUR),
        Counted(since=at("2016-11-02 09:00"), until=at("2016-11-02 10:30"), consumed=3 * HOUR),
    )
    assert why.due_at == at("2016-11-02 10:30")
    assert [hold.reason for hold in why.holds] == ["weather"]
    assert why.holidays == (Holiday(on=date(2016, 11, 1), name="Allerheiligen", source="test"),)
    assert why.policy_versions == ("v1",)


def test_rule_11_after_a_retarget_both_policies_are_named() -> None:
    clock = folded(
        start("2034-06-06 10:00", "8h", G),
        Retargeted(at=at("2034-06-06 12:00"), target=target("4h", AROUND, version="v2")),
    )
    assert explain(clock, KNOWN).policy_versions == ("v1", "v2")
    assert explain(clock, KNOWN).counted[-1].consumed == clock.budget


# ---------------------------------------------------------------- 12: working days


@pytest.mark.parametrize(
    ("begun", "days", "due"),
    [
        ("2026-03-10 15:00", 1, "2026-03-11 15:00"),  # the same wall time
        ("2026-03-06 16:00", 1, "2026-03-09 15:00"),  # over the weekend in which the clocks change: 10:00
        ("2026-03-10 21:30", 1, "2026-03-11 21:30"),  # on closing time: the end of that day's hours
        ("2026-03-10 23:00", 1, "2026-03-11 21:30"),  # in the evening
        ("2026-03-10 11:00", 1, "2026-03-11 21:30"),  # before opening
        ("2026-03-14 15:00", 1, "2026-03-16 15:00"),  # on a Saturday
        ("2026-03-10 13:30", 1, "2026-03-11 13:30"),  # at opening: not the closing before
    ],
)
def test_rule_12_n_working_days_are_the_same_wall_time_or_the_end_of_that_day(
    begun: str, days: int, due: str
) -> None:
    assert folded(start(begun, f"{days}d", OFFICE)).due_at == at(due)
    assert folded(start(begun, f"{days}wd", OFFICE)).due_at == at(due)


def test_rule_12_24h_is_hours() -> None:
    assert folded(start("2026-03-10 15:00", "24h", OFFICE)).due_at == at("2026-03-13 15:00")
    assert folded(start("2026-03-10 15:00", "24h", AROUND)).due_at == at("2026-03-11 15:00")


def test_rule_12_in_a_lunch_break_it_is_the_end_of_the_day() -> None:
    lunch = compiled(calendar("lunch", "UTC", {"mon-fri": "09:00-12:00 13:00-17:00"}))
    assert lunch.add_days(at("2026-03-10 12:30"), 1) == at("2026-03-11 17:00")


def test_rule_12_a_day_after_a_hold_goes_on_in_working_time() -> None:
    clock = folded(start("2026-03-10 15:00", "2d", OFFICE), *hold("2026-03-10 16:00", "2026-03-11 16:00"))
    assert clock.due_at == at("2026-03-13 15:00")  # a working day on hold is a working day later


# ---------------------------------------------------------------- how a clock is kept


def test_a_clock_is_kept_as_json_and_read_again() -> None:
    clock = folded(
        start("2016-10-31 18:00", "3h", H), *hold("2016-11-02 07:30", "2016-11-02 09:00"),
        Resolved(at=at("2016-11-02 09:30")), Reopened(at=at("2016-11-30 09:30")),
    )  # fmt: skip
    assert Clock.model_validate_json(clock.model_dump_json()) == clock


def test_events_without_a_start_are_no_clock() -> None:
    assert fold("resolve", [Resolved(at=at("2034-06-06 10:00"))], KNOWN, RULES) is None


def test_a_second_start_changes_nothing() -> None:
    first = start("2034-06-06 10:00", "2h", G)
    assert folded(first, start("2034-06-07 10:00", "8h", G)) == folded(first)


def test_a_window_of_nothing_always_begins_a_new_cycle() -> None:
    rules = Rules(frozenset(), timedelta())
    events: list[ClockEvent] = [start("2034-06-06 10:00", "2h", G), Resolved(at=at("2034-06-06 11:00"))]
    assert folded(*events, Reopened(at=at("2034-06-06 11:00:01")), rules=rules).cycle == 2


def test_example_calendars_are_in_their_zones() -> None:
    assert (
        compiled(B).consumed(datetime(2013, 6, 4, tzinfo=UTC), datetime(2013, 6, 5, tzinfo=UTC)) == 9 * HOUR
    )
