"""`rapid oncall` as a person or a script has it, on a real database."""

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from icalendar import Calendar

from connectors.postgres import audit, oncall
from connectors.postgres.policies import keep_policy
from connectors.postgres.pool import Connection, create_pool
from infra.cli.errors import ExitCode
from infra.oncall import changes
from infra.oncall.calendar import Event
from infra.policy.load import SHIPPED
from schemas.policy import Policy
from tests.commands import Rapid

NOW = datetime.now(UTC).replace(microsecond=0)
SOON, LATER = NOW + timedelta(hours=1), NOW + timedelta(days=2)


class Oncall(Rapid):
    """With what these tests say often."""

    async def override(self, role: str, person: str, *more: object, until: datetime = LATER) -> Any:
        return await self.json(
            "override", "--role", role, "--person", person, "--from", SOON.isoformat(),
            "--until", until.isoformat(), "--why", "on leave", *more,
        )  # fmt: skip

    async def who(self, role: str, at: datetime = SOON, *more: object) -> list[Any]:
        """The people of each row of a role."""
        found = await self.json("now", "--at", at.isoformat(), *more)
        return [[one["code"] for one in row["people"]] for row in found["on_call"] if row["role"] == role]


@pytest.fixture
async def rapid(database_url: str, policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Oncall:
    """The commands beside a database in which a worker has stored the policy."""
    for name in [name for name in os.environ if name.startswith("RAPID_")]:
        monkeypatch.delenv(name)
    pool = await create_pool(database_url, min_size=1, max_size=1)
    await keep_policy(pool, policy)
    await pool.close()
    return Oncall(
        "oncall", {"RAPID_HOME": str(tmp_path), "RAPID_DATABASE_URL": database_url, "COLUMNS": "200"}
    )


def event(uid: str, summary: str, since: datetime = SOON, until: datetime = LATER, *more: str) -> str:
    times = [f"{name}:{at:%Y%m%dT%H%M%SZ}" for name, at in (("DTSTART", since), ("DTEND", until))]
    return "\r\n".join(["BEGIN:VEVENT", f"UID:{uid}", f"SUMMARY:{summary}", *times, *more, "END:VEVENT"])


def calendar(folder: Path, *events: str) -> Path:
    file = folder / "duty.ics"
    file.write_text("\r\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", *events, "END:VCALENDAR", ""]), newline="")
    return file


async def trail(connection: Connection) -> list[tuple[str, str]]:
    """What was done to which override, the oldest first."""
    rows = await audit.rows(connection, actor=None, subject=None, since=None, limit=100)
    assert all(row.actor.startswith("cli:") for row in rows)
    return [(row.action, row.subject) for row in reversed(rows)]


# ---------------------------------------------------------------- who, now and later


async def test_now_says_who_is_told_level_by_level(rapid: Oncall) -> None:
    found = await rapid.json("now", "--department", "cdot", "--area", "Austin")
    assert [(row["level"], row["role"], row["places"]) for row in found["on_call"]] == [
        (1, "dispatcher", ["cdot"]), (2, "supervisor", ["cdot"]), (2, "engagement_manager", ["area 25"]),
        (3, "duty_supervisor", []), (4, "deputy_commissioner", []),
    ]  # fmt: skip
    people = [[one["code"] for one in row["people"]] for row in found["on_call"]]
    assert people[:3] == [["cdot_dispatch"], ["cdot_supervisor"], ["engagement_west"]]
    assert people[4] == ["deputy"]
    [until] = [row["until"] for row in found["on_call"] if row["role"] == "duty_supervisor"]
    assert datetime.fromisoformat(until) > NOW


async def test_now_without_a_place_groups_the_places_of_the_same_people(rapid: Oncall) -> None:
    found = await rapid.json("now")
    areas = {
        row["people"][0]["code"]: row["places"]
        for row in found["on_call"]
        if row["role"] == "engagement_manager"
    }
    assert areas["engagement_west"] == ["area 23", "area 25", "area 26", "area 27", "area 29"]
    assert sum(len(places) for places in areas.values()) == 77
    table = (await rapid("now")).stdout
    assert "area 1, area 2, area 3 and 59 more" in table


async def test_a_level_that_nobody_has_says_where_its_alerts_go(rapid: Oncall) -> None:
    made = await rapid.override("dispatcher", "nobody", "--department", "dss")
    [row] = [
        row for row in (await rapid.json("now", "--at", SOON.isoformat(), "--department", "dss"))["on_call"]
        if row["level"] == 1
    ]  # fmt: skip
    number = made["override_id"]
    assert (row["people"], row["override"]) == ([], number)
    assert row["because"] == f"Department dispatcher: override {number} leaves it to nobody."
    assert "nobody: level 2 is told" in (await rapid("now", "--at", SOON.isoformat())).stdout


async def test_a_schedule_shows_turns_and_overrides_and_its_calendar_can_be_read(rapid: Oncall) -> None:
    made = await rapid.override("duty_supervisor", "duty_c", until=SOON + timedelta(hours=8))
    asked = ("schedule", "--role", "duty_supervisor", "--from", NOW.isoformat(), "--days", 21)
    shifts = (await rapid.json(*asked))["shifts"]
    assert shifts[0]["since"] == NOW.isoformat()
    assert [one["until"] for one in shifts[:-1]] == [one["since"] for one in shifts[1:]]
    assert [one["people"][0]["code"] for one in shifts if one["override"] == made["override_id"]] == [
        "duty_c"
    ]
    events: list[Any] = Calendar.from_ical((await rapid(*asked, "--ics")).stdout).walk("VEVENT")
    assert [one.start.isoformat() for one in events][1:] == [one["since"] for one in shifts][1:]
    assert events[0].start <= NOW  # a turn that has begun is shown whole
    assert all(one["DTSTAMP"].dt >= NOW for one in events)
    assert "on leave" in (await rapid(*asked)).stdout


async def test_a_policys_folder_alone_needs_no_database(tmp_path: Path) -> None:
    rapid = Oncall("oncall", {"RAPID_HOME": str(tmp_path)})
    assert await rapid.who("deputy_commissioner", SOON, "--policy", SHIPPED) == [["deputy"]]
    assert (await rapid("now")).returncode == ExitCode.NOT_RUNNING


async def test_as_long_as_no_policy_with_people_is_stored_the_one_of_the_settings_holds(
    database_url: str, tmp_path: Path
) -> None:
    rapid = Oncall("oncall", {"RAPID_HOME": str(tmp_path), "RAPID_DATABASE_URL": database_url})
    assert await rapid.who("deputy_commissioner") == [["deputy"]]


# ---------------------------------------------------------------- who stands in


async def test_the_life_of_an_override_and_its_trail(rapid: Oncall, connection: Connection) -> None:
    made = await rapid.override("deputy_commissioner", "Duty supervisor, team A")
    number = made["override_id"]
    assert (made["person"], made["since"], made["by"][:4]) == ("duty_a", SOON.isoformat(), "cli:")
    assert await rapid.who("deputy_commissioner", SOON - timedelta(seconds=1)) == [["deputy"]]
    assert await rapid.who("deputy_commissioner", SOON) == [["duty_a"]]
    assert await rapid.who("deputy_commissioner", LATER) == [["deputy"]]
    assert [one["override_id"] for one in await rapid.json("overrides")] == [number]
    assert (await rapid("cancel", number)).stdout == f"Cancelled override {number}.\n"
    assert await rapid.who("deputy_commissioner", SOON) == [["deputy"]]
    assert await rapid.json("overrides") == []
    assert [one["override_id"] for one in await rapid.json("overrides", "--all")] == [number]
    again = await rapid("cancel", number)
    assert (again.returncode, again.stderr) == (1, f"The override {number} is cancelled already.")
    assert await trail(connection) == [("oncall.override", str(number)), ("oncall.cancel", str(number))]


async def test_what_was_cancelled_held_until_then(connection: Connection) -> None:
    new = oncall.New(
        "duty_supervisor", None, None, "duty_a", NOW - timedelta(hours=2), LATER, "cli:ops", "test"
    )
    stored = await oncall.add(connection, new)
    assert await oncall.cancel(connection, stored.override_id, "cli:ops", NOW)
    [held] = await oncall.within(connection, NOW - timedelta(hours=2), NOW)
    assert (held.since, held.until) == (NOW - timedelta(hours=2), NOW)
    assert await oncall.within(connection, NOW, LATER) == ()
    assert not await oncall.cancel(connection, stored.override_id, "cli:ops", NOW)


async def test_the_newest_of_two_overrides_holds_where_they_overlap(rapid: Oncall) -> None:
    await rapid.override("duty_supervisor", "duty_a")
    await rapid.override("duty_supervisor", "duty_b", until=SOON + timedelta(hours=1))
    assert await rapid.who("duty_supervisor", SOON) == [["duty_b"]]
    assert await rapid.who("duty_supervisor", SOON + timedelta(hours=1)) == [["duty_a"]]


UNTIL = ("--until", LATER.isoformat(), "--why", "x")
WRONG = [
    (("override", "--role", "mayor", "--person", "duty_a", *UNTIL), ExitCode.NOT_FOUND,
     "There is no role mayor: choose from dispatcher, supervisor, engagement_manager, duty_supervisor, "),
    (("override", "--role", "duty_supervisor", "--person", "zoe", *UNTIL), ExitCode.NOT_FOUND,
     "There is no person zoe: choose from cdot_dispatch, "),
    (("override", "--role", "deputy_commissioner", "--person", "nobody", *UNTIL), ExitCode.FAILED,
     "The role deputy_commissioner is of level 4, above which is nobody: name a person."),
    (("override", "--role", "duty_supervisor", "--person", "duty_a", "--department", "cdot", *UNTIL), 2,
     "the role duty_supervisor is not one of a department: leave it out"),
    (("override", "--role", "dispatcher", "--person", "duty_a", "--department", "parks", *UNTIL), ExitCode.NOT_FOUND,
     "There is no department parks: choose from cdot, dss, dob, cscc."),
    (("override", "--role", "engagement_manager", "--person", "duty_a", "--area", "Gotham", *UNTIL),
     ExitCode.NOT_FOUND, "There is no area Gotham: expected a number or a name of the policy."),
    (("override", "--role", "duty_supervisor", "--person", "duty_a", "--until", "tomorrow", "--why", "x"), 2,
     "expected a time such as 2026-07-02T08:00 or 2026-07-02T13:00Z, found 'tomorrow'"),
    (("override", "--role", "duty_supervisor", "--person", "duty_a", "--from", "2020-01-01", "--until", "2020-01-02",
      "--why", "x"), 2, "expected a time to come, found '2020-01-02'"),
    (("override", "--role", "duty_supervisor", "--person", "duty_a", "--from", "2040-01-02", "--until", "2040-01-01",
      "--why", "x"), 2, "expected a time after --from and at most 366 days later"),
    (("override", "--role", "duty_supervisor", "--person", "duty_a", "--until", LATER.isoformat(), "--why", " "), 2,
     "expected 1 to 200 printable characters"),
    (("schedule", "--role", "dispatcher"), 2, "each department has its own dispatcher: say which"),
    (("schedule", "--role", "engagement_manager"), 2, "each area has its own engagement_manager: say which"),
    (("schedule", "--role", "duty_supervisor", "--from", "0001-01-01"), 2, "expected a time such as "),
    (("schedule", "--role", "duty_supervisor", "--from", "9999-12-30"), 2, "expected a time such as "),
    (("now", "--at", "0001-01-02"), 2, "expected a time such as "),
    (("cancel", "4711"), ExitCode.NOT_FOUND, "There is no override 4711: see `rapid oncall overrides`."),
    (("cancel", "0"), 2, "greater than or equal to 1"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "returncode", "says"), WRONG)
async def test_a_mistake_is_told_in_a_sentence(
    rapid: Oncall, arguments: tuple[str, ...], returncode: int, says: str
) -> None:
    done = await rapid(*arguments)
    assert done.returncode == returncode, done
    assert says in done.stderr
    assert await rapid.json("overrides", "--all") == []


# ---------------------------------------------------------------- from a calendar


async def test_events_of_a_calendar_become_overrides_once(
    rapid: Oncall, connection: Connection, tmp_path: Path
) -> None:
    async def imported(*events: str) -> list[str]:
        return [one["verdict"] for one in await rapid.json("import", calendar(tmp_path, *events), *role)]

    role = ("--role", "duty_supervisor")
    first, other = event("1", "duty_a"), event("2", "duty_b", LATER, LATER + timedelta(days=1))
    assert await imported(first, other) == ["added", "added"]
    assert await imported(first, other) == ["unchanged", "unchanged"]
    assert await rapid.who("duty_supervisor", SOON) == [["duty_a"]]
    moved = event("1", "duty_c", SOON + timedelta(hours=1))
    assert await imported(moved, other) == ["replaced", "unchanged"]
    assert await rapid.who("duty_supervisor", SOON + timedelta(hours=1)) == [["duty_c"]]
    numbers = sorted(one["override_id"] for one in await rapid.json("overrides", "--all"))
    assert await trail(connection) == [
        ("oncall.override", str(numbers[0])), ("oncall.override", str(numbers[1])),
        ("oncall.cancel", str(numbers[0])), ("oncall.override", str(numbers[2])),
    ]  # fmt: skip


async def test_the_same_calendar_for_another_department_is_another(rapid: Oncall, tmp_path: Path) -> None:
    file = calendar(tmp_path, event("1", "duty_a"))
    for department in ("cdot", "dss"):
        found = await rapid.json("import", file, "--role", "supervisor", "--department", department)
        assert [one["verdict"] for one in found] == ["added"]
    assert await rapid.who("supervisor", SOON, "--department", "dob") == [["dob_supervisor"]]
    assert await rapid.who("supervisor", SOON, "--department", "dss") == [["duty_a"]]


async def test_an_event_that_moved_after_it_was_over_is_added(
    rapid: Oncall, connection: Connection, tmp_path: Path
) -> None:
    over = oncall.New("duty_supervisor", None, None, "duty_b", NOW - timedelta(days=2), NOW - timedelta(days=1),
                      "cli:ops", "test", "1")  # fmt: skip
    await oncall.add(connection, over)
    found = await rapid.json("import", calendar(tmp_path, event("1", "duty_a")), "--role", "duty_supervisor")
    assert [one["verdict"] for one in found] == ["added"]
    assert await rapid.who("duty_supervisor", SOON) == [["duty_a"]]


async def test_what_is_refused_is_told_event_by_event_and_the_rest_is_done(
    rapid: Oncall, tmp_path: Path
) -> None:
    file = calendar(
        tmp_path,
        event("1", "duty_a"),
        event("2", "Ann"),
        event("3", "duty_b", SOON, LATER, "RRULE:FREQ=DAILY"),
    )
    done = await rapid("import", file, "--role", "duty_supervisor", "--json")
    assert (done.returncode, done.stderr) == (
        1, "2 of 3 events could not become overrides; why is said above."
    )  # fmt: skip
    assert [(one["event"], one["verdict"], one.get("because")) for one in json.loads(done.stdout)] == [
        (1, "added", None),
        (2, "refused", "It names nobody of the policy in the title 'Ann'."),
        (3, "refused", "It repeats (RRULE): write every time out, or make it a rotation of the policy."),
    ]
    assert len(await rapid.json("overrides")) == 1


async def test_a_dry_run_does_nothing(rapid: Oncall, connection: Connection, tmp_path: Path) -> None:
    found = await rapid.json(
        "import", calendar(tmp_path, event("1", "duty_a")), "--role", "duty_supervisor", "--dry-run"
    )
    assert [(one["verdict"], one["override"]) for one in found] == [("added", None)]
    assert await rapid.json("overrides", "--all") == []
    assert await trail(connection) == []


async def test_nobody_cannot_be_imported_for_the_top_level(rapid: Oncall, tmp_path: Path) -> None:
    done = await rapid("import", calendar(tmp_path, event("1", "Nobody")), "--role", "deputy_commissioner")
    assert done.returncode == 1
    assert "It leaves level 4 to nobody, above which is nobody." in done.stdout
    assert await rapid.json("overrides", "--all") == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<html>", "is no iCalendar file; expected BEGIN:VCALENDAR and its events."),
        (b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n", "has 0 events; expected 1 to 2000."),
        (None, "cannot be read: No such file or directory."),
    ],
)
async def test_a_file_that_is_no_calendar_changes_nothing(
    rapid: Oncall, tmp_path: Path, content: bytes | None, says: str
) -> None:
    file = tmp_path / "x.ics"
    if content is not None:
        file.write_bytes(content)
    done = await rapid("import", file, "--role", "duty_supervisor")
    assert (done.returncode, done.stderr) == (ExitCode.INVALID, f"{file} {says}")


async def test_imports_at_once_make_each_override_once(database_url: str, connection: Connection) -> None:
    events = [Event(number, "x", str(number), "duty_a", SOON, LATER) for number in range(5)]
    template = oncall.New("duty_supervisor", None, None, None, NOW, NOW, "cli:ops", "test")

    async def imported() -> tuple[str, ...]:
        other = await asyncpg.connect(database_url)
        try:
            done = await changes.import_events(other, events, template, NOW, dry_run=False)
        finally:
            await other.close()
        return tuple(one.verdict for one in done)

    done = await asyncio.wait_for(asyncio.gather(*(imported() for _ in range(4))), 30)
    assert sorted(done) == [("added",) * 5, *[("unchanged",) * 5] * 3]
    assert len(await oncall.newest(connection, None, 100)) == 5


async def test_an_override_without_length_is_refused_by_the_database(connection: Connection) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await oncall.add(connection, oncall.New("duty_supervisor", None, None, None, NOW, NOW, "x", "x"))
