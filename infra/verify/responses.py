"""Lives of responses beside their ledgers, beside what their orders add up to, and beside who was told."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from agents.responses.decide import ending_of
from agents.responses.life import after
from agents.responses.standing import Moment
from agents.responses.summary import summary_of
from agents.sla.book import Book
from connectors.postgres.response_life import histories
from infra.verify.compare import read, same, same_json, unreadable
from infra.verify.report import GONE, Disagreement, Look, NotYet
from infra.verify.spool import Spool, digest_of
from infra.verify.topics import MARGIN_S
from infra.verify.world import World
from schemas.envelope import event_id
from schemas.response import Response
from schemas.response_life import TELLS, LifeLine, ResponseLife
from schemas.topics import RESPONSE_LIFE

# Each line beside the projection of its response; either may be missing.
_LINES: Final = """
SELECT coalesce(l.response_id, n.response_id) AS response_id, n.seq, n.cycle, n.kind, n.body AS line, l.body,
  l.incident_id, l.state, l.seq AS last, l.closes_at, l.safe_since, l.closed_at
FROM response_life l FULL JOIN response_lines n USING (response_id) ORDER BY 1, n.seq"""
COLUMNS: Final = ("incident_id", "state", "closes_at", "safe_since", "closed_at")

# Each response, its life, and what it waits for; any may be missing but one. `over_s`: how long ago it was due.
_LIVES: Final = """
SELECT coalesce(r.response_id, l.response_id, t.subject_id) AS response_id, r.incident_id, r.body AS response,
  l.body AS life, t.due_at, t.key, extract(epoch FROM now() - t.due_at)::float8 AS over_s
FROM responses r FULL JOIN response_life l USING (response_id)
FULL JOIN (SELECT * FROM timers WHERE kind = 'response') t ON t.subject_id = coalesce(r.response_id, l.response_id)
ORDER BY 1"""

# Lines beside the feed's.
_TOLD: Final = """
SELECT coalesce(n.response_id::text, f.subject) AS response_id, coalesce(n.seq, f.version) AS seq, n.body, f.told,
  f.audience, f.body AS told_body
FROM (SELECT response_id, seq, body FROM response_lines WHERE kind = ANY($1::text[])) n
FULL JOIN (SELECT subject, version, count(*) AS told, max(audience) AS audience, min(body) AS body FROM feed
           WHERE kind = 'response' GROUP BY 1, 2) f ON f.subject = n.response_id::text AND f.version = n.seq
ORDER BY 1, 2"""

_RECORDS: Final = """
SELECT response_id, seq, body, recorded_at > now() - make_interval(secs => $2) AS young FROM response_lines
WHERE kind = ANY($1::text[]) ORDER BY response_id, seq"""


NOT_CLOSED: Final = NotYet("not closed yet")
TO_CORRECT: Final = NotYet("closed, with a correction on its way")


class Case(NamedTuple):
    """A response and its life, as both can be read."""

    response: Response
    life: ResponseLife
    due_at: datetime | None


async def lives(world: World) -> AsyncIterator[Look]:
    """Lines are numbered without holes, each cycle is closed once at most, and a life is what its lines add up to."""
    rows: list[Any] = []
    async for row in world.rows(_LINES):
        if rows and rows[0]["response_id"] != row["response_id"]:
            yield _life(rows)
            rows = []
        rows.append(row)
    if rows:
        yield _life(rows)


def _life(rows: Sequence[Any]) -> Look:
    where = f"response {rows[0]['response_id']}"
    if rows[0]["line"] is None or rows[0]["body"] is None:
        what = "lines behind its life" if rows[0]["line"] is None else "a life behind its lines"
        return Disagreement(where, what, "none")
    lines = [line for row in rows if (line := read(LifeLine, row["line"]))]
    if len(lines) < len(rows):
        return unreadable(where, "a line of its life")
    columns = [(row["seq"], row["cycle"], row["kind"]) for row in rows]
    numbered = [(number, line.cycle, line.kind) for number, line in enumerate(lines, 1)]
    closed = Counter(line.cycle for line in lines if line.kind == "closed")
    return (
        same(where, "seq, cycle, kind of its lines", numbered, columns)
        or same(where, "closings of a cycle, at most", 1, max(closed.values(), default=1))
        or _folded(where, lines, rows[0])
    )


def _folded(where: str, lines: Sequence[LifeLine], row: Any) -> Look:
    life: ResponseLife | None = None
    for line in lines:
        life = after(life, line)
    assert life is not None
    stored = read(ResponseLife, row["body"])
    if stored is not None:
        life = life.model_copy(update={"correct_at": stored.correct_at})
    columns = [same(where, name, getattr(life, name), row[name]) for name in COLUMNS]
    return same_json(where, "its life", life.model_dump_json(), row["body"]) or next(
        filter(None, [same(where, "number of the last line", life.seq, row["last"]), *columns]), None
    )


async def ends(world: World) -> AsyncIterator[Look]:
    """Each response has a life, one that is open a timer for its end, and none is open whose time was up before."""
    async for row in world.rows(_LIVES):
        case = _case(row)
        yield case if isinstance(case, Disagreement) or case is None else _waits(world, case, row)


def _case(row: Any) -> Case | Disagreement | None:
    """None: it never was a response, by what is known, and nobody looked at it before."""
    where = f"response {row['response_id']}"
    if row["response"] is None:
        what = "a life" if row["life"] else "a timer"
        return Disagreement(where, f"a response behind {what}", "none")
    response, life = read(Response, row["response"]), read(ResponseLife, row["life"] or "")
    if response is None:
        return unreadable(where, "a response")
    if row["life"] is None:
        if ending_of(response) is None:
            return None
        return Disagreement(where, "a life of it", "none")
    return Case(response, life, row["due_at"]) if life else unreadable(where, "its life")


def _waits(world: World, case: Case, row: Any) -> Look:
    life, where = case.life, f"response {case.life.response_id}"
    next_at = {"open": life.due_at, "closed": life.correct_at}.get(life.state)
    expected = (next_at, str(life.incident_id)) if next_at else (None, None)
    if next_at and (row["over_s"] or 0.0) > world.late_s:
        what = "closed" if life.state == "open" else "corrected"
        return Disagreement(where, f"{what} since {next_at.isoformat()}", "not yet")
    return same(where, "a timer at, with key", _texts(expected), _texts((row["due_at"], row["key"])))


def _texts(values: Sequence[Any]) -> list[str | None]:
    return [value.isoformat() if isinstance(value, datetime) else value for value in values]


async def closings(world: World) -> AsyncIterator[Look]:
    """Each closing, with its corrections, is what the ledgers of its orders say of that moment."""
    book = Book(world.policies.values())
    async for page in world.pages(_LIVES):
        cases = [one for row in page if isinstance(one := _case(row), Case)]
        for case in cases:
            if waits := _waits_for(case.life):
                yield waits
        async for look in _closings([one for one in cases if not _waits_for(one.life)], world, book):
            yield look


def _waits_for(life: ResponseLife) -> NotYet | None:
    """What is on its way is no disagreement, and its timer is looked after; but it is not compared, either."""
    if life.state == "open":
        return NOT_CLOSED
    return None if life.correct_at is None else TO_CORRECT


async def _closings(cases: Sequence[Case], world: World, book: Book) -> AsyncIterator[Look]:
    try:
        orders = await histories(world.connection, [one.response.incident_id for one in cases])
    except ValidationError:
        if len(cases) == 1:
            yield unreadable(f"response {cases[0].life.response_id}", "orders")
            return
        for case in cases:
            async for look in _closings([case], world, book):
                yield look
        return
    for case in cases:
        yield _closing(case, orders.get(case.response.incident_id, ()), world, book)


def _closing(case: Case, orders: Sequence[Any], world: World, book: Book) -> Look:
    response, life = case.response, case.life
    where, ending = f"response {life.response_id}", ending_of(response)
    if ending is None or life.state == "void":
        return same(where, "state", "void" if ending is None else "open or closed", life.state)
    policy = world.policies.get(life.policy_version)
    if policy is None:
        return Disagreement(where, f"the policy {life.policy_version} in the table policies", "none")
    summary = summary_of(response, orders, Moment(ending.at, policy, book))
    found = life.summary.model_dump_json() if life.summary else ""
    when = same(where, "closed at, by", _texts(ending), _texts((life.closed_at, life.rule)))
    return when or same_json(where, "its summary", summary.model_dump_json(), found)


async def told(world: World) -> AsyncIterator[Look]:
    """The feed told supervisors, and nobody else, once of each line that is told."""
    async for row in world.rows(_TOLD, sorted(TELLS)):
        where = f"response {row['response_id']}, line {row['seq']}"
        if row["body"] is None:
            yield Disagreement(where, "a line behind what was told", "none")
        elif (row["told"], row["audience"]) != (1, ""):
            yield Disagreement(where, "supervisors told once of it", f"told {row['told'] or 0} times")
        else:
            yield same_json(where, "what supervisors were told", row["body"], row["told_body"] or "")


async def published(world: World) -> AsyncIterator[Look]:
    """Each of these lines is on `response-life`."""
    assert world.records is not None
    with Spool(snapshots=False) as spool:
        async for record in world.records([RESPONSE_LIFE.name]):
            spool.add(record)
        async for row in world.rows(_RECORDS, sorted(TELLS), RESPONSE_LIFE.retention_ms / 1000 - MARGIN_S):
            yield _record(row, spool, must_be=world.keeps and row["young"])
        for one in spool.odd():
            yield Disagreement(f"{one.key} on {one.topic}", one.expected, one.found)


def _record(row: Any, spool: Spool, *, must_be: bool) -> Look:
    where = f"response {row['response_id']}, line {row['seq']}"
    line = read(LifeLine, row["body"])
    if line is None:
        return unreadable(where, "a line of its life")
    wanted = event_id(RESPONSE_LIFE.name, str(line.incident_id), line.seq, str(line.response_id))
    digest = spool.digest(RESPONSE_LIFE.name, wanted)
    if digest is None:
        return Disagreement(where, f"a record {wanted} on {RESPONSE_LIFE.name}", "none") if must_be else GONE
    if digest == digest_of(row["body"]):
        return None
    return Disagreement(where, f"the line, on {RESPONSE_LIFE.name}", "something else under the same event id")
