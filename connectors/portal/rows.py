"""Rows of the portal -> the same events that `rapid replay` makes of them in a file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

from connectors.files.datasets import SourceFile, read_row
from connectors.files.defects import dead_letter_of
from connectors.files.entries import event_of
from connectors.files.errors import RowDefect
from connectors.files.reading import OutOfScope, Reading
from connectors.files.rows import Row, as_text
from connectors.portal.answers import Item
from connectors.portal.feeds import Feed
from schemas.dead_letter import DeadLetter
from schemas.envelope import Event, event_id

_LONGEST_VALUE: Final = 60
_LONGEST_EXPECTED: Final = 2000
_MOST_ODD: Final = 20
"""Values of a column that are told; when there are more it is no vocabulary any more."""


class Taken(NamedTuple):
    """What the rows of a page become. `odd`: values that we do not know in columns that decide, with how many."""

    rows: int
    events: dict[UUID, Event]
    letters: dict[UUID, DeadLetter]
    out_of_scope: Counter[str]
    odd: Counter[tuple[str, str]]


def take(feed: Feed, items: Sequence[Item], reading: Reading, first: int) -> Taken:
    """`first`: the number of the first row in the pass. Of two rows of the same content one is enough."""
    taken = Taken(len(items), {}, {}, Counter(), Counter())
    source = SourceFile(Path(feed.id), feed.dataset, {})  # it is only named
    for number, item in enumerate(items, start=first):
        row = Row(number, _fields(feed, item.fields))
        _note_odd(feed, row, taken.odd)
        try:
            found = read_row(source, row, reading)
        except RowDefect as defect:
            letter = dead_letter_of(source, row, defect)
            taken.letters[letter.dead_letter_id] = _told(letter, feed, item, defect)
            continue
        if isinstance(found, OutOfScope):
            taken.out_of_scope[found.type] += 1
        else:
            event = event_of(feed.dataset.topic, found)
            taken.events[UUID(event_id(event.topic, event.key, event.version, event.subject))] = event
    return taken


def _fields(feed: Feed, fields: Mapping[str, Any]) -> dict[str, str]:
    """Only what was asked for, whatever else was answered."""
    return {name: as_text(fields[name]) for name in sorted(feed.columns & fields.keys())}


def _note_odd(feed: Feed, row: Row, odd: Counter[tuple[str, str]]) -> None:
    for column, known in feed.vocabulary.items():
        value = row.fields.get(column)
        if value and value.upper() not in known:
            shown = "".join(filter(str.isprintable, value))[:_LONGEST_VALUE]
            if (column, shown) in odd or len(odd) < _MOST_ODD:
                odd[column, shown] += 1


def _told(letter: DeadLetter, feed: Feed, item: Item, defect: RowDefect) -> DeadLetter:
    """Where it stands at the portal: there is no file to mend."""
    column = f", column {defect.column}" if defect.column else ""
    expected = (
        f"portal dataset {feed.id}, row {item.row_id}{column}: expected {defect.expected}; "
        "it is read again when the city changes the row."
    )
    return letter.model_copy(update={"expected": expected[:_LONGEST_EXPECTED]})
