"""What the checks of a policy share: the values of a field over all rows, references, and what is given twice.

All pass over what has the wrong shape: that is told elsewhere.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from infra.policy.document import Document, Keys, PolicyError, found

Folder = dict[str, Document]
Errors = Iterator[PolicyError]


def each(document: Document, rows: str, field: str) -> list[tuple[Keys, Any]]:
    """The values of one field over all rows; a list counts item by item. Only texts and whole numbers."""
    entries: list[tuple[Keys, Any]] = []
    for keys, row in document.rows(rows):
        value = row.get(field)
        items = enumerate(value) if isinstance(value, list) else [(None, value)]
        for number, item in items:
            place = (*keys, field) if number is None else (*keys, field, number)
            if isinstance(item, (str, int)) and not isinstance(item, bool):
                entries.append((place, item))
    return entries


def codes(document: Document, rows: str, field: str) -> set[str]:
    """The codes that the rows of a list have."""
    return {code for _, code in each(document, rows, field) if isinstance(code, str)}


def unknown(document: Document, entries: Iterable[tuple[Keys, Any]], known: set[str], what: str) -> Errors:
    """The references that lead nowhere. Nothing is known when the file they lead to could not be read."""
    for keys, value in entries:
        if known and value not in known:
            yield document.error(keys, f"expected {what} ({', '.join(sorted(known))}), found {found(value)}")


def unique(document: Document, entries: Iterable[tuple[Keys, Any]], key_of: Callable[[Any], Any]) -> Errors:
    """The values that were given before."""
    first: dict[Any, Keys] = {}
    for keys, value in entries:
        key = key_of(value) if isinstance(value, str) else value
        if key in first:
            yield document.error(
                keys, f"{found(value)} is given twice, first in line {document.line(first[key])}"
            )
        else:
            first[key] = keys


def are_numbers(*values: Any) -> bool:
    """Whether each of them is a number."""
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
