"""What pydantic found wrong, in the words of this house: what follows `expected …`, as in `expected a whole number`.

Never a word of what was sent, which may be a password or somebody's name: pydantic's own sentences repeat it now and
then, and speak of inputs and strings.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from pydantic_core import ErrorDetails

from schemas.base import CODE_PATTERN, KEY_PATTERN, TEXT_PATTERN

MOST_TOLD: Final = 5
"""Of the things that are wrong with one record; who mends these is told the others."""
ALLOWED: Final = "a value that this field allows"
NEEDED: Final = "this member, which is required"
UNKNOWN: Final = "no member of this name"

_A_TIME: Final = "a time with an offset, such as 2026-07-04T22:40:00-05:00"
_KINDS: Final[Mapping[str, str]] = MappingProxyType({
    "missing": NEEDED,
    "extra_forbidden": UNKNOWN,
    "none_required": "nothing",
    "finite_number": "a finite number",
    "multiple_of": "a multiple of {multiple_of}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "string_too_long": "text of at most {max_length} characters",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "timezone_aware": _A_TIME,
    "timezone_naive": "a time without an offset",
})  # fmt: skip
"""What a kind of error means; `{…}`: of its context, which is the schema's."""
_FAMILIES: Final = (
    ("string_pattern", "text that matches {pattern}"),
    ("string", "text"),
    ("int", "a whole number"),
    ("float", "a number"),
    ("decimal", "a number"),
    ("bool", "true or false"),
    ("datetime", _A_TIME),
    ("date", "a date such as 2026-01-31"),
    ("time_delta", "a length of time"),
    ("uuid", "a UUID"),
    ("url", "a URL"),
    ("path", "a path"),
    ("json", "JSON"),
    ("model", "an object"),
    ("dict", "an object"),
    ("mapping", "an object"),
    ("list", "a list"),
    ("tuple", "a list"),
    ("set", "a list"),
    ("frozen_set", "a list"),
)
"""The same for all kinds that begin so."""
_PATTERNS: Final[Mapping[str, str]] = MappingProxyType({
    CODE_PATTERN: "small letters, digits, - and _, such as cpd-311",
    KEY_PATTERN: "printable text without |",
    TEXT_PATTERN: "text without NUL characters",
})  # fmt: skip


def expectation(error: ErrorDetails) -> str:
    """What was expected. The errors need their context."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_too_short":
        least = context["min_length"]
        return "text that is not empty" if least == 1 else f"text of at least {least} characters"
    if kind == "string_pattern_mismatch" and context["pattern"] in _PATTERNS:
        return _PATTERNS[context["pattern"]]
    return _words_for(kind).format_map(context)


def said(error: ErrorDetails) -> str:
    """The same where a check of ours says in its own words what was expected, without what was sent."""
    reason = error.get("ctx", {}).get("error")
    return str(reason) if error["type"] == "value_error" and reason is not None else expectation(error)


def together(told: Iterable[str]) -> str:
    """Several of them as one text: each once, as many as one can take in."""
    each: list[str] = list(dict.fromkeys(told))
    more = len(each) - MOST_TOLD
    rest = [f"and {more} more, told when these are mended"] if more > 0 else []
    return "; ".join(each[:MOST_TOLD] + rest)


def _words_for(kind: str) -> str:
    if kind in _KINDS:
        return _KINDS[kind]
    return next((words for family, words in _FAMILIES if kind.startswith(family)), ALLOWED)
