"""iCalendar of who is on call, in and out. Nothing is guessed: an event that is not understood is refused, and why."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from agents.sla.oncall import instant_of
from schemas.base import derived_id
from schemas.oncall import NOBODY, Person, Role, Shift
from schemas.policy import folded

PERSON_PROPERTY: Final = "X-RAPID-PERSON"
"""Whose turn an event of ours is; a calendar program may change the title."""
ONCE: Final = ("UID", "SUMMARY", "STATUS", "DTSTART", "DTEND", "DURATION", PERSON_PROPERTY)
MAX_BYTES: Final = 1_000_000
MAX_EVENTS: Final = 2_000
LONGEST: Final = timedelta(days=366)
MOST_CHARACTERS: Final = 200


class NoCalendar(Exception):
    """A file is no calendar; one sentence."""


class Unreadable(Exception):
    """An event cannot become an override; the message says why, in words that follow «it»."""


class Event(NamedTuple):
    """An event that was understood."""

    number: int  # in the file, from 1
    summary: str
    source: str  # the same for the same event in the next file
    person: str | None  # None: nobody
    since: datetime
    until: datetime


class Refused(NamedTuple):
    """An event that was not, and why."""

    number: int
    summary: str
    because: str


class Reader(NamedTuple):
    """What is needed to understand events."""

    persons: Sequence[Person]
    zone: ZoneInfo  # of times that name none, and of whole days
    now: datetime


# ---------------------------------------------------------------- out


def calendar_text(role: Role, place: str, shifts: Iterable[Shift], begun: datetime, now: datetime) -> str:
    """The shifts as a calendar. `begun`: a shift that begins then began at some earlier time.

    Ids are the same in every export, so that programs that have subscribed to the calendar update their events.
    """
    from icalendar import Calendar  # noqa: PLC0415 - half a second, for those who read or write one only

    calendar = Calendar()
    calendar.add("PRODID", "-//Rapid Response//rapid oncall//EN")
    calendar.add("VERSION", "2.0")
    calendar.add("X-WR-CALNAME", _title(role, place))
    for shift in shifts:
        began = "" if shift.since == begun else shift.since.isoformat()
        uid = f"{derived_id('oncall-shift', role.code, place, began)}@rapid-response"
        calendar.add_component(_event_of(shift, uid, _title(role, place), now))
    return str(calendar.to_ical().decode())


def _event_of(shift: Shift, uid: str, title: str, now: datetime) -> Any:
    from icalendar import Event as Component  # noqa: PLC0415 - half a second, for those who read or write one only

    event = Component()
    event.add("UID", uid)
    event.add("DTSTAMP", now)
    event.add("DTSTART", shift.since)
    event.add("DTEND", shift.until)
    event.add("SUMMARY", " and ".join(person.name for person in shift.people) or NOBODY)
    event.add("DESCRIPTION", f"{title}, override {shift.override.override_id}" if shift.override else title)
    event.add("TRANSP", "TRANSPARENT")  # it does not make anybody busy
    if len(shift.people) <= 1:
        event.add(PERSON_PROPERTY, shift.people[0].code if shift.people else NOBODY)
    return event


def _title(role: Role, place: str) -> str:
    return f"{role.name}, {place}" if place else role.name


# ---------------------------------------------------------------- in


def read_events(raw: bytes, reader: Reader) -> list[Event | Refused]:
    """Every event of a file, understood or refused. Raises NoCalendar."""
    from icalendar import Calendar  # noqa: PLC0415 - half a second, for those who read or write one only

    if len(raw) > MAX_BYTES:
        raise NoCalendar(f"is larger than {MAX_BYTES} bytes")
    try:
        found = Calendar.from_ical(raw).walk("VEVENT")
    except Exception as error:  # it is a stranger's file, for which the parser has many kinds of errors
        raise NoCalendar("is no iCalendar file; expected BEGIN:VCALENDAR and its events") from error
    if not 0 < len(found) <= MAX_EVENTS:
        raise NoCalendar(f"has {len(found)} events; expected 1 to {MAX_EVENTS}")
    return list(_each_once(_read(number, event, reader) for number, event in enumerate(found, 1)))


def _each_once(events: Iterable[Event | Refused]) -> Iterator[Event | Refused]:
    seen: dict[str, int] = {}
    for event in events:
        if isinstance(event, Event) and event.source in seen:
            yield Refused(event.number, event.summary, f"has the same UID as event {seen[event.source]}")
            continue
        if isinstance(event, Event):
            seen[event.source] = event.number
        yield event


def _read(number: int, event: Any, reader: Reader) -> Event | Refused:
    summary = " ".join(str(event.get("SUMMARY", "")).split())[:MOST_CHARACTERS]
    try:
        _refuse_the_odd(event)
        since, until = _times(event, reader.zone)
        if until <= reader.now:
            raise Unreadable("is over already")
        return Event(number, summary, _source(event), _person(event, summary, reader.persons), since, until)
    except Unreadable as error:
        return Refused(number, summary, str(error))


def _refuse_the_odd(event: Any) -> None:
    for name, problem in event.errors:
        raise Unreadable(f"has a broken {name or 'line'} ({problem})"[:MOST_CHARACTERS])
    for name in ONCE:
        if isinstance(event.get(name), list):
            raise Unreadable(f"has more than one {name}")
    if any(name in event for name in ("RRULE", "RDATE", "RECURRENCE-ID")):
        raise Unreadable("repeats (RRULE): write every time out, or make it a rotation of the policy")
    if str(event.get("STATUS", "")).upper() == "CANCELLED":
        raise Unreadable("is marked as cancelled")
    if "UID" not in event or not str(event["UID"]).strip():
        raise Unreadable("has no UID, so that it could not be known again")


def _source(event: Any) -> str:
    """The event's id; a long one by its digest."""
    uid = str(event["UID"]).strip()
    printable = len(uid) <= MOST_CHARACTERS and uid.isprintable()
    return uid if printable else str(derived_id("ical", uid))


def _times(event: Any, zone: ZoneInfo) -> tuple[datetime, datetime]:
    try:
        since, until = _bounds(event, zone)
        too_long = until - since > LONGEST
    except (OverflowError, ValueError) as error:
        raise Unreadable("is at no possible time") from error
    if until <= since or too_long:
        raise Unreadable(f"lasts {until - since}: expected more than nothing and at most {LONGEST.days} days")
    return since, until


def _bounds(event: Any, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """When an event begins and ends. Raises OverflowError and ValueError for what is no time of the calendar."""
    start, end, length = (event.get(name) for name in ("DTSTART", "DTEND", "DURATION"))
    if start is None:
        raise Unreadable("has no beginning (DTSTART)")
    since = _instant(start, "DTSTART", zone)
    if end is not None:
        return since, _instant(end, "DTEND", zone)
    if length is not None:
        return since, since + length.dt
    if isinstance(start.dt, datetime):
        raise Unreadable("has no end (DTEND or DURATION)")
    return since, instant_of(start.dt + timedelta(days=1), "00:00", zone)


def _instant(value: Any, name: str, zone: ZoneInfo) -> datetime:
    """A time as an instant; without a zone, and whole days, are the city's."""
    at, named = value.dt, value.params.get("TZID")
    if isinstance(at, datetime):
        if at.tzinfo is None and named is not None:
            raise Unreadable(f"has a {name} in a zone that is not known ({named})"[:MOST_CHARACTERS])
        local = at if at.tzinfo is not None else at.replace(tzinfo=zone, fold=0)
        return local.astimezone(UTC)
    if isinstance(at, date):
        return instant_of(at, "00:00", zone)
    raise Unreadable(f"has a {name} that is no time")


# ---------------------------------------------------------------- who


def _person(event: Any, summary: str, persons: Sequence[Person]) -> str | None:
    """Whom an event names: its own property, else an attendee, else its title. None: explicitly nobody."""
    own = folded(str(event.get(PERSON_PROPERTY, "")))
    if NOBODY in (own, folded(summary) if not own else ""):
        return None
    if own:
        return _the_one({person.code for person in persons if person.code == own}, f"{PERSON_PROPERTY} {own}")
    invited = {code for one in _attendees(event) for code in _invited(one, persons)}
    return _the_one(invited or _named_in(summary, persons), f"the title {summary!r}")


def _the_one(codes: set[str], where: str) -> str:
    if not codes:
        raise Unreadable(f"names nobody of the policy in {where}"[:MOST_CHARACTERS])
    if len(codes) > 1:
        raise Unreadable(f"names {' and '.join(sorted(codes))}; expected one person")
    return codes.pop()


def _attendees(event: Any) -> list[Any]:
    found = event.get("ATTENDEE", [])
    return found if isinstance(found, list) else [found]


def _invited(attendee: Any, persons: Sequence[Person]) -> Iterator[str]:
    """An attendee by name, or by what stands before the @ of the address."""
    mailbox = folded(str(attendee)).removeprefix("mailto:").partition("@")[0]
    said = {folded(str(attendee.params.get("CN", ""))), re.sub(r"[.-]", "_", mailbox)}
    for person in persons:
        if said & {person.code, folded(person.name)}:
            yield person.code


def _named_in(text: str, persons: Sequence[Person]) -> set[str]:
    """Whose code or name stands in a text as words of its own; what is part of a longer one does not count."""
    spans = [
        (match.span(), person.code)
        for person in persons
        for word in (person.code, person.name)
        for match in re.finditer(rf"(?<!\w){re.escape(folded(word))}(?!\w)", folded(text))
    ]
    return {
        code
        for (begin, end), code in spans
        if not any(b <= begin and end <= e and e - b > end - begin for (b, e), _ in spans)
    }
