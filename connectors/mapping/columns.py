"""Columns by their names: which may be read at all, and what a row has in them."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from connectors.files.rows import as_text, normalise
from connectors.mapping.spec import Format
from schemas.codec import names_a_person

_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_PERSONAL: Final = (
    "age birth birthday birthdate dob sex gender race ethnicity ssn phone telephone mobile email victim suspect "
    "witness caller complainant reporter patient offender"
)
_ABOUT_PERSONS: Final = frozenset(_PERSONAL.split())

Item = Mapping[str, Any]
"""One row: of CSV a text for each normalised column, of JSON the object."""
Get = Callable[[Item], Any]


def is_about_a_person(column: str) -> bool:
    """Whether a column of this name says who somebody is. What such a column holds must never come in.

    >>> [is_about_a_person(one) for one in ("VICTIM_AGE", "caller/phone", "street_name", "victimization_primary")]
    [True, True, False, False]
    """
    words = {word.lower() for word in _WORD.findall(column)}
    return bool(words & _ABOUT_PERSONS) or any(names_a_person(part) for part in column.split("/") if part)


def parts_of(pointer: str) -> tuple[str, ...]:
    """The members that a JSON pointer goes through; a plain name is one of them."""
    if not pointer.startswith("/"):
        return (pointer,) if pointer else ()
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/"))


def at(value: Any, parts: tuple[str, ...]) -> Any:
    """What stands there, None where nothing does."""
    for part in parts:
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value


def getter(column: str, form: Format) -> Get:
    """What a row has in a column: a text, or whatever a JSON value is; None when blank."""
    if form == "csv":
        name = normalise(column)
        return lambda item: item.get(name) or None
    parts = parts_of(column)
    return lambda item: _scalar(at(item, parts))


def _scalar(value: Any) -> Any:
    """Texts and numbers as a cell of CSV would hold them; objects and lists as they are."""
    return value if isinstance(value, dict | list) else as_text(value) or None
