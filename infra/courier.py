"""The courier as a process: settings → connectors → webhooks, Open311 and alerts to people, until SIGTERM."""

import asyncio
import logging
import os
import random
import socket
from functools import partial
from typing import Final

from connectors.postgres.pool import Pool, create_pool
from connectors.webhooks.courier import Courier, Pace
from connectors.webhooks.guard import Borders, parse_networks, parse_ports, resolve_by_system
from connectors.webhooks.schedule import Limits
from connectors.webhooks.sender import Sender, Timeouts, trusted_authorities
from infra.cli.errors import ExitCode, Oops
from infra.dead_letters import let_go_daily
from infra.logging import logger
from infra.notify import tell_people
from infra.open311 import follow_open311
from infra.settings import Settings
from infra.stopping import pool_when_there, set_by_signals
from infra.watching import metrics as m
from infra.watching.process import Watched

WAIT_FOR_DATABASE_S: Final = 2.0
DAY_S: Final = 86_400.0
CHATTY: Final = ("httpx", "httpcore")
"""They log each request with its whole URL, and some receivers put a token of theirs into that."""

log = logger(__name__)


async def send_webhooks(settings: Settings, database_url: str) -> None:
    """Send what is told to webhooks, file it at Open311 endpoints, tell people of alerts, until SIGTERM or SIGINT.

    Raises Oops for settings that cannot work.
    """
    sender = make_sender(settings)
    stop = asyncio.Event()
    settings = settings.model_copy(update={"database_url": database_url})
    with set_by_signals(stop):
        async with Watched("courier", settings).watching() as watched:
            watched.ask_database()
            connect = partial(
                create_pool,
                database_url,
                min_size=1,
                max_size=settings.database_connections,
                application_name="courier",
            )
            pool = await pool_when_there(connect, stop, look_every_s=WAIT_FOR_DATABASE_S)
            if pool is not None:
                async with pool:
                    await _send(pool, sender, settings, stop, watched)
    log.info("courier stopped")


async def _send(
    pool: Pool, sender: Sender, settings: Settings, stop: asyncio.Event, watched: Watched
) -> None:
    name = _name()
    courier = _courier(pool, sender, settings, name, watched)
    looks = watched.hear("alerts", "The look for alerts to tell people of")
    waiting = asyncio.create_task(_stop_when(stop, courier))
    others = {
        asyncio.create_task(follow_open311(pool, settings, stop)),
        asyncio.create_task(tell_people(pool, settings, name, stop, watched.metrics, looks.answered)),
        asyncio.create_task(let_go_daily(pool, settings.dead_letter_days, stop)),
    }
    for one in others:
        one.add_done_callback(lambda _: stop.set())  # none goes on without the others
    try:
        log.info("courier is ready", pid=os.getpid())
        await courier.run()
    finally:
        stop.set()
        await asyncio.wait(others)
        waiting.cancel()
    for one in others:
        one.result()


def _courier(pool: Pool, sender: Sender, settings: Settings, name: str, watched: Watched) -> Courier:
    looks = watched.hear("webhooks", "The look for webhooks to send")

    def told(ending: str, seconds: float) -> None:
        watched.metrics.add(m.WEBHOOK_SENDS, 1, ending)
        watched.metrics.observe(m.WEBHOOK_SECONDS, seconds)

    return Courier(
        pool, sender, limits=_limits(settings), pace=_pace(settings), chance=random.random, name=name, told=told,
        looked=looks.answered,
    )  # fmt: skip


def make_sender(settings: Settings) -> Sender:
    """What posts, within the settings' borders. Raises Oops."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    timeouts = Timeouts(settings.webhook_connect_timeout_s, settings.webhook_timeout_s)
    own = settings.webhook_ca_file
    try:
        trusted = trusted_authorities(str(own) if own else None)
    except OSError as error:
        raise Oops(
            f"RAPID_WEBHOOK_CA_FILE: {own} cannot be read as certificates in PEM form.", ExitCode.INVALID
        ) from error
    return Sender(borders(settings), timeouts, resolve_by_system, trusted)


def borders(settings: Settings) -> Borders:
    """Where webhooks may go. Raises Oops."""
    try:
        ports = parse_ports(settings.webhook_ports)
    except ValueError as error:
        raise Oops(f"RAPID_WEBHOOK_PORTS: {error}.", ExitCode.INVALID) from error
    return Borders(parse_networks(settings.webhook_allow), settings.webhook_http, ports)


def _limits(settings: Settings) -> Limits:
    return Limits(
        first_retry_s=settings.webhook_first_retry_s,
        longest_retry_s=settings.webhook_longest_retry_s,
        breaker_failures=settings.webhook_breaker_failures,
        probe_s=settings.webhook_probe_s,
        retry_after_s=settings.webhook_retry_after_s,
        give_up_s=settings.webhook_disable_days * DAY_S,
    )


def _pace(settings: Settings) -> Pace:
    return Pace(
        endpoints=settings.courier_endpoints,
        lease_s=settings.webhook_timeout_s + settings.courier_grace_s,
        keep_log_s=settings.webhook_log_days * DAY_S,
    )


def _name() -> str:
    """Unique among the couriers of all machines, for as long as a lease can last."""
    return f"{socket.gethostname()}:{os.getpid()}:{random.getrandbits(48):012x}"


async def _stop_when(stop: asyncio.Event, courier: Courier) -> None:
    await stop.wait()
    log.info("asked to stop")
    courier.stop()
