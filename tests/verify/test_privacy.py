"""What would tell of an incident is found in whatever goes out, and what only looks like it is not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from infra.verify.registry import CHECKS
from infra.verify.run import verify
from infra.verify.telling import Restricted
from infra.verify.world import World
from schemas.envelope import Event
from schemas.incident import incident_id_of
from schemas.response import response_id_of
from tests.verify.made_up import AT, orders_of, records_of

PRIVACY = [check for check in CHECKS if check.name == "privacy"]
INCIDENT = incident_id_of("JK512345")
LOCAL = AT.astimezone(ZoneInfo("America/Chicago"))

TELLTALES = {
    "incident id": str(INCIDENT),
    "incident id without hyphens": INCIDENT.hex.upper(),
    "case number": "JK512345",
    "case number spelled otherwise": "case no jk-512345.",
    "report id": "CAD-JK512345-1",
    "response id": str(response_id_of(INCIDENT)),
    "time in UTC": AT.isoformat(),
    "time with Z": AT.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "time in the city": LOCAL.isoformat(),
    "time without its zone": LOCAL.strftime("%Y-%m-%d %H:%M:%S"),
    "time to the minute": LOCAL.strftime("%Y-%m-%d %H:%M"),
    "time as Americans write it": LOCAL.strftime("%m/%d/%Y %I:%M:%S %p"),
    "time of HTTP": format_datetime(AT, usegmt=True),
    "time since 1970": str(int(AT.timestamp())),
    "milliseconds since 1970": str(int(AT.timestamp() * 1000)),
    "kind of incident": "fatal_shooting",
    "kind in camel case": "nonfatalShooting",
    "word": "near the shooting",
    "word beside a signature": "v1,K3/gunU+a/Kill+shotAZpmzvhQhV2cZy0pQvJ7sXwQ= gunfire",
    "word behind escapes": "near the \\u0073hooting",
    "word behind entities": "near the &#115;hooting",
    "victims": '"victims": 2',
    "injury": '"gunshot_injury": true',
    "severity": '"severity": 7',
    "correlation": "ce_correlationid: 1",
}

HARMLESS = {
    "a street": "5100 N GUNNISON ST",
    "a date": "2026-07-04",
    "the same time on another day": (AT + timedelta(days=3)).isoformat(),
    "the second after": (AT + timedelta(seconds=1)).isoformat(),
    "a request": "SR26-01234567",
    "the time of a request": (AT - timedelta(days=1)).isoformat(),
    "a reason that departments give": '"hold_reason":"police_scene"',
    "part of a case number": "JK51234 512345",
    "coordinates": '{"lat":41.8837,"lon":-87.7262}',
    "a signature": "webhook-signature: v1,K3/gunU+a/Kill+shotAZpmzvhQhV2cZy0pQvJ7sXwQ=",
}


async def found_in(world: World) -> list[str]:
    outcomes = await verify(world, PRIVACY)
    return [f"{one.reference}: {one.found}" for one in outcomes[0].disagreements]


def on_a_topic(events: list[Event], topic: str, text: str) -> list[Event]:
    """The log with some text in the first record of a topic that anything was published to."""
    at = next(at for at, event in enumerate(events) if event.topic == topic)
    value = events[at].value.replace(b"{", b'{"more":"' + text.replace('"', "'").encode() + b'",', 1)
    return [*events[:at], events[at]._replace(value=value), *events[at + 1 :]]


@pytest.mark.parametrize("telltale", TELLTALES.values(), ids=TELLTALES.keys())
async def test_each_kind_of_telltale_is_found_in_captured_bytes(
    untouched: World, tmp_path: Path, telltale: str
) -> None:
    file = tmp_path / "http.txt"
    order = next(one for one in await orders_of(untouched.connection) if one.work == "fix")
    file.write_text(f"HTTP/1.1 200 OK\r\n\r\n{order.reference} {telltale}\n")
    assert [one.split(", ")[0] for one in await found_in(replace(untouched, captured=(tmp_path,)))] == [
        "http.txt"
    ]


@pytest.mark.parametrize("harmless", HARMLESS.values(), ids=HARMLESS.keys())
async def test_what_only_looks_like_it_is_not(untouched: World, tmp_path: Path, harmless: str) -> None:
    file = tmp_path / "http.txt"
    order = next(one for one in await orders_of(untouched.connection) if one.work == "fix")
    file.write_text(f"{order.reference} {harmless}\n")
    assert await found_in(replace(untouched, captured=(file,))) == []


@pytest.mark.parametrize(
    "topic", ["work-orders.cdot", "work-order-update-results.cdot", "service-request-news"]
)
async def test_each_topic_that_goes_out_is_searched(
    untouched: World, events: list[Event], topic: str
) -> None:
    tampered = records_of(on_a_topic(events, topic, "JK512345"))
    assert [one.split(",")[0] for one in await found_in(replace(untouched, records=tampered))] == [topic]


async def test_headers_are_searched(untouched: World, events: list[Event]) -> None:
    at = next(at for at, event in enumerate(events) if event.topic == "work-orders.cdot")
    told = [*events[:at], events[at]._replace(correlation=str(INCIDENT)), *events[at + 1 :]]
    assert len(await found_in(replace(untouched, records=records_of(told)))) == 1


@pytest.mark.parametrize("kind", ["work-order", "update-result", "service-request-news"])
async def test_each_kind_of_the_feed_is_searched(world: World, kind: str) -> None:
    await world.connection.execute(
        "UPDATE feed SET body = body || '\"JK512345\"' WHERE (xid, seq) ="
        " (SELECT xid, seq FROM feed WHERE kind = $1 AND audience <> '' LIMIT 1)", kind,
    )  # fmt: skip
    assert [one.split()[1] for one in await found_in(world)] == [kind]


async def test_the_same_text_on_a_topic_of_ours_is_no_business_of_this_check(
    untouched: World, events: list[Event]
) -> None:
    assert (
        await found_in(replace(untouched, records=records_of(on_a_topic(events, "work-orders", "JK512345"))))
        == []
    )


async def test_a_word_that_is_cut_in_two_by_the_chunks_of_a_long_line_is_found(
    untouched: World, tmp_path: Path
) -> None:
    file = tmp_path / "captured"
    file.write_bytes(b"x" * ((1 << 20) - 5) + b" homicide ")
    assert len(await found_in(replace(untouched, captured=(file,)))) == 1


def telling(restricted: Restricted, text: str) -> list[str]:
    return [one.text for one in restricted.hits(text.encode())]


def test_short_identifiers_and_numbers_inside_others_are_coincidences() -> None:
    restricted = Restricted(["America/Chicago"])
    assert not restricted.add_identifier("report id", "4001")
    assert not restricted.add_identifier("report id", "123456")
    assert not restricted.add_identifier("report id", "A-1")
    assert restricted.add_identifier("report id", "13345678")
    assert telling(restricted, '{"id":"13345678"}') == ["13345678"]
    assert telling(restricted, '{"request":"SR26-13345678","lat":41.13345678,"n":913345678}') == []
    restricted.close()


def times(*incidents: tuple[str, datetime]) -> Restricted:
    restricted = Restricted(["America/Chicago"])
    for incident, at in incidents:
        restricted.add_time(incident, at)
    return restricted


@pytest.mark.parametrize(("reference", "expected"), [("WO-AAAAA-AAAAA", 1), ("WO-BBBBB-BBBBB", 0), ("", 0)])
def test_a_round_time_counts_beside_an_order_that_the_incident_is_behind(
    reference: str, expected: int
) -> None:
    restricted = times(("one", datetime(2026, 7, 4, 16, 30, tzinfo=UTC)))
    restricted.add_behind("WO-AAAAA-AAAAA", "one")
    restricted.add_behind("WO-BBBBB-BBBBB", "another")
    assert len(telling(restricted, f"{reference} 2026-07-04T16:30:00Z")) == expected
    restricted.close()


@pytest.mark.parametrize(
    "text", ["2026-99-99T99:99:99Z", "0000-00-00 00:00", "99/99/9999 99:99", "9999-12-31T23:59:59-23:59", "\x00\xff"]
)  # fmt: skip
def test_what_is_no_time_is_passed_over(text: Any) -> None:
    restricted = times(("one", AT))
    assert telling(restricted, text) == []
    restricted.close()
