"""Files with boundaries: what is read, and what is said of each one that cannot be used."""

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import Polygon, box

from connectors.geography import layer_files
from connectors.geography.areas import Areas, chicago_names
from connectors.geography.judging import Finding, Judged, Rules, judge
from connectors.geography.layer_files import LayerFileProblem, read_layer
from schemas.area import AreaKind
from schemas.policy import Policy
from tests.areas.made_files import BOWTIE, ILLINOIS_EAST_FEET, city_export, geojson, shapefile_zip, square

A, B = square(-87.70, 41.80), square(-87.69, 41.80)
"""Two squares, side by side."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "layer.geojson"


def judged(file: Path, policy: Policy, kind: AreaKind = "custom", **rules: Any) -> Judged:
    return judge(read_layer(file), Rules(kind, policy.city.extent, **rules))


def problem_of(file: Path, epsg: int | None = None) -> str:
    with pytest.raises(LayerFileProblem) as caught:
        read_layer(file, epsg)
    return str(caught.value)


def numbered(*shapes: Any) -> str:
    return geojson(
        [({"number": place, "name": f"Area {place}"}, shape) for place, shape in enumerate(shapes, 1)]
    )


# --- what is read


def test_the_citys_export_of_community_areas_is_known_by_itself(
    file: Path, areas: Areas, policy: Policy
) -> None:
    file.write_text(city_export(areas))
    expected = {area.number: area.name for area in policy.areas}
    found = judged(file, policy, "community_area", expected=expected)
    assert found.errors == ()
    assert {one.number: one.name for one in found.boundaries} == chicago_names()
    assert all(shapely.from_wkb(one.shape).equals(areas.shapes[one.number]) for one in found.boundaries)
    assert (found.overlaps, len(found.gaps)) == ([], 1)  # Norridge and Harwood Heights
    assert found.gaps[0].area_m2 == pytest.approx(6_845_000, rel=0.01)


@pytest.mark.parametrize(
    ("kind", "properties", "number", "name"),
    [
        ("ward", {"ward": "7", "shape_leng": "1"}, 7, "ward 7"),
        ("beat", {"beat": "2", "beat_num": "0322", "sector": "2", "district": "03"}, 322, "beat 322"),
        ("district", {"dist_label": "3RD", "dist_num": "3"}, 3, "3RD"),
        ("custom", {"NAME": "  Madison \t corridor "}, 1, "Madison corridor"),
        ("block", {"rank": 4.0, "block": "2100 N MADE UP ST"}, 4, "2100 N MADE UP ST"),
    ],
)
def test_the_fields_of_the_citys_other_layers_are_known_too(
    file: Path, policy: Policy, kind: AreaKind, properties: dict[str, Any], number: int, name: str
) -> None:
    file.write_text(geojson([(properties, A)]))
    [found] = judged(file, policy, kind).boundaries
    assert (found.number, found.name) == (number, name)


def test_fields_of_other_names_can_be_said(file: Path, policy: Policy) -> None:
    file.write_text(geojson([({"GEOID": "12", "label_en": "Yards"}, A)]))
    [found] = judged(file, policy, "beat", number_field="geoid", name_field="LABEL_EN").boundaries
    assert (found.number, found.name) == (12, "Yards")


def test_a_zipped_shapefile_in_feet_is_brought_to_degrees(tmp_path: Path, policy: Policy) -> None:
    path = shapefile_zip(tmp_path / "wards.zip", [({"ward": "1"}, A), ({"ward": "2"}, B)])
    read = read_layer(path)
    assert read.projection == "EPSG:3435, as its .prj says"
    found = judge(read, Rules("ward", policy.city.extent))
    assert [one.number for one in found.boundaries] == [1, 2]
    west = shapely.from_wkb(found.boundaries[0].shape)
    assert west.hausdorff_distance(A) < 1e-7  # a centimetre


def test_geojson_in_feet_says_so_in_its_crs_or_is_told(file: Path, policy: Policy) -> None:
    feet = Transformer.from_crs(4326, ILLINOIS_EAST_FEET, always_xy=True)
    plane = Polygon([feet.transform(x, y) for x, y in A.exterior.coords])
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3435"}}
    file.write_text(geojson([({"name": "A"}, plane)], crs=crs))
    [found] = judged(file, policy).boundaries
    assert shapely.from_wkb(found.shape).hausdorff_distance(A) < 1e-7
    file.write_text(geojson([({"name": "A"}, plane)]))
    assert "names no projection and its coordinates are no degrees" in problem_of(file)
    assert "say --epsg" in problem_of(file)
    assert read_layer(file, 3435).projection == "EPSG:3435, as was said"


def test_heights_and_a_byte_order_mark_do_no_harm(file: Path, policy: Policy) -> None:
    high = json.loads(shapely.to_geojson(shapely.force_3d(A, 180.0)))
    file.write_text("\ufeff" + geojson([({}, high)]), encoding="utf-8")
    [found] = judged(file, policy).boundaries
    assert not shapely.from_wkb(found.shape).has_z


# --- what is wrong with a file


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b'{"type": "FeatureCollection", "features": [', "is no valid JSON at line 1"),
        (b'{"type": "FeatureCollection", "features": []}', "holds no features"),
        (b'{"error": true}', "no GeoJSON FeatureCollection"),
        (b'{"type": "FeatureCollection", "features": [NaN]}', "is no valid JSON"),
        (b'{"type":"FeatureCollection","crs":{"properties":{"name":"mine"}},"features":[1]}', "names no EPSG code"),
        (b"a,b\n1,2\n", "is neither GeoJSON nor a zip"),
        (b"[" * 100, "is neither GeoJSON nor a zip"),
        (b'{"type": "FeatureCollection", "features": ' + b"[" * 200_000, "is no valid JSON"),
        (b"PK\x03\x04 and then nothing", "is a zip that cannot be unpacked"),
        (b"\xff\xfe{", "is neither GeoJSON nor a zip"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_told_in_a_sentence(file: Path, content: bytes, sentence: str) -> None:
    file.write_bytes(content)
    told = problem_of(file)
    assert sentence in told
    assert told.startswith("layer.geojson")


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in problem_of(tmp_path / "none.geojson")
    assert "cannot be read: Is a directory" in problem_of(tmp_path)


def test_a_projection_that_contradicts_the_file_or_is_none_is_refused(tmp_path: Path, file: Path) -> None:
    path = shapefile_zip(tmp_path / "wards.zip", [({"ward": "1"}, A)])
    assert "leave out --epsg 26916" in problem_of(path, 26916)
    file.write_text(numbered(A))
    assert "EPSG:999999 is no projection" in problem_of(file, 999999)


def test_a_zip_with_anything_but_one_shapefile_is_refused(tmp_path: Path) -> None:
    squares = [({"ward": "1"}, A)]
    assert "without .dbf" in problem_of(shapefile_zip(tmp_path / "a.zip", squares, leave_out=".dbf"))
    two = shapefile_zip(tmp_path / "b.zip", squares, more={"other.shp": b"x"})
    assert "holds 2 shapefiles" in problem_of(two)
    many = shapefile_zip(tmp_path / "c.zip", squares, more={f"{n}.txt": b"x" for n in range(300)})
    assert "is a zip of 303 files" in problem_of(many) or "is a zip of 304 files" in problem_of(many)
    broken = shapefile_zip(
        tmp_path / "d.zip", squares, leave_out=".prj", more={"layer.prj": b"no projection"}
    )
    assert "has a .prj that cannot be read" in problem_of(broken)


def test_a_shapefile_that_breaks_off_is_told_with_the_place(tmp_path: Path) -> None:
    path = shapefile_zip(tmp_path / "a.zip", [({"ward": "1"}, A), ({"ward": "2"}, B)])
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["layer.shp"] = members["layer.shp"][:-40]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "is not whole; 0 features could be read: fetch it again." in problem_of(path)


def test_what_is_too_large_unpacked_is_refused_whatever_its_directory_says(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("layer.shp", "w", force_zip64=True) as member:
            for _ in range(layer_files.MOST_UNPACKED_BYTES // 2**20 + 1):
                member.write(bytes(2**20))
        archive.writestr("layer.dbf", b"x")
    assert bomb.stat().st_size < 2 * 2**20
    assert "is more than 256 MB unpacked" in problem_of(bomb)
    content = bytearray(bomb.read_bytes())
    place = content.rindex(b"PK\x01\x02", 0, content.rindex(b"PK\x01\x02"))
    struct.pack_into("<I", content, place + 24, 100)  # its directory says that it is small
    bomb.write_bytes(content)
    assert problem_of(bomb)  # Python reads no more than that, and finds that the sum is wrong


def test_a_file_of_many_megabytes_is_not_read(file: Path) -> None:
    with file.open("wb") as out:
        out.truncate(layer_files.MOST_FILE_BYTES + 1)
    assert "is larger than 64 MB" in problem_of(file)


# --- what is wrong with features


def test_every_wrong_feature_is_named_with_what_is_wrong_and_where(file: Path, policy: Policy) -> None:
    far = square(2.35, 48.85)
    file.write_text(
        geojson(
            [
                ({"number": 1, "name": "Good"}, A),
                ({"number": 2, "name": "Bowtie"}, BOWTIE),
                ({"number": 3, "name": "Spot"}, shapely.Point(-87.7, 41.8)),
                ({"number": 4, "name": "Nothing"}, None),
                ({"number": 5, "name": "Far"}, far),
                ({"number": "x", "name": "No number"}, A),
                ({"number": 1, "name": "Again"}, B),
                (
                    {"number": 7, "name": "Torn"},
                    {"type": "Polygon", "coordinates": [[[-87.7, 41.8], [-87.6, 41.8]]]},
                ),
            ]
        )
    )
    found = judged(file, policy)
    assert found.boundaries == ()
    what = {(one.place, one.name): one.what for one in found.errors}
    assert what[2, "Bowtie"] == (
        "self-intersection at 41.80500, -87.69500: mend it in the file, or import with --mend"
    )
    assert what[3, "Spot"] == "is no polygon but Point"
    assert what[4, "Nothing"] == "has no geometry"
    assert what[5, "Far"].startswith("has a point at 48.85000, 2.36000, outside the city")
    assert what[6, "No number"] == "expected a whole number from 1 to 9999 in number, found 'x'"
    assert what[7, "Again"] == "has the number 1, which feature 1 (Good) has already"
    assert what[8, "Torn"] == "has coordinates that are no rings of at least 4 points"
    assert len(found.errors) == 7


def test_a_crossing_shape_is_mended_on_request_and_the_change_of_its_area_is_told(
    file: Path, policy: Policy
) -> None:
    file.write_text(geojson([({"number": 2, "name": "Bowtie"}, BOWTIE)]))
    found = judged(file, policy, mend=True)
    [mended] = found.mended
    assert (mended.number, mended.name, mended.was) == (
        2,
        "Bowtie",
        "self-intersection at 41.80500, -87.69500",
    )
    assert mended.parts == 2
    assert mended.before_m2 == pytest.approx(460_000, rel=0.02)  # neither loop counts against the other
    assert mended.after_m2 == pytest.approx(460_000, rel=0.02)
    assert shapely.is_valid(shapely.from_wkb(found.boundaries[0].shape))


def test_a_loop_that_lies_on_the_shape_itself_counts_once(file: Path, policy: Policy) -> None:
    """A spike back over its own land encloses nothing more, and a hole stays one."""
    west, south = -87.70, 41.80
    spike = shapely.Polygon(
        [(west, south), (west + 0.02, south), (west + 0.02, south + 0.02), (west + 0.03, south + 0.03),
         (west + 0.02, south + 0.02), (west, south + 0.02)],
        [[(west + 0.005, south + 0.005), (west + 0.005, south + 0.01), (west + 0.01, south + 0.01),
          (west + 0.01, south + 0.005)]],
    )  # fmt: skip
    file.write_text(geojson([({"number": 3, "name": "Spike"}, spike)]))
    [mended] = judged(file, policy, mend=True).mended
    assert mended.parts == 1
    assert mended.before_m2 == pytest.approx(mended.after_m2)
    assert mended.after_m2 == pytest.approx(15 / 16 * 0.02**2 * 111_000**2 * 0.745, rel=0.01)


def test_swapped_axes_are_recognised(file: Path, policy: Policy) -> None:
    turned = box(41.80, -87.70, 41.81, -87.69)
    file.write_text(numbered(turned))
    [finding] = judged(file, policy).errors
    assert finding.what.startswith("The coordinates are latitude first")


def test_a_community_area_that_the_policy_lists_must_be_there_and_no_other(
    file: Path, areas: Areas, policy: Policy
) -> None:
    document = json.loads(city_export(areas))
    document["features"] = [one for one in document["features"] if one["properties"]["area_numbe"] != "68"]
    document["features"][0]["properties"]["area_numbe"] = "78"
    file.write_text(json.dumps(document))
    expected = {area.number: area.name for area in policy.areas}
    found = judged(file, policy, "community_area", expected=expected)
    told = {one.what for one in found.errors}
    assert "The policy lists Englewood (68), which the file lacks." in told
    assert "has the number 78, which is none of the policy's areas" in told


def test_a_file_without_the_field_says_which_ones_it_has(file: Path, policy: Policy) -> None:
    file.write_text(geojson([({"objectid": 1, "shape_leng": 2}, A)]))
    assert judged(file, policy, "ward").errors == [
        Finding(None, None, None, "The file has no field with the number of a ward: say --number-field; "
                                  "it has: objectid, shape_leng.")
    ]  # fmt: skip
    [finding] = judged(file, policy, "ward", number_field="nr").errors
    assert finding.what == "The file has no field nr (--number-field); it has: objectid, shape_leng."


def test_overlaps_and_gaps_are_told_in_square_metres(file: Path, policy: Policy) -> None:
    ring = box(-87.72, 41.78, -87.66, 41.84) - box(-87.70, 41.80, -87.68, 41.82)
    file.write_text(numbered(ring, box(-87.70, 41.80, -87.69, 41.8201)))
    found = judged(file, policy)
    assert found.errors == ()
    [overlap] = found.overlaps
    assert overlap.numbers == (1, 2)
    assert overlap.area_m2 == pytest.approx(830.3 * 11.1, rel=0.02)  # 0.01 by 0.0001 degrees
    assert overlap.lat == pytest.approx(41.82005, abs=1e-4)
    assert overlap.lon == pytest.approx(-87.695, abs=1e-3)
    [gap] = found.gaps
    assert gap.area_m2 == pytest.approx(830.3 * 2221, rel=0.01)  # 0.01 by 0.02 degrees
