"""The holidays of a calendar: from the library, from iCalendar files beside the policy, and the city's own. Files are
put there by people, or by `rapid sla fetch` from a feed; here nothing is fetched.

They are looked up once, when a policy is loaded, and become part of it: what was promised on a list of holidays is
computed again on the same list, whatever a newer library says.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import Field

from infra.policy.document import Document, Keys, PolicyError, found
from schemas.base import Record, ShortText
from schemas.sla import Holiday

MAX_BYTES: Final = 1_000_000
MAX_DAYS: Final = 31
"""Of one event: a longer one is no holiday but a mistake."""

Year = Annotated[int, Field(ge=1950, le=2150)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,80}\.ics$")]

FeedUrl = Annotated[
    str, Field(max_length=1000, pattern=r"^https?://[A-Za-z0-9][A-Za-z0-9.:-]{0,252}([/?][!-\"$-~]*)?$")
]
"""Without a user's name and a password: the policy is no place for secrets."""


class Years(Record):
    """The years of which the holidays are known, both included."""

    first: Year
    last: Year


class Library(Record):
    """Holidays of a country and its subdivision, but for those by whose names the city works."""

    country: ShortText
    subdivision: ShortText | None = None
    without: tuple[ShortText, ...] = ()


class ICalendar(Record):
    """A file beside the policy, and the years that it is complete for."""

    file: FileName
    years: Years


class Feed(ICalendar):
    """A file beside the policy that `rapid sla fetch` gets from an address."""

    url: FeedUrl
    allow_http: bool = False  # without TLS anybody on the way can change what a holiday is

    @property
    def host(self) -> str:
        """Who publishes it."""
        return urlsplit(self.url).netloc


class OwnHoliday(Record):
    """A date that only the city keeps."""

    on: date
    name: ShortText
    source: ShortText


class HolidaySources(Record):
    """Where the holidays of a calendar come from."""

    years: Years
    library: Library | None = None
    files: tuple[ICalendar, ...] = ()
    feeds: tuple[Feed, ...] = ()
    own: tuple[OwnHoliday, ...] = ()

    def read(self) -> Iterator[tuple[Keys, ICalendar]]:
        """Everything that is read from the folder, with the way to it."""
        yield from ((("files", number), file) for number, file in enumerate(self.files))
        yield from ((("feeds", number), feed) for number, feed in enumerate(self.feeds))

    def last_day(self) -> date:
        """The last date that every source knows."""
        return date(min([self.years.last, *(file.years.last for _, file in self.read())]), 12, 31)

    def first_day(self) -> date:
        """The first date that every source knows."""
        return date(max([self.years.first, *(file.years.first for _, file in self.read())]), 1, 1)


class Unusable(Exception):
    """A source of holidays cannot be used. `keys` is where in the sources, the message why."""

    def __init__(self, keys: Keys, message: str) -> None:
        super().__init__(message)
        self.keys = keys


def holidays_of(sources: HolidaySources, folder: Path) -> tuple[Holiday, ...]:
    """Every holiday, by date, each date once. Raises Unusable."""
    found: dict[date, Holiday] = {own.on: Holiday.model_construct(**dict(own)) for own in sources.own}
    for keys, file in sources.read():
        for holiday in _from_file(file, folder, keys):
            found.setdefault(holiday.on, holiday)
    for holiday in _from_library(sources) if sources.library else ():
        found.setdefault(holiday.on, holiday)
    return tuple(found[on] for on in sorted(found))


def errors_of(sources: HolidaySources, folder: Path, document: Document, keys: Keys) -> Iterator[PolicyError]:
    """What is wrong with the sources of one calendar, the first of it."""
    for place, years in (((), sources.years), *((place, file.years) for place, file in sources.read())):
        if years.last < years.first:
            at = (*keys, *place, "years", "last")
            yield document.error(at, f"expected {years.first} or later, found {years.last}")
            return
    for number, feed in enumerate(sources.feeds):
        if feed.url.startswith("http://") and not feed.allow_http:
            expected = "expected an address that begins with https://, or allow_http: true beside it"
            yield document.error((*keys, "feeds", number, "url"), f"{expected}, found {found(feed.url)}")
            return
    try:
        holidays_of(sources, folder)
    except Unusable as error:
        yield document.error((*keys, *error.keys), str(error))


# ---------------------------------------------------------------- the library


def _from_library(sources: HolidaySources) -> Iterator[Holiday]:
    assert sources.library is not None
    country, subdivision, without = sources.library.country, sources.library.subdivision, set()
    source = f"PyPI holidays, {country}{f'/{subdivision}' if subdivision else ''}"
    for on, name in _library(country, subdivision, sources.years.first, sources.years.last):
        if name in sources.library.without:
            without.add(name)
        else:
            yield Holiday(on=on, name=name, source=source)
    for number, name in enumerate(sources.library.without):
        if name not in without:
            raise Unusable(
                ("library", "without", number),
                f"expected the name of a holiday of {source}, found {found(name)}",
            )


@lru_cache(maxsize=8)
def _library(country: str, subdivision: str | None, first: int, last: int) -> tuple[tuple[date, str], ...]:
    """The dates and names, one pair for each name."""
    from holidays import country_holidays  # noqa: PLC0415 - half a second, for those who load a policy only

    try:
        known = country_holidays(country, subdiv=subdivision, years=range(first, last + 1), language="en_US")
    except NotImplementedError as error:
        place = "subdivision" if subdivision and "subdivision" in str(error) else "country"
        raise Unusable(
            ("library", place),
            "expected a country code, or one of its subdivisions, that the library holidays knows, such as US and IL",
        ) from error
    return tuple((on, name) for on, names in sorted(known.items()) for name in names.split("; "))


# ---------------------------------------------------------------- iCalendar


def holidays_in(raw: bytes, wanted: ICalendar, keys: Keys = ()) -> tuple[Holiday, ...]:
    """The all-day events of an iCalendar file within its years; every year has one, else the list ended before it
    says. Raises Unusable."""
    source = f"iCalendar {wanted.file}{f' of {wanted.host}' if isinstance(wanted, Feed) else ''}"
    holidays = [
        Holiday(on=on, name=_name(event), source=source[:200])
        for event in events_in(raw, wanted.file, (*keys, "file"))
        for on in _dates(event, (*keys, "file"))
        if wanted.years.first <= on.year <= wanted.years.last
    ]
    known = {holiday.on.year for holiday in holidays}
    for year in range(wanted.years.first, wanted.years.last + 1):
        if year not in known:
            raise Unusable(
                (*keys, "years"), f"{wanted.file} has no holiday in {year}; expected one in every year"
            )
    return tuple(holidays)


def _name(event: Any) -> str:
    return " ".join(str(event.get("SUMMARY", "Holiday")).split())[:200] or "Holiday"


def events_in(raw: bytes, name: str, keys: Keys = ()) -> list[Any]:
    """The events of an iCalendar file. Raises Unusable."""
    from icalendar import Calendar  # noqa: PLC0415 - slow to import, and seldom needed

    if len(raw) > MAX_BYTES:
        raise Unusable(keys, f"expected a file of at most {MAX_BYTES} bytes, found a larger one")
    try:
        return list(Calendar.from_ical(raw).walk("VEVENT"))
    except (ValueError, IndexError, KeyError) as error:
        raise Unusable(keys, f"{name} is no iCalendar file; expected {_WHOLE}") from error


_WHOLE: Final = "BEGIN:VCALENDAR, its events and END:VCALENDAR"


def _from_file(wanted: ICalendar, folder: Path, keys: Keys) -> tuple[Holiday, ...]:
    try:
        with (folder / wanted.file).open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        if not isinstance(wanted, Feed):
            raise Unusable((*keys, "file"), f"{wanted.file} cannot be read: {error.strerror}") from error
        why = f"{wanted.file} was never fetched from {wanted.host}: run `rapid sla fetch --policy {folder}`"
        raise Unusable((*keys, "file"), why) from error
    except OSError as error:
        raise Unusable((*keys, "file"), f"{wanted.file} cannot be read: {error.strerror or error}") from error
    return holidays_in(raw, wanted, keys)


def _dates(event: Any, keys: Keys) -> Iterator[date]:
    """The dates of an all-day event. One that repeats by a rule is refused: what it means would end nowhere."""
    if "RRULE" in event or "RDATE" in event:
        raise Unusable(keys, "has an event that repeats (RRULE); expected every date written out")
    start = event.decoded("DTSTART", None)
    end = event.decoded("DTEND", None)
    if not _is_day(start) or not (end is None or _is_day(end)):
        raise Unusable(
            keys, f"has an event that is not of whole days ({found(str(start))}); expected VALUE=DATE"
        )
    days = (end - start).days if end is not None else 1
    if days > MAX_DAYS:
        raise Unusable(keys, f"has an event of {days} days, from {start} on; expected at most {MAX_DAYS}")
    for number in range(max(days, 1)):
        yield start + timedelta(days=number)


def _is_day(value: object) -> bool:
    return isinstance(value, date) and not isinstance(value, datetime)
