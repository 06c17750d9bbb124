"""`rapid areas`: boundaries imported, listed, shown; decisions taken again by other boundaries; hot blocks."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from connectors.geography.boundaries import Boundaries
from connectors.geography.judging import Judged, Rules, judge
from connectors.geography.layer_files import LayerFile, LayerFileProblem, read_layer
from connectors.postgres import activations
from connectors.postgres.areas import UnknownBoundaries, listed_layers, version_of
from connectors.postgres.pool import Connection
from infra.areas.activating import (
    PutInForce,
    boundaries_in_force,
    change_set,
    day_of,
    midnight,
    policy_in_force,
    put_layer_in_force,
    put_set_in_force,
)
from infra.areas.retriage import differing, have_decided_again, standing
from infra.areas.tiers import tier_problem
from infra.cli import areas_shown as shown
from infra.cli.actor import actor
from infra.cli.errors import ExitCode, Oops
from infra.cli.hot_blocks import hot_blocks_command
from infra.cli.output import Json, print_json, print_table
from infra.cli.screen import safe_row
from infra.cli.session import database, run
from infra.connect import connection as endpoints
from infra.connect import database_url
from infra.in_force import file_of
from infra.settings import Settings
from schemas.area import TIERED, AreaKind, AreaLayer, AreaSet, Reading
from schemas.base import Point
from schemas.policy import Policy

app = typer.Typer(
    help="Areas: import their boundaries, see which one a place lies in, find the hot blocks.",
    no_args_is_help=True,
)
app.command("hot-blocks")(hot_blocks_command)

MOST_WHY: Final = 200

File = Annotated[Path, typer.Argument(metavar="FILE", help="GeoJSON, or a zip with a shapefile.")]
Kind = Annotated[AreaKind, typer.Option("--kind", help="What the polygons are.")]
OfKind = Annotated[AreaKind, typer.Option("--kind", help="Of which kind.")]
ValidFrom = Annotated[
    datetime | None,
    typer.Option(
        "--valid-from", formats=["%Y-%m-%d"], help="From which day on; without: today.", show_default=False
    ),
]
AsOf = Annotated[
    datetime | None,
    typer.Option("--as-of", formats=["%Y-%m-%d"], help="By the boundaries of this day.", show_default=False),
]
Day = Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="A day in the city.")]
Why = Annotated[str, typer.Option("--why", help="Why, for the audit trail.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what it would do.")]


@app.command("import")
def import_areas(
    file: File, kind: Kind, *, valid_from: ValidFrom = None,
    name: Annotated[str | None, typer.Option("--name", help="Of a custom or block layer: it replaces the one of this "
                                             "name. Without: the file's.", show_default=False)] = None,
    tier: Annotated[str | None, typer.Option("--tier", help="Of custom areas and blocks: the tier that places within "
                                             "get at least.", show_default=False)] = None,
    number_field: Annotated[str | None, typer.Option("--number-field", show_default=False)] = None,
    name_field: Annotated[str | None, typer.Option("--name-field", show_default=False)] = None,
    epsg: Annotated[int | None, typer.Option("--epsg", help="The projection, if the file names none.",
                                             show_default=False)] = None,
    mend: Annotated[bool, typer.Option("--mend", help="Mend shapes that cross themselves.")] = False,
    why: Why = "", dry_run: DryRun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Put boundaries in force from a day on. Earlier days keep theirs, and so do decisions that were taken.

    All is checked before anything is kept: shapes, places, numbers; overlaps and gaps are told. Exit code 8 when
    something is wrong.
    """
    policy, now = run(_policy(offline=dry_run)), datetime.now(UTC)
    _check_tier(kind, tier, policy)
    expected = {area.number: area.name for area in policy.areas} if kind == "community_area" else {}
    read, judged = _judged(
        file, epsg, Rules(kind, policy.city.extent, expected, number_field, name_field, mend)
    )
    layer_name = (name or file.stem)[:200] if kind in TIERED else kind
    layer = AreaLayer(
        kind=kind, name=layer_name, valid_from=midnight(_day(valid_from, now, policy), policy), tier=tier,
        source=file.name[:200], boundaries=tuple(judged.boundaries),
    )  # fmt: skip
    done = None
    if not judged.errors and not dry_run:
        done = run(_put_in_force(layer, _why(why, f"imported from {file.name}")))
    if as_json:
        print_json(shown.import_as_json(read, judged, layer, version_of(layer), done))
    else:
        shown.print_import(file, read, judged, layer, done, dry_run=dry_run)
    if judged.errors:
        raise typer.Exit(ExitCode.INVALID)


def _judged(file: Path, epsg: int | None, rules: Rules) -> tuple[LayerFile, Judged]:
    try:
        read = read_layer(file, epsg)
    except LayerFileProblem as problem:
        raise Oops(str(problem), ExitCode.INVALID) from problem
    return read, judge(read, rules)


def _check_tier(kind: AreaKind, tier: str | None, policy: Policy) -> None:
    if tier is None:
        return
    if kind not in TIERED:
        raise typer.BadParameter("only custom areas and blocks have a tier of their own", param_hint="--tier")
    if problem := tier_problem(tier, policy):
        raise typer.BadParameter(problem, param_hint="--tier")


def _day(asked: datetime | None, now: datetime, policy: Policy) -> date:
    return asked.date() if asked else day_of(now, policy)


def _why(text: str, otherwise: str) -> str:
    why = text.strip() or otherwise
    if len(why) > MOST_WHY or not why.isprintable():
        raise typer.BadParameter(f"at most {MOST_WHY} printable characters", param_hint="--why")
    return why


async def _policy(*, offline: bool = False) -> Policy:
    """The policy in force; the file's for a look where nothing runs."""
    settings = Settings()
    try:
        url = database_url(settings)
    except Oops:
        if offline:
            return file_of(settings).policy
        raise
    async with database(url) as connection:
        return await policy_in_force(connection, settings)


async def _put_in_force(layer: AreaLayer, why: str) -> PutInForce:
    async with database(database_url(Settings())) as connection:
        return await put_layer_in_force(connection, layer, actor(), why)


# ---------------------------------------------------------------- what there is


@app.command("list")
def list_areas(
    kind: Annotated[AreaKind | None, typer.Option("--kind", help="The areas of this kind.", show_default=False)] = None,
    as_of: AsOf = None,
    history: Annotated[bool, typer.Option("--history", help="What was in force, since when.")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """The layers that were imported; with --kind, the areas of that kind as they are (or were) valid."""
    if history:
        rows = run(_history())
        title, empty = "Boundaries", "Nothing was ever imported: the boundaries are those of the software."
    elif kind:
        rows = run(_areas_of_kind(kind, as_of))
        title, empty = f"Areas: {kind}", f"There are no areas of the kind {kind}: see `rapid areas import`."
    else:
        rows = run(_layers())
        title, empty = "Layers", "Nothing was imported: the boundaries are those of the software."
    if as_json:
        print_json(rows)
    else:
        print_table(title, [safe_row(row) for row in rows], empty)


async def _layers() -> list[dict[str, Any]]:
    async with database(database_url(Settings())) as connection:
        policy = await policy_in_force(connection, Settings())
        held = await boundaries_in_force(connection, _cache())
        state = dict.fromkeys((layer.version for layer in held.layers), "in force")
        state |= dict.fromkeys((layer.version for layer in held.layers_at(datetime.now(UTC))), "holds today")
        return [
            {
                "version": one.version, "kind": one.kind, "name": one.name,
                "valid_from": day_of(one.valid_from, policy), "areas": one.features, "tier": one.tier,
                "source": one.source, "by": one.imported_by, "state": state.get(one.version, "not in force"),
            }
            for one in await listed_layers(connection)
        ]  # fmt: skip


async def _history() -> list[dict[str, Any]]:
    async with database(database_url(Settings())) as connection:
        rows = await activations.history(connection, "areas")
    return [
        {"version": row.version, "since": row.at, "by": row.by, "why": row.why,
         "now": "in force" if row is rows[-1] else ""}
        for row in rows
    ]  # fmt: skip


async def _areas_of_kind(kind: AreaKind, as_of: datetime | None) -> list[dict[str, Any]]:
    held, policy, moment = await _at(as_of)
    if kind == "community_area":
        return shown.community_areas(held, policy, moment)
    return [
        row for layer in held.layers_at(moment) if layer.content.kind == kind for row in shown.areas_of(layer)
    ]


async def _at(as_of: datetime | None) -> tuple[Boundaries, Policy, datetime]:
    """The boundaries in force, the policy, and the moment that is asked about."""
    settings = Settings()
    async with database(database_url(settings)) as connection:
        policy = await policy_in_force(connection, settings)
        held = await boundaries_in_force(connection, _cache())
    return held, policy, midnight(as_of.date(), policy) if as_of else datetime.now(UTC)


def _cache() -> Path:
    return Settings().home_folder / "cache"


@app.command()
def show(
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, max=9999)],
    kind: OfKind = "community_area", as_of: AsOf = None,
    geojson: Annotated[Path | None, typer.Option("--geojson", help="Write its boundary to this file.",
                                                 show_default=False)] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """One area: its tier, its size, where it is, by which boundaries; and a small map."""
    held, policy, moment = run(_at(as_of))
    found = [one for one in shown.shown_areas(held, policy, moment, kind) if one.number == number]
    if not found:
        raise Oops(
            f"There is no {kind.replace('_', ' ')} {number}: see `rapid areas list --kind {kind}`.",
            ExitCode.NOT_FOUND,
        )
    if geojson:
        shown.write_geojson(geojson, found)
    if as_json:
        print_json([one.as_json() for one in found])
        return
    for one in found:
        shown.print_area(one, policy)


@app.command(context_settings={"ignore_unknown_options": True})  # -87.6 is no option
def at(
    lat: Annotated[float, typer.Argument(metavar="LAT", min=-90, max=90)],
    lon: Annotated[float, typer.Argument(metavar="LON", min=-180, max=180)],
    as_of: AsOf = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Which areas a place lies in, of every kind."""
    held, policy, moment = run(_at(as_of))
    rows = shown.areas_at(held, policy, moment, Point(lat=lat, lon=lon))
    if as_json:
        print_json(rows)
        return
    hint = ""
    if not policy.city.extent.holds(lat, lon) and policy.city.extent.holds(lon, lat):
        hint = " Latitude comes first: did you mean the other way round?"
    print_table("Areas", [safe_row(row) for row in rows], f"{lat}, {lon} lies in no area.{hint}")


# ---------------------------------------------------------------- change what holds


@app.command("activate")
def activate_areas(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Of `rapid areas list --history`.")], why: Why = "",
) -> None:  # fmt: skip
    """Go back to boundaries that held before. What was decided stays as it is until it is decided again."""
    run(_activate(version, _why(why, "activated again")))
    print(f"In force from now on: {version}. Workers follow within a second, between two batches.")


async def _activate(version: str, why: str) -> None:
    async with database(database_url(Settings())) as connection:
        try:
            await put_set_in_force(connection, version, actor(), why)
        except UnknownBoundaries as error:
            raise Oops(str(error), ExitCode.NOT_FOUND) from error


@app.command()
def end(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of a custom or block layer.")], kind: OfKind = "block",
    valid_from: ValidFrom = None, why: Why = "",
) -> None:  # fmt: skip
    """End a layer of custom areas or hot blocks from a day on: places within have no tier from it any more."""
    if kind not in TIERED:
        raise typer.BadParameter("only custom areas and blocks can end", param_hint="--kind")
    policy = run(_policy())
    held, _, _ = run(_at(None))
    if (kind, name) not in {layer.key for layer in held.layers}:
        raise Oops(f"There is no {kind} layer {name}: see `rapid areas list`.", ExitCode.NOT_FOUND)
    day = _day(valid_from, datetime.now(UTC), policy)
    layer = AreaLayer(kind=kind, name=name, valid_from=midnight(day, policy), source="ended", boundaries=())
    done = run(_put_in_force(layer, _why(why, "ended")))
    print(f"{name} ends on {day}." if done.new else f"{name} ends on {day} already.")


@app.command()
def retriage(
    since: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    until: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day.")],
    *, as_of: AsOf = None, why: Why = "", dry_run: DryRun = False,
    wait_s: Annotated[float, typer.Option("--wait", min=0, max=3600, help="Seconds to wait for the workers.")] = 60.0,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Have incidents of some days decided again by the boundaries in force, those of each incident's own time; with
    --as-of, by those of that day, which then holds for these days.

    Shows first what would be placed or decided differently. Old decisions stay, and explain themselves with the
    boundaries that they were taken by.
    """
    if until < since:
        raise typer.BadParameter("must not be before --from", param_hint="--to")
    again = run(_retriage(since.date(), until.date(), as_of.date() if as_of else None,
                          None if dry_run else _why(why, "decided again by other boundaries"), wait_s))  # fmt: skip
    if as_json:
        print_json(shown.retriage_as_json(again))
    else:
        shown.print_retriage(again, dry_run=dry_run)


async def _retriage(
    since: date, until: date, as_of: date | None, why: str | None, wait_s: float
) -> shown.Retriaged:
    """`why` is None for a look."""
    settings = Settings()
    there = endpoints(settings) if why is not None else None
    async with database(there.database_url if there else database_url(settings)) as connection:
        policy = await policy_in_force(connection, settings)
        held = await boundaries_in_force(connection, _cache())
        begins, ends = midnight(since, policy), midnight(until + timedelta(days=1), policy)
        reading = Reading(since=begins, until=ends, as_of=midnight(as_of, policy)) if as_of else None
        decided = await standing(connection, begins, ends)
        wanted = held.reading(reading) if reading else held
        found = differing(decided, wanted, policy)
        if there is None or why is None or not found:
            return shown.Retriaged(len(decided), found, policy, None)
        if reading:
            held = await _read_as_of(connection, reading, why)
        ids = [one.incident_id for one in found]
        waiting = await have_decided_again(connection, there, ids, held.revision, wait_s)
        return shown.Retriaged(len(decided), found, policy, len(waiting))


async def _read_as_of(connection: Connection, reading: Reading, why: str) -> Boundaries:
    def with_reading(content: AreaSet) -> AreaSet:
        return content.model_copy(update={"readings": (*content.readings, reading)})

    await change_set(connection, with_reading, actor(), why)
    return await boundaries_in_force(connection, _cache())
