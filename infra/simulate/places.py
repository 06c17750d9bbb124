"""Random places inside the real boundaries, weighted by area."""

from collections.abc import Mapping
from random import Random
from typing import NamedTuple

import shapely

from connectors.geography.areas import Areas, chicago_names
from infra.simulate.streets import Address, address_near, moved
from schemas.base import Point

TRIES = 10_000  # an area fills a good part of its rectangle: three tries are usual


class Place(NamedTuple):
    """A place with an address, in an area."""

    area: int
    address: Address


class Places:
    """The city as a source of places. Holds the areas prepared for fast look-ups; immutable, shareable."""

    def __init__(self, areas: Areas, names: Mapping[int, str] | None = None) -> None:
        self.areas = areas
        self.names = dict(chicago_names() if names is None else names)
        self._bounds = {number: shape.bounds for number, shape in areas.shapes.items()}
        for shape in areas.shapes.values():
            shapely.prepare(shape)

    def land(self) -> dict[int, float]:
        """Area number -> its share of the city's land."""
        sizes = {number: float(shape.area) for number, shape in self.areas.shapes.items()}
        whole = sum(sizes.values())
        return {number: size / whole for number, size in sizes.items()}

    def anywhere_in(self, area: int, chance: Random) -> Place:
        """A place in the area, on a street when one is near."""
        west, south, east, north = self._bounds[area]
        for _ in range(TRIES):
            lon, lat = round(chance.uniform(west, east), 6), round(chance.uniform(south, north), 6)
            if self._holds(area, lon, lat):
                return self._on_street(area, Point(lat=lat, lon=lon), chance)
        raise ValueError(f"area {area} has no room for a point")

    def near(self, place: Place, most_m: float, chance: Random) -> Place:
        """A place within `most_m` metres in both axes together, which may lie in the next area."""
        reach_m = most_m / 2**0.5
        shift = chance.uniform(-reach_m, reach_m), chance.uniform(-reach_m, reach_m)
        point = moved(place.address.point, *shift)
        area = self.areas.locate([point], [None])[0].area
        if area is None:
            return place
        return Place(area, Address(address_near(point, chance).text, point))

    def _on_street(self, area: int, point: Point, chance: Random) -> Place:
        address = address_near(point, chance)
        if self._holds(area, address.point.lon, address.point.lat):
            return Place(area, address)
        return Place(area, Address(address.text, point))

    def _holds(self, area: int, lon: float, lat: float) -> bool:
        return bool(shapely.contains_xy(self.areas.shapes[area], lon, lat))
