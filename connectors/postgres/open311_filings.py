"""Departments that only know 311: their endpoints, and what was filed there for their orders."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from connectors.open311.mapping import Meaning, Phrases, Seen
from connectors.postgres.pool import Connection
from schemas.work_order import DepartmentWorkOrder

Key = tuple[str, str, int]
"""Department, order reference, how-manieth request for it."""
State = Literal["wanted", "sending", "token", "filed", "closed", "not_needed"]

_ADD_ENDPOINT: Final = """
INSERT INTO open311_endpoints
  (department, url, key_variable, jurisdiction, service_codes, phrases, per_minute, poll_s, cursor)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (department) DO UPDATE SET url = excluded.url, key_variable = excluded.key_variable,
  jurisdiction = excluded.jurisdiction, service_codes = excluded.service_codes, phrases = excluded.phrases,
  per_minute = excluded.per_minute, poll_s = excluded.poll_s, paused_until = NULL, failures = 0"""
_REMOVE_ENDPOINT: Final = "DELETE FROM open311_endpoints WHERE department = $1"
_ENDPOINTS: Final = "SELECT * FROM open311_endpoints ORDER BY department"
_DEPARTMENTS: Final = """
SELECT department FROM open311_endpoints
WHERE (paused_until IS NULL OR paused_until <= now())
  AND (leased_until IS NULL OR leased_until <= now() OR leased_by = $1)"""
# One process at a time works for an endpoint; one that died is followed by another when its lease is over.
_LEASE: Final = """
UPDATE open311_endpoints SET leased_by = $2, leased_until = now() + make_interval(secs => $3)
WHERE department = $1 AND (paused_until IS NULL OR paused_until <= now())
  AND (leased_until IS NULL OR leased_until <= now() OR leased_by = $2) RETURNING *"""
_WENT_WELL: Final = """
UPDATE open311_endpoints SET failures = 0, problem = NULL WHERE department = $1 AND failures > 0"""
_PAUSE: Final = """
UPDATE open311_endpoints SET failures = failures + 1, paused_until = now() + make_interval(secs => $2),
  problem = $3, problem_at = now(), leased_by = NULL, leased_until = NULL WHERE department = $1"""

_CURSOR: Final = "SELECT cursor FROM open311_endpoints WHERE department = $1 FOR UPDATE"
_MOVE_CURSOR: Final = "UPDATE open311_endpoints SET cursor = $2 WHERE department = $1"

_FILING: Final = """
SELECT department, reference, number, state, version, body, token, service_request_id, sent_at, due_at, attempts,
       seen, problem, problem_at FROM open311_filings"""
_LATEST: Final = f"{_FILING} WHERE department = $1 AND reference = $2 ORDER BY number DESC LIMIT 1"
_DUE: Final = f"{_FILING} WHERE department = $1 AND state = $2 AND due_at <= now() ORDER BY due_at LIMIT $3"
_LIST: Final = f"""{_FILING}
WHERE ($1::text IS NULL OR department = $1) AND ($2::text IS NULL OR state = $2)
ORDER BY recorded_at DESC, reference LIMIT $3"""
_ADD: Final = """
INSERT INTO open311_filings (department, reference, number, state, version, body, due_at)
VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN $4 = 'wanted' THEN now() + make_interval(secs => $7) END)"""
_TOLD: Final = """
UPDATE open311_filings SET state = $4, version = $5, body = $6, problem = coalesce($7, problem),
  problem_at = CASE WHEN $7::text IS NULL THEN problem_at ELSE now() END,
  due_at = CASE WHEN $4 = 'not_needed' THEN NULL WHEN state = 'not_needed' THEN now() ELSE due_at END
WHERE department = $1 AND reference = $2 AND number = $3"""
_PROBLEM: Final = """
UPDATE open311_filings SET problem = $4, problem_at = now()
WHERE department = $1 AND reference = $2 AND number = $3"""
# Before a request is sent. Who finds it so later knows that it may have arrived.
_SENDING: Final = """
UPDATE open311_filings SET state = 'sending', sent_at = coalesce(sent_at, now()), attempts = attempts + 1,
  due_at = now() + make_interval(secs => $5)
WHERE department = $1 AND reference = $2 AND number = $3 AND state = $4 RETURNING attempts"""
_MOVED: Final = """
UPDATE open311_filings SET state = $4, token = coalesce($5, token),
  service_request_id = coalesce($6, service_request_id),
  attempts = $7, due_at = now() + make_interval(secs => $8), problem = $9,
  problem_at = CASE WHEN $9::text IS NULL THEN problem_at ELSE now() END
WHERE department = $1 AND reference = $2 AND number = $3"""
_SEEN: Final = """
UPDATE open311_filings SET state = $4, seen = $5, service_request_id = $6, attempts = $7,
  due_at = now() + make_interval(secs => $8), problem = $9,
  problem_at = CASE WHEN $9::text IS NULL THEN problem_at ELSE now() END
WHERE department = $1 AND reference = $2 AND number = $3"""

_EARLIER: Final = """
SELECT service_request_id FROM open311_filings
WHERE department = $1 AND reference = $2 AND number < $3 AND service_request_id IS NOT NULL"""


class Endpoint(NamedTuple):
    """Where a department's orders are filed. `service_codes`: by category; `phrases`: of closing notes."""

    department: str
    url: str
    key_variable: str
    jurisdiction: str | None
    service_codes: Mapping[str, str]
    phrases: Phrases
    per_minute: int
    poll_s: int


class Standing(NamedTuple):
    """How an endpoint fares."""

    endpoint: Endpoint
    cursor: str
    failures: int
    paused_until: datetime | None
    problem: str | None
    problem_at: datetime | None


class Filing(NamedTuple):
    """One request for one order. `due_at`: when it is looked at next; None: never."""

    department: str
    reference: str
    number: int
    state: State
    version: int
    order: DepartmentWorkOrder
    token: str | None
    service_request_id: str | None
    sent_at: datetime | None
    due_at: datetime | None
    attempts: int
    seen: Seen | None
    problem: str | None
    problem_at: datetime | None

    @property
    def key(self) -> Key:
        """What it is found by."""
        return self.department, self.reference, self.number


async def put_endpoint(connection: Connection, endpoint: Endpoint, cursor: str) -> None:
    """Add an endpoint, or change it; `cursor`: where its feed begins, when it is new."""
    one = endpoint._replace(
        service_codes=json.dumps(dict(endpoint.service_codes)),  # type: ignore[arg-type]  # as it is stored
        phrases=json.dumps([list(phrase) for phrase in endpoint.phrases]),  # type: ignore[arg-type]
    )
    await connection.execute(_ADD_ENDPOINT, *one, cursor)


async def remove_endpoint(connection: Connection, department: str) -> bool:
    """Remove an endpoint with what is known of its requests; whether there was one."""
    status: str = await connection.execute(_REMOVE_ENDPOINT, department)
    return status.endswith(" 1")


async def endpoints(connection: Connection) -> list[Standing]:
    """All endpoints."""
    return [_standing(row) for row in await connection.fetch(_ENDPOINTS)]


async def free_departments(connection: Connection, worker: str) -> list[str]:
    """Departments whose endpoint is neither paused nor another's."""
    return [row["department"] for row in await connection.fetch(_DEPARTMENTS, worker)]


async def lease(connection: Connection, department: str, worker: str, seconds: float) -> Standing | None:
    """Take an endpoint for a while; None: it is paused, gone, or another's."""
    row = await connection.fetchrow(_LEASE, department, worker, seconds)
    return _standing(row) if row else None


async def went_well(connection: Connection, department: str) -> None:
    """Note that the endpoint answers."""
    await connection.execute(_WENT_WELL, department)


async def pause(connection: Connection, department: str, seconds: float, problem: str) -> None:
    """Leave the endpoint alone for a while."""
    await connection.execute(_PAUSE, department, seconds, problem[:500])


async def take_cursor(connection: Connection, department: str) -> str | None:
    """How far the feed is read, locked until the transaction ends; None: the endpoint is gone."""
    found: str | None = await connection.fetchval(_CURSOR, department)
    return found


async def move_cursor(connection: Connection, department: str, cursor: str) -> None:
    """Note how far the feed is read."""
    await connection.execute(_MOVE_CURSOR, department, cursor)


async def latest(connection: Connection, department: str, reference: str) -> Filing | None:
    """The last request for an order."""
    row = await connection.fetchrow(_LATEST, department, reference)
    return _filing(row) if row else None


async def due(connection: Connection, department: str, state: State, limit: int) -> list[Filing]:
    """Requests in a state that are to be looked at now, the longest waiting first."""
    return [_filing(row) for row in await connection.fetch(_DUE, department, state, limit)]


async def filings(
    connection: Connection, department: str | None, state: State | None, limit: int
) -> list[Filing]:
    """Requests for people to look at, the newest first."""
    return [_filing(row) for row in await connection.fetch(_LIST, department, state, limit)]


async def add(
    connection: Connection, key: Key, order: DepartmentWorkOrder, state: State, wait_s: float = 0.0
) -> None:
    """A new request for an order, to be sent after `wait_s` when it is wanted."""
    await connection.execute(_ADD, *key, state, order.version, order.model_dump_json(), wait_s)


async def told(
    connection: Connection, filing: Filing, order: DepartmentWorkOrder, state: State, problem: str | None
) -> None:
    """The department was told something new of the order."""
    await connection.execute(_TOLD, *filing.key, state, order.version, order.model_dump_json(), problem)


async def note_problem(connection: Connection, filing: Filing, problem: str) -> None:
    """Keep what a person should know."""
    await connection.execute(_PROBLEM, *filing.key, problem[:500])


async def sending(connection: Connection, filing: Filing, look_after_s: float) -> int | None:
    """Note that the request is sent now, and how often that is; None: somebody else does."""
    attempts: int | None = await connection.fetchval(_SENDING, *filing.key, filing.state, look_after_s)
    return attempts


async def earlier_ids(connection: Connection, filing: Filing) -> frozenset[str]:
    """The ids of the requests that the same order had before."""
    return frozenset(row[0] for row in await connection.fetch(_EARLIER, *filing.key))


async def moved(
    connection: Connection, filing: Filing, state: State, wait_s: float, *, token: str | None = None,
    request_id: str | None = None, attempts: int = 0, problem: str | None = None,
) -> None:  # fmt: skip
    """The request's next state, and after how long it is looked at again."""
    await connection.execute(
        _MOVED, *filing.key, state, token, request_id, attempts, wait_s, problem and problem[:500]
    )


async def saw(connection: Connection, after: Filing, wait_s: float | None) -> None:
    """The request after the endpoint's word on it; `wait_s` None: it is not looked at again."""
    assert after.seen is not None
    await connection.execute(
        _SEEN, *after.key, after.state, after.seen.model_dump_json(), after.service_request_id,
        after.attempts, wait_s, after.problem,
    )  # fmt: skip


def _standing(row: Any) -> Standing:
    phrases: Sequence[tuple[str, Meaning]] = [
        (words, meaning) for words, meaning in json.loads(row["phrases"])
    ]
    endpoint = Endpoint(
        row["department"], row["url"], row["key_variable"], row["jurisdiction"],
        json.loads(row["service_codes"]), phrases, row["per_minute"], row["poll_s"],
    )  # fmt: skip
    return Standing(
        endpoint, row["cursor"], row["failures"], row["paused_until"], row["problem"], row["problem_at"]
    )


def _filing(row: Any) -> Filing:
    known = dict(row)
    known["order"] = DepartmentWorkOrder.model_validate_json(known.pop("body"))
    known["seen"] = Seen.model_validate_json(known["seen"]) if known["seen"] else None
    return Filing(**known)
