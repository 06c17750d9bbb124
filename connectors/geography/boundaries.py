"""Boundaries that change: which areas there were at a time, from the layers that were imported.

An incident is placed by the boundaries that were valid when it occurred. Without any layer the areas that the
software comes with decide, as fast as they do alone.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import shapely

from connectors.geography.areas import Areas, Shape
from schemas.area import TIERED, AreaKind, AreaLayer, Boundary, Reading
from schemas.base import Point
from schemas.response import Location, TieredArea

Key = tuple[AreaKind, str]


class Layer:
    """A layer with its version and, from its first use on, its index. Immutable."""

    def __init__(self, version: str, content: AreaLayer) -> None:
        self.version = version
        self.content = content

    @property
    def key(self) -> Key:
        """What it stands for: of the layers with one key, one is valid at a time."""
        return self.content.kind, self.content.name

    @cached_property
    def areas(self) -> Areas:
        """Its polygons by number."""
        return Areas({one.number: shape_of(one) for one in self.content.boundaries})

    @cached_property
    def boundaries(self) -> Mapping[int, Boundary]:
        """Its boundaries by number."""
        return {one.number: one for one in self.content.boundaries}

    @cached_property
    def tiered(self) -> Mapping[int, TieredArea]:
        """Its areas by number, as a location tells of them; none when they give no tier."""
        tier = self.content.tier
        return {
            one.number: TieredArea(
                number=one.number, name=one.name, tier=tier, because=one.because, boundaries=self.version
            )
            for one in (self.content.boundaries if tier else ())
            if tier
        }


class _Timeline(NamedTuple):
    """The layers of one key in the order in which they become valid."""

    starts: list[datetime]
    layers: list[Layer]

    def at(self, moment: datetime) -> Layer | None:
        place = bisect_right(self.starts, moment)
        return self.layers[place - 1] if place else None


class Boundaries:
    """`connectors.ports.Geography`: layers over the areas that the software comes with. Immutable, thread-safe.

    `layers`: in the order in which they came; of two with one key that become valid at once, the later one holds.
    """

    def __init__(
        self, base: Areas, layers: Sequence[Layer] = (), readings: Sequence[Reading] = (), revision: int = 0
    ) -> None:
        self.base = base
        self.layers = tuple(layers)
        self.revision = revision
        self._readings = tuple(readings)
        self._timelines = _timelines(layers)
        self._city = self._timelines.get(("community_area", "community_area"))
        self._tiered = [line for (kind, _), line in self._timelines.items() if kind in TIERED]

    def prepare(self) -> None:
        """Make every index now, and not in the first batch that needs it."""
        for layer in self.layers:
            layer.areas.numbers_at([])
            len(layer.tiered)

    def reading(self, reading: Reading) -> "Boundaries":
        """These boundaries with one more reading, which holds before the others."""
        return Boundaries(self.base, self.layers, (*self._readings, reading), self.revision)

    def layers_at(self, moment: datetime) -> list[Layer]:
        """The layers by which a place is told at a moment, one for each key; those that came first are first."""
        found = (line.at(self.read_as_of(moment)) for line in self._timelines.values())
        return [layer for layer in found if layer and layer.content.boundaries]

    def areas_at(self, moment: datetime) -> Areas:
        """The community areas at a moment."""
        layer = self._city_at(moment)
        return layer.areas if layer else self.base

    def read_as_of(self, moment: datetime) -> datetime:
        """The moment whose boundaries hold for what happened at this one: itself, unless a reading says otherwise."""
        for reading in reversed(self._readings):
            if reading.since <= moment < reading.until:
                return reading.as_of
        return moment

    def locate(
        self, points: Sequence[Point | None], published: Sequence[int | None], at: Sequence[datetime]
    ) -> list[Location]:
        """Where each point lay at its time. Raises ValueError when the lengths differ."""
        if not self._timelines:
            return self.base.locate(points, published)
        if not len(points) == len(published) == len(at):
            raise ValueError(f"{len(points)} points, {len(published)} published areas, {len(at)} times")
        moments = [self.read_as_of(moment) for moment in at]
        within = self._within(points, moments)
        found: list[Location | None] = [None] * len(points)
        for layer, rows in _grouped(moments, self._city).items():
            areas = layer.areas if layer else self.base
            located = areas.locate([points[row] for row in rows], [published[row] for row in rows])
            for row, location in zip(rows, located, strict=True):
                found[row] = _told(location, layer.version if layer else None, tuple(within.get(row, ())))
        return [location for location in found if location]

    def _within(
        self, points: Sequence[Point | None], moments: Sequence[datetime]
    ) -> dict[int, list[TieredArea]]:
        """Row -> the areas with a tier of their own that hold its point, by layer and number."""
        found: dict[int, list[TieredArea]] = defaultdict(list)
        for line in self._tiered:
            for layer, rows in _grouped(moments, line).items():
                if layer is None or not layer.tiered:
                    continue
                for place, numbers in layer.areas.numbers_at([points[row] for row in rows]).items():
                    found[rows[place]] += [layer.tiered[number] for number in numbers]
        return found

    def _city_at(self, moment: datetime) -> Layer | None:
        return self._city.at(self.read_as_of(moment)) if self._city else None


def shape_of(boundary: Boundary) -> Shape:
    """Its polygons."""
    geometry: Any = shapely.from_wkb(boundary.shape)
    shape: Shape = geometry
    return shape


def _timelines(layers: Iterable[Layer]) -> dict[Key, _Timeline]:
    """By key; a layer that another one replaces at the very moment at which it becomes valid is left out."""
    by_key: dict[Key, dict[datetime, Layer]] = {}
    for layer in layers:
        by_key.setdefault(layer.key, {})[layer.content.valid_from] = layer
    return {
        key: _Timeline(sorted(them), [them[start] for start in sorted(them)]) for key, them in by_key.items()
    }


def _grouped(moments: Sequence[datetime], line: _Timeline | None) -> dict[Layer | None, list[int]]:
    """The layer of a line that holds at each moment -> the rows of these moments."""
    groups: dict[Layer | None, list[int]] = defaultdict(list)
    for row, moment in enumerate(moments):
        groups[line.at(moment) if line else None].append(row)
    return groups


@lru_cache(maxsize=4096)  # as in areas.py: few distinct answers
def _told(location: Location, version: str | None, within: tuple[TieredArea, ...]) -> Location:
    """The location with the boundaries that it was found by."""
    return location.model_copy(update={"boundaries": version, "within": within})
