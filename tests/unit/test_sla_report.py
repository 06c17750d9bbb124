"""What was promised and what was kept: which promise counts as what, for whom, and how sure a share is."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest

from agents.sla.report import (
    Counting,
    Departure,
    Grouping,
    NoClock,
    Period,
    Promised,
    Report,
    Tally,
    Waiting,
    standing,
    wilson,
)
from schemas.promise import Failure, Promises
from schemas.sla import (
    Cancelled,
    Clock,
    ClockEvent,
    Held,
    Renewed,
    Reopened,
    Resolved,
    Retargeted,
)
from schemas.work_order import ClockName
from tests.unit.sla_samples import AROUND, KNOWN, G, at, folded, hold, start, target

NOW = at("2034-06-30 12:00")
BEGAN = start("2034-06-06 10:00", "2h", G)
ORDER = UUID(int=7)


def order(
    *clocks: Clock, department: str = "cdot", area: int | None = 25, failures: tuple[Failure, ...] = ()
) -> Promised:
    promises = Promises(order_id=ORDER, clocks=clocks, failures=failures)
    return Promised(
        ORDER, "WO-00000-00007", department, "graffiti", area, "high", at("2034-06-06 10:00"), promises
    )


def counted(
    *orders: Promised,
    by: Grouping = "department",
    period: Period | None = None,
    departures: tuple[Departure, ...] = (),
) -> Report:
    counting = Counting(Report(by), period or Period(NOW), KNOWN)
    for one in orders:
        counting.add(one, departures)
    return counting.found


# ---------------------------------------------------------------- Wilson's interval


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_has_the_published_figures(hits: int, of: int, low: float, high: float) -> None:
    found = wilson(hits, of)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_the_interval_of_the_kept_mirrors_that_of_the_broken() -> None:
    kept, broken = wilson(15, 148), wilson(133, 148)
    assert kept.low == pytest.approx(1 - broken.high)
    assert kept.high == pytest.approx(1 - broken.low)
    assert wilson(20, 20).high == 1.0
    assert wilson(0, 20).low == 0.0


def test_a_share_of_few_is_not_told_but_its_interval_is() -> None:
    few, enough = Tally(kept=8, late=1), Tally(kept=8, late=1, open_late=1)
    assert (few.judged, few.share, few.interval) == (9, None, wilson(8, 9))
    assert (enough.judged, enough.share) == (10, 0.8)
    assert (Tally(cancelled=5, open_in_time=3).interval, Tally().share) == (None, None)


# ---------------------------------------------------------------- what a promise counts as

HELD = Held(at=at("2034-06-06 11:00"), reason="weather")
STANDINGS: list[tuple[str, list[ClockEvent], str]] = [
    ("kept", [BEGAN, Resolved(at=at("2034-06-06 12:00"))], "2034-06-30 12:00"),  # at the due time itself
    ("late", [BEGAN, Resolved(at=at("2034-06-06 12:00:01"))], "2034-06-30 12:00"),
    ("open_late", [BEGAN], "2034-06-06 12:00:01"),
    ("open_in_time", [BEGAN], "2034-06-06 12:00"),
    ("on_hold", [BEGAN, HELD], "2034-06-30 12:00"),
    ("open_late", [BEGAN, Held(at=at("2034-06-06 13:00"), reason="weather")], "2034-06-06 14:00"),
    ("cancelled", [BEGAN, Cancelled(at=at("2034-06-06 11:00"))], "2034-06-30 12:00"),
    ("late", [BEGAN, Cancelled(at=at("2034-06-06 13:00"))], "2034-06-30 12:00"),  # broken before
    ("cancelled", [BEGAN, HELD, Cancelled(at=at("2034-06-20 13:00"))], "2034-06-30 12:00"),
    ("open_in_time", [BEGAN, *hold("2034-06-06 11:00", "2034-06-30 11:30")], "2034-06-30 12:00"),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "events", "now"), STANDINGS)
def test_what_a_promise_counts_as(expected: str, events: list[ClockEvent], now: str) -> None:
    assert standing(folded(*events), at(now)) == expected


def test_met_late_is_not_kept() -> None:
    met = folded(BEGAN, Resolved(at=at("2034-06-06 11:00")))
    late = folded(BEGAN, Resolved(at=at("2034-06-06 12:01")))
    [(_, tally)] = counted(order(met), order(late), order(folded(BEGAN))).rows()
    assert (tally.kept, tally.late, tally.open_late, tally.judged) == (1, 1, 1, 3)


def test_past_cycles_are_promises_of_their_own() -> None:
    again = folded(
        BEGAN, Resolved(at=at("2034-06-06 13:00")), Reopened(at=at("2034-06-27 10:00")),
        Resolved(at=at("2034-06-27 11:00")),
    )  # fmt: skip
    assert again.cycle == 2
    [(key, tally)] = counted(order(again)).rows()
    assert (key, tally) == (("cdot", "resolve"), Tally(kept=1, late=1))


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (Resolved(at=at("2034-06-06 12:00")), Tally(kept=1, open_late=1)),  # at the due time itself
        (Resolved(at=at("2034-06-06 12:00:01")), Tally(late=1, open_late=1)),
        (Renewed(at=at("2034-06-06 12:00")), Tally(cancelled=1, open_late=1)),
        (Renewed(at=at("2034-06-06 12:00:01")), Tally(late=1, open_late=1)),  # passed on when it was broken
    ],
)
def test_a_past_cycle_counts_as_it_ended(ended: ClockEvent, expected: Tally) -> None:
    again = folded(BEGAN, ended, Reopened(at=at("2034-06-27 10:00")))
    assert again.cycle == 2
    [(_, tally)] = counted(order(again)).rows()
    assert tally == expected


def test_what_ended_before_an_order_was_passed_on_is_the_former_departments() -> None:
    passed_on = folded(BEGAN, Renewed(at=at("2034-06-06 13:00")), Resolved(at=at("2034-06-06 14:00")))
    left = (
        Departure(at("2034-06-06 13:00"), "streets"),
        Departure(at("2034-06-01 13:00"), "parks"),  # had it before anything was promised
    )
    found = counted(order(passed_on), departures=left)
    assert found.rows() == [(("cdot", "resolve"), Tally(kept=1)), (("streets", "resolve"), Tally(late=1))]
    assert counted(order(passed_on)).rows() == [(("cdot", "resolve"), Tally(kept=1, late=1))]


def test_what_runs_is_the_present_departments_and_what_was_done_is_the_former_ones() -> None:
    left = (Departure(at("2034-06-07 13:00"), "parks"), Departure(at("2034-06-06 13:00"), "streets"))
    read = folded(BEGAN, Resolved(at=at("2034-06-06 10:30")), name="acknowledge")
    found = counted(order(read, folded(BEGAN)), departures=left)
    assert found.rows() == [
        (("cdot", "resolve"), Tally(open_late=1)),
        (("streets", "acknowledge"), Tally(kept=1)),
    ]


def test_a_hold_is_the_departments_that_had_the_order_then() -> None:
    clock = folded(
        BEGAN, *hold("2034-06-06 11:00", "2034-06-06 12:00"),
        *hold("2034-06-06 14:00", "2034-06-06 14:30"),
    )  # fmt: skip
    found = counted(order(clock), departures=(Departure(at("2034-06-06 12:00"), "streets"),))
    assert {group: waiting.elapsed for (group, _, _), waiting in found.waiting.items()} == {
        "streets": HOUR, "cdot": 0.5 * HOUR,
    }  # fmt: skip
    assert [group for (group, _), _ in found.rows()] == ["cdot"]


@pytest.mark.parametrize(
    ("by", "group"),
    [("department", "cdot"), ("area", "25"), ("category", "graffiti"), ("priority", "high"), ("clock", "resolve")],
)  # fmt: skip
def test_groups(by: Grouping, group: str) -> None:
    [((found, clock), _)] = counted(order(folded(BEGAN)), by=by).rows()
    assert (found, clock) == (group, "resolve")


def test_an_order_in_no_area_has_a_group_of_its_own() -> None:
    [((group, _), _)] = counted(order(folded(BEGAN), area=None), by="area").rows()
    assert group == ""


def test_clocks_are_in_their_order_and_totals_are_of_all_groups() -> None:
    def of(name: ClockName) -> Clock:
        return folded(BEGAN, Resolved(at=at("2034-06-06 11:00")), name=name)

    found = counted(order(of("resolve"), of("acknowledge")), order(of("resolve"), department="streets"))
    assert [key for key, _ in found.rows()] == [
        ("cdot", "acknowledge"), ("cdot", "resolve"), ("streets", "resolve"),
    ]  # fmt: skip
    assert found.totals() == [("acknowledge", Tally(kept=1)), ("resolve", Tally(kept=2))]


# ---------------------------------------------------------------- of a period


@pytest.mark.parametrize(
    ("since", "until", "promises"),
    [
        (None, None, 1),
        ("2034-06-06 10:00", None, 1),
        ("2034-06-06 10:00:01", None, 0),
        (None, "2034-06-06 10:00", 0),
        (None, "2034-06-06 10:00:01", 1),
    ],
)
def test_a_period_is_of_promises_that_began_in_it(
    since: str | None, until: str | None, promises: int
) -> None:
    period = Period(NOW, at(since) if since else None, at(until) if until else None)
    found = counted(order(folded(BEGAN)), period=period)
    assert sum(tally.judged for _, tally in found.rows()) == promises
    assert found.orders == promises


# ---------------------------------------------------------------- without a clock


def test_a_promise_without_a_clock_is_listed_and_counted_but_not_judged() -> None:
    failure = Failure(clock="resolve", because="The holidays end.")
    found = counted(order(folded(BEGAN, name="acknowledge"), failures=(failure,)))
    assert found.no_clock == [NoClock("WO-00000-00007", "cdot", "resolve", "The holidays end.")]
    assert dict(found.rows())["cdot", "resolve"] == Tally(no_clock=1)


def test_a_retarget_that_failed_is_listed_and_the_clock_counts_as_it_runs() -> None:
    failure = Failure(clock="resolve", because="The holidays end.")
    found = counted(order(folded(BEGAN), failures=(failure,)))
    assert len(found.no_clock) == 1
    assert found.rows() == [(("cdot", "resolve"), Tally(open_late=1))]


def test_a_promise_without_a_clock_is_of_the_period_in_which_its_order_was_opened() -> None:
    failure = Failure(clock="resolve", because="The holidays end.")
    found = counted(order(failures=(failure,)), period=Period(NOW, since=at("2034-06-07 00:00")))
    assert (found.no_clock, found.rows(), found.orders) == ([], [], 0)


def test_orders_without_any_promise_are_counted() -> None:
    before = order()._replace(promises=None)
    found = counted(before, order(), order(folded(BEGAN)))
    assert (found.orders, found.unpromised) == (3, 2)


# ---------------------------------------------------------------- holds

HOUR = timedelta(hours=1)


def waiting(*events: ClockEvent, now: datetime = NOW, name: ClockName = "resolve") -> dict[str, Waiting]:
    found = counted(order(folded(*events, name=name)), period=Period(now))
    return {reason: one for (_, _, reason), one in found.waiting.items()}


def test_holds_are_told_by_reason_with_working_and_elapsed_time() -> None:
    found = waiting(
        start("2034-06-05 10:30", "20h", G),  # Monday
        *hold("2034-06-05 18:00", "2034-06-06 09:30"),  # an hour, and an hour of the next morning
        *hold("2034-06-06 10:00", "2034-06-06 11:00"),
        *hold("2034-06-06 12:00", "2034-06-06 12:30", reason="owner_notice"),
    )
    assert found == {
        "weather": Waiting(2, 0, working=3 * HOUR, elapsed=16.5 * HOUR),
        "owner_notice": Waiting(1, 0, working=0.5 * HOUR, elapsed=0.5 * HOUR),
    }


def test_a_hold_that_goes_on_is_counted_until_now() -> None:
    held: list[ClockEvent] = [
        start("2034-06-05 10:30", "20h", G),
        Held(at=at("2034-06-05 18:00"), reason="weather"),
    ]
    assert waiting(*held, now=at("2034-06-06 08:45")) == {
        "weather": Waiting(1, 1, working=1.25 * HOUR, elapsed=14.75 * HOUR)
    }


def test_a_hold_over_a_retarget_counts_each_calendar_for_its_part() -> None:
    found = waiting(
        start("2034-06-05 10:30", "20h", G),
        Held(at=at("2034-06-05 18:00"), reason="weather"),
        Retargeted(at=at("2034-06-05 20:00"), target=target("30h", AROUND, version="v2")),
        Retargeted(at=at("2034-06-05 22:00"), target=target("30h", G, version="v2")),
        now=at("2034-06-06 09:30"),
    )
    assert found["weather"].working == (1 + 2 + 1) * HOUR


def test_a_hold_that_begins_with_a_retarget_counts_the_new_calendar() -> None:
    found = waiting(
        start("2034-06-05 10:30", "20h", G),
        Retargeted(at=at("2034-06-05 18:00"), target=target("30h", AROUND, version="v2")),
        *hold("2034-06-05 18:00", "2034-06-05 22:00"),
    )
    assert found["weather"].working == 4 * HOUR


def test_an_acknowledgement_never_waits() -> None:
    assert waiting(BEGAN, HELD, name="acknowledge") == {}
