"""What the portal answered: a page, nothing new, or what is wrong with it, in a sentence. Pure.

No sentence repeats what a row says; of an error page only the portal's own words about it are repeated.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

from connectors.open311.client import retry_after_s
from connectors.portal.query import ID, UPDATED_AT, Position, Query, soda_time
from schemas.base import BEGINNING

NO_SUCH_COLUMN: Final = "no-such-column"
SURE_AFTER: Final = timedelta(seconds=1)
"""`Last-Modified` has no fractions: only one that is older than the answer by this is sure to change with the data
(RFC 9110, 8.8.2.2)."""
_LONGEST_WORDS: Final = 200
_LONGEST_ID: Final = 200


class Away(Exception):
    """No usable answer now: try again. `wait_s`: what the portal asks us to wait."""

    def __init__(self, sentence: str, wait_s: float | None = None) -> None:
        super().__init__(sentence)
        self.wait_s = wait_s


class Refused(Exception):
    """The portal will not answer this, however often it is asked. One sentence that says what to do."""


class ColumnGone(Exception):
    """The portal does not know this column."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


class Raw(NamedTuple):
    """An answer as it came. Header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Validators(NamedTuple):
    """What a later question can be made conditional with: the parameters they belong to, and the answer's headers."""

    asked: Mapping[str, str]
    etag: str | None
    last_modified: str | None

    def headers_for(self, asked: Mapping[str, str]) -> dict[str, str]:
        """The same question: unless its tag is the same. Another one: if anything was modified since."""
        if self.etag and dict(self.asked) == dict(asked):
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.last_modified} if self.last_modified else {}


class Item(NamedTuple):
    """One row as the portal has it."""

    at: datetime
    row_id: str
    fields: Mapping[str, Any]


class Page(NamedTuple):
    """Rows in the order of `:updated_at`, and what the answer said of the dataset."""

    items: tuple[Item, ...]
    validators: Validators
    modified_at: datetime | None

    @property
    def end(self) -> Position | None:
        """After the last row, None when there is none."""
        return Position(self.items[-1].at, self.items[-1].row_id) if self.items else None


class Unchanged(NamedTuple):
    """Nothing is new since the validators."""

    modified_at: datetime | None


def read(raw: Raw, asked: Query, now: datetime) -> Page | Unchanged:
    """What an answer says. Raises Away, Refused, ColumnGone."""
    if raw.status == 304:
        return Unchanged(http_time(raw.headers.get("last-modified")))
    if raw.status != 200:
        raise _failure(raw, asked, now)
    items = tuple(_item(one, number) for number, one in enumerate(_array(raw), start=1))
    _check_order(items, asked)
    modified_at = http_time(raw.headers.get("last-modified"))
    return Page(items, _validators(raw, asked, modified_at), modified_at)


def _failure(raw: Raw, asked: Query, now: datetime) -> Exception:
    status = raw.status
    if status in _NOT_NOW or status >= 500:
        wait_s = retry_after_s(raw.headers.get("retry-after"), now)
        return Away(f"{_NOT_NOW.get(status, 'failed')} ({status})", wait_s)
    if status == 400 and (column := _unknown_column(raw.body, asked)):
        return ColumnGone(column)
    why = _WHY_NOT.get(status) or (_ELSEWHERE if status < 400 else None)
    return Refused(f"{why[0]} ({status}): {why[1]}" if why else f"declined ({status}): {_words(raw.body)}")


_NOT_NOW: Final = {
    202: "is still working on the answer",
    408: "gave up waiting for the question",
    429: "takes no more requests for now",
}
_TOKEN: Final = ("does not let us in", "check RAPID_PORTAL_APP_TOKEN, or leave it unset")
_ELSEWHERE: Final = ("sends us elsewhere", "set RAPID_PORTAL_URL to where it is now")
_WHY_NOT: Final = {
    401: _TOKEN,
    403: _TOKEN,
    404: ("does not know this dataset", "was it moved or renamed?"),
}


def _unknown_column(body: bytes, asked: Query) -> str | None:
    """The column of ours that a `query.soql.no-such-column` names; older servers nest its data once more."""
    said = _error(body)
    if not str(said.get("errorCode") or said.get("code") or "").endswith(NO_SUCH_COLUMN):
        return None
    data = said.get("data")
    while isinstance(data, Mapping) and "column" not in data and "data" in data:
        data = data["data"]
    column = data.get("column") if isinstance(data, Mapping) else None
    return column if column in (*asked.columns, ID, UPDATED_AT) else None


def _words(body: bytes) -> str:
    said = " ".join(str(_error(body).get("message") or "").split())
    return "".join(filter(str.isprintable, said))[:_LONGEST_WORDS] or "it did not say why"


def _error(body: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, Mapping) else {}


def _array(raw: Raw) -> list[Any]:
    try:
        found = json.loads(raw.body)
    except (ValueError, RecursionError):
        raise Away(_what_instead(raw)) from None
    if not isinstance(found, list):
        raise Away("answered JSON that is no list of rows")
    return found


def _what_instead(raw: Raw) -> str:
    start = raw.body[:200].lstrip()
    if start.startswith(b"<"):
        return "answered with a web page (HTML) instead of rows"
    if start.startswith(b"["):
        return f"broke off in the middle of its rows, after {len(raw.body):,} bytes"
    return "answered something that is no JSON" if start else "answered nothing at all"


def _item(one: Any, number: int) -> Item:
    if not isinstance(one, Mapping):
        raise Away(f"answered another schema: row {number} is no JSON object")
    at, row_id = _moment(one.get(UPDATED_AT)), one.get(ID)
    if (
        at is None
        or not isinstance(row_id, str)
        or not 0 < len(row_id) <= _LONGEST_ID
        or not row_id.isprintable()
    ):
        raise Away(f"answered another schema: row {number} has no usable {ID} and {UPDATED_AT}")
    return Item(at, row_id, one)


def _moment(text: Any) -> datetime | None:
    """A time that we can count with, None for any other."""
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
        at = at and at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at if at and at > BEGINNING else None


def _check_order(items: tuple[Item, ...], asked: Query) -> None:
    """A portal, or a proxy before it, that ignores the question would have us read the same page for ever."""
    if len(items) > asked.limit:
        raise Away(f"answered {len(items):,} rows where at most {asked.limit:,} were asked for")
    before, last_id = asked.after or Position(datetime.min.replace(tzinfo=UTC))
    for number, item in enumerate(items, start=1):
        if item.at < before or (item.at, item.row_id) == (before, last_id):
            raise Away(f"answered row {number} of before {soda_time(before)}, which was not asked for")
        before, last_id = item.at, item.row_id


def _validators(raw: Raw, asked: Query, modified_at: datetime | None) -> Validators:
    answered_at = http_time(raw.headers.get("date"))
    sure = modified_at and answered_at and answered_at - modified_at > SURE_AFTER
    last_modified = raw.headers.get("last-modified") if sure else None
    return Validators(asked.parameters(), _plain(raw.headers.get("etag")), _plain(last_modified))


def _plain(header: str | None) -> str | None:
    """A header that can be sent back."""
    return header if header and header.isascii() and header.isprintable() else None


def http_time(text: str | None) -> datetime | None:
    """An HTTP date, None when it is none."""
    try:
        at = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    return at and at.replace(tzinfo=at.tzinfo or UTC)
