"""The areas that the API tells: by date, each document made once."""

import json
from datetime import UTC, date, datetime, timedelta

import shapely
from shapely.geometry import box

from connectors.geography.areas import Areas
from connectors.geography.boundaries import Boundaries, Layer
from infra.areas.documents import AreasDocument
from infra.serve import areas_document
from schemas.area import AreaKind, AreaLayer, Boundary
from schemas.policy import Policy

BASE = Areas({7: box(-87.7, 41.8, -87.6, 41.9)})
NOW = datetime.now(UTC)


def layer(version: str, kind: AreaKind, valid_from: datetime, tier: str | None = None) -> Layer:
    shape = shapely.to_wkb(box(-87.7, 41.8, -87.65, 41.9), hex=True)
    boundaries = (Boundary(number=7, name="made up", shape=shape),)
    content = AreaLayer(
        kind=kind, name=kind, valid_from=valid_from, tier=tier, source="made up", boundaries=boundaries
    )
    return Layer(version, content)


def width(document: bytes) -> float:
    [feature] = json.loads(document)["features"]
    west, _, east, _ = shapely.geometry.shape(feature["geometry"]).bounds
    return round(float(east - west), 4)


def test_the_areas_of_a_day_are_those_that_were_valid_then(policy: Policy) -> None:
    document = AreasDocument(
        Boundaries(BASE, [layer("june", "community_area", datetime(2026, 6, 1, tzinfo=UTC))]), policy
    )
    assert [width(document(day)) for day in (date(2026, 5, 30), date(2026, 6, 2))] == [0.1, 0.05]
    assert document(date(2026, 6, 2)) is document(date(2026, 6, 3))
    assert document(date.min) == document(date(2026, 5, 30))
    assert document(date.max) == document(date(2026, 6, 2))


def test_today_is_todays_although_nobody_starts_the_api_again(policy: Policy) -> None:
    held = Boundaries(BASE, [layer("past", "community_area", NOW - timedelta(days=2))])
    assert width(areas_document(held, policy)()) == 0.05
    later = Boundaries(BASE, [layer("coming", "community_area", NOW + timedelta(days=2))])
    assert width(areas_document(later, policy)()) == 0.1


def test_hot_blocks_are_never_told(policy: Policy) -> None:
    held = Boundaries(BASE, [layer("hot", "block", NOW - timedelta(days=2), "priority")])
    assert areas_document(held, policy)() == areas_document(BASE, policy)()
