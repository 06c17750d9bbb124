"""What is asked, and what an answer says: pure."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.portal.answers import Away, Page, Raw, Refused, Unchanged, Validators, read
from connectors.portal.feeds import FEEDS, feed_named
from connectors.portal.query import Position, query, soda_time
from connectors.portal.reading import Counts, Wish, start_of
from connectors.postgres.portal import Mark
from infra.portal import feeds_of, pause_after
from infra.settings import Settings
from tests.portal.world import feed

AT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
NOW = AT + timedelta(hours=3)


def test_a_question() -> None:
    assert query({"b", "a"}, None, 10).parameters() == {
        "$select": ":id,:updated_at,a,b", "$order": ":updated_at,:id", "$limit": "10",
    }  # fmt: skip
    assert (
        query({"a"}, Position(AT), 10).parameters()["$where"] == ":updated_at >= '2026-03-01T12:30:15.250Z'"
    )
    assert query({"a"}, Position(AT, "row-a'b"), 10).parameters()["$where"] == (
        ":updated_at > '2026-03-01T12:30:15.250Z' OR "
        "(:updated_at = '2026-03-01T12:30:15.250Z' AND :id > 'row-a''b')"
    )


def test_a_moment_keeps_all_its_digits() -> None:
    assert soda_time(AT.replace(microsecond=250_001)) == "2026-03-01T12:30:15.250001Z"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (409, "declined (409): no query here"),
        (302, "sends us elsewhere (302): set RAPID_PORTAL_URL to where it is now"),
        (401, "does not let us in (401): check RAPID_PORTAL_APP_TOKEN, or leave it unset"),
    ],
)
def test_a_refusal_is_a_sentence(status: int, said: str) -> None:
    with pytest.raises(Refused) as refused:
        read(_raw(status, {"message": "no query\n here\x07"}), query(set(), None, 1), NOW)
    assert str(refused.value) == said


def test_a_column_that_we_did_not_ask_for_is_not_what_is_gone() -> None:
    said = {
        "errorCode": "query.soql.no-such-column",
        "message": "No such column",
        "data": {"column": "another"},
    }
    with pytest.raises(Refused):
        read(_raw(400, said), query({"a"}, None, 1), NOW)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [("120", 120.0), ("Sun, 01 Mar 2026 15:31:15 GMT", 59.75), ("soon", None), ("-5", None), (None, None)],
)
def test_what_a_throttling_portal_asks_for(header: str | None, wait_s: float | None) -> None:
    headers = {} if header is None else {"retry-after": header}
    with pytest.raises(Away) as away:
        read(_raw(429, [], headers), query(set(), None, 1), NOW)
    assert away.value.wait_s == wait_s


def test_the_same_question_is_asked_by_its_tag_and_another_by_its_date() -> None:
    known = Validators({"$limit": "1"}, '"tag"', "Sun, 01 Mar 2026 12:00:00 GMT")
    assert known.headers_for({"$limit": "1"}) == {"If-None-Match": '"tag"'}
    assert known.headers_for({"$limit": "2"}) == {"If-Modified-Since": "Sun, 01 Mar 2026 12:00:00 GMT"}
    assert Validators({}, '"tag"', None).headers_for({"$limit": "2"}) == {}


@pytest.mark.parametrize(("seconds", "sure"), [(0, False), (1, False), (2, True)])
def test_a_date_without_fractions_is_only_used_when_it_is_sure_to_change(seconds: int, sure: bool) -> None:
    """A second change within the same second would leave `Last-Modified` as it is."""
    headers = {
        "last-modified": "Sun, 01 Mar 2026 12:00:00 GMT",
        "date": f"Sun, 01 Mar 2026 12:00:{seconds:02} GMT",
    }
    page = read(_raw(200, [], headers), query(set(), None, 1), NOW)
    assert isinstance(page, Page)
    assert (page.validators.last_modified is not None) is sure


@pytest.mark.parametrize(
    "row",
    [
        {":id": "row-a", ":updated_at": "0001-01-01T00:00:00+09:00"},
        {":id": "row-a", ":updated_at": "1234-01-01T00:00:00.000Z"},
        {":id": "row-a", ":updated_at": 5},
        {":id": "row-\x00", ":updated_at": "2026-03-01T12:00:00.000Z"},
        {":id": "r" * 1000, ":updated_at": "2026-03-01T12:00:00.000Z"},
        {":id": "", ":updated_at": "2026-03-01T12:00:00.000Z"},
    ],
)
def test_a_row_without_a_usable_place(row: dict[str, Any]) -> None:
    with pytest.raises(Away, match="row 1 has no usable :id and :updated_at"):
        read(_raw(200, [row]), query(set(), None, 1), NOW)


def test_a_tag_that_cannot_be_sent_back_is_not_kept() -> None:
    page = read(_raw(200, [], {"etag": '"é"'}), query(set(), None, 1), NOW)
    assert isinstance(page, Page)
    assert page.validators.etag is None


def test_nothing_new() -> None:
    assert read(_raw(304, []), query(set(), None, 1), NOW) == Unchanged(None)


def _raw(status: int, said: Any, headers: dict[str, str] | None = None) -> Raw:
    return Raw(status, headers or {}, json.dumps(said).encode())


MARK = Mark(2, False, None, AT, None, None, frozenset(), None)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("mark", "wish", "start"),
    [
        (MARK._replace(mark=None), Wish(1), None),
        (MARK._replace(mark=None), Wish(1, None, AT), Position(AT)),
        (MARK._replace(mark=None), Wish(1, AT, AT + DAY), Position(AT)),
        (MARK, Wish(1), Position(AT - DAY)),
        (MARK, Wish(1, None, AT), Position(AT - DAY)),
        (MARK, Wish(1, AT + DAY), Position(AT - DAY)),
        (MARK, Wish(1, AT - 9 * DAY), Position(AT - 9 * DAY)),
        (MARK._replace(under_way=True, at=Position(AT, "row-a")), Wish(1), Position(AT, "row-a")),
        (MARK._replace(under_way=True, at=Position(AT, "row-a")), Wish(1, AT + DAY), Position(AT, "row-a")),
        (MARK._replace(under_way=True, at=Position(AT, "row-a")), Wish(1, AT - DAY), Position(AT - DAY)),
    ],
)
def test_where_a_pass_begins(mark: Mark, wish: Wish, start: Position | None) -> None:
    assert start_of(feed("victims"), mark, wish) == start


def test_a_dataset_has_two_names() -> None:
    assert [feed_named(one.id) for one in FEEDS] == [feed_named(one.name) for one in FEEDS] == list(FEEDS)
    assert feed_named("hec5-y4x5") is None


def test_no_column_about_a_person_and_none_of_ours_is_asked_for() -> None:
    asked = frozenset[str]().union(*(one.columns for one in FEEDS))
    assert not asked & {
        "age",
        "sex",
        "race",
        "victim_name",
        "name",
        "juvenile_i",
        "simulated",
        "validity",
        "location",
    }
    assert all(one.essential for one in FEEDS)


def test_the_pace_of_the_settings() -> None:
    paces = {one.name: one.every for one in feeds_of(Settings(portal_every="requests=5m, crimes = off"))}
    assert paces == {"victims": timedelta(hours=1), "shotspotter": DAY, "requests": timedelta(minutes=5)}


@pytest.mark.parametrize(
    ("problem", "wait_s", "every", "pause"),
    [
        ("", 0.0, timedelta(hours=6), timedelta(hours=6)),
        ("The portal failed.", 0.0, timedelta(hours=6), timedelta(minutes=15)),
        ("The portal failed.", 0.0, timedelta(minutes=1), timedelta(minutes=1)),
        ("The portal asks to wait.", 3600.0, timedelta(minutes=1), timedelta(hours=1)),
    ],
)
def test_the_pause_between_two_passes(
    problem: str, wait_s: float, every: timedelta, pause: timedelta
) -> None:
    assert pause_after(Counts(feed("victims"), problem=problem, wait_s=wait_s), every) == pause
