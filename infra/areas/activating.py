"""Boundaries put in force: kept first, then a line of `activations`, which every process follows within a second."""

from collections.abc import Callable
from datetime import date, datetime, time
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from connectors.geography.areas import Areas
from connectors.geography.boundaries import Boundaries
from connectors.postgres import activations
from connectors.postgres.activations import New
from connectors.postgres.areas import (
    boundaries_of,
    keep_layer,
    keep_set,
    kept_layers,
    kept_set,
    version_in_force,
)
from connectors.postgres.pool import Connection
from infra.in_force import file_of, in_force
from infra.settings import Settings
from schemas.area import AreaLayer, AreaSet
from schemas.policy import Policy


class PutInForce(NamedTuple):
    """What came of it. `set_version`: of all boundaries; `before`: of those that held until now; `new`: whether
    anything changed."""

    layer_version: str
    set_version: str
    before: str | None
    new: bool


def midnight(day: date, policy: Policy) -> datetime:
    """When a day begins in the city."""
    return datetime.combine(day, time(), ZoneInfo(policy.city.time_zone))


def day_of(moment: datetime, policy: Policy) -> date:
    """The city's day of a moment."""
    return moment.astimezone(ZoneInfo(policy.city.time_zone)).date()


async def policy_in_force(connection: Connection, settings: Settings) -> Policy:
    """The active policy; the file's when nothing was ever started. Raises Oops, PolicyErrors."""
    found = await in_force(connection)
    return found.policy if found else file_of(settings).policy


async def boundaries_in_force(connection: Connection, cache: Path | None) -> Boundaries:
    """What incidents are placed by, by now."""
    return await boundaries_of(connection, Areas.of_chicago(cache), await version_in_force(connection))


async def put_layer_in_force(connection: Connection, layer: AreaLayer, by: str, why: str) -> PutInForce:
    """Keep a layer and put it in force beside those that hold. The same layer once more changes nothing."""
    async with connection.transaction():
        await activations.wait_for_turn(connection)
        before = await version_in_force(connection)
        content = await kept_set(connection, before)
        version = await keep_layer(connection, layer, by)
        if version in content.layers and not await _replaced(connection, content, version):
            return PutInForce(version, before or "", before, new=False)
        added = content.model_copy(update={"layers": (*content.layers, version)})
        set_version = await keep_set(connection, added, by)
        await activations.activate(connection, New("areas", set_version, by, why))
    return PutInForce(version, set_version, before, new=True)


async def _replaced(connection: Connection, content: AreaSet, version: str) -> bool:
    """Whether a later import of the same kind, name and date stands before a layer."""
    layers = await kept_layers(connection, content.layers)
    last = {(layer.key, layer.content.valid_from): layer.version for layer in layers}
    return version not in last.values()


async def change_set(connection: Connection, change: Callable[[AreaSet], AreaSet], by: str, why: str) -> str:
    """Put a changed set in force; its version."""
    async with connection.transaction():
        await activations.wait_for_turn(connection)
        content = change(await kept_set(connection, await version_in_force(connection)))
        version = await keep_set(connection, content, by)
        await activations.activate(connection, New("areas", version, by, why))
    return version


async def put_set_in_force(connection: Connection, version: str, by: str, why: str) -> None:
    """Go back to boundaries that held before. Raises UnknownBoundaries."""
    async with connection.transaction():
        await activations.wait_for_turn(connection)
        await kept_set(connection, version)
        await activations.activate(connection, New("areas", version, by, why))
