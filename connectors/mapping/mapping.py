"""A mapping, ready to use: one row in, a report, or nothing of ours, or what is wrong with it.

item -> each field by its rule -> report of the schema | not our subject | RowDefect
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from connectors.files.errors import RowDefect
from connectors.files.fields import beat, number_text, yes_or_no
from connectors.files.reading import OutOfScope
from connectors.mapping.columns import Get, Item, getter
from connectors.mapping.spec import MappingFile, Rule
from connectors.mapping.targets import SCHEMAS, Report, Schema, Target
from connectors.mapping.times import looks_like, time_reader
from schemas.base import Point
from schemas.codec import REMOVED
from schemas.dead_letter import Reason
from schemas.expected import expectation, together

_TIME_FIELDS: Final = frozenset({"occurred_at", "revised_at", "created_at", "closed_at"})
_PADDED: Final = {"beat": beat, "district": number_text, "ward": number_text}
"""Fields that spreadsheets spoil: read as in the city's own files."""
_NO_PLACE: Final = "a latitude of -90 to 90 and a longitude of -180 to 180 degrees"

Read = Callable[[Item], Any]
"""Raises RowDefect, Skipped."""


class Refused(Protocol):
    """Why the border would not let a report in."""

    @property
    def reason(self) -> Reason: ...
    @property
    def field(self) -> str: ...
    @property
    def expected(self) -> str: ...


Refuse = Callable[[Report, datetime], Refused | None]
"""What intake would certainly refuse a report for; None: it would let it in."""


class Skipped(Exception):
    """The row is not about our subject."""


class _Part(NamedTuple):
    name: str
    columns: tuple[str, ...]
    read: Read


@dataclass(frozen=True)
class SourceMapping:
    """A mapping file that was found to be right. See `compiled`."""

    file: MappingFile
    version: str  # of what the file says
    schema: Schema
    parts: tuple[_Part, ...]
    getters: Mapping[str, Get] = field(repr=False)

    @property
    def source(self) -> str:
        """The code of the source."""
        return self.file.source

    @property
    def columns(self) -> tuple[str, ...]:
        """All that is ever read of a row, as the file names it."""
        return tuple(self.getters)

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns without which nothing of the source can be right."""
        return self.file.needed

    def read(self, item: Item) -> Report | OutOfScope:
        """What a row says. Raises RowDefect for all that is wrong, under the column of the first."""
        values: dict[str, Any] = {"source": self.source}
        defects: list[RowDefect] = []
        for part in self.parts:
            try:
                values[part.name] = part.read(item)
            except RowDefect as defect:
                defects.append(defect)
            except Skipped:
                return OutOfScope(part.name)
        if defects:
            raise _all_of(defects)
        try:
            return self.schema.model(**values)
        except ValidationError as error:
            raise self._defect(error) from None

    def column_of(self, name: str) -> str | None:
        """The column that a field is read from, None for a constant."""
        rule = self.file.fields.get(name)
        return rule.columns[0] if rule and rule.columns else None

    def kept(self, item: Item) -> dict[str, Any]:
        """What may be kept of a row: the columns that are read, as far as they are texts."""
        found = {column: get(item) for column, get in self.getters.items()}
        return {
            column: REMOVED if isinstance(value, dict | list) else value
            for column, value in found.items()
            if value is not None
        }

    def _defect(self, error: ValidationError) -> RowDefect:
        """What the schema found wrong, told of the column and without the column's content."""
        found = error.errors(include_input=False, include_url=False)
        names = [str(one["loc"][0]) if one["loc"] else "report" for one in found]
        told = [f"{expectation(one)} for {name}" for one, name in zip(found, names, strict=True)]
        reason: Reason = "impossible_time" if names[0] in _TIME_FIELDS else "invalid"
        return RowDefect(together(told), self.column_of(names[0]), reason)


def compiled(file: MappingFile) -> SourceMapping:
    """A mapping that can be used. `file` must have been found right."""
    schema, zone = SCHEMAS[file.report], ZoneInfo(file.times.zone) if file.times.zone else None
    getters = {
        column: getter(column, file.format) for rule in file.fields.values() for column in rule.columns
    }
    parts = tuple(
        _Part(name, rule.columns, _reader(schema.targets[name], rule, getters, file.times.format, zone))
        for name, rule in file.fields.items()
    )
    version = hashlib.sha256(json.dumps(file.model_dump(mode="json"), sort_keys=True).encode())
    return SourceMapping(file, version.hexdigest()[:12], schema, parts, getters)


def _all_of(defects: list[RowDefect]) -> RowDefect:
    first = defects[0]
    told = [
        one.expected if one.column == first.column else f"{one.expected} in {one.column}" for one in defects
    ]
    return RowDefect(together(told), first.column, first.reason)


def _reader(target: Target, rule: Rule, getters: Mapping[str, Get], form: str, zone: ZoneInfo | None) -> Read:
    """How one field is read."""
    if rule.gives("value"):
        return lambda _: rule.value
    if target.kind == "point":
        return _point_reader(rule, getters)
    assert rule.column is not None
    first = _reader_of(rule.column, target, rule, getters, form, zone)
    if rule.or_column is None:
        return first
    has_first, second = getters[rule.column], _reader_of(rule.or_column, target, rule, getters, form, zone)
    return lambda item: second(item) if has_first(item) is None else first(item)


def _reader_of(  # noqa: PLR0917 - as above
    column: str, target: Target, rule: Rule, getters: Mapping[str, Get], form: str, zone: ZoneInfo | None
) -> Read:
    """How a field is read from one column."""
    at_column = rule.model_copy(update={"column": column})
    get, convert = getters[column], _converter(target, at_column, rule.format or form, zone)

    def read(item: Item) -> Any:
        raw = get(item)
        if isinstance(raw, dict | list):
            raise RowDefect("a text or a number, not an object or a list", column)
        return _blank(target, rule) if raw is None else convert(raw)

    return read


def _blank(target: Target, rule: Rule) -> Any:
    if target.nullable:
        return None
    if not target.required:
        return target.default
    raise RowDefect(f"{target.name}, found nothing", rule.column)


def _converter(target: Target, rule: Rule, form: str, zone: ZoneInfo | None) -> Callable[[str], Any]:
    plain = _plain(target, rule, form, zone)
    if rule.table is None:
        return plain
    table = {folded(theirs): ours for theirs, ours in rule.table.items()}

    def look_up(raw: str) -> Any:
        key = folded(raw)
        return table[key] if key in table else _unknown(rule, raw, plain)

    return look_up


def folded(text: str) -> str:
    """How values of a table are compared: capitals and blanks do not count."""
    return " ".join(text.casefold().split())


def _unknown(rule: Rule, raw: str, plain: Callable[[str], Any]) -> Any:
    """What a value means that the table does not have."""
    if rule.gives("otherwise_value"):
        return rule.otherwise_value
    match rule.otherwise:
        case "skip":
            raise Skipped
        case "empty":
            return None
        case "keep":
            return plain(raw)
    known = ", ".join(list(rule.table or ())[:12])
    raise RowDefect(f"a value of the mapping's table: {known}", rule.column)


def _plain(target: Target, rule: Rule, form: str, zone: ZoneInfo | None) -> Callable[[str], Any]:
    column = rule.column or ""
    match target.kind:
        case "time":
            return _time_reader(column, form, zone)
        case "yes_no":
            return lambda raw: _yes_no(raw, column)
        case "number":
            return lambda raw: _number(raw, column)
        case "word" | "category":
            return lambda raw: folded(raw).replace(" ", "_")
    if target.name in _PADDED:
        pad = _PADDED[target.name]
        return lambda raw: pad({"": raw}, "")
    prefix = rule.prefix or ""
    return lambda raw: prefix + raw


def _time_reader(column: str, form: str, zone: ZoneInfo | None) -> Callable[[str], datetime]:
    read, expected = time_reader(form, zone), looks_like(form, zone)

    def convert(raw: str) -> datetime:
        try:
            return read(raw)
        except (ValueError, OverflowError, OSError):
            raise RowDefect(expected, column, "impossible_time") from None

    return convert


def _yes_no(raw: str, column: str) -> bool:
    found = yes_or_no({column: raw}, column)
    if found is None:
        raise RowDefect("yes or no (Y, N, TRUE, FALSE, 1, 0), or a table that says what it means", column)
    return found


def _number(raw: str, column: str) -> int | None:
    """A whole number; 0 stands for nothing."""
    try:
        found = float(raw)
        if found != int(found):
            raise ValueError
        return int(found) or None
    except (ValueError, OverflowError):
        raise RowDefect("a whole number", column) from None


# Places: two columns, one text, or GeoJSON.


def _point_reader(rule: Rule, getters: Mapping[str, Get]) -> Read:
    if rule.geojson is not None:
        return _geojson_reader(rule.geojson, getters[rule.geojson])
    if rule.lat_lon is not None:
        return _pair_reader(rule.lat_lon, getters[rule.lat_lon])
    assert rule.lat is not None
    assert rule.lon is not None
    column, lat, lon = rule.lat, getters[rule.lat], getters[rule.lon]

    def read(item: Item) -> Point | None:
        north, east = lat(item), lon(item)
        return None if north is None or east is None else _point(north, east, column)

    return read


def _pair_reader(column: str, get: Get) -> Read:
    def read(item: Item) -> Point | None:
        raw = get(item)
        if raw is None:
            return None
        north, comma, east = str(raw).strip("() ").partition(",")
        if not comma:
            raise RowDefect("a latitude, a comma and a longitude: 41.88,-87.72", column, "impossible_place")
        return _point(north, east, column)

    return read


def _geojson_reader(column: str, get: Get) -> Read:
    def read(item: Item) -> Point | None:
        raw = get(item)
        if raw is None:
            return None
        try:
            shape = json.loads(raw) if isinstance(raw, str) else raw
            if shape["type"] == "Feature":
                shape = shape["geometry"]
            if shape["type"] != "Point":
                raise ValueError
            east, north = shape["coordinates"][:2]
        except (ValueError, TypeError, KeyError):
            raise RowDefect("a GeoJSON point", column, "impossible_place") from None
        return _point(north, east, column)

    return read


def _point(north: Any, east: Any, column: str) -> Point:
    try:
        return Point(lat=float(north), lon=float(east))
    except (ValueError, TypeError, ValidationError):
        raise RowDefect(_NO_PLACE, column, "impossible_place") from None
