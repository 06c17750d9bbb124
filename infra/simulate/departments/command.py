"""`rapid simulate departments`: what was asked for, turned into crews that work for a while."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from infra.cli.errors import ExitCode, Oops
from infra.connect import connection
from infra.embedded.state import Home
from infra.policy.load import SHIPPED, PolicyErrors, load_policy
from infra.settings import Settings
from infra.simulate.departments.office import CITY_KEY, CITY_KEY_VARIABLE, Office
from infra.simulate.departments.team import INTERFACES, Habits, InterfaceName, Place, Team, at_work
from schemas.policy import Policy

USES: Final[dict[str, InterfaceName]] = {
    "cdot": "kafka", "dss": "rest", "dob": "open311", "cscc": "webhook",
}  # fmt: skip
"""Who is told how in a day, where nothing else is asked for."""
BESIDE: Final[dict[str, InterfaceName]] = {"cdot": "kafka", "dss": "rest", "dob": "rest", "cscc": "kafka"}
"""The same beside an installation that may not reach this machine: it needs no settings of its own."""
NEEDS: Final = (
    "`rapid up` and this command with RAPID_WEBHOOK_ALLOW=127.0.0.0/8 RAPID_WEBHOOK_HTTP=true RAPID_WEBHOOK_PORTS=any"
    f" {CITY_KEY_VARIABLE}={CITY_KEY} (docs/simulate.md)"
)
QUIET_S: Final = 10.0
"""Nothing said and nothing heard for so long is idle."""
SHOW_EVERY_S: Final = 5.0
LOOK_EVERY_S: Final = 0.2


class Asked(NamedTuple):
    """The command's options."""

    seed: int
    use: Sequence[str]
    limit: timedelta | None
    until_idle: bool
    pace: float
    keys: Path | None
    seen: Path | None
    received: Path | None
    api: str | None


async def work(asked: Asked, settings: Settings, *, quiet: bool) -> list[dict[str, Any]]:
    """Let the crews work; a row for each department. Raises Oops."""
    policy = loaded(settings.policy or SHIPPED)
    uses = uses_beside(asked.use, policy, settings, quiet=quiet)
    there = connection(settings)
    api = asked.api or _api_beside(settings)
    if not api and set(uses.values()) & {"rest", "webhook"}:
        raise Oops("No API runs here: name its URL with --api, or use Kafka alone.", ExitCode.NOT_RUNNING)
    if asked.received:
        asked.received.mkdir(parents=True, exist_ok=True)
    habits = Habits(asked.seed, asked.pace, _keys(asked.keys), asked.received)
    place = Place(policy, there.brokers, api, Office(), there.security)
    async with at_work(place, uses, habits) as team:
        try:
            await _until_over(team, asked, quiet)
        finally:
            if asked.seen:
                team.write_seen(asked.seen)
        return team.rows()


def uses_beside(
    given: Sequence[str], policy: Policy, settings: Settings, *, quiet: bool
) -> dict[str, InterfaceName]:
    """Department → interface, of those that the installation's settings let work. Raises Oops."""
    lacking = _lacking(settings)
    uses = uses_of(given, policy)
    if not given and lacking:
        if not quiet:
            print(f"Over Kafka and REST alone; for webhooks and Open311 too, {NEEDS}.", file=sys.stderr)
        return {code: name for code, name in BESIDE.items() if policy.department(code)}
    for department, name in uses.items():
        if name in lacking:
            raise Oops(
                f"{department}={name}: its receiver is on this machine, so start {NEEDS}.", ExitCode.INVALID
            )
    return uses


def _lacking(settings: Settings) -> set[InterfaceName]:
    """The interfaces that the settings here, which should be those of the installation, do not let work."""
    lacking: set[InterfaceName] = set()
    if not settings.webhook_http or "127." not in settings.webhook_allow:
        lacking.add("webhook")
    if not os.environ.get(CITY_KEY_VARIABLE):
        lacking.add("open311")
    return lacking


def uses_of(given: Sequence[str], policy: Policy) -> dict[str, InterfaceName]:
    """Department → interface. Raises Oops for what is neither."""
    if not given:
        return {code: name for code, name in USES.items() if policy.department(code)}
    uses: dict[str, InterfaceName] = {}
    for one in given:
        department, _, wanted = one.partition("=")
        names = [name for name in INTERFACES if name == wanted]
        if not names or policy.department(department) is None:
            codes = ", ".join(sorted(known.code for known in policy.departments))
            raise Oops(
                f"--use {one}: expected DEPARTMENT=INTERFACE, with one of {codes} and one of {', '.join(INTERFACES)}.",
                ExitCode.INVALID,
            )
        if department == policy.triage_queue and names[0] == "rest":
            raise Oops(
                f"--use {one}: the centre's stream has every order whole; take kafka or webhook.",
                ExitCode.INVALID,
            )
        uses[department] = names[0]
    return uses


def loaded(folder: Path) -> Policy:
    """The policy in a folder. Raises Oops."""
    try:
        return load_policy(folder)
    except PolicyErrors as errors:
        raise Oops(errors.sentence, ExitCode.INVALID) from errors


def _keys(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise Oops(f"{file} cannot be read as JSON: {error}.", ExitCode.INVALID) from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found.values()):
        raise Oops(f'{file}: expected an object of texts such as {{"dss": "rapid_…"}}.', ExitCode.INVALID)
    return found


def _api_beside(settings: Settings) -> str:
    """The API that `rapid up` started; "": none."""
    state = Home(settings.home_folder).read_state()
    return f"http://{state.api_address}" if state and state.api_address else ""


async def _until_over(team: Team, asked: Asked, quiet: bool) -> None:
    """Until the time is over, everybody is idle, or a signal comes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    until_s = time.monotonic() + asked.limit.total_seconds() if asked.limit else float("inf")
    shown_s = time.monotonic()
    while not stop.is_set() and time.monotonic() < until_s:
        team.check()
        if asked.until_idle and team.is_idle(QUIET_S):
            return
        if not quiet and time.monotonic() - shown_s >= SHOW_EVERY_S:
            shown_s = time.monotonic()
            print(sentence(team), file=sys.stderr)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_EVERY_S)


def sentence(team: Team) -> str:
    """Where they are, on a line."""
    parts = [
        f"{row['department']} {row['orders']} orders, {row['said']} said, {row['to say']} to say"
        for row in team.rows()
    ]
    return "; ".join(parts)
