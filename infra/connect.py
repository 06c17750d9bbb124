"""Where the system is: what the settings name, or what runs in home."""

from dataclasses import dataclass
from typing import Final

from connectors.kafka.security import PLAINTEXT, Security
from infra.cli.errors import ExitCode, Oops
from infra.embedded.processes import is_alive
from infra.embedded.state import Home, State
from infra.settings import Settings

EMBEDDED_TIMING: Final = {
    "session_timeout_s": 6.0,
    "heartbeat_s": 1.0,
    "rebalance_timeout_s": 6.0,
    "drain_timeout_s": 5.0,
}
"""Seconds. The embedded broker makes a join wait half the rebalance timeout, and answers slowly to a worker that
leaves its group: what is not drained in time is done again from the database."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """How to reach the brokers (`host:port` each, and the login) and PostgreSQL. `boot_id` is the embedded
    broker's, else ""."""

    brokers: tuple[str, ...]
    database_url: str
    embedded: bool
    boot_id: str = ""
    security: Security = PLAINTEXT


def connection(settings: Settings) -> Endpoints:
    """The endpoints of the running system.

    Raises Oops when the settings name none and nothing runs in home.
    """
    if settings.broker_list and settings.database_url:
        return Endpoints(
            settings.broker_list, settings.database_url, settings.embedded, security=settings.security
        )
    state = _running_state(settings)
    return Endpoints(
        settings.broker_list or (state.broker_address,),
        settings.database_url or state.database_url,
        embedded=not settings.broker_list,
        boot_id="" if settings.broker_list else state.boot_id,
        security=settings.security if settings.broker_list else PLAINTEXT,
    )


def database_url(settings: Settings) -> str:
    """PostgreSQL alone, for commands that need no broker. Raises Oops like `connection`."""
    return settings.database_url or _running_state(settings).database_url


def connected(settings: Settings) -> Settings:
    """The settings with the endpoints filled in, as a worker needs them. Raises Oops like `connection`."""
    there = connection(settings)
    found = {
        "brokers": ",".join(there.brokers),
        "database_url": there.database_url,
        "embedded": there.embedded,
    }
    timing = embedded_timing(settings) if there.embedded else {}
    return settings.model_copy(update=found | timing)


def embedded_timing(settings: Settings) -> dict[str, float]:
    """The group's timing with the embedded broker, but for what was set explicitly; seconds."""
    return {name: value for name, value in EMBEDDED_TIMING.items() if name not in settings.model_fields_set}


def _running_state(settings: Settings) -> State:
    home = Home(settings.home_folder)
    state = home.read_state()
    if state is None or state.database is None or not is_alive(state.database):
        raise Oops(
            f"Nothing is running in {home.folder}: start it with `rapid up --detach`.", ExitCode.NOT_RUNNING
        )
    return state
