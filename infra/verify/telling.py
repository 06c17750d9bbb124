"""Whether some bytes tell of an incident: by its identifiers, its time, or in words. Usable on any bytes.

Three things are looked for, and each is made blind to what only looks like it:

- *identifiers* (incident ids, case numbers, report ids, response ids) as whole runs of letters and digits, whatever
  separates them, in whatever case. Left out: those of fewer than 5 characters, those of fewer than 7 that are all
  digits, and those that are also the number of a 311 request, which departments do know. An identifier of digits only
  must stand alone: part of a coordinate or of a longer number is a coincidence.
- *times* to the instant, in the notations of `TIMES`. Bytes that name orders are compared with the incidents behind
  those orders, others with every incident; there, times on the half hour are left out, which people like to write.
  A time at which a 311 request was made is left out. A date alone is none: departments read the day after.
- *words* (`infra/policy/checks.TELLING`), the kinds of incidents, members that only restricted records have. Left out:
  street names (a word before ST, AVE, …), the policy's reasons for holds, which departments say themselves, and the
  signatures of webhooks, whose random letters spell a short word now and then.
"""

import html
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, NamedTuple, TypeAlias, get_args
from zoneinfo import ZoneInfo

from infra.policy.checks import TELLING
from schemas.incident import IncidentKind

LEAST_CHARACTERS: Final = 5
LEAST_DIGITS: Final = 7
LEAST_RUNS: Final = 3
"""JK512345 is found as `jk-51 2345` too."""
MOST_RUNS: Final = 12
"""Runs of letters and digits in one identifier; of longer ones the first so many."""
FILTER_BITS: Final = 1 << 24

KINDS: Final = tuple(kind.replace("_", " ") for kind in get_args(IncidentKind))
MEMBERS: Final = (
    "occurred at", "ce correlationid", "incident ids", "incident id", "response id", "cause id", "gunshot injury",
    "severity", "location type", "killed", "victims",
)  # fmt: skip
STREETS: Final = r"(?!\s+(?:ST|AVE|AV|BLVD|RD|DR|PL|CT|TER|PKWY|WAY|LN|STREET|AVENUE|ROAD|DRIVE)\b)"

_RUN: Final = re.compile(r"[0-9a-z]+")
_ESCAPE: Final = re.compile(r"\\u([0-9a-fA-F]{4})")
_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SIGNATURE: Final = re.compile(r"\bv1,[A-Za-z0-9+/]{43}=")
_WORDS: Final = re.compile(TELLING.pattern + STREETS, re.IGNORECASE)
_MEMBERS: Final = re.compile(rf"\b({'|'.join((*KINDS, *MEMBERS))})\b", re.IGNORECASE)
_REFERENCE: Final = re.compile(r"\bWO-[0-9A-Z]{5}-[0-9A-Z]{5}\b")

_ISO: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ]|%20)(\d\d)(?::|%3A)(\d\d)(?:(?::|%3A)(\d\d)(?:\.(\d{1,6})\d*)?)?"
    r"\s?(Z|(?:[+-]|%2B)\d\d(?::|%3A)?\d\d)?",
    re.IGNORECASE,
)
_AMERICAN: Final = re.compile(
    r"\b(\d\d?)/(\d\d?)/(\d{4}),? (\d\d?):(\d\d)(?::(\d\d))?(?: ?([AP])\.?M)?", re.IGNORECASE
)
_HTTP: Final = re.compile(
    r"\b(\d\d?) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* (\d{4}) (\d\d):(\d\d)(?::(\d\d))?",
    re.IGNORECASE,
)
_EPOCH: Final = re.compile(r"(?<![\w.-])([0-9]{10})([0-9]{3})?(?:\.0+)?(?![\w-])")
_MONTHS: Final = "janfebmaraprmayjunjulaugsepoctnovdec"
TIMES: Final = (
    "ISO 8601 with or without zone, MM/DD/YYYY with AM/PM or 24 hours, HTTP dates, epoch in s and ms"
)

_TABLES: Final = """
CREATE TABLE identifier (value TEXT PRIMARY KEY, kind TEXT) WITHOUT ROWID;
CREATE TABLE time (minute INT, micros INT, incident TEXT, PRIMARY KEY (minute, micros, incident)) WITHOUT ROWID;
CREATE TABLE request (at INT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE behind (reference TEXT, incident TEXT, PRIMARY KEY (reference, incident)) WITHOUT ROWID;
"""


Zone: TypeAlias = timezone | ZoneInfo


class Hit(NamedTuple):
    """Something that tells. `kind`: identifier, time or word, and of what; `text`: as it stands there."""

    kind: str
    text: str


class Moment(NamedTuple):
    """A time as it is written: microseconds since 1970; `exact`: it has seconds."""

    at: int
    exact: bool
    text: str


class Restricted:
    """What no department may read, on disk behind a filter of fixed size."""

    def __init__(self, zones: Iterable[str], own_words: Iterable[str] = ()) -> None:
        """`zones`: in which times without a zone are meant, beside UTC. `own_words`: what departments say."""
        self._zones: list[Zone] = [UTC, *(ZoneInfo(zone) for zone in zones)]
        self._own = [re.compile(rf"\b{re.escape(plain(word))}\b", re.IGNORECASE) for word in own_words]
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.executescript(_TABLES)
        self._file.execute("BEGIN")
        self._filter = bytearray(FILTER_BITS // 8)
        self._longest = LEAST_RUNS

    def close(self) -> None:
        """Forget everything."""
        self._file.close()

    def add_identifier(self, kind: str, value: str) -> bool:
        """Look for an identifier; whether it is long enough to be told from others."""
        runs = _RUN.findall(value.casefold())[:MOST_RUNS]
        joined = "".join(runs)
        if len(joined) < (LEAST_DIGITS if joined.isdigit() else LEAST_CHARACTERS):
            return False
        self._file.execute("INSERT OR IGNORE INTO identifier VALUES (?, ?)", (joined, kind))
        self._set(joined)
        self._longest = max(self._longest, len(runs))
        return True

    def add_time(self, incident: str, at: datetime) -> None:
        """Look for the time of an incident."""
        micros = _micros(at)
        row = (micros // 60_000_000, micros % 60_000_000, incident)
        self._file.execute("INSERT OR IGNORE INTO time VALUES (?, ?, ?)", row)

    def add_request_time(self, at: datetime) -> None:
        """A time that everybody may know."""
        self._file.execute("INSERT OR IGNORE INTO request VALUES (?)", (_micros(at),))

    def add_behind(self, reference: str, incident: str) -> None:
        """An order and an incident that it is about."""
        self._file.execute("INSERT OR IGNORE INTO behind VALUES (?, ?)", (reference, incident))

    def hits(self, data: bytes) -> list[Hit]:
        """What tells in these bytes."""
        text = unescaped(data.decode("utf-8", "replace"))
        return [*self._identifiers(text), *self._times(text), *self._words(text)]

    # -- identifiers

    def _identifiers(self, text: str) -> Iterator[Hit]:
        low = text.casefold()  # of another length than the text, in rare scripts
        runs = [(found.group(), found.start(), found.end()) for found in _RUN.finditer(low)]
        known, size = self._filter, FILTER_BITS
        for first in range(len(runs)):
            joined = ""
            for last in range(first, min(first + self._longest, len(runs))):
                joined += runs[last][0]
                bit = hash(joined) % size  # here and not in a function: this is the innermost loop
                if known[bit >> 3] & 1 << (bit & 7) and (kind := self._kind(joined)):
                    start, end = runs[first][1], runs[last][2]
                    if not joined.isdigit() or (first == last and _alone(low, start, end)):
                        yield Hit(kind, low[start:end])

    def _kind(self, value: str) -> str | None:
        row = self._file.execute("SELECT kind FROM identifier WHERE value = ?", (value,)).fetchone()
        return str(row[0]) if row else None

    def _set(self, value: str) -> None:
        bit = hash(value) % FILTER_BITS
        self._filter[bit >> 3] |= 1 << (bit & 7)

    # -- times

    def _times(self, text: str) -> Iterator[Hit]:
        moments = list(moments_in(text, self._zones))
        if not moments:
            return
        behind = self._behind(set(_REFERENCE.findall(text)))
        for written in dict.fromkeys(one.text for one in moments if self._is_of(one, behind)):
            yield Hit("time of an incident", written)

    def _behind(self, references: set[str]) -> set[str] | None:
        """The incidents behind some orders; None where none is named that we know."""
        found = {
            row[0]
            for reference in references
            for row in self._file.execute("SELECT incident FROM behind WHERE reference = ?", (reference,))
        }
        return found or None

    def _is_of(self, moment: Moment, behind: set[str] | None) -> bool:
        minute, micros = divmod(moment.at, 60_000_000)
        if behind is None and micros == 0 and minute % 30 == 0:
            return False
        rows = self._file.execute("SELECT micros, incident FROM time WHERE minute = ?", (minute,)).fetchall()
        for known, incident in rows:
            if (not moment.exact or known == micros) and (behind is None or incident in behind):
                return not self._is_a_request_s(minute * 60_000_000 + known)
        return False

    def _is_a_request_s(self, at: int) -> bool:
        return self._file.execute("SELECT 1 FROM request WHERE at = ?", (at,)).fetchone() is not None

    # -- words

    def _words(self, text: str) -> Iterator[Hit]:
        words = plain(_SIGNATURE.sub(" ", text))
        for own in self._own:
            words = own.sub(" ", words)
        for pattern, kind in ((_WORDS, "word"), (_MEMBERS, "kind or member")):
            for found in dict.fromkeys(match.group().casefold() for match in pattern.finditer(words)):
                yield Hit(kind, found)


def plain(text: str) -> str:
    """Identifiers of programs as words: `fatal_shooting` and `fatalShooting` as `fatal shooting`."""
    return _HUMP.sub(" ", text.replace("_", " "))


def unescaped(text: str) -> str:
    """Without the escapes of JSON and XML, behind which anything can be."""
    if "\\u" in text:
        text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    return html.unescape(text) if "&" in text else text


def moments_in(text: str, zones: Sequence[Zone]) -> Iterator[Moment]:
    """The times that are written in a text; one without a zone as each of `zones` has it."""
    for found in _ISO.finditer(text):
        year, month, day, hour, minute, second, fraction, offset = found.groups()
        micros = int((fraction or "").ljust(6, "0"))
        parts = (int(year), int(month), int(day), int(hour), int(minute), int(second or 0), micros)
        own = _zone_of(offset)
        yield from _moments(parts, (own,) if own else zones, bool(second), found.group())
    for found in _AMERICAN.finditer(text):
        month, day, year, hour, minute, second, half = found.groups()
        parts = (int(year), int(month), int(day), _hour(int(hour), half), int(minute), int(second or 0), 0)
        yield from _moments(parts, zones, bool(second), found.group())
    for found in _HTTP.finditer(text):
        day, name, year, hour, minute, second = found.groups()
        month = str(_MONTHS.index(name.lower()[:3]) // 3 + 1)
        parts = (int(year), int(month), int(day), int(hour), int(minute), int(second or 0), 0)
        yield from _moments(parts, (UTC,), bool(second), found.group())
    for found in _EPOCH.finditer(text):
        yield Moment(int(found[1]) * 1_000_000 + int(found[2] or 0) * 1_000, True, found.group())


def _moments(parts: tuple[int, ...], zones: Sequence[Zone], exact: bool, text: str) -> Iterator[Moment]:
    try:
        year, month, day, hour, minute, second, micros = parts
        for zone in zones:
            at = datetime(year, month, day, hour, minute, second, micros, tzinfo=zone)
            yield Moment(_micros(at), exact, text)
    except (ValueError, OverflowError):
        return  # 99:99 is no time


def _hour(hour: int, half: str | None) -> int:
    return hour if half is None else hour % 12 + (12 if half in "Pp" else 0)


def _zone_of(offset: str | None) -> Zone | None:
    if offset is None:
        return None
    if offset in "Zz":
        return UTC
    digits = re.sub(r"%3A|%2B|[^0-9]", "", offset, flags=re.IGNORECASE)
    sign = -1 if offset.startswith("-") else 1
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    return timezone(sign * timedelta(minutes=minutes)) if minutes < 24 * 60 else None


_EPOCH_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _micros(at: datetime) -> int:
    return (at - _EPOCH_START) // timedelta(microseconds=1)


def _alone(text: str, start: int, end: int) -> bool:
    around = text[max(start - 1, 0) : start] + text[end : end + 1]
    return not re.search(r"[\w.+-]", around)
