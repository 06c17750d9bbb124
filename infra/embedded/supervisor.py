"""The supervisor: one process that starts the embedded installation, keeps it running, and ends it.

It works by reconciliation: a few times a second it looks at what should run and does not, and starts that, in order:
database, broker (then topics, then what the outbox still holds), workers and services. A start, a crash of one part and
a crash of several are the same path.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Final, TypeVar

from connectors.errors import Transient
from connectors.postgres.migrate import MigrationError
from infra.cli.errors import Oops
from infra.connect import embedded_timing
from infra.embedded import installation
from infra.embedded.broker import (
    EmbeddedBroker,
    PortBusy,
    accepts_connections,
    check_port,
    free_port,
    is_free,
    launch_broker,
)
from infra.embedded.database import EmbeddedDatabase, launch_database
from infra.embedded.processes import PartFailed, Running, end, identify, spawn
from infra.embedded.state import HOME_MARK, Home, Restart, State, end_strays
from infra.in_force import EXIT_OTHER_TOPICS, differs
from infra.logging import logger
from infra.settings import Settings, as_environment
from infra.standing import all_claimed

LOOK_EVERY_S: Final = 0.2
BOOT_LIMIT_S: Final = 60.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
SOUND_AFTER_S: Final = 60.0
"""A worker that ran this long was sound: its next failure counts as the first."""
FAILURES_AT_START: Final = 4
"""A worker that ends this often before the system was ever ready will not get better by itself."""
ORPHANED_BATCH_S: Final = 3.0
"""Workers whose broker has died have nothing to drain to."""
DRAIN_GRACE_S: Final = 3.0
"""A worker keeps the drain timeout itself; it is killed this much later."""
ROTATE_EVERY_S: Final = 10.0

SERVICES: Final = ("api", "courier", "timers")
"""What runs beside the workers, one process each: the name of its `rapid` command."""
PORTAL: Final = ("portal", "ingest portal")
FOLDER: Final = ("folder", "ingest folder")
"""The same, where the settings ask for it: its name and its command."""
API: Final = "api"
REMEMBERED: Final = 50
"""Ends of processes that the state holds."""

T = TypeVar("T")
log = logger(__name__)


class StartFailed(PartFailed):
    """The system did not become ready."""


class Stopping(Exception):
    """Someone asked us to stop."""


def backoff_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling, up to a limit."""
    return float(min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20), LONGEST_PAUSE_S))


@dataclass(slots=True)
class Worker:
    """One place for a process of ours, and how its last ones fared. Times are monotonic seconds."""

    name: str
    command: str = "worker"  # of `rapid`
    process: "subprocess.Popen[bytes] | None" = None
    identity: Running | None = None
    failures: int = 0
    started_at: float = 0.0
    not_before: float = 0.0

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def note_failure(self, now: float) -> float:
        """Count a failure; returns the seconds until the next start."""
        self.failures = 1 if now - self.started_at > SOUND_AFTER_S else self.failures + 1
        pause_s = backoff_s(self.failures)
        self.not_before = now + pause_s
        self.process = None
        self.identity = None
        return pause_s


class Supervisor:
    """Runs one home until SIGTERM or SIGINT. Make it with the home's lock held."""

    def __init__(self, settings: Settings, on_ready: Callable[[State], None]) -> None:
        self._settings = settings
        self._home = Home(settings.home_folder)
        self._on_ready = on_ready
        self._state = State(supervisor=identify("supervisor", os.getpid()))
        self._database: EmbeddedDatabase | None = None
        self._broker: EmbeddedBroker | None = None
        self._port = settings.broker_port
        self._filled_boot = ""  # the boot whose topics exist and which holds what the outbox held
        self._workers = [Worker(f"worker-{number}") for number in range(1, settings.workers + 1)]
        self._services = [Worker(name, name) for name in SERVICES]
        self._services += [Worker(*PORTAL)] if settings.portal else []
        self._services += [Worker(*FOLDER)] if settings.sources else []
        self._api_port = settings.http_port
        self._was_ready = False
        self._stop = asyncio.Event()
        self._rotated_at = 0.0

    async def run(self) -> None:
        """Start everything, keep it running, end it when asked. Raises StartFailed."""
        with self._signals():
            self._save("starting")
            try:
                await self._keep_running()
            except Stopping:
                log.info("asked to stop")
            finally:
                self._shut_down()

    # -- keep it running

    async def _keep_running(self) -> None:
        until = time.monotonic() + self._settings.start_timeout_s
        failures = 0
        while True:
            try:
                await self._reconcile()
                failures = 0
            except (PartFailed, Transient, MigrationError, Oops, OSError) as error:
                failures += 1
                self._give_up_at_start(error)
                log.error("will try again", reason=str(error), failures=failures)
                await self._pause(backoff_s(failures))
            if not self._was_ready and time.monotonic() > until:
                raise StartFailed(
                    f"The system is not ready after {self._settings.start_timeout_s:.0f} s: see {self._home.logs}."
                )
            await self._pause(LOOK_EVERY_S)

    def _give_up_at_start(self, error: Exception) -> None:
        """Before the system was ever ready a failure is told to who waits for it; later it is tried again."""
        if self._was_ready or isinstance(error, Transient):
            return
        if isinstance(error, (StartFailed, PortBusy, Oops)):
            raise error
        raise StartFailed(f"{error} See {self._home.logs}.") from error

    async def _reconcile(self) -> None:
        """One look: start what should run and does not."""
        self._rotate_logs()
        if self._database is None or not self._database.is_running():
            await self._start_database()
        if self._broker is None or not self._broker.is_running():
            await self._start_broker()
        if self._broker and self._filled_boot != self._broker.boot_id:
            await self._fill_broker(self._broker)
        self._start_workers()
        if self._state.phase != "ready":
            await self._check_ready()

    async def _start_database(self) -> None:
        if self._database is not None:
            log.error("database ended", code=self._database.process.returncode)
            self._note_end("database", self._database.process.returncode)
            self._save("recovering")
        database = launch_database(self._home.data, self._home.log("database"))
        self._database = database
        self._state.database = identify("database", database.process.pid)
        self._state.database_url = database.url
        self._save()
        await self._until(database.is_ready, "The embedded PostgreSQL")
        await self._unless_stopped(installation.apply_migrations(database.url))
        log.info("database is ready", pid=database.process.pid)

    async def _start_broker(self) -> None:
        """Start it empty; the workers, which know the logs of its last boot, are stopped first."""
        if self._broker is not None:
            log.error("broker ended: its logs begin anew", code=self._broker.process.returncode)
            self._note_end("broker", self._broker.process.returncode)
            self._save("recovering")
            self._stop_all(self._workers, ORPHANED_BATCH_S)
        broker = launch_broker(self._home.log("broker"), self._choose_port())
        if self._state.broker_address not in ("", broker.address):
            self._stop_all(self._services, ORPHANED_BATCH_S)  # else they wait for it where it was
        self._broker = broker
        self._state.broker = identify("broker", broker.process.pid)
        self._state.broker_address = broker.address
        self._state.boot_id = broker.boot_id
        self._save()
        await self._until(broker.is_ready, "The embedded broker")
        log.info("broker is ready", pid=broker.process.pid, address=broker.address, boot_id=broker.boot_id)

    def _choose_port(self) -> int:
        """The configured port, else that of the last boot so that clients find it again, else any."""
        last = self._broker.port if self._broker else 0
        return self._settings.broker_port or (last if last and is_free(last) else 0)

    async def _fill_broker(self, broker: EmbeddedBroker) -> None:
        """Make the topics, and publish again what is in PostgreSQL and not known to be consumed, and what
        departments were told last."""
        place = self._child_settings()
        strangers = await self._unless_stopped(installation.remove_strangers_topics(place))
        if strangers:
            log.warning("somebody's questions had made topics before us: made anew", topics=strangers)
        await self._unless_stopped(installation.create_topics(place))
        published, told = await self._unless_stopped(installation.fill(place, broker.boot_id))
        self._filled_boot = broker.boot_id
        log.info("broker is filled", boot_id=broker.boot_id, published_again=published, told_again=told)

    def _start_workers(self) -> None:
        now = time.monotonic()
        for worker in [*self._workers, *self._services]:
            if worker.is_running():
                continue
            if worker.process is not None:
                self._note_worker_ended(worker, now)
            if now >= worker.not_before:
                self._start_worker(worker, now)

    def _note_worker_ended(self, worker: Worker, now: float) -> None:
        assert worker.process is not None
        code = worker.process.returncode
        if code == EXIT_OTHER_TOPICS:
            self._renew_broker(worker)
            return
        pause_s = worker.note_failure(now)
        log.error("process ended", process=worker.name, code=code, starts_again_in_s=pause_s)
        self._note_end(worker.name, code)
        if not self._was_ready and worker.failures >= FAILURES_AT_START:
            raise StartFailed(
                f"`rapid {worker.command}` ends at its start with code {code}: see {self._home.log(worker.name)}."
            )
        self._save("recovering")

    def _note_end(self, name: str, code: int) -> None:
        """For who looks at the status."""
        self._state.restarts[name] = self._state.restarts.get(name, 0) + 1
        self._state.ended = [*self._state.ended, Restart(name, time.time(), code)][-REMEMBERED:]

    def _renew_broker(self, worker: Worker) -> None:
        """Other departments have other topics. The embedded broker may wait for ever for a member of the group that was
        killed, once all others have left at once; so it begins anew too, filled as after a crash."""
        log.info("other departments: the broker begins anew", process=worker.name)
        worker.process = worker.identity = None
        if self._broker:
            self._broker.stop()
        self._save("recovering")

    def _start_worker(self, worker: Worker, now: float) -> None:
        command = [sys.executable, "-P", "-m", "infra.cli.main", *worker.command.split()]
        if worker.command == API:
            self._choose_api_port()
        environment = {
            **os.environ,
            **as_environment(
                self._child_settings().model_copy(update={"watch_port": self._watch_port(worker)})
            ),
            HOME_MARK: str(self._home.folder),
        }
        worker.process = spawn(command, self._home.log(worker.name), environment)
        worker.identity = identify(worker.name, worker.process.pid)
        worker.started_at = now
        self._save()
        log.info("process started", process=worker.name, pid=worker.process.pid)

    def _watch_port(self, worker: Worker) -> int:
        """Of this process: its place among all of them, counted from the configured port, else any free one."""
        first = self._settings.watch_port
        place = [*self._workers, *self._services].index(worker)
        port = first + place if first else free_port()
        host = self._settings.watch_host
        self._state.watch[worker.name] = f"{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104
        return port

    def _choose_api_port(self) -> None:
        """The configured one, else the last one so that clients find it again, else any."""
        port = self._settings.http_port
        if not port:
            port = self._api_port if self._api_port and is_free(self._api_port) else free_port()
        self._api_port = port
        self._state.api_address = f"{self._settings.http_host}:{port}"

    def _child_settings(self) -> Settings:
        """The settings of a worker: ours, with the addresses of this boot."""
        return self._settings.model_copy(
            update={
                "home": self._home.folder,
                "brokers": self._state.broker_address,
                "database_url": self._state.database_url,
                "embedded": True,
                "http_port": self._api_port,
                "log_format": "json",
                **embedded_timing(self._settings),
            }
        )

    async def _check_ready(self) -> None:
        """Ready is: every process lives, the API answers, and every partition that an agent reads is claimed in this
        boot."""
        boot_id = self._state.boot_id
        if not all(one.is_running() for one in [*self._workers, *self._services]):
            return
        if not accepts_connections(self._api_port):
            return
        place = self._child_settings()
        if not await self._unless_stopped(all_claimed(place.database_url, place.broker_list, boot_id)):
            return
        if not self._was_ready:
            await self._note_policy(place)  # who waits for "ready" reads the note beside it
        self._save("ready")
        log.info("ready", boot_id=boot_id)
        if not self._was_ready:
            self._was_ready = True
            self._on_ready(self._state)

    async def _note_policy(self, place: Settings) -> None:
        """Say so if the policy that lies in the folder is not the one in force."""
        with contextlib.suppress(Transient):
            found = await self._unless_stopped(installation.policies_of(place))
            self._state.file_policy, active = found
            self._state.note = differs(place, active) if active not in ("", found[0]) else ""

    # -- end it

    def _shut_down(self) -> None:
        """Services end first, then workers drain, then the broker, then the database; what was accepted is in
        PostgreSQL."""
        with contextlib.suppress(OSError):  # a full disk keeps nobody from stopping
            self._save("stopping")
        for places in (self._services, self._workers):
            self._stop_all(places, self._child_settings().drain_timeout_s + DRAIN_GRACE_S)
        if self._broker:
            self._broker.stop()
        if self._database:
            self._database.stop()
        self._state.broker = self._state.database = None
        with contextlib.suppress(OSError):
            self._save("stopped")
        log.info("stopped")

    def _stop_all(self, places: Sequence[Worker], limit_s: float) -> None:
        killed = end([worker.identity for worker in places if worker.identity], signal.SIGTERM, limit_s)
        for worker in places:
            if worker.process:
                worker.process.wait()
            worker.process = worker.identity = None
            worker.not_before = 0.0
        if killed:
            log.warning(
                "processes were killed: they did not end in time", processes=[one.name for one in killed]
            )

    # -- waiting

    async def _until(self, is_ready: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + BOOT_LIMIT_S
        while not is_ready():
            if time.monotonic() > until:
                raise PartFailed(f"{what} does not become ready.")
            await self._pause(0.02)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
        if self._stop.is_set():
            raise Stopping

    async def _unless_stopped(self, work: Awaitable[T]) -> T:
        """Wait for `work`, but give it up when we are asked to stop or when what it needs has died."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=LOOK_EVERY_S)
                if not task.done():
                    self._check_still_there()
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    def _check_still_there(self) -> None:
        if self._stop.is_set():
            raise Stopping
        if self._database and not self._database.is_running():
            raise Transient("the database ended meanwhile")
        if self._broker and not self._broker.is_running():
            raise Transient("the broker ended meanwhile")

    # -- bookkeeping

    def _save(self, phase: str | None = None) -> None:
        self._state.workers = [worker.identity for worker in self._workers if worker.identity]
        self._state.services = [service.identity for service in self._services if service.identity]
        if phase:
            self._state = self._state.model_copy(update={"phase": phase})
        self._home.write_state(self._state)

    def _rotate_logs(self) -> None:
        now = time.monotonic()
        if now - self._rotated_at < ROTATE_EVERY_S:
            return
        self._rotated_at = now
        for file in self._home.logs.glob("*.log"):
            rotate(file, self._settings.log_file_bytes)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)


def rotate(file: Path, limit_bytes: int) -> None:
    """Set a log that has grown too large aside as `.1`. It is copied and cut, because its writer keeps it open."""
    with contextlib.suppress(FileNotFoundError):
        if file.stat().st_size > limit_bytes:
            copyfile(file, file.with_name(file.name + ".1"))
            os.truncate(file, 0)


def supervise(settings: Settings, on_ready: Callable[[State], None]) -> None:
    """Run the home in this process until it is asked to stop; the home's lock must be held.

    Strays of a killed supervisor end first. Raises StartFailed, PortBusy.
    """
    strays = end_strays(Home(settings.home_folder))
    if strays:
        log.warning(
            "ended what a killed supervisor left", processes=[f"{one.name} {one.pid}" for one in strays]
        )
    check_port(settings.broker_port)  # before the database: who waits for it should not wait long
    asyncio.run(Supervisor(settings, on_ready).run())
