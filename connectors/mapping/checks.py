"""What a mapping file says that no source can mean: all of it at once, each with the way to where it stands.

The shape (unknown keys, wrong types) is pydantic's business; here are the rules that it cannot say. What has the wrong
shape is passed over, so that the rest is told in the same run.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, get_args
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError

from connectors.mapping.columns import is_about_a_person
from connectors.mapping.mapping import folded
from connectors.mapping.spec import Format, Rule
from connectors.mapping.targets import SCHEMAS, Schema, Target
from connectors.mapping.times import why_impossible

Keys = tuple[str | int, ...]
PLACES: Final = ("lat", "lon", "lat_lon", "geojson")
_FORMATS: Final[tuple[Format, ...]] = get_args(Format)
_ANY_ZONE: Final = ZoneInfo("UTC")


class Wrong(NamedTuple):
    """One thing that is wrong, and the way to it."""

    keys: Keys
    message: str


class About(NamedTuple):
    """What a rule is checked against."""

    target: Target
    keys: Keys
    format: str
    zone: ZoneInfo | None
    categories: frozenset[str]
    whole: bool  # else a part of the rule could not be read, and nothing is said to be missing


def wrong(data: Mapping[str, Any], categories: frozenset[str]) -> list[Wrong]:
    """All that is wrong with what a file says. `categories`: those of the policy."""
    found = list(_times(data.get("times")))
    found += _layout(data)
    schema, fields = meant_schema(data), data.get("fields")
    if schema is None or not isinstance(fields, dict):
        return found
    found += _names(schema, fields)
    zone, form = _some_zone(data.get("times")), meant_format(data) or ""
    for name, raw in fields.items():
        read, target = rule_of(raw), schema.targets.get(meant(name, schema.targets) or "")
        if read is not None and target is not None:
            about = About(target, ("fields", name), form, zone, categories, read.whole)
            found += [one for check in _CHECKS for one in check(read.rule, about)]
    return found


def meant(word: Any, known: Iterable[str]) -> str | None:
    """The word of ours that somebody meant: so that what stands under a misspelt one is looked at in the same run."""
    names = list(known)
    return word if word in names else next(iter(get_close_matches(str(word), names, 1)), None)


def meant_schema(data: Mapping[str, Any]) -> Schema | None:
    """The schema that `report` means; where it says nothing of the kind, the one whose fields the file has."""
    named = meant(data.get("report"), SCHEMAS)
    if named:
        return SCHEMAS[named]
    fields = set(data["fields"]) if isinstance(data.get("fields"), dict) else set()
    best = max(SCHEMAS.values(), key=lambda one: len(fields & one.targets.keys()))
    return best if fields & best.targets.keys() else None


def meant_format(data: Mapping[str, Any]) -> Format | None:
    """The format that `format` means."""
    found = meant(data.get("format"), _FORMATS)
    return next((one for one in _FORMATS if one == found), None)


def missing_columns(columns: Iterable[str], there: Callable[[str], bool], keys_of: Callable[[str], Keys],
                    known: Iterable[str]) -> list[Wrong]:  # fmt: skip
    """Columns that a sample never has."""
    names = list(known)
    return [
        Wrong(keys_of(column), f"the sample has no column {column!r}{_instead(column, names)}")
        for column in columns
        if not there(column)
    ]


def _instead(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = get_close_matches(name, names, 1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; it has {', '.join(names[:15])}" + (" and more" if len(names) > 15 else "")


class Half(NamedTuple):
    """A rule, as far as it has the right shape, and whether it has that as a whole."""

    rule: Rule
    whole: bool


def rule_of(raw: Any) -> Half | None:
    """The rule that a file has; None where it has nothing of a rule."""
    try:
        return Half(Rule.model_validate(raw), True)
    except ValidationError as error:
        spoilt = {str(one["loc"][0]) for one in error.errors() if one["loc"]}
        sound = (
            {key: value for key, value in raw.items() if key not in spoilt} if isinstance(raw, dict) else None
        )
        return None if sound is None else Half(Rule.model_validate(sound), False)


def _times(times: Any) -> Iterator[Wrong]:
    if not isinstance(times, dict):
        return
    zone = times.get("zone")
    if isinstance(zone, str) and _zone(times) is None:
        yield Wrong(("times", "zone"), f"expected a time zone such as America/Chicago, found {zone!r}")
    form = times.get("format")
    if isinstance(form, str) and (why := why_impossible(form, _some_zone(times))):
        yield Wrong(("times", "format"), why)


def _some_zone(times: Any) -> ZoneInfo | None:
    """The zone; any other one where the file means to say one: that it is wrong is told by itself."""
    says = isinstance(times, dict) and set(times) & {"zone", *get_close_matches("zone", map(str, times))}
    return _zone(times) or (_ANY_ZONE if says or not isinstance(times, dict | None) else None)


def _zone(times: Any) -> ZoneInfo | None:
    name = times.get("zone") if isinstance(times, dict) else None
    try:
        return ZoneInfo(name) if isinstance(name, str) else None
    except (ValueError, OSError, KeyError):  # a name that is none, a folder, one that is not there
        return None


def _layout(data: Mapping[str, Any]) -> Iterator[Wrong]:
    form, items = data.get("format"), data.get("items")
    if form in ("csv", "jsonl") and items:
        yield Wrong(("items",), f"only JSON has a path to the list; {form} has its rows line by line")
    if isinstance(items, str) and items and not items.startswith("/"):
        yield Wrong(("items",), f"expected a JSON pointer that begins with /, such as /{items}")
    if form in ("json", "jsonl") and "delimiter" in data:
        yield Wrong(("delimiter",), f"only CSV has a delimiter, not {form}")


def _names(schema: Schema, fields: Mapping[str, Any]) -> Iterator[Wrong]:
    for name in fields:
        if name == "source":
            yield Wrong(("fields", name), "is what `source` at the top of the file says: leave it out here")
        elif name not in schema.targets:
            close = get_close_matches(name, schema.targets, 1)
            hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(schema.targets)}"
            yield Wrong(("fields", name), f"is no field of {schema.model.__name__}; {hint}")
    there = {meant(name, schema.targets) for name in fields}
    missing = [one.name for one in schema.targets.values() if one.required and one.name not in there]
    if missing:
        named = ", ".join(missing)
        yield Wrong(
            ("fields",), f"{named} {'is' if len(missing) == 1 else 'are'} missing: every report needs it"
        )


def _origin(rule: Rule, about: About) -> Iterator[Wrong]:
    """One origin for one field."""
    places = [name for name in PLACES if rule.gives(name)]
    origins = [name for name in ("column", "value") if rule.gives(name)]
    origins += [name for name in ("lat_lon", "geojson") if name in places]
    origins += ["lat and lon"] if "lat" in places or "lon" in places else []
    if about.target.kind == "point":
        yield from _place_origin(rule, about, origins)
    elif places:
        yield Wrong(
            (*about.keys, places[0]), f"only point is a place; {about.target.name} has a column or a value"
        )
    elif len(origins) > 1 or (about.whole and not origins):
        found = " and ".join(origins) or "neither"
        yield Wrong(about.keys, f"expected a column or a value, found {found}")
    if rule.or_column is not None and rule.column is None and about.whole:
        yield Wrong((*about.keys, "or_column"), "is read when `column` is blank, and there is no `column`")


def _place_origin(rule: Rule, about: About, origins: list[str]) -> Iterator[Wrong]:
    if len(origins) > 1 or set(origins) & {"column", "value"} or (about.whole and not origins):
        found = " and ".join(origins) or "nothing"
        yield Wrong(about.keys, f"expected lat and lon, or lat_lon, or geojson, found {found}")
    elif rule.gives("lat") != rule.gives("lon") and about.whole:
        yield Wrong(about.keys, "lat and lon belong together: one of them is missing")
    elif rule.lat is not None and rule.lat == rule.lon:
        yield Wrong((*about.keys, "lon"), f"is the same column as lat ({rule.lat})")


def _columns(rule: Rule, about: About) -> Iterator[Wrong]:
    for key in ("column", "or_column", *PLACES):
        column = getattr(rule, key)
        if column is None:
            continue
        if is_about_a_person(column):
            yield Wrong((*about.keys, key), f"{column!r} is about a person: such columns are never read")
        elif column.startswith("/") and about.format == "csv":
            yield Wrong((*about.keys, key), f"expected a column of CSV, found the JSON pointer {column}")
    if rule.or_column is not None and rule.or_column == rule.column:
        yield Wrong((*about.keys, "or_column"), f"is the same column as `column` ({rule.column})")


def _constant(rule: Rule, about: About) -> Iterator[Wrong]:
    if not rule.gives("value") or about.target.kind == "point":
        return
    keys, target = (*about.keys, "value"), about.target
    if target.kind == "id":
        yield Wrong(keys, "would make one report of all rows: name the column that tells them apart")
    elif target.kind == "time":
        yield Wrong(keys, "would give all rows the same time: name a column")
    elif (why := _impossible(rule.value, about)) is not None:
        yield Wrong(keys, why)


def _table(rule: Rule, about: About) -> Iterator[Wrong]:
    if rule.table is None:
        return
    keys, target = (*about.keys, "table"), about.target
    if target.kind in ("time", "point", "id"):
        yield Wrong(keys, f"{target.name} cannot come from a table: its values are as many as there are rows")
        return
    if rule.gives("value"):
        yield Wrong(keys, "translates what a column says, and this field is a constant")
    if not rule.table:
        yield Wrong(keys, "is empty; expected their values, each with ours")
    seen: dict[str, str] = {}
    for theirs, ours in rule.table.items():
        if (why := _impossible(ours, about)) is not None:
            yield Wrong((*keys, theirs), why)
        first = seen.setdefault(folded(theirs), theirs)
        if first != theirs:
            yield Wrong((*keys, theirs), f"is the same value as {first!r}: capitals and blanks do not count")


def _unknown_values(rule: Rule, about: About) -> Iterator[Wrong]:
    keys, target = (*about.keys, "otherwise"), about.target
    said = [key for key in ("otherwise", "otherwise_value") if rule.gives(key)]
    if said and rule.table is None and about.whole:
        yield Wrong((*about.keys, said[0]), "says what is unknown to a table, and there is no `table`")
    if len(said) == 2:
        yield Wrong(keys, "stands beside otherwise_value: expected one of them")
    if rule.otherwise == "empty" and not target.nullable:
        yield Wrong(
            keys, f"{target.name} cannot be empty; expected refuse, skip, keep, or an otherwise_value"
        )
    if rule.gives("otherwise_value") and (why := _impossible(rule.otherwise_value, about)) is not None:
        yield Wrong((*about.keys, "otherwise_value"), why)


def _details(rule: Rule, about: About) -> Iterator[Wrong]:
    target = about.target
    if rule.prefix is not None and target.kind not in ("text", "id"):
        yield Wrong((*about.keys, "prefix"), f"only texts have one, {target.name} is none")
    if rule.format is not None:
        if target.kind != "time":
            yield Wrong((*about.keys, "format"), f"only times have one, {target.name} is none")
        elif why := why_impossible(rule.format, about.zone):
            yield Wrong((*about.keys, "format"), why)


def _impossible(value: Any, about: About) -> str | None:
    """Why this can be no value of the field, None when it can."""
    target = about.target
    if value is None and target.nullable:
        return None
    if target.kind in ("word", "category"):
        words = target.words if target.kind == "word" else sorted(about.categories)
        if value in words:
            return None
        return f"expected one of {', '.join(words)}, found {value!r}"
    expected = _PLAIN[target.kind]
    try:
        TypeAdapter(expected[0]).validate_python(value, strict=True)
    except ValidationError:
        return f"expected {expected[1]}, found {value!r}"
    return None


_PLAIN: Final[Mapping[str, tuple[Any, str]]] = {
    "text": (str, "a text"),
    "id": (str, "a text"),
    "yes_no": (bool, "true or false"),
    "number": (int, "a whole number"),
}

_CHECKS: Final = (_origin, _columns, _constant, _table, _unknown_values, _details)
