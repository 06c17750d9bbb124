"""Areas of a city, and their boundaries as they were imported."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import AreaNumber, Instant, Record, ShortText
from schemas.response import Tier

AreaKind = Literal["community_area", "ward", "beat", "district", "custom", "block"]
"""`community_area` decides where an incident lies; custom areas and blocks may give a tier; the others only tell."""

TIERED: tuple[AreaKind, ...] = ("custom", "block")
Wkb = Annotated[str, Field(min_length=2, max_length=20_000_000, pattern=r"^[0-9A-F]+$")]
"""A polygon or several: well-known binary in hexadecimal digits, WGS 84 degrees, longitude first."""


class Area(Record):
    """A community area and its tier (`priority` or another one of the policy)."""

    number: AreaNumber
    name: ShortText
    tier: Tier


class Boundary(Record):
    """One area of a layer. `because`: what sets it apart, such as its rank among the hot blocks."""

    number: AreaNumber
    name: ShortText
    shape: Wkb
    because: ShortText | None = None


class AreaLayer(Record):
    """All areas of one kind and name, valid from a moment until the next layer of that kind and name is."""

    kind: AreaKind
    name: ShortText
    valid_from: Instant
    tier: Tier | None = None  # what a place within gets at least
    source: ShortText  # the file, or how it was computed
    boundaries: tuple[Boundary, ...]  # none: from then on there is no such layer


class Reading(Record):
    """What happened from `since` until `until` is placed by the boundaries that are valid `as_of`."""

    since: Instant
    until: Instant
    as_of: Instant


class AreaSet(Record):
    """What can be in force: layers in the order in which they came, and readings, of which the last one holds."""

    layers: tuple[ShortText, ...] = ()  # versions
    readings: tuple[Reading, ...] = ()
