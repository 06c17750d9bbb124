"""`rapid areas hot-blocks`: the blocks with the most shootings, and made areas with a tier."""

import csv
import json
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import shapely
import typer

from agents.hotblocks import HotBlock, HotBlocks, Window, because, hot_blocks, in_words
from connectors.files.errors import FileProblem
from connectors.geography.areas import Areas
from connectors.geography.block_shapes import block_shape
from connectors.geography.boundaries import Boundaries
from infra.areas.activating import (
    PutInForce,
    boundaries_in_force,
    day_of,
    midnight,
    policy_in_force,
    put_layer_in_force,
)
from infra.areas.hot import as_layer, of_database, of_file
from infra.areas.tiers import tier_problem
from infra.cli.actor import actor
from infra.cli.areas_shown import write_json
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.screen import safe_row
from infra.cli.session import database, run
from infra.connect import database_url
from infra.in_force import file_of
from infra.policy.checks import PRIORITY_TIER
from infra.settings import Settings
from schemas.policy import Policy

MOST_BLOCKS: Final = 9_999
LAYER: Final = "hot-blocks"

DAY = ["%Y-%m-%d"]
File = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE]",
        help="Victims or crimes as the city exports them; without: what we hold.",
        show_default=False,
    ),
]
Since = Annotated[datetime, typer.Option("--since", formats=DAY, help="First day.")]
Until = Annotated[
    datetime | None,
    typer.Option(
        "--until", formats=DAY, help="First day that counts no more; without: tomorrow.", show_default=False
    ),
]
Top = Annotated[
    int,
    typer.Option(
        "--top", min=1, max=MOST_BLOCKS, help="How many; what is tied with the last is listed, too."
    ),
]
In = Annotated[str, typer.Option("--in", help="Only in areas of this tier; `all`: everywhere.")]
HalfLife = Annotated[
    float | None,
    typer.Option(
        "--half-life",
        min=0.1,
        max=36_500,
        help="Days after which a shooting counts half.",
        show_default=False,
    ),
]
Least = Annotated[int, typer.Option("--min", min=1, help="Shootings that a block must have.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Map = Annotated[
    Path | None, typer.Option("--map", help="Write the blocks to this file, as GeoJSON.", show_default=False)
]
Activate = Annotated[bool, typer.Option("--activate", help="Put the blocks in force as areas with --tier.")]
Tier = Annotated[
    str | None,
    typer.Option("--tier", help="The tier that places on these blocks get at least.", show_default=False),
]
Name = Annotated[str, typer.Option("--name", help="Of the layer: it replaces the one of this name.")]
ValidFrom = Annotated[
    datetime | None,
    typer.Option(
        "--valid-from",
        formats=DAY,
        help="With --activate: from which day on; without: today.",
        show_default=False,
    ),
]


def hot_blocks_command(
    file: File = None, *, since: Since, until: Until = None, top: Top = 15, within: In = PRIORITY_TIER,
    half_life: HalfLife = None, least: Least = 2, as_json: Json = False, as_csv: AsCsv = False, map_file: Map = None,
    activate: Activate = False, tier: Tier = None, name: Name = LAYER, valid_from: ValidFrom = None,
) -> None:  # fmt: skip
    """The most violent blocks: shootings for each block of a community area, in a window of time.

    A case counts once, however many were shot. Blocks with the same count share a rank, and whoever shares the last
    one is listed as well. Restricted: it tells where shootings were.
    """
    policy, held = run(_known(offline=file is not None and not activate))
    _check(within, tier, activate, policy)
    now = datetime.now(UTC)
    window = Window(
        midnight(since.date(), policy), midnight(until.date() if until else _tomorrow(now, policy), policy), top,
        half_life, least, _areas(within, policy),
    )  # fmt: skip
    if window.until <= window.since:
        raise typer.BadParameter("must be after --since", param_hint="--until")
    found, defects = _found(file, window, policy, held)
    rows = [_row(block, policy) for block in found.blocks]
    if map_file:
        write_json(map_file, _geojson(found, policy))
    done = None
    if activate and tier:
        done = _activated(
            found,
            name,
            tier,
            midnight(valid_from.date() if valid_from else day_of(now, policy), policy),
            file,
        )
    if as_csv:
        _print_csv(rows)
    elif as_json:
        print_json(_as_json(found, rows, defects, done))
    else:
        _print(found, rows, defects, within, done)


def _tomorrow(now: datetime, policy: Policy) -> date:
    return day_of(now, policy) + timedelta(days=1)


def _check(within: str, tier: str | None, activate: bool, policy: Policy) -> None:
    known = ", ".join(sorted(policy.severity.tier))
    if within != "all" and within not in policy.severity.tier:
        raise typer.BadParameter(f"`all`, or a tier of the policy: {known}", param_hint="--in")
    if activate != (tier is not None):
        raise typer.BadParameter("--activate and --tier go together", param_hint="--tier")
    if tier is not None and (problem := tier_problem(tier, policy)):
        raise typer.BadParameter(problem, param_hint="--tier")


def _areas(within: str, policy: Policy) -> frozenset[int] | None:
    if within == "all":
        return None
    return frozenset(area.number for area in policy.areas if area.tier == within)


async def _known(*, offline: bool) -> tuple[Policy, Boundaries]:
    """Policy and boundaries in force; for a file alone, where nothing runs, those of the settings and the software."""
    settings = Settings()
    cache = settings.home_folder / "cache"
    try:
        url = database_url(settings)
    except Oops:
        if not offline:
            raise
        return file_of(settings).policy, Boundaries(Areas.of_chicago(cache))
    async with database(url) as connection:
        return await policy_in_force(connection, settings), await boundaries_in_force(connection, cache)


def _found(file: Path | None, window: Window, policy: Policy, held: Boundaries) -> tuple[HotBlocks, int]:
    if file is None:
        return run(_of_database(window, policy, held)), 0
    try:
        read = of_file(file, policy, held)
    except FileProblem as problem:
        raise Oops(str(problem), ExitCode.INVALID) from problem
    return hot_blocks(read.shootings, window), read.defects


async def _of_database(window: Window, policy: Policy, held: Boundaries) -> HotBlocks:
    async with database(database_url(Settings())) as connection:
        shootings = await of_database(connection, window.since, window.until, policy, held)
    return hot_blocks(shootings, window)


def _activated(found: HotBlocks, name: str, tier: str, valid_from: datetime, file: Path | None) -> PutInForce:
    of = file.name if file else "our incidents"
    source = f"hot blocks {found.window.since:%Y-%m-%d} to {found.window.until:%Y-%m-%d} of {of}"
    layer = as_layer(found, name[:200], tier, valid_from, source[:200])
    if not layer.boundaries:
        raise Oops(
            "There is no hot block with coordinates to activate: widen the window or lower --min.",
            ExitCode.INVALID,
        )

    async def put() -> PutInForce:
        async with database(database_url(Settings())) as connection:
            return await put_layer_in_force(connection, layer, actor(), source[:200])

    return run(put())


# ---------------------------------------------------------------- shown


def _row(block: HotBlock, policy: Policy) -> dict[str, Any]:
    area = policy.area(block.area) if block.area else None
    return {
        "rank": block.rank,
        "block": block.block,
        "area": f"{area.name} ({area.number})" if area else None,
        "tier": policy.tier_of(block.area),
        "incidents": block.incidents,
        "score": round(block.score, 3),
        "first": f"{day_of(block.first_at, policy)}",
        "last": f"{day_of(block.last_at, policy)}",
    }


def _print(
    found: HotBlocks, rows: list[dict[str, Any]], defects: int, within: str, done: PutInForce | None
) -> None:
    decay = found.window.half_life_days is not None
    shown = [
        safe_row({name: value for name, value in row.items() if decay or name != "score"}) for row in rows
    ]
    where = "" if within == "all" else f" in {within} areas"
    print_table(f"Most violent blocks{where}", shown, "No block has as many.")
    print(in_words(found))
    if defects:
        print(f"{defects} rows of the file could not be used.")
    if done:
        state = "in force" if done.new else "in force already"
        print(
            f"All {len(rows)} blocks are {state}, as layer {done.layer_version} of the boundaries {done.set_version}."
        )


def _as_json(
    found: HotBlocks, rows: list[dict[str, Any]], defects: int, done: PutInForce | None
) -> dict[str, Any]:
    return {
        "blocks": rows, "in_words": in_words(found), "incidents": found.incidents, "places": found.places,
        "unplaced": found.unplaced, "tied": found.tied, "defects": defects,
        "in_force": done._asdict() if done else None,
    }  # fmt: skip


def _print_csv(rows: list[dict[str, Any]]) -> None:
    writer = csv.DictWriter(
        sys.stdout, ["rank", "block", "area", "tier", "incidents", "score", "first", "last"]
    )
    writer.writeheader()
    writer.writerows(rows)


def _geojson(found: HotBlocks, policy: Policy) -> dict[str, Any]:
    features = [
        {"type": "Feature", "properties": _row(block, policy) | {"because": because(block, found)},
         "geometry": json.loads(shapely.to_geojson(shapely.from_wkb(block_shape(block.points))))}
        for block in found.blocks if block.points
    ]  # fmt: skip
    return {"type": "FeatureCollection", "features": features}
