"""What the standard says, as one tree that is written as XML or as JSON: both carry the same content.

The standard's JSON is made from its XML by the Spark convention: an element whose children all have one name is
an array. `Many` is such an element; it keeps the children's name, which only XML writes.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

Format = Literal["xml", "json"]
FORMATS: Final[dict[str, Format]] = {"xml": "xml", "json": "json"}
MEDIA_TYPES: Final[dict[Format, str]] = {
    "xml": "text/xml; charset=utf-8",
    "json": "application/json; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Many:
    """An element whose children all have one name: an array in JSON."""

    child: str
    values: "Sequence[Value]"


Scalar = str | int | float | bool | None
Value = Scalar | Many | Mapping[str, "Value"]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole answer: the root element's name, and what is in it."""

    root: str
    content: Many | Mapping[str, Value]


class Failure(Exception):
    """A request that cannot be fulfilled, in the standard's form: sentences, one for each thing that is wrong.

    `status`: 404 for what does not exist, 403 for a wrong or missing key, 400 for all else that the sender can
    mend; 429 and 503, which the standard does not know, for what is to be tried again after `retry_after_s`.
    """

    def __init__(self, status: int, *sentences: str, retry_after_s: int | None = None) -> None:
        super().__init__(" ".join(sentences))
        self.status = status
        self.sentences = sentences
        self.retry_after_s = retry_after_s

    def document(self) -> Document:
        """The answer."""
        errors: list[Value] = [{"code": self.status, "description": one} for one in self.sentences]
        return Document("errors", Many("error", errors))


# What XML 1.0 cannot carry at all, lone surrogates among it.
_UNWRITABLE: Final = re.compile("[^\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text(value: str) -> str | None:
    """A text that both formats can carry: line ends as one, no control characters; None when nothing is left."""
    one_line_end = value.replace("\r\n", "\n").replace("\r", "\n")
    return _UNWRITABLE.sub("", one_line_end).strip() or None


def scalar_text(value: Scalar) -> str | None:
    """A scalar as XML writes it; None: an empty element."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _digits(value)
    return None if value is None else text(str(value))


def _digits(value: float) -> str | None:
    """Without an exponent, which readers of coordinates do not expect; what is no number at all is nothing."""
    if not math.isfinite(value):
        return None
    return f"{value:.9f}".rstrip("0").rstrip(".")


def w3_time(at: datetime) -> str:
    """A moment as the standard wants it: seconds, and a zone."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_json(document: Document) -> bytes:
    """The answer as JSON."""
    return json.dumps(_plain(document.content), ensure_ascii=False, allow_nan=False).encode()


def _plain(value: Value) -> object:
    if isinstance(value, Many):
        return [_plain(one) for one in value.values]
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
