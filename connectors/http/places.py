"""The city's areas as GeoJSON, and whether we are here."""

import asyncio
import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import Response

from connectors.errors import Transient
from connectors.http.access import Given
from connectors.http.openapi import problems
from connectors.http.parameters import AsOf
from connectors.http.problems import unavailable
from connectors.postgres.http_reads import is_alive

GEOJSON = "application/geo+json"
_COLLECTION: dict[str, Any] = {
    "type": "object", "required": ["type", "features"],
    "properties": {"type": {"const": "FeatureCollection"}, "features": {"type": "array", "items": {"type": "object"}}},
}  # fmt: skip

router = APIRouter()
health = APIRouter(include_in_schema=False)


@router.get(
    "/v1/areas", tags=["Areas"],
    responses=problems() | {200: {"description": "Areas.", "content": {GEOJSON: {"schema": _COLLECTION}}},
                            304: {"description": "They are still as you have them."}},
)  # fmt: skip
async def read_areas(
    parts: Given,
    as_of: AsOf = None,
    if_none_match: Annotated[str | None, Header(max_length=500)] = None,
) -> Response:
    """The city's areas: number, name, and a border that is a little simplified. Borders change: `as_of` asks for those
    of a day."""
    document = await asyncio.to_thread(parts.areas, as_of)
    etag = f'"{hashlib.sha256(document).hexdigest()[:20]}"'
    headers = {"ETag": etag, "Cache-Control": "private, max-age=3600"}
    if if_none_match is not None and etag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(document, headers=headers, media_type=GEOJSON)


@health.get("/livez")
async def livez() -> Response:
    """The process runs."""
    return Response("ok\n", media_type="text/plain")


@health.get("/readyz")
async def readyz(parts: Given) -> Response:
    """The database answers, so requests can be served."""
    try:
        async with parts.ledger.connection() as connection:
            await is_alive(connection)
    except Transient:
        return unavailable()
    return Response("ok\n", media_type="text/plain")
