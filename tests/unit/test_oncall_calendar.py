"""iCalendar of who is on call: what goes out can be read back, and what comes in is understood or refused."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from icalendar import Calendar

from agents.sla.oncall import schedule
from infra.oncall.calendar import Event, NoCalendar, Reader, Refused, calendar_text, read_events
from infra.policy.load import load_policy
from schemas.oncall import Override, Shift

ONCALL = load_policy().oncall
CHICAGO = ZoneInfo("America/Chicago")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
READER = Reader(ONCALL.persons, CHICAGO, NOW)


def calendar(*events: str) -> bytes:
    """Events as a file; each is lines that are separated by a bar."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:test"]
    for event in events:
        lines += ["BEGIN:VEVENT", *event.split("|"), "END:VEVENT"]
    return "\r\n".join([*lines, "END:VCALENDAR", ""]).encode()


def one(event: str) -> Event | Refused:
    [found] = read_events(calendar(event), READER)
    return found


def understood(event: str) -> Event:
    found = one(event)
    assert isinstance(found, Event), found
    return found


def because(event: str) -> str:
    found = one(event)
    assert isinstance(found, Refused), found
    return found.because


WHEN = "UID:1|DTSTART:20260302T140000Z|DTEND:20260303T140000Z"

# ---------------------------------------------------------------- out


def shifts(since: datetime, days: int, overrides: tuple[Override, ...] = ()) -> tuple[Shift, ...]:
    until = since + timedelta(days=days)
    return schedule("duty_supervisor", since, until, oncall=ONCALL, overrides=overrides)


def exported(
    found: tuple[Shift, ...], begun: datetime = NOW - timedelta(days=366), now: datetime = NOW
) -> str:
    role = ONCALL.role("duty_supervisor")
    assert role is not None
    return calendar_text(role, "", found, begun, now)


def nobody_for_a_night() -> Override:
    return Override(
        override_id=4, role="duty_supervisor", person=None, since=datetime(2026, 3, 4, 4, tzinfo=UTC),
        until=datetime(2026, 3, 4, 12, tzinfo=UTC), by="cli:ops", why="the desk moves", made_at=NOW,
    )  # fmt: skip


def test_what_goes_out_is_a_calendar_with_every_turn_and_gap() -> None:
    found = shifts(NOW, 20, (nobody_for_a_night(),))
    text = exported(found)
    events: list[Any] = Calendar.from_ical(text).walk("VEVENT")
    assert [(one.start, one.end) for one in events] == [(shift.since, shift.until) for shift in found]
    assert [str(one["SUMMARY"]) for one in events] == [
        "Duty supervisor, team B", "Duty supervisor, team C", "nobody", "Duty supervisor, team C",
        "Duty supervisor, team A", "Duty supervisor, team B",
    ]  # fmt: skip
    assert {one["DTSTAMP"].dt for one in events} == {NOW}
    assert len({str(one["UID"]) for one in events}) == len(events)
    assert all(len(line) <= 75 for line in text.split("\r\n"))


def test_what_goes_out_can_come_in_again() -> None:
    found = shifts(NOW, 20, (nobody_for_a_night(),))
    read = read_events(exported(found).encode(), READER)
    assert [(one.person, one.since, one.until) for one in read if isinstance(one, Event)] == [
        (shift.people[0].code if shift.people else None, shift.since, shift.until) for shift in found
    ]


def test_the_same_turn_has_the_same_id_in_every_export() -> None:
    def ids(since: datetime) -> list[str]:
        begun = since - timedelta(days=366)
        text = exported(tuple(one for one in shifts(begun, 366 + 20) if one.until > since), begun, since)
        return [str(one["UID"]) for one in Calendar.from_ical(text).walk("VEVENT")]

    earlier, later = ids(NOW), ids(NOW + timedelta(days=5))
    assert earlier[1:] == later[: len(earlier) - 1]  # one turn has ended, one has come
    assert ids(NOW) == earlier


# ---------------------------------------------------------------- in: who


@pytest.mark.parametrize(
    ("said", "person"),
    [
        ("SUMMARY:duty_a", "duty_a"),
        ("SUMMARY:Duty supervisor\\, team A", "duty_a"),
        ("SUMMARY:  On call:  DUTY SUPERVISOR\\,  Team B (weekly)", "duty_b"),
        ("SUMMARY:On call|ATTENDEE;CN=\"Duty supervisor, team C\":mailto:c@example.org", "duty_c"),
        ("SUMMARY:On call|ATTENDEE:mailto:Duty-C@example.org", "duty_c"),
        ("SUMMARY:duty_a|ATTENDEE:mailto:duty_c@example.org", "duty_c"),  # who is invited goes before the title
        ("SUMMARY:duty_a|ATTENDEE:mailto:somebody@example.org", "duty_a"),
        ("SUMMARY:duty_a|X-RAPID-PERSON:duty_b", "duty_b"),
        ("SUMMARY:Engagement manager\\, west side", "engagement_west"),  # and not `engagement`, a part of it
        ("SUMMARY:Nobody", None),
    ],
)  # fmt: skip
def test_whom_an_event_names(said: str, person: str | None) -> None:
    assert understood(f"{WHEN}|{said}").person == person


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("SUMMARY:Ann Example", "names nobody of the policy in the title 'Ann Example'"),
        ("SUMMARY:duty_ab", "names nobody of the policy in the title 'duty_ab'"),
        ("DESCRIPTION:duty_a", "names nobody of the policy in the title ''"),
        ("SUMMARY:duty_a and duty_b", "names duty_a and duty_b; expected one person"),
        ("SUMMARY:x|ATTENDEE:mailto:duty_a@example.org|ATTENDEE:mailto:duty_b@example.org",
         "names duty_a and duty_b; expected one person"),
        ("SUMMARY:duty_a|X-RAPID-PERSON:duty_z", "names nobody of the policy in X-RAPID-PERSON duty_z"),
    ],
)  # fmt: skip
def test_an_event_that_names_nobody_or_two_is_refused(said: str, expected: str) -> None:
    assert because(f"{WHEN}|{said}") == expected


# ---------------------------------------------------------------- in: when


def utc(year: int, month: int, day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("times", "since", "until"),
    [
        ("DTSTART:20260302T140000Z|DTEND:20260303T140000Z", utc(2026, 3, 2, 14), utc(2026, 3, 3, 14)),
        ("DTSTART:20260302T080000|DURATION:P1D", utc(2026, 3, 2, 14), utc(2026, 3, 3, 14)),  # the city's clocks
        ("DTSTART;TZID=Europe/Berlin:20260302T080000|DTEND;TZID=Europe/Berlin:20260302T090000",
         utc(2026, 3, 2, 7), utc(2026, 3, 2, 8)),
        ("DTSTART;VALUE=DATE:20260308", utc(2026, 3, 8, 6), utc(2026, 3, 9, 5)),  # a day of 23 hours
        ("DTSTART;VALUE=DATE:20261031|DTEND;VALUE=DATE:20261102", utc(2026, 10, 31, 5), utc(2026, 11, 2, 6)),
        ("DTSTART:20260308T023000|DTEND:20260308T040000", utc(2026, 3, 8, 8, 30), utc(2026, 3, 8, 9)),  # in a gap
        ("DTSTART:20261101T013000|DTEND:20261101T020000", utc(2026, 11, 1, 6, 30), utc(2026, 11, 1, 8)),  # twice
    ],
)  # fmt: skip
def test_when_an_event_is(times: str, since: datetime, until: datetime) -> None:
    found = understood(f"UID:1|SUMMARY:duty_a|{times}")
    assert (found.since, found.until) == (since, until)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (f"{WHEN}|RRULE:FREQ=WEEKLY", "repeats (RRULE): write every time out, or make it a rotation of the policy"),
        (f"{WHEN}|RDATE:20260310T140000Z", "repeats (RRULE): "),
        (f"{WHEN}|RECURRENCE-ID:20260302T140000Z", "repeats (RRULE): "),
        (f"{WHEN}|STATUS:CANCELLED", "is marked as cancelled"),
        ("DTSTART:20260302T140000Z|DTEND:20260303T140000Z", "has no UID, so that it could not be known again"),
        ("UID:1|DTEND:20260303T140000Z", "has no beginning (DTSTART)"),
        ("UID:1|DTSTART:20260302T140000Z", "has no end (DTEND or DURATION)"),
        ("UID:1|DTSTART:garbage|DTEND:20260303T140000Z", "has a broken DTSTART ("),
        ("UID:1|DTSTART;TZID=Nowhere/Zone:20260302T140000|DTEND:20260303T140000Z",
         "has a DTSTART in a zone that is not known (Nowhere/Zone)"),
        ("UID:1|DTSTART:20260303T140000Z|DTEND:20260302T140000Z", "lasts -1 day, 0:00:00: expected more than "),
        ("UID:1|DTSTART:20260302T140000Z|DURATION:P400D", "lasts 400 days, 0:00:00: expected more than nothing and "),
        ("UID:1|DTSTART:20260301T000000Z|DTEND:20260301T120000Z", "is over already"),
        ("UID:1|DTSTART:99991231T235959|DTEND:99991231T235959", "is at no possible time"),
        ("UID:1|DTSTART:20260302T140000Z|DURATION:P9999999W", "is at no possible time"),
        ("UID:1|DTSTART:20260302T140000Z|DURATION:P99999999999999W", "has a broken DURATION ("),
        ("UID:1|DTSTART;VALUE=PERIOD:20260302T140000Z/PT1H", "has a DTSTART that is no time"),
        (f"{WHEN}|DTSTART:20260302T150000Z", "has more than one DTSTART"),
        (f"{WHEN}|SUMMARY:duty_b", "has more than one SUMMARY"),
        ("UID:1|DTSTART;VALUE=DATE:99991231", "is at no possible time"),
    ],
)  # fmt: skip
def test_an_event_that_cannot_be_an_override_is_refused(event: str, expected: str) -> None:
    assert because(f"{event}|SUMMARY:duty_a").startswith(expected)


def test_each_event_is_told_of_and_an_id_counts_once() -> None:
    found = read_events(
        calendar(f"{WHEN}|SUMMARY:duty_a", "UID:2|SUMMARY:Lunch", f"{WHEN}|SUMMARY:duty_b"), READER
    )
    assert [type(event).__name__ for event in found] == ["Event", "Refused", "Refused"]
    assert [event.number for event in found] == [1, 2, 3]
    assert found[2] == Refused(3, "duty_b", "has the same UID as event 1")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "is no iCalendar file"),
        (b"<html>not found</html>", "is no iCalendar file"),
        (b"\xff\xfe\x00", "is no iCalendar file"),
        (calendar(), "has 0 events; expected 1 to 2000"),
        (b"x" * 1_000_001, "is larger than 1000000 bytes"),
    ],
)
def test_a_file_that_is_no_calendar_is_told_so(raw: bytes, expected: str) -> None:
    with pytest.raises(NoCalendar, match=expected):
        read_events(raw, READER)


LINES = [
    "BEGIN:VEVENT", "END:VEVENT", "BEGIN:VTIMEZONE", "END:VTIMEZONE", "TZID:X", "UID:1", "SUMMARY:duty_a", " folded",
    "DTSTART:20260302T140000Z", "DTEND:20260303T140000Z", "DTSTART;TZID=X:20260302T140000", "DURATION:P1D",
    "DTEND;VALUE=DATE:20260303", "RRULE:", "ATTENDEE;CN=x:mailto:", "ATTENDEE;CN=a;CN=b:", "X-RAPID-PERSON:duty_a",
    "DURATION:-P1D", "STATUS;X=1:CANCELLED", "\x00", "\xff", ":",
]  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.sampled_from(LINES), max_size=14))
def test_whatever_a_file_holds_it_is_understood_or_refused(lines: list[str]) -> None:
    try:
        found = read_events(calendar("|".join(lines or ["UID:1"])), READER)
    except NoCalendar:
        return
    for event in found:
        assert isinstance(event, Refused) or NOW < event.until <= event.since + timedelta(days=366)
