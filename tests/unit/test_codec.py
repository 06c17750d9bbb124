"""Bytes to model: what is refused and why, and that names of people stay out."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Decoded, Defect, decode, encode, keepable, names_a_person, without_names
from schemas.topics import INCIDENT_REPORTS, RESPONSE_COMMANDS, updates_topic
from schemas.work_order_update import UnreadableUpdate

GOOD: dict[str, Any] = {
    "source": "cpd",
    "report_id": "r1",
    "incident_number": "JA100",
    "occurred_at": "2025-01-01T00:00:00Z",
    "revised_at": "2025-01-02T00:00:00Z",
    "event": "homicide",
    "gunshot_injury": True,
    "published_area_name": "AUSTIN",
}


def decoded(value: object, **options: Any) -> Decoded | Defect:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return decode(
        INCIDENT_REPORTS, options.pop("key", b"cpd:JA100"), raw, options.pop("headers", []), **options
    )


def reason(outcome: Decoded | Defect) -> tuple[str, str | None]:
    assert isinstance(outcome, Defect)
    return outcome.reason, outcome.field


def test_good_record_is_decoded_with_and_without_cloudevents_headers() -> None:
    plain = decoded(GOOD)
    typed = decoded(GOOD, headers=[("ce_type", INCIDENT_REPORTS.type.encode()), ("ce_empty", None)])
    assert isinstance(plain, Decoded)
    assert plain == typed
    assert plain.key == "cpd:JA100"
    assert plain.body is not None
    assert decoded(encode(plain.body)) == Decoded("cpd:JA100", plain.body, encode(plain.body))


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (decoded(GOOD, key=None), ("missing_key", None)),
        (decoded(GOOD, key=b""), ("missing_key", None)),
        (decoded(GOOD, key=b"\xff"), ("undecodable", None)),
        (decoded(b'{"source":"\xff"}'), ("undecodable", None)),
        (decoded(b"nope"), ("not_json", None)),
        (decoded(b""), ("not_json", None)),
        (decoded(b"[" * 100_000), ("not_json", None)),
        (decoded(b'{"a":' * 30_000 + b"1" + b"}" * 30_000), ("not_json", None)),
        (decoded(b"[1]"), ("invalid", None)),
        (decoded(GOOD, headers=[("ce_type", b"rapid.incident-report.v9")]), ("unknown_version", "ce_type")),
        (decoded(GOOD, max_bytes=10), ("oversized", None)),
        (decoded(GOOD | {"point": {"lat": 91, "lon": 0}}), ("invalid", "point.lat")),
        (decoded(GOOD | {"colour": "red"}), ("invalid", "colour")),
        (decoded({k: v for k, v in GOOD.items() if k != "event"}), ("invalid", "event")),
    ],
)
def test_what_cannot_be_used_has_a_reason_and_a_field(
    outcome: Decoded | Defect, expected: tuple[str, str | None]
) -> None:
    assert reason(outcome) == expected


def test_defect_never_repeats_the_input() -> None:
    outcome = decoded(GOOD | {"event": "SECRET", "occurred_at": "SECRET", "SECRET thing": "SECRET"})
    assert isinstance(outcome, Defect)
    assert "SECRET" not in f"{outcome.field} {outcome.expected}"


def test_topic_that_only_wakes_its_reader_is_not_validated() -> None:
    outcome = decode(RESPONSE_COMMANDS, b"some-id", b"not even json", [], body=False)
    assert outcome == Decoded("some-id", None, b"not even json")


@pytest.mark.parametrize(
    "key",
    ["name", "NAME", "victim_name", "victim_first_name", "firstName", "last-name", "full name", "middle_name",
     "person", "person_2", "personName", "surname", "nickname", "victim", "aliasName", "alias"],
)  # fmt: skip
def test_members_that_name_a_person_are_left_out_at_any_depth(key: str) -> None:
    assert names_a_person(key)
    outcome = decoded(GOOD | {key: "Jane Doe", "more": [{key: {"x": "Jane Doe"}}]})
    assert isinstance(outcome, Defect)
    assert outcome.field == "more"
    assert outcome.value is not None
    assert b"Jane" not in outcome.value
    assert isinstance(decoded(GOOD | {key: "Jane Doe"}), Decoded)


@pytest.mark.parametrize(
    "key", ["published_area_name", "street_name", "streetName", "community_area_name", "victims", "event"]
)
def test_other_members_stay(key: str) -> None:
    assert not names_a_person(key)


def test_name_hidden_behind_an_escape_is_left_out() -> None:
    raw = json.dumps(GOOD | {"first_name": "Jane"}).replace("first_name", "first_n\\u0061me").encode()
    outcome = decoded(raw)
    assert isinstance(outcome, Decoded)
    assert b"Jane" not in outcome.value


@pytest.mark.parametrize(
    "raw",
    [
        b'{"victim_name": "Jane Doe", oops',
        b"{'first_name': 'Jane Doe'}",
        b"first_name=Jane Doe&x=1",
        b'\xff{"person":"Jane Doe"}',
        b"<name>Jane Doe</name>",
        b'{"last_name":"Jane \\"Doe\\""',
    ],
)
def test_names_in_what_is_not_json_are_scrubbed(raw: bytes) -> None:
    assert b"Jane" not in keepable(raw)
    assert b"Doe" not in keepable(raw)


def test_record_without_names_keeps_its_very_bytes() -> None:
    raw = json.dumps(GOOD, indent=3).encode()
    assert without_names(raw) is raw


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail(raw: bytes) -> None:
    assert decoded(raw).__class__ in (Decoded, Defect)
    assert decoded(raw, key=raw).__class__ in (Decoded, Defect)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b'{"update_id":"U","reference":"WO-00000-00000","verb":"note","verb":"start"}', "verb"),
        (b'{"update_id":"U","reference":"WO-00000-00000","verb":"start","by":{"a":1,"a":1}}', "a"),
        (b'{"update_id":"U","reference":"WO-00000-00000","verb":"start","Jane Doe":1,"Jane Doe":1}', "?"),
    ],
)
def test_a_departments_update_with_a_member_twice_is_answered_and_never_guessed(
    raw: bytes, field: str
) -> None:
    found = decode(updates_topic("cdot"), b"k", raw, [])
    assert isinstance(found, Decoded)
    assert isinstance(found.body, UnreadableUpdate)
    assert (found.body.field, found.body.expected) == (field, "each member once")
    assert b"Jane" not in found.value


def test_of_a_member_that_is_there_twice_no_name_is_kept() -> None:
    raw = b'{"verb":{"victim":"Jane Doe"},"verb":"note"}'
    found = decode(updates_topic("cdot"), b"k", raw, [])
    assert found == Defect("invalid", "verb", "each member once", b'{"verb":"note"}')
