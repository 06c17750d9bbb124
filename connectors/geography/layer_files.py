"""Files with boundaries: GeoJSON, or a shapefile in a zip. Features as they are, in WGS 84 degrees, longitude first.

A file is untrusted: how large it may be, also unpacked, is limited before anything is read.
"""

import io
import json
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np
import shapefile
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry.base import BaseGeometry

MOST_FILE_BYTES: Final = 64 * 2**20
MOST_UNPACKED_BYTES: Final = 256 * 2**20
MOST_MEMBERS: Final = 200
MOST_FEATURES: Final = 9_999
WGS_84: Final = 4326
_BROKEN_SHAPEFILE: Final = (
    shapefile.ShapefileException, shapefile.PossiblyCorruptFileHeader, struct.error, ArithmeticError, LookupError,
    OSError, TypeError, ValueError,
)  # fmt: skip
"""What pyshp says of bytes that are none."""
_POLYGONS: Final = ("Polygon", "MultiPolygon")
_AUTHORITY: Final = re.compile(r"^(?:urn:ogc:def:crs:)?EPSG:(?:[\d.]*:)?(\d+)$", re.IGNORECASE)
_LONGITUDE_FIRST: Final = re.compile(r"^(?:urn:ogc:def:crs:)?OGC:(?:[\d.]*:)?CRS84$", re.IGNORECASE)


class LayerFileProblem(Exception):
    """The file as a whole cannot be used: one sentence that says what is wrong and what to do."""


class Feature(NamedTuple):
    """One feature. `place` counts from 1 in the order of the file; without a shape, `problem` says why."""

    place: int
    properties: Mapping[str, Any]
    shape: BaseGeometry | None
    problem: str | None = None


class LayerFile(NamedTuple):
    """What a file holds. `projection`: in which its coordinates were, and who says so."""

    features: Sequence[Feature]
    fields: Sequence[str]
    projection: str


class _Raw(NamedTuple):
    """Features with shapes in the file's own projection."""

    features: list[Feature]
    crs: CRS | None
    says: str


def read_layer(path: Path, epsg: int | None = None) -> LayerFile:
    """The features of a file. `epsg`: the projection, for a file that does not name it. Raises LayerFileProblem."""
    raw = _raw(path, _content(path))
    if not raw.features:
        raise LayerFileProblem(f"{path.name} holds no features: expected one polygon for each area.")
    if len(raw.features) > MOST_FEATURES:
        raise LayerFileProblem(
            f"{path.name} holds {len(raw.features)} features: at most {MOST_FEATURES} are read."
        )
    crs, says = _projection(path, raw, epsg)
    fields = dict.fromkeys(name for feature in raw.features for name in feature.properties)
    return LayerFile(_in_degrees(path, raw.features, crs), list(fields), says)


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise LayerFileProblem(
                f"{path.name} is larger than {MOST_FILE_BYTES // 2**20} MB: boundaries of a city are not."
            )
        content = path.read_bytes()
    except OSError as error:
        raise LayerFileProblem(f"{path} cannot be read: {error.strerror or error}.") from error
    if not content.strip():
        raise LayerFileProblem(f"{path.name} is empty: expected GeoJSON, or a zip with a shapefile.")
    return content


def _raw(path: Path, content: bytes) -> _Raw:
    if content[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _of_zip(path, content)
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        return _of_geojson(path, content)
    raise LayerFileProblem(f"{path.name} is neither GeoJSON nor a zip with a shapefile (.shp, .dbf, .prj).")


# --- GeoJSON


def _of_geojson(path: Path, content: bytes) -> _Raw:
    try:
        document = json.loads(content.decode("utf-8-sig"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise LayerFileProblem(
            f"{path.name} is no valid JSON{where}: it may have been cut off; fetch it again."
        ) from error
    kind = document.get("type")
    items = [document] if kind == "Feature" else document.get("features")
    if kind not in ("Feature", "FeatureCollection") or not isinstance(items, list):
        raise LayerFileProblem(f"{path.name} is JSON, but no GeoJSON FeatureCollection: expected `features`.")
    crs, says = _crs_member(path, document.get("crs"))
    return _Raw([_feature(place, item) for place, item in enumerate(items, start=1)], crs, says)


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _crs_member(path: Path, member: Any) -> tuple[CRS | None, str]:
    """The member `crs` of GeoJSON as it was before RFC 7946, which many still write."""
    if member is None:
        return None, ""
    properties = member.get("properties") if isinstance(member, dict) else None
    name = properties.get("name") if isinstance(properties, dict) else None
    if isinstance(name, str) and _LONGITUDE_FIRST.match(name):
        return CRS.from_epsg(WGS_84), "WGS 84, as its crs says"
    found = _AUTHORITY.match(name) if isinstance(name, str) else None
    if found is None:
        raise LayerFileProblem(
            f"{path.name} has a crs that names no EPSG code: expected such as urn:ogc:def:crs:EPSG::3435, or none for "
            "WGS 84."
        )
    return _of_epsg(path, int(found[1])), f"EPSG:{found[1]}, as its crs says"


def _feature(place: int, item: Any) -> Feature:
    properties = item.get("properties") if isinstance(item, dict) else None
    known = {str(name): value for name, value in properties.items()} if isinstance(properties, dict) else {}
    geometry = item.get("geometry") if isinstance(item, dict) else None
    return _shaped(place, known, geometry)


def _shaped(place: int, properties: Mapping[str, Any], geometry: Any) -> Feature:
    """The feature of a GeoJSON geometry."""
    if geometry is None:
        return Feature(place, properties, None, "has no geometry")
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind not in _POLYGONS:
        return Feature(place, properties, None, f"is no polygon but {str(kind)[:40]}")
    try:
        shape = shapely.geometry.shape(geometry)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, shapely.errors.ShapelyError):
        return Feature(place, properties, None, "has coordinates that are no rings of at least 4 points")
    if shape.is_empty:
        return Feature(place, properties, None, "has an empty geometry")
    return Feature(place, properties, shapely.force_2d(shape))


# --- shapefiles


def _of_zip(path: Path, content: bytes) -> _Raw:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = _members(path, archive)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise LayerFileProblem(f"{path.name} is a zip that cannot be unpacked: fetch it again.") from error
    lacking = [suffix for suffix in (".shp", ".dbf") if suffix not in members]
    if lacking:
        raise LayerFileProblem(
            f"{path.name} is a zip without {' and '.join(lacking)}: expected one shapefile in it."
        )
    crs, says = _prj(path, members.get(".prj"))
    return _Raw(_records(path, members), crs, says)


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, bytes]:
    """Suffix -> bytes of the one shapefile in an archive. What its directory says of sizes is not believed."""
    infos = [one for one in archive.infolist() if not one.is_dir() and "__MACOSX" not in one.filename]
    if len(infos) > MOST_MEMBERS:
        raise LayerFileProblem(f"{path.name} is a zip of {len(infos)} files: expected one shapefile in it.")
    shapes = sorted(one.filename for one in infos if one.filename.lower().endswith(".shp"))
    if len(shapes) > 1:
        raise LayerFileProblem(
            f"{path.name} holds {len(shapes)} shapefiles: expected one; pack the one you mean alone."
        )
    stem = shapes[0][:-4] if shapes else None
    left, members = MOST_UNPACKED_BYTES, {}
    for one in infos:
        name, dot, suffix = one.filename.rpartition(".")
        if name == stem and f"{dot}{suffix.lower()}" in (".shp", ".shx", ".dbf", ".prj", ".cpg"):
            with archive.open(one) as member:
                members[f".{suffix.lower()}"] = member.read(left + 1)
            left -= len(members[f".{suffix.lower()}"])
            if left < 0:
                raise LayerFileProblem(
                    f"{path.name} is more than {MOST_UNPACKED_BYTES // 2**20} MB unpacked: no city's boundaries are."
                )
    return members


def _records(path: Path, members: Mapping[str, bytes]) -> list[Feature]:
    features: list[Feature] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", shapefile.PossiblyCorruptFileHeader)
            for feature in _each_record(members):
                features.append(feature)
                if len(features) > MOST_FEATURES:
                    break
    except _BROKEN_SHAPEFILE as error:
        raise LayerFileProblem(
            f"The shapefile in {path.name} is not whole; {len(features)} features could be read: fetch it again."
        ) from error
    return features


def _each_record(members: Mapping[str, bytes]) -> Iterator[Feature]:
    encoding = members.get(".cpg", b"").decode("ascii", "replace").strip() or "utf-8"
    with shapefile.Reader(
        shp=io.BytesIO(members[".shp"]),
        dbf=io.BytesIO(members[".dbf"]),
        encoding=encoding,
        encodingErrors="replace",
    ) as reader:
        for place, record in enumerate(reader.iterShapeRecords(), start=1):
            geometry = record.shape.__geo_interface__ if record.shape.shapeType else None
            yield _shaped(place, record.record.as_dict(), geometry)


def _prj(path: Path, text: bytes | None) -> tuple[CRS | None, str]:
    if text is None:
        return None, ""
    try:
        crs = CRS.from_wkt(text.decode("utf-8", "replace"))
    except CRSError as error:
        raise LayerFileProblem(f"{path.name} has a .prj that cannot be read: say --epsg.") from error
    code = crs.to_epsg(min_confidence=20)
    return crs, f"{f'EPSG:{code}' if code else crs.name}, as its .prj says"


# --- projections


def _projection(path: Path, raw: _Raw, epsg: int | None) -> tuple[CRS, str]:
    """What the file says; else what was said; else WGS 84, if the numbers can be degrees."""
    if raw.crs is not None:
        if epsg is not None and raw.crs.to_epsg(min_confidence=20) not in (epsg, None):
            raise LayerFileProblem(
                f"{path.name} is in {raw.says}: leave out --epsg {epsg}, or mend the file."
            )
        return raw.crs, raw.says
    if epsg is not None:
        return _of_epsg(path, epsg), f"EPSG:{epsg}, as was said"
    bounds = [abs(number) for one in raw.features if one.shape is not None for number in one.shape.bounds]
    if any(number > 360 for number in bounds):
        raise LayerFileProblem(
            f"{path.name} names no projection and its coordinates are no degrees (up to {max(bounds):.0f}): say "
            "--epsg, such as 3435 for Illinois East in feet."
        )
    return CRS.from_epsg(WGS_84), "WGS 84, for it names no projection"


def _of_epsg(path: Path, code: int) -> CRS:
    try:
        return CRS.from_epsg(code)
    except CRSError as error:
        raise LayerFileProblem(f"{path.name}: EPSG:{code} is no projection that PROJ knows.") from error


def _in_degrees(path: Path, features: Sequence[Feature], crs: CRS) -> list[Feature]:
    if crs.to_epsg() == WGS_84:
        return list(features)
    transformer = Transformer.from_crs(crs, CRS.from_epsg(WGS_84), always_xy=True)

    def moved(coordinates: Any) -> Any:
        return np.column_stack(transformer.transform(coordinates[:, 0], coordinates[:, 1]))

    try:
        return [
            one if one.shape is None else one._replace(shape=shapely.transform(one.shape, moved))
            for one in features
        ]
    except ProjError as error:
        raise LayerFileProblem(f"{path.name} cannot be brought from {crs.name} to WGS 84.") from error


# --- the other way


def metres_around(shapes: Sequence[BaseGeometry]) -> Transformer:
    """From degrees to metres on a plane on which areas are true, centred on these shapes, and back."""
    west, south, east, north = shapely.total_bounds(np.array(shapes, dtype=object))
    plane = CRS.from_proj4(
        f"+proj=laea +lat_0={(south + north) / 2} +lon_0={(west + east) / 2} +datum=WGS84 +units=m"
    )
    return Transformer.from_crs(CRS.from_epsg(WGS_84), plane, always_xy=True)


def on_plane(shapes: Sequence[BaseGeometry], to_metres: Transformer) -> list[BaseGeometry]:
    """The shapes in metres."""

    def moved(coordinates: Any) -> Any:
        return np.column_stack(to_metres.transform(coordinates[:, 0], coordinates[:, 1]))

    return [shapely.transform(one, moved) for one in shapes]


def in_degrees(shape: BaseGeometry, to_metres: Transformer) -> BaseGeometry:
    """A shape in metres, back in degrees."""

    def moved(coordinates: Any) -> Any:
        longitude, latitude = to_metres.transform(coordinates[:, 0], coordinates[:, 1], direction="INVERSE")
        return np.column_stack((longitude, latitude))

    moved_back: BaseGeometry = shapely.transform(shape, moved)
    return moved_back
