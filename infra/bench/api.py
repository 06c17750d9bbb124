"""`rapid bench api`: the REST API over a socket, with many orders, beside a bare SELECT on the same database."""

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg

from connectors.kafka.admin import KafkaAdmin
from connectors.ports import Told
from connectors.postgres import feed
from connectors.postgres.migrate import migrate
from infra.bench.pipeline import percentile
from infra.cli.errors import Oops
from infra.embedded.broker import free_port, start_broker
from infra.embedded.database import start_database
from infra.embedded.installation import departments
from infra.settings import PREFIX, Settings
from schemas.base import Point
from schemas.topics import all_topics
from schemas.work_order import (
    DepartmentWorkOrder,
    Site,
    WorkOrder,
    order_id_of,
    order_key_of,
    reference_of,
)

DEPARTMENT: Final = "cdot"
STARTED_S: Final = 60.0
EVENT_S: Final = 30.0
EVENTS: Final = 20
OPENED: Final = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS: Final = (
    "order_id", "order_key", "reference", "version", "state", "category", "work", "department", "area", "priority",
    "opened_at", "told", "body", "lat", "lon", "department_body",
)  # fmt: skip
STATES: Final = ("new", "acknowledged", "in_progress", "resolved")
BARE_GET: Final = "SELECT department_body, told FROM work_orders WHERE reference = $1 AND department = $2"
BARE_LIST: Final = """
SELECT department_body FROM work_orders WHERE department = $1 AND state = 'new' AND department_body IS NOT NULL
ORDER BY opened_at DESC, order_id LIMIT 50"""

Tell = Callable[[str], None]
Ask = Callable[[int], Awaitable[None]]
"""Does the n-th request."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is measured. `connections`: as many requests are under way at once."""

    orders: int
    requests: int
    connections: int
    streams: int


@dataclass(frozen=True, slots=True)
class Stage:
    """What was started for it."""

    dsn: str
    port: int
    key: str


def measure(asked: Asked, tell: Tell) -> dict[str, Any]:
    """The figures, by operation."""
    with stage(asked, tell) as there:
        return asyncio.run(_measure(asked, there, tell))


@contextmanager
def stage(asked: Asked, tell: Tell) -> Iterator[Stage]:
    """A database full of orders, a broker and one API process: gone afterwards with everything they held."""
    with tempfile.TemporaryDirectory(prefix="rapid-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        home.chmod(0o711)  # PostgreSQL's own user has to pass
        tell("starting a database and a broker")
        database = start_database(home / "database", home / "database.log")
        broker = start_broker(home / "broker.log")
        try:
            tell(f"inventing {asked.orders:,} orders")
            asyncio.run(_prepare(database.url, broker.address, asked.orders))
            environment = _environment(home, database.url, broker.address, free_port())
            key = _key(environment)
            with _api(environment, home / "api.log") as port:
                yield Stage(database.url, port, key)
        finally:
            broker.stop()
            database.stop()


async def _prepare(dsn: str, broker: str, count: int) -> None:
    await migrate(dsn)
    await KafkaAdmin([broker]).create(all_topics(departments(Settings())))
    connection = await asyncpg.connect(dsn)
    try:
        await connection.copy_records_to_table("work_orders", records=_rows(count), columns=COLUMNS)
        await connection.execute("VACUUM ANALYZE work_orders")
    finally:
        await connection.close()


def _rows(count: int) -> Iterator[tuple[Any, ...]]:
    return (_row(n) for n in range(count))


def _row(n: int) -> tuple[Any, ...]:
    address = f"{n} W BENCH ST"
    point = Point(lat=41.7 + n % 1_000 / 5_000, lon=-87.8 + n % 777 / 5_000)
    site = Site(key=address, basis="address", address=address, point=point, area=1 + n % 77)
    order_key = order_key_of("street_light", "fix", site.key)
    order_id = order_id_of(order_key)
    state = STATES[n % len(STATES)]
    shared: dict[str, Any] = {
        "reference": reference_of(order_id.int), "state": state, "category": "street_light", "work": "fix",
        "priority": "high", "outcome": "fixed" if state == "resolved" else None, "hold_reason": None, "crew": None,
        "estimate": None, "simulated": True,
    }  # fmt: skip
    opened_at = OPENED + timedelta(minutes=n)
    whole = WorkOrder(
        **shared, order_id=order_id, order_key=order_key, generation=1, version=2, site=site, department=DEPARTMENT,
        routing_rule="owner_of_category", opened_at=opened_at, cancelled_at=None, updates=0, acknowledged_at=None,
        resolved_at=None, rejected_by=(), duplicate_of=None, duplicates=(), original_outcome=None, verify=False,
        covers=(), incident_ids=(), policy_version="bench",
    )  # fmt: skip
    told = DepartmentWorkOrder(
        **shared, version=1, title="Repair street light", address=address, point=point, area=site.area,
        requested_on=opened_at.date(), service_requests=(),
    )  # fmt: skip
    return (
        order_id, order_key, whole.reference, 2, state, "street_light", "fix", DEPARTMENT, site.area, "high",
        opened_at, 1, whole.model_dump_json(), point.lat, point.lon, told.model_dump_json(),
    )  # fmt: skip


def _reference(n: int) -> str:
    return reference_of(order_id_of(order_key_of("street_light", "fix", f"{n} W BENCH ST")).int)


def _environment(home: Path, dsn: str, broker: str, port: int) -> dict[str, str]:
    """Nothing of the caller's own settings is left."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    chosen = {
        "HOME": str(home), "DATABASE_URL": dsn, "BROKERS": broker, "EMBEDDED": "true", "HTTP_PORT": str(port),
        "HTTP_RATE_PER_S": "100000", "HTTP_ADDRESS_RATE_PER_S": "100000",
    }  # fmt: skip
    return inherited | {PREFIX + name: value for name, value in chosen.items()}


def _command(*words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "infra.cli.main", *words]


def _key(environment: dict[str, str]) -> str:
    made = subprocess.run(
        _command("keys", "create", "--name", "bench", "--role", "department", "--department", DEPARTMENT, "--json"),
        env=environment, capture_output=True, check=True, text=True,
    )  # fmt: skip
    key: str = json.loads(made.stdout)["key"]
    return key


@contextmanager
def _api(environment: dict[str, str], log: Path) -> Iterator[int]:
    with log.open("wb") as output:
        process = subprocess.Popen(_command("api"), env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        port = int(environment[PREFIX + "HTTP_PORT"])
        if not asyncio.run(_answers(process, port)):
            raise Oops(f"The API to measure did not start: {log.read_text().strip()[-500:]}")
        yield port
    finally:
        process.terminate()
        process.wait(30)


async def _answers(process: "subprocess.Popen[bytes]", port: int) -> bool:
    until_s = time.monotonic() + STARTED_S
    while time.monotonic() < until_s and process.poll() is None:
        try:
            async with connected(port, "") as http:
                await http.ask("GET", "/readyz", 200)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            return True
    return False


class Http:
    """One connection that is kept: the least that HTTP/1.1 needs, so that the client costs little."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        self._reader = reader
        self._writer = writer
        self._head = f"Host: bench\r\nAuthorization: Bearer {key}\r\n"

    async def ask(self, method: str, path: str, expected: int, body: bytes = b"") -> bytes:
        """The body of the answer. Raises Oops for another status."""
        await self.begin(method, path, body)
        status, headers = await self.head()
        answer = await self._reader.readexactly(int(headers["content-length"]))
        if status != expected:
            raise Oops(f"{method} {path} was answered with {status} instead of {expected}: {answer.decode()}")
        return answer

    async def begin(self, method: str, path: str, body: bytes = b"") -> None:
        """Send a request."""
        sent = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        self._writer.write(f"{method} {path} HTTP/1.1\r\n{self._head}{sent}\r\n".encode() + body)
        await self._writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer."""
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split(" ")[1]), {name.lower(): value for name, value in pairs}

    async def event(self, name: bytes) -> None:
        """Wait for an event with this in its data."""
        while name not in await self._reader.readline():
            pass


@asynccontextmanager
async def connected(port: int, key: str) -> AsyncIterator[Http]:
    """A connection to the API."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Http(reader, writer, key)
    finally:
        writer.close()


async def _measure(asked: Asked, there: Stage, tell: Tell) -> dict[str, Any]:
    chosen = random.Random(1)
    references = [_reference(chosen.randrange(asked.orders)) for _ in range(asked.requests)]
    found: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        https = [
            await stack.enter_async_context(connected(there.port, there.key))
            for _ in range(asked.connections)
        ]
        for name, ask in _operations(references):
            tell(name)
            await _timed([_bound(ask, http) for http in https], asked.requests // 10)  # warm up
            found[name] = await _timed([_bound(ask, http) for http in https], asked.requests)
    found |= await _bare(asked, there, references, tell)
    tell(f"{asked.streams} streams")
    found["stream"] = await _streams(asked.streams, there)
    return found


def _operations(references: Sequence[str]) -> list[tuple[str, Callable[[Http, int], Awaitable[Any]]]]:
    numbers = itertools.count()

    async def get(http: Http, n: int) -> None:
        await http.ask("GET", f"/v1/work-orders/{references[n]}", 200)

    async def page(http: Http, _: int) -> None:
        await http.ask("GET", "/v1/work-orders?state=new&limit=50", 200)

    async def update(http: Http, n: int) -> None:
        body = json.dumps({"update_id": f"B-{next(numbers)}", "verb": "note", "text": "measured"}).encode()
        await http.ask("POST", f"/v1/work-orders/{references[n]}/updates", 202, body)

    return [("get", get), ("list", page), ("update", update)]


def _bound(ask: Callable[[Http, int], Awaitable[Any]], http: Http) -> Ask:
    async def bound(n: int) -> None:
        await ask(http, n)

    return bound


async def _bare(asked: Asked, there: Stage, references: Sequence[str], tell: Tell) -> dict[str, Any]:
    """The yardstick: the same rows by asyncpg alone, as many connections, no HTTP, nobody asked who he is."""
    tell("asyncpg alone")
    connections = [await asyncpg.connect(there.dsn) for _ in range(asked.connections)]

    def get(connection: Any) -> Ask:
        async def ask(n: int) -> None:
            await connection.fetchrow(BARE_GET, references[n], DEPARTMENT)

        return ask

    def page(connection: Any) -> Ask:
        async def ask(_: int) -> None:
            await connection.fetch(BARE_LIST, DEPARTMENT)

        return ask

    try:
        return {
            "bare get": await _timed([get(one) for one in connections], asked.requests),
            "bare list": await _timed([page(one) for one in connections], asked.requests),
        }
    finally:
        for connection in connections:
            await connection.close()


async def _timed(askers: Sequence[Ask], count: int) -> dict[str, Any]:
    """So many requests, each asker's one after the other."""
    numbers, latencies = iter(range(count)), list[float]()

    async def work(ask: Ask) -> None:
        for n in numbers:
            began = time.perf_counter()
            await ask(n)
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*map(work, askers))
    seconds = time.perf_counter() - began
    return {"requests": count, "per_s": round(count / seconds, 1), **_latency(latencies)}


def _latency(latencies: Sequence[float]) -> dict[str, float | None]:
    ordered = sorted(latencies)
    return {
        name: round((percentile(ordered, share) or 0.0) * 1_000, 2)
        for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99))
    }


async def _streams(count: int, there: Stage) -> dict[str, Any]:
    """From the commit of a change until the last of all listeners has it."""
    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(connected(there.port, there.key)) for _ in range(count)]
        for one in listeners:
            await one.begin("GET", "/v1/changes")
            await one.head()
        connection = await asyncpg.connect(there.dsn)
        stack.push_async_callback(connection.close)
        await _told(connection, listeners, "first")  # now everybody listens
        latencies = [await _told(connection, listeners, f"event-{n}") for n in range(EVENTS)]
    return {"listeners": count, "events": EVENTS, **_latency(latencies)}


async def _told(connection: Any, listeners: Sequence[Http], name: str) -> float:
    waiting = [asyncio.ensure_future(one.event(name.encode())) for one in listeners]
    began = time.perf_counter()
    async with asyncio.timeout(EVENT_S):
        while not all(one.done() for one in waiting):
            async with connection.transaction():
                await feed.add(
                    connection, [Told(DEPARTMENT, "work-order", name, 1, json.dumps({"reference": name}))]
                )
            began = time.perf_counter()
            await asyncio.wait(waiting, timeout=EVENT_S if name != "first" else 2.0)
    return time.perf_counter() - began
