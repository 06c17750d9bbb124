"""Pure: which blocks had the most shootings in a window of time.

A block is what the source calls it, in one spelling, within its community area; an incident without one counts for
its grid cell. With a half-life, an incident counts half as much for each half-life between it and the window's end.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from agents.near import cell_of
from agents.sites import block_of
from schemas.base import Point
from schemas.incident import IncidentKind

COUNTED: Final[tuple[IncidentKind, ...]] = ("fatal_shooting", "nonfatal_shooting")
"""What makes a block hot: as the priority areas were chosen, by homicides and non-fatal shootings (DOMAIN.md)."""
CELL_RESOLUTION: Final = 10
"""H3: cells with edges of about 76 m, so about a block."""
SAME: Final = 9
"""Decimals in which scores must agree to be a tie: sums of shares differ in the last bits by the order of addition."""
DAY: Final = timedelta(days=1)


class Shooting(NamedTuple):
    """One incident. `area`: number of its community area, None where nobody knows it."""

    number: str
    occurred_at: datetime
    block: str | None
    area: int | None
    point: Point | None


class Window(NamedTuple):
    """From when until when is counted, and what is wanted of it. `areas`: only these; None: everywhere."""

    since: datetime
    until: datetime
    top: int
    half_life_days: float | None = None
    least: int = 2
    areas: frozenset[int] | None = None


class HotBlock(NamedTuple):
    """A block with what was counted. `rank` is dense: blocks with one score share one rank, the next follows it."""

    rank: int
    block: str
    area: int | None
    incidents: int
    score: float
    first_at: datetime
    last_at: datetime
    points: tuple[Point, ...]


class HotBlocks(NamedTuple):
    """The list, and what it was made of. `tied`: how many blocks share the last rank."""

    blocks: Sequence[HotBlock]
    window: Window
    incidents: int  # in the window and the areas
    places: int  # blocks and cells that had any
    unplaced: int  # had neither a block nor a point, and count nowhere
    tied: int


def hot_blocks(shootings: Iterable[Shooting], window: Window) -> HotBlocks:
    """The blocks with the highest scores, and all that share the last one's."""
    counted: dict[tuple[str, int | None], list[Shooting]] = defaultdict(list)
    unplaced = 0
    for one in shootings:
        if not (window.since <= one.occurred_at < window.until) or not _is_asked(one.area, window):
            continue
        place = place_of(one)
        if place is None:
            unplaced += 1
        else:
            counted[place].append(one)
    scored = [_scored(place, some, window) for place, some in counted.items() if len(some) >= window.least]
    ordered = sorted(scored, key=lambda block: (-block.score, block.block, block.area or 0))
    chosen = _ranked(_cut(ordered, window.top))
    return HotBlocks(
        blocks=chosen,
        window=window,
        incidents=sum(map(len, counted.values())) + unplaced,
        places=len(counted),
        unplaced=unplaced,
        tied=sum(block.rank == chosen[-1].rank for block in chosen) if chosen else 0,
    )


def place_of(one: Shooting) -> tuple[str, int | None] | None:
    """What an incident counts for: its block within its area, else its grid cell; None: it has neither."""
    block = block_of(one.block)
    if block is not None:
        return block, one.area
    return (f"cell {cell_of(one.point, CELL_RESOLUTION):x}", one.area) if one.point else None


def in_words(found: HotBlocks) -> str:
    """How the list came about, and why it is longer or shorter than was asked for."""
    window = found.window
    if not found.incidents:
        return "There was none in this time."
    said = [
        f"{found.incidents} incidents at {found.places} blocks; listed are those with at least {window.least}."
    ]
    if window.half_life_days:
        said.append(
            f"Each counts half as much for every {window.half_life_days:g} days before the window's end."
        )
    if len(found.blocks) > window.top:
        what = "score" if window.half_life_days else "count"
        said.append(
            f"The {window.top} asked for end within a tie: {found.tied} blocks share the {what} of rank "
            f"{found.blocks[-1].rank}, and nothing sets one of them apart, so all {len(found.blocks)} are listed."
        )
    elif len(found.blocks) < window.top:
        said.append(f"There are {len(found.blocks)} of these.")
    if found.unplaced:
        have, count = ("has", "counts") if found.unplaced == 1 else ("have", "count")
        said.append(f"{found.unplaced} {have} neither a block nor coordinates, and {count} nowhere.")
    return " ".join(said)


def because(block: HotBlock, found: HotBlocks) -> str:
    """What a decision says of a place on a hot block."""
    tied = " (shared)" if sum(one.rank == block.rank for one in found.blocks) > 1 else ""
    return (
        f"one of the {len(found.blocks)} most violent blocks since {found.window.since:%Y-%m-%d}: "
        f"{block.incidents} shootings, rank {block.rank}{tied}"
    )


def _is_asked(area: int | None, window: Window) -> bool:
    return window.areas is None or area in window.areas


def _scored(place: tuple[str, int | None], some: Sequence[Shooting], window: Window) -> HotBlock:
    times = [one.occurred_at for one in some]
    return HotBlock(
        rank=0,
        block=place[0],
        area=place[1],
        incidents=len(some),
        score=round(math.fsum(_weight(at, window) for at in times), SAME),
        first_at=min(times),
        last_at=max(times),
        points=tuple(
            sorted({one.point for one in some if one.point}, key=lambda point: (point.lat, point.lon))
        ),
    )


def _weight(at: datetime, window: Window) -> float:
    if window.half_life_days is None:
        return 1.0
    return float(0.5 ** ((window.until - at) / DAY / window.half_life_days))


def _cut(ordered: Sequence[HotBlock], top: int) -> Sequence[HotBlock]:
    """The first ones, and what is tied with the last of them."""
    if len(ordered) <= top:
        return ordered
    last = ordered[top - 1].score
    return [block for block in ordered if block.score >= last]


def _ranked(ordered: Sequence[HotBlock]) -> list[HotBlock]:
    ranked: list[HotBlock] = []
    for block in ordered:
        before = ranked[-1] if ranked else None
        rank = before.rank + (before.score != block.score) if before else 1
        ranked.append(block._replace(rank=rank))
    return ranked
