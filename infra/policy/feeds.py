"""Holiday feeds: what is fetched, judged, and kept beside the policy with where it came from.

Only here is anything fetched. Loading a policy reads the files that lie in its folder, so it is the same offline, and
its version is that of what is on disk. A feed that fails leaves the file that was there.
"""

import hashlib
import os
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import Field, ValidationError

from agents.sla.calendar import WorkingCalendar
from connectors.feeds import Conditions, Fetched, Unfetchable, short
from infra.policy.document import Document, read_document
from infra.policy.files import CalendarsFile, canonical_json
from infra.policy.holidays import Feed, Unusable, events_in, holidays_in
from schemas.base import Instant, Record, Sentence, ShortText
from schemas.policy import Policy

SUFFIX: Final = ".provenance.json"
Outcome = Literal["new", "changed", "unchanged", "failed"]
Fetch = Callable[[str, Conditions, bool], Awaitable[Fetched | None]]
"""(address, what we have, whether http:// is allowed) → the file, or None: it is what we have. Raises Unfetchable."""


class FetchFailure(Record):
    """The last attempt, when it failed."""

    at: Instant
    because: Sentence
    in_a_row: Annotated[int, Field(ge=1)]


class Provenance(Record):
    """Where a file beside the policy came from; `<file>.provenance.json`. Without `sha256` it never came."""

    url: str
    fetched_at: Instant | None = None  # when this content came first
    checked_at: Instant | None = None  # when it was last seen to be what is served
    sha256: str | None = None
    bytes: int = 0
    events: int = 0
    etag: str | None = None
    last_modified: str | None = None
    failure: FetchFailure | None = None


class FeedFile(NamedTuple):
    """A file that is fetched, and each calendar and feed that it is for."""

    file: ShortText
    wanted: tuple[tuple[str, Feed], ...]

    @property
    def url(self) -> str:
        return self.wanted[0][1].url

    @property
    def calendars(self) -> list[str]:
        return [calendar for calendar, _ in self.wanted]


class FetchResult(NamedTuple):
    """What became of one fetch. `said` is one sentence."""

    feed: FeedFile
    outcome: Outcome
    said: str
    provenance: Provenance


def feeds_of(document: Document, calendar: str | None = None) -> list[FeedFile]:
    """The feeds of calendars.yaml, each file once; of one calendar alone when it is named."""
    found: dict[str, list[tuple[str, Feed]]] = {}
    for entry in CalendarsFile.model_validate_json(canonical_json(document.data)).calendars:
        for feed in entry.holidays.feeds if entry.holidays and calendar in {None, entry.code} else ():
            found.setdefault(feed.file, []).append((entry.code, feed))
    return [FeedFile(file, tuple(wanted)) for file, wanted in found.items()]


async def refresh(
    feed: FeedFile, folder: Path, fetch: Fetch, now: datetime, *, keep: bool = True
) -> FetchResult:
    """Fetch a file and judge it by every calendar that uses it. What is good replaces what was there, what is not
    leaves it; both are written down, unless nothing is to be kept. Raises OSError where the folder cannot be written.
    """
    known = read_provenance(folder, feed.file) or Provenance(url=feed.url)
    have = _what_we_have(known, feed, folder)
    said = Conditions(known.etag, known.last_modified) if have else Conditions()
    try:
        fetched = await fetch(feed.url, said, all(one.allow_http for _, one in feed.wanted))
        body = fetched.body if fetched else have or b""
        events = judged(body, feed)
    except (Unfetchable, Unusable) as error:
        return _failed(feed, folder, known, _Failed(str(error), now, keep))
    outcome: Outcome = "unchanged" if body == have else "changed" if known.sha256 else "new"
    provenance = Provenance(
        url=feed.url, fetched_at=known.fetched_at if outcome == "unchanged" else now, checked_at=now,
        sha256=hashlib.sha256(body).hexdigest(), bytes=len(body), events=events,
        **(fetched.served if fetched else said)._asdict(),
    )  # fmt: skip
    if keep:
        if outcome != "unchanged":
            _write(folder / feed.file, body)
        _write_provenance(folder, feed.file, provenance)
    return FetchResult(feed, outcome, f"{events} events, {len(body):,} bytes.", provenance)


def judged(body: bytes, feed: FeedFile) -> int:
    """How many events an acceptable file has. Raises Unusable: HTML, truncated, empty, or its years end before."""
    where = short(feed.url)
    if body.lstrip()[:1] == b"<":
        raise Unusable((), f"{where} answered with a web page (HTML or XML) instead of an iCalendar file.")
    if body.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"BEGIN:VCALENDAR") and not body.rstrip().endswith(_END):
        raise Unusable((), f"{where} sent a file that breaks off before END:VCALENDAR.")
    try:
        events = len(events_in(body, "what came"))
        if not events:
            raise Unusable((), "the file has no events")
        for _, one in feed.wanted:
            holidays_in(body, one)
    except Unusable as error:
        raise Unusable((), f"{where} cannot be used: {error}.") from error
    return events


_END: Final = b"END:VCALENDAR"


def read_provenance(folder: Path, file: str) -> Provenance | None:
    """What was written down of a file; None: nothing that can be read."""
    try:
        return Provenance.model_validate_json((folder / f"{file}{SUFFIX}").read_bytes())
    except (OSError, ValidationError):
        return None


def warnings_of(folder: Path, policy: Policy, today: date) -> list[str]:
    """What does not hinder a policy today, but will: holidays that end soon, feeds whose last fetch failed."""
    ends = [WorkingCalendar(calendar).expiry_warning(today) for calendar in policy.sla.calendars]
    return [*(one for one in ends if one), *feed_warnings(folder)]


def feed_warnings(folder: Path) -> list[str]:
    """A sentence for each file that a feed has not refreshed, or that is not what it brought."""
    found = (_feed_warning(feed, folder) for feed in feeds_of(read_document(folder / "calendars.yaml")))
    return [one for one in found if one]


def _feed_warning(feed: FeedFile, folder: Path) -> str | None:
    known = read_provenance(folder, feed.file)
    if known is None:
        return f"Nothing is known of where {feed.file} came from: run `rapid sla fetch`."
    if known.failure is not None:
        failure = known.failure
        times = f"{failure.in_a_row} times" if failure.in_a_row > 1 else "once"
        held = f", that of {known.checked_at:%Y-%m-%d} is still in use" if known.checked_at else ""
        return f"Fetching {feed.file} failed {times}, last at {failure.at:%Y-%m-%d %H:%MZ}{held}. {failure.because}"
    if known.url != feed.url:
        return f"{feed.file} came from another address than {short(feed.url)}: run `rapid sla fetch`."
    if known.sha256 != _digest(folder / feed.file):
        return f"{feed.file} was changed by hand since it was fetched: run `rapid sla fetch`, or list it under files."
    return None


# ---------------------------------------------------------------- what a fetch leaves


def _what_we_have(known: Provenance, feed: FeedFile, folder: Path) -> bytes | None:
    """The file, when it is what was fetched from this very address; None: ask for all of it."""
    if known.sha256 is None or known.url != feed.url or known.sha256 != _digest(folder / feed.file):
        return None
    return (folder / feed.file).read_bytes()


class _Failed(NamedTuple):
    because: str
    now: datetime
    keep: bool


def _failed(feed: FeedFile, folder: Path, known: Provenance, failed: _Failed) -> FetchResult:
    """The file stays; the failure is written beside it."""
    before = known.failure.in_a_row if known.failure else 0
    failure = FetchFailure(at=failed.now, because=failed.because[:2000], in_a_row=before + 1)
    provenance = known.model_copy(update={"failure": failure})
    if failed.keep:
        _write_provenance(folder, feed.file, provenance)
    return FetchResult(feed, "failed", failed.because, provenance)


def _write_provenance(folder: Path, file: str, provenance: Provenance) -> None:
    _write(folder / f"{file}{SUFFIX}", provenance.model_dump_json(indent=2).encode() + b"\n")


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing, whenever the machine stops."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
