"""The rows of some files as what becomes of them: an event to publish, a dead letter, or nothing but a count."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

from connectors.files.datasets import Report, SourceFile, read_row
from connectors.files.defects import dead_letter_of
from connectors.files.errors import FileProblem, RowDefect
from connectors.files.reading import OutOfScope, Reading
from connectors.files.rows import Row, rows_of
from schemas.base import BEGINNING
from schemas.codec import encode
from schemas.dead_letter import DeadLetter
from schemas.envelope import Event
from schemas.incident import IncidentReport, incident_id_of
from schemas.issue import issue_id_of
from schemas.topics import Topic

DIGEST_CHUNK_BYTES: Final = 1 << 20


class Order(Enum):
    """In which order rows are sent."""

    AS_GIVEN = "as_given"  # file by file, streaming
    AS_KNOWN = "as_known"  # by the time at which the source said it, across files, in memory


class Selection(NamedTuple):
    """Which rows: those that became known (were created or revised) in [since, until)."""

    since: datetime | None = None
    until: datetime | None = None

    def holds(self, known_at: datetime) -> bool:
        """Whether a row that became known then is asked for."""
        return (self.since is None or known_at >= self.since) and (
            self.until is None or known_at < self.until
        )


class NotSelected(NamedTuple):
    """A report that became known outside the selection."""


class Entry(NamedTuple):
    """One row: when it became known (BEGINNING when it says nothing to us) and what becomes of it."""

    known_at: datetime
    outcome: Event | DeadLetter | OutOfScope | NotSelected


class Measure(NamedTuple):
    """What a file is: the SHA-256 of its bytes, and how many line ends it has."""

    digest: str
    lines: int


class FileRow(NamedTuple):
    """One row of one file, not looked at yet."""

    source: SourceFile
    row: Row


def file_rows(sources: Sequence[SourceFile]) -> Iterator[FileRow]:
    """Every row of every file, file by file. Raises FileProblem like `rows_of`."""
    for source in sources:
        for row in rows_of(source.path, source.dataset.columns):
            yield FileRow(source, row)


def entry_of(row: FileRow, reading: Reading, selection: Selection) -> Entry:
    """What becomes of a row."""
    try:
        found = read_row(row.source, row.row, reading)
    except RowDefect as defect:
        return Entry(BEGINNING, dead_letter_of(row.source, row.row, defect))
    if isinstance(found, OutOfScope):
        return Entry(BEGINNING, found)
    if not selection.holds(found.revised_at):
        return Entry(BEGINNING, NotSelected())
    return Entry(found.revised_at, event_of(row.source.dataset.topic, found))


def event_of(topic: Topic, report: Report) -> Event:
    """The event of one report. Its version is made of its content: the same report has the same event id."""
    value = encode(report)
    if isinstance(report, IncidentReport):
        subject, began = report.report_id, incident_id_of(report.incident_number)
    else:
        subject, began = report.request_number, issue_id_of(report.source, report.request_number)
    version = int.from_bytes(hashlib.sha256(value).digest()[:6], "big")
    return Event(topic.name, report.key, value, topic.type, subject, version, correlation=str(began))


def measure(path: Path) -> Measure:
    """Reads the file once. Raises FileProblem."""
    digest, lines = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(DIGEST_CHUNK_BYTES):
                digest.update(chunk)
                lines += chunk.count(b"\n")
    except OSError as error:
        raise FileProblem(f"{path}: {(error.strerror or 'cannot be read').lower()}.") from error
    return Measure(digest.hexdigest(), lines)


def replay_id_of(measures: Sequence[Measure], selection: Selection, order: Order, reading: Reading) -> str:
    """The same contents, selection, order and policy are the same replay, whatever the files are called."""
    parts = [one.digest for one in measures]
    parts += [at.isoformat() if at else "" for at in selection]
    parts += [order.value, reading.policy.version]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
