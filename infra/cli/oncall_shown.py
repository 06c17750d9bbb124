"""What `rapid oncall` shows: JSON for programs, and rows of tables whose times are on the city's clocks."""

from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from agents.sla.oncall import schedule, whom_to_tell
from connectors.postgres.oncall import Stored
from infra.cli.oncall_asked import Known, Place
from infra.cli.screen import safe_row
from infra.oncall.calendar import Event, Refused
from infra.oncall.changes import Imported
from schemas.oncall import NOBODY, TOP, Role, Shift

AHEAD: Final = timedelta(days=60)
"""How far `now` looks for the next change."""
MOST_PLACES: Final = 8
"""Departments or areas that a row of a table names; --json names all."""


def standings(role: Role, at: datetime, asked: Place, known: Known) -> list[dict[str, Any]]:
    """One row for each group of places where the same people have the role for the same reason."""
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for place in _places(role, asked, known):
        [first, *_] = shifts_of(role, place, at, at + AHEAD, known)
        key = (first.people, first.override, first.until)
        row = groups.setdefault(key, _standing_json(role, place, first, at, known))
        row["places"] += [str(place)] if place != Place() else []
    return list(groups.values())


def _places(role: Role, asked: Place, known: Known) -> list[Place]:
    if role.scope == "department":
        return [
            Place(department=one.code)
            for one in known.policy.departments
            if asked.department in (None, one.code)
        ]
    if role.scope == "area":
        return [Place(area=one.number) for one in known.policy.areas if asked.area in (None, one.number)]
    return [Place()]


def _standing_json(role: Role, place: Place, shift: Shift, at: datetime, known: Known) -> dict[str, Any]:
    told = whom_to_tell(
        role.level, at, **place._asdict(), oncall=known.policy.oncall, overrides=known.overrides
    )
    because = next((climb.because for climb in told.climbed if climb.role == role.code), None)
    return {
        "level": role.level,
        "role": role.code,
        "name": role.name,
        "scope": role.scope,
        "places": [],
        "people": [{"code": person.code, "name": person.name} for person in shift.people],
        "until": None if shift.until == at + AHEAD else shift.until.isoformat(),
        "override": shift.override and shift.override.override_id,
        "because": because,
    }


def now_row(row: dict[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    """Who has a role, for people."""
    return safe_row({
        "level": row["level"],
        "role": row["role"],
        "where": _where(row["places"]),
        "who": ", ".join(one["code"] for one in row["people"]) or _nobody(row["level"]),
        "name": ", ".join(one["name"] for one in row["people"]) or row["because"],
        "until": row["until"] and local(datetime.fromisoformat(row["until"]), zone),
        "override": row["override"],
    })  # fmt: skip


def _where(places: list[str]) -> str:
    if len(places) <= MOST_PLACES:
        return ", ".join(places) or "city"
    return f"{', '.join(places[:3])} and {len(places) - 3} more"


def _nobody(level: int) -> str:
    return f"nobody: level {level + 1} is told" if level < TOP else "nobody: who has it otherwise is told"


def shifts_of(role: Role, place: Place, since: datetime, until: datetime, known: Known) -> tuple[Shift, ...]:
    """Who has a role at a place, from when until when."""
    return schedule(
        role.code, since, until, **place._asdict(), oncall=known.policy.oncall, overrides=known.overrides
    )


def shift_json(shift: Shift) -> dict[str, Any]:
    """A shift for programs; no people: a gap."""
    return {
        "since": shift.since.isoformat(),
        "until": shift.until.isoformat(),
        "people": [{"code": person.code, "name": person.name} for person in shift.people],
        "override": shift.override and shift.override.override_id,
    }


def shift_row(shift: Shift, role: Role, zone: ZoneInfo) -> dict[str, Any]:
    """A shift for people."""
    override = shift.override
    return safe_row({
        "from": local(shift.since, zone),
        "until": local(shift.until, zone),
        "who": ", ".join(person.code for person in shift.people) or _nobody(role.level),
        "name": ", ".join(person.name for person in shift.people),
        "override": override and f"{override.override_id}, by {override.by}: {override.why}",
    })  # fmt: skip


# ---------------------------------------------------------------- overrides


def stored_json(stored: Stored) -> dict[str, Any]:
    """An override for programs."""
    return {
        "override_id": stored.override_id, "role": stored.role, "department": stored.department,
        "area": stored.area, "person": stored.person, "since": stored.since.isoformat(),
        "until": stored.until.isoformat(), "by": stored.by, "why": stored.why,
        "made_at": stored.made_at.isoformat(),
        "cancelled_at": stored.cancelled_at and stored.cancelled_at.isoformat(),
    }  # fmt: skip


def stored_row(stored: Stored, zone: ZoneInfo) -> dict[str, Any]:
    """An override for people."""
    return safe_row({
        "id": stored.override_id,
        "role": stored.role,
        "where": str(Place(stored.department, stored.area)) or "everywhere",
        "who": stored.person or NOBODY,
        "from": local(stored.since, zone),
        "until": "cancelled" if stored.cancelled_at else local(stored.until, zone),
        "by": stored.by,
        "why": stored.why,
    })  # fmt: skip


def import_json(one: Imported) -> dict[str, Any]:
    """What became of an event, for programs."""
    event = one.event
    shown = {"event": event.number, "title": event.summary, "verdict": one.verdict}
    if isinstance(event, Refused):
        return shown | {"because": f"It {event.because}."}
    return shown | {
        "override": one.override_id, "person": event.person or NOBODY,
        "since": event.since.isoformat(), "until": event.until.isoformat(),
    }  # fmt: skip


def import_row(one: Imported, zone: ZoneInfo) -> dict[str, Any]:
    """What became of an event, for people."""
    event = one.event
    understood = event if isinstance(event, Event) else None
    return safe_row({
        "event": event.number,
        "title": event.summary,
        "verdict": one.verdict,
        "override": one.override_id,
        "who": understood and (understood.person or NOBODY),
        "from": understood and local(understood.since, zone),
        "until": understood and local(understood.until, zone),
        "because": None if isinstance(event, Event) else f"It {event.because}.",
    })  # fmt: skip


def local(at: datetime, zone: ZoneInfo) -> str:
    """A time on the clocks of a zone."""
    return f"{at.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"
