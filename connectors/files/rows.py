"""Files as rows: CSV, JSON array or JSON lines, with or without BOM, plain or gzip; never loaded whole.

A caller names the columns it wants, and nothing else leaves this module: victims' names and other columns
about persons are dropped here, before anything could store or log them.
"""

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TextIO

from connectors.files.errors import FileProblem

Format = Literal["csv", "json", "jsonl"]

GZIP_MAGIC: Final = b"\x1f\x8b"
CHUNK_CHARS: Final = 1 << 20
LONGEST_ITEM_CHARS: Final = 16 * CHUNK_CHARS  # an item of a JSON array that does not end by then is broken
SAMPLE_ROWS: Final = 100  # JSON omits what is null: this many rows together show the columns

_NOT_A_WORD = re.compile(r"[^a-z0-9]+")
_BETWEEN_ITEMS = re.compile(r"[\s,]*")


class Row(NamedTuple):
    """One row. `number` is the line where it starts (CSV, JSON lines) or its place in the array, from 1."""

    number: int
    fields: dict[str, str]  # normalised column name -> text without spaces around it; empty when broken
    problem: str | None = None  # why the columns of this row cannot be told apart


def normalise(column: str) -> str:
    """One form for both header styles: `Case Number`, `CASE_NUMBER` and `case_number` are the same."""
    return _NOT_A_WORD.sub("_", column.lower()).strip("_")


def columns_of(path: Path) -> dict[str, str]:
    """The columns of a file: normalised name -> name as the file writes it.

    Raises FileProblem when the file cannot be opened, is empty or holds no rows.
    """
    with text_of(path) as text:
        kind = _format(path, text)
        columns = _csv_columns(path, text) if kind == "csv" else _json_columns(path, text, kind)
    titles: dict[str, str] = {}
    for column in columns:  # of two columns of one name the first counts, here and in the rows
        titles.setdefault(normalise(column), column)
    return titles


def rows_of(path: Path, columns: frozenset[str]) -> Iterator[Row]:
    """The rows of a file in its order, cut down to these (normalised) columns.

    Raises FileProblem when the rest of the file cannot be told into rows; a single bad row has a `problem`.
    """
    with text_of(path) as text:
        kind = _format(path, text)
        yield from _csv_rows(path, text, columns) if kind == "csv" else _json_rows(path, text, kind, columns)


@contextmanager
def text_of(path: Path) -> Iterator[TextIO]:
    """The file as text. Bytes that are no UTF-8 become U+FFFD: one bad letter must not stop a long file."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            plain = gzip.GzipFile(fileobj=raw) if packed else raw
            with io.TextIOWrapper(plain, "utf-8-sig", errors="replace", newline="") as text:
                yield text
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise FileProblem(f"{path}: {(error.strerror or 'cannot be read').lower()}.") from error
    except (OSError, EOFError) as error:  # a broken gzip, a disk that fails
        raise FileProblem(f"{path} cannot be read to its end: {error}.") from error


def _format(path: Path, text: TextIO) -> Format:
    """Told by the first character; leaves the file at its start."""
    start = ""
    while not start and (chunk := text.read(4096)):
        start = chunk.lstrip()
    if not start:
        raise FileProblem(f"{path} is empty.")
    text.seek(0)
    return "json" if start.startswith("[") else "jsonl" if start.startswith("{") else "csv"


# CSV


def _csv_columns(path: Path, text: TextIO) -> list[str]:
    reader = cells_of(path, text)
    header = next(reader)[1]
    if next(reader, None) is None:
        raise FileProblem(f"{path} has a header but no rows.")
    return header


def _csv_rows(path: Path, text: TextIO, columns: frozenset[str]) -> Iterator[Row]:
    reader = cells_of(path, text)
    header = next(reader)[1]
    places = {normalise(name): place for place, name in reversed(list(enumerate(header)))}
    wanted = [(name, place) for name, place in places.items() if name in columns]
    width = len(header)
    for line, cells in reader:
        if len(cells) == width:
            yield Row(line, {name: cells[place].strip() for name, place in wanted})
        else:
            yield Row(line, {}, f"{width} columns as in the header, not {len(cells)}")


def cells_of(path: Path, text: TextIO, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Each row's first line and its cells; blank lines are skipped. Raises FileProblem."""
    reader = csv.reader(text, delimiter=delimiter)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise FileProblem(
            f"{path} cannot be read as CSV from line {line} on ({error}); is a quote not closed?"
        ) from error


# JSON


def _json_columns(path: Path, text: TextIO, kind: Format) -> list[str]:
    sample = [item for _, item in islice(_items(path, text, kind), SAMPLE_ROWS) if item is not None]
    if not sample:
        raise FileProblem(f"{path} holds no rows.")
    return list(dict.fromkeys(name for item in sample for name in item))


def _json_rows(path: Path, text: TextIO, kind: Format, columns: frozenset[str]) -> Iterator[Row]:
    names: dict[str, str | None] = {}  # as written -> as wanted, None when it is not wanted
    for number, item in _items(path, text, kind):
        if item is None:
            yield Row(number, {}, "a JSON object")
            continue
        fields = {}
        for written, value in item.items():
            if written not in names:
                names[written] = name if (name := normalise(written)) in columns else None
            if (wanted := names[written]) is not None:
                fields[wanted] = as_text(value)
        yield Row(number, fields)


def _items(path: Path, text: TextIO, kind: Format) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    """Each item's number and the item, None when it is no JSON object."""
    for number, item in items_of_array(path, text) if kind == "json" else items_of_lines(text):
        yield number, item if isinstance(item, dict) else None


def items_of_lines(text: TextIO) -> Iterator[tuple[int, Any]]:
    """Each line's number and its JSON value, None when it is none; blank lines are skipped."""
    for number, line in enumerate(text, start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError:
                yield number, None


def items_of_array(path: Path, text: TextIO) -> Iterator[tuple[int, Any]]:
    """The items of one JSON array, held in memory a chunk at a time.

    An item that does not parse is either cut off by the end of the chunk or broken: more is read until it
    parses, the file ends, or it is longer than an item may be. Raises FileProblem.
    """
    decoder = json.JSONDecoder()
    buffer = text.read(CHUNK_CHARS)
    place, number, more = buffer.index("[") + 1, 0, True
    while True:
        place = _end_of(_BETWEEN_ITEMS, buffer, place)
        if buffer.startswith("]", place):
            return
        try:
            item, place = decoder.raw_decode(buffer, place)
        except ValueError:
            buffer, place = buffer[place:], 0
            chunk = text.read(CHUNK_CHARS) if more and len(buffer) < LONGEST_ITEM_CHARS else ""
            if not chunk:
                raise FileProblem(
                    f"{path} cannot be read as a JSON array from item {number + 1} on."
                ) from None
            buffer += chunk
            continue
        number += 1
        yield number, item


def _end_of(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return found.end() if found else place


def as_text(value: Any) -> str:
    """A JSON value as a CSV cell would hold it: null is blank, true is `true`, 44.0 is `44`."""
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value)
