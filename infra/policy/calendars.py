"""The calendars of a policy: those of calendars.yaml, with their holidays looked up."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from agents.sla.calendar import CalendarError, WorkingCalendar
from connectors.feeds import short
from infra.policy.document import Document, Keys, PolicyError, found
from infra.policy.files import CalendarEntry, CalendarsFile, canonical_json
from infra.policy.holidays import Feed, errors_of, holidays_of
from schemas.sla import Calendar


def calendars_of(document: Document, folder: Path) -> tuple[Calendar, ...]:
    """The calendars of a document that is known to be right."""
    file = CalendarsFile.model_validate_json(canonical_json(document.data))
    return tuple(_calendar(entry, folder) for entry in file.calendars)


def calendar_errors(document: Document, folder: Path) -> Iterator[PolicyError]:
    """What is wrong with calendars whose shape is right: zones, hours, holidays."""
    try:
        file = CalendarsFile.model_validate_json(canonical_json(document.data))
    except ValidationError:
        return  # told as an error of shape
    for number, entry in enumerate(file.calendars):
        keys: Keys = ("calendars", number)
        yield from _hours_errors(entry, document, keys)
        if entry.holidays:
            yield from errors_of(entry.holidays, folder, document, (*keys, "holidays"))
    yield from _feed_errors(file, document)


def _feed_errors(file: CalendarsFile, document: Document) -> Iterator[PolicyError]:
    """A file is fetched from one address only, and what is fetched nobody keeps by hand."""
    kept: dict[str, str | None] = {}
    for number, entry in enumerate(file.calendars):
        for place, source in entry.holidays.read() if entry.holidays else ():
            url = source.url if isinstance(source, Feed) else None
            if kept.setdefault(source.file, url) != url:
                other = kept[source.file]
                expected = f"{source.file} from {short(other)}, as above" if other else "another file's name"
                keys: Keys = ("calendars", number, "holidays", *place, "file")
                yield document.error(keys, f"expected {expected}, found {found(source.file)}")


def _hours_errors(entry: CalendarEntry, document: Document, keys: Keys) -> Iterator[PolicyError]:
    """Hours are in order and apart, there are some at all, and the zone is one."""
    for place, spans in _spans(entry):
        last = "00:00"
        for number, span in enumerate(spans):
            opens, closes = span.split("-")
            if opens < last or closes <= opens:
                expected = "hours that end after they begin, in order and apart"
                yield document.error((*keys, *place, number), f"expected {expected}, found {span!r}")
            last = closes
    try:
        WorkingCalendar(Calendar(code=entry.code, name=entry.name, time_zone=entry.time_zone,
                                 hours=entry.hours, exceptions=entry.exceptions))  # fmt: skip
    except CalendarError as error:
        yield document.error((*keys, "time_zone" if "zone" in str(error) else "hours"), f"is wrong: {error}")


def _spans(entry: CalendarEntry) -> Iterator[tuple[Keys, tuple[str, ...]]]:
    for day, spans in entry.hours.items():
        yield ("hours", day), spans
    for number, special in enumerate(entry.exceptions):
        yield ("exceptions", number, "hours"), special.hours


def _calendar(entry: CalendarEntry, folder: Path) -> Calendar:
    sources = entry.holidays
    return Calendar(
        code=entry.code,
        name=entry.name,
        time_zone=entry.time_zone,
        hours=entry.hours,
        exceptions=entry.exceptions,
        holidays=holidays_of(sources, folder) if sources else (),
        holidays_from=sources.first_day() if sources else None,
        holidays_until=sources.last_day() if sources else None,
        source=entry.source,
    )
