"""Boundaries that change: which ones hold at a time, and what a place within a tiered area is told as."""

from datetime import UTC, datetime, timedelta

import pytest
import shapely
from shapely.geometry import Polygon, box

from connectors.geography.areas import Areas
from connectors.geography.boundaries import Boundaries, Layer
from schemas.area import AreaKind, AreaLayer, Boundary, Reading
from schemas.base import Point
from schemas.response import Location, TieredArea

JUNE = datetime(2026, 6, 1, tzinfo=UTC)
JULY = datetime(2026, 7, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
MIDDLE = Point(lat=0.5, lon=0.9)
BASE = Areas({7: box(0, 0, 1, 1), 3: box(1, 0, 2, 1)})


def layer(
    version: str, valid_from: datetime, shapes: dict[int, Polygon], kind: AreaKind = "community_area",
    tier: str | None = None, name: str | None = None,
) -> Layer:  # fmt: skip
    content = AreaLayer(
        kind=kind,
        name=name or kind,
        valid_from=valid_from,
        tier=tier,
        source="made up",
        boundaries=tuple(
            Boundary(number=number, name=f"{kind} {number}", shape=shapely.to_wkb(shape, hex=True))
            for number, shape in shapes.items()
        ),
    )
    return Layer(version, content)


def moved(version: str, valid_from: datetime) -> Layer:
    """The border between 7 and 3 is further west."""
    return layer(version, valid_from, {7: box(0, 0, 0.8, 1), 3: box(0.8, 0, 2, 1)})


def blocks(version: str, valid_from: datetime, *, tier: str | None = "priority", name: str = "hot") -> Layer:
    return layer(version, valid_from, {1: box(0.85, 0.4, 0.95, 0.6)}, "block", tier, name)


def at(boundaries: Boundaries, moment: datetime, point: Point | None = MIDDLE) -> Location:
    [location] = boundaries.locate([point], [None], [moment])
    return location


def test_without_a_layer_every_location_is_what_it_was_before_there_were_any() -> None:
    boundaries = Boundaries(BASE)
    assert at(boundaries, JUNE) == BASE.locate([MIDDLE], [None])[0]
    assert "boundaries" not in at(boundaries, JUNE).model_dump_json()
    assert boundaries.revision == 0


def test_an_incident_is_placed_by_the_boundaries_of_its_own_time() -> None:
    boundaries = Boundaries(BASE, [moved("june", JUNE)])
    before, after = at(boundaries, JUNE - TICK), at(boundaries, JUNE)
    assert (before.area, before.boundaries) == (7, None)
    assert (after.area, after.boundaries) == (3, "june")


def test_a_batch_over_several_boundaries_keeps_its_order_and_its_rows_without_points() -> None:
    boundaries = Boundaries(BASE, [moved("june", JUNE), layer("july", JULY, {5: box(0, 0, 2, 1)})])
    times = [JULY, JUNE - DAY, JUNE, JULY + DAY, JUNE]
    found = boundaries.locate([MIDDLE, MIDDLE, MIDDLE, None, MIDDLE], [None, None, None, 5, None], times)
    assert [(one.area, one.boundaries) for one in found] == [
        (5, "july"), (7, None), (3, "june"), (5, "july"), (3, "june"),
    ]  # fmt: skip


def test_a_published_area_counts_only_if_it_existed_at_the_time() -> None:
    boundaries = Boundaries(BASE, [layer("july", JULY, {5: box(0, 0, 2, 1)})])
    found = boundaries.locate([None, None], [5, 5], [JUNE, JULY])
    assert [(one.area, one.rule) for one in found] == [(None, "no_location"), (5, "published_name_decides")]


def test_layers_hold_by_their_date_and_of_one_date_the_later_import() -> None:
    late = Boundaries(BASE, [layer("july", JULY, {5: box(0, 0, 2, 1)}), moved("june", JUNE)])
    assert at(late, JULY).boundaries == "july"
    again = Boundaries(BASE, [moved("first", JUNE), layer("second", JUNE, {5: box(0, 0, 2, 1)})])
    assert at(again, JUNE).boundaries == "second"


def test_a_place_within_a_tiered_area_says_so_from_its_date_on() -> None:
    boundaries = Boundaries(BASE, [blocks("hot-1", JUNE)])
    assert at(boundaries, JUNE - TICK).within == ()
    assert at(boundaries, JUNE).within == (
        TieredArea(number=1, name="block 1", tier="priority", because=None, boundaries="hot-1"),
    )
    assert at(boundaries, JUNE, Point(lat=0.1, lon=0.9)).within == ()
    assert at(boundaries, JUNE, None).within == ()
    assert at(boundaries, JUNE).boundaries is None  # of the community areas


def test_a_layer_without_a_tier_tells_nothing_and_one_of_another_name_stands_beside() -> None:
    plain = Boundaries(BASE, [blocks("plain", JUNE, tier=None)])
    assert at(plain, JUNE).within == ()
    both = Boundaries(BASE, [blocks("hot-1", JUNE), blocks("hot-2", JUNE, name="corridor")])
    assert [one.boundaries for one in at(both, JUNE).within] == ["hot-1", "hot-2"]


def test_an_empty_layer_ends_the_one_before() -> None:
    boundaries = Boundaries(BASE, [blocks("hot-1", JUNE), layer("end", JULY, {}, "block", "priority", "hot")])
    assert [one.boundaries for one in at(boundaries, JULY - TICK).within] == ["hot-1"]
    assert at(boundaries, JULY).within == ()
    assert boundaries.layers_at(JULY) == []


def test_a_reading_places_a_time_by_the_boundaries_of_another_one_and_the_last_reading_holds() -> None:
    reading = Reading(since=JUNE - DAY, until=JUNE, as_of=JUNE)
    boundaries = Boundaries(BASE, [moved("june", JUNE)], [reading])
    assert [at(boundaries, JUNE - age).area for age in (2 * DAY, DAY, TICK)] == [7, 3, 3]
    undone = Reading(since=JUNE - DAY, until=JUNE, as_of=JUNE - DAY)
    assert at(Boundaries(BASE, [moved("june", JUNE)], [reading, undone]), JUNE - TICK).area == 7


def test_lists_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="1 points, 1 published areas, 0 times"):
        Boundaries(BASE, [moved("june", JUNE)]).locate([MIDDLE], [None], [])
