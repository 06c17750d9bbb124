"""What is sent again is the same letter: its id, its origin, its headers, its history, however often it fails."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from connectors.geography.areas import Areas
from connectors.postgres import dead_letters, retries
from connectors.postgres.outbox import decode_headers
from connectors.postgres.pool import create_pool
from connectors.postgres.retries import Letter, Wanted
from infra.cli.errors import Oops
from infra.dead_letters import Border as BorderNow
from infra.dead_letters import headers_of, put_away
from schemas.dead_letter import DeadLetter, Reason, dead_letter_id_of
from schemas.policy import Policy
from schemas.topics import DEAD_LETTERS, INCIDENT_REPORTS, ISSUE_REPORTS, Topic, updates_topic
from tests.delivery.doubles import Raw
from tests.delivery.scenario import until
from tests.pipeline.test_bad_input import (
    ACKNOWLEDGED,
    INCIDENT_DEFECTS,
    NAME,
    NOW,
    OUTAGE,
    SHOOTING,
    Border,
    raw,
)

NOWHERE: dict[str, Any] = SHOOTING | {"point": {"lat": 0, "lon": 0}}
SENT_WITH = (("ce_id", b"event-7"), ("ce_type", b"rapid.incident-report.v1"), ("ce_subject", NAME.encode()))
ME = "cli:somebody"


class Mended(Border):
    """The loop, and what a person does about its dead letters."""

    def __init__(self, pool: Any, policy: Policy, areas: Areas) -> None:
        super().__init__(pool, policy, areas)
        self.border_now = BorderNow(policy, NOW)
        self._next_offset = 1000
        self._opened = False

    async def take(self, topic: Topic, *records: Raw) -> None:
        """The next batch of the one lane, until it is completed."""
        if not self._opened:
            self._opened = True
            await super().take(topic, *records)
            return
        self.runner.accept(self.feed.batch(topic.name, records))
        assert await until(lambda: records[-1].offset in self.feed.completed, 10.0), self.deaths

    async def one(self) -> Letter:
        (found,) = await self.all()
        return found

    async def all(self, state: str | None = None) -> list[Letter]:
        return await retries.list_letters(self.pool, Wanted(state), 100)

    async def retry(self, letter: Letter) -> list[Raw]:
        """What the broker would be given."""
        await retries.retry(self.pool, [letter.dead_letter_id], ME)
        return await self._out()

    async def correct(self, letter: Letter, value: bytes, content: UUID | None = None) -> list[Raw]:
        content = content or dead_letter_id_of(letter.topic, letter.key, value)
        new = retries.Correction(value, None, content, letter.headers)
        await retries.correct(self.pool, letter.dead_letter_id, new, ME)
        return await self.retry(letter)

    async def _out(self) -> list[Raw]:
        rows = await self.pool.fetch(
            "DELETE FROM outbox WHERE source = $1 RETURNING key, value, headers", retries.SOURCE
        )
        self._next_offset += len(rows)
        first = self._next_offset - len(rows)
        return [
            Raw(first + n, row["key"], row["value"], tuple(decode_headers(row["headers"])))
            for n, row in enumerate(rows)
        ]

    async def happened(self, letter: Letter) -> list[tuple[str, int, str | None]]:
        return [(*one[:2], one.who) for one in await retries.history(self.pool, letter.dead_letter_id)]

    def told(self) -> list[tuple[str, int]]:
        """Id and offset of each record on the topic of dead letters."""
        sent = [
            DeadLetter.model_validate_json(row.value)
            for row in self.publisher.sent
            if row.topic == DEAD_LETTERS.name
        ]
        return [(str(one.dead_letter_id), one.offset) for one in sent]


@pytest.fixture
async def loop(database_url: str, policy: Policy, areas: Areas) -> AsyncIterator[Mended]:
    pool = await create_pool(database_url, max_size=6)
    made = Mended(pool, policy, areas)
    yield made
    await made.runner.close()
    await pool.close()


def bad(offset: int = 7) -> Raw:
    return Raw(offset, b"cad:JH1", json.dumps(NOWHERE).encode(), SENT_WITH)


async def test_a_retry_that_fails_again_is_the_same_letter_with_one_more_attempt(loop: Mended) -> None:
    await loop.take(INCIDENT_REPORTS, bad())
    before = after = await loop.one()
    for attempt in (1, 2):
        (again,) = await loop.retry(before)
        assert (await loop.one()).state == "retried"
        assert (again.key, again.value) == (before.key, before.value)
        assert again.headers == SENT_WITH[:2]  # the same event; of the subject nobody knows what is in it
        await loop.take(INCIDENT_REPORTS, again)
        after = await loop.one()
        assert (after.state, after.attempts, after.seen) == ("open", attempt, attempt + 1)
    same = (
        "dead_letter_id",
        "topic",
        "partition",
        "offset",
        "key",
        "value",
        "headers",
        "source",
        "first_seen",
    )
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    assert (after.offset, after.source) == (7, "cpd")
    assert await loop.happened(after) == [
        ("retried", 1, ME), ("failed_again", 1, None), ("retried", 2, ME), ("failed_again", 2, None),
    ]  # fmt: skip
    assert {told[0] for told in loop.told()} == {str(before.dead_letter_id)}
    assert len(set(loop.told())) == 3


async def test_published_twice_after_a_kill_it_is_still_one_attempt(loop: Mended) -> None:
    await loop.take(INCIDENT_REPORTS, bad())
    (again,) = await loop.retry(await loop.one())
    twice = Raw(again.offset + 1, again.key, again.value, again.headers)
    await loop.take(INCIDENT_REPORTS, again, twice)
    letter = await loop.one()
    assert (letter.state, letter.attempts) == ("open", 1)
    assert [what for what, *_ in await loop.happened(letter)] == ["retried", "failed_again"]


async def test_a_correction_keeps_the_original_and_one_that_fails_is_the_same_letter(loop: Mended) -> None:
    await loop.take(INCIDENT_REPORTS, bad())
    letter = await loop.one()
    other = json.dumps(NOWHERE | {"point": {"lat": 1, "lon": 1}}).encode()
    (sent,) = await loop.correct(letter, other)
    assert (sent.value, sent.key, sent.headers) == (other, letter.key, SENT_WITH[:2])
    await loop.take(INCIDENT_REPORTS, sent)
    back = await loop.one()
    assert (back.dead_letter_id, back.state, back.attempts) == (letter.dead_letter_id, "open", 1)
    assert (back.value, back.instead) == (letter.value, other)
    assert loop.told()[-1] == (str(letter.dead_letter_id), sent.offset)
    (again,) = await loop.retry(back)
    assert again.value == other  # what somebody corrected stays corrected

    right = loop.border_now.corrected(back, json.dumps(SHOOTING).encode())
    await loop.take(INCIDENT_REPORTS, again)
    (good,) = await loop.correct(letter, right.value)
    await loop.take(INCIDENT_REPORTS, good)
    assert await loop.count("incident_reports") == 1
    late = Raw(5000, sent.key, sent.value, sent.headers)
    await loop.take(INCIDENT_REPORTS, late, bad(5001))
    assert (await loop.one()).state == "retried"  # earlier contents are no news of the last one
    assert [(what, attempt) for what, attempt, _ in await loop.happened(letter)] == [
        ("corrected", 1), ("retried", 1), ("failed_again", 1), ("retried", 2), ("failed_again", 2),
        ("corrected", 3), ("retried", 3),
    ]  # fmt: skip


async def test_a_correction_that_would_fail_too_is_refused_and_names_are_dropped(loop: Mended) -> None:
    await loop.take(INCIDENT_REPORTS, bad())
    letter = await loop.one()
    with pytest.raises(Oops, match=r"refused too \(point: expected Chicago lies"):
        loop.border_now.corrected(letter, json.dumps(NOWHERE).encode())
    with pytest.raises(Oops, match="expected one JSON object"):
        loop.border_now.corrected(letter, b"{")
    named = loop.border_now.corrected(letter, json.dumps(SHOOTING | {"victim_name": NAME}).encode())
    assert NAME.encode() not in named.value


async def test_a_row_of_a_file_is_sent_with_the_key_of_its_correction(loop: Mended) -> None:
    row = b'{"case_number": "JH1", "date": "soon"}'
    letter = DeadLetter(
        dead_letter_id=dead_letter_id_of(INCIDENT_REPORTS.name, None, row), topic=INCIDENT_REPORTS.name, partition=-1,
        offset=3, reason="impossible_time", field="DATE", expected="a time", key=None, value=row, source="cpd",
    )  # fmt: skip
    await dead_letters.bury(loop.pool, [letter])
    found = await loop.one()
    assert "--value" in str(found.hopeless)
    new = loop.border_now.corrected(found, json.dumps(SHOOTING).encode())
    await retries.correct(loop.pool, found.dead_letter_id, new, ME)
    (sent,) = await loop.retry(found)
    assert (sent.key, json.loads(sent.value or b"")) == (b"cpd:JH1", SHOOTING)
    await loop.take(INCIDENT_REPORTS, sent)
    assert (await loop.count("incident_reports"), (await loop.one()).state) == (1, "retried")


async def test_an_unknown_type_is_left_out_of_a_correction(loop: Mended) -> None:
    await loop.take(
        INCIDENT_REPORTS, Raw(1, b"k", json.dumps(SHOOTING).encode(), (("ce_type", b"rapid.x.v9"),))
    )
    letter = await loop.one()
    assert headers_of(letter) == [("ce_type", b"rapid.x.v9")]
    assert loop.border_now.forecast(letter).reason == "unknown_version"
    assert json.loads(loop.border_now.corrected(letter, letter.value or b"").headers) == []


ISSUES = [
    raw(1, OUTAGE, category="potholes"),
    raw(1, OUTAGE, status="lost"),
    raw(1, OUTAGE, point={"lat": 0, "lon": 0}),
]
UPDATES = [raw(1, ACKNOWLEDGED, verb="begin"), Raw(1, b"k", b"nope"), raw(1, ACKNOWLEDGED, key=None)]
WRONG = [
    *((INCIDENT_REPORTS, one[0]) for one in INCIDENT_DEFECTS), *((ISSUE_REPORTS, one) for one in ISSUES),
    *((updates_topic("cdot"), one) for one in UPDATES),
]  # fmt: skip


@pytest.mark.parametrize(("topic", "wrong"), WRONG)
async def test_what_is_foreseen_is_what_happens(loop: Mended, topic: Topic, wrong: Raw) -> None:
    await loop.take(topic, wrong)
    letter = await loop.one()
    foreseen = loop.border_now.forecast(letter)
    sent = await loop.retry(letter)
    if sent:
        await loop.take(topic, *sent)
    after = await loop.one()
    assert foreseen.passes is False
    assert after.state == "open"
    assert bool(sent) == (letter.hopeless is None)
    if sent:
        assert (after.reason, after.field, after.expected) == foreseen[1:]


async def test_after_the_policy_was_mended_it_is_foreseen_to_pass_and_does(
    database_url: str, policy: Policy, areas: Areas
) -> None:
    extent = policy.city.extent.model_copy(update={"min_lat": 41.95})
    narrow = policy.model_copy(update={"city": policy.city.model_copy(update={"extent": extent})})
    pool = await create_pool(database_url, max_size=6)
    before, after = Mended(pool, narrow, areas), Mended(pool, policy, areas)
    try:
        await before.take(INCIDENT_REPORTS, Raw(0, b"cpd:JH1", json.dumps(SHOOTING).encode()))
        letter = await before.one()
        assert (letter.reason, before.border_now.forecast(letter).passes) == ("impossible_place", False)
        assert after.border_now.forecast(letter).passes is True
        sent = await after.retry(letter)
        await before.runner.close()
        await after.take(INCIDENT_REPORTS, *sent)
        assert (await after.one()).state == "retried"
        assert await after.count("incident_reports") == 1
    finally:
        await after.runner.close()
        await pool.close()


REASONS: tuple[Reason, ...] = ("failed", "oversized", "conflicting_content", "unknown_order", "missing_key")


async def test_the_database_sends_exactly_those_that_are_not_hopeless(loop: Mended) -> None:
    letters = [
        DeadLetter(
            dead_letter_id=dead_letter_id_of("t", repr(key).encode(), f"{reason}{partition}{kept}".encode()),
            topic=INCIDENT_REPORTS.name, partition=partition, offset=0, reason=reason, field=None, expected="x",
            key=key, value=b"v" if kept else None,
        )
        for reason in REASONS for partition in (0, -1) for key in (b"k", b"", None) for kept in (True, False)
    ]  # fmt: skip
    await dead_letters.bury(loop.pool, letters)
    found = await loop.all()
    assert len(found) == len(letters)
    await retries.retry(loop.pool, [one.dead_letter_id for one in found], ME)
    sent = {one.dead_letter_id for one in await loop.all("retried")}
    assert sent == {one.dead_letter_id for one in found if one.hopeless is None}
    assert sent


async def test_who_put_it_away_and_why_is_kept(loop: Mended) -> None:
    await loop.take(INCIDENT_REPORTS, bad())
    letter = await loop.one()
    async with loop.pool.acquire() as connection:
        assert await put_away(connection, [letter.dead_letter_id], ME, "a test of theirs") == 1
        assert await put_away(connection, [letter.dead_letter_id], ME, "again") == 0
    (line,) = await retries.history(loop.pool, letter.dead_letter_id)
    assert (line.what, line.who, line.why, line.reason) == (
        "discarded",
        ME,
        "a test of theirs",
        "impossible_place",
    )
    trail = await loop.pool.fetch("SELECT actor, action, details FROM audit")
    assert [tuple(row) for row in trail] == [
        (ME, "dead_letters.discard", '{"letters":1,"why":"a test of theirs"}')
    ]
    await loop.take(INCIDENT_REPORTS, bad(8))
    assert ((await loop.one()).state, (await loop.one()).seen) == ("discarded", 2)


async def test_who_buries_and_who_sends_again_or_puts_away_at_the_same_time_never_lock_each_other_out(
    loop: Mended,
) -> None:
    letters = [
        DeadLetter(
            dead_letter_id=dead_letter_id_of("t", b"k", str(n).encode()), topic=INCIDENT_REPORTS.name, partition=0,
            offset=n, reason="failed", field=None, expected="x", key=b"k", value=str(n).encode(),
        )
        for n in range(200)
    ]  # fmt: skip
    ids = [one.dead_letter_id for one in letters]

    async def come_back() -> None:
        for turn in range(20):
            async with loop.pool.acquire() as connection, connection.transaction():
                await dead_letters.bury(connection, letters[:: -1 if turn % 2 else 1])

    async def send_and_put_away() -> None:
        for turn in range(20):
            async with loop.pool.acquire() as connection:
                await retries.retry(connection, ids[:: 1 if turn % 2 else -1], ME)
                await retries.discard(connection, ids[turn::40], ME, "a test")

    async with asyncio.timeout(60):
        await asyncio.gather(come_back(), come_back(), send_and_put_away(), send_and_put_away())
    found = await loop.pool.fetch("SELECT state, seen FROM dead_letters")
    assert len(found) == len(letters)
    assert {row["seen"] for row in found} == {40}
