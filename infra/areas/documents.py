"""The community areas as the API tells them: GeoJSON by date, a little simplified."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Final

import shapely

from connectors.geography.areas import Areas, feature_collection
from connectors.geography.boundaries import Boundaries
from infra.areas.activating import midnight
from schemas.policy import Policy

SIMPLIFIED_BY_DEGREES: Final = 0.0001
"""About 10 m: nobody sees it on a map of the city, and it is a tenth of the bytes."""
MOST_KEPT: Final = 8
"""Documents of different boundaries; each is some hundred kB."""


class AreasDocument:
    """The areas of a day, or of today. Each document is made once; making one takes some tenths of a second."""

    def __init__(self, held: Boundaries, policy: Policy) -> None:
        self._held = held
        self._policy = policy
        self._made = lru_cache(maxsize=MOST_KEPT)(self._document)

    def __call__(self, as_of: date | None = None) -> bytes:
        """The bytes of the GeoJSON document; without a day, those of today."""
        moment = midnight(as_of, self._policy) if as_of else datetime.now(UTC)
        return self._made(self._held.areas_at(moment))

    def _document(self, areas: Areas) -> bytes:
        """Borders are simplified together, so that neighbours still meet."""
        shapes = shapely.coverage_simplify(list(areas.shapes.values()), SIMPLIFIED_BY_DEGREES)
        simplified = Areas(dict(zip(areas.shapes, shapes, strict=True)))
        names: Mapping[int, str] = {area.number: area.name for area in self._policy.areas}
        rounded = _rounded(feature_collection(simplified, names))
        return json.dumps(rounded, separators=(",", ":"), ensure_ascii=False).encode()


def _rounded(value: Any) -> Any:
    """Five decimals are a metre."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return {name: _rounded(one) for name, one in value.items()} if isinstance(value, dict) else value
