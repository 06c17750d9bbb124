"""Pure: what was asked for. Every argument is bounded, and everything that is wrong is said at once.

"Optional" means in the standard that an empty argument is as good as none.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qsl

from connectors.open311.model import FORMATS, Failure, Format, text
from schemas.base import Point

Status = Literal["open", "closed"]
STATUSES: Final[tuple[Status, ...]] = ("open", "closed")
SPAN: Final = timedelta(days=90)
MOST_REQUESTS: Final = 1_000
MOST_OFFSET: Final = 100_000
MOST_IDS: Final = 500
MOST_FIELDS: Final = 200
MOST_DESCRIPTION_CHARACTERS: Final = 4_000
FORM_TYPE: Final = "application/x-www-form-urlencoded"

_W3_TIME: Final = re.compile(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})$")
_WHOLE: Final = re.compile(r"^\d{1,6}$")
_DEGREES: Final = re.compile(r"^[+-]?\d{1,3}(\.\d{1,20})?$")


class Target(NamedTuple):
    """What a path names: a resource, one thing of it, and the format of the answer."""

    resource: str
    name: str | None
    form: Format


class Window(NamedTuple):
    """A span of time, both ends included; None: open."""

    since: datetime | None = None
    until: datetime | None = None


class Query(NamedTuple):
    """What `GET requests` asks for. `ids` overrides all else; empty tuples: everything."""

    ids: tuple[str, ...]
    service_codes: tuple[str, ...]
    statuses: tuple[Status, ...]
    requested: Window
    updated: Window
    offset: int
    limit: int
    extensions: bool


class Filing(NamedTuple):
    """What `POST requests` says. Who says it is not kept: names, addresses and numbers of persons are not read."""

    service_code: str
    point: Point | None
    address: str | None


def target_of(path: str) -> Target:
    """What a path below the endpoint names. Raises Failure when it names nothing that the standard has."""
    stem, _, suffix = path.rpartition(".")
    form = FORMATS.get(suffix)
    resource, _, name = stem.partition("/")
    if "\x00" in name:
        raise Failure(404, "There is nothing of this name.")
    if not stem or form is None:
        raise Failure(
            400, "The address names no format: end it in .xml or .json, e.g. services.xml or requests.json."
        )
    if resource not in ("services", "requests", "tokens", "discovery") or (resource == "tokens" and not name):
        raise Failure(
            404, "There is no such resource: services, requests and tokens are what this endpoint has."
        )
    return Target(resource, name or None, form)


def form_of(path: str) -> Format:
    """The format in which even a failure on this path is told: the one it ends in, else the required one, XML."""
    return FORMATS.get(path.rpartition(".")[2], "xml")


class Arguments:
    """Arguments by name, and the sentences about those that are wrong."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        self.wrong: list[str] = []
        for name, value in pairs:
            if "\x00" in value:
                self.wrong.append(f"{text(name[:40]) or 'An argument'} has a character that no text has.")
            elif value.strip():
                self._values.setdefault(name, []).append(value.strip())

    def one(self, name: str) -> str | None:
        """The argument's only value, None without any."""
        values = self._values.get(name, [])
        if len(set(values)) > 1:
            self.wrong.append(f"{name} is given {len(values)} times: give it once.")
        return values[0] if values else None

    def several(self, name: str, most: int = MOST_IDS) -> tuple[str, ...]:
        """All values, declared several times or with commas between."""
        parts = [part.strip() for value in self._values.get(name, []) for part in value.split(",")]
        found = tuple(dict.fromkeys(part for part in parts if part))
        if len(found) > most:
            self.wrong.append(f"{name} names {len(found)}: at most {most} can be asked for at once.")
        return found[:most]

    def time(self, name: str) -> datetime | None:
        """A moment in the W3 form."""
        value = self.one(name)
        if value is None:
            return None
        at = w3_moment(value)
        if at is None:
            self.wrong.append(
                f"{name} is no date and time: write it like 2010-01-01T00:00:00Z, with its zone."
            )
        return at

    def whole(self, name: str, least: int, most: int) -> int | None:
        """A whole number within bounds."""
        value = self.one(name)
        if value is None:
            return None
        if not _WHOLE.match(value) or not least <= int(value) <= most:
            self.wrong.append(f"{name} is out of bounds: give a whole number from {least} to {most}.")
            return None
        return int(value)

    def degrees(self, name: str, most: float) -> float | None:
        """A coordinate in degrees."""
        value = self.one(name)
        if value is None:
            return None
        if not _DEGREES.match(value) or abs(float(value)) > most:
            self.wrong.append(f"{name} is no coordinate: give degrees (WGS 84) from -{most:g} to {most:g}.")
            return None
        return float(value)

    def check(self) -> None:
        """Raises Failure when anything was wrong."""
        if self.wrong:
            raise Failure(400, *self.wrong)


def w3_moment(value: str) -> datetime | None:
    """The moment that a text in the W3 form names, None for any other text. A `+` that was sent unescaped
    arrives as a space, and is read as what it was."""
    value = re.sub(r" (?=\d{2}:\d{2}$)", "+", value)
    if not _W3_TIME.match(value):
        return None
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def query_of(arguments: Arguments, now: datetime, ahead: timedelta = timedelta()) -> Query:
    """What `GET requests` asks for, with the standard's defaults. `ahead`: how far the times of requests may lie in
    the future. Raises Failure."""
    ids = arguments.several("service_request_id")
    codes = arguments.several("service_code")
    statuses = _statuses(arguments)
    asked = Window(arguments.time("start_date"), arguments.time("end_date"))
    changed = Window(arguments.time("updated_after"), arguments.time("updated_before"))
    size = arguments.whole("page_size", 1, MOST_REQUESTS)
    page = arguments.whole("page", 1, MOST_OFFSET)
    extensions = arguments.one("extensions") == "true"
    limit = size or MOST_REQUESTS
    offset = ((page or 1) - 1) * limit
    if offset > MOST_OFFSET:
        arguments.wrong.append(
            f"page is too far: at most {MOST_OFFSET} requests can be paged through; narrow start_date and end_date."
        )
    requested, updated = _windows(arguments, asked, changed, now)
    if not any(asked) and requested.until is not None:
        requested = requested._replace(until=_moved(requested.until, ahead))
    arguments.check()
    return Query(ids, codes, statuses, requested, updated, offset, limit, extensions)


def _statuses(arguments: Arguments) -> tuple[Status, ...]:
    given = arguments.several("status")
    known: tuple[Status, ...] = tuple(status for status in STATUSES if status in given)
    if len(known) < len(given):
        arguments.wrong.append("status is not one of open, closed.")
    return known


def _windows(arguments: Arguments, asked: Window, changed: Window, now: datetime) -> tuple[Window, Window]:
    """The most recent 90 days by the time of the request, unless another window is given."""
    updated = _span(arguments, changed, now, "updated_after", "updated_before") if any(changed) else Window()
    if any(changed) and not any(asked):
        return Window(), updated
    return _span(arguments, asked, now, "start_date", "end_date"), updated


def _span(arguments: Arguments, window: Window, now: datetime, first: str, last: str) -> Window:
    since, until = window
    if since and until and since > until:
        arguments.wrong.append(f"{first} is later than {last}: exchange them.")
    if since and until and until - since > SPAN:
        arguments.wrong.append(f"{first} and {last} span more than 90 days: ask for less at a time.")
    if since is None:
        until = until or now
        return Window(_moved(until, -SPAN), until)
    return Window(since, until or _moved(since, SPAN))


def _moved(at: datetime, by: timedelta) -> datetime:
    """At the ends of the calendar, the end itself."""
    try:
        return at + by
    except OverflowError:
        return at


def form_arguments(body: bytes, content_type: str | None) -> Arguments:
    """The arguments of a form. Raises Failure for a body that is no form, or not in UTF-8."""
    kind, _, rest = (content_type or "").lower().partition(";")
    charset = re.search(r"charset\s*=\s*\"?([^\s\";]+)", rest)
    if kind.strip() != FORM_TYPE or (charset and charset[1] not in ("utf-8", "utf8")):
        raise Failure(400, f"The body is not understood: send Content-Type: {FORM_TYPE}; charset=utf-8.")
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, encoding="utf-8", errors="strict",
            max_num_fields=MOST_FIELDS,
        )  # fmt: skip
    except UnicodeDecodeError as error:
        raise Failure(400, "The body is not in UTF-8: encode it so, then percent-encode it.") from error
    except ValueError as error:
        raise Failure(400, f"The form has more than {MOST_FIELDS} fields: send fewer.") from error
    return Arguments(pairs)


def filing_of(arguments: Arguments) -> Filing:
    """What `POST requests` says. Raises Failure."""
    code = arguments.one("service_code")
    if code is None:
        arguments.wrong.append("service_code was not provided: take one from GET services.")
    point = _point(arguments)
    address = _address(arguments)
    if point is None and address is None and not arguments.wrong:
        arguments.wrong.append(
            "The place is missing: provide lat and long, or address_string, or address_id."
        )
    description = arguments.one("description")
    if description and len(description) > MOST_DESCRIPTION_CHARACTERS:
        arguments.wrong.append(f"description is longer than {MOST_DESCRIPTION_CHARACTERS} characters.")
    arguments.check()
    return Filing(code or "", point, address)


def _point(arguments: Arguments) -> Point | None:
    lat, lon = arguments.degrees("lat", 90), arguments.degrees("long", 180)
    if (arguments.one("lat") is None) != (arguments.one("long") is None):
        arguments.wrong.append("lat and long belong together: provide both, or neither.")
    return Point(lat=lat, lon=lon) if lat is not None and lon is not None else None


def _address(arguments: Arguments) -> str | None:
    """The address as it is written; one that is only known by its number in a register says so."""
    written, number = arguments.one("address_string"), arguments.one("address_id")
    found = written or (number and f"address id {number}")
    if found and (len(found) > 200 or re.search(r"[\x00-\x1f\x7f]", found)):
        name = "address_string" if written else "address_id"
        arguments.wrong.append(
            f"{name} is too long, or has line breaks: write one line of at most 180 characters."
        )
    return found or None


def known_only(codes: Sequence[str], services: Mapping[str, str]) -> tuple[str, ...]:
    """The categories of service codes; codes that nobody knows have none."""
    return tuple(dict.fromkeys(services[code] for code in codes if code in services))
