"""A made-up city at the portal, who reads it, and what comes of it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import islice
from typing import Any, Final

import httpx

from connectors.delivery import OutboxRow, Position
from connectors.files.reading import Reading
from connectors.geography.areas import Areas
from connectors.portal.client import Limits, Portal
from connectors.portal.door import Door
from connectors.portal.feeds import FEEDS, Feed, feed_named
from connectors.portal.reading import Counts, Reader, Wish
from infra.simulate.files import request_row, victim_row
from infra.simulate.generate import incident_reports, issue_reports
from infra.simulate.places import Places
from schemas.envelope import header
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.policy import Policy
from schemas.topics import INCIDENT_REPORTS
from tests.pipeline.stream import Stream, final_tables
from tests.portal.soda_server import Cells, SodaDataset, SodaServer

BEGAN: Final = datetime(2026, 3, 1, tzinfo=UTC)
PAGE: Final = 20
ROWS: Final = 150
QUICK: Final = Limits(timeout_s=0.5, tries=3, first_retry_s=0.001, longest_wait_s=2.0)
_MORE: Final = {  # columns of the portal that nobody may ask for
    "victims": {"age", "sex", "race", "victim_name"}, "shotspotter": {"rounds"}, "crimes": {"arrest"},
    "requests": {"origin"},
}  # fmt: skip


def feed(name: str) -> Feed:
    found = feed_named(name)
    assert found is not None
    return found


def open_portal(server: SodaServer, at: datetime = BEGAN) -> None:
    """The four datasets with their columns, still without rows."""
    for one in FEEDS:
        server.datasets[one.id] = SodaDataset(set(one.columns) | _MORE[one.name], at)
    server.now = at + timedelta(minutes=1)


@dataclass
class City:
    """Rows like the city's own, none of them real, and the portal that shows them."""

    server: SodaServer

    def __post_init__(self) -> None:
        open_portal(self.server)
        self.clock = BEGAN
        victims, requests = made_up_rows()
        self.made: dict[str, dict[str, dict[str, Any]]] = {
            "victims": dict(victims),
            "requests": dict(requests),
            "shotspotter": {f"SST-{n}": alert(n) for n in range(45)},
            "crimes": {str(n): crime(n) for n in range(45)},
        }
        self.shown: dict[str, list[str]] = {name: [] for name in self.made}

    def pass_time(self, **length: float) -> None:
        self.clock += timedelta(**length)
        self.server.now = self.clock + timedelta(minutes=1)

    def show(self, name: str, count: int, each: timedelta = timedelta(seconds=1)) -> None:
        """Publish so many more rows; with `each` of zero all have one `:updated_at`, as after a full replace."""
        rows, shown = self.made[name], self.shown[name]
        for key in list(rows)[len(shown) : len(shown) + count]:
            self.clock += each
            self.put(name, key, rows[key])
        self.server.now = self.clock + timedelta(minutes=1)

    def put(self, name: str, key: str, cells: Cells, at: datetime | None = None) -> None:
        self.server.datasets[feed(name).id].put(key, cells, at or self.clock, self.clock)
        if key not in self.shown[name]:
            self.shown[name].append(key)

    def revise(self, name: str, place: int, **cells: Any) -> str:
        """Change a row that is shown: it gets a new `:updated_at`."""
        self.pass_time(seconds=1)
        key = self.shown[name][place]
        self.made[name][key] = self.made[name][key] | cells
        self.put(name, key, self.made[name][key])
        return key


@cache
def made_up_rows() -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Victims and requests by their ids, each as it was first known."""
    places = Places(Areas.of_chicago())
    victims: dict[str, dict[str, Any]] = {}
    for victim in islice(incident_reports(1, date(2026, 2, 1), 28, 1.0, places), ROWS):
        victims.setdefault(victim.report_id, _lower(victim_row(victim)))
    requests: dict[str, dict[str, Any]] = {}
    for request in islice(issue_reports(1, date(2026, 2, 1), 28, 1.0, places), ROWS):
        requests.setdefault(request.request_number, _lower(request_row(request)))
    return victims, requests


def _lower(row: Cells) -> dict[str, Any]:
    """As the portal has it, and without saying that it is simulated."""
    return {
        name.lower(): value for name, value in row.items() if name.lower() not in ("simulated", "validity")
    }


def alert(number: int) -> dict[str, Any]:
    return {
        "date": f"2024-01-{1 + number % 28:02}T01:05:09.000", "block": f"{number}00 W MADE UP ST",
        "unique_id": f"SST-{number}", "incident_type_description": "MULTIPLE GUNSHOTS", "rounds": "4",
        "latitude": "41.78", "longitude": "-87.64",
    }  # fmt: skip


def crime(number: int) -> dict[str, Any]:
    """Two of three are about another subject."""
    in_scope = number % 3 == 0
    return {
        "id": str(number), "case_number": f"ZZ{number:06}", "date": f"2024-07-{1 + number % 28:02}T00:30:00.000",
        "block": "040XX W MADE UP ST", "iucr": "0110" if in_scope else "0820",
        "primary_type": "HOMICIDE" if in_scope else "THEFT", "beat": "0322", "community_area": "69",
        "updated_on": "2024-07-30T15:41:59.000", "latitude": "41.77", "longitude": "-87.62", "arrest": False,
    }  # fmt: skip


@dataclass
class Broker:
    """Keeps what it is sent."""

    records: list[OutboxRow] = field(default_factory=list)

    async def publish(self, rows: Sequence[OutboxRow]) -> list[Position]:
        self.records += rows
        return [Position(0, n) for n in range(len(rows))]

    async def cluster_id(self) -> str:
        return "one"

    async def incarnation(self, topic: str) -> str:
        return f"one/{topic}"

    async def end_offset(self, topic: str, partition: int) -> int:
        return len(self.records)

    @property
    def ids(self) -> list[str]:
        return [str(header(row.headers, "ce_id")) for row in self.records]

    @property
    def reports(self) -> list[IncidentReport | IssueReport]:
        return [
            IncidentReport.model_validate_json(row.value) if row.topic == INCIDENT_REPORTS.name
            else IssueReport.model_validate_json(row.value)
            for row in self.records
        ]  # fmt: skip


@dataclass
class Reads:
    """Who reads: passes over the datasets, one after the other, into one database and one broker."""

    server: SodaServer
    pool: Any
    reading: Reading
    http: httpx.AsyncClient
    broker: Broker = field(default_factory=Broker)
    page_rows: int = PAGE
    limits: Limits = QUICK
    token: str = ""
    now: datetime | None = None

    async def read(self, name: str, since: datetime | None = None) -> Counts:
        """One pass."""
        reader = self.reader(name, since)
        await reader.read()
        return reader.counts

    def reader(self, name: str, since: datetime | None = None) -> Reader:
        one = feed(name)
        counts = Counts(one)
        portal = Portal(self.http, self.server.url, chance=lambda: 1.0, token=self.token, limits=self.limits)
        door = Door(one, self.pool, self.broker, self.broker, tell=counts.tell)
        wish = Wish(self.page_rows, since)
        return Reader(portal, door, one, self.reading, wish, counts, lambda: self.now or self.server.now)

    async def read_all(self) -> dict[str, Counts]:
        return {one.name: await self.read(one.name) for one in FEEDS}


@asynccontextmanager
async def reading_of(server: SodaServer, pool: Any, policy: Policy) -> AsyncIterator[Reads]:
    async with httpx.AsyncClient(trust_env=False) as http:
        yield Reads(server, pool, Reading.by(policy), http)


async def what_comes_of(
    pool: Any, policy: Policy, areas: Areas, broker: Broker
) -> dict[str, list[tuple[Any, ...]]]:
    """The final tables when the agents have taken in what was published."""
    async with pool.acquire() as connection:
        await Stream(connection, policy, areas).feed(broker.reports)
        return await final_tables(connection)
