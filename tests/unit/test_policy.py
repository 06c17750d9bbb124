"""The shipped policy says what the domain says, and its look-ups find it."""

import csv
from importlib.resources import files

import pytest

from infra.policy.load import load_policy
from schemas.policy import Category, Policy, Route

PRIORITY_AREAS = {
    "Auburn Gresham": 71,
    "Austin": 25,
    "Chicago Lawn": 66,
    "East Garfield Park": 27,
    "Englewood": 68,
    "Greater Grand Crossing": 69,
    "Humboldt Park": 23,
    "New City": 61,
    "North Lawndale": 29,
    "Roseland": 49,
    "South Lawndale": 30,
    "South Shore": 43,
    "West Englewood": 67,
    "West Garfield Park": 26,
    "West Pullman": 53,
}
POLICY = load_policy()


def code(category: Category | None) -> str | None:
    return category.code if category else None


def test_all_77_areas_are_there_under_their_published_names() -> None:
    csv.field_size_limit(10**8)
    with (files("chicago") / "data" / "CommAreas.csv").open() as stream:
        published = {int(row["AREA_NUMBE"]): row["COMMUNITY"] for row in csv.DictReader(stream)}
    assert sorted(area.number for area in POLICY.areas) == list(range(1, 78))
    found = {number: POLICY.area_by_name(name) for number, name in published.items()}
    assert found == {number: POLICY.area(number) for number in range(1, 78)}


def test_exactly_the_15_areas_have_priority() -> None:
    assert {area.name: area.number for area in POLICY.areas if area.tier == "priority"} == PRIORITY_AREAS


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("OHARE", 76),
        ("O'HARE", 76),
        ("O’Hare", 76),
        ("MCKINLEY PARK", 59),
        ("Mc Kinley  Park ", 59),
        ("LOOP", 32),
        ("The Loop", 32),
        ("LAKEVIEW", 6),
        ("Mt. Greenwood", 74),
        ("MONTCLARE", 18),
    ],
)
def test_an_area_is_found_however_its_name_is_written(name: str, number: int) -> None:
    area = POLICY.area_by_name(name)
    assert area is not None
    assert area.number == number


@pytest.mark.parametrize("name", ["", "THE", "???", "GOTHAM", "PARK"])
def test_another_name_is_no_area(name: str) -> None:
    assert POLICY.area_by_name(name) is None


def test_tiers_of_areas_and_of_places_outside() -> None:
    assert [POLICY.tier_of(area) for area in (71, 1, None, 99)] == [
        "priority",
        POLICY.default_tier,
        POLICY.outside_tier,
        POLICY.outside_tier,
    ]


@pytest.mark.parametrize("kind", ["fatal_shooting", "nonfatal_shooting", "gunfire", "homicide_cause_unknown"])
def test_every_kind_has_a_plan_in_every_tier_and_a_larger_one_in_the_priority_areas(kind: str) -> None:
    priority, standard = (POLICY.plan_for(kind, tier) for tier in ("priority", "standard"))  # type: ignore[arg-type]
    assert priority is not None
    assert standard is not None
    assert set(priority.fixes) >= set(standard.fixes)
    assert set(priority.inspections) >= set(standard.inspections)
    assert (priority.radius_m, priority.window_days) >= (standard.radius_m, standard.window_days)
    assert (priority.radius_m, priority.fixes, priority.inspections) != (
        standard.radius_m,
        standard.fixes,
        standard.inspections,
    )


def test_what_is_no_gun_violence_has_no_plan() -> None:
    assert [POLICY.plan_for("not_gun_violence", tier) for tier in ("priority", "standard", "x")] == [None] * 3


def test_every_category_is_owned() -> None:
    assert {c.code: POLICY.route(c.code, "fix", 1).department for c in POLICY.categories} == {
        "street_light": "cdot",
        "alley_light": "cdot",
        "viaduct_light": "cdot",
        "graffiti": "dss",
        "vacant_lot": "dss",
        "abandoned_building": "dob",
    }


@pytest.mark.parametrize(
    ("sr_code", "type_name", "category"),
    [
        ("SFD", "Street Light Out Complaint", "street_light"),
        ("sfk", None, "street_light"),
        (None, "street light  pole damage COMPLAINT", "street_light"),
        (None, "Street Lights - All/Out", "street_light"),
        ("SFA", None, "alley_light"),
        ("SFC", None, "viaduct_light"),
        ("GRAF", "anything", "graffiti"),
        (None, "Graffiti Removal", "graffiti"),
        ("SCT", None, "vacant_lot"),
        ("SCP", None, "vacant_lot"),
        ("BBK", None, "abandoned_building"),
        ("new code", "Alley Light Out Complaint", "alley_light"),
        ("SDO", "Ice and Snow Removal Request", None),
        (None, None, None),
        ("", "", None),
    ],
)
def test_a_request_is_placed_by_its_code_then_by_its_type(
    sr_code: str | None, type_name: str | None, category: str | None
) -> None:
    assert code(POLICY.category_of_sr(sr_code, type_name)) == category


def test_an_open311_code_has_a_category() -> None:
    assert code(POLICY.category_of_open311("4fd3b167e750846744000005")) == "graffiti"
    assert POLICY.category_of_open311("x") is None


def test_departments_are_found_as_city_data_writes_them() -> None:
    names = ("CDOT - Department of Transportation", "STREETS AND SANITATION", "DOB - Buildings", "Aviation")
    found = [POLICY.department_of_source(name) for name in names]
    assert [department.code if department else None for department in found] == ["cdot", "dss", "dob", None]
    assert POLICY.department("cscc") is not None


@pytest.mark.parametrize(
    ("severity", "priority"),
    [
        (-1, "routine"),
        (0, "routine"),
        (39, "routine"),
        (40, "high"),
        (69, "high"),
        (70, "urgent"),
        (999, "urgent"),
    ],
)
def test_a_priority_holds_from_its_step_on(severity: int, priority: str) -> None:
    assert POLICY.priority_of(severity) == priority


def with_routes(*routes: Route, **update: object) -> Policy:
    return POLICY.model_copy(update={"routes": routes, **update})


def test_the_first_rule_that_matches_decides_then_the_owner_then_the_triage_queue() -> None:
    policy = with_routes(
        Route(
            name="lots_of_pullman",
            categories=("vacant_lot",),
            works=("inspect",),
            areas=(53,),
            department="dob",
        ),
        Route(name="all_of_pullman", areas=(53,), department="cscc"),
        Route(name="too_late", categories=("vacant_lot",), areas=(53,), department="cdot"),
    )
    assert policy.route("vacant_lot", "inspect", 53) == ("dob", "lots_of_pullman")
    assert policy.route("vacant_lot", "fix", 53) == ("cscc", "all_of_pullman")
    assert policy.route("vacant_lot", "fix", 1) == ("dss", "owner_of_category")
    assert policy.route("vacant_lot", "fix", None) == ("dss", "owner_of_category")


def test_work_that_nobody_owns_goes_to_the_triage_queue() -> None:
    ownerless = tuple(c.model_copy(update={"department": None}) for c in POLICY.categories)
    policy = POLICY.model_copy(update={"categories": ownerless})
    assert policy.route("graffiti", "fix", 1) == ("cscc", "nobody_owns_it")
    assert POLICY.route("unheard_of", "fix", 1) == ("cscc", "nobody_owns_it")


def test_a_copy_with_another_content_answers_by_that_content() -> None:
    assert POLICY.plan_for("gunfire", "priority") is not None
    assert POLICY.model_copy(update={"plans": ()}).plan_for("gunfire", "priority") is None


def test_a_policy_survives_its_json() -> None:
    assert Policy.model_validate_json(POLICY.model_dump_json()) == POLICY


def test_codes_in_scope_are_those_that_name_a_firearm_or_a_murder() -> None:
    assert POLICY.event_kinds["0110"] == "homicide"
    assert POLICY.event_kinds["041A"] == "assault"
    assert POLICY.event_kinds["031A"] == "robbery"
    assert POLICY.event_kinds["0261"] == "sexual_assault"
    assert POLICY.event_kinds["1477"] == "gunfire"
    assert "0460" not in POLICY.event_kinds  # simple battery
    assert "143A" not in POLICY.event_kinds  # possession of a handgun


def test_figures_say_where_they_come_from() -> None:
    assert [plan.name for plan in POLICY.plans if not plan.source] == []
    assert [step.priority for step in POLICY.priorities if not step.source] == []
    assert POLICY.severity.source
    assert POLICY.near_repeat.source
