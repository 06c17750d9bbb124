"""Hot blocks: counted as a plain SQL query counts them; ranks, ties, decay; made areas with a tier."""

import csv
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import shapely
from shapely.geometry import Point as Spot

from agents.hotblocks import HotBlocks, Shooting, Window, because, hot_blocks, in_words
from agents.sites import block_of
from connectors.files.errors import FileProblem
from connectors.geography.areas import Areas
from connectors.geography.boundaries import Boundaries
from infra.areas.activating import midnight
from infra.areas.hot import as_layer, of_database, of_file
from schemas.base import Point
from schemas.policy import Policy
from tests.pipeline.stream import Stream

MADE_UP: Final = Path(__file__).parent / "victims_made_up.csv"
SHARED: Final = Path(__file__).parents[3] / "shared" / "data" / "victims_2024-09_2025.csv"

# Cases with somebody shot, by the source's own words for block and area, in the city's own days.
PLAIN: Final = """
SELECT block, community_area, count(DISTINCT case_number) AS cases FROM victims
WHERE gunshot_injury_i = 'YES' AND date >= '2025-01-01' AND date < '2026-01-01' AND block <> ''
GROUP BY block, community_area"""

END: Final = datetime(2026, 1, 1, tzinfo=UTC)
YEAR: Final = Window(datetime(2025, 1, 1, tzinfo=UTC), END, top=3)


def plainly(file: Path, policy: Policy) -> dict[tuple[str, int], int]:
    """(Block, area) -> cases, by SQL; two spellings of one block are one."""
    database = sqlite3.connect(":memory:")
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = [
            (row["CASE_NUMBER"], row["DATE"], row["BLOCK"], row["COMMUNITY_AREA"], row["GUNSHOT_INJURY_I"])
            for row in csv.DictReader(lines)
        ]
    database.execute("CREATE TABLE victims (case_number, date, block, community_area, gunshot_injury_i)")
    database.executemany("INSERT INTO victims VALUES (?, ?, ?, ?, ?)", rows)
    counts: dict[tuple[str, int], int] = {}
    for block, name, cases in database.execute(PLAIN):
        area, spelled = policy.area_by_name(name), block_of(block)
        assert area is not None
        assert spelled is not None
        counts[spelled, area.number] = counts.get((spelled, area.number), 0) + cases
    database.close()
    return counts


def of_2025(file: Path, policy: Policy, city: Areas, **asked: Any) -> HotBlocks:
    window = Window(
        midnight(datetime(2025, 1, 1).date(), policy),  # noqa: DTZ001 - a day, in the city's zone
        midnight(datetime(2026, 1, 1).date(), policy),  # noqa: DTZ001 - the same
        **{"top": 10_000, "least": 1} | asked,
    )
    return hot_blocks(of_file(file, policy, Boundaries(city)).shootings, window)


@pytest.mark.parametrize(
    "file", [MADE_UP, pytest.param(SHARED, marks=pytest.mark.shared)], ids=["made up", "real"]
)
def test_counts_are_those_of_a_plain_query(file: Path, policy: Policy, areas: Areas) -> None:
    if not file.exists():
        pytest.skip(f"REAL DATA NOT TESTED: {file} is absent")
    expected = plainly(file, policy)
    found = of_2025(file, policy, areas)
    assert {(one.block, one.area): one.incidents for one in found.blocks if one.area} == expected
    assert found.incidents - found.unplaced == sum(expected.values())


def test_the_list_of_2025_is_that_of_a_plain_query(policy: Policy, areas: Areas) -> None:
    if not SHARED.exists():
        pytest.skip(f"REAL DATA NOT TESTED: {SHARED} is absent")
    priority = frozenset(area.number for area in policy.areas if area.tier == "priority")
    counts = {place: cases for place, cases in plainly(SHARED, policy).items() if place[1] in priority}
    fifteenth = sorted(counts.values(), reverse=True)[14]
    expected = sorted(((-cases, *place) for place, cases in counts.items() if cases >= fifteenth))
    found = of_2025(SHARED, policy, areas, top=15, areas=priority)
    assert [(-one.incidents, one.block, one.area) for one in found.blocks] == expected
    assert (found.blocks[0].incidents, found.blocks[0].block) == (4, "3100 BLOCK W MADISON ST")
    assert (len(found.blocks), found.tied, found.blocks[-1].rank) == (22, 20, 2)
    assert (
        "The 15 asked for end within a tie: 20 blocks share the count of rank 2, and nothing sets one of them apart, "
        "so all 22 are listed."
    ) in in_words(found)


def test_a_case_counts_once_a_block_in_two_areas_is_two_and_spellings_are_one(
    policy: Policy, areas: Areas
) -> None:
    found = of_2025(MADE_UP, policy, areas, least=2, top=2)
    assert [(one.rank, one.block, one.area, one.incidents) for one in found.blocks] == [
        (1, "4000 BLOCK W MADE UP ST", 26, 3),
        (2, "100 BLOCK N INVENTED AVE", 25, 2),
        (2, "200 BLOCK N FANCIED AVE", 25, 2),
        (2, "900 BLOCK E DREAMT ST", 41, 2),
    ]
    assert (found.incidents, found.places, found.unplaced, found.tied) == (11, 5, 1, 3)
    said = in_words(found)
    assert "The 2 asked for end within a tie: 3 blocks share the count of rank 2" in said
    assert said.endswith("1 has neither a block nor coordinates, and counts nowhere.")


def test_only_the_areas_that_are_asked_for_count(policy: Policy, areas: Areas) -> None:
    found = of_2025(MADE_UP, policy, areas, areas=frozenset({25}))
    assert {one.area for one in found.blocks} == {25}
    assert found.incidents == 5


def shot(
    number: int, days_before: float, block: str | None = "100 N MADE UP ST", point: Point | None = None
) -> Shooting:
    return Shooting(f"JH{number}", END - timedelta(days=days_before), block, 25, point)


def test_with_a_half_life_what_is_recent_weighs_more() -> None:
    old = [shot(number, 180, "100 N OLD ST") for number in range(3)]
    new = [shot(number, 0.001, "100 N NEW ST") for number in range(10, 12)]
    plain = hot_blocks([*old, *new], YEAR)
    decayed = hot_blocks([*old, *new], YEAR._replace(half_life_days=90.0))
    assert [one.block for one in plain.blocks] == ["100 BLOCK N OLD ST", "100 BLOCK N NEW ST"]
    assert [one.block for one in decayed.blocks] == ["100 BLOCK N NEW ST", "100 BLOCK N OLD ST"]
    assert [one.score for one in decayed.blocks] == [pytest.approx(2, abs=1e-4), pytest.approx(0.75)]
    assert [one.incidents for one in decayed.blocks] == [2, 3]


def test_the_window_begins_with_its_first_moment_and_ends_before_its_last() -> None:
    edges = [shot(1, 365), shot(2, 365.0001), shot(3, 0), shot(4, 0.0001)]
    assert hot_blocks(edges, YEAR).incidents == 2


def test_ranks_are_dense_and_the_order_of_the_incidents_does_not_matter() -> None:
    shootings = [
        shot(number, number + 1, f"{100 * block} N MADE UP ST")
        for number, block in enumerate([1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5])
    ]
    window = YEAR._replace(top=10, least=1)
    found = hot_blocks(shootings, window)
    assert [one.rank for one in found.blocks] == [1, 1, 2, 2, 3]
    assert hot_blocks(reversed(shootings), window) == found
    decayed = window._replace(half_life_days=30.0)
    assert hot_blocks(reversed(shootings), decayed) == hot_blocks(shootings, decayed)


def test_what_has_no_block_counts_for_its_cell() -> None:
    here, there = Point(lat=41.88, lon=-87.73), Point(lat=41.80, lon=-87.60)
    found = hot_blocks([shot(1, 1, None, here), shot(2, 2, None, here), shot(3, 3, "nowhere", there)], YEAR)
    [cell] = found.blocks
    assert cell.block.startswith("cell ")
    assert (cell.incidents, cell.points) == (2, (here,))


def test_nothing_in_the_window_is_an_empty_list() -> None:
    found = hot_blocks([], YEAR)
    assert (found.blocks, found.tied) == ([], 0)
    assert in_words(found) == "There was none in this time."


def test_blocks_become_areas_around_their_incidents_and_say_what_sets_them_apart(
    policy: Policy, areas: Areas
) -> None:
    found = of_2025(MADE_UP, policy, areas, least=3, top=5)
    layer = as_layer(found, "hot-blocks", "priority", END, "made up")
    [boundary] = layer.boundaries
    assert (layer.kind, layer.tier, boundary.number, boundary.name) == (
        "block",
        "priority",
        1,
        "4000 BLOCK W MADE UP ST",
    )
    assert boundary.because == "one of the 1 most violent blocks since 2025-01-01: 3 shootings, rank 1"
    shape = shapely.from_wkb(boundary.shape)
    assert all(shape.contains(Spot(point.lon, point.lat)) for point in found.blocks[0].points)
    assert shape.contains(Spot(-87.7270, 41.8804 + 50 / 111_000))
    assert not shape.contains(Spot(-87.7270, 41.8804 + 75 / 111_000))
    assert because(found.blocks[0], found) == boundary.because


async def test_the_incidents_that_we_hold_give_the_list_of_their_file(
    connection: Any, policy: Policy, areas: Areas
) -> None:
    from connectors.files.datasets import read_row, recognise
    from connectors.files.reading import Reading
    from connectors.files.rows import rows_of

    source = recognise(MADE_UP)
    reports: list[Any] = [
        read_row(source, row, Reading.by(policy)) for row in rows_of(MADE_UP, source.dataset.columns)
    ]
    await Stream(connection, policy, areas).feed(reports)
    of_the_file = of_2025(MADE_UP, policy, areas)
    window = of_the_file.window
    held = Boundaries(areas)
    assert (
        hot_blocks(await of_database(connection, window.since, window.until, policy, held), window)
        == of_the_file
    )


def test_a_file_of_something_else_is_refused(tmp_path: Path, policy: Policy, areas: Areas) -> None:
    file = tmp_path / "requests.csv"
    file.write_text("SR_NUMBER,SR_TYPE,STATUS,CREATED_DATE\nSR1,Graffiti,Open,2025-01-01\n")
    with pytest.raises(FileProblem, match="expected victims, crimes or alerts"):
        of_file(file, policy, Boundaries(areas))
