"""`rapid simulate day`: a city's day through the whole system, with crews on every interface and processes killed.

    generator → REST intake → … → four crews over four interfaces → … → `rapid verify`

Everything is done as users do it: reports and updates come in by the interfaces, `rapid` commands set up and verify.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from connectors.geography.areas import Areas
from infra.cli.errors import Oops
from infra.cli.session import database
from infra.cli.status import look
from infra.embedded.temporary import Temporary
from infra.policy.load import SHIPPED
from infra.simulate.departments.capture import Capture
from infra.simulate.departments.command import loaded
from infra.simulate.departments.office import CITY_KEY, CITY_KEY_VARIABLE, Office
from infra.simulate.departments.rest import Api
from infra.simulate.departments.team import Habits, InterfaceName, Place, Team, at_work
from infra.simulate.faults import Faults, schedule, strike
from infra.simulate.generate import incident_reports, issue_reports
from infra.simulate.places import Places
from infra.simulate.together import together
from schemas.incident import IncidentReport
from schemas.issue import IssueReport

SETTINGS: Final = {
    "RAPID_WEBHOOK_ALLOW": "127.0.0.0/8",
    "RAPID_OPEN311_SETTLE_S": "20",
    "RAPID_WEBHOOK_HTTP": "true",
    "RAPID_WEBHOOK_PORTS": "any",
    "RAPID_WEBHOOK_FIRST_RETRY_S": "0.5",
    "RAPID_WEBHOOK_LONGEST_RETRY_S": "2",
    CITY_KEY_VARIABLE: CITY_KEY,
}
"""The receivers are on this machine, and nobody waits minutes for a retry."""
POST_EVERY_S: Final = 0.5
MOST_IN_A_POST: Final = 200
QUIET_S: Final = 5.0
LOOK_EVERY_S: Final = 1.0
DRAIN_LIMIT_S: Final = 300.0
MOST_ORDERS: Final = "10000"
BEFORE_TODAY: Final = timedelta(days=2)

# What departments said, and what became of it.
_VERDICTS: Final = """
SELECT department, verdict, count(*) AS times FROM order_ledger WHERE update_id IS NOT NULL
GROUP BY department, verdict ORDER BY department, verdict"""


class Size(NamedTuple):
    """How much there is to do. `incidents`, `requests`: how many times as much as in Chicago."""

    days: int
    incidents: float
    requests: float
    workers: int
    kills: dict[str, int]


FULL: Final = Size(5, 4.0, 0.7, 2, {"worker": 4, "api": 2, "courier": 2, "broker": 1})
SMALL: Final = Size(2, 4.0, 0.3, 2, {"worker": 1, "api": 1, "courier": 1, "broker": 1})


class Asked(NamedTuple):
    """The command's options; `stream_s`: how long reports come in; `plant`: what is done to the file of what crews
    saw and to the folder of what they received, before both are looked at."""

    seed: int
    stream_s: float
    size: Size
    kill: bool
    uses: dict[str, InterfaceName]
    plant: Callable[[Path, Path], None]

    @property
    def pace(self) -> float:
        """What takes a crew four days is over in a fifth of the time that the reports take."""
        return 4 * 86_400 / max(8.0, self.stream_s / 5)


@dataclass(slots=True)
class Progress:
    """Where the day is: what it does, how many reports came in, and who has said what."""

    doing: str = "starting"
    began_s: float = field(default_factory=time.monotonic)
    sent: int = 0
    reports: int = 0
    faults: Faults = field(default_factory=Faults)
    team: Team | None = None
    status: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began_s


class Result(NamedTuple):
    """How the day ended."""

    orders: list[dict[str, Any]]
    updates: list[dict[str, Any]]
    faults: dict[str, Any]
    received_bytes: dict[str, int]
    verify: dict[str, Any]
    agrees: bool
    seconds: float


async def run_day(there: Temporary, folder: Path, asked: Asked, progress: Progress) -> Result:
    """The whole day in an installation that is ready. `folder`: for what crews saw and received. Raises Oops."""
    office = Office(there.environment)
    uses = asked.uses
    state = there.state()
    assert state is not None
    api = f"http://{state.api_address}"
    place = Place(loaded(SHIPPED), (state.broker_address,), api, office)
    received = folder / "received"
    received.mkdir()
    progress.doing = "crews come to work"
    intake = Api(api, await office.key("intake"), Capture(None))
    async with at_work(place, uses, Habits(asked.seed, asked.pace, received=received)) as team:
        progress.team = team
        await _stream(there, intake, asked, progress)
        await _until_all_is_done(there, office, team, progress)
        seen = folder / "seen.ndjson"
        team.write_seen(seen)
        asked.plant(seen, received)
        sizes = {name: capture.bytes for name, capture in team.captures.items()}
    progress.doing = "verifying"
    verdict, agrees = await _verify(office, folder)
    orders = await office.rapid("orders", "list", "--state", "all", "--limit", MOST_ORDERS)
    return Result(
        _by_department(orders, uses), await _updates(state.database_url, uses),
        {"killed": Counter(progress.faults.killed), "back": Counter(progress.faults.back)},
        sizes, verdict, agrees, round(progress.seconds, 1),
    )  # fmt: skip


async def _stream(there: Temporary, intake: Api, asked: Asked, progress: Progress) -> None:
    """Reports come in, evenly; meanwhile parts are killed."""
    progress.doing = "inventing a city's days"
    batches = await asyncio.to_thread(_batches, asked)
    progress.reports = sum(map(len, batches))
    progress.doing = "the day runs"
    planned = schedule(asked.seed, asked.size.kills) if asked.kill else ()
    await together(
        _send(intake, batches, asked, progress),
        strike(there, planned, asked.stream_s, progress.faults, asked.seed),
        _watch(there, progress, lambda: progress.sent == progress.reports),
    )
    await intake.close()


Report = IncidentReport | IssueReport


def _batches(asked: Asked) -> list[list[Report]]:
    """All reports in the order in which they became known, in as many parts as posts."""
    size, start = asked.size, _first_day(asked.size.days)
    places = Places(Areas.of_chicago())
    reports: list[Report] = [
        *incident_reports(asked.seed, start, size.days, size.incidents, places),
        *issue_reports(asked.seed, start, size.days, size.requests, places),
    ]
    reports.sort(key=lambda report: report.revised_at)
    count = max(1, round(asked.stream_s / POST_EVERY_S))
    return [reports[len(reports) * n // count : len(reports) * (n + 1) // count] for n in range(count)]


def _first_day(days: int) -> date:
    """So that the last report is of the past, in any zone."""
    return (datetime.now(UTC) - BEFORE_TODAY - timedelta(days=days)).date()


async def _send(intake: Api, batches: Sequence[Sequence[Report]], asked: Asked, progress: Progress) -> None:
    began_s = time.monotonic()
    for number, batch in enumerate(batches):
        await asyncio.sleep(max(0.0, began_s + number * POST_EVERY_S - time.monotonic()))
        for path, part in _posts(batch):
            name = f"day-{asked.seed}-{progress.sent}"
            body = [report.model_dump(mode="json", exclude_none=True) for report in part]
            answer = await intake.ask("POST", path, json=body, headers={"Idempotency-Key": name})
            if answer.status_code != 202:
                raise Oops(f"{path} was not accepted ({answer.status_code}): {answer.text[:300]}")
            progress.sent += len(part)


def _posts(batch: Sequence[Report]) -> Iterator[tuple[str, Sequence[Report]]]:
    for path, kind in (("/v1/incident-reports", IncidentReport), ("/v1/issue-reports", IssueReport)):
        part = [report for report in batch if isinstance(report, kind)]
        for first in range(0, len(part), MOST_IN_A_POST):
            yield path, part[first : first + MOST_IN_A_POST]


# -- waiting


async def _watch(there: Temporary, progress: Progress, is_over: Callable[[], bool]) -> None:
    while not is_over():
        await _look(there, progress)
        await asyncio.sleep(LOOK_EVERY_S)


async def _look(there: Temporary, progress: Progress) -> None:
    """As `rapid status` does; what is away is looked at again. Raises what ended a crew."""
    if progress.team:
        progress.team.check()
    try:
        progress.status = await asyncio.to_thread(look, there.settings)
    except Oops:
        progress.status = {}


async def _until_all_is_done(there: Temporary, office: Office, team: Team, progress: Progress) -> None:
    """Drained, nobody owes anybody a word, and nothing waits to be told."""
    progress.doing = "waiting until all is done"
    until_s = time.monotonic() + DRAIN_LIMIT_S
    while True:
        await _look(there, progress)
        drained = progress.status.get("drained") and progress.status.get("phase") == "ready"
        if drained and team.is_idle(QUIET_S) and not await _waiting(office, team):
            return
        if time.monotonic() > until_s:
            raise Oops(f"Not everything was done within {DRAIN_LIMIT_S:.0f} s: {_left(progress)}.")
        await asyncio.sleep(LOOK_EVERY_S)


async def _waiting(office: Office, team: Team) -> bool:
    """Whether messages are still to be sent, orders to be filed, or a city's answers to be read."""
    if any(hook["pending"] for hook in await office.rapid("webhooks", "list")):
        return True
    filings = await office.rapid("open311", "status", "--limit", MOST_ORDERS)
    filed = {one["reference"] for one in filings}
    orders = await office.rapid("orders", "list", "--state", "open", "--limit", MOST_ORDERS)
    unfiled = [one for one in orders if one["department"] in team.cities and one["reference"] not in filed]
    return bool(unfiled) or not team.is_followed(filings)


def _left(progress: Progress) -> str:
    crews = (
        [f"{row['department']} has {row['to say']} to say" for row in progress.team.rows()]
        if progress.team
        else []
    )
    return "; ".join([f"drained: {progress.status.get('drained')}", *crews])


# -- the end


async def _verify(office: Office, folder: Path) -> tuple[dict[str, Any], bool]:
    """What `rapid verify` finds; the privacy check over all that the crews received is one of its checks."""
    code, output, errors = await office.outcome(
        "verify", "--seen", str(folder / "seen.ndjson"), "--captured", str(folder / "received"), "--json"
    )
    try:
        return json.loads(output), code == 0
    except ValueError:
        raise Oops(f"rapid verify: {errors.strip() or output.strip() or 'it ended without a word'}") from None


def _by_department(orders: Sequence[dict[str, Any]], uses: dict[str, InterfaceName]) -> list[dict[str, Any]]:
    states = sorted({order["state"] for order in orders})
    counted = Counter((order["department"], order["state"]) for order in orders)
    return [
        {"department": code, "interface": interface} | {state: counted[code, state] for state in states}
        for code, interface in uses.items()
    ]


async def _updates(database_url: str, uses: dict[str, InterfaceName]) -> list[dict[str, Any]]:
    async with database(database_url) as connected:
        rows = await connected.fetch(_VERDICTS)
    counted = {(row["department"], row["verdict"]): row["times"] for row in rows}
    verdicts = ("accepted", "ignored", "refused")
    return [
        {"department": code, "interface": interface} | {one: counted.get((code, one), 0) for one in verdicts}
        for code, interface in uses.items()
    ]
