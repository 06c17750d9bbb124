"""What is near: H3 cells to look things up by, and exact distances to decide by. Pure.

A look-up asks for the rows whose cell is in `disk_around(...)`, an index scan over integers, and then
keeps those whose `distance_m` is within the radius. The disk may hold too much, never too little.
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import h3.api.basic_int as h3

from schemas.base import Point

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius R1 = (2a + b) / 3 of WGS 84 (Moritz 2000, Geodetic Reference System 1980)."""

MARGIN = 1.001
"""Widens a cell's reach by a thousandth: rounding puts points a hair over the border of their cell."""


class _Reach(NamedTuple):
    """A cell's centre on the unit sphere; no point of the cell is farther from it than `metres`."""

    x: float
    y: float
    z: float
    metres: float


def cell_of(point: Point, resolution: int) -> int:
    """The H3 cell of a point at a resolution 0-15. Below 2**63, as its highest bit is always 0: a bigint."""
    return int(h3.latlng_to_cell(point.lat, point.lon, resolution))


def distance_m(a: Point, b: Point) -> float:
    """Great-circle metres between two points: the haversine formula (R. W. Sinnott, Sky & Telescope 68,
    1984), stable for small distances, symmetric to the last bit.

    On the ellipsoid the truth differs by at most 0.6% anywhere; at Chicago's latitude by -0.1% along
    meridians and +0.3% along parallels, that is less than 1 m at 250 m.
    """
    lat_a, lat_b = math.radians(a.lat), math.radians(b.lat)
    half_lat, half_lon = abs(lat_a - lat_b) / 2, math.radians(abs(a.lon - b.lon)) / 2
    # One product of both cosines first: it commutes exactly, so a to b is b to a.
    h = math.sin(half_lat) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(h)))


def disk_around(point: Point, radius_m: float, resolution: int) -> list[int]:
    """The cells, in ascending order, that together hold every point within `radius_m` of the point.

    Costs grow with (radius / cell size) squared: choose a resolution whose cells are not much smaller than
    the radius. Raises ValueError for a negative radius.
    """
    if not radius_m >= 0:
        raise ValueError(f"radius_m must be 0 or more, got {radius_m}")
    x, y, z = _on_the_sphere(point.lat, point.lon)
    return [
        cell
        for cell, cx, cy, cz, reach in _around(cell_of(point, resolution), radius_m, resolution)
        if (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2 <= reach
    ]


class _Near(NamedTuple):
    """A cell with its centre on the unit sphere, and the square of the longest chord from there to a point whose
    radius reaches into it. A chord is shorter than its arc, so what it lets in errs towards too much."""

    cell: int
    x: float
    y: float
    z: float
    reach: float


@lru_cache(maxsize=32_768)
def _around(origin: int, radius_m: float, resolution: int) -> tuple[_Near, ...]:
    """The cells, ascending, that hold every point within the radius of any point of the origin cell.

    Goes out ring by ring and keeps the cells that come near enough. Any path to a place within the radius
    stays within it and crosses every ring before its own, so the first ring without a near cell ends the
    search.
    """
    x, y, z, here_m = _reach(origin)
    widening = MARGIN * here_m / EARTH_RADIUS_M
    found = [_Near(origin, x, y, z, _chord(radius_m, here_m) ** 2)]
    for distance in range(1, _rings_of_the_earth(resolution)):
        near = []
        for cell in _ring(origin, distance):
            cx, cy, cz, there_m = _reach(cell)
            chord = _chord(radius_m, there_m)
            if math.dist((x, y, z), (cx, cy, cz)) <= chord + widening:
                near.append(_Near(cell, cx, cy, cz, chord**2))
        if not near:
            break
        found += near
    return tuple(sorted(found))


def _chord(radius_m: float, reach_m: float) -> float:
    """How far a cell's centre may be from a point whose radius reaches into the cell, on the unit sphere."""
    return (radius_m * MARGIN + reach_m) / EARTH_RADIUS_M


def _on_the_sphere(lat: float, lon: float) -> tuple[float, float, float]:
    """Degrees as a unit vector."""
    lat, lon = math.radians(lat), math.radians(lon)
    level = math.cos(lat)
    return level * math.cos(lon), level * math.sin(lon), math.sin(lat)


@lru_cache(maxsize=65_536)
def _reach(cell: int) -> _Reach:
    """A cell's centre and how far its farthest corner is from it. Cells differ in size across the earth.

    Corners are looked at as vectors, not as points: a worker meets thousands of cells in its first minute, and
    to validate seven points for each took a tenth of its time.
    """
    centre = _on_the_sphere(*h3.cell_to_latlng(cell))
    chord = max(math.dist(centre, _on_the_sphere(*corner)) for corner in h3.cell_to_boundary(cell))
    return _Reach(*centre, MARGIN * EARTH_RADIUS_M * 2 * math.asin(min(1.0, chord / 2)))


@lru_cache(maxsize=4096)
def _ring(origin: int, distance: int) -> tuple[int, ...]:
    """The cells whose grid distance from the origin is `distance`."""
    return tuple(h3.grid_ring(origin, distance))


def _rings_of_the_earth(resolution: int) -> int:
    """More rings than lie between any two cells: a bound, never reached by radii that make sense."""
    return 2 + int(math.pi * EARTH_RADIUS_M / float(h3.average_hexagon_edge_length(resolution, unit="m")))


def cells_of(points: Iterable[Point | None], resolution: int) -> list[int]:
    """The cells of those points that are known, each once, in ascending order."""
    return sorted({cell_of(point, resolution) for point in points if point is not None})
