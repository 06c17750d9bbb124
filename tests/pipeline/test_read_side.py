"""What people look up: lists and their filters, the story of each id, decisions taken again."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from connectors.geography.areas import Areas
from connectors.postgres.policies import keep_policy
from connectors.postgres.readmodels import IncidentFilter, OrderFilter, every_decision
from infra import views
from infra.cli.errors import ExitCode, Oops
from infra.cli.main import app
from infra.cli.replay_decisions import replay_all
from schemas.base import Point
from schemas.incident import IncidentReport, Validity, incident_id_of
from schemas.issue import IssueReport, RequestStatus, issue_id_of
from schemas.policy import Policy
from tests.pipeline.stream import Stream

NIGHT = datetime(2026, 7, 4, 3, 12, tzinfo=UTC)
ENGLEWOOD = Point(lat=41.7791, lon=-87.6445)
NEXT_DOOR = Point(lat=41.7793, lon=-87.6446)
AUSTIN = Point(lat=41.8950, lon=-87.7650)
DOWNTOWN = Point(lat=41.8819, lon=-87.6278)


def shooting(number: str, point: Point | None = ENGLEWOOD, **more: Any) -> IncidentReport:
    said: dict[str, Any] = {
        "source": "cpd", "report_id": f"SHOOT-{number}-#1", "incident_number": number, "occurred_at": NIGHT,
        "revised_at": NIGHT + timedelta(hours=1), "event": "assault", "gunshot_injury": True,
        "block": "700 W MADE UP ST", "point": point,
    }  # fmt: skip
    return IncidentReport(**said | more)


def unfounded(number: str, point: Point) -> IncidentReport:
    gone: Validity = "unfounded"
    return shooting(number, point, validity=gone, revised_at=NIGHT + timedelta(days=2))


def request(
    number: str, point: Point | None = NEXT_DOOR, status: RequestStatus = "open", **more: Any
) -> IssueReport:
    said: dict[str, Any] = {
        "source": "311", "request_number": number, "category": "street_light", "status": status,
        "created_at": NIGHT - timedelta(days=3), "revised_at": NIGHT - timedelta(days=3),
        "address": "710 W MADE UP ST", "point": point,
    }  # fmt: skip
    return IssueReport(**said | more)


REPORTS = (
    shooting("ZZ1"),
    shooting("ZZ2", AUSTIN, block="100 N OTHER AVE"),
    unfounded("ZZ2", AUSTIN),
    shooting("ZZ3", gunshot_injury=False),
    request("SR26-1"),
    request("SR26-2", duplicate=True, parent_number="SR26-1"),
    request("SR26-3", DOWNTOWN, address="1 N MADE UP ST"),
    request("SR26-4", None),
    request("SR26-5", status="completed", address="712 W MADE UP ST"),
)


@pytest.fixture
async def lived(connection: Any, policy: Policy, areas: Areas) -> Any:
    """A database in which all of REPORTS has been handled: one order to fix, inspections, some cancelled."""
    await keep_policy(connection, policy)
    await Stream(connection, policy, areas).feed(REPORTS)
    return connection


async def rapid(database_url: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    """The command line against this database, beside our own event loop."""
    monkeypatch.setenv("RAPID_DATABASE_URL", database_url)
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))


async def told(connection: Any, name: str) -> list[dict[str, Any]]:
    steps = await views.explain(connection, name)
    assert steps is not None
    return steps


async def because(connection: Any, name: str) -> str:
    """What came of it."""
    last = (await told(connection, name))[-1]
    assert last["step"] == "outcome"
    text: str = last["because"]
    return text


async def one_fix(connection: Any) -> views.Value:
    (order,) = await views.list_orders(connection, OrderFilter(work="fix", limit=10))
    return order


# --- explain --------------------------------------------------------------------------------------------


async def test_a_story_has_every_step_in_the_order_of_the_stream(lived: Any) -> None:
    steps = await told(lived, "ZZ1")
    kinds = list(dict.fromkeys(step["step"] for step in steps))
    assert kinds == ["report", "incident", "issue", "triage", "response", "cause", "order", "outcome"]
    decided = [step for step in steps if step["step"] not in ("report", "outcome")]
    assert all(step["rule"] and step["in_words"] and step["policy_version"] for step in decided)


async def test_an_incident_an_issue_an_order_and_a_cause_tell_of_the_same_order(lived: Any) -> None:
    order = await one_fix(lived)
    shown = await views.show_order(lived, order["reference"])
    assert shown is not None
    (cause,) = shown["causes"]
    names = (
        "ZZ1", str(incident_id_of("ZZ1")), "SR26-1", "sr26-1", str(issue_id_of("311", "SR26-1")),
        order["reference"], order["reference"].lower(), order["order_id"], cause["cause_id"],
    )  # fmt: skip
    for name in names:
        orders = [step for step in await told(lived, name) if step["step"] == "order"]
        assert order["order_id"] in [step["subject"] for step in orders], name


async def test_a_duplicate_tells_the_story_of_its_parent(lived: Any) -> None:
    steps = await told(lived, "SR26-2")
    assert [step["rule"] for step in steps if step["step"] == "issue"].count("folded_into_parent") == 1
    assert len([step for step in steps if step["step"] == "report" and step["subject"] == "SR26-2"]) == 1
    assert (await one_fix(lived))["reference"] in steps[-1]["because"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ZZ3", "No gunshot injury and no gunfire is reported"),
        ("SR26-3", "No response had request SR26-3 in its zone"),
        ("SR26-4", "has no coordinates"),
        ("SR26-5", "was never known to be open"),
    ],
)
async def test_where_nothing_was_opened_it_says_why(lived: Any, name: str, reason: str) -> None:
    said = await because(lived, name)
    assert said.startswith("No order was opened.")
    assert reason in said


async def test_what_was_opened_and_cancelled_is_told(lived: Any) -> None:
    assert "were cancelled" in await because(lived, "ZZ2")
    standings = {step["rule"] for step in await told(lived, "ZZ2") if step["step"] == "cause"}
    assert standings == {"standing_inspection:withdrawn"}


# --- lists and details ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (OrderFilter(), {"new", "cancelled"}),
        (OrderFilter(state="new"), {"new"}),
        (OrderFilter(state="cancelled"), {"cancelled"}),
        (OrderFilter(state="void"), set()),
        (OrderFilter(area=68), {"new"}),
        (OrderFilter(area=25), {"cancelled"}),
        (OrderFilter(area=1), set()),
        (OrderFilter(department="cdot", work="fix"), {"new"}),
        (OrderFilter(department="dob", work="fix"), set()),
        (OrderFilter(category="viaduct_light"), set()),
    ],
)
async def test_orders_are_filtered(lived: Any, wanted: OrderFilter, expected: set[str]) -> None:
    assert {order["state"] for order in await views.list_orders(lived, wanted)} == expected


async def test_a_void_order_is_listed_only_when_it_is_asked_for(lived: Any) -> None:
    everything = await views.list_orders(lived, OrderFilter(state="all"))
    await lived.execute(
        "UPDATE work_orders SET state = 'void' WHERE reference = $1", everything[0]["reference"]
    )
    assert len(await views.list_orders(lived, OrderFilter())) == len(everything) - 1
    assert len(await views.list_orders(lived, OrderFilter(state="void"))) == 1
    assert len(await views.list_orders(lived, OrderFilter(state="all"))) == len(everything)


async def test_counts_add_up_whatever_they_are_by(lived: Any) -> None:
    orders = await views.list_orders(lived, OrderFilter())
    for rows in (
        await views.summarize_orders(lived, "department"),
        await views.summarize_orders(lived, "category"),
        await views.summarize_orders(lived, "area"),
    ):
        assert sum(row["orders"] for row in rows) == len(orders)
        assert sum(row["fix"] for row in rows) == 1


async def test_an_order_shows_its_causes_and_nothing_of_them_to_its_department(lived: Any) -> None:
    order = await views.show_order(lived, (await one_fix(lived))["reference"])
    assert order is not None
    (cause,) = order["causes"]
    assert (cause["incident_number"], cause["request_number"]) == ("ZZ1", "SR26-1")
    assert order["covers"] == ["SR26-1", "SR26-2"]
    seen = json.dumps(order["department_sees"])
    assert "SR26-1" in seen
    assert "ZZ1" not in seen
    assert cause["incident_id"] not in seen


async def test_a_department_that_was_never_told_of_an_order_sees_nothing(lived: Any) -> None:
    order = await one_fix(lived)
    await lived.execute("UPDATE work_orders SET told = 0, department_body = NULL")
    shown = await views.show_order(lived, order["reference"])
    assert shown is not None
    assert shown["department_sees"] is None


async def test_incidents_are_filtered(lived: Any) -> None:
    async def numbers(wanted: IncidentFilter) -> set[str]:
        return {incident["number"] for incident in await views.list_incidents(lived, wanted)}

    assert await numbers(IncidentFilter()) == {"ZZ1", "ZZ2", "ZZ3"}
    assert await numbers(IncidentFilter(area=68)) == {"ZZ1", "ZZ3"}
    assert await numbers(IncidentFilter(kind="not_gun_violence")) == {"ZZ3"}
    assert await numbers(IncidentFilter(validity="unfounded")) == {"ZZ2"}


async def test_an_incident_shows_its_phases_its_response_and_its_orders(lived: Any) -> None:
    incident = await views.show_incident(lived, "zz2")
    assert incident is not None
    assert [phase["validity"] for phase in incident["phases"]] == ["valid", "unfounded"]
    assert incident["response"]["status"] == "ended"
    assert {order["state"] for order in incident["orders"]} == {"cancelled"}


# --- decisions taken again ------------------------------------------------------------------------------


async def test_every_recorded_decision_is_taken_again_and_is_the_same(lived: Any) -> None:
    replayed = await replay_all(lived)
    assert sum(replayed.decisions.values()) == await lived.fetchval("SELECT count(*) FROM decisions")
    assert replayed.differences == []


@pytest.mark.parametrize("stage", ["intake.incident", "intake.issue", "triage", "dispatch", "orders"])
@pytest.mark.parametrize("column", ["output", "inputs", "because", "rule", "policy_version"])
async def test_one_changed_byte_is_found(lived: Any, stage: str, column: str) -> None:
    changed = await lived.fetchrow(
        f"UPDATE decisions SET {column} = overlay({column} placing '~' from length({column}) - 2 for 1)"
        " WHERE (stage, subject, version) ="
        " (SELECT stage, subject, version FROM decisions WHERE stage = $1 ORDER BY 2, 3 LIMIT 1)"
        " RETURNING stage, subject, version",
        stage,
    )
    (found,) = (await replay_all(lived)).differences
    assert found[:3] == tuple(changed)
    assert found.field == column


async def test_a_decision_of_an_unknown_stage_is_a_difference(lived: Any) -> None:
    await lived.execute("UPDATE decisions SET stage = 'triagf' WHERE stage = 'triage'")
    assert {one.field for one in (await replay_all(lived)).differences} == {"stage"}


async def test_every_page_is_read(lived: Any) -> None:
    in_one = [one async for page in every_decision(lived, "orders") for one in page]
    by_one = [one async for page in every_decision(lived, "orders", rows=1) for one in page]
    assert in_one == by_one != []


# --- the command line -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["orders", "show", "WO-NONE"], "There is no order WO-NONE: see `rapid orders list`."),
        (["incidents", "show", "NONE"], "There is no incident NONE: see `rapid incidents list`."),
        (["explain", "NONE"],
         "Nothing has the number or id NONE: see `rapid incidents list` and `rapid orders list`."),
        (["orders", "list", "--area", "Narnia"],
         "There is no area Narnia: give the number or the name of a community area."),
    ],
)  # fmt: skip
async def test_what_is_not_there_is_told_in_one_sentence(
    lived: Any, database_url: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    result = await rapid(database_url, monkeypatch, *arguments)
    assert isinstance(result.exception, Oops)
    assert (str(result.exception), result.exception.exit_code) == (sentence, ExitCode.NOT_FOUND)


async def test_commands_print_for_people_and_for_programs(
    lived: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = (await one_fix(lived))["reference"]
    for arguments in (
        ["orders", "list", "--area", "englewood", "--department", "cdot", "--category", "street_light"],
        ["orders", "show", reference],
        ["orders", "summary", "--by", "area"],
        ["incidents", "list"],
        ["incidents", "show", "ZZ1"],
        ["explain", "ZZ1"],
        ["replay-decisions"],
    ):
        people = await rapid(database_url, monkeypatch, *arguments)
        programs = await rapid(database_url, monkeypatch, *arguments, "--json")
        assert (people.exit_code, programs.exit_code) == (0, 0), arguments
        assert people.stdout.strip()
        assert json.loads(programs.stdout)


async def test_a_difference_is_exit_code_one(
    lived: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lived.execute("UPDATE decisions SET because = because || '[/]' WHERE stage = 'triage'")
    result = await rapid(database_url, monkeypatch, "replay-decisions", "--stage", "triage")
    assert result.exit_code == ExitCode.FAILED
    assert "[/]" in result.stdout
    assert (await rapid(database_url, monkeypatch, "replay-decisions", "--stage", "orders")).exit_code == 0


async def test_markup_and_control_characters_from_outside_are_shown_as_they_are(
    connection: Any, policy: Policy, areas: Areas, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep_policy(connection, policy)
    await Stream(connection, policy, areas).feed([shooting("ZZ9", block="[/]\x1b[31m 1 ST")])
    for arguments in (
        ["incidents", "list"],
        ["incidents", "show", "ZZ9"],
        ["explain", "ZZ9"],
        ["orders", "list"],
    ):
        result = await rapid(database_url, monkeypatch, *arguments)
        assert result.exit_code == 0, arguments
        assert "\x1b[31m" not in result.stdout
