"""Quiet hours and digests: wall times of the person's zone, whatever its clocks do."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agents.notify.when import LONGEST_QUIET, after_quiet, due, next_digest
from schemas.oncall import Digest, Person, QuietHours, QuietSpan

GATHER = timedelta(seconds=20)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def pat(*spans: QuietSpan, zone: str = "America/Chicago", from_level: int = 3, **more: Any) -> Person:
    quiet = QuietHours(spans=spans, from_level=from_level) if spans else None
    return Person(code="pat", name="Pat", time_zone=zone, channels=("mail",), quiet=quiet, **more)


NIGHT = QuietSpan(hours="22:00-07:00")


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-24T21:59:59-06:00", "2026-11-24T21:59:59-06:00"),
        ("2026-11-24T22:00:00-06:00", "2026-11-25T07:00:00-06:00"),
        ("2026-11-25T03:00:00-06:00", "2026-11-25T07:00:00-06:00"),
        ("2026-11-25T07:00:00-06:00", "2026-11-25T07:00:00-06:00"),
        # the night in which the clocks go forward, and the one in which they go back
        ("2026-03-07T23:00:00-06:00", "2026-03-08T07:00:00-05:00"),
        ("2026-10-31T23:00:00-05:00", "2026-11-01T07:00:00-06:00"),
    ],
)
def test_quiet_hours_over_midnight_end_at_their_wall_time(now: str, expected: str) -> None:
    assert after_quiet(pat(NIGHT), 2, at(now)) == at(expected)


def test_an_important_message_does_not_wait() -> None:
    now = at("2026-11-24T23:00:00-06:00")
    assert [after_quiet(pat(NIGHT), level, now) == now for level in (1, 2, 3, 4)] == [
        False,
        False,
        True,
        True,
    ]


def test_the_days_are_those_on_which_quiet_hours_begin() -> None:
    weekend = QuietSpan(hours="22:00-07:00", days=("sat",))
    sunday_3am, monday_3am = at("2026-11-22T03:00:00-06:00"), at("2026-11-23T03:00:00-06:00")
    assert after_quiet(pat(weekend), 1, sunday_3am) == at("2026-11-22T07:00:00-06:00")
    assert after_quiet(pat(weekend), 1, monday_3am) == monday_3am


def test_spans_that_follow_one_another_are_waited_for_together() -> None:
    spans = (QuietSpan(hours="18:00-24:00"), QuietSpan(hours="00:00-06:00"))
    assert after_quiet(pat(*spans), 1, at("2026-11-24T19:00:00-06:00")) == at("2026-11-25T06:00:00-06:00")


def test_who_is_always_quiet_is_told_after_a_week() -> None:
    now = at("2026-11-24T19:00:00-06:00")
    told = after_quiet(pat(QuietSpan(hours="00:00-24:00")), 1, now)
    assert LONGEST_QUIET <= told - now <= LONGEST_QUIET + timedelta(days=1)


@pytest.mark.parametrize(
    "zone", ["America/Chicago", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago"]
)
def test_a_daily_digest_comes_once_each_day_at_its_wall_time_all_year(zone: str) -> None:
    digest = Digest(every="day", at="08:00", up_to_level=1)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    days = set()
    for _ in range(365):
        now = next_digest(digest, zone, now)
        local = now.astimezone(ZoneInfo(zone))
        assert (local.hour, local.minute) == (8, 0)
        days.add(local.date())
    assert len(days) == 365


def test_a_digest_in_the_hour_that_is_left_out_comes_an_hour_later_and_in_the_doubled_hour_once() -> None:
    digest = Digest(every="day", at="02:30", up_to_level=1)
    assert next_digest(digest, "America/Chicago", at("2026-03-08T01:00:00-06:00")) == at(
        "2026-03-08T03:30:00-05:00"
    )
    first = next_digest(digest, "America/New_York", at("2026-11-01T00:00:00-04:00"))
    doubled = next_digest(
        Digest(every="day", at="01:30", up_to_level=1), "America/New_York", at("2026-11-01T00:00:00-04:00")
    )
    assert doubled == at("2026-11-01T01:30:00-04:00")
    assert next_digest(Digest(every="day", at="01:30", up_to_level=1), "America/New_York", doubled) == at(
        "2026-11-02T01:30:00-05:00"
    )
    assert first == at("2026-11-01T02:30:00-05:00")


def test_a_weekly_digest_comes_on_its_day_never_now() -> None:
    digest = Digest(every="week", at="09:00", on="fri", up_to_level=2)
    friday = at("2026-11-27T09:00:00-06:00")
    assert next_digest(digest, "America/Chicago", at("2026-11-24T12:00:00-06:00")) == friday
    assert next_digest(digest, "America/Chicago", friday) == friday + timedelta(days=7)


def test_what_a_digest_collects_waits_for_it_the_rest_gathers() -> None:
    person = pat(digest=Digest(every="day", at="08:00", up_to_level=1))
    now = at("2026-11-24T12:00:00-06:00")
    assert due(person, 1, now, GATHER) == (at("2026-11-25T08:00:00-06:00"), "digest")
    assert due(person, 2, now, GATHER) == (now + GATHER, "gathering")


def test_a_digest_within_quiet_hours_waits_for_their_end() -> None:
    person = pat(NIGHT, digest=Digest(every="day", at="06:00", up_to_level=1))
    assert due(person, 1, at("2026-11-24T12:00:00-06:00"), GATHER) == (
        at("2026-11-25T07:00:00-06:00"),
        "digest",
    )


def test_what_gathers_into_quiet_hours_waits_for_their_end() -> None:
    now = at("2026-11-24T21:59:50-06:00")
    assert due(pat(NIGHT), 1, now, GATHER) == (at("2026-11-25T07:00:00-06:00"), "quiet")
