"""A row that cannot become a report -> a dead letter that says where it stands and how to mend it."""

import json
from typing import Final

from connectors.files.defects import NO_PARTITION
from connectors.files.errors import RowDefect
from connectors.mapping.columns import Item
from connectors.mapping.mapping import SourceMapping
from schemas.codec import without_names
from schemas.dead_letter import DeadLetter, dead_letter_id_of

_LONGEST_NAME: Final = 150
_LONGEST_EXPECTED: Final = 2000


def letter_of(
    mapping: SourceMapping, place: str, number: int, item: Item | None, defect: RowDefect
) -> DeadLetter:
    """The dead letter of one row. The same content gives the same one.

    It keeps only the columns that the mapping reads; of a row that cannot be told into columns only its number, because
    any part of it could be a name. `place`: the file or the request.
    """
    topic = mapping.schema.topic.name
    kept = {"file": place, "row": number} if item is None else mapping.kept(item)
    value = without_names(json.dumps({"source": mapping.source} | kept, ensure_ascii=False, sort_keys=True).encode(
        "utf-8", "replace"
    ))  # fmt: skip
    column = defect.column[:_LONGEST_NAME] if defect.column else None
    where = f"{mapping.source}, {place[:_LONGEST_NAME]}, row {number}" + (
        f", column {column}" if column else ""
    )
    return DeadLetter(
        dead_letter_id=dead_letter_id_of(topic, None, value),
        topic=topic,
        partition=NO_PARTITION,
        offset=number,
        reason=defect.reason,
        field=column,
        expected=f"{where}: expected {defect.expected.rstrip('.')}; mend it at the source and have it sent again."[
            :_LONGEST_EXPECTED
        ],
        key=None,
        value=value,
        source=mapping.source,
    )
