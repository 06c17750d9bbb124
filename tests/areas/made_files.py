"""Files with boundaries as they come from outside, and broken ones."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import shapefile
import shapely
from pyproj import CRS, Transformer
from shapely.geometry import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

from connectors.geography.areas import Areas, chicago_names

ILLINOIS_EAST_FEET = 3435
BOWTIE = Polygon([(-87.70, 41.80), (-87.69, 41.81), (-87.69, 41.80), (-87.70, 41.81)])
"""Crosses itself at 41.805, -87.695."""


def geojson(features: Sequence[tuple[Mapping[str, Any], Any]], **members: Any) -> str:
    """`features`: properties and a shape or a GeoJSON geometry."""
    return json.dumps(
        {
            "type": "FeatureCollection",
            **members,
            "features": [
                {"type": "Feature", "properties": dict(properties), "geometry": geometry_of(shape)}
                for properties, shape in features
            ],
        }
    )


def geometry_of(shape: Any) -> Any:
    return json.loads(shapely.to_geojson(shape)) if isinstance(shape, BaseGeometry) else shape


def city_export(areas: Areas, changed: Mapping[int, BaseGeometry] | None = None) -> str:
    """The community areas as the City's portal exports them (cauq-8yn6), some with another shape."""
    names = chicago_names()
    return geojson(
        [
            (
                {
                    "area": "0", "area_num_1": str(number), "area_numbe": str(number), "comarea": "0",
                    "comarea_id": "0", "community": names[number], "perimeter": "0",
                    "shape_area": "46004621.1581", "shape_len": "31027.0545098",
                },
                as_multi(changed.get(number, shape) if changed else shape),
            )
            for number, shape in areas.shapes.items()
        ]
    )  # fmt: skip


def as_multi(shape: BaseGeometry) -> BaseGeometry:
    return MultiPolygon([shape]) if isinstance(shape, Polygon) else shape


def square(west: float, south: float, size: float = 0.01) -> Polygon:
    return box(west, south, west + size, south + size)


def shapefile_zip(
    path: Path, features: Sequence[tuple[Mapping[str, Any], Polygon]], *, epsg: int | None = ILLINOIS_EAST_FEET,
    leave_out: str = "", more: Mapping[str, bytes] | None = None,
) -> Path:  # fmt: skip
    """A zip with one shapefile, in the projection of the EPSG code; None: degrees, and no .prj."""
    parts = {".shp": io.BytesIO(), ".shx": io.BytesIO(), ".dbf": io.BytesIO()}
    to_plane = Transformer.from_crs(4326, epsg, always_xy=True) if epsg else None
    with shapefile.Writer(shp=parts[".shp"], shx=parts[".shx"], dbf=parts[".dbf"]) as writer:
        for name in features[0][0]:
            writer.field(name, "C", 40)
        for properties, shape in features:
            ring = list(shape.exterior.coords)[::-1]  # clockwise, as shapefiles want it
            writer.poly([[to_plane.transform(x, y) if to_plane else (x, y) for x, y in ring]])
            writer.record(**properties)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for suffix, part in parts.items():
            if suffix != leave_out:
                archive.writestr(f"layer{suffix}", part.getvalue())
        if epsg and leave_out != ".prj":
            archive.writestr("layer.prj", CRS.from_epsg(epsg).to_wkt("WKT1_ESRI"))
        for name, content in (more or {}).items():
            archive.writestr(name, content)
    return path
