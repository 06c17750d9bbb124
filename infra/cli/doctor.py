"""`rapid doctor`: is this machine fit for it, and is what runs sound?"""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
from rich.console import Console

from connectors.errors import Transient
from connectors.kafka.admin import KafkaAdmin
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json
from infra.cli.session import database
from infra.connect import Endpoints, connection
from infra.embedded.broker import is_free
from infra.embedded.installation import departments, incarnations
from infra.policy.feeds import warnings_of
from infra.policy.load import SHIPPED, PolicyErrors, load_policy
from infra.settings import Settings

LEAST_DISK_BYTES: Final = 1_000_000_000


class Finding(NamedTuple):
    """One thing that was looked at; `passed` None: it could not be looked at, because nothing runs, or it will be
    wrong soon."""

    check: str
    passed: bool | None
    said: str


def doctor(as_json: Json = False) -> None:
    """Check this machine, the policy with its calendars and channels, and what runs. Exit code 1: not all right."""
    settings = Settings()
    findings = [*_machine(settings), *_system(settings)]
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        _print(findings)
    wrong = [finding.check for finding in findings if finding.passed is False]
    if wrong:
        raise Oops(f"Not right: {', '.join(wrong)}.", ExitCode.FAILED)


def _print(findings: list[Finding]) -> None:
    console = Console(highlight=False)
    marks = {True: "[green]ok  [/]", False: "[red]no  [/]", None: "[dim]-   [/]"}
    for finding in findings:
        console.print(
            f"{marks[finding.passed]} {finding.check:<10} {finding.said}", soft_wrap=not console.is_terminal
        )


def _machine(settings: Settings) -> list[Finding]:
    return [
        _python(),
        _disk(settings.home_folder),
        _port(settings),
        _judge("policy", lambda: _policy(settings)),
        calendars(settings, datetime.now(UTC).date()),
        channels(settings, os.environ),
    ]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", sys.version_info >= (3, 11), f"{version}; 3.11 or later is needed")


def _disk(home: Path) -> Finding:
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    return Finding("disk", free >= LEAST_DISK_BYTES, f"{free / 1e9:.1f} GB are free at {existing}")


def _port(settings: Settings) -> Finding:
    """Only a configured port can be taken, and by the running broker it may be."""
    if not settings.broker_port:
        return Finding("port", True, "any free port will do")
    try:
        ours = connection(settings).brokers == (f"127.0.0.1:{settings.broker_port}",)
    except Oops:
        ours = False
    return Finding("port", ours or is_free(settings.broker_port), f"{settings.broker_port} is configured")


def _policy(settings: Settings) -> str:
    return f"loads, with {len(departments(settings))} departments"


def calendars(settings: Settings, today: date) -> Finding:
    """Holidays that have ended are wrong; those that end soon, and feeds that fail, will be."""
    folder = settings.policy or SHIPPED
    try:
        policy = load_policy(folder)
    except PolicyErrors:
        return Finding("calendars", None, "not looked at: the policy does not load")
    ends = [calendar.holidays_until for calendar in policy.sla.calendars if calendar.holidays_until]
    warnings = warnings_of(folder, policy, today)
    if warnings:
        return Finding("calendars", False if min(ends, default=today) < today else None, " ".join(warnings))
    return Finding("calendars", True, f"holidays are known until {min(ends)}" if ends else "know no holidays")


def channels(settings: Settings, variables: Mapping[str, str]) -> Finding:
    """Over which channels people cannot be told of alerts, because they have no address here."""
    try:
        oncall = load_policy(settings.policy or SHIPPED).oncall
    except PolicyErrors:
        return Finding("channels", None, "not looked at: the policy does not load")
    unset = [one.url_env for one in oncall.channels if one.url_env and not variables.get(one.url_env)]
    if not unset:
        return Finding("channels", True, f"all {len(oncall.channels)} have an address")
    said = f"{len(unset)} of {len(oncall.channels)} have no address here, {unset[0]} for one"
    return Finding("channels", None, f"{said}; whom they reach is told of no alert: see `rapid notify check`")


def _system(settings: Settings) -> list[Finding]:
    try:
        there = connection(settings)
    except Oops as nothing:
        return [Finding(check, None, str(nothing)) for check in ("database", "broker", "topics")]
    return [
        _judge("database", lambda: asyncio.run(_database(there))),
        _judge("broker", lambda: asyncio.run(_broker(there))),
        _judge("topics", lambda: asyncio.run(_topics(there))),
    ]


def _judge(check: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(check, True, look())
    except (Oops, Transient, asyncpg.PostgresError) as error:
        return Finding(check, False, str(error))


async def _database(there: Endpoints) -> str:
    async with database(there.database_url) as connected:
        applied: Any = await connected.fetchval("SELECT max(number) FROM migrations")
        version = connected.get_server_version()
    return f"PostgreSQL {version.major}.{version.minor}, migrated to {applied:04d}"


async def _broker(there: Endpoints) -> str:
    cluster = await KafkaAdmin(there.brokers, security=there.security).cluster_id()
    return f"{', '.join(there.brokers)} answers, cluster {cluster}"


async def _topics(there: Endpoints) -> str:
    return f"all {len(await incarnations(there.brokers, there.security))} that agents read are there"
