"""A foreign file or body as items: rows of CSV, or JSON values of a list, in their order."""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

from connectors.files.errors import FileProblem
from connectors.files.rows import cells_of, items_of_array, items_of_lines, normalise, text_of
from connectors.mapping.columns import Item, at, parts_of
from connectors.mapping.encoding import check_utf_8
from connectors.mapping.spec import MappingFile

LARGEST_DOCUMENT_CHARS: Final = 64 * 1024 * 1024
"""A JSON document whose list is not the document itself is read whole; a larger one should be JSON lines."""
SAMPLE_ITEMS: Final = 1_000


class Numbered(NamedTuple):
    """One row. `number`: its line (CSV, JSON lines) or its place in the list, from 1. `item`: None when broken."""

    number: int
    item: Item | None
    problem: str = ""


class Sample(NamedTuple):
    """The first rows of a file, and the names of the columns that they have."""

    items: list[Numbered]
    columns: list[str]


def items_of(path: Path, file: MappingFile) -> Iterator[Numbered]:
    """The rows of a file. Raises FileProblem when it, or the rest of it, cannot be told into rows."""
    check_utf_8(path)
    try:
        with text_of(path) as text:
            yield from _rows(path, text, file)
    except RecursionError as error:
        raise FileProblem(f"{path} is nested too deeply to be read.") from error


def sample_of(path: Path, file: MappingFile) -> Sample:
    """The first rows. Raises FileProblem, also when there are none."""
    items = list(itertools.islice(items_of(path, file), SAMPLE_ITEMS))
    if not items:
        raise FileProblem(f"{path} holds no rows.")
    columns = _header(path, file) if file.format == "csv" else _members(items)
    return Sample(items, columns)


def header_of(path: Path, file: MappingFile) -> list[str]:
    """The columns of a CSV file as it writes them. Raises FileProblem."""
    check_utf_8(path)
    return _header(path, file)


def items_in(document: Any, pointer: str) -> list[Any] | None:
    """The list in a JSON document; one object is a list of one. None: there is none."""
    found = at(document, parts_of(pointer))
    if isinstance(found, dict):
        return [found]
    return found if isinstance(found, list) else None


def _rows(path: Path, text: TextIO, file: MappingFile) -> Iterator[Numbered]:
    if file.format == "csv":
        yield from _csv(path, text, file.delimiter)
    elif file.format == "jsonl":
        for number, found in items_of_lines(text):
            yield _numbered(number, found)
    elif file.items:
        yield from _within(path, text, file.items)
    else:
        yield from _array(path, text)


def _numbered(number: int, found: Any) -> Numbered:
    return Numbered(number, found) if isinstance(found, dict) else Numbered(number, None, "one JSON object")


def _header(path: Path, file: MappingFile) -> list[str]:
    with text_of(path) as text:
        found = next(cells_of(path, text, file.delimiter), None)
    if found is None:
        raise FileProblem(f"{path} is empty.")
    return [name.strip() for name in found[1]]


def _csv(path: Path, text: TextIO, delimiter: str) -> Iterator[Numbered]:
    rows = cells_of(path, text, delimiter)
    header = next(rows, None)
    if header is None:
        raise FileProblem(f"{path} is empty.")
    names = [normalise(name) for name in header[1]]
    first = {name: place for place, name in reversed(list(enumerate(names)))}
    for line, cells in rows:
        if len(cells) == len(names):
            yield Numbered(line, {name: cells[place].strip() for name, place in first.items()})
        else:
            yield Numbered(line, None, f"{len(names)} columns as in the header, not {len(cells)}")


def _array(path: Path, text: TextIO) -> Iterator[Numbered]:
    start = text.read(4096).lstrip()
    text.seek(0)
    if start.startswith("{"):  # one object is a list of one
        yield from _within(path, text, "")
    elif start.startswith("["):
        for number, found in items_of_array(path, text):
            yield _numbered(number, found)
    else:
        raise FileProblem(
            f"{path} is empty." if not start else f"{path} is no JSON: it begins with neither [ nor {{."
        )


def _within(path: Path, text: TextIO, pointer: str) -> Iterator[Numbered]:
    raw = text.read(LARGEST_DOCUMENT_CHARS + 1)
    if len(raw) > LARGEST_DOCUMENT_CHARS:
        raise FileProblem(
            f"{path} is larger than a JSON document may be: send JSON lines, or a list by itself."
        )
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise FileProblem(f"{path} is no JSON: it breaks off or is nested too deeply.") from error
    found = items_in(document, pointer)
    if found is None:
        raise FileProblem(f"{path} has no list at {pointer or 'its root'}.")
    for number, one in enumerate(found, start=1):
        yield _numbered(number, one)


def _members(items: list[Numbered]) -> list[str]:
    """The members of all items as JSON pointers, those at the top by their plain names."""
    found: dict[str, None] = {}
    for one in items:
        for name, value in (one.item or {}).items():
            found[name] = None
            if isinstance(value, Mapping):
                found |= dict.fromkeys(f"/{name}/{inner}" for inner in value)
    return list(found)
