"""Imported boundaries: layers and sets of layers, each under the hash of its content. Added, never changed.

Which set is in force is a line of `activations`; what came with the software holds as long as there is none.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from connectors.geography.areas import Areas
from connectors.geography.boundaries import Boundaries, Layer
from connectors.postgres import activations
from connectors.postgres.pool import Connection
from schemas.area import AreaKind, AreaLayer, AreaSet
from schemas.base import Record

VERSION_DIGITS: Final = 12

_KEEP_LAYER: Final = """
INSERT INTO area_layers (version, kind, name, valid_from, features, content, imported_by)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING"""

_KEEP_SET: Final = (
    "INSERT INTO area_sets (version, content, made_by) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
)

_SET: Final = "SELECT content FROM area_sets WHERE version = $1"

_LAYERS: Final = "SELECT version, content FROM area_layers WHERE version = ANY($1::text[])"

# Every layer, without its polygons, the latest import last.
_LIST: Final = """
SELECT version, kind, name, valid_from, features, content::json ->> 'tier' AS tier,
  content::json ->> 'source' AS source, imported_by, recorded_at
FROM area_layers ORDER BY recorded_at, version"""

# How often boundaries had been put in force when this set was, for the last time.
_REVISION: Final = """
SELECT count(*) FROM activations
WHERE what = 'areas' AND seq <= (SELECT max(seq) FROM activations WHERE what = 'areas' AND version = $1)"""


class UnknownBoundaries(LookupError):
    """There are no boundaries of this version; the message is one sentence."""


class ListedLayer(NamedTuple):
    """A layer without its polygons."""

    version: str
    kind: AreaKind
    name: str
    valid_from: datetime
    features: int
    tier: str | None
    source: str
    imported_by: str
    recorded_at: datetime


def version_of(content: Record) -> str:
    """The hash of a layer or a set."""
    return hashlib.sha256(content.model_dump_json().encode()).hexdigest()[:VERSION_DIGITS]


async def keep_layer(connection: Connection, layer: AreaLayer, by: str) -> str:
    """Keep a layer, unless it is kept already; its version."""
    version = version_of(layer)
    await connection.execute(
        _KEEP_LAYER, version, layer.kind, layer.name, layer.valid_from, len(layer.boundaries),
        layer.model_dump_json(), by,
    )  # fmt: skip
    return version


async def keep_set(connection: Connection, content: AreaSet, by: str) -> str:
    """Keep a set, unless it is kept already; its version."""
    version = version_of(content)
    await connection.execute(_KEEP_SET, version, content.model_dump_json(), by)
    return version


async def kept_set(connection: Connection, version: str | None) -> AreaSet:
    """The set of a version; None: the empty one. Raises UnknownBoundaries."""
    if version is None:
        return AreaSet()
    content = await connection.fetchval(_SET, version)
    if content is None:
        raise UnknownBoundaries(f"There are no boundaries {version}: see `rapid areas list --sets`.")
    return AreaSet.model_validate_json(content)


async def kept_layers(connection: Connection, versions: Sequence[str]) -> list[Layer]:
    """These layers, in this order. Raises UnknownBoundaries."""
    found = {row["version"]: row["content"] for row in await connection.fetch(_LAYERS, list(versions))}
    lacking = [version for version in versions if version not in found]
    if lacking:
        raise UnknownBoundaries(f"The layer {lacking[0]} of these boundaries is not kept in the database.")
    return [Layer(version, AreaLayer.model_validate_json(found[version])) for version in versions]


async def listed_layers(connection: Connection) -> list[ListedLayer]:
    """Every layer that was ever imported, the first one first."""
    return [ListedLayer(*row) for row in await connection.fetch(_LIST)]


async def boundaries_of(connection: Connection, base: Areas, version: str | None) -> Boundaries:
    """The boundaries of a set over those of the software; None: those alone. Raises UnknownBoundaries."""
    content = await kept_set(connection, version)
    layers = await kept_layers(connection, content.layers)
    revision = await connection.fetchval(_REVISION, version) if version else 0
    return Boundaries(base, layers, content.readings, revision)


async def version_in_force(connection: Connection) -> str | None:
    """The version of the set that is in force; None: nothing was ever imported."""
    found = await activations.latest(connection, "areas")
    return found.version if found else None
