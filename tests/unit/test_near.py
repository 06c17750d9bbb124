"""Nearness: the cells around a point miss nothing within the radius, and distances are exact."""

import json
import math

import h3.api.basic_int as h3
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from agents.near import EARTH_RADIUS_M, cell_of, disk_around, distance_m
from schemas.base import Point

CITY_HALL = Point(lat=41.8837, lon=-87.6319)

anywhere = st.builds(Point, lat=st.floats(-90, 90), lon=st.floats(-180, 180))
in_chicago = st.builds(Point, lat=st.floats(41.64, 42.03), lon=st.floats(-87.95, -87.52))
# Rings grow with radius / edge: these pairs stay within some 15 rings.
reaches = st.sampled_from([(11, 400.0), (10, 1000.0), (9, 3000.0), (8, 5000.0), (5, 5000.0)])


def moved(start: Point, bearing: float, metres: float) -> Point:
    """The point at this distance and bearing (radians) on the sphere."""
    angle, lat, lon = metres / EARTH_RADIUS_M, math.radians(start.lat), math.radians(start.lon)
    sine = math.sin(lat) * math.cos(angle) + math.cos(lat) * math.sin(angle) * math.cos(bearing)
    end_lat = math.asin(max(-1.0, min(1.0, sine)))
    east = math.sin(bearing) * math.sin(angle) * math.cos(lat)
    end_lon = lon + math.atan2(east, math.cos(angle) - math.sin(lat) * math.sin(end_lat))
    return Point(lat=math.degrees(end_lat), lon=math.degrees(math.remainder(end_lon, 2 * math.pi)))


@settings(max_examples=500, deadline=None)
@given(anywhere | in_chicago, reaches, st.floats(0, 1), st.floats(0, 1), st.floats(0, 2 * math.pi))
@example(Point(lat=90, lon=0), (9, 3000.0), 1, 1, 1.0)
@example(Point(lat=0, lon=180), (9, 3000.0), 1, 1, math.pi / 2)
@example(Point(lat=41.88, lon=-87.63), (9, 3000.0), 0, 0, 0)
def test_the_disk_holds_every_point_within_the_radius(
    centre: Point, reach: tuple[int, float], size: float, part: float, bearing: float
) -> None:
    resolution, most_m = reach
    radius_m = size * most_m
    target = moved(centre, bearing, part * radius_m)
    assume(distance_m(centre, target) <= radius_m)
    assert cell_of(target, resolution) in disk_around(centre, radius_m, resolution)


@pytest.mark.parametrize("pentagon", sorted(h3.get_pentagons(9)))
def test_the_disk_holds_around_the_twelve_pentagons_too(pentagon: int) -> None:
    lat, lon = h3.cell_to_latlng(pentagon)
    for start in range(6):
        centre = moved(Point(lat=lat, lon=lon), start, 300)
        disk = disk_around(centre, 1500, 9)
        around = [moved(centre, step * math.pi / 60, 1499.9) for step in range(120)]
        assert {cell_of(point, 9) for point in around} <= set(disk)


@settings(deadline=None)
@given(in_chicago, st.floats(0, 2000))
def test_the_disk_is_not_much_larger_than_it_must_be(centre: Point, radius_m: float) -> None:
    cells = disk_around(centre, radius_m, 9)
    assert cells == sorted(set(cells))
    for cell in cells:
        lat, lon = h3.cell_to_latlng(cell)
        assert distance_m(centre, Point(lat=lat, lon=lon)) <= radius_m * 1.01 + 250  # an edge is some 200 m


@given(anywhere, st.integers(0, 15))
def test_cells_fit_a_signed_bigint_and_survive_json(point: Point, resolution: int) -> None:
    cell = cell_of(point, resolution)
    assert type(cell) is int
    assert 0 < cell < 2**63
    assert json.loads(json.dumps(cell)) == cell


def test_a_disk_without_radius_is_the_point_s_own_cell_and_neighbours_it_may_touch() -> None:
    lat, lon = h3.cell_to_latlng(cell_of(CITY_HALL, 9))
    assert disk_around(Point(lat=lat, lon=lon), 0, 9) == [cell_of(CITY_HALL, 9)]


@pytest.mark.parametrize("radius_m", [-1.0, math.nan])
def test_a_radius_below_zero_is_refused(radius_m: float) -> None:
    with pytest.raises(ValueError, match="radius_m"):
        disk_around(CITY_HALL, radius_m, 9)


@given(anywhere, anywhere)
def test_distance_is_symmetric_to_the_last_bit_and_bounded(a: Point, b: Point) -> None:
    assert distance_m(a, b) == distance_m(b, a)
    assert distance_m(a, a) == 0
    assert 0 <= distance_m(a, b) <= math.pi * EARTH_RADIUS_M * 1.000001


@given(anywhere, anywhere)
def test_distance_agrees_with_h3_on_a_sphere_of_its_own_radius(a: Point, b: Point) -> None:
    h3_radius_m = 6_371_007.180918475
    expected = h3.great_circle_distance((a.lat, a.lon), (b.lat, b.lon), unit="m")
    assert distance_m(a, b) * h3_radius_m / EARTH_RADIUS_M == pytest.approx(expected, rel=1e-6, abs=1e-3)


def test_distance_is_within_three_thousandths_of_the_ellipsoid_in_chicago() -> None:
    """Against the radii of curvature of WGS 84 in the meridian (M) and in the prime vertical (N)."""
    a, e2 = 6_378_137.0, 0.00669437999014
    lat, step = math.radians(CITY_HALL.lat), math.radians(0.01)
    w = 1 - e2 * math.sin(lat) ** 2
    north_m, east_m = a * (1 - e2) / w**1.5 * step, a / math.sqrt(w) * math.cos(lat) * step
    north = Point(lat=CITY_HALL.lat + 0.01, lon=CITY_HALL.lon)
    east = Point(lat=CITY_HALL.lat, lon=CITY_HALL.lon + 0.01)
    assert distance_m(CITY_HALL, north) == pytest.approx(north_m, rel=0.003)
    assert distance_m(CITY_HALL, east) == pytest.approx(east_m, rel=0.003)
