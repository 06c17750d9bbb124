"""A row that cannot become a report -> a dead letter that says where it stands and how to mend it."""

import json
from typing import Final

from connectors.files.datasets import SourceFile
from connectors.files.errors import RowDefect
from connectors.files.rows import Row
from schemas.dead_letter import DeadLetter, dead_letter_id_of

NO_PARTITION: Final = -1
"""The row never was on a topic; the dead letter's offset is the row's number in its file."""
_LONGEST_NAME: Final = 150
_LONGEST_EXPECTED: Final = 2000


def dead_letter_of(source: SourceFile, row: Row, defect: RowDefect) -> DeadLetter:
    """The dead letter of one row. The same row of the same content gives the same one.

    Its value is the row as JSON, but only the columns that reports are read from: no column about a person
    is among them. A row whose columns cannot be told apart is kept as its number only, because any cell of
    it could be a name.
    """
    topic = source.dataset.topic.name
    kept = row.fields if row.problem is None else {"file": source.path.name, "row": row.number}
    value = json.dumps(kept, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace")
    return DeadLetter(
        dead_letter_id=dead_letter_id_of(topic, None, value),
        topic=topic,
        partition=NO_PARTITION,
        offset=row.number,
        reason=defect.reason,
        field=_title(source, defect.column),
        expected=_expected(source, row, defect),
        key=None,
        value=value,
        source=source.dataset.speaks,
    )


def _expected(source: SourceFile, row: Row, defect: RowDefect) -> str:
    title = _title(source, defect.column)
    column = f", column {title}" if title else ""
    where = f"{source.path.name[:_LONGEST_NAME]}, row {row.number}{column}"
    return f"{where}: expected {defect.expected}; mend the row and replay the file again."[:_LONGEST_EXPECTED]


def _title(source: SourceFile, column: str | None) -> str | None:
    """The column as the file writes it."""
    return None if column is None else source.titles.get(column, column)[:_LONGEST_NAME]
