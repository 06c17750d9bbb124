"""Boundaries in force, on a real database: days keep theirs, and decisions those that they were taken by."""

import json
from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import pytest
import shapely
from shapely.geometry import Point as Spot
from shapely.geometry.base import BaseGeometry

from agents.explain import location_in_words
from agents.messages import Outcome
from agents.recount import recounts
from agents.replay import difference
from connectors.geography.areas import Areas
from connectors.geography.boundaries import Boundaries
from connectors.geography.judging import Rules, judge
from connectors.geography.layer_files import read_layer
from connectors.postgres.areas import UnknownBoundaries, boundaries_of, version_in_force
from connectors.postgres.readmodels import history
from infra import views
from infra.areas.activating import change_set, midnight, put_layer_in_force, put_set_in_force
from infra.areas.retriage import Different, differing, standing
from infra.cli.replay_decisions import replay_all
from schemas.area import AreaKind, AreaLayer, AreaSet, Boundary, Reading
from schemas.base import Point
from schemas.decision import DecisionRecord
from schemas.incident import IncidentReport, incident_id_of
from schemas.policy import Policy
from schemas.response import TriageDecision
from tests.areas.made_files import city_export
from tests.final_tables import final_tables
from tests.pipeline.stream import Stream

KEEP_POLICY: Final = "INSERT INTO policies (version, content) VALUES ($1, $2)"
WHO: Final = "cli:somebody"
ENGLEWOOD, WEST_ENGLEWOOD, CHATHAM = 68, 67, 44
DAY: Final = date(2025, 7, 4)
SHOT: Final = datetime(2025, 7, 4, 21, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def moved(areas: Areas) -> dict[int, BaseGeometry]:
    """West Englewood takes the whole of Englewood but a spot."""
    rest = Spot(-87.6382, 41.7750).buffer(0.0005)
    return {
        ENGLEWOOD: areas.shapes[ENGLEWOOD].intersection(rest),
        WEST_ENGLEWOOD: areas.shapes[WEST_ENGLEWOOD].union(areas.shapes[ENGLEWOOD].difference(rest)),
    }


def imported(
    path: Path, areas: Areas, policy: Policy, valid_from: date, moved: dict[int, BaseGeometry]
) -> AreaLayer:
    """What `rapid areas import` makes of the City's export."""
    path.write_text(city_export(areas, moved))
    expected = {area.number: area.name for area in policy.areas}
    judged = judge(read_layer(path), Rules("community_area", policy.city.extent, expected))
    assert judged.errors == ()
    return layer("community_area", policy, valid_from, tuple(judged.boundaries))


def layer(
    kind: AreaKind,
    policy: Policy,
    valid_from: date,
    boundaries: tuple[Boundary, ...],
    tier: str | None = None,
) -> AreaLayer:
    return AreaLayer(
        kind=kind, name=kind, valid_from=midnight(valid_from, policy), tier=tier, source="made up",
        boundaries=boundaries,
    )  # fmt: skip


def shooting(areas: Areas, number: str, area: int, at: datetime, offset: float = 0.002) -> IncidentReport:
    """Somebody was shot near the middle of an area."""
    middle = shapely.point_on_surface(areas.shapes[area])
    return IncidentReport(
        source="cpd", report_id=f"{number}-1", incident_number=number, occurred_at=at, revised_at=at,
        event="assault", gunshot_injury=True, block=f"{len(number)}00 W MADE UP ST",
        point=Point(lat=middle.y + offset, lon=middle.x),
    )  # fmt: skip


async def in_force(connection: Any, areas: Areas) -> Boundaries:
    return await boundaries_of(connection, areas, await version_in_force(connection))


async def decide_again(connection: Any, policy: Policy, held: Boundaries, *found: Different) -> None:
    stream = Stream(connection, policy, held)
    stream._publish(Outcome(events=recounts(one.incident_id for one in found)))
    await stream.drain()


async def decisions_on(connection: Any, number: str) -> list[DecisionRecord]:
    """The oldest first."""
    records = await history(connection, "triage", incident_id_of(number))
    return sorted(records, key=lambda record: record.version)


async def test_a_day_is_decided_again_as_of_another_and_old_decisions_keep_old_boundaries(
    connection: Any, policy: Policy, areas: Areas, moved: dict[int, BaseGeometry], tmp_path: Path
) -> None:
    day_after = SHOT + timedelta(days=1)
    await Stream(connection, policy, areas).feed(
        [shooting(areas, "JH1", ENGLEWOOD, SHOT), shooting(areas, "JH2", CHATHAM, SHOT),
         shooting(areas, "JH3", ENGLEWOOD, day_after)]
    )  # fmt: skip
    new = imported(tmp_path / "areas.geojson", areas, policy, date(2026, 1, 1), moved)
    done = await put_layer_in_force(connection, new, WHO, "a new map")
    held = await in_force(connection, areas)

    # Nothing of that day is placed differently: its boundaries were others.
    begins, ends = midnight(DAY, policy), midnight(DAY + timedelta(days=1), policy)
    decided = await standing(connection, begins, ends)
    assert [one.number for one in decided] == ["JH1", "JH2"]
    assert differing(decided, held, policy) == []

    # As of 2026 both are placed by other boundaries, and one of them elsewhere.
    reading = Reading(since=begins, until=ends, as_of=midnight(date(2026, 1, 1), policy))
    found = differing(decided, held.reading(reading), policy)
    assert [(one.number, one.after.location.area, one.decides) for one in found] == [
        ("JH1", WEST_ENGLEWOOD, True), ("JH2", CHATHAM, False),
    ]  # fmt: skip
    assert {one.after.location.boundaries for one in found} == {done.layer_version}

    await change_set(
        connection, lambda content: content.model_copy(update={"readings": (reading,)}), WHO, "a look back"
    )
    held = await in_force(connection, areas)
    assert held.revision == 2
    await decide_again(connection, policy, held, *found)

    old, latest = await decisions_on(connection, "JH1")
    before, after = (TriageDecision.model_validate_json(one.output) for one in (old, latest))
    assert (before.location.area, after.location.area) == (ENGLEWOOD, WEST_ENGLEWOOD)
    assert latest.version == old.version + 2
    assert (before.location.boundaries, after.location.boundaries) == (None, done.layer_version)
    assert after == found[0].after.model_copy(update={"version": after.version, "response": after.response})
    assert location_in_words(before.location, policy).startswith("Area Englewood (68)")
    assert f"By the boundaries {done.layer_version}." in location_in_words(after.location, policy)
    assert [difference(one, policy) for one in (old, latest)] == [None, None]
    await connection.execute(KEEP_POLICY, policy.version, policy.model_dump_json())
    story = await views.explain(connection, "JH1", earlier=True)
    assert story is not None
    then, now = (step for step in story if step["step"] == "triage")
    assert (then["title"].partition(":")[0], now["title"].partition(":")[0]) == ("Earlier", "Triage")
    assert then["details"][0] == location_in_words(before.location, policy)
    assert now["details"][0] == location_in_words(after.location, policy)
    replayed = await replay_all(connection)
    assert (replayed.differences, replayed.decisions["triage"]) == ([], 5)
    assert len(await decisions_on(connection, "JH3")) == 1

    again = await standing(connection, begins, ends)
    assert differing(again, held, policy) == []  # and once more changes nothing


async def test_an_order_follows_its_incident_into_another_area(
    connection: Any, policy: Policy, areas: Areas, moved: dict[int, BaseGeometry], tmp_path: Path
) -> None:
    await Stream(connection, policy, areas).feed([shooting(areas, "JH1", ENGLEWOOD, SHOT)])
    query = "SELECT DISTINCT area FROM work_orders WHERE state = 'new'"
    assert [row["area"] for row in await connection.fetch(query)] == [ENGLEWOOD]
    new = imported(tmp_path / "areas.geojson", areas, policy, DAY, moved)
    await put_layer_in_force(connection, new, WHO, "a new map")
    held = await in_force(connection, areas)
    decided = await standing(connection, midnight(DAY, policy), midnight(DAY + timedelta(days=1), policy))
    await decide_again(connection, policy, held, *differing(decided, held, policy))
    row = await connection.fetchrow("SELECT area, tier, version FROM responses")
    assert (row["area"], row["tier"]) == (WEST_ENGLEWOOD, "priority")


async def test_with_boundaries_in_force_the_order_of_arrival_does_not_show(
    connection: Any, policy: Policy, areas: Areas, moved: dict[int, BaseGeometry], tmp_path: Path
) -> None:
    new = imported(tmp_path / "areas.geojson", areas, policy, DAY, moved)
    await put_layer_in_force(connection, new, WHO, "a new map")
    held = await in_force(connection, areas)
    reports = [
        shooting(areas, "JH1", ENGLEWOOD, SHOT), shooting(areas, "JH2", ENGLEWOOD, SHOT + timedelta(days=3)),
        shooting(areas, "JH3", ENGLEWOOD, SHOT - timedelta(days=3)),
    ]  # fmt: skip
    tables = []
    for order in permutations(reports):
        outer = connection.transaction()
        await outer.start()
        for report in order:
            await Stream(connection, policy, held, batch=1).feed([report])
        tables.append(await final_tables(connection))
        await outer.rollback()
    assert all(one == tables[0] for one in tables)
    assert {row[5] for row in tables[0]["responses"]} == {ENGLEWOOD, WEST_ENGLEWOOD}


async def test_a_layer_is_kept_once_and_nothing_is_overwritten(
    connection: Any, policy: Policy, areas: Areas, moved: dict[int, BaseGeometry], tmp_path: Path
) -> None:
    first = imported(tmp_path / "a.geojson", areas, policy, DAY, {})
    second = imported(tmp_path / "b.geojson", areas, policy, DAY, moved)
    one = await put_layer_in_force(connection, first, WHO, "first")
    again = await put_layer_in_force(connection, first, WHO, "first, again")
    assert (one.new, again.new, again.layer_version) == (True, False, one.layer_version)
    two = await put_layer_in_force(connection, second, WHO, "second")
    before = await connection.fetch("SELECT * FROM area_layers ORDER BY version")
    back = await put_layer_in_force(connection, first, WHO, "back to the first")
    assert back.new
    assert await connection.fetch("SELECT * FROM area_layers ORDER BY version") == before
    place = shapely.point_on_surface(areas.shapes[ENGLEWOOD])
    point = Point(lat=place.y + 0.002, lon=place.x)
    for version, area in (
        (one.set_version, ENGLEWOOD),
        (two.set_version, WEST_ENGLEWOOD),
        (back.set_version, ENGLEWOOD),
    ):
        held = await boundaries_of(connection, areas, version)
        assert held.locate([point], [None], [SHOT])[0].area == area
    await put_set_in_force(connection, two.set_version, WHO, "the second after all")
    assert (await in_force(connection, areas)).revision == 4
    trail = await connection.fetch(
        "SELECT actor, subject FROM audit WHERE action = 'areas.activate' ORDER BY seq"
    )
    assert [row["subject"] for row in trail] == [
        one.set_version,
        two.set_version,
        back.set_version,
        two.set_version,
    ]


async def test_boundaries_that_nobody_keeps_are_told(connection: Any, areas: Areas) -> None:
    with pytest.raises(UnknownBoundaries, match="There are no boundaries nowhere"):
        await put_set_in_force(connection, "nowhere", WHO, "")
    assert await version_in_force(connection) is None
    assert (await in_force(connection, areas)).revision == 0


async def test_a_tiered_area_raises_what_happens_in_it_from_its_day_on(
    connection: Any, policy: Policy, areas: Areas
) -> None:
    middle = shapely.point_on_surface(areas.shapes[CHATHAM])
    hot = Boundary(
        number=1, name="800 BLOCK E 79TH ST", shape=shapely.to_wkb(middle.buffer(0.003), hex=True),
        because="one of the 2 most violent blocks since 2025-01-01: 4 shootings, rank 1",
    )  # fmt: skip
    await put_layer_in_force(connection, layer("block", policy, DAY, (hot,), "priority"), WHO, "hot blocks")
    held = await in_force(connection, areas)
    stream = Stream(connection, policy, held)
    await stream.feed(
        [shooting(areas, "JH1", CHATHAM, SHOT), shooting(areas, "JH20", CHATHAM, SHOT - timedelta(days=30))]
    )
    [inside], [before] = await decisions_on(connection, "JH1"), await decisions_on(connection, "JH20")
    assert TriageDecision.model_validate_json(before.output).tier == "standard"
    assert TriageDecision.model_validate_json(inside.output).tier == "priority"
    assert (
        "one of the 2 most violent blocks since 2025-01-01: 4 shootings, rank 1 (priority)" in inside.because
    )
    told = [event.value.decode() for event in stream.events if event.topic.startswith("work-orders.")]
    assert told
    assert not any("violent" in one or "BLOCK E 79TH" in one for one in told)


async def test_a_set_of_an_empty_database_is_empty(connection: Any) -> None:
    held = await boundaries_of(connection, Areas({}), None)
    assert held.layers == ()
    assert json.loads(AreaSet().model_dump_json()) == {"layers": [], "readings": []}
