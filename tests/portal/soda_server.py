"""A portal on a real socket that speaks SODA 2.1: $select, $where, $order, $limit, $offset, system fields, validators,
app tokens, throttling; and that fails as told.

Row ids are opaque, as the real ones are: their order is the portal's own, and not that of their letters.
"""

import asyncio
import json
import re
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

LIMIT_S: Final = 60.0
Cells = Mapping[str, Any]


@dataclass
class Stored:
    """One row. `number` is its place in the portal's own order of ids."""

    number: int
    at: datetime
    cells: Cells

    @property
    def row_id(self) -> str:
        return row_id_of(self.number)

    def value(self, column: str) -> Any:
        return {":id": self.number, ":updated_at": self.at}.get(column, self.cells.get(column))

    def shown(self, column: str) -> Any:
        return {":id": self.row_id, ":updated_at": soda_time(self.at)}.get(column, self.cells.get(column))


def row_id_of(number: int) -> str:
    """Scrambled, so that nobody can rely on the order of its letters."""
    return f"row-{(number * 48_271) % 65_537:05x}_{number:x}"


def _number_of(row_id: str) -> int:
    number = int(row_id.rpartition("_")[2], 16)
    if row_id_of(number) != row_id:
        raise BadQuery("query.soql.type-mismatch", "Type mismatch for op$>, is text")
    return number


def soda_time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class SodaDataset:
    """A dataset as its owner fills it. `columns`: what the portal knows; a row may leave out any."""

    columns: set[str]
    modified_at: datetime
    rows: dict[str, Stored] = field(default_factory=dict)
    version: int = 0
    numbers: int = 0

    def put(self, key: str, cells: Cells, at: datetime, seen_at: datetime | None = None) -> None:
        """Insert or change a row. `seen_at`: when it becomes visible, which may be later than its `:updated_at`."""
        before = self.rows.get(key)
        if before is None:
            self.numbers += 1
        number = before.number if before else self.numbers
        self.rows[key] = Stored(
            number, at, {name: cell for name, cell in cells.items() if cell not in ("", None)}
        )
        self.touch(seen_at or at)

    def touch(self, at: datetime) -> None:
        self.version += 1
        self.modified_at = max(self.modified_at, at)


class BadQuery(Exception):
    def __init__(self, code: str, message: str, **data: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


class Asked(NamedTuple):
    """One request and what became of it; status 0: one of the failures."""

    dataset: str
    parameters: dict[str, str]
    headers: dict[str, str]
    status: int


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


Failure = Callable[["SodaServer", asyncio.StreamWriter, Answer], Awaitable[None]]


@dataclass
class SodaServer:
    """`script`: what happens to the next requests for a dataset instead of an answer, None for an answer."""

    datasets: dict[str, SodaDataset] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    script: dict[str, deque[Failure | None]] = field(default_factory=lambda: defaultdict(deque))
    now: datetime = datetime(2026, 3, 1, tzinfo=UTC)
    token: str = ""
    port: int = 0
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fail(self, dataset: str, *failures: Failure | None) -> None:
        self.script[dataset].extend(failures)

    async def until_asked(self, count: int) -> None:
        """Until so many requests have arrived."""
        async with asyncio.timeout(LIMIT_S), self.arrived:
            await self.arrived.wait_for(lambda: len(self.asked) >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(LIMIT_S):
                    await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        url = urlsplit(head[0].split()[1])
        dataset = url.path.removeprefix("/resource/").removesuffix(".json")
        parameters = dict(parse_qsl(url.query, keep_blank_values=True))
        answer = self.answer(dataset, parameters, headers)
        failure = self.script[dataset].popleft() if self.script[dataset] else None
        async with self.arrived:
            self.asked.append(Asked(dataset, parameters, headers, 0 if failure else answer.status))
            self.arrived.notify_all()
        await (failure or answered)(self, writer, answer)

    def answer(self, dataset: str, parameters: dict[str, str], headers: dict[str, str]) -> Answer:
        if self.token and headers.get("x-app-token") != self.token:
            return _error(403, BadQuery("permission_denied", "Invalid app_token specified"))
        found = self.datasets.get(dataset)
        if found is None:
            return _error(404, BadQuery("dataset.missing", "Not found"))
        try:
            selected, rows = _run(found, parameters)
        except BadQuery as bad:
            return _error(400, bad)
        about = self._about(dataset, found, parameters)
        if _unchanged(found, about["ETag"], headers):
            return Answer(304, about, b"")
        shown = [{name: value for name in selected if (value := row.shown(name)) is not None} for row in rows]
        return Answer(200, about | {"X-SODA2-Fields": json.dumps(selected)}, _json(shown))

    def _about(self, name: str, found: SodaDataset, parameters: dict[str, str]) -> dict[str, str]:
        question = abs(hash(tuple(sorted(parameters.items()))))
        return {
            "Date": format_datetime(self.now, usegmt=True),
            "Last-Modified": format_datetime(found.modified_at.replace(microsecond=0), usegmt=True),
            "ETag": f'"{name}.{found.version}.{question:x}"',
        }


def _unchanged(found: SodaDataset, etag: str, headers: Mapping[str, str]) -> bool:
    """`If-None-Match` goes before `If-Modified-Since` (RFC 9110, 13.2.2)."""
    if "if-none-match" in headers:
        return headers["if-none-match"] == etag
    since = headers.get("if-modified-since")
    return since is not None and found.modified_at.replace(microsecond=0) <= parsedate_to_datetime(since)


def _error(status: int, bad: BadQuery) -> Answer:
    said = {"message": bad.message, "errorCode": bad.code, "data": {"data": bad.data}}
    return Answer(status, {}, _json(said))


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


# ---------------------------------------------------------------- SoQL

_KNOWN: Final = {"$select", "$where", "$order", "$limit", "$offset"}
_SYSTEM: Final = {":id", ":updated_at", ":created_at"}
_TOKEN: Final = re.compile(r"\s*(>=|<=|=|>|<|\(|\)|'(?:[^']|'')*'|:?\w+)")


def _run(found: SodaDataset, parameters: Mapping[str, str]) -> tuple[list[str], list[Stored]]:
    unknown = parameters.keys() - _KNOWN
    if unknown:
        raise BadQuery("query.soql.no-such-column", f"Unrecognized arguments {sorted(unknown)}")
    selected = [_column(found, name.strip()) for name in parameters.get("$select", "*").split(",")]
    rows = list(found.rows.values())
    if "$where" in parameters:
        holds = _Where(found, parameters["$where"]).parsed()
        rows = [row for row in rows if holds(row)]
    for name in reversed(parameters.get("$order", ":id").split(",")):
        column = _column(found, name.strip())
        rows.sort(key=lambda row: row.value(column))
    offset, limit = int(parameters.get("$offset", 0)), int(parameters.get("$limit", 1000))
    return selected, rows[offset : offset + limit]


def _column(found: SodaDataset, name: str) -> str:
    if name not in found.columns | _SYSTEM:
        raise BadQuery("query.soql.no-such-column", f"No such column: {name}", column=name)
    return name


Holds = Callable[[Stored], bool]


class _Where:
    """`a > 'x' OR (b = 'y' AND c <= 'z')` as a function of a row. AND binds closer than OR."""

    def __init__(self, found: SodaDataset, text: str) -> None:
        self._found = found
        self._tokens = deque(_TOKEN.findall(text))
        if "".join(text.split()) != "".join("".join(token.split()) for token in self._tokens):
            raise BadQuery("query.compiler.malformed", f"Could not parse SoQL query: {text}")

    def parsed(self) -> Holds:
        holds = self._any()
        if self._tokens:
            raise BadQuery("query.compiler.malformed", "Expected end of input")
        return holds

    def _any(self) -> Holds:
        parts = [self._all()]
        while self._next_is("OR"):
            parts.append(self._all())
        return lambda row: any(part(row) for part in parts)

    def _all(self) -> Holds:
        parts = [self._one()]
        while self._next_is("AND"):
            parts.append(self._one())
        return lambda row: all(part(row) for part in parts)

    def _one(self) -> Holds:
        if self._next_is("("):
            holds = self._any()
            if not self._next_is(")"):
                raise BadQuery("query.compiler.malformed", "Expected )")
            return holds
        column = _column(self._found, self._tokens.popleft())
        compare = _COMPARISONS[self._tokens.popleft()]
        value = _literal(column, self._tokens.popleft())
        return lambda row: row.value(column) is not None and compare(row.value(column), value)

    def _next_is(self, token: str) -> bool:
        if self._tokens and self._tokens[0].upper() == token:
            self._tokens.popleft()
            return True
        return False


_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    ">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
    "=": lambda a, b: a == b,
}  # fmt: skip


def _literal(column: str, token: str) -> Any:
    text = token[1:-1].replace("''", "'")
    if column == ":id":
        return _number_of(text)
    return datetime.fromisoformat(text) if column == ":updated_at" else text


# ---------------------------------------------------------------- how it fails


async def answered(_: SodaServer, writer: asyncio.StreamWriter, answer: Answer) -> None:
    """As it should."""
    await _write(writer, answer.status, answer.headers, answer.body)


async def _write(
    writer: asyncio.StreamWriter,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    length: int | None = None,
) -> None:
    lines = [f"HTTP/1.1 {status} x", "Connection: close"]
    if status != 304:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    lines += [f"{name}: {value}" for name, value in {"Content-Type": "application/json", **headers}.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()


def saying(status: int, body: bytes = b"{}", **headers: str) -> Failure:
    """Another answer; `retry_after="1"` is a header."""
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}

    async def fail(_: SodaServer, writer: asyncio.StreamWriter, __: Answer) -> None:
        await _write(writer, status, named, body)

    return fail


html: Final = saying(200, b"\n<!DOCTYPE html><title>Down for maintenance</title>", content_type="text/html")


def rows_instead(change: Callable[[list[dict[str, Any]]], Any]) -> Failure:
    """The right rows, changed."""

    async def fail(_: SodaServer, writer: asyncio.StreamWriter, answer: Answer) -> None:
        await _write(writer, 200, answer.headers, _json(change(json.loads(answer.body))))

    return fail


async def truncated(_: SodaServer, writer: asyncio.StreamWriter, answer: Answer) -> None:
    """Half of the JSON, as a whole answer."""
    await _write(writer, 200, answer.headers, answer.body[: len(answer.body) // 2])


async def cut(_: SodaServer, writer: asyncio.StreamWriter, answer: Answer) -> None:
    """The connection breaks in the middle."""
    await _write(writer, 200, answer.headers, answer.body[: len(answer.body) // 2], len(answer.body))


async def hangs(_: SodaServer, writer: asyncio.StreamWriter, __: Answer) -> None:
    """Takes the question, and says nothing."""
    await writer.drain()
    await asyncio.sleep(LIMIT_S)


async def trickles(_: SodaServer, writer: asyncio.StreamWriter, answer: Answer) -> None:
    """A byte now and then: no single wait is long."""
    writer.write(b"HTTP/1.1 200 x\r\nContent-Length: 100000\r\n\r\n")
    for byte in answer.body:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


@asynccontextmanager
async def soda_server() -> AsyncIterator[SodaServer]:
    server = SodaServer()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


MINUTE: Final = timedelta(minutes=1)
