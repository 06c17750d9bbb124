"""The examples 1 to 9 of SLA.md, with their figures."""

from datetime import UTC, datetime, timedelta

import pytest

from agents.sla.clock import consumed, rungs
from schemas.sla import Boundary, Clock, Held, Length, Reopened, Resolved, RungTerms
from tests.unit.sla_samples import KNOWN, MIXED, B, G, H, at, compiled, folded, hold, start


def left(clock: Clock, now: datetime) -> timedelta:
    return clock.budget - consumed(clock, now, KNOWN)


def test_example_1_a_hold_and_a_reopening() -> None:
    clock = folded(
        start("2013-06-04 09:00", "120m", B),
        *hold("2013-06-04 09:30", "2013-06-04 09:45"),
        Resolved(at=at("2013-06-04 10:00")),
        Reopened(at=at("2013-06-04 10:30")),
    )
    assert clock.due_at == at("2013-06-04 11:45")


@pytest.mark.parametrize(("boundary", "due"), [("roll", "2013-06-05 07:00"), ("stay", "2013-06-04 16:00")])
def test_example_2_a_deadline_on_closing_time(boundary: Boundary, due: str) -> None:
    clock = folded(
        start("2013-06-04 09:00", "120m", B, boundary), *hold("2013-06-04 10:00", "2013-06-04 15:00")
    )
    assert clock.due_at == at(due)


def test_example_3_a_hold_and_resolved() -> None:
    clock = folded(
        start("2013-06-04 09:00", "250m", B),
        *hold("2013-06-04 10:00", "2013-06-04 10:30"),
        Resolved(at=at("2013-06-04 12:00")),
    )
    assert (clock.consumed, left(clock, at("2013-06-05 12:00"))) == (
        timedelta(minutes=150),
        timedelta(minutes=100),
    )


def test_example_4_on_hold_until_resolved() -> None:
    clock = folded(
        start("2013-06-04 09:00", "240m", B),
        Held(at=at("2013-06-04 09:00"), reason="weather"),
        Resolved(at=at("2013-06-04 12:00")),
    )
    assert (clock.consumed, left(clock, at("2013-06-05 12:00"))) == (timedelta(), timedelta(minutes=240))


def test_example_5_a_start_on_a_holiday() -> None:
    due = compiled(H).due(at("2016-11-01 13:56:21"), Length(timedelta(minutes=120), 0))
    assert due == at("2016-11-02 09:00")


def test_example_6_a_hold_and_a_rung_after_the_breach() -> None:
    clock = folded(start("2034-06-09 08:46:12", "4h", G), *hold("2034-06-09 09:15:27", "2034-06-09 11:23:49"))
    assert clock.due_at == at("2034-06-09 14:54:34")
    [rung] = rungs(clock, [RungTerms(name="late", after_breach="10h")], KNOWN)
    assert rung.at == at("2034-06-12 16:24:34")


def test_example_7_holds_over_days() -> None:
    holds = [
        ("2034-06-05 11:00", "2034-06-07 09:30"),
        ("2034-06-07 10:00", "2034-06-08 09:00"),
    ]
    clock = folded(start("2034-06-05 10:00", "4h", G), *[e for one in holds for e in hold(*one)])
    assert clock.due_at == at("2034-06-08 12:00")
    on_hold = sum((compiled(G).consumed(at(since), at(until)) for since, until in holds), timedelta())
    assert on_hold.total_seconds() == 104_400


def test_example_8_working_days_and_a_rung_before() -> None:
    clock = folded(start("2034-06-09 08:46:12", "5d", G))
    assert clock.due_at == at("2034-06-16 08:46:12")
    assert compiled(G).back(at("2034-06-16 08:46:12"), timedelta(hours=8)) == at("2034-06-15 11:16:12")


def test_example_9_a_week_of_mixed_hours_and_the_reversed_range() -> None:
    first, last = datetime(2006, 1, 1, tzinfo=UTC), datetime(2006, 1, 8, tzinfo=UTC)
    assert compiled(MIXED).consumed(first, last) == timedelta(hours=39.5)
    assert compiled(MIXED).consumed(last, first) == timedelta()
