"""`rapid areas` as a person or a script has it, on a real database."""

import csv
import io
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import shapely
from shapely.geometry import Point as Spot

from agents.app import geography_of
from connectors.geography.areas import Areas
from connectors.geography.boundaries import Boundaries
from connectors.postgres.areas import version_in_force
from connectors.postgres.pool import create_pool
from infra.cli.errors import ExitCode
from infra.settings import Settings
from schemas.base import Point
from schemas.policy import Policy
from tests.areas.made_files import BOWTIE, city_export, geojson, square
from tests.areas.test_hot_blocks import MADE_UP
from tests.areas.test_in_force import CHATHAM, ENGLEWOOD, WEST_ENGLEWOOD, shooting
from tests.commands import Rapid
from tests.pipeline.stream import Stream


@pytest.fixture
def rapid(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rapid:
    for name in [name for name in os.environ if name.startswith("RAPID_")]:
        monkeypatch.delenv(name)
    return Rapid(
        "areas", {"RAPID_HOME": str(tmp_path / "home"), "RAPID_DATABASE_URL": database_url, "COLUMNS": "200"}
    )


@pytest.fixture
def export(tmp_path: Path, areas: Areas) -> Path:
    """The City's file, in which West Englewood has taken most of Englewood."""
    rest = Spot(-87.6382, 41.7750).buffer(0.0005)
    path = tmp_path / "Boundaries - Community Areas.geojson"
    path.write_text(
        city_export(
            areas,
            {
                ENGLEWOOD: areas.shapes[ENGLEWOOD].intersection(rest),
                WEST_ENGLEWOOD: areas.shapes[WEST_ENGLEWOOD].union(areas.shapes[ENGLEWOOD].difference(rest)),
            },
        )
    )
    return path


async def test_the_citys_file_is_imported_listed_shown_and_asked(
    rapid: Rapid, export: Path, areas: Areas, tmp_path: Path
) -> None:
    looked = await rapid(
        "import", export, "--kind", "community_area", "--valid-from", "2026-01-01", "--dry-run"
    )
    assert looked.returncode == 0
    assert "Boundaries - Community Areas.geojson: 77 features, WGS 84" in looked.stdout
    assert "Nothing was changed." in looked.stdout
    assert await rapid.json("list") == []

    done = await rapid.json("import", export, "--kind", "community_area", "--valid-from", "2026-01-01")
    assert (done["features"], done["valid_from"]) == (77, "2026-01-01T06:00:00+00:00")
    assert done["in_force"]["new"]
    assert not (await rapid.json("import", export, "--kind", "community_area", "--valid-from", "2026-01-01"))[
        "in_force"
    ]["new"]
    [layer] = await rapid.json("list")
    assert (layer["version"], layer["areas"], layer["state"]) == (done["layer"], 77, "holds today")
    [in_force] = await rapid.json("list", "--history")
    assert (in_force["version"], in_force["now"]) == (done["in_force"]["set_version"], "in force")

    place = shapely.point_on_surface(areas.shapes[ENGLEWOOD])
    spot = (f"{place.y + 0.002:.6f}", f"{place.x:.6f}")
    [now], [before] = await rapid.json("at", *spot), await rapid.json("at", *spot, "--as-of", "2025-12-31")
    assert (now["number"], now["boundaries"]) == (WEST_ENGLEWOOD, done["layer"])
    assert (before["number"], before["boundaries"], before["tier"]) == (
        ENGLEWOOD,
        "of the software",
        "priority",
    )

    out = tmp_path / "englewood.geojson"
    [shown] = await rapid.json("show", ENGLEWOOD, "--geojson", out)
    assert (shown["name"], shown["layer"], shown["km2"] < 0.1) == ("Englewood", "community_area", True)
    [feature] = json.loads(out.read_text())["features"]
    assert feature["properties"]["number"] == ENGLEWOOD
    drawn = await rapid("show", ENGLEWOOD, "--as-of", "2025-12-31")
    assert "⣿" in drawn.stdout
    assert len(await rapid.json("list", "--kind", "community_area")) == 77


async def test_nothing_is_imported_of_a_file_with_a_wrong_feature(rapid: Rapid, tmp_path: Path) -> None:
    file = tmp_path / "corridors.geojson"
    file.write_text(geojson([({"name": "Good"}, square(-87.7, 41.8)), ({"name": "Crossed"}, BOWTIE)]))
    refused = await rapid("import", file, "--kind", "custom")
    assert refused.returncode == ExitCode.INVALID
    assert "self-intersection at 41.80500, -87.69500" in refused.stdout
    assert "Nothing was imported." in refused.stdout
    assert await rapid.json("list") == []
    mended = await rapid("import", file, "--kind", "custom", "--mend", "--tier", "priority")
    assert mended.returncode == 0
    assert (
        "Mended Crossed (2), self-intersection at 41.80500, -87.69500: it is 2 polygons that touch or lie apart, "
        "together 0.46 km² now, as much as its outline enclosed before (0.46 km²)."
    ) in " ".join(mended.stdout.split())
    [layer] = await rapid.json("list")
    assert (layer["name"], layer["tier"]) == ("corridors", "priority")
    ended = await rapid("end", "corridors", "--kind", "custom")
    assert ended.returncode == 0
    assert await rapid.json("list", "--kind", "custom") == []
    assert (await rapid("end", "nothing", "--kind", "custom")).returncode == ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["import", "{file}", "--kind", "custom", "--tier", "hottest"], "knows the tiers priority, standard"),
        (["import", "{file}", "--kind", "ward", "--tier", "priority"], "only custom areas and blocks have a tier"),
        (["import", "{file}", "--kind", "parish"], "is not one of"),
        (["import", "{file}", "--kind", "ward", "--valid-from", "tomorrow"], "does not match the format"),
        (["import", "{file}.none", "--kind", "ward"], "cannot be read: No such file or directory"),
        (["show", "78"], "There is no community area 78"),
        (["show", "68", "--geojson", "{file}/x"], "cannot be written: Not a directory"),
        (["activate", "nowhere"], "There are no boundaries nowhere"),
        (["retriage", "--from", "2025-07-04", "--to", "2025-07-03"], "must not be before --from"),
        (["hot-blocks", "--since", "2025-07-04", "--until", "2025-07-04"], "must be after --since"),
        (["hot-blocks", "--since", "2025-07-04", "--in", "hottest"], "`all`, or a tier of the policy"),
        (["hot-blocks", "--since", "2025-07-04", "--activate"], "--activate and --tier go together"),
        (["hot-blocks", "{file}", "--since", "2025-07-04"], "is of no known dataset"),
        (["hot-blocks", "--since", "2025-07-04", "--activate", "--tier", "priority"], "no hot block with coordinates"),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_told_in_a_sentence(
    rapid: Rapid, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    file = tmp_path / "file"
    file.write_text(geojson([({"name": "Good"}, square(-87.7, 41.8))]))
    done = await rapid(*(one.format(file=file) for one in arguments))
    assert done.returncode not in (0, 1)
    assert sentence in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


async def test_a_place_outside_is_told_and_one_with_its_numbers_swapped_too(rapid: Rapid) -> None:
    assert "lies in no area." in (await rapid("at", 41.70, -87.0)).stdout
    assert "did you mean the other way round?" in (await rapid("at", -87.63, 41.88)).stdout


async def test_hot_blocks_as_table_csv_json_and_map(rapid: Rapid, tmp_path: Path) -> None:
    asked = [
        "hot-blocks",
        MADE_UP,
        "--since",
        "2025-01-01",
        "--until",
        "2026-01-01",
        "--in",
        "all",
        "--top",
        "2",
    ]
    table = await rapid(*asked)
    assert "4000 BLOCK W MADE UP ST" in table.stdout
    assert "The 2 asked for end within a tie" in table.stdout
    rows = list(csv.DictReader(io.StringIO((await rapid(*asked, "--csv")).stdout)))
    found = await rapid.json(*asked, "--map", tmp_path / "map.geojson")
    assert [(row["rank"], row["block"], row["incidents"]) for row in rows] == [
        (str(one["rank"]), one["block"], str(one["incidents"])) for one in found["blocks"]
    ]
    assert (found["incidents"], found["tied"], len(found["blocks"])) == (11, 3, 4)
    assert len(json.loads((tmp_path / "map.geojson").read_text())["features"]) == 4
    only = await rapid.json(*asked[:6], "--min", "3")
    assert [one["area"] for one in only["blocks"]] == ["West Garfield Park (26)"]


async def test_active_hot_blocks_are_areas_and_what_they_change_is_shown_before(
    rapid: Rapid, connection: Any, policy: Policy, areas: Areas
) -> None:
    here = shapely.point_on_surface(areas.shapes[CHATHAM])
    at = datetime(2025, 7, 4, 21, 30, tzinfo=UTC)
    await Stream(connection, policy, areas).feed(
        [shooting(areas, number, CHATHAM, at) for number in ("JH1", "JH2", "JH3")]
    )
    done = await rapid.json(
        "hot-blocks", "--since", "2025-07-01", "--until", "2025-08-01", "--in", "all", "--activate", "--tier",
        "priority", "--valid-from", "2025-07-01",
    )  # fmt: skip
    assert done["in_force"]["new"]
    rows = await rapid.json("at", here.y + 0.002, here.x, "--as-of", "2025-07-04")
    assert [(row["kind"], row["tier"]) for row in rows] == [
        ("community_area", "standard"),
        ("block", "priority"),
    ]
    assert rows[1]["because"] == "one of the 1 most violent blocks since 2025-07-01: 3 shootings, rank 1"
    found = await rapid.json("retriage", "--from", "2025-07-04", "--to", "2025-07-04", "--dry-run")
    changed = {one["incident"]: (one["before"]["tier"], one["after"]["tier"]) for one in found["differing"]}
    assert changed == dict.fromkeys(("JH1", "JH2", "JH3"), ("standard", "priority"))
    shown = await rapid("retriage", "--from", "2025-07-04", "--to", "2025-07-04", "--dry-run")
    assert "standard → priority" in shown.stdout
    assert (
        "3 incidents looked at: 3 placed by other boundaries, 3 of them decided differently." in shown.stdout
    )


async def test_a_worker_decides_by_the_version_that_is_in_force(
    rapid: Rapid, export: Path, connection: Any, database_url: str, areas: Areas, tmp_path: Path
) -> None:
    await rapid.json("import", export, "--kind", "community_area", "--valid-from", "2026-01-01")
    settings = Settings(home=tmp_path / "home")
    pool = await create_pool(database_url, min_size=1, max_size=1)
    try:
        found = await geography_of(settings, pool, await version_in_force(connection))
        plain = await geography_of(settings, pool, None)
    finally:
        await pool.close()
    assert isinstance(found, Boundaries)
    assert (found.revision, plain.revision) == (1, 0)
    place = shapely.point_on_surface(areas.shapes[ENGLEWOOD])
    point, at = Point(lat=place.y + 0.002, lon=place.x), datetime(2026, 7, 1, tzinfo=UTC)
    assert [one.locate([point], [None], [at])[0].area for one in (found, plain)] == [
        WEST_ENGLEWOOD,
        ENGLEWOOD,
    ]
