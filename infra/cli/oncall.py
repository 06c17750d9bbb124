"""`rapid oncall`: who is told now and later, and who stands in for whom."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from connectors.postgres import oncall
from connectors.postgres.oncall import New, Stored
from infra.cli.actor import actor
from infra.cli.errors import ExitCode, Oops
from infra.cli.oncall_asked import (
    Known,
    Place,
    area_of,
    by_level,
    department_of,
    exception_of,
    known_of,
    moment_of,
    overrides_of,
    person_of,
    span_of,
    the_place_of,
    why_of,
)
from infra.cli.oncall_shown import (
    AHEAD,
    import_json,
    import_row,
    local,
    now_row,
    shift_json,
    shift_row,
    shifts_of,
    standings,
    stored_json,
    stored_row,
)
from infra.cli.output import Json, print_json, print_table
from infra.cli.session import database, run
from infra.connect import database_url
from infra.oncall import changes
from infra.oncall.calendar import (
    LONGEST,
    MAX_BYTES,
    Event,
    NoCalendar,
    Reader,
    Refused,
    calendar_text,
    read_events,
)
from infra.oncall.changes import Imported, NotThere
from infra.settings import Settings
from schemas.oncall import NOBODY, TOP, Role

app = typer.Typer(
    help="People on call: who is told now and later, and who stands in for whom.",
    no_args_is_help=True,
    add_completion=False,
)

MOST_ROWS: Final = 1_000
NOBODY_AT_ALL: Final = "The policy has no roles: see docs/oncall.md."

OfDepartment = Annotated[
    str | None, typer.Option("--department", help="Code of a department.", show_default=False)
]
OfArea = Annotated[str | None, typer.Option("--area", help="Number or name of an area.", show_default=False)]
OfRole = Annotated[str, typer.Option("--role", help="Its code: see `rapid oncall now`.")]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="2026-07-02T08:00, of the city's zone unless it names one. Unset: now.",
        show_default=False,
    ),
]
PolicyPath = Annotated[
    Path | None,
    typer.Option(
        "--policy", show_default=False,
        help="A policy's folder instead of what is in use: as it says, without a database and without overrides.",
    ),
]  # fmt: skip


# ---------------------------------------------------------------- who, now and later


@app.command()
def now(
    *,
    at: Annotated[str | None, typer.Option("--at", help="Another time than now.", show_default=False)] = None,
    department: OfDepartment = None,
    area: OfArea = None,
    policy: PolicyPath = None,
    as_json: Json = False,
) -> None:
    """Who is told, level by level."""
    known = known_of(policy)
    instant = moment_of(at, known.zone)
    known = known._replace(overrides=overrides_of(policy, instant, instant + AHEAD))
    asked = Place(department_of(known, department), area_of(known, area))
    rows = [row for role in by_level(known) for row in standings(role, instant, asked, known)]
    if as_json:
        print_json({"at": instant.isoformat(), "policy_version": known.policy.version, "on_call": rows})
        return
    print_table(
        f"On call at {local(instant, known.zone)}", [now_row(row, known.zone) for row in rows], NOBODY_AT_ALL
    )


@app.command("schedule")
def show_schedule(
    *,
    role: OfRole,
    since: From = None,
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="How many days.")] = 14,
    department: OfDepartment = None,
    area: OfArea = None,
    ics: Annotated[bool, typer.Option("--ics", help="Print a calendar (iCalendar).")] = False,
    policy: PolicyPath = None,
    as_json: Json = False,
) -> None:
    """Who has a role from when until when; gaps are shown."""
    known = known_of(policy)
    asked, place = the_place_of(known, role, department, area)
    start = moment_of(since, known.zone)
    end = (start.astimezone(known.zone) + timedelta(days=days)).astimezone(UTC)  # the same time of day
    begun = start - LONGEST if ics else start
    known = known._replace(overrides=overrides_of(policy, begun, end))
    shifts = [one for one in shifts_of(asked, place, begun, end, known) if one.until > start]
    if ics:
        print(calendar_text(asked, str(place), shifts, begun, datetime.now(UTC)), end="")
    elif as_json:
        print_json({"role": asked.code, **place._asdict(), "shifts": [shift_json(one) for one in shifts]})
    else:
        rows = [shift_row(one, asked, known.zone) for one in shifts]
        print_table(f"{asked.name} {place}".strip(), rows, NOBODY_AT_ALL)


# ---------------------------------------------------------------- who stands in


@app.command()
def override(
    *,
    role: OfRole,
    person: Annotated[str, typer.Option("--person", help=f"Code of a person, or `{NOBODY}`.")],
    since: From = None,
    until: Annotated[str, typer.Option("--until", help="No longer from then on.")],
    why: Annotated[str, typer.Option("--why", help="A few words, for those who read the list.")],
    department: OfDepartment = None,
    area: OfArea = None,
    as_json: Json = False,
) -> None:
    """Somebody else has a role for a while. Of overrides that overlap, the newest holds."""
    known = known_of(None)
    asked, place = exception_of(known, role, department, area)
    begins, ends = span_of(since, until, known.zone)
    new = New(asked.code, *place, person_of(known, asked, person), begins, ends, actor(), why_of(why))
    stored = run(_add(new))
    if as_json:
        print_json(stored_json(stored))
        return
    print(
        f"Override {stored.override_id}: {asked.code} {str(place) or 'everywhere'} is {stored.person or NOBODY} "
        f"from {local(begins, known.zone)} until {local(ends, known.zone)}."
    )


@app.command("overrides")
def list_overrides(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Those that are over or cancelled too.")] = False,
    as_json: Json = False,
) -> None:
    """Who stands in for whom, now and later; the newest first."""
    zone = known_of(None).zone
    found = run(_list(None if everything else datetime.now(UTC)))
    if as_json:
        print_json([stored_json(one) for one in found])
        return
    print_table("Overrides", [stored_row(one, zone) for one in found], "There are no overrides.")


@app.command()
def cancel(
    override_id: Annotated[int, typer.Argument(metavar="ID", help="Its number.", min=1, max=2**62)],
) -> None:
    """End an override: it held until now, if it had begun."""
    run(_cancel(override_id))
    print(f"Cancelled override {override_id}.")


@app.command("import")
def import_calendar(
    *,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A calendar (.ics); each event becomes an override.")
    ],
    role: OfRole,
    department: OfDepartment = None,
    area: OfArea = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Overrides from a calendar: an event's attendee or title names a person, by code or name.

    The same event again changes nothing; one that was changed replaces what it was. Events that repeat by a rule
    (RRULE) are refused.
    """
    known, now = known_of(None), datetime.now(UTC)
    asked, place = exception_of(known, role, department, area)
    events = _events(file, asked, known, now)
    template = New(asked.code, *place, None, now, now, actor(), f"calendar {file.name}"[:200])
    done = run(_import(events, template, now, dry_run))
    if as_json:
        print_json([import_json(one) for one in done])
    else:
        print_table(
            "Would be imported" if dry_run else "Imported", [import_row(one, known.zone) for one in done], ""
        )
    refused = sum(one.verdict == "refused" for one in done)
    if refused:
        raise Oops(f"{refused} of {len(done)} events could not become overrides; why is said above.")


def _events(file: Path, role: Role, known: Known, now: datetime) -> list[Event | Refused]:
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        found = read_events(raw, Reader(known.policy.oncall.persons, known.zone, now))
    except OSError as error:
        raise Oops(f"{file} cannot be read: {error.strerror or error}.", ExitCode.INVALID) from error
    except NoCalendar as error:
        raise Oops(f"{file} {error}.", ExitCode.INVALID) from error
    return [_not_at_the_top(event, role) for event in found]


def _not_at_the_top(event: Event | Refused, role: Role) -> Event | Refused:
    if isinstance(event, Event) and event.person is None and role.level == TOP:
        return Refused(event.number, event.summary, f"leaves level {TOP} to nobody, above which is nobody")
    return event


async def _add(new: New) -> Stored:
    async with database(database_url(Settings())) as connected:
        return await changes.add(connected, new)


async def _list(not_over_at: datetime | None) -> list[Stored]:
    async with database(database_url(Settings())) as connected:
        return await oncall.newest(connected, not_over_at, MOST_ROWS)


async def _cancel(override_id: int) -> None:
    async with database(database_url(Settings())) as connected:
        try:
            await changes.cancel(connected, override_id, actor(), datetime.now(UTC))
        except NotThere as error:
            raise Oops(str(error), ExitCode.FAILED if error.known else ExitCode.NOT_FOUND) from error


async def _import(
    events: Sequence[Event | Refused], template: New, now: datetime, dry_run: bool
) -> list[Imported]:
    async with database(database_url(Settings())) as connected:
        return await changes.import_events(connected, events, template, now, dry_run=dry_run)
