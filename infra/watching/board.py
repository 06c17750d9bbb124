"""What `rapid status --watch` shows, looked up: flow, lag, processes, what is open, what has happened last.

Read-only. Nothing of an incident is on it: it may hang on a wall.
"""

import asyncio
import http.client
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from connectors.errors import Transient
from infra.cli.errors import Oops
from infra.cli.session import database
from infra.connect import Endpoints, connection
from infra.embedded.installation import incarnations
from infra.embedded.processes import Running, is_alive
from infra.embedded.state import Home, State
from infra.settings import Settings
from infra.standing import Standing, standing
from infra.watching.world import Waiting, waiting
from schemas.topics import CONSUMER, SHARED, UPDATES_PREFIX

READY_S: Final = 1.0
"""Longest wait for a process's word."""
EVENTS: Final = 30
FEED_ROWS: Final = 400
INTAKE: Final = "intake"

# How far the agents are in each topic: what they have handled since its log began.
HANDLED: Final = (
    "SELECT topic, sum(next_offset)::bigint AS handled FROM fences WHERE consumer = $1 GROUP BY topic"
)
# What is open.
OPEN: Final = """
SELECT (SELECT count(*) FROM work_orders WHERE state IN ('new', 'acknowledged', 'in_progress', 'on_hold',
                                                         'reopened')) AS orders,
       (SELECT count(*) FROM alerts WHERE state IN ('open', 'acknowledged', 'snoozed')) AS alerts,
       (SELECT count(*) FROM alerts WHERE state = 'open') AS alerts_unseen"""
# Orders that a department was told of for the first time, and alerts that fired, among the last rows of the feed.
LATEST: Final = """
SELECT audience, kind, subject, body, recorded_at FROM (
  SELECT * FROM feed ORDER BY xid DESC, seq DESC LIMIT $1) AS last
WHERE (kind = 'work-order' AND audience <> '' AND version = 1) OR (kind = 'alert' AND audience = '')
ORDER BY xid DESC, seq DESC LIMIT $2"""
# Dead letters that were seen last.
LETTERS: Final = """
SELECT topic, reason, last_seen FROM dead_letters WHERE state = 'open' ORDER BY last_seen DESC LIMIT $1"""


class Process(NamedTuple):
    """A process of ours. `ready` None: it does not say; `not_ready`: why, part by part."""

    name: str
    pid: int
    age_s: float
    restarts: int
    ready: bool | None
    not_ready: Mapping[str, str]


class Happened(NamedTuple):
    """Something that a person wants to see."""

    at: datetime
    what: str  # order, alert, dead letter, restart
    says: str


class Board(NamedTuple):
    """One look. `handled`: records by stage since their logs began, at `looked_s` (monotonic)."""

    at: datetime
    looked_s: float
    phase: str
    there: Endpoints
    api: str
    standing: Standing
    handled: Mapping[str, int]
    lag: Mapping[str, int]
    waiting: Waiting
    orders: int
    alerts: int
    alerts_unseen: int
    processes: Sequence[Process]
    latest: Sequence[Happened]


def stage_of(topic: str) -> str:
    """Who reads it."""
    if topic.startswith(UPDATES_PREFIX):
        return INTAKE
    return next((one.readers[0] for one in SHARED if one.name == topic and one.readers), topic)


STAGES: Final = tuple(dict.fromkeys(one.readers[0] for one in SHARED if one.readers))
"""In the order of the stream."""


async def look(settings: Settings) -> Board:
    """Look at everything. Raises Oops, Transient."""
    there = connection(settings)
    state = Home(settings.home_folder).read_state() if there.embedded else None
    processes = asyncio.create_task(_processes(state))
    try:
        async with database(there.database_url) as connected:
            known = await incarnations(there.brokers, there.security)
            found = await standing(connected, there.brokers, known, there.security)
            handled = {row["topic"]: row["handled"] for row in await connected.fetch(HANDLED, CONSUMER)}
            open_now = await connected.fetchrow(OPEN)
            waits = await waiting(connected)
            latest = await _latest(connected)
    except OSError as error:
        raise Transient(f"PostgreSQL does not answer ({type(error).__name__})") from error
    finally:
        running = await processes
    return Board(
        datetime.now(UTC), time.monotonic(), _phase(state), there, state.api_address if state else "", found,
        _by_stage(handled), _by_stage(found.behind.lag), waits, open_now["orders"], open_now["alerts"],
        open_now["alerts_unseen"], running, sorted([*latest, *_restarts(state)], reverse=True),
    )  # fmt: skip


def _by_stage(by_topic: Mapping[str, int]) -> dict[str, int]:
    found = dict.fromkeys(STAGES, 0)
    for topic, count in by_topic.items():
        stage = stage_of(topic)
        found[stage] = found.get(stage, 0) + int(count)
    return found


def _phase(state: State | None) -> str:
    if state is None:
        return "configured"
    return state.phase if is_alive(state.supervisor) else "unsupervised"


def _restarts(state: State | None) -> list[Happened]:
    return [
        Happened(
            datetime.fromtimestamp(one.at, UTC), "restart", f"{one.name} ended with {one.code}, started again"
        )
        for one in (state.ended if state else [])
    ]


async def _latest(connected: Any) -> list[Happened]:
    found = [
        happened
        for row in await connected.fetch(LATEST, FEED_ROWS, EVENTS)
        if (happened := _of_feed(row)) is not None
    ]
    letters = await connected.fetch(LETTERS, EVENTS)
    found += [
        Happened(one["last_seen"], "dead letter", f"{one['topic']}: {one['reason'].replace('_', ' ')}")
        for one in letters
    ]
    return found


def _of_feed(row: Any) -> Happened | None:
    """In words; None: not of interest."""
    body = json.loads(row["body"] or "{}")
    if row["kind"] == "work-order":
        title = body.get("title", "")
        return Happened(row["recorded_at"], "order", f"{row['subject']} for {row['audience']}: {title}")
    if body.get("kind") != "fired":
        return None
    alert = body.get("alert", {})
    says = f"level {alert.get('level')}, {alert.get('reference')}: {alert.get('clock')} {alert.get('rung')}"
    return Happened(row["recorded_at"], "alert", says.replace("_", " "))


# ---------------------------------------------------------------- processes


async def _processes(state: State | None) -> list[Process]:
    if state is None:
        return []
    ours = [*state.workers, *state.services]
    parts = [one for one in (state.database, state.broker, state.supervisor) if one]
    said = await asyncio.gather(
        *(asyncio.to_thread(readiness, state.watch.get(one.name, "")) for one in ours)
    )
    found = [_process(one, state, ready) for one, ready in zip(ours, said, strict=True)]
    return found + [_process(one, state, (is_alive(one), {})) for one in parts]


def _process(one: Running, state: State, ready: tuple[bool | None, Mapping[str, str]]) -> Process:
    age_s = max(0.0, time.time() - one.started)
    if not is_alive(one):
        ready = (False, {"process": "It does not run."})
    return Process(one.name, one.pid, age_s, state.restarts.get(one.name, 0), *ready)


def readiness(address: str, timeout_s: float = READY_S) -> tuple[bool | None, Mapping[str, str]]:
    """What the process at this watch port says of itself: whether it is ready, and why not. None: it has no port."""
    if not address:
        return None, {}
    host, _, port = address.rpartition(":")
    asking = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
    try:
        asking.request("GET", "/readyz")
        said = json.loads(asking.getresponse().read(65_536))
        return bool(said["ready"]), dict(said["not_ready"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        return False, {"process": f"It does not answer at {address} ({type(error).__name__})."}
    finally:
        asking.close()


class Unseen(NamedTuple):
    """A look that failed: when, and why in a sentence."""

    at: datetime
    why: str


async def look_or_say_why(settings: Settings) -> Board | Unseen:
    """Like `look`; what is away is said."""
    try:
        return await look(settings)
    except (Oops, Transient) as error:
        return Unseen(datetime.now(UTC), str(error))
