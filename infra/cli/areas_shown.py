"""What `rapid areas` prints: tables, sentences, a small map; the same as JSON."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import shapely

from connectors.geography.areas import Shape
from connectors.geography.boundaries import Boundaries, Layer, shape_of
from connectors.geography.judging import Between, Finding, Judged, Mended
from connectors.geography.layer_files import LayerFile, metres_around, on_plane
from infra.areas.activating import PutInForce, day_of
from infra.areas.retriage import Different
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import print_table
from infra.cli.screen import console, fields, safe, safe_row
from schemas.area import AreaKind, AreaLayer
from schemas.base import Point
from schemas.policy import Policy
from schemas.response import TriageDecision

MOST_SHOWN: Final = 20
SMALLEST_IN_KM2: Final = 100_000.0
WITH_THE_SOFTWARE: Final = "of the software"
MAP_COLUMNS: Final = 46
MAP_ROWS: Final = 20
_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of a braille character: two dots wide, four high."""


class ShownArea(NamedTuple):
    """An area with the boundaries that it is of."""

    kind: AreaKind
    number: int
    name: str
    tier: str | None
    because: str | None
    shape: Shape
    layer: Layer | None

    def as_json(self) -> dict[str, Any]:
        """JSON-ready."""
        inside = shapely.point_on_surface(self.shape)
        return {
            "kind": self.kind, "number": self.number, "name": self.name, "tier": self.tier, "because": self.because,
            "km2": round(_km2(self.shape), 3), "lat": round(inside.y, 5), "lon": round(inside.x, 5),
            "boundaries": self.layer.version if self.layer else None,
            "layer": self.layer.content.name if self.layer else WITH_THE_SOFTWARE,
        }  # fmt: skip


class Retriaged(NamedTuple):
    """What was looked at, what differs, and how many still wait; None: nothing was sent."""

    looked_at: int
    found: Sequence[Different]
    policy: Policy
    waiting: int | None


# ---------------------------------------------------------------- import


def print_import(
    file: Path, read: LayerFile, judged: Judged, layer: AreaLayer, done: PutInForce | None, *, dry_run: bool
) -> None:
    """What was found, and what became of it."""
    print(f"{file.name}: {len(read.features)} features, {read.projection}.")
    if judged.errors:
        print_table("Wrong", [_error_row(one) for one in judged.errors[:MOST_SHOWN]], "")
        more = len(judged.errors) - MOST_SHOWN
        print(f"{f'And {more} more: --json tells all. ' if more > 0 else ''}Nothing was imported.")
        return
    for one in judged.mended:
        print(_what_was_mended(one))
    _print_between("overlap", judged.overlaps)
    _print_between("gap", judged.gaps)
    print(_what_became_of_it(layer, done, dry_run))


def _what_was_mended(one: Mended) -> str:
    now = "1 polygon" if one.parts == 1 else f"{one.parts} polygons that touch or lie apart, together"
    change = one.after_m2 - one.before_m2
    compared = (
        f"{_size(abs(change))} {'more' if change > 0 else 'less'} than" if abs(change) >= 1 else "as much as"
    )
    return (
        f"Mended {one.name} ({one.number}), {one.was}: it is {now} {_size(one.after_m2)} now, {compared} its outline "
        f"enclosed before ({_size(one.before_m2)})."
    )


def _size(area_m2: float) -> str:
    return f"{area_m2 / 1e6:,.2f} km²" if area_m2 >= SMALLEST_IN_KM2 else f"{area_m2:,.0f} m²"


def _what_became_of_it(layer: AreaLayer, done: PutInForce | None, dry_run: bool) -> str:
    what = f"{len(layer.boundaries)} areas of the kind {layer.kind}, valid from {layer.valid_from:%Y-%m-%d %H:%M}Z"
    if dry_run or done is None:
        return f"{what}: would be imported. Nothing was changed."
    if not done.new:
        return f"{what}: these are in force already (layer {done.layer_version})."
    return f"{what}: in force as layer {done.layer_version} of the boundaries {done.set_version}."


def _error_row(one: Finding) -> dict[str, Any]:
    return {
        "feature": one.place,
        "number": one.number,
        "name": safe(one.name),
        "what is wrong": safe(one.what),
    }


def _print_between(what: str, found: Sequence[Between]) -> None:
    if not found:
        print(f"No {what}s.")
        return
    rows = [
        {
            "areas": " and ".join(map(str, one.numbers)),
            "m²": f"{one.area_m2:,.0f}",
            "at": f"{one.lat:.5f}, {one.lon:.5f}",
        }
        for one in found[:MOST_SHOWN]
    ]
    if what == "gap":
        rows = [{name: value for name, value in row.items() if name != "areas"} for row in rows]
    print_table(f"{what.capitalize()}s", rows, "")
    total = sum(one.area_m2 for one in found)
    print(f"{len(found)} {what}{'s' if len(found) > 1 else ''}, {total:,.0f} m² together.")


def import_as_json(
    read: LayerFile, judged: Judged, layer: AreaLayer, version: str, done: PutInForce | None
) -> dict[str, Any]:
    """JSON-ready."""
    return {
        "features": len(read.features), "projection": read.projection, "kind": layer.kind, "name": layer.name,
        "valid_from": layer.valid_from.isoformat(), "tier": layer.tier,
        "errors": [one._asdict() for one in judged.errors], "mended": [one._asdict() for one in judged.mended],
        "overlaps": [one._asdict() for one in judged.overlaps], "gaps": [one._asdict() for one in judged.gaps],
        "layer": None if judged.errors else version, "in_force": done._asdict() if done else None,
    }  # fmt: skip


# ---------------------------------------------------------------- areas


def shown_areas(held: Boundaries, policy: Policy, moment: datetime, kind: AreaKind) -> list[ShownArea]:
    """All areas of a kind at a moment."""
    if kind == "community_area":
        return _community_areas(held, policy, moment)
    return [
        ShownArea(kind, one.number, one.name, layer.content.tier, one.because, shape_of(one), layer)
        for layer in held.layers_at(moment)
        if layer.content.kind == kind
        for one in layer.content.boundaries
    ]


def _community_areas(held: Boundaries, policy: Policy, moment: datetime) -> list[ShownArea]:
    layer = next((one for one in held.layers_at(moment) if one.content.kind == "community_area"), None)
    shapes = held.areas_at(moment).shapes
    known = {area.number: area.name for area in policy.areas}
    return [
        ShownArea(
            "community_area",
            number,
            known.get(number, str(number)),
            policy.tier_of(number),
            None,
            shape,
            layer,
        )
        for number, shape in shapes.items()
    ]


def community_areas(held: Boundaries, policy: Policy, moment: datetime) -> list[dict[str, Any]]:
    """Rows of a table."""
    return [_area_row(one) for one in _community_areas(held, policy, moment)]


def areas_of(layer: Layer) -> list[dict[str, Any]]:
    """Rows of a table."""
    content = layer.content
    return [
        _area_row(
            ShownArea(content.kind, one.number, one.name, content.tier, one.because, shape_of(one), layer)
        )
        for one in content.boundaries
    ]


def _area_row(one: ShownArea) -> dict[str, Any]:
    return {
        "number": one.number, "name": one.name, "tier": one.tier, "km2": round(_km2(one.shape), 3),
        "because": one.because, "boundaries": one.layer.version if one.layer else WITH_THE_SOFTWARE,
    }  # fmt: skip


def areas_at(held: Boundaries, policy: Policy, moment: datetime, point: Point) -> list[dict[str, Any]]:
    """Rows of a table: every area that holds the point or has it on its border."""
    spot = shapely.Point(point.lon, point.lat)
    kinds: list[AreaKind] = ["community_area"]
    kinds += sorted({layer.content.kind for layer in held.layers_at(moment)} - {"community_area"})
    return [
        {"kind": kind} | _area_row(one)
        for kind in kinds
        for one in shown_areas(held, policy, moment, kind)
        if one.shape.intersects(spot)
    ]


def print_area(one: ShownArea, policy: Policy) -> None:
    """What is known of an area, and a map of it."""
    value = one.as_json()
    content = one.layer.content if one.layer else None
    out = console()
    out.print(f"[bold]{safe(one.name)}[/] ({one.kind.replace('_', ' ')} {one.number})")
    out.print(
        fields(
            {
                "tier": one.tier,
                "because": one.because,
                "size": f"{value['km2']} km²",
                "in the middle": f"{value['lat']}, {value['lon']}",
                "boundaries": f"layer {one.layer.version} from {content.source}"
                if one.layer and content
                else WITH_THE_SOFTWARE,
                "valid from": day_of(content.valid_from, policy) if content else None,
            }
        )
    )
    out.print(drawn(one.shape), markup=False)


def drawn(shape: Shape, columns: int = MAP_COLUMNS, rows: int = MAP_ROWS) -> str:
    """The shape in braille dots, north up, as high as wide in metres."""
    [plane] = on_plane([shape], metres_around([shape]))
    west, south, east, north = plane.bounds
    step = max((east - west) / (2 * columns - 1), (north - south) / (4 * rows - 1)) or 1.0
    wide, high = int((east - west) / step) + 1, int((north - south) / step) + 1
    shapely.prepare(plane)
    lit = [
        [bool(shapely.contains_xy(plane, west + x * step, north - y * step)) for x in range(wide)]
        for y in range(high)
    ]
    return "\n".join(_line(lit[top : top + 4], wide) for top in range(0, high, 4))


def _line(lit: Sequence[Sequence[bool]], wide: int) -> str:
    """Four rows of dots as one line of characters."""
    characters = []
    for left in range(0, wide, 2):
        bits = sum(
            _DOTS[y][x] for y, row in enumerate(lit) for x in (0, 1) if left + x < len(row) and row[left + x]
        )
        characters.append(chr(0x2800 + bits))
    return "".join(characters).rstrip("\u2800")


def write_geojson(file: Path, found: Sequence[ShownArea]) -> None:
    """The areas as a GeoJSON FeatureCollection. Raises Oops."""
    features = [
        {"type": "Feature", "id": one.number, "properties": one.as_json(),
         "geometry": json.loads(shapely.to_geojson(one.shape))}
        for one in found
    ]  # fmt: skip
    write_json(file, {"type": "FeatureCollection", "features": features})


def write_json(file: Path, value: Any) -> None:
    """Raises Oops where the file cannot be written."""
    try:
        file.write_text(json.dumps(value), encoding="utf-8")
    except OSError as error:
        raise Oops(f"{file} cannot be written: {error.strerror or error}.", ExitCode.INVALID) from error


def _km2(shape: Shape) -> float:
    [plane] = on_plane([shape], metres_around([shape]))
    return float(plane.area) / 1e6


# ---------------------------------------------------------------- decided again


def print_retriage(again: Retriaged, *, dry_run: bool) -> None:
    """What differs, and what became of it."""
    deciding = [one for one in again.found if one.decides]
    rows = [_retriage_row(one, again.policy) for one in (deciding or again.found)[:MOST_SHOWN]]
    title = "Decided differently" if deciding else "Placed by other boundaries"
    print_table(title, [safe_row(row) for row in rows], "Nothing would be placed or decided differently.")
    hidden = len(deciding or again.found) - MOST_SHOWN
    if hidden > 0:
        print(f"And {hidden} more: --json tells all.")
    print(
        f"{again.looked_at} incidents looked at: {len(again.found)} placed by other boundaries, {len(deciding)} of "
        "them decided differently."
    )
    if again.waiting is not None:
        print(_what_was_done(again))
    elif dry_run:
        print("Nothing was changed.")


def _what_was_done(again: Retriaged) -> str:
    done = len(again.found) - (again.waiting or 0)
    waits = f" {again.waiting} still wait for a worker: see `rapid status`." if again.waiting else ""
    return f"{done} were decided again.{waits}"


def _retriage_row(one: Different, policy: Policy) -> dict[str, Any]:
    return {
        "incident": one.number,
        "occurred": f"{one.occurred_at:%Y-%m-%d %H:%M}Z",
        "area": _change(_area(one.before, policy), _area(one.after, policy)),
        "tier": _change(one.before.tier, one.after.tier),
        "rule": _change(one.before.rule, one.after.rule),
        "severity": _change(str(one.before.severity), str(one.after.severity)),
        "priority": _change(_priority(one.before), _priority(one.after)),
        "boundaries": _change(_boundaries(one.before), _boundaries(one.after)),
        "within": _change(_within(one.before), _within(one.after)),
    }


def retriage_as_json(again: Retriaged) -> dict[str, Any]:
    """JSON-ready."""
    return {
        "looked_at": again.looked_at,
        "waiting": again.waiting,
        "differing": [
            {
                "incident": one.number, "incident_id": str(one.incident_id),
                "occurred_at": one.occurred_at.isoformat(), "decided_differently": one.decides,
                "before": _decision(one.before), "after": _decision(one.after),
            }
            for one in again.found
        ],
    }  # fmt: skip


def _decision(one: TriageDecision) -> dict[str, Any]:
    return {
        "rule": one.rule, "area": one.location.area, "tier": one.tier, "severity": one.severity,
        "priority": _priority(one) or None, "boundaries": one.location.boundaries,
        "within": [area.name for area in one.location.within],
    }  # fmt: skip


def _area(one: TriageDecision, policy: Policy) -> str:
    area = policy.area(one.location.area) if one.location.area else None
    return f"{area.name} ({area.number})" if area else str(one.location.area or "none")


def _priority(one: TriageDecision) -> str:
    return one.response.priority if one.response else ""


def _boundaries(one: TriageDecision) -> str:
    return one.location.boundaries or WITH_THE_SOFTWARE


def _within(one: TriageDecision) -> str:
    return ", ".join(area.name for area in one.location.within)


def _change(before: str, after: str) -> str:
    """What stays as it is, and else both."""
    return before if before == after else f"{before or 'none'} → {after or 'none'}"
