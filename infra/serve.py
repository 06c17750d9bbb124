"""The API as a process: settings → connectors → app → sockets, until SIGTERM."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import uvicorn
import uvloop
from fastapi import FastAPI

from agents.intake.border import refuse_incident_report, refuse_issue_report
from connectors.delivery import Log, Publisher
from connectors.errors import Transient
from connectors.geography.areas import Areas
from connectors.geography.boundaries import Boundaries
from connectors.http.app import create_app
from connectors.http.counted import Counted
from connectors.http.fanout import Fanout
from connectors.http.limits import Limits
from connectors.http.malformed import ProblemProtocol
from connectors.http.parts import AreasOfDay, Authenticate, Parts, Refuse
from connectors.http.problems import FieldError
from connectors.http.publishing import Publishing, in_background, tidy
from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.publisher import KafkaPublisher
from connectors.mapping.parts import SourceParts
from connectors.open311.server import InStandardsForm, Place, open311_router
from connectors.postgres.areas import boundaries_of
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.outgoing import Outgoing
from connectors.postgres.pool import Connection, Pool, create_pool
from connectors.postgres.submissions import Submissions
from infra import views
from infra.access import authenticator
from infra.alert_rules import alert_rules
from infra.areas.documents import AreasDocument
from infra.cli.errors import ExitCode, Oops
from infra.in_force import Follower, InForce, following, settle
from infra.logging import logger
from infra.open311 import place_of
from infra.settings import Settings
from infra.sources.ingest import refusals as border
from infra.sources.live import LOOK_EVERY_S, LiveSources
from infra.sources.overview import overview
from infra.watching import metrics as m
from infra.watching.metrics import Metrics
from infra.watching.process import Watched
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.policy import Policy
from schemas.source import SourceLines
from schemas.topics import read_by_us

DEFAULT_PORT: Final = 8311
BACKLOG: Final = 2_048
STATEMENT_S: Final = 15.0
WAIT_FOR_DATABASE_S: Final = 0.5
SHUTDOWN_S: Final = 8
HEADER_BYTES: Final = 65_536
"""What the server itself still reads of headers; the app refuses far smaller ones with a problem document."""

log = logger(__name__)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; waits for a database that is away. Raises Oops."""
    listening = _listen(settings)
    with listening, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_watched(settings, listening))


async def _watched(settings: Settings, listening: socket.socket) -> None:
    async with Watched("api", settings).watching() as watched:
        watched.ask_database()
        await _serve(settings, listening, watched)


def listen(host: str, port: int) -> socket.socket:
    """A socket on which the server will listen, as soon as the app is ready: nobody is to think so before. Raises
    OSError.

    It says that it is TCP, which `socket.create_server` leaves open: only then does asyncio turn Nagle's algorithm
    off, and an answer, whose head and body are two writes, would wait 40 ms for the client's acknowledgement.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    return listening


def _listen(settings: Settings) -> socket.socket:
    port = settings.http_port or DEFAULT_PORT
    try:
        return listen(settings.http_host, port)
    except OSError as error:
        raise Oops(
            f"The API cannot listen on {settings.http_host}:{port} ({error.strerror}): choose another port with "
            "RAPID_HTTP_PORT.",
            ExitCode.BUSY_PORT,
        ) from error


async def _serve(settings: Settings, listening: socket.socket, watched: Watched) -> None:
    async with _pool(settings) as pool, _publisher(settings) as publisher:
        began = await _settled(pool, settings)
        current = Current(began.policy)
        keep = _kept_topics(began.policy) if settings.embedded else frozenset[str]()
        live = await asyncio.to_thread(LiveSources, settings.sources, current)
        source = KafkaAdmin(settings.broker_list, security=settings.security)
        ledger = PostgresLedger(pool, log=source, keep=keep)
        app = compose(
            ledger, outgoing(ledger, publisher, source, keep), settings.database_url,
            authenticator(settings, pool, lambda code: current.policy.department(code) is not None), current,
            await _areas_of(settings, pool, began), limits_of(settings), place_of(settings),
            sources_of(settings, live, current),
        )  # fmt: skip

        async def changed(found: InForce) -> None:
            ledger.keep_also(_kept_topics(found.policy))
            govern(app, current, found.policy, await _areas_of(settings, pool, found))

        app.add_middleware(Counted, tell=partial(_count, watched.metrics))
        watched.ask_broker(source)
        log.info("api starts", address="{}:{}".format(*listening.getsockname()[:2]), pid=os.getpid())
        async with (
            following(Follower(pool, began, changed)),
            in_background(follow_sources(app, settings, live, current)),
        ):
            await Server(config(app, settings), app.state.parts.changes.close).serve([listening])
    log.info("api stopped")


def _count(metrics: Metrics, method: str, route: str, status: int, seconds: float) -> None:
    metrics.add(m.HTTP_REQUESTS, 1, method, route, str(status))
    metrics.observe(m.HTTP_SECONDS, seconds, route)


async def _settled(pool: Pool, settings: Settings) -> InForce:
    """What is in force, as soon as the database has its tables and answers."""
    while True:
        try:
            return await settle(pool, settings)
        except Transient as error:
            log.warning("the api waits for the database", reason=str(error))
            await asyncio.sleep(WAIT_FOR_DATABASE_S)


async def _areas_of(settings: Settings, pool: Pool, found: InForce) -> AreasDocument:
    areas = await asyncio.to_thread(Areas.of_chicago, settings.home_folder / "cache")
    async with pool.acquire() as connection:
        held = await boundaries_of(connection, areas, found.areas)
    return await asyncio.to_thread(areas_document, held, found.policy)


def _kept_topics(policy: Policy) -> frozenset[str]:
    return read_by_us(one.code for one in policy.departments)


@dataclass(slots=True)
class Current:
    """The policy by which requests are answered by now."""

    policy: Policy

    def __call__(self) -> Policy:
        return self.policy


def govern(app: FastAPI, current: Current, policy: Policy, areas: AreasDocument) -> None:
    """From the next request on, answer by this policy; one that is being answered goes on with the parts it has."""
    current.policy = policy
    app.state.parts = replace(app.state.parts, areas=areas, **_by_policy(policy))


def _by_policy(policy: Policy) -> dict[str, Any]:
    """The parts that a policy makes."""
    return {
        "departments": frozenset(one.code for one in policy.departments),
        "centre": policy.triage_queue,
        "alert_rules": alert_rules(policy),
    }


def outgoing(ledger: PostgresLedger, publisher: Publisher, source: Log, keep: frozenset[str]) -> Outgoing:
    """What publishes, with its troubles in the log."""

    def tell(reason: str) -> None:
        if reason:
            log.warning("publishing waits", reason=reason)

    return Outgoing(ledger, publisher, source, keep, tell)


def compose(  # noqa: PLR0917 - the parts of the whole
    ledger: PostgresLedger, outgoing: Outgoing, dsn: str, authenticate: Authenticate, current: Current,
    areas: AreasOfDay, limits: Limits, place: Place | None = None, sources: SourceParts | None = None,
) -> FastAPI:  # fmt: skip
    """The app with all its parts. `dsn`: for the session of whoever publishes."""
    publishing = Publishing(dsn, outgoing)
    submissions = Submissions(ledger, publishing.wake)
    changes = Fanout(ledger, most_listeners=limits.streams)
    parts = Parts(
        ledger=ledger,
        submissions=submissions,
        authenticate=authenticate,
        explain=views.explain,
        decisions=views.decision_records,
        refuse=refusals(current),
        areas=areas,
        changes=changes,
        limits=limits,
        sources=sources or SourceParts(),
        **_by_policy(current.policy),
    )
    running = [
        lambda: in_background(publishing.run()),
        lambda: in_background(changes.run()),
        lambda: in_background(tidy(submissions)),
    ]
    app = create_app(parts, [open311_router(parts, current, place or Place())], running)
    app.add_middleware(InStandardsForm)
    return app


def sources_of(settings: Settings, live: LiveSources, current: Current) -> SourceParts:
    """Sources of any other kind, as their mapping files are now. One that is wrong is told of, and the others hold."""
    found = live.found

    async def all_of_them(connection: Connection) -> SourceLines:
        return await overview(connection, found, settings.portal, datetime.now(UTC))

    wrong = {one.source: one.sentence for one in found.wrong.values() if one.source not in found.right}
    return SourceParts(found.right, wrong, border(current), all_of_them)


async def follow_sources(
    app: FastAPI, settings: Settings, live: LiveSources, current: Current, every_s: float = LOOK_EVERY_S
) -> None:
    """Have mapping files that are changed hold from the next request on, for ever."""
    while settings.sources:
        await asyncio.sleep(every_s)
        if await asyncio.to_thread(live.look):
            app.state.parts = replace(app.state.parts, sources=sources_of(settings, live, current))


def refusals(current: Callable[[], Policy]) -> Refuse:
    """What intake's border would say of a report, by the policy that is in force when it comes."""

    def refuse(report: IncidentReport | IssueReport, now: datetime) -> FieldError | None:
        if isinstance(report, IncidentReport):
            found = refuse_incident_report(report, current(), now)
        else:
            found = refuse_issue_report(report, current(), now)
        return FieldError(field=found.field, expected=found.expected) if found else None

    return refuse


def areas_document(areas: Areas | Boundaries, policy: Policy) -> AreasDocument:
    """The areas as GeoJSON, by date. Today's are made now, for who asks first need not wait."""
    document = AreasDocument(areas if isinstance(areas, Boundaries) else Boundaries(areas), policy)
    document()
    return document


def limits_of(settings: Settings) -> Limits:
    """What the settings allow."""
    return Limits(
        body_bytes=settings.http_body_bytes,
        rate_per_s=settings.http_rate_per_s,
        address_rate_per_s=settings.http_address_rate_per_s,
        streams=settings.http_streams,
    )


def config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How the server runs. Nothing of us is told in its headers, and its log is ours."""
    return uvicorn.Config(
        app,
        http=ProblemProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.http_proxies),
        forwarded_allow_ips=settings.http_proxies or None,
        backlog=BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=SHUTDOWN_S,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )


class Server(uvicorn.Server):
    """Ends at SIGTERM: open streams first, for they would not end by themselves."""

    def __init__(self, config: uvicorn.Config, end_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_streams = end_streams

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike the original, it does not send itself the signal again when everything is done."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """The first call or signal drains, a second one ends at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._end_streams()


@contextlib.asynccontextmanager
async def _pool(settings: Settings) -> AsyncIterator[Pool]:
    pool = await _patient_pool(settings)
    try:
        yield pool
    finally:
        pool.terminate()


@contextlib.asynccontextmanager
async def _publisher(settings: Settings) -> AsyncIterator[KafkaPublisher]:
    publisher = KafkaPublisher(
        settings.broker_list, security=settings.security, idempotent=not settings.embedded
    )
    try:
        yield publisher
    finally:
        await publisher.stop()


async def _patient_pool(settings: Settings) -> Pool:
    """A pool, as soon as the database answers."""
    while True:
        try:
            return await create_pool(
                settings.database_url, min_size=1, max_size=settings.database_connections,
                application_name="rapid api", statement_timeout_s=STATEMENT_S,
            )  # fmt: skip
        except Transient as error:
            log.warning("the api waits for the database", reason=str(error))
            await asyncio.sleep(WAIT_FOR_DATABASE_S)
