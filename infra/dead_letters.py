"""Dead letters sent again, many at a time: what would become of them, and how they go out.

    choose -> batch -> ONE transaction {marked, history, outbox rows} -> publish in order -> settle

Killed anywhere, the next command publishes what was written down and goes on with what is still open.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from uuid import UUID

from pydantic_core import from_json, to_json

from agents.intake.border import Refusal, refuse_incident_report, refuse_issue_report
from connectors.errors import Transient
from connectors.mapping.taking import Refusal as RowRefusal
from connectors.mapping.targets import Report
from connectors.postgres import audit, retries
from connectors.postgres.pool import Connection, Pool, classified
from connectors.postgres.retries import ROW, Correction, Letter
from infra.cli.errors import ExitCode, Oops
from infra.connect import Endpoints
from infra.embedded.installation import publish_unsent
from infra.logging import logger
from infra.sources.again import SKIPS, Again, NotAgain
from infra.sources.load import Sources
from schemas.base import Record
from schemas.codec import Decoded, Defect, decode
from schemas.dead_letter import Unreadable, dead_letter_id_of
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.policy import Policy
from schemas.topics import INCIDENTS, ISSUES, RESPONSE_COMMANDS, RESPONSE_LOOKS, RESPONSES, Topic, all_topics

BATCH: Final = 500
"""Letters of one transaction: some hundred kilobytes, and as much as a killed command leaves to publish."""
PRUNED_AT_ONCE: Final = 2_000
DAY_S: Final = 86_400.0
WAKING: Final = frozenset(
    topic.name for topic in (INCIDENTS, ISSUES, RESPONSES, RESPONSE_COMMANDS, RESPONSE_LOOKS)
)
"""Topics of which just the key is read: an id."""
TRY_IT: Final = "only trying tells: it was let in, and failed further on"

# One command at a time sends: two would publish the same rows. The lock ends with its session.
_TURN: Final = "SELECT pg_try_advisory_lock(7214803553)"
_LET_GO: Final = "SELECT pg_advisory_unlock(7214803553)"

log = logger(__name__)


class Forecast(NamedTuple):
    """What would become of a letter now. `passes` None: nobody can tell. `expected`: what stands in its way."""

    passes: bool | None
    reason: str | None = None
    field: str | None = None
    expected: str | None = None


PASSES: Final = Forecast(True)
NOTHING_NEW: Final[Mapping[UUID, Correction]] = MappingProxyType({})


class Progress(NamedTuple):
    """How far a command is. `before`: records that an earlier one had written down and not sent."""

    done: int
    sent: int
    before: int


class Border:
    """Today's schemas and the border of the policy that is in force, as the agents would look at a letter now."""

    def __init__(self, policy: Policy, now: datetime) -> None:
        self._policy = policy
        self._now = now
        codes = [department.code for department in policy.departments]
        self._topics = {topic.name: topic for topic in all_topics(codes)}

    def forecast(self, letter: Letter) -> Forecast:
        """Whether it would pass if it were sent again now."""
        if letter.hopeless:
            return Forecast(False, letter.reason, letter.field, letter.hopeless)
        topic = self._topics.get(letter.topic)
        if topic is None:
            return Forecast(False, "invalid", None, f"nobody reads {letter.topic} any more")
        found = self._look(topic, _key_of(letter), _value_of(letter), headers_of(letter))
        return Forecast(None, "failed", None, TRY_IT) if found.passes and letter.reason == "failed" else found

    def corrected(self, letter: Letter, raw: bytes) -> Correction:
        """What is sent instead of a letter's content. Raises Oops when it would not pass either."""
        topic = self._topics.get(letter.topic)
        if topic is None:
            raise Oops(f"Nobody reads {letter.topic} any more.", ExitCode.INVALID)
        headers = [one for one in headers_of(letter) if one[0] != "ce_type" or topic.schema_of(_text(one[1]))]
        key = letter.key or _key_in(topic, raw)
        decoded = _readable(topic, key, raw, headers)
        refused = self._refusal(decoded.body)
        if refused is not None:
            raise _still_wrong(refused.field, refused.expected)
        kept = decoded.value  # without names of persons, if somebody typed any
        content = dead_letter_id_of(topic.name, key, kept)
        texts = to_json([(name, _text(value)) for name, value in headers])
        return Correction(kept, None if letter.key else key, content, texts)

    def _look(
        self, topic: Topic, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
    ) -> Forecast:
        wakes = topic.name in WAKING
        decoded = decode(topic, key, value, headers, body=not wakes)
        if isinstance(decoded, Defect):
            return Forecast(False, decoded.reason, decoded.field, decoded.expected)
        if isinstance(decoded.body, Unreadable):
            return Forecast(False, decoded.body.reason, decoded.body.field, decoded.body.expected)
        if wakes and not _is_id(decoded):
            return Forecast(False, "failed", "key", "an id as its key")
        refused = self._refusal(decoded.body)
        return PASSES if refused is None else Forecast(False, *refused)

    def refuse(self, report: Report, _: datetime) -> Refusal | None:
        """What intake would certainly refuse a report for."""
        return self._refusal(report)

    def _refusal(self, body: Record | None) -> Refusal | None:
        if isinstance(body, IncidentReport):
            return refuse_incident_report(body, self._policy, self._now)
        if isinstance(body, IssueReport):
            return refuse_issue_report(body, self._policy, self._now)
        return None


class Rereading:
    """Rows and elements as today's mappings read them: a correction each, or the letter with why there is none."""

    def __init__(self, connection: Connection, border: Border, sources: Sources, now: datetime) -> None:
        self._connection = connection
        self._border = border
        self._again = Again(sources, border.refuse, now)
        self._taken: dict[UUID, UUID] = {}  # contents, and which letter is to be sent with them

    async def look(self, letter: Letter) -> Correction | Letter:
        """What is to be sent instead of an open row; any other letter as it is."""
        if letter.state != "open" or not letter.is_row:
            return letter
        try:
            found = self._again.read(letter)
            if found is None:
                return letter._replace(today=SKIPS.format(source=letter.source))
            if isinstance(found, RowRefusal):
                return _refused_today(letter, found)
            new = self._border.corrected(letter, found.model_dump_json().encode())
        except (NotAgain, Oops) as error:
            return letter._replace(today=f"{ROW} ({str(error).rstrip('.')})")
        return await self._unless_known(letter, new)

    async def _unless_known(self, letter: Letter, new: Correction) -> Correction | Letter:
        """Two letters that say the same would be one: the first of them is sent."""
        other = self._taken.get(new.content_id) or await retries.whose(self._connection, new.content_id)
        if other not in (None, letter.dead_letter_id):
            return letter._replace(today=f"that is what dead letter {other} says: see to that one")
        self._taken[new.content_id] = letter.dead_letter_id
        return new


def _refused_today(letter: Letter, found: RowRefusal) -> Letter:
    column = f" in {found.field}" if found.field else ""
    today = f"by today's mapping of {letter.source} expected {found.expected.rstrip('.')}{column}"
    told = found.letter
    return letter._replace(reason=told.reason, field=told.field, expected=told.expected, today=today)


def headers_of(letter: Letter) -> list[tuple[str, bytes | None]]:
    """The headers that are kept of it."""
    return [(name, text.encode()) for name, text in from_json(letter.headers)]


def _key_of(letter: Letter) -> bytes | None:
    return letter.key or letter.instead_key


def _value_of(letter: Letter) -> bytes | None:
    return letter.value if letter.instead is None else letter.instead


def _key_in(topic: Topic, raw: bytes) -> bytes:
    """The key that a report has by itself. Raises Oops where it has none, or is none."""
    decoded = _readable(topic, b"-", raw, [])
    if isinstance(decoded.body, IncidentReport | IssueReport):
        return decoded.body.key.encode()
    raise Oops(f"It has no key ({topic.key}): have its sender send it again with one.", ExitCode.INVALID)


def _readable(topic: Topic, key: bytes, raw: bytes, headers: Sequence[tuple[str, bytes | None]]) -> Decoded:
    decoded = decode(topic, key, raw, headers)
    if isinstance(decoded, Defect):
        raise _still_wrong(decoded.field, decoded.expected)
    if isinstance(decoded.body, Unreadable):
        raise _still_wrong(decoded.body.field, decoded.body.expected)
    return decoded


def _still_wrong(field: str | None, expected: str) -> Oops:
    where = f"{field}: " if field else ""
    return Oops(
        f"This would be refused too ({where}expected {expected.rstrip('.')}): nothing was sent.",
        ExitCode.INVALID,
    )


def _is_id(decoded: Decoded) -> bool:
    try:
        UUID(decoded.key)
    except ValueError:
        return False
    return True


def _text(value: bytes | None) -> str:
    return (value or b"").decode()


# ---------------------------------------------------------------- sending


@asynccontextmanager
async def my_turn(connection: Connection) -> AsyncIterator[None]:
    """Nobody else sends dead letters again meanwhile. Raises Oops when somebody does."""
    if not await connection.fetchval(_TURN):
        raise Oops("Another `rapid dead-letters retry` is at work: wait for it.", ExitCode.FAILED)
    try:
        yield
    finally:
        await connection.execute(_LET_GO)


async def send_again(
    connection: Connection, there: Endpoints, ids: Sequence[UUID], who: str, tell: Callable[[Progress], None],
    *, new: Mapping[UUID, Correction] = NOTHING_NEW,
) -> Progress:  # fmt: skip
    """Send letters again, batch by batch; first what an earlier command wrote down. `new`: what some of them say by
    today's mappings. Raises Transient, Oops."""
    async with my_turn(connection):
        at = Progress(0, 0, await publish(connection, there))
        for batch in _batches(ids):
            tell(at)
            await _correct(connection, {one: new[one] for one in batch if one in new}, who)
            sent = await retries.retry(connection, batch, who)
            await _audit(connection, "dead_letters.retry", who, sent)
            await publish(connection, there)
            at = Progress(at.done + len(batch), at.sent + sent, at.before)
        tell(at)
        return at


async def _correct(connection: Connection, new: Mapping[UUID, Correction], who: str) -> None:
    """Each by itself, before it is sent: of a process that is killed between, the next one sends what stands here."""
    for dead_letter_id, correction in new.items():
        async with connection.transaction():
            await retries.correct(connection, dead_letter_id, correction, who)


async def send_corrected(
    connection: Connection, there: Endpoints, letter: Letter, new: Correction, who: str
) -> Progress:
    """Send one letter with another content; the original is kept. Raises Transient, Oops."""
    if letter.state != "open":
        raise Oops(f"It is {letter.state}: only an open dead letter is sent again.", ExitCode.INVALID)
    other = await retries.whose(connection, new.content_id)
    if other not in (None, letter.dead_letter_id):
        raise Oops(f"That is what dead letter {other} says: see to that one.", ExitCode.INVALID)
    async with my_turn(connection):
        before = await publish(connection, there)
        async with connection.transaction():
            await retries.correct(connection, letter.dead_letter_id, new, who)
            sent = await retries.retry(connection, [letter.dead_letter_id], who)
        await _audit(connection, "dead_letters.correct", who, sent, id=str(letter.dead_letter_id))
        await publish(connection, there)
        return Progress(1, sent, before)


async def publish(connection: Connection, there: Endpoints) -> int:
    """Publish what is written down; how many records. Raises Transient."""
    return await publish_unsent(
        connection, there.brokers, retries.SOURCE, embedded=there.embedded, security=there.security
    )


async def put_away(connection: Connection, ids: Sequence[UUID], who: str, why: str) -> int:
    """Discard letters, batch by batch; how many it were."""
    gone = 0
    for batch in _batches(ids):
        some = await retries.discard(connection, batch, who, why)
        await _audit(connection, "dead_letters.discard", who, some, why=why)
        gone += some
    return gone


async def _audit(connection: Connection, action: str, who: str, letters: int, **more: Any) -> None:
    """One line of the audit trail for a whole batch: each letter has its own in its history, in the same transaction
    as what was done. In a transaction of its own: the trail's lock comes before those of letters, as in the agents."""
    if letters:
        details = {"letters": letters} | more
        async with connection.transaction():
            await audit.write(connection, [audit.Entry(who, action, "dead-letters", details=details)])


def _batches(ids: Sequence[UUID]) -> Iterable[Sequence[UUID]]:
    return (ids[first : first + BATCH] for first in range(0, len(ids), BATCH))


# ---------------------------------------------------------------- letting go


async def let_go(connection: Connection, days: int) -> int:
    """Let go of letters that were closed so many days ago, in batches; open ones stay. How many it were."""
    gone = 0
    while (some := await retries.prune(connection, days, PRUNED_AT_ONCE)) > 0:
        gone += some
    await retries.prune_tallies(connection, days)
    return gone


async def let_go_daily(pool: Pool, days: int, stop: asyncio.Event) -> None:
    """Once a day, from now on, until `stop`."""
    while not stop.is_set():
        try:
            await _let_go(pool, days)
        except Transient as error:
            log.warning("dead letters are let go of later", reason=str(error))
        try:
            await asyncio.wait_for(stop.wait(), DAY_S)
        except TimeoutError:
            continue


async def _let_go(pool: Pool, days: int) -> None:
    try:
        async with pool.acquire() as connection:
            gone = await let_go(connection, days)
    except Exception as error:
        raise classified(error) from error
    if gone:
        log.info("closed dead letters let go of", letters=gone, older_than_days=days)
