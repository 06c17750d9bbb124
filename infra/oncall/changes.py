"""Overrides are made, read from calendars and cancelled; every change is in the audit trail."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from connectors.postgres import audit, oncall
from connectors.postgres.audit import Entry
from connectors.postgres.oncall import New, Stored
from connectors.postgres.pool import Connection
from infra.oncall.calendar import Event, Refused

Verdict = Literal["added", "replaced", "unchanged", "refused"]


class Imported(NamedTuple):
    """What became of one event of a calendar, or would become of it."""

    event: Event | Refused
    verdict: Verdict
    override_id: int | None = None  # None: refused, or nothing was done


class NotThere(Exception):
    """There is no such override to cancel; one sentence. `known`: it was there, and has ended."""

    def __init__(self, sentence: str, *, known: bool) -> None:
        super().__init__(sentence)
        self.known = known


async def add(connection: Connection, new: New) -> Stored:
    """Make an override, in a transaction of its own."""
    async with connection.transaction():
        stored = await oncall.add(connection, new)
        await audit.write(connection, [_added(stored)])
    return stored


async def cancel(connection: Connection, override_id: int, by: str, now: datetime) -> None:
    """End an override, in a transaction of its own. Raises NotThere."""
    async with connection.transaction():
        if await oncall.cancel(connection, override_id, by, now):
            await audit.write(connection, [_cancelled(override_id, by)])
            return
        stored = await oncall.find(connection, override_id)
    if stored is None:
        raise NotThere(f"There is no override {override_id}: see `rapid oncall overrides`.", known=False)
    ended = "cancelled" if stored.cancelled_at else "over"
    raise NotThere(f"The override {override_id} is {ended} already.", known=True)


async def import_events(
    connection: Connection, events: Sequence[Event | Refused], template: New, now: datetime, *, dry_run: bool
) -> list[Imported]:
    """Make overrides of the events that were understood, all or none; the template says for which role, and who.

    The same event again changes nothing; one that was changed replaces what it was.
    """
    trail: list[Entry] = []
    async with connection.transaction():
        await oncall.alone(connection)
        done = [
            await _import(connection, event, template, now, trail if not dry_run else None)
            for event in events
        ]
        await audit.write(connection, trail)
    return done


async def _import(
    connection: Connection, event: Event | Refused, template: New, now: datetime, trail: list[Entry] | None
) -> Imported:
    """One event. Without a trail nothing is done."""
    if isinstance(event, Refused):
        return Imported(event, "refused")
    new = template._replace(person=event.person, since=event.since, until=event.until, source=event.source)
    before = await oncall.of_source(connection, new, now)
    if before is not None and (before.person, before.since, before.until) == (
        new.person,
        new.since,
        new.until,
    ):
        return Imported(event, "unchanged", before.override_id)
    verdict: Verdict = "replaced" if before else "added"
    return Imported(
        event, verdict, await _replace(connection, before, new, now, trail) if trail is not None else None
    )


async def _replace(
    connection: Connection, before: Stored | None, new: New, now: datetime, trail: list[Entry]
) -> int:
    if before is not None:
        await oncall.cancel(connection, before.override_id, new.by, now)
        trail.append(_cancelled(before.override_id, new.by))
    stored = await oncall.add(connection, new)
    trail.append(_added(stored))
    return stored.override_id


def _added(stored: Stored) -> Entry:
    details = {
        "role": stored.role, "department": stored.department, "area": stored.area, "person": stored.person,
        "since": stored.since.isoformat(), "until": stored.until.isoformat(),
    }  # fmt: skip
    return Entry(stored.by, "oncall.override", str(stored.override_id), "done", details)


def _cancelled(override_id: int, by: str) -> Entry:
    return Entry(by, "oncall.cancel", str(override_id))
