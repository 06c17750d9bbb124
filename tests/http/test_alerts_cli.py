"""`rapid alerts`: what a supervisor sees at the terminal, and does there while the API runs."""

import asyncio
import io
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from fastapi import FastAPI
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from connectors.postgres.policies import keep_policy
from infra.cli.alert_screen import ALL, BRIEF, View, length, screen, table
from infra.cli.errors import ExitCode, Oops
from infra.cli.main import app as rapid_app
from schemas.alert import Alert, AlertCommand
from schemas.policy import Policy
from tests.http.conftest import Broker, until
from tests.http.made_up import Stored, alert_about, happen, order, store

NOW = datetime.now(UTC)
CHICAGO = ZoneInfo("America/Chicago")


class Done(NamedTuple):
    code: int
    out: str
    said: str


class Rapid:
    """The command line in this process, beside our own event loop."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    async def __call__(self, *arguments: str, code: int = 0) -> Done:
        done = await asyncio.to_thread(self._run, arguments)
        assert done.code == code, done
        return done

    def _run(self, arguments: tuple[str, ...]) -> Done:
        done = CliRunner().invoke(rapid_app, ["alerts", *arguments], env=self.environment, prog_name="rapid")
        if isinstance(done.exception, Oops):
            return Done(done.exception.exit_code, done.stdout, str(done.exception))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Done(done.exit_code, done.stdout, done.stderr)


@pytest.fixture
async def rapid(
    connection: Any, database_url: str, tmp_path: Path, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> Rapid:
    for name in [name for name in os.environ if name.startswith("RAPID_")]:
        monkeypatch.delenv(name)
    await keep_policy(connection, policy)
    return Rapid({"RAPID_HOME": str(tmp_path), "RAPID_DATABASE_URL": database_url})


@pytest.fixture
async def one(connection: Any) -> Stored:
    made = order(1)
    await store(connection, [made])
    return made


def short(alert: Alert) -> str:
    return str(alert.alert_id)[:8]


async def several(connection: Any, one: Stored) -> dict[str, Alert]:
    """A warning, a breach that somebody has, one of the highest level, and one that is over."""
    other = order(2, "dss", area=27)
    await store(connection, [other])
    made = {
        "warning": alert_about(one, "p75", level=1, at=NOW - timedelta(minutes=30), due_at=NOW + timedelta(hours=1)),
        "breach": alert_about(
            one, level=2, at=NOW - timedelta(hours=3), state="acknowledged", acknowledged_by="Ann",
        ),
        "top": alert_about(other, "breach_2d", level=4, at=NOW - timedelta(days=2)),
        "over": alert_about(other, "p75", level=1, state="over", at=NOW - timedelta(days=4)),
    }  # fmt: skip
    for alert in made.values():
        await happen(connection, alert)
    return made


# ---------------------------------------------------------------- look


async def test_the_list_has_what_needs_attention_most_urgent_first(
    rapid: Rapid, connection: Any, one: Stored
) -> None:
    made = await several(connection, one)
    lines = (await rapid("--every")).out.splitlines()
    places = [
        next(n for n, line in enumerate(lines) if short(made[name]) in line)
        for name in made
        if name != "over"
    ]
    assert places == sorted(places, reverse=True)  # warning last, top first
    assert short(made["over"]) not in "\n".join(lines)
    (top,) = [line for line in lines if short(made["top"]) in line]
    for text in ("4002 W WEST END AVE", "resolve, breach_2d", "2 d 0 h late", "nobody yet (dss)"):
        assert text in top
    assert "Ann" in "\n".join(lines)
    assert "America/Chicago" in lines[0]


async def test_nothing_to_do_is_said(rapid: Rapid) -> None:
    assert (await rapid()).out == "Nothing needs attention.\n"
    assert json.loads((await rapid("--json")).out) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {"breach", "top"}),  # the warning is of the same promise as the breach
        ("--every", {"warning", "breach", "top"}),
        ("--level 2", {"breach", "top"}),
        ("--level 1 --department cdot", {"breach"}),
        ("--state all", {"warning", "breach", "top", "over"}),
        ("--state over,acknowledged", {"over", "breach"}),
        ("--department dss", {"top"}),
        ("--area 27 --state all", {"top", "over"}),
        ("--rung p75", {"warning"}),
        ("--clock order", set()),
        ("--clock resolve --since 1d", {"breach"}),
        ("--clock resolve --since 1d --every", {"warning", "breach"}),
        ("--limit 1", {"top"}),
    ],
)
async def test_filters_of_the_list(
    rapid: Rapid, connection: Any, one: Stored, options: str, expected: set[str]
) -> None:
    made = await several(connection, one)
    listed = json.loads((await rapid("--json", *options.split())).out)
    names = {str(alert.alert_id): name for name, alert in made.items()}
    assert {names[alert["alert_id"]] for alert in listed} == expected
    of_order = json.loads((await rapid("list", "--json", "--order", one.reference.lower())).out)
    assert {names[alert["alert_id"]] for alert in of_order} == {"breach"}


async def test_a_promise_is_one_line_at_its_highest_point_that_stands(
    rapid: Rapid, connection: Any, one: Stored
) -> None:
    at = NOW - timedelta(hours=1)
    half = alert_about(one, "half", level=1, at=at)
    soon = alert_about(one, "soon", level=1, at=at + timedelta(minutes=5))
    breach = alert_about(one, "breach", level=2, at=at + timedelta(minutes=10), state="withdrawn")
    other = alert_about(one, "half", level=1, at=at, clock="acknowledge", alert_id=UUID(int=1))
    again = alert_about(one, "half", level=1, at=at, cycle=2, alert_id=UUID(int=2))
    for alert in (half, soon, breach, other, again):
        await happen(connection, alert)
    listed = {alert["alert_id"] for alert in json.loads((await rapid("--json")).out)}
    assert listed == {str(alert.alert_id) for alert in (soon, other, again)}


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--state", "closed"), 2, "one or several of open"),
        (("--order", "17"), 2, "an order's reference"),
        (("--department", "zzz"), ExitCode.NOT_FOUND, "There is no department zzz"),
        (("show", "xyz"), ExitCode.INVALID, "is no id"),
        (("show", "0000"), ExitCode.NOT_FOUND, "There is no alert 0000"),
        (("acknowledge", "WO-00000-00000"), ExitCode.NOT_FOUND, "No alert of WO-00000-00000"),
        (("acknowledge",), 2, "ID"),
        (("snooze", "0000", "--for", "soon"), 2, "a number and a unit"),
    ],
)
async def test_what_cannot_be_is_said_in_a_sentence(
    rapid: Rapid, options: tuple[str, ...], code: int, said: str
) -> None:
    assert said in " ".join((await rapid(*options, code=code)).said.replace("│", " ").split())


async def test_a_beginning_of_two_ids_is_not_enough(rapid: Rapid, connection: Any, one: Stored) -> None:
    twins = [
        alert_about(one, f"r{n}", alert_id=UUID(f"abcd{n}000-0000-5000-8000-000000000000")) for n in range(2)
    ]
    for alert in twins:
        await happen(connection, alert)
    assert "Several alerts begin with abcd" in (await rapid("show", "abcd", code=ExitCode.NOT_FOUND)).said
    assert json.loads((await rapid("show", "ABCD1", "--json")).out)["rung"] == "r1"


async def test_one_is_shown_with_its_history(rapid: Rapid, connection: Any, one: Stored) -> None:
    alert = alert_about(one, at=NOW - timedelta(minutes=90))
    await happen(connection, alert)
    held = alert.model_copy(update={"state": "snoozed", "until": NOW + timedelta(hours=1)})
    await happen(connection, held, 2, "snoozed", by="Ann", because="\x1b[31mNo crew[/] now.")
    shown = (await rapid("show", short(alert))).out
    for text in ("4001 W WEST END AVE", one.reference, " min late", "snoozed until", "fired", "Ann"):
        assert text in shown
    assert "\\x1b[31mNo crew[/] now." in shown
    told = json.loads((await rapid("show", str(alert.alert_id), "--json")).out)
    assert [event["kind"] for event in told["events"]] == ["fired", "snoozed"]
    assert 5400 <= told["overdue_s"] <= (datetime.now(UTC) - alert.at).total_seconds() + 1


async def test_what_is_over_does_not_get_later_and_later(rapid: Rapid, connection: Any, one: Stored) -> None:
    alert = alert_about(one, at=NOW - timedelta(minutes=90))
    await happen(connection, alert)
    assert " min late" in (await rapid("list", "--state", "all")).out
    await happen(connection, alert.model_copy(update={"state": "over"}), 2, "over")
    assert " late " not in (await rapid("list", "--state", "all")).out.split(short(alert))[1]


# ---------------------------------------------------------------- do something


async def settled(connection: Any, broker: Broker, alert: Alert, **changes: Any) -> AlertCommand:
    """The orders' writer, as far as this alert goes: it does what the next command says."""
    await until(lambda: broker.records)
    command = AlertCommand.model_validate_json(broker.records[-1].value)
    after = alert.model_copy(update=changes)
    await happen(connection, after, 2, "acknowledged", command_id=command.command_id, by=command.by)
    return command


async def test_an_acknowledgement_is_seen_done(
    rapid: Rapid, app: FastAPI, connection: Any, broker: Broker, one: Stored
) -> None:
    """It is published by the API that runs."""
    alert = alert_about(one)
    await happen(connection, alert)
    back = datetime(2026, 7, 7, 12, tzinfo=UTC)
    done, command = await asyncio.gather(
        rapid("acknowledge", short(alert), "--by", "Ann", "--text", "A crew is coming.", "--wait", "20"),
        settled(connection, broker, alert, state="acknowledged", acknowledged_by="Ann", until=back),
    )
    assert done.out == (
        f"{short(alert)} (Street light out, {one.reference}): acknowledged, and comes back at 07-07 07:00.\n"
    )
    assert (command.kind, command.by, command.text) == ("acknowledge", "Ann", "A crew is coming.")
    assert (broker.records[0].topic, broker.records[0].key) == (
        "work-order-commands",
        alert.order_key.encode(),
    )
    (entry,) = await connection.fetch("SELECT actor, action, subject, details FROM audit")
    assert entry["actor"].startswith("cli:")
    assert (entry["action"], entry["subject"]) == ("alerts.acknowledge", str(alert.alert_id))
    assert "Ann" not in entry["details"]


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("snooze", "ID", "--for", "2h"), "snooze"),
        (("hand-over", "ID", "--to", "ROLE"), "hand_over"),
        (("unacknowledge", "ID"), "unacknowledge"),
    ],
)
async def test_what_is_written_down_and_not_yet_done_is_said(
    rapid: Rapid, app: FastAPI, connection: Any, broker: Broker, one: Stored, policy: Policy,
    arguments: tuple[str, ...], kind: str,
) -> None:  # fmt: skip
    alert = alert_about(one, state="acknowledged", acknowledged_by="Ann")
    await happen(connection, alert)
    role = policy.oncall.roles[0].code
    filled = [{"ID": short(alert), "ROLE": role}.get(one, one) for one in arguments]
    done = await rapid(*filled, "--wait", "0")
    assert "written down; it is done as soon as a worker comes to it" in done.out
    await until(lambda: broker.records)
    command = AlertCommand.model_validate_json(broker.records[0].value)
    assert (command.kind, command.to) == (kind, role if kind == "hand_over" else None)
    assert (command.until is not None) == (kind == "snooze")


async def test_an_orders_reference_means_all_that_stand_of_it(
    rapid: Rapid, app: FastAPI, connection: Any, broker: Broker, one: Stored
) -> None:
    await several(connection, one)
    told = json.loads((await rapid("acknowledge", one.reference, "--wait", "0", "--json")).out)
    assert [(answer["outcome"], answer["reference"]) for answer in told] == [("waits", one.reference)] * 2
    await until(lambda: len(broker.records) == 2)


async def test_one_that_cannot_does_not_keep_the_others_from_it(
    rapid: Rapid, app: FastAPI, connection: Any, broker: Broker, one: Stored
) -> None:
    made = await several(connection, one)
    names = [short(made[name]) for name in ("over", "top")]
    done = await rapid("acknowledge", *names, "--wait", "0", code=ExitCode.INVALID)
    assert f"{names[0]} (Street light out" in done.out
    assert "not done. This alert is over: its clock has ended" in done.out
    await until(lambda: broker.records)
    assert AlertCommand.model_validate_json(broker.records[0].value).alert_id == made["top"].alert_id
    assert len(broker.records) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("snooze", "--for", "30h"), "at most 24 hours from now"),
        (("hand-over", "--to", "the-mayor"), "a person or role of the policy's on-call list"),
    ],
)
async def test_what_the_policy_does_not_allow_is_not_done(
    rapid: Rapid, connection: Any, one: Stored, arguments: tuple[str, ...], said: str
) -> None:
    alert = alert_about(one)
    await happen(connection, alert)
    done = await rapid(arguments[0], short(alert), *arguments[1:], code=ExitCode.INVALID)
    assert said in done.out
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
    assert await connection.fetchval("SELECT count(*) FROM audit") == 0


async def test_a_name_that_is_no_code_is_said(rapid: Rapid, connection: Any, one: Stored) -> None:
    alert = alert_about(one)
    await happen(connection, alert)
    done = await rapid("hand-over", short(alert), "--to", "The Mayor", code=ExitCode.INVALID)
    assert "--to cannot be used" in done.said


async def test_without_api_and_broker_it_is_written_down(
    rapid: Rapid, connection: Any, one: Stored, unused_tcp_port: int
) -> None:
    alert = alert_about(one)
    await happen(connection, alert)
    rapid.environment["RAPID_BROKERS"] = f"127.0.0.1:{unused_tcp_port}"
    done = await rapid("acknowledge", short(alert), code=ExitCode.UNREACHABLE)
    assert "It is written down, but the broker is away" in done.said
    assert await connection.fetchval("SELECT count(*) FROM outbox WHERE source = 'door/api'") == 1
    assert await connection.fetchval("SELECT count(*) FROM audit") == 1
    assert await connection.fetchval("SELECT pg_try_advisory_lock(7214803552)")  # nobody keeps it


# ---------------------------------------------------------------- watch


async def test_watching_into_a_pipe_gives_a_line_for_each_event(
    rapid: Rapid, connection: Any, database_url: str, one: Stored
) -> None:
    ours = alert_about(one)
    watching = asyncio.create_task(rapid("watch", "--level", "2", "--count", "2"))
    looking = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rapid' AND query LIKE '%FROM feed%>%'"
    async with asyncio.timeout(20):
        while not await connection.fetchval(looking):  # noqa: ASYNC110 - PostgreSQL tells nobody
            await asyncio.sleep(0.01)
    await happen(connection, alert_about(one, "p50", level=1))  # below what is asked for
    await happen(connection, ours)
    await happen(connection, ours.model_copy(update={"state": "over"}), 2, "over", because="It was done.")
    async with asyncio.timeout(20):
        first, second = (await watching).out.splitlines()
    assert f"{short(ours)}  level 2  fired: Street light out at 4001 W WEST END AVE" in first
    assert second.endswith("It was done.")


def drawn(renderable: Any, width: int, height: int = 40) -> str:
    out = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system="standard"
    )
    out.print(renderable)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_the_screen_has_what_fits_and_says_how_many_more() -> None:
    one, view = order(1), View(NOW, CHICAGO)
    alerts = [alert_about(one, f"r{n}", level=1 + n % 4) for n in range(60)]
    out = Console(file=io.StringIO(), width=160, height=30)
    shown = drawn(screen(alerts, [], view, out), 160, 30)
    assert len(shown.splitlines()) <= 30
    assert "… and 46 more." in shown
    assert "\x1b[1;31m" in shown  # the highest level is bold and red
    assert "Nothing needs attention." in drawn(screen([], [], view, out), 160)


def test_a_narrow_terminal_gets_the_brief_columns() -> None:
    alerts, view = [alert_about(order(1))], View(NOW, CHICAGO)
    whole, brief = drawn(table(alerts, view, 160), 160), drawn(table(alerts, view, 60), 60)
    assert "4001 W WEST END AVE" in whole
    assert all(column in whole for column in ALL)
    assert {column for column in ALL if column in brief} == set(BRIEF)
    assert max(len(Text.from_ansi(line)) for line in brief.splitlines()) <= 60


@pytest.mark.parametrize(
    ("minutes", "said"), [(0, "0 min"), (59, "59 min"), (200, "3 h 20 min"), (60 * 51, "2 d 3 h")]
)
def test_a_length_has_its_two_largest_units(minutes: int, said: str) -> None:
    assert length(timedelta(minutes=minutes)) == said
