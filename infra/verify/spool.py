"""What topics hold, on disk while it is compared: topics come in the order of arrival, orders in that of their ids."""

import sqlite3
from collections.abc import Iterator
from hashlib import blake2b
from types import TracebackType
from typing import Final, NamedTuple

from pydantic_core import from_json

from infra.verify.world import Read

_TABLES: Final = """
CREATE TABLE last (topic TEXT, key TEXT, version INT, value TEXT, met INT DEFAULT 0, PRIMARY KEY (topic, key))
  WITHOUT ROWID;
CREATE TABLE event (topic TEXT, id TEXT, digest BLOB, PRIMARY KEY (topic, id)) WITHOUT ROWID;
CREATE TABLE odd (topic TEXT, key TEXT, expected TEXT, found TEXT);
"""

# The first time that an event is seen: published again, it says nothing new.
_NEW_EVENT: Final = "INSERT INTO event VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_DIGEST: Final = "SELECT digest FROM event WHERE topic = ? AND id = ?"
_LAST: Final = "SELECT version, value FROM last WHERE topic = ? AND key = ?"
_KEEP: Final = "INSERT OR REPLACE INTO last (topic, key, version, value) VALUES (?, ?, ?, ?)"
_MET: Final = "UPDATE last SET met = 1 WHERE topic = ? AND key = ?"
_UNMET: Final = "SELECT topic, key, value FROM last WHERE NOT met ORDER BY topic, key"
_ODD: Final = "SELECT topic, key, expected, found FROM odd"


class Held(NamedTuple):
    """The last snapshot of a key."""

    version: int
    value: str


class Odd(NamedTuple):
    """Two records of one topic that do not go together."""

    topic: str
    key: str
    expected: str
    found: str


class Spool:
    """A file that is gone with its process; what is in memory of it is bounded.

    `snapshots`: whether of the records of one key each replaces the one before.
    """

    def __init__(self, *, snapshots: bool = True) -> None:
        self._snapshots = snapshots
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.executescript(_TABLES)
        self._file.execute("BEGIN")

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, record: Read) -> None:
        """Take one record, in the order of its partition."""
        if not self._is_new(record) or not self._snapshots:
            return
        version, last = version_of(record.value), self.last(record.topic, record.key)
        if version is None:
            self._note(record, "a snapshot with its version", "none")
            return
        if last is not None and version <= last.version:
            self._note(record, f"a version after {last.version}", f"version {version}")
        self._file.execute(_KEEP, (record.topic, record.key, version, record.value))

    def _is_new(self, record: Read) -> bool:
        if record.event_id is None:
            self._note(record, "a record with the header ce_id", "one without")
            return True
        digest = digest_of(record.value)
        if self._file.execute(_NEW_EVENT, (record.topic, record.event_id, digest)).rowcount:
            return True
        if self.digest(record.topic, record.event_id) != digest:
            self._note(record, f"one content of the event {record.event_id}", "two")
        return False

    def _note(self, record: Read, expected: str, found: str) -> None:
        self._file.execute("INSERT INTO odd VALUES (?, ?, ?, ?)", (record.topic, record.key, expected, found))

    def last(self, topic: str, key: str) -> Held | None:
        """The last snapshot that a topic has of a key."""
        row = self._file.execute(_LAST, (topic, key)).fetchone()
        return Held(*row) if row else None

    def meet(self, topic: str, key: str) -> Held | None:
        """The same, and note that somebody has asked for it."""
        self._file.execute(_MET, (topic, key))
        return self.last(topic, key)

    def unmet(self) -> Iterator[tuple[str, str, str]]:
        """(topic, key, value) of the snapshots that nobody has asked for."""
        yield from self._file.execute(_UNMET)

    def digest(self, topic: str, event_id: str) -> bytes | None:
        """The digest of an event's content; None: the topic does not have it."""
        row = self._file.execute(_DIGEST, (topic, event_id)).fetchone()
        return row[0] if row else None

    def odd(self) -> Iterator[Odd]:
        """Records that do not go with those before them."""
        for row in self._file.execute(_ODD):
            yield Odd(*row)


def digest_of(value: str) -> bytes:
    """16 bytes of a record's value."""
    return blake2b(value.encode(), digest_size=16).digest()


def version_of(value: str) -> int | None:
    """The member `version` of a snapshot; None where there is none."""
    try:
        parsed = from_json(value)
    except ValueError:
        return None
    version = parsed.get("version") if isinstance(parsed, dict) else None
    return version if isinstance(version, int) else None
