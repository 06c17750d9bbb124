"""A process that is watched: its loop beats, its parts are asked now and then, its port answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import asyncpg

from connectors.errors import Permanent, Transient
from connectors.postgres.pool import classified
from infra.cli.errors import ExitCode, Oops
from infra.logging import logger
from infra.settings import Settings
from infra.watching import metrics as m
from infra.watching.metrics import Metrics
from infra.watching.pulse import BEAT_S, Heard, Pulse
from infra.watching.served import Port, served

ASK_EVERY_S: Final = 2.0
ANSWER_S: Final = 5.0

log = logger(__name__)

Ask = Callable[[], Awaitable[Any]]
"""Raises Transient or Permanent when there is no answer."""


class Cluster(Protocol):
    """A broker that can be asked who it is."""

    async def cluster_id(self) -> str: ...


class Watched:
    """One process: its metrics, its parts, and who asks after them. Enter it when the loop runs."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.metrics = Metrics()
        self.pulse = Pulse()
        self.stuck_s = settings.watch_stuck_s
        self._settings = settings
        self._asking: list[asyncio.Task[None]] = []
        self._before: list[Callable[[], None]] = []

    @property
    def port(self) -> int:
        """0: nobody watches."""
        return self._settings.watch_port

    def ask(self, part: str, what: str, ask: Ask, every_s: float = ASK_EVERY_S) -> None:
        """Ask again and again; a part that has not answered for `stuck_s` seconds is not ready. Only when somebody
        watches."""
        if not self.port:
            return
        heard = Heard(what, self.stuck_s)
        self.pulse.part(part, heard.why)
        self._asking.append(asyncio.create_task(_keep_asking(heard, ask, every_s), name=f"watch {part}"))

    def ask_database(self, also: Callable[[Any], Awaitable[None]] | None = None) -> None:
        """Over a connection of its own: the pool's may all be busy. `also`: what else is to be found out there."""
        database = Database(self._settings.database_url, also)
        self.ask("database", "PostgreSQL", database.ask)

    def ask_broker(self, cluster: Cluster) -> None:
        """Whether the broker answers."""
        self.ask("broker", "The broker", cluster.cluster_id)

    def count_now(self, gauge: m.Metric, count: Callable[[], float]) -> None:
        """A gauge that is looked up when somebody asks; `count` is called in another thread."""
        self.metrics.look_up(gauge, count)

    def before_scrape(self, note: Callable[[], None]) -> None:
        """To be called, in another thread, whenever somebody asks for the metrics."""
        self._before.append(note)

    def note(self) -> None:
        """Everything that is to be noted before a scrape."""
        for one in self._before:
            one()

    def hear(self, part: str, what: str) -> Heard:
        """A part that says by itself that it gets on."""
        heard = Heard(what, self.stuck_s)
        self.pulse.part(part, heard.why)
        return heard

    @asynccontextmanager
    async def watching(self) -> AsyncIterator["Watched"]:
        """Serve the port meanwhile. Raises Oops when it is taken."""
        if not self.port:
            yield self
            return
        with _listening(self, self._settings):
            beating = asyncio.create_task(self._beat(), name="watch beat")
            try:
                yield self
            finally:
                for task in (beating, *self._asking):
                    task.cancel()
                await asyncio.gather(beating, *self._asking, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            self.metrics.set(m.LOOP_LATE, max(0.0, self.pulse.beat() - BEAT_S))
            await asyncio.sleep(BEAT_S)


@contextlib.contextmanager
def _listening(watched: Watched, settings: Settings) -> Any:
    host, port = settings.watch_host, settings.watch_port
    app = Port(watched.name, watched.pulse, watched.metrics, watched.note)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(served(host, port, app))
        except OSError as error:
            raise Oops(
                f"The {watched.name} cannot be watched on {host}:{port} ({error.strerror}): choose another port with "
                "RAPID_WATCH_PORT.",
                ExitCode.BUSY_PORT,
            ) from error
        yield


async def _keep_asking(heard: Heard, ask: Ask, every_s: float) -> None:
    while True:
        try:
            async with asyncio.timeout(ANSWER_S):
                await ask()
            heard.answered()
        except (Transient, Permanent, TimeoutError) as error:
            heard.failed(str(error) or f"no answer within {ANSWER_S:g} s.")
        except Exception as error:  # watching must not end what is watched, nor go blind
            heard.failed(f"unexpected {type(error).__name__}.")
            log.exception("unexpected, asked again")
        await asyncio.sleep(every_s)


class Database:
    """Asks whether PostgreSQL answers, over one connection that is made anew when it is lost."""

    def __init__(self, url: str, also: Callable[[Any], Awaitable[None]] | None) -> None:
        self._url = url
        self._also = also
        self._connection: Any = None

    async def ask(self) -> None:
        """Raises Transient."""
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(
                    self._url, timeout=ANSWER_S, server_settings={"application_name": "rapid watch"}
                )
            await self._connection.execute("SELECT")
            if self._also is not None:
                await self._also(self._connection)
        except BaseException as error:
            self._let_go()
            if isinstance(error, Exception):
                raise classified(error) from error
            raise

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
