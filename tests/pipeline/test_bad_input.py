"""Bad reports among good ones, through the real loop: each becomes a dead letter that says what to do, the batch
around it goes on, and nobody's name is kept anywhere."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from agents.runner import Limits, Runner
from agents.topology import topology
from connectors.geography.areas import Areas
from connectors.postgres import audit
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.pool import create_pool
from schemas.policy import Policy
from schemas.topics import INCIDENT_REPORTS, ISSUE_REPORTS, Topic, results_topic, updates_topic
from schemas.work_order_update import UpdateResult
from tests.delivery.doubles import MemoryFeed, MemoryLog, MemoryPublisher, Raw
from tests.delivery.scenario import until
from tests.pipeline.stream import STORES

NOW = datetime(2026, 11, 1, tzinfo=UTC)
NAME = "Zachariah Quill"

SHOOTING: dict[str, Any] = {
    "source": "cpd", "report_id": "V1", "incident_number": "JH1", "occurred_at": "2025-07-04T03:12:00Z",
    "revised_at": "2025-07-05T03:12:00Z", "event": "assault", "gunshot_injury": True,
    "block": "4000 W WASHINGTON BLVD", "point": {"lat": 41.88, "lon": -87.73},
}  # fmt: skip
OUTAGE: dict[str, Any] = {
    "source": "city_311", "request_number": "SR1", "category": "street_light", "status": "open",
    "created_at": "2025-07-02T03:12:00Z", "revised_at": "2025-07-02T03:12:00Z",
    "address": "4015 W WASHINGTON BLVD", "point": {"lat": 41.8805, "lon": -87.73},
}  # fmt: skip


class Border:
    """The loop on the two topics of reports, with a broker in memory and a real database."""

    def __init__(self, pool: asyncpg.Pool, policy: Policy, areas: Areas) -> None:
        self.pool = pool
        self.feed = MemoryFeed()
        self.publisher = MemoryPublisher()
        self.deaths: list[BaseException] = []
        bindings = topology(policy, areas, STORES, lambda: NOW)
        self.runner = Runner(
            bindings, consumer="rapid", ledger=PostgresLedger(pool), publisher=self.publisher,
            source=MemoryLog(), limits=Limits(retry_first_s=0.01, retry_most_s=0.02), die=self.deaths.append,
        )  # fmt: skip
        self.runner.feed = self.feed

    async def take(self, topic: Topic, *records: Raw) -> None:
        """One batch, until it is completed."""
        self.runner.open([(topic.name, 0)])
        assert await until(lambda: len(self.feed.begun) > 0, 5.0)
        self.runner.accept(self.feed.batch(topic.name, records))
        assert await until(lambda: records[-1].offset in self.feed.completed, 10.0), self.deaths

    async def letters(self) -> list[tuple[int, str, str | None, str]]:
        rows = await self.pool.fetch('SELECT "offset", reason, field, expected FROM dead_letters ORDER BY 1')
        return [tuple(row) for row in rows]

    def answers(self) -> list[UpdateResult]:
        """What the department cdot reads of its updates."""
        sent = [row for row in self.publisher.sent if row.topic == results_topic("cdot").name]
        return [UpdateResult.model_validate_json(row.value) for row in sent]

    async def count(self, table: str) -> int:
        return int(await self.pool.fetchval(f"SELECT count(*) FROM {table}"))


@pytest.fixture
async def border(database_url: str, policy: Policy, areas: Areas) -> AsyncIterator[Border]:
    pool = await create_pool(database_url, max_size=6)
    loop = Border(pool, policy, areas)
    yield loop
    await loop.runner.close()
    await pool.close()


def raw(offset: int, report: Mapping[str, Any], *, key: bytes | None = b"some:key", **changed: Any) -> Raw:
    return Raw(offset, key, json.dumps({**report, **changed}).encode())


def good(report: Mapping[str, Any], offset: int) -> Raw:
    identity = "report_id" if "report_id" in report else "request_number"
    return raw(offset, {**report, identity: f"GOOD{offset}"})


INCIDENT_DEFECTS = [
    (Raw(1, b"k", b"\xff\xfe"), "undecodable", None, "UTF-8"),
    (Raw(1, b"k", b"nope"), "not_json", None, "one JSON object"),
    (raw(1, SHOOTING, key=None), "missing_key", None, "source:case number"),
    (
        Raw(1, b"k", json.dumps(SHOOTING).encode(), (("ce_type", b"rapid.incident-report.v9"),)),
        "unknown_version", "ce_type", "rapid.incident-report.v1",
    ),
    (raw(1, SHOOTING, block="x" * 201), "invalid", "block", "200"),
    (raw(1, SHOOTING, block="x" * 300_000), "oversized", None, "at most 262144 bytes"),
    (raw(1, SHOOTING, occurred_at="2025-07-04T03:12:00"), "invalid", "occurred_at", "a time with an offset"),
    (raw(1, SHOOTING, revised_at="2027-01-01T00:00:00Z"), "impossible_time", "revised_at", "clock and zone"),
    (raw(1, SHOOTING, occurred_at="1970-01-01T00:00:00Z"), "impossible_time", "occurred_at", "2001-01-01"),
    (raw(1, SHOOTING, point={"lat": 0, "lon": 0}), "impossible_place", "point", "leave the point out"),
    (raw(1, SHOOTING, point={"lat": -87.73, "lon": 41.88}), "impossible_place", "point", "swapped"),
    (raw(1, SHOOTING, point={"lat": 40.7, "lon": -74.0}), "impossible_place", "point", "name the area"),
    (raw(1, SHOOTING, point={"lat": 141.88, "lon": -87.73}), "invalid", "point.lat", "90"),
    (raw(1, SHOOTING, occurred_at="0001-01-01T00:00:00+14:00"), "invalid", "occurred_at", "this field allows"),
    (raw(1, SHOOTING, occurred_at="9999-12-31T23:59:59-14:00"), "invalid", "occurred_at", "this field allows"),
    (raw(1, SHOOTING, key=b"k" * 800_000), "oversized", None, "a key of at most 4096 bytes"),
    (raw(1, SHOOTING, published_area=78), "invalid", "published_area", "area of Chicago"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "reason", "field", "says"), INCIDENT_DEFECTS)
async def test_a_bad_incident_report_is_a_dead_letter_and_the_batch_around_it_goes_on(
    border: Border, bad: Raw, reason: str, field: str | None, says: str
) -> None:
    await border.take(INCIDENT_REPORTS, good(SHOOTING, 0), bad, good(SHOOTING, 2))
    ((offset, found, where, expected),) = await border.letters()
    assert (offset, found, where) == (1, reason, field)
    assert says in expected
    assert await border.count("incident_reports") == 2
    assert await border.count("incidents") == 1
    assert border.deaths == []


async def test_every_kind_of_bad_issue_report_in_one_batch(border: Border) -> None:
    await border.take(
        ISSUE_REPORTS,
        good(OUTAGE, 0),
        raw(1, OUTAGE, category="potholes"),
        raw(2, OUTAGE, created_at="2031-01-01T00:00:00Z"),
        raw(3, OUTAGE, point={"lat": 0, "lon": 0}),
        raw(4, OUTAGE, status="lost"),
        good(OUTAGE, 5),
    )
    assert [letter[:3] for letter in await border.letters()] == [
        (1, "unknown_category", "category"),
        (2, "impossible_time", "created_at"),
        (3, "impossible_place", "point"),
        (4, "invalid", "status"),
    ]
    assert await border.count("issues") == 2


ACKNOWLEDGED = {"update_id": "U1", "reference": "WO-00000-00000", "verb": "acknowledge"}
VERSION_9 = (("ce_type", b"rapid.work-order-update.v9"),)
UNREADABLE = [
    (raw(1, ACKNOWLEDGED, verb="begin"), "invalid", "verb", "'acknowledge'"),
    (raw(1, ACKNOWLEDGED, at="yesterday"), "invalid", "at", "a time with an offset"),
    (
        raw(1, ACKNOWLEDGED, reason=5, colour="red"),
        "invalid",
        "reason",
        "text; colour: no member of this name",
    ),
    (raw(1, ACKNOWLEDGED, key=None), "missing_key", None, "a key: order reference"),
    (Raw(1, b"k", json.dumps(ACKNOWLEDGED).encode(), VERSION_9), "unknown_version", "ce_type", "update.v1"),
]


@pytest.mark.parametrize(("bad", "reason", "field", "says"), UNREADABLE)
async def test_an_update_that_cannot_be_read_is_answered_and_a_dead_letter(
    border: Border, bad: Raw, reason: str, field: str | None, says: str
) -> None:
    await border.take(updates_topic("cdot"), raw(0, ACKNOWLEDGED), bad, replace(bad, offset=2))
    assert [letter[1:3] for letter in await border.letters()] == [(reason, field)]
    kept = json.loads(await border.pool.fetchval("SELECT value FROM dead_letters"))
    assert kept == json.loads(bad.value or b"") | ({"colour": "[removed]"} if "colour" in kept else {})
    told = border.answers()
    assert told[0].rule == "no_such_order"  # the good one
    assert [(one.update_id, one.verdict, one.rule, one.state) for one in told[1:]] == [
        ("U1", "refused", "undecodable", None)
    ] * 2
    assert says in told[1].because
    assert (field or "expected") in told[1].because
    assert told[1] == told[2]
    tried = await audit.rows(border.pool, actor="department:cdot", subject=None, since=None, limit=9)
    assert [(one.subject, one.outcome) for one in tried] == [("WO-00000-00000", "refused")] * 2
    assert border.deaths == []


async def test_what_does_not_say_which_update_it_is_is_a_dead_letter_only(border: Border) -> None:
    await border.take(
        updates_topic("cdot"), Raw(0, b"k", b"nope"), raw(1, ACKNOWLEDGED, update_id=7),
        raw(2, ACKNOWLEDGED, reference="WO-1"), Raw(3, b"k", b'"update_id reference"'),
        raw(4, ACKNOWLEDGED, text="x" * 300_000), raw(5, ACKNOWLEDGED, update_id="a" * 81),
    )  # fmt: skip
    assert [letter[:3] for letter in await border.letters()] == [
        (0, "not_json", None), (1, "invalid", "update_id"), (2, "invalid", "reference"), (3, "invalid", None),
        (4, "oversized", None), (5, "invalid", "update_id"),
    ]  # fmt: skip
    assert border.answers() == []


async def test_another_content_under_the_same_id_and_revision_is_reported_under_its_own_key(
    border: Border,
) -> None:
    await border.take(
        INCIDENT_REPORTS,
        raw(0, SHOOTING, key=b"cpd:JH1", block="B ST"),
        raw(1, SHOOTING, key=b"cpd:JH1", block="A ST"),
        raw(2, SHOOTING, key=b"oemc:JH1", source="oemc"),
    )
    (letter,) = await border.pool.fetch("SELECT reason, field, expected, key, value FROM dead_letters")
    assert (letter["reason"], letter["field"], letter["key"]) == (
        "conflicting_content",
        "revised_at",
        b"cpd:JH1",
    )
    assert "send it again with a later revised_at" in letter["expected"]
    assert json.loads(letter["value"])["block"] == "B ST"
    body = await border.pool.fetchval("SELECT body FROM incidents")
    assert (json.loads(body)["victims"], await border.count("incident_reports")) == (1, 3)


async def test_null_headers_are_no_defect(border: Border) -> None:
    nothing = (("ce_id", None), ("ce_type", None), ("ce_correlationid", None))
    await border.take(INCIDENT_REPORTS, Raw(0, b"k", json.dumps(SHOOTING).encode(), nothing))
    assert (await border.letters(), await border.count("incidents"), border.deaths) == ([], 1, [])


async def test_a_dead_letter_keeps_what_the_schema_knows_and_only_names_the_rest(border: Border) -> None:
    hidden = {"victims": [NAME], "caller": NAME, "raw": json.dumps({"victim_name": NAME}), NAME: 1}
    await border.take(INCIDENT_REPORTS, raw(0, SHOOTING | hidden, block={"said": NAME}))
    kept = json.loads(await border.pool.fetchval("SELECT value FROM dead_letters"))
    assert kept == SHOOTING | dict.fromkeys(["victims", "caller", "raw", "block"], "[removed]")


async def test_a_bad_report_sent_again_is_the_same_dead_letter(border: Border) -> None:
    bad = SHOOTING | {"point": {"lat": 0, "lon": 0}}
    await border.take(INCIDENT_REPORTS, raw(0, bad), raw(1, bad))
    assert await border.count("dead_letters") == 1


async def test_names_of_victims_are_kept_nowhere(border: Border) -> None:
    await border.take(
        INCIDENT_REPORTS,
        raw(0, SHOOTING, victim_name=NAME),
        raw(1, SHOOTING, report_id="V2", victim_name=NAME, point={"lat": 0, "lon": 0}),
        raw(2, SHOOTING, report_id="V3", victim={"first_name": NAME, "age": 20}),
        Raw(3, b"k", f'{{"victim_name": "{NAME}", broken'.encode()),
        raw(4, SHOOTING, report_id="V5", victim_name=NAME, block="x" * 300_000),
    )
    assert [letter[1] for letter in await border.letters()] == [
        "impossible_place", "not_json", "oversized",
    ]  # fmt: skip
    tables = await border.pool.fetch(
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
    )
    for (table,) in tables:
        kept = await border.pool.fetch(f"SELECT * FROM {table}")
        told = " ".join(_text(value) for row in kept for value in row.values())
        assert "quill" not in told.lower(), table
    assert await border.count("incidents") == 1


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
