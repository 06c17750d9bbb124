"""Pure: what is written, what the public may read of a place, what a closing note comes to."""

import json
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.open311.client import retry_after_s
from connectors.open311.mapping import PHRASES, Malformed, Meaning, Request, Seen, meaning_of, says, seen_of
from connectors.open311.model import Document, Many, to_json
from connectors.open311.view import public_block
from connectors.open311.xml import to_xml
from tests.open311.conformance import as_text, spark

NOW = datetime(2026, 7, 4, 12, tzinfo=UTC)
REQUEST = Request("cdot", "WO-00000-00001", "17")
OPEN = Seen(status="open", updated="2026-07-03T12:00:00Z")


@given(st.text(), st.floats(), st.none() | st.booleans() | st.integers())
def test_xml_and_json_carry_the_same_whatever_is_in_them(
    words: str, number: float, other: bool | int | None
) -> None:
    document = Document(
        "service_requests", Many("request", [{"description": words, "lat": 1.5, "other": other}])
    )
    written = ElementTree.fromstring(to_xml(document))
    assert spark(written) == as_text(json.loads(to_json(document)))
    odd = Document("errors", Many("error", [{"code": number}]))
    ElementTree.fromstring(to_xml(odd))
    json.loads(to_json(odd))


@pytest.mark.parametrize(
    ("address", "block"),
    [
        ("4015 W WEST END AVE", "4000 W WEST END AVE"),
        ("4015-4019 w. West End Ave, Apt 3", "4000 W. WEST END AVE"),
        ("57 N State St #12", "0 N STATE ST"),
        ("1234 S Pulaski Rd FLOOR 2", "1200 S PULASKI RD"),
        ("Ring at Mrs Smith's, second floor", None),
        ("address id 545483", None),
        ("773 555 0100 call me", None),
        ("", None),
        (None, None),
    ],
)
def test_the_public_reads_of_a_block_and_of_nothing_that_is_no_address(
    address: str | None, block: str | None
) -> None:
    assert public_block(address) == block


@pytest.mark.parametrize(
    ("notes", "meaning"),
    [
        (None, "inspected"),
        ("Completed", "inspected"),
        ("Work order completed.", "inspected"),
        ("Lamp replaced and repaired.", "fixed"),
        ("Not repaired: found working", "found_working"),
        ("Could not be fixed", "inspected"),
        ("To be repaired by contractor", "contractor_maintained"),
        ("Will be replaced next week", "inspected"),
        ("We never got there. Light fixed by others.", "fixed"),
        ("No such address", "no_such_address"),
        ("Duplicate request.", "note"),
        ("Canceled by caller", "note"),
        ("Resolved, outcome: fixed.", "fixed"),
    ],
)
def test_only_what_is_said_to_be_fixed_counts_as_fixed(notes: str | None, meaning: Meaning) -> None:
    assert meaning_of(notes, PHRASES) == meaning


def test_an_endpoints_own_phrases_take_the_place_of_ours() -> None:
    assert meaning_of("Code 7", [("code 7", "fixed")]) == "fixed"
    assert meaning_of("repaired", [("code 7", "fixed")]) == "inspected"


def test_what_a_request_says_becomes_updates() -> None:
    def verbs(before: Seen | None, after: Seen) -> list[str]:
        return [update.verb for update in says(REQUEST, before, after, PHRASES, NOW).updates]

    closed = Seen(status="closed", notes="Fixed", updated="2026-07-04T10:00:00Z")
    assert verbs(None, OPEN) == ["acknowledge"]
    assert verbs(OPEN, OPEN) == []
    assert verbs(None, closed) == ["acknowledge", "resolve"]
    assert verbs(OPEN, closed) == ["resolve"]
    assert verbs(closed, closed) == []
    assert verbs(closed, closed.model_copy(update={"notes": "Checked"})) == ["note"]
    assert verbs(closed, OPEN) == ["reopen"]
    assert verbs(OPEN, OPEN.model_copy(update={"state": "in_progress"})) == ["start"]
    assert verbs(OPEN, OPEN.model_copy(update={"notes": "In progress"})) == ["start", "note"]
    assert verbs(OPEN, OPEN.model_copy(update={"expected": "2026-07-09T00:00:00Z"})) == ["estimate"]
    assert verbs(OPEN, closed.model_copy(update={"notes": "Canceled"})) == ["note"]


def test_the_same_change_has_the_same_ids_and_another_has_others() -> None:
    closed = Seen(status="closed", notes="Fixed", updated="2026-07-04T10:00:00Z")
    first, again = (says(REQUEST, OPEN, closed, PHRASES, NOW + timedelta(days=n)).updates for n in (0, 1))
    assert first == again
    later = says(REQUEST, OPEN, closed.model_copy(update={"updated": "2026-07-04T10:00:01Z"}), PHRASES, NOW)
    assert later.updates[0].update_id != first[0].update_id
    assert first[0].at == datetime(2026, 7, 4, 10, tzinfo=UTC)


def test_a_time_ahead_of_ours_is_not_believed() -> None:
    ahead = OPEN.model_copy(update={"updated": "2027-01-01T00:00:00Z"})
    assert says(REQUEST, None, ahead, PHRASES, NOW).updates[0].at is None


def test_a_duplicate_is_followed_to_its_parent() -> None:
    closed = Seen(status="closed", notes="Duplicate", parent="99")
    said = says(REQUEST, OPEN, closed, PHRASES, NOW)
    assert ([update.verb for update in said.updates], said.follow) == (["note"], "99")


@given(
    st.dictionaries(
        st.sampled_from(["status", "status_notes", "updated_datetime", "extended_attributes"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one, max_size=3)
        ),
    )
)
def test_no_answer_breaks_the_reader(member: dict[str, object]) -> None:
    try:
        seen = seen_of(member)
    except Malformed:
        return
    assert all(update.reference for update in says(REQUEST, None, seen, PHRASES, NOW).updates)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("99999999999", 86_400.0), ("Sat, 04 Jul 2026 12:00:30 GMT", 30.0),
     ("Sat, 04 Jul 2020 12:00:30 GMT", 0.0), ("soon", None), (None, None), ("-3", None)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == seconds
