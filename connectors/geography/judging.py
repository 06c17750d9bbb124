"""Features judged before they become boundaries: shapes, places, numbers, and how they lie beside each other. Pure.

Everything that is wrong is told at once, feature by feature. Overlaps and gaps are told and hinder nothing: a city may
have a hole in it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from connectors.geography.areas import tidy
from connectors.geography.layer_files import Feature, LayerFile, in_degrees, metres_around, on_plane
from schemas.area import AreaKind, Boundary
from schemas.policy import Extent

LEAST_M2: Final = 1.0
"""Less is rounding: seven decimals of a degree are a centimetre."""
HIGHEST_NUMBER: Final = 9_999

# The fields of the City's own exports (cauq-8yn6, p293-wvbd, aerh-rz74, fthy-xz3r), then what others call them.
NUMBER_FIELDS: Final[Mapping[AreaKind, tuple[str, ...]]] = {
    "community_area": ("area_numbe", "area_num_1", "area_number", "number"),
    "ward": ("ward", "ward_num", "number"),
    "beat": ("beat_num", "number"),
    "district": ("dist_num", "number"),
    "custom": ("number",),
    "block": ("number", "rank"),
}
NAME_FIELDS: Final[Mapping[AreaKind, tuple[str, ...]]] = {
    "community_area": ("community", "name"),
    "ward": ("name",),
    "beat": ("name",),
    "district": ("dist_label", "name"),
    "custom": ("name", "label", "title"),
    "block": ("block", "name"),
}
UNNUMBERED: Final[tuple[AreaKind, ...]] = ("custom", "block")
"""Kinds whose areas are numbered as they stand in the file when it has no numbers."""

_WHERE: Final = re.compile(r"^(.*)\[(\S+) (\S+)\]$")


class Rules(NamedTuple):
    """What a layer is judged by. `expected`: the numbers that must all be there, with their names; none: any."""

    kind: AreaKind
    extent: Extent
    expected: Mapping[int, str] = {}
    number_field: str | None = None
    name_field: str | None = None
    mend: bool = False


class Finding(NamedTuple):
    """Something that is wrong, or worth knowing, of a feature (by its place, from 1) or of the layer."""

    place: int | None
    number: int | None
    name: str | None
    what: str


class Mended(NamedTuple):
    """A feature whose shape was mended: into how many polygons, and how much area these have together.

    `before_m2` is what the outline enclosed as it was drawn: the textbook's formula would count one loop of an eight
    against the other.
    """

    number: int
    name: str
    was: str
    parts: int
    before_m2: float
    after_m2: float


class Between(NamedTuple):
    """Where two areas overlap (both numbers), or where a gap lies between areas."""

    numbers: tuple[int, ...]
    area_m2: float
    lat: float
    lon: float


class Judged(NamedTuple):
    """The outcome. With errors, nothing may be imported."""

    boundaries: Sequence[Boundary]
    errors: Sequence[Finding]
    mended: Sequence[Mended] = ()
    overlaps: Sequence[Between] = ()
    gaps: Sequence[Between] = ()


class _Known(NamedTuple):
    feature: Feature
    number: int
    name: str

    def wrong(self, what: str) -> Finding:
        return Finding(self.feature.place, self.number, self.name, what)


def judge(file: LayerFile, rules: Rules) -> Judged:
    """What can be imported of a file, and what is wrong with it."""
    errors: list[Finding] = []
    known = _identified(file, rules, errors)
    errors += _doubled(known)
    errors += _missing(known, rules)
    swapped = _swapped(known, rules.extent)
    if swapped:
        return Judged((), [*errors, swapped])
    shaped: list[tuple[_Known, BaseGeometry]] = []
    mended: list[Mended] = []
    for one in known:
        shape = _sound(one, rules, errors, mended)
        if shape is not None:
            shaped.append((one, shape))
    if errors:
        return Judged((), sorted(errors, key=lambda error: error.place or 0))
    numbers, shapes = [one.number for one, _ in shaped], [shape for _, shape in shaped]
    boundaries = [
        Boundary(number=one.number, name=one.name, shape=shapely.to_wkb(tidy(shape), hex=True))
        for one, shape in sorted(shaped, key=lambda pair: pair[0].number)
    ]
    overlaps, gaps = between(numbers, shapes)
    return Judged(boundaries, (), mended, overlaps, gaps)


# --- numbers and names


def _identified(file: LayerFile, rules: Rules, errors: list[Finding]) -> list[_Known]:
    """The features that have a number; what is wrong with the others is told."""
    number_of = _field(file, rules.number_field, NUMBER_FIELDS[rules.kind])
    name_of = _field(file, rules.name_field, NAME_FIELDS[rules.kind])
    for asked, found, option in (
        (rules.number_field, number_of, "--number-field"),
        (rules.name_field, name_of, "--name-field"),
    ):
        if asked and found is None:
            errors.append(_no_field(file, f"has no field {asked} ({option})"))
    if number_of is None and rules.kind not in UNNUMBERED and not errors:
        errors.append(
            _no_field(
                file, f"has no field with the number of a {rules.kind.replace('_', ' ')}: say --number-field"
            )
        )
    if errors:
        return []
    known = []
    for feature in file.features:
        value = feature.properties.get(number_of) if number_of else feature.place
        number, name = _number(value), _name(feature, name_of)
        if number is None:
            what = f"expected a whole number from 1 to {HIGHEST_NUMBER} in {number_of}, found {str(value)[:40]!r}"
            errors.append(Finding(feature.place, None, name, what))
        else:
            known.append(_Known(feature, number, name or f"{rules.kind.replace('_', ' ')} {number}"))
    return known


def _field(file: LayerFile, asked: str | None, usual: Sequence[str]) -> str | None:
    """The file's own spelling of the field that was asked for, else of the first usual one that it has."""
    spelled = {field.casefold(): field for field in reversed(file.fields)}
    return next(
        (spelled[one.casefold()] for one in ([asked] if asked else usual) if one.casefold() in spelled), None
    )


def _no_field(file: LayerFile, what: str) -> Finding:
    return Finding(None, None, None, f"The file {what}; it has: {', '.join(file.fields)[:300] or 'none'}.")


def _number(value: Any) -> int | None:
    """`35`, `35.0` and `"0322"` are numbers; anything else is not."""
    try:
        number = float(str(value).strip())
    except ValueError:
        return None
    whole = number.is_integer() and 1 <= number <= HIGHEST_NUMBER
    return int(number) if whole else None


def _name(feature: Feature, field: str | None) -> str | None:
    text = " ".join(str(feature.properties.get(field) or "").split()) if field else ""
    printable = "".join(one for one in text if one.isprintable())
    return printable[:200] or None


def _doubled(known: Sequence[_Known]) -> Iterator[Finding]:
    first: dict[int, _Known] = {}
    for one in known:
        other = first.setdefault(one.number, one)
        if other is not one:
            yield one.wrong(
                f"has the number {one.number}, which feature {other.feature.place} ({other.name}) has already"
            )


def _missing(known: Sequence[_Known], rules: Rules) -> Iterator[Finding]:
    """What the policy lists must be there, and nothing else may be."""
    numbers = {one.number for one in known}
    if not rules.expected or not numbers:
        return
    for number, name in rules.expected.items():
        if number not in numbers:
            yield Finding(None, number, name, f"The policy lists {name} ({number}), which the file lacks.")
    for one in known:
        if one.number not in rules.expected:
            yield one.wrong(f"has the number {one.number}, which is none of the policy's areas")


# --- places and shapes


def _swapped(known: Sequence[_Known], extent: Extent) -> Finding | None:
    """Latitude before longitude: no feature fits as it is, and one does the other way round."""
    corners = [one.feature.shape.bounds for one in known if one.feature.shape is not None]
    fits = any(extent.holds(south, west) or extent.holds(north, east) for west, south, east, north in corners)
    turned = any(
        extent.holds(west, south) and extent.holds(east, north) for west, south, east, north in corners
    )
    if fits or not turned:
        return None
    return Finding(
        None, None, None,
        "The coordinates are latitude first; GeoJSON and shapefiles want longitude first: swap them and import again.",
    )  # fmt: skip


def _sound(one: _Known, rules: Rules, errors: list[Finding], mended: list[Mended]) -> BaseGeometry | None:
    """The feature's shape when it can be used, mended if that was asked for."""
    shape = one.feature.shape
    if shape is None:
        errors.append(one.wrong(one.feature.problem or "has no geometry"))
        return None
    outside = _outside(shape, rules.extent)
    if outside:
        errors.append(one.wrong(outside))
        return None
    if shapely.is_valid(shape):
        return shape
    was = validity_in_words(shape)
    if not rules.mend:
        errors.append(one.wrong(f"{was}: mend it in the file, or import with --mend"))
        return None
    whole = _polygons(shapely.make_valid(shape, method="structure"))
    if whole.is_empty:
        errors.append(one.wrong(f"{was}: nothing is left of it when it is mended"))
        return None
    before, after = on_plane([_enclosed(shape), whole], metres_around([whole]))
    parts = len(shapely.get_parts(whole))
    mended.append(Mended(one.number, one.name, was, parts, float(before.area), float(after.area)))
    return whole


def _enclosed(shape: BaseGeometry) -> BaseGeometry:
    """All that the outlines of a shape go round, however they cross, less its holes."""
    polygons = [part for part in shapely.get_parts(shape) if isinstance(part, Polygon)]
    holes = [ring for part in polygons for ring in part.interiors]
    return _within([part.exterior for part in polygons]).difference(_within(holes))


def _within(rings: Sequence[BaseGeometry]) -> BaseGeometry:
    return shapely.union_all(shapely.get_parts(shapely.polygonize([shapely.union_all(rings)])))


def _outside(shape: BaseGeometry, extent: Extent) -> str | None:
    """Where the first point beyond the city's rectangle lies; None: all are within."""
    for lon, lat in shapely.get_coordinates(shape):
        if not extent.holds(float(lat), float(lon)):
            return (
                f"has a point at {lat:.5f}, {lon:.5f}, outside the city ({extent.min_lat} to {extent.max_lat} north, "
                f"{extent.min_lon} to {extent.max_lon} east)"
            )
    return None


def validity_in_words(shape: BaseGeometry) -> str:
    """`self-intersection at 41.88012, -87.62345`."""
    reason = str(shapely.is_valid_reason(shape))
    found = _WHERE.match(reason)
    if found is None:
        return reason.lower()
    return f"{found[1].lower()} at {float(found[3]):.5f}, {float(found[2]):.5f}"


def _polygons(shape: BaseGeometry) -> BaseGeometry:
    """Only the polygons of what mending left: lines and points are none of the area."""
    parts = [part for part in shapely.get_parts(shape) if isinstance(part, Polygon)]
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


# --- beside each other


def between(numbers: Sequence[int], shapes: Sequence[BaseGeometry]) -> tuple[list[Between], list[Between]]:
    """The overlaps of areas and the gaps between them, in square metres, the largest first."""
    if len(shapes) < 2:
        return [], []
    to_metres = metres_around(shapes)
    plane = on_plane(shapes, to_metres)
    tell = _teller(to_metres)
    tree = shapely.STRtree(plane)
    first, second = tree.query(plane, predicate="intersects")
    pairs = sorted(
        {(min(a, b), max(a, b)) for a, b in zip(first.tolist(), second.tolist(), strict=True) if a != b}
    )
    overlaps = [
        tell(shapely.intersection(plane[a], plane[b]), tuple(sorted((numbers[a], numbers[b]))))
        for a, b in pairs
    ]
    union = shapely.union_all(plane)
    gaps = [tell(Polygon(ring), ()) for part in shapely.get_parts(union) for ring in part.interiors]
    return _large(overlaps), _large(gaps)


def _teller(to_metres: Any) -> Callable[[BaseGeometry, tuple[int, ...]], Between]:
    def tell(shape: BaseGeometry, numbers: tuple[int, ...]) -> Between:
        if shape.area < LEAST_M2:
            return Between(numbers, 0.0, 0.0, 0.0)
        inside = in_degrees(shapely.point_on_surface(shape), to_metres)
        lon, lat = shapely.get_coordinates(inside)[0]
        return Between(numbers, float(shape.area), float(lat), float(lon))

    return tell


def _large(found: Sequence[Between]) -> list[Between]:
    return sorted((one for one in found if one.area_m2 >= LEAST_M2), key=lambda one: -one.area_m2)
