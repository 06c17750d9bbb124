"""Areas: which one a point lies in, what borders and gaps mean, and how well it agrees with the city."""

import csv
import json
from pathlib import Path

import pytest
import shapely
from shapely.geometry import Polygon, box

from connectors.geography.areas import Areas, chicago_names, feature_collection
from schemas.base import Point
from schemas.response import Location

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"REAL DATA NOT TESTED: {SHARED_DATA} is absent")
    return SHARED_DATA


@pytest.fixture(scope="module")
def chicago() -> Areas:
    return Areas.of_chicago()


@pytest.fixture
def two_squares() -> Areas:
    """Area 7 west of area 3; they share the border lon = 1."""
    return Areas({7: box(0, 0, 1, 1), 3: box(1, 0, 2, 1)})


def at(lon: float, lat: float) -> Point:
    return Point(lat=lat, lon=lon)


def test_a_point_inside_an_area_is_decided_by_its_polygon(two_squares: Areas) -> None:
    assert two_squares.locate([at(0.5, 0.5)], [None]) == [
        Location(area=7, computed_area=7, published_area=None, rule="point_inside_area", differs=False)
    ]


def test_the_computed_area_decides_against_the_published_one_and_both_are_kept(two_squares: Areas) -> None:
    assert two_squares.locate([at(0.5, 0.5)], [3]) == [
        Location(area=7, computed_area=7, published_area=3, rule="point_inside_area", differs=True)
    ]


@pytest.mark.parametrize(("published", "decided", "differs"), [(7, 7, False), (None, 3, False), (9, 3, True)])
def test_on_a_border_the_published_area_decides_else_the_lowest(
    two_squares: Areas, published: int | None, decided: int, differs: bool
) -> None:
    assert two_squares.locate([at(1.0, 0.5)], [published]) == [
        Location(
            area=decided,
            computed_area=decided,
            published_area=published,
            rule="point_on_border",
            differs=differs,
        )
    ]


@pytest.mark.parametrize(
    ("point", "published", "area", "rule"),
    [
        (at(5, 5), 3, 3, "point_outside_every_area"),
        (at(5, 5), None, None, "point_outside_every_area"),
        (at(5, 5), 99, None, "point_outside_every_area"),
        (None, 3, 3, "published_name_decides"),
        (None, 99, None, "no_location"),
        (None, None, None, "no_location"),
    ],
)
def test_without_an_area_from_the_point_the_published_one_decides_if_it_exists(
    two_squares: Areas, point: Point | None, published: int | None, area: int | None, rule: str
) -> None:
    [location] = two_squares.locate([point], [published])
    assert (location.area, location.computed_area, location.published_area) == (area, None, published)
    assert (location.rule, location.differs) == (rule, False)


def test_a_batch_keeps_its_order_around_rows_without_points(two_squares: Areas) -> None:
    found = two_squares.locate([None, at(1.5, 0.5), None, at(0.5, 0.5), at(9, 9)], [None] * 5)
    assert [location.computed_area for location in found] == [None, 3, None, 7, None]
    assert two_squares.locate([], []) == []


def test_a_batch_of_unequal_lengths_is_refused(two_squares: Areas) -> None:
    with pytest.raises(ValueError, match="shorter"):
        two_squares.locate([at(0.5, 0.5)], [])


def test_chicago_has_77_areas_that_neither_overlap_nor_leave_gaps(chicago: Areas) -> None:
    assert list(chicago.shapes) == list(range(1, 78))
    shapes = list(chicago.shapes.values())
    assert all(shape.is_valid for shape in shapes)
    first, _ = shapely.STRtree(shapes).query(shapes, predicate="overlaps")
    assert len(first) == 0
    holes = [hole for part in shapely.get_parts(shapely.unary_union(shapes)) for hole in part.interiors]
    # Norridge and Harwood Heights, an enclave that is not Chicago.
    assert [Polygon(hole).contains(shapely.Point(-87.8187, 41.9633)) for hole in holes] == [True]


def test_known_places_lie_where_they_lie(chicago: Areas) -> None:
    city_hall, garfield_park, norridge, lake = (
        at(-87.6319, 41.8837),
        at(-87.7166, 41.8862),
        at(-87.8187, 41.9633),
        at(-87.40, 41.90),
    )
    found = chicago.locate([city_hall, garfield_park, norridge, lake], [None] * 4)
    assert [location.area for location in found] == [32, 27, None, None]


def test_the_cache_gives_the_same_areas_and_survives_being_broken(chicago: Areas, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    assert Areas.of_chicago(folder).shapes == chicago.shapes
    [file] = folder.iterdir()
    whole = file.read_bytes()
    assert Areas.of_chicago(folder).shapes == chicago.shapes
    for broken in (b"", b"\xff\x00", whole[: len(whole) // 2], whole.replace(b"0", b"1", 1)):
        file.write_bytes(broken)
        assert Areas.of_chicago(folder).shapes == chicago.shapes
        assert file.read_bytes() == whole
    assert [entry.name for entry in folder.iterdir()] == [file.name]


def test_a_cache_that_cannot_be_written_is_done_without(chicago: Areas, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    assert Areas.of_chicago(in_the_way).shapes == chicago.shapes


def test_the_export_is_geojson_with_numbers_and_names(chicago: Areas) -> None:
    exported = json.loads(json.dumps(feature_collection(chicago, chicago_names())))
    assert exported["type"] == "FeatureCollection"
    assert len(exported["features"]) == 77
    austin = exported["features"][24]
    assert (austin["type"], austin["properties"]) == ("Feature", {"number": 25, "name": "AUSTIN"})
    for feature, shape in zip(exported["features"], chicago.shapes.values(), strict=True):
        geometry = shapely.geometry.shape(feature["geometry"])
        assert geometry == shape
        assert all(part.exterior.is_ccw for part in shapely.get_parts(geometry))


@pytest.mark.shared
def test_computed_areas_agree_with_the_published_ones_as_well_as_the_official_map(
    chicago: Areas, shared_data: Path
) -> None:
    """The official polygons agree with 3,067 of 3,184 published names (96.3%, DOMAIN.md)."""
    number = {name: area for area, name in chicago_names().items()}
    with (shared_data / "victims_2024-09_2025.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    points = [at(float(row["LONGITUDE"]), float(row["LATITUDE"])) for row in rows]
    found = chicago.locate(points, [number[row["COMMUNITY_AREA"]] for row in rows])
    assert len(found) == 2291
    assert sum(location.computed_area is None for location in found) == 4  # shifted over the city limits
    assert sum(location.differs for location in found) == 86
    assert all(location.area is not None for location in found)
