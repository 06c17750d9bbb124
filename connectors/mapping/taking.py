"""One row of a source as what becomes of it: an event to publish, a dead letter, or nothing but a count."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from connectors.files.entries import event_of
from connectors.files.errors import RowDefect
from connectors.files.reading import OutOfScope
from connectors.mapping.items import Numbered
from connectors.mapping.letters import letter_of
from connectors.mapping.mapping import Refuse, SourceMapping
from connectors.mapping.targets import Report
from schemas.dead_letter import DeadLetter, Reason
from schemas.envelope import Event


class Border(NamedTuple):
    """What a row has to pass: the source's mapping, and what intake would certainly refuse. `place`: the file or the
    request, for whoever mends it."""

    mapping: SourceMapping
    refuse: Refuse
    place: str


class Refusal(NamedTuple):
    """A row that was not taken."""

    row: int
    field: str
    expected: str
    reason: Reason
    letter: DeadLetter


@dataclass(slots=True)
class Taken:
    """What became of some rows."""

    rows: int = 0
    reports: list[Report] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)  # of the rows that became reports
    events: list[Event] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    skipped: int = 0

    @property
    def letters(self) -> list[DeadLetter]:
        """The dead letters of what was refused."""
        return [one.letter for one in self.refusals]

    @property
    def newest(self) -> datetime | None:
        """The newest revision among what is accepted."""
        return max((one.revised_at for one in self.reports), default=None)


def take(rows: Iterable[Numbered], border: Border, now: datetime) -> Taken:
    """What becomes of these rows."""
    taken = Taken()
    for row in rows:
        taken.rows += 1
        try:
            found = _read(row, border, now)
        except RowDefect as defect:
            taken.refusals.append(_refusal(row, border, defect))
            continue
        if isinstance(found, OutOfScope):
            taken.skipped += 1
        else:
            taken.reports.append(found)
            taken.numbers.append(row.number)
            taken.events.append(event_of(border.mapping.schema.topic, found))
    return taken


def _read(row: Numbered, border: Border, now: datetime) -> Report | OutOfScope:
    if row.item is None:
        raise RowDefect(row.problem)
    found = border.mapping.read(row.item)
    if isinstance(found, OutOfScope):
        return found
    refused = border.refuse(found, now)
    if refused is not None:
        column = border.mapping.column_of(refused.field) or refused.field
        raise RowDefect(refused.expected, column, refused.reason)
    return found


def _refusal(row: Numbered, border: Border, defect: RowDefect) -> Refusal:
    letter = letter_of(border.mapping, border.place, row.number, row.item, defect)
    return Refusal(row.number, defect.column or "", defect.expected, defect.reason, letter)
