"""What `rapid doctor` looks at: this machine, the home, the policy, and what runs. Each part is looked at by itself, so
that one that is broken hides no other."""

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import shapely

from connectors.errors import Permanent, Transient
from connectors.geography.areas import Areas
from connectors.kafka.admin import KafkaAdmin
from connectors.postgres import activations
from connectors.postgres.areas import UnknownBoundaries, boundaries_of, version_in_force
from connectors.postgres.migrate import MigrationError, read_migrations
from connectors.postgres.policies import kept_policies
from connectors.postgres.webhooks import open_alerts
from infra.cli.errors import Oops
from infra.cli.session import database
from infra.connect import Endpoints, connection
from infra.embedded.broker import is_free
from infra.embedded.installation import all_departments, incarnations, topics_for
from infra.embedded.processes import is_alive
from infra.embedded.state import Home, State
from infra.in_force import differs
from infra.policy.feeds import warnings_of
from infra.policy.load import SHIPPED, PolicyErrors, load_policy
from infra.settings import Settings
from infra.sources.load import load_sources
from infra.standing import standing
from infra.watching import findings
from infra.watching.board import readiness
from infra.watching.findings import Finding
from infra.watching.world import waiting
from schemas.policy import Policy

LEAST_PYTHON: Final = (3, 11)
LOOK_S: Final = 20.0
"""Longest look at one part."""
PROCESS_S: Final = 3.0
NOT_RUNNING: Final = (
    "start it with `rapid up --detach`, or name what runs with RAPID_BROKERS and RAPID_DATABASE_URL"
)

APPLIED: Final = "SELECT number, checksum FROM migrations"
# Dead letters of the last hour that nobody has dealt with, by topic and reason.
LETTERS: Final = """
SELECT topic, reason, count(*) AS letters FROM dead_letters
WHERE last_seen > now() - interval '1 hour' AND state = 'open'
GROUP BY topic, reason ORDER BY letters DESC, topic, reason"""
# API keys that hold.
KEYS: Final = """
SELECT name, expires_at FROM api_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"""

Look = Callable[[], Awaitable[Sequence[Finding]]]


async def examine(settings: Settings, variables: Mapping[str, str]) -> list[Finding]:
    """Everything, in the order in which one would look."""
    found = [*machine(settings), *rules(settings, variables)]
    try:
        there = connection(settings)
    except Oops as nothing:
        return found + [
            Finding(check, "unknown", str(nothing), NOT_RUNNING)
            for check in ("database", "broker", "processes")
        ]
    return known_better(found, await System(settings, there).look())


def known_better(before: list[Finding], running: list[Finding]) -> list[Finding]:
    """Which boundaries hold, the database knows: the product's are looked at only where it does not say."""
    told = any(one.check == "boundaries" and one.level != "unknown" for one in running)
    return [one for one in before if not (told and one.check == "boundaries")] + running


# ---------------------------------------------------------------- this machine


def machine(settings: Settings) -> list[Finding]:
    """Python, home, disk, ports."""
    return [_python(), *_home(settings), _disk(settings), *_ports(settings)]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    fix = f"install Python {'.'.join(map(str, LEAST_PYTHON))} or later, and make .venv anew"
    return (
        Finding("python", "fail", version, fix)
        if sys.version_info < LEAST_PYTHON
        else Finding("python", "ok", version)
    )


def _disk(settings: Settings) -> Finding:
    home = settings.home_folder
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    return findings.disk(free, settings.least_disk_bytes, str(existing))


def _home(settings: Settings) -> list[Finding]:
    """The folder, and what its state file says against what runs."""
    folder = settings.home_folder
    if not folder.exists():
        return [Finding("home", "ok", f"{folder} is not there yet: `rapid up` makes it")]
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        fix = "give it to who runs `rapid` (chown, chmod 700), or name another folder with RAPID_HOME"
        return [Finding("home", "fail", f"{folder} is no folder that we may read and write", fix)]
    home = Home(folder)
    state = home.read_state()
    if state is None and home.state_file.exists():
        fix = "move it away and run `rapid up`: it finds what still runs and ends it, the database stays"
        return [Finding("home", "fail", f"{home.state_file} cannot be read: {_why_unreadable(home)}", fix)]
    return _state(folder, state) if state else [Finding("home", "ok", f"{folder}, where nothing has run yet")]


def _why_unreadable(home: Home) -> str:
    try:
        json.loads(home.state_file.read_bytes())
    except (OSError, ValueError) as error:
        return type(error).__name__
    return "it is not what this version writes"


def _state(folder: Path, state: State) -> list[Finding]:
    if state.phase == "stopped" or is_alive(state.supervisor):
        return [Finding("home", "ok", f"{folder}, {state.phase}")]
    left = [f"{one.name} {one.pid}" for one in state.processes() if is_alive(one)]
    said = f"{folder}: its state names the supervisor {state.supervisor.pid}, which does not run"
    if left:
        fix = "run `rapid up`, which ends what is left and starts anew, or `rapid down`"
        return [Finding("home", "fail", f"{said}, and left {', '.join(left[: findings.NAMED])} running", fix)]
    return [
        Finding(
            "home", "fail", f"{said}: it was killed, or the machine was", "run `rapid up` or `rapid down`"
        )
    ]


def _ports(settings: Settings) -> list[Finding]:
    """Configured ports that are taken by others; the running system's own are its own."""
    state = Home(settings.home_folder).read_state()
    ours = {state.broker_address, state.api_address, *state.watch.values()} if state else set()
    own = {int(address.rpartition(":")[2]) for address in ours if ":" in address and state and _runs(state)}
    wanted = {
        "RAPID_BROKER_PORT": settings.broker_port,
        "RAPID_HTTP_PORT": settings.http_port,
        "RAPID_WATCH_PORT": settings.watch_port,
    }
    fix = "end what listens there (`ss -ltnp`), or choose another port"
    taken = [
        Finding("ports", "fail", f"{name}={port} is taken by another process", fix)
        for name, port in wanted.items()
        if port and port not in own and not is_free(port)
    ]
    said = ", ".join(f"{name}={port}" for name, port in wanted.items() if port) or "any free ones will do"
    return taken or [Finding("ports", "ok", said)]


def _runs(state: State) -> bool:
    return any(is_alive(one) for one in [state.supervisor, *state.processes()])


# ---------------------------------------------------------------- what it decides by


def rules(settings: Settings, variables: Mapping[str, str]) -> list[Finding]:
    """The policy as it lies there, its calendars and channels, the boundaries."""
    folder = settings.policy or SHIPPED
    try:
        policy = load_policy(folder)
    except PolicyErrors as errors:
        fix = f"mend the files in {folder}: `rapid policy check {folder}` names every mistake"
        return [Finding("policy", "fail", errors.sentence, fix)]
    said = f"{policy.version} loads, with {len(policy.departments)} departments"
    return [
        Finding("policy", "ok", said),
        calendars(folder, policy, datetime.now(UTC).date()),
        channels(policy, variables),
        boundaries(settings.home_folder / "cache", policy),
        *mappings(settings.sources, policy),
    ]


def calendars(folder: Path, policy: Policy, today: date) -> Finding:
    """Holidays that have ended are wrong; those that end soon, and feeds that fail, will be."""
    ends = [calendar.holidays_until for calendar in policy.sla.calendars if calendar.holidays_until]
    warnings = warnings_of(folder, policy, today)
    if warnings:
        ended = min(ends, default=today) < today
        fix = "write the next years' holidays into calendars.yaml, or `rapid sla fetch` them; then activate the policy"
        return Finding("calendars", "fail" if ended else "warn", " ".join(warnings), fix)
    return Finding(
        "calendars", "ok", f"holidays are known until {min(ends)}" if ends else "they know no holidays"
    )


def channels(policy: Policy, variables: Mapping[str, str]) -> Finding:
    """Over which channels people cannot be told of alerts, because they have no address here."""
    oncall = policy.oncall
    unset = [one.url_env for one in oncall.channels if one.url_env and not variables.get(one.url_env)]
    if not unset:
        return Finding("channels", "ok", f"all {len(oncall.channels)} have an address")
    said = f"{len(unset)} of {len(oncall.channels)} have no address here, {unset[0]} for one"
    fix = "whom they reach is told of no alert: give the courier these variables, see `rapid notify check`"
    return Finding("channels", "warn", said, fix)


def mappings(folder: Path | None, policy: Policy) -> list[Finding]:
    """The mapping files of other sources, if there are any."""
    if folder is None:
        return []
    found = load_sources(folder, policy)
    fix = f"mend it: `rapid sources check {folder}` names every mistake, and no restart is needed"
    wrong = [
        Finding(
            "sources", "fail", f"{one.sentence} Its last good version, if one was read, stays in force.", fix
        )
        for one in found.wrong.values()
    ]
    return wrong or [Finding("sources", "ok", f"{len(found.right)} mapping files are right")]


def boundaries(cache: Path, policy: Policy) -> Finding:
    """The areas that come with the product, against the policy. Imported ones are seen in the database alone."""
    areas = Areas.of_chicago(cache)
    wrong = misplaced(areas, policy)
    if wrong:
        fix = "`rapid areas import FILE --kind community_area`, unless that is done: see what is in force"
        return Finding("boundaries", "warn", f"of those of the product, {wrong}", fix)
    return Finding("boundaries", "ok", f"{len(areas.shapes)} areas come with the product")


def misplaced(areas: Areas, policy: Policy) -> str | None:
    """Why these areas cannot be the policy's city's; None: they can."""
    extent = policy.city.extent
    city = shapely.box(extent.min_lon, extent.min_lat, extent.max_lon, extent.max_lat)
    if not any(city.intersects(shape) for shape in areas.shapes.values()):
        return f"none lies in {policy.city.name}"
    missing = sorted({area.number for area in policy.areas} - set(areas.shapes))
    return f"none is of area {missing[0]}, which the policy names" if missing else None


# ---------------------------------------------------------------- what runs


@dataclass(frozen=True)
class System:
    """What runs, looked at from outside."""

    settings: Settings
    there: Endpoints

    async def look(self) -> list[Finding]:
        """Part by part."""
        looks: dict[str, Look] = {
            "database": self._database, "broker": self._broker, "topics": self._topics, "lag": self._lag,
            "processes": self._processes,
        }  # fmt: skip
        found: list[Finding] = []
        for check, ask in looks.items():
            found += await _guarded(check, ask)
        return found

    async def _database(self) -> list[Finding]:
        async with database(self.there.database_url) as connected:
            version = connected.get_server_version()
            found = [Finding("database", "ok", f"PostgreSQL {version.major}.{version.minor} answers")]
            looks: dict[str, Callable[[Any], Awaitable[Finding]]] = {
                "migrations": _migrations, "policy in force": self._in_force, "boundaries": self._boundaries,
                "clocks": _clocks, "outbox": _outbox,
                "dead letters": _letters, "keys": _keys, "deliveries": _deliveries,
            }  # fmt: skip
            for check, ask in looks.items():
                found += await _guarded(check, lambda ask=ask: _one(ask(connected)))  # type: ignore[misc]
        return found

    async def _in_force(self, connected: Any) -> Finding:
        """The policy that is active against the file."""
        active = await activations.latest(connected, "policy")
        folder = self.settings.policy or SHIPPED
        try:
            file = load_policy(folder).version
        except PolicyErrors:
            file = ""
        if active is None:
            return Finding(
                "policy in force", "warn", "none was ever activated", "a worker does it when it starts"
            )
        if file and active.version != file:
            return Finding("policy in force", "warn", differs(self.settings, active.version), "as it says")
        return Finding("policy in force", "ok", f"{active.version}, since {active.at:%Y-%m-%d %H:%M} UTC")

    async def _boundaries(self, connected: Any) -> Finding:
        """Those that incidents are placed by, as the workers load them."""
        version = await version_in_force(connected)
        cache = self.settings.home_folder / "cache"
        fix = "import the layer once more (`rapid areas import FILE`), or activate another set: `rapid areas list`"
        try:
            held = await boundaries_of(connected, Areas.of_chicago(cache), version)
        except (UnknownBoundaries, ValueError) as error:
            return Finding("boundaries", "fail", f"those in force cannot be loaded: {error}", fix)
        active = await activations.latest(connected, "policy")
        kept = await kept_policies(connected, [active.version] if active else [])
        areas = held.areas_at(datetime.now(UTC))
        for wrong in filter(None, (misplaced(areas, policy) for policy in kept.values())):
            said = f"of those in force, {wrong}: what happens there counts as outside every area"
            return Finding("boundaries", "fail", said, "`rapid areas import FILE --kind community_area`")
        return Finding(
            "boundaries", "ok", f"set {version} is in force" if version else "those of the product hold"
        )

    async def _broker(self) -> list[Finding]:
        cluster = await KafkaAdmin(self.there.brokers, security=self.there.security).cluster_id()
        return [Finding("broker", "ok", f"{', '.join(self.there.brokers)} answers, cluster {cluster}")]

    async def _topics(self) -> list[Finding]:
        admin = KafkaAdmin(self.there.brokers, security=self.there.security)
        place = self.settings.model_copy(update={"database_url": self.there.database_url})
        wanted = topics_for(self.settings, await all_departments(place))
        partitions = {name: len(numbers) for name, numbers in (await admin.partitions()).items()}
        configs = await admin.configs([topic.name for topic in wanted if topic.name in partitions])
        return findings.topics(wanted, partitions, configs, self.settings.replication)

    async def _lag(self) -> list[Finding]:
        known = await incarnations(self.there.brokers, self.there.security)
        async with database(self.there.database_url) as connected:
            found = await standing(connected, self.there.brokers, known, self.there.security)
        return [findings.lag(found.behind.lag, found.behind.oldest_s)]

    async def _processes(self) -> list[Finding]:
        state = Home(self.settings.home_folder).read_state() if self.there.embedded else None
        if state is None:
            said = "they run elsewhere: each says how it is at its RAPID_WATCH_PORT, /readyz"
            return [Finding("processes", "unknown", said)]
        dead = {"process": "it does not run."}
        said_by = [
            (one.name, *readiness(state.watch.get(one.name, ""), PROCESS_S))
            if is_alive(one)
            else (one.name, False, dead)
            for one in [*state.workers, *state.services]
        ]
        found = findings.processes(said_by)
        missing = self.settings.workers - len(state.workers)
        restarts = ", ".join(f"{name} {times}" for name, times in state.restarts.items())
        if restarts:
            fix = "see why in logs/supervisor.log and in their own logs"
            found.append(
                Finding("restarts", "warn", f"since `rapid up` had to be started again: {restarts}", fix)
            )
        if missing > 0 and not state.workers:
            found.append(Finding("processes", "fail", "no worker runs", "run `rapid up`"))
        return found


async def _guarded(check: str, ask: Look) -> Sequence[Finding]:
    """What is found, or that it cannot be looked at."""
    fixes = {
        "database": "see logs/database.log in RAPID_HOME, or the server's own log; `rapid up` starts ours again",
        "broker": "see logs/broker.log in RAPID_HOME, or the broker's own log; `rapid up` starts ours again",
    }
    try:
        async with asyncio.timeout(LOOK_S):
            return await ask()
    except asyncpg.UndefinedTableError:
        return [Finding(check, "fail", "the database has no such tables yet", "run `rapid migrate`")]
    except TimeoutError:
        why = f"no answer within {LOOK_S:g} s"
    except (
        Oops,
        Transient,
        Permanent,
        MigrationError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        OSError,
    ) as error:
        why = str(error)
    return [Finding(check, "fail", why, fixes.get(check, "mend what is away first: see the other findings"))]


async def _one(finding: Awaitable[Finding]) -> list[Finding]:
    return [await finding]


async def _migrations(connected: Any) -> Finding:
    applied = {row["number"]: row["checksum"] for row in await connected.fetch(APPLIED)}
    return findings.migrations(read_migrations(), applied)


async def _clocks(connected: Any) -> Finding:
    await connected.fetchval("SELECT 1")  # the first statement of a session takes longer than the others
    before_s = time.time()
    now: datetime = await connected.fetchval("SELECT clock_timestamp()")
    after_s = time.time()
    return findings.clocks(now.timestamp() - (before_s + after_s) / 2, after_s - before_s)


async def _outbox(connected: Any) -> Finding:
    return findings.outbox(await waiting(connected))


async def _letters(connected: Any) -> Finding:
    rows = await connected.fetch(LETTERS)
    return findings.dead_letters([(row["topic"], row["reason"], row["letters"]) for row in rows])


async def _keys(connected: Any) -> Finding:
    return findings.keys(await connected.fetch(KEYS), datetime.now(UTC))


async def _deliveries(connected: Any) -> Finding:
    """Endpoints of webhooks that were given up."""
    said = [row["sentence"] for row in await open_alerts(connected)]
    if not said:
        return Finding("deliveries", "ok", "no webhook endpoint was given up")
    return Finding("deliveries", "warn", said[0], "`rapid webhooks show ENDPOINT` says why, `enable` goes on")
