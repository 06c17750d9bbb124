"""The ground that a hot block covers: a hull around its incidents, a little wider. Pure."""

from collections.abc import Sequence
from typing import Final

import shapely
from shapely.geometry import Point as Spot

from connectors.geography.areas import tidy
from connectors.geography.layer_files import in_degrees, metres_around, on_plane
from schemas.base import Point

REACH_M: Final = 61.0
"""Half of a block face of 122 m (DOMAIN.md): published points are shifted along the block, and the next block is not
to be within."""
DECIMALS: Final = 7


def block_shape(points: Sequence[Point], reach_m: float = REACH_M) -> str:
    """The hull of the points, widened by so many metres, as WKB digits. Raises ValueError without points."""
    if not points:
        raise ValueError("a block without a point has no shape")
    spots = [Spot(point.lon, point.lat) for point in points]
    to_metres = metres_around(spots)
    hull = shapely.union_all(on_plane(spots, to_metres)).convex_hull.buffer(reach_m, quad_segs=4)
    degrees = in_degrees(hull, to_metres)
    rounded = shapely.transform(degrees, lambda coordinates: coordinates.round(DECIMALS))
    return str(shapely.to_wkb(tidy(rounded), hex=True))
