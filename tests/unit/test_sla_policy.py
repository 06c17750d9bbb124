"""Calendars and promises of the policy: the shipped ones, and whatever can be wrong with them."""

import json
import shutil
from datetime import date, datetime
from pathlib import Path

import pytest

from agents.sla.calendar import Calendars
from agents.sla.clock import pinned, rules_of
from infra.policy.load import SHIPPED, PolicyError, PolicyErrors, load_policy
from schemas.policy import WORKS, Policy
from schemas.response import PRIORITIES
from schemas.sla import STAGES, ClockTerms, length_of
from schemas.work_order import ClockName
from tests.unit.sla_samples import at

CALENDARS, SLA, CATEGORIES = "calendars.yaml", "sla.yaml", "categories.yaml"
POLICY = load_policy()
OFFICES = next(calendar for calendar in POLICY.sla.calendars if calendar.code == "offices")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped policy, to be spoiled."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "policy"))


def plant(folder: Path, file: str, old: str, new: str) -> int:
    """Replaces the first place where a text stands in a file; the line of that place."""
    before, found, after = (folder / file).read_text().partition(old)
    assert found
    (folder / file).write_text(before + new + after)
    return before.count("\n") + 1


def errors_of(folder: Path) -> list[PolicyError]:
    with pytest.raises(PolicyErrors) as caught:
        load_policy(folder)
    return caught.value.errors


# ---------------------------------------------------------------- the shipped policy


def test_every_kind_of_work_has_its_promise_and_every_figure_its_source() -> None:
    for category in POLICY.categories:
        for work in WORKS:
            for priority in PRIORITIES:
                promise = POLICY.promise_for(category.code, work, priority)
                assert promise is not None
                assert all(terms.source for terms in promise.clocks)
                assert "acknowledge" in [terms.clock for terms in promise.clocks]


def test_what_is_more_urgent_is_promised_no_later() -> None:
    known = Calendars({POLICY.version: POLICY.sla.calendars})

    def due(terms: ClockTerms) -> datetime:
        calendar = known.get(POLICY.version, terms.calendar)
        return calendar.due(at("2026-03-10 15:00"), length_of(terms.budget))  # a Tuesday, 10:00

    for category in POLICY.categories:
        for work in WORKS:
            promises = [POLICY.promise_for(category.code, work, priority) for priority in PRIORITIES]
            for clocks in zip(*(promise.clocks for promise in promises if promise), strict=True):
                dues = [due(terms) for terms in clocks]
                assert dues == sorted(dues, reverse=True), (category.code, work, clocks[0].clock)


@pytest.mark.parametrize("category", ["vacant_lot", "abandoned_building"])
def test_lots_and_buildings_are_fixed_in_stages_one_after_the_other(category: str) -> None:
    promise = POLICY.promise_for(category, "fix", "high")
    assert promise is not None
    begun: list[ClockName] = [terms.clock for terms in promise.first_clocks()]
    assert begun == ["acknowledge", "inspect"]
    stages, done = [], "inspect"
    while following := promise.clocks_after(done):  # type: ignore[arg-type]
        [terms] = following
        stages.append(done := terms.clock)
    assert ("inspect", *stages) == STAGES


def test_street_lights_are_promised_as_the_audit_says() -> None:
    promise = POLICY.promise_for("street_light", "fix", "routine")
    assert promise is not None
    resolve = next(terms for terms in promise.clocks if terms.clock == "resolve")
    assert (resolve.budget, "OIG audit 2014" in resolve.source) == ("4wd", True)


def test_the_city_keeps_the_holidays_of_its_code_with_their_source() -> None:
    of_2026 = {day.on: day.name for day in OFFICES.holidays if day.on.year == 2026}
    assert of_2026 == {
        date(2026, 1, 1): "New Year's Day",
        date(2026, 1, 19): "Martin Luther King Jr. Day",
        date(2026, 2, 12): "Lincoln's Birthday",
        date(2026, 2, 16): "Washington's Birthday",
        date(2026, 3, 2): "Casimir Pulaski Day",
        date(2026, 5, 25): "Memorial Day",
        date(2026, 6, 19): "Juneteenth National Independence Day",
        date(2026, 7, 3): "Independence Day (observed)",
        date(2026, 7, 4): "Independence Day",
        date(2026, 9, 7): "Labor Day",
        date(2026, 10, 12): "Columbus Day",
        date(2026, 11, 11): "Veterans Day",
        date(2026, 11, 26): "Thanksgiving Day",
        date(2026, 12, 25): "Christmas Day",
    }  # and not the state's Election Day
    assert {day.source for day in OFFICES.holidays} == {"PyPI holidays, US/IL"}
    assert (OFFICES.holidays_from, OFFICES.holidays_until) == (date(2001, 1, 1), date(2036, 12, 31))


def test_a_clock_is_pinned_to_the_policy() -> None:
    promise = POLICY.promise_for("graffiti", "fix", "routine")
    assert promise is not None
    target = pinned(promise.clocks[1], POLICY)
    assert (target.budget, target.calendar, target.boundary, target.policy_version) == (
        "4wd", "offices", "stay", POLICY.version,
    )  # fmt: skip
    assert rules_of(POLICY).hold_reasons == {"owner_notice", "weather", "utility", "access", "police_scene"}


def test_a_policy_that_was_stored_before_there_were_promises_still_loads() -> None:
    stored = json.loads(POLICY.model_dump_json())
    del stored["sla"]
    old = Policy.model_validate_json(json.dumps(stored))
    assert old.promise_for("graffiti", "fix", "routine") is None
    assert old.sla.calendars == ()


def test_a_policy_is_stored_and_read_again() -> None:
    assert Policy.model_validate_json(POLICY.model_dump_json()) == POLICY


# ---------------------------------------------------------------- what can be wrong

OF_LIGHTS = "{clock: resolve, budget: 48h, calendar: 24x7,"
STREETS = "[street_light, alley_light, viaduct_light]"

# file, what stands there, what is planted instead, how the error goes on after the line
WRONG: list[tuple[str, str, str, str]] = [
    (SLA, OF_LIGHTS, "{clock: resolve, budget: 48h, calendar: 24x8,",
     "promises[1].clocks[1].calendar: expected a calendar (24x7, offices), found '24x8'"),
    (SLA, OF_LIGHTS, "{clock: resolve, budget: soon, calendar: 24x7,",
     "promises[1].clocks[1].budget: expected a length such as 30m, 4h or 5wd, found 'soon'"),
    (SLA, OF_LIGHTS, "{clock: resolve, budget: 0h, calendar: 24x7,",
     "promises[1].clocks[1].budget: expected a length such as 30m, 4h or 5wd, found '0h'"),
    (SLA, "after: notify_owner, budget: 20wd", "after: abate, budget: 20wd",
     ("promises[7].clocks[3].after: expected a clock that stands before (acknowledge, inspect, notify_owner), "
     "found 'abate'")),
    (SLA, "staged: [vacant_lot, ", "staged: [vacant_plot, ",
     ("staged[0]: expected a category (abandoned_building, alley_light, graffiti, street_light, vacant_lot, "
     "viaduct_light), found 'vacant_plot'")),
    (SLA, "percent: 75", "percent: 45", "rungs[1].percent: expected more than 50, found 45"),
    (SLA, "percent: 100, level: 2", "level: 2", "rungs[3]: expected either percent or after_breach"),
    (SLA, "percent: 100, level: 2", "percent: 100", "rungs[3].level: is missing"),
    (SLA, "percent: 100, level: 2", "percent: 100, level: 5",
     "rungs[3].level: expected at most 4, found 5"),
    (SLA, "name: graffiti_urgent", "name: graffiti_high",
     "promises[5].name: 'graffiti_high' is given twice, first in line "),
    (SLA, "boundary: stay", "boundary: bounce", "boundary: expected 'stay' or 'roll', found 'bounce'"),
    (CALENDARS, "time_zone: America/Chicago", "time_zone: America/Gotham",
     "calendars[0].time_zone: is wrong: The calendar offices is in no known time zone (America/Gotham)"),
    (CALENDARS, 'tue: ["08:30-16:30"]', 'tue: ["08:30-12:00", "11:00-16:30"]',
     ("calendars[0].hours.tue[1]: expected hours that end after they begin, in order and apart, "
     "found '11:00-16:30'")),
    (CALENDARS, 'tue: ["08:30-16:30"]', 'tue: ["8:30-16:30"]',
     "calendars[0].hours.tue[0]: expected hours such as 08:30-16:30, found '8:30-16:30'"),
    (CALENDARS, 'tue: ["08:30-16:30"]', 'tue: ["16:30-08:30"]',
     ("calendars[0].hours.tue[0]: expected hours that end after they begin, in order and apart, "
     "found '16:30-08:30'")),
    (CALENDARS, "subdivision: IL", "subdivision: XX",
     "calendars[0].holidays.library.subdivision: expected a country code, or one of its subdivisions"),
    (CALENDARS, "country: US", "country: ZZ",
     "calendars[0].holidays.library.country: expected a country code, or one of its subdivisions"),
    (CALENDARS, "without: [Election Day]", "without: [Voting Day]",
     ("calendars[0].holidays.library.without[0]: expected the name of a holiday of PyPI holidays, US/IL, "
     "found 'Voting Day'")),
    (CALENDARS, "years: {first: 2001, last: 2036}", "years: {first: 2001, last: 2000}",
     "calendars[0].holidays.years.last: expected 2001 or later, found 2000"),
    (CALENDARS, "code: 24x7", "code: offices",
     "calendars[1].code: 'offices' is given twice, first in line "),
    (CALENDARS, "files: []", "files: [{file: none.ics, years: {first: 2026, last: 2027}}]",
     "calendars[0].holidays.files[0].file: none.ics cannot be read: No such file or directory"),
    (CALENDARS, "files: []", "files: [{file: ../none.ics, years: {first: 2026, last: 2027}}]",
     "calendars[0].holidays.files[0].file: expected text that matches ^"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "says"), WRONG)
def test_what_is_wrong_is_told_with_file_line_and_key(
    folder: Path, file: str, old: str, new: str, says: str
) -> None:
    line = plant(folder, file, old, new)
    told = [str(error) for error in errors_of(folder)]
    assert [text for text in told if text.startswith(f"{file}:{line}: {says}")], told


def test_a_category_without_a_promise_is_told_at_the_category(folder: Path) -> None:
    line = plant(folder, CATEGORIES, "  - code: graffiti\n", "  - code: hydrant\n")
    expected = (
        "hydrant has no promise in sla.yaml for fix routine, fix high, fix urgent, inspect routine, "
        "inspect high, inspect urgent"
    )
    assert PolicyError(CATEGORIES, line, "categories[3].code", expected) in errors_of(folder)


def test_a_promise_that_is_missing_for_one_priority_is_told(folder: Path) -> None:
    plant(folder, SLA, "priorities: [high]", "priorities: [routine]")
    told = [error.message for error in errors_of(folder)]
    assert "lights_high overlaps lights_routine for street_light, fix, routine" in told
    assert "viaduct_light has no promise in sla.yaml for fix high" in told


def test_a_staged_category_needs_its_stages_and_another_may_not_have_them(folder: Path) -> None:
    plant(folder, SLA, "staged: [vacant_lot, abandoned_building]", "staged: [vacant_lot, graffiti]")
    told = [(error.key, error.message) for error in errors_of(folder)]
    assert ("promises[3].clocks", "has no clock abate") in told
    assert ("promises[3].clocks", "has the clock resolve, which this work never ends") in told
    assert ("promises[6].categories", "names categories that are fixed in stages and others") in told


def test_a_calendar_without_working_time_is_told(folder: Path) -> None:
    text = (folder / CALENDARS).read_text()
    (folder / CALENDARS).write_text(text.replace('["08:30-16:30"]', "[]"))
    [error] = errors_of(folder)
    assert (error.key, error.message) == (
        "calendars[0].hours",
        "is wrong: The calendar offices has no working time: give it hours.",
    )


def test_a_ladder_without_a_breach_is_told(folder: Path) -> None:
    plant(folder, SLA, "  - {name: breach, percent: 100, level: 2}\n", "")
    assert "expected a rung at 100 percent, the breach, last of the shares" in [
        error.message for error in errors_of(folder)
    ]


# ---------------------------------------------------------------- holidays from files

USE = "files: [{file: city.ics, years: {first: 2026, last: 2027}}]"


def ics(*events: str) -> bytes:
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:test"]
    for event in events:
        lines += ["BEGIN:VEVENT", *event.split("\n"), "END:VEVENT"]
    return ("\r\n".join([*lines, "END:VCALENDAR"]) + "\r\n").encode()


GOOD = ics(
    "DTSTART;VALUE=DATE:20260814\nSUMMARY:Day of the\\, lake",
    "DTSTART;VALUE=DATE:20271228\nDTEND;VALUE=DATE:20271231\nSUMMARY:Closing days",
    "DTSTART;VALUE=DATE:20290101\nSUMMARY:Beyond its years",
)


def test_a_file_beside_the_policy_gives_holidays_and_their_end(folder: Path) -> None:
    (folder / "city.ics").write_bytes(GOOD)
    plant(folder, CALENDARS, "files: []", USE)
    plant(folder, CALENDARS, "own: []", "own: [{on: 2026-08-17, name: Parade, source: executive order 7}]")
    policy = load_policy(folder)
    offices = next(calendar for calendar in policy.sla.calendars if calendar.code == "offices")
    found = [(str(day.on), day.name, day.source) for day in offices.holidays if "PyPI" not in day.source]
    assert found == [
        ("2026-08-14", "Day of the, lake", "iCalendar city.ics"),
        ("2026-08-17", "Parade", "executive order 7"),
        ("2027-12-28", "Closing days", "iCalendar city.ics"),
        ("2027-12-29", "Closing days", "iCalendar city.ics"),
        ("2027-12-30", "Closing days", "iCalendar city.ics"),
    ]
    assert (offices.holidays_from, offices.holidays_until) == (date(2026, 1, 1), date(2027, 12, 31))


def test_another_holiday_is_another_version_of_the_policy(folder: Path) -> None:
    (folder / "city.ics").write_bytes(GOOD)
    plant(folder, CALENDARS, "files: []", USE)
    before = load_policy(folder).version
    (folder / "city.ics").write_bytes(GOOD.replace(b"20260814", b"20260821"))
    assert before != load_policy(folder).version


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!doctype html><html>Not found</html>", "city.ics is no iCalendar file; expected BEGIN:VCALENDAR"),
        (b"", "city.ics is no iCalendar file"),
        (b"\xff\xfe\x00", "city.ics is no iCalendar file"),
        (GOOD.replace(b"20271228", b"20261228").replace(b"20271231", b"20261231"),
         "city.ics has no holiday in 2027; expected one in every year"),
        (ics("DTSTART:20260814T100000Z\nSUMMARY:x"), "has an event that is not of whole days"),
        (ics("SUMMARY:x"), "has an event that is not of whole days"),
        (ics("DTSTART;VALUE=DATE:20260230\nSUMMARY:x"), "has an event that is not of whole days"),
        (ics("DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=YEARLY\nSUMMARY:x"), "has an event that repeats (RRULE)"),
        (ics("DTSTART;VALUE=DATE:20260101\nDTEND;VALUE=DATE:20270101\nSUMMARY:x"),
         "has an event of 365 days, from 2026-01-01 on; expected at most 31"),
        (b"BEGIN:VCALENDAR\r\n" + b"X" * 1_000_001, "expected a file of at most 1000000 bytes"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_told(folder: Path, content: bytes, says: str) -> None:
    (folder / "city.ics").write_bytes(content)
    line = plant(folder, CALENDARS, "files: []", USE)
    [error] = errors_of(folder)
    assert (error.file, error.line) == (CALENDARS, line)
    assert says in error.message
