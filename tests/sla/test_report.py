"""`rapid sla report` on a real database."""

import asyncio
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agents.sla.report import Period
from connectors.postgres.policies import keep_policy
from infra.cli.errors import Oops
from infra.cli.sla import app
from infra.cli.sla_report import counted
from schemas.policy import Policy
from schemas.promise import Failure
from schemas.sla import ClockEvent, Held, Renewed, Resolved, Resumed
from tests.sla.made_up import clock_of, keep, keep_order, keep_rejection, order_of
from tests.unit.sla_samples import at

HOUR = timedelta(hours=1)
OPENED = at("2026-03-10 15:00")  # a Tuesday; high: acknowledged in 4 h, resolved in 48 h around the clock
LATE, IN_TIME = Resolved(at=OPENED + 50 * HOUR), Resolved(at=OPENED + 40 * HOUR)


async def rapid_sla(database_url: str, *arguments: str) -> Result:
    environment = {"RAPID_DATABASE_URL": database_url, "COLUMNS": "200"}
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment)


async def report(database_url: str, *arguments: str) -> Any:
    result = await rapid_sla(database_url, "report", "--json", *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


async def add(connection: Any, policy: Policy, number: int, *events: ClockEvent, **order: Any) -> None:
    made = order_of(number, OPENED, policy, **order)
    await keep(connection, made, [clock_of(made, "resolve", policy, *events)])


def figures(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        row[name] for name in ("group", "clock", "kept", "late", "open_late", "open_in_time", "on_hold")
    )


async def test_counts_shares_holds_and_names(connection: Any, database_url: str, policy: Policy) -> None:
    await keep_policy(connection, policy)
    for number in range(9):
        await add(connection, policy, number, IN_TIME)
    await add(connection, policy, 9, LATE)
    await add(connection, policy, 10, Held(at=OPENED + HOUR, reason="weather"))
    await add(connection, policy, 11, department="dsd", area=None)
    found = await report(database_url)
    assert [figures(row) for row in found["rows"]] == [
        ("cdot", "resolve", 9, 1, 0, 0, 1),
        ("dsd", "resolve", 0, 0, 1, 0, 0),
    ]
    cdot, dsd = found["rows"]
    assert (cdot["judged"], cdot["share_kept"], cdot["share_low"], cdot["share_high"]) == (
        10,
        0.9,
        0.5958,
        0.9821,
    )
    assert (dsd["judged"], dsd["share_kept"], dsd["share_high"]) == (1, None, 0.7935)
    assert cdot["name"].startswith("Chicago Department of Transportation")
    [held] = found["holds"]
    assert (held["reason"], held["holds"], held["still_on_hold"]) == ("weather", 1, 1)
    assert held["on_hold_working_s"] == pytest.approx(held["on_hold_elapsed_s"])  # around the clock
    [total] = found["totals"]
    assert (total["kept"], total["judged"]) == (9, 11)
    assert [row["group"] for row in (await report(database_url, "--by", "area"))["rows"]] == [None, "25"]


async def test_what_was_late_before_a_department_rejected_it_is_that_departments(
    connection: Any, database_url: str, policy: Policy
) -> None:
    left = OPENED + 60 * HOUR
    order = order_of(1, OPENED, policy, department="dsd")
    clock = clock_of(order, "resolve", policy, Renewed(at=left), Resolved(at=left + HOUR))
    await keep(connection, order, [clock])
    await keep_rejection(connection, order, "cdot", left)
    found = await report(database_url)
    assert [figures(row) for row in found["rows"]] == [
        ("cdot", "resolve", 0, 1, 0, 0, 0),
        ("dsd", "resolve", 1, 0, 0, 0, 0),
    ]
    assert [figures(row)[2:4] for row in (await report(database_url, "--by", "category"))["rows"]] == [(1, 1)]


async def test_orders_without_a_clock_are_named_and_void_ones_are_no_orders(
    connection: Any, database_url: str, policy: Policy
) -> None:
    broken, old, void = (order_of(number, OPENED, policy) for number in range(3))
    await keep(connection, broken, [], (Failure(clock="resolve", because="The holidays end on 2026-01-01."),))
    await keep_order(connection, old)
    await keep_order(connection, void.model_copy(update={"state": "void"}))
    found = await report(database_url)
    assert (found["orders"], found["orders_without_promise"]) == (2, 1)
    assert found["without_clock"] == [
        {"reference": broken.reference, "department": "cdot", "clock": "resolve",
         "because": "The holidays end on 2026-01-01."}
    ]  # fmt: skip
    [row] = found["rows"]
    assert (row["no_clock"], row["judged"]) == (1, 0)
    shown = (await rapid_sla(database_url, "report")).stdout
    assert broken.reference in shown
    assert "1 of 2 orders has no promise; 1 promise has no due time: mend the calendar" in shown
    printed = await rapid_sla(database_url, "report", "--csv")
    assert "1 promise has no due time" in printed.stderr


async def test_csv_has_a_line_for_each_group_and_clock(
    connection: Any, database_url: str, policy: Policy
) -> None:
    await keep_policy(connection, policy)
    await add(connection, policy, 1, Held(at=OPENED, reason="weather"), Resumed(at=OPENED + HOUR), IN_TIME)
    await add(connection, policy, 2, LATE, category="graffiti", priority="routine")
    printed = (await rapid_sla(database_url, "report", "--csv", "--by", "category")).stdout
    graffiti, light = csv.DictReader(io.StringIO(printed))
    assert (graffiti["category"], graffiti["kept"], graffiti["holds"]) == ("graffiti", "1", "0")
    assert (light["category"], light["kept"], light["on_hold_working_s"]) == ("street_light", "1", "3600.0")
    assert (light["share_kept"], light["share_low"]) == ("", "0.2065")


async def test_a_table_for_people(connection: Any, database_url: str, policy: Policy) -> None:
    await add(connection, policy, 1, IN_TIME)
    shown = (await rapid_sla(database_url, "report")).stdout
    assert "too few" in shown
    assert "20.7–100.0 %" in shown
    assert "Of fewer than 10 only the interval is told" in shown
    assert "Nothing was promised" in (await rapid_sla(database_url, "report", "--since", "1h")).stdout


async def test_a_period(connection: Any, database_url: str, policy: Policy) -> None:
    await add(connection, policy, 1, IN_TIME)
    inside = await report(database_url, "--since", "2026-03-10T15:00Z", "--until", "2026-03-10T15:01Z")
    before = await report(database_url, "--until", "2026-03-10T15:00Z")
    assert (inside["orders"], before["orders"], before["rows"]) == (1, 0, [])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--json", "--csv"), "choose one of --json and --csv"),
        (("--since", "tomorrow"), "a date or a time such as"),
        (("--since", "1d", "--until", "2d"), "expected --until after --since"),
        (("--by", "mood"), "mood"),
    ],
)
async def test_a_wrong_option_is_told(database_url: str, arguments: tuple[str, ...], says: str) -> None:
    result = await rapid_sla(database_url, "report", *arguments)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.replace("│", "").split())


async def test_without_a_database_it_is_one_sentence() -> None:
    result = await rapid_sla("postgresql://rapid@127.0.0.1:9/rapid", "report")
    assert isinstance(result.exception, Oops)
    assert "PostgreSQL does not answer" in str(result.exception)


ORDERS = 100_000


@pytest.mark.slow
async def test_a_hundred_thousand_orders_take_seconds(
    connection: Any, policy: Policy, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bound is wide, for a busy machine."""
    await _fill(connection, policy)
    began = perf_counter()
    async with connection.transaction():
        found = await counted(connection, "department", Period(datetime.now(UTC)))
    seconds = perf_counter() - began
    with capsys.disabled():
        print(f"\n  {found.orders:,} orders, two clocks each, in {seconds:.1f} s")
    assert (found.orders, sum(tally.judged for _, tally in found.rows())) == (ORDERS, 2 * ORDERS)
    assert seconds < 60


async def _fill(connection: Any, policy: Policy) -> None:
    """Copies of one order, for whom the engine has folded an acknowledgement and a resolution with a hold."""
    await keep_policy(connection, policy)
    order = order_of(1, OPENED, policy)
    waits: list[ClockEvent] = [Held(at=OPENED + HOUR, reason="weather"), Resumed(at=OPENED + 2 * HOUR)]
    read = clock_of(order, "acknowledge", policy, Resolved(at=OPENED + HOUR))
    promises = await keep(connection, order, [read, clock_of(order, "resolve", policy, *waits, IN_TIME)])
    await connection.execute("DELETE FROM promises")
    await connection.execute("DELETE FROM work_orders")
    await connection.execute(
        "INSERT INTO promises (order_id, body) SELECT md5(n::text)::uuid, $1 FROM generate_series(1, $2) n",
        promises.model_dump_json(), ORDERS,
    )  # fmt: skip
    await connection.execute(
        """INSERT INTO work_orders (order_id, order_key, generation, reference, version, state, category, work,
             department, area, priority, opened_at, updates, verify, told, body)
           SELECT md5(n::text)::uuid, n::text, 1, n::text, 1, 'new', 'street_light', 'fix', 'cdot', 25, 'high', $1, 0,
             false, 0, '{}' FROM generate_series(1, $2) n""",
        OPENED, ORDERS,
    )  # fmt: skip
