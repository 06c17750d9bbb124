"""A kept row or element read again by today's mapping of its source, after the mapping was mended.

dead letter -> the item that is kept of it -> today's mapping -> report | why it still cannot become one
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydantic_core import from_json

from connectors.files.rows import normalise
from connectors.mapping.columns import Item, parts_of
from connectors.mapping.items import Numbered
from connectors.mapping.mapping import Refuse, SourceMapping
from connectors.mapping.taking import Border, Refusal, take
from connectors.mapping.targets import Report
from connectors.postgres.retries import Letter
from infra.sources.load import Sources
from schemas.codec import REMOVED

SKIPS: Final = "today's mapping of {source} skips it: discard it"


class NotAgain(Exception):
    """Why a letter cannot be read again: nothing of it that today's mapping could read. A half sentence."""


class Again:
    """Reads kept rows again. `refuse`: what intake would certainly refuse, by the policy in force."""

    def __init__(self, sources: Sources, refuse: Refuse, now: datetime) -> None:
        self._sources = sources
        self._refuse = refuse
        self._now = now

    def read(self, letter: Letter) -> Report | Refusal | None:
        """What the row says today, or what is wrong with it; None: it is not our subject. Raises NotAgain."""
        mapping = self._mapping_of(letter)
        item = _item_of(letter, mapping)
        border = Border(mapping, self._refuse, _place_of(letter))
        taken = take([Numbered(letter.offset, item)], border, self._now)
        return next(iter((*taken.reports, *taken.refusals)), None)

    def _mapping_of(self, letter: Letter) -> SourceMapping:
        mapping = self._sources.right.get(letter.source)
        if any(errors.source == letter.source for errors in self._sources.wrong.values()):
            raise NotAgain(f"the mapping file of {letter.source} is wrong: see `rapid sources check`")
        if mapping is None:
            raise NotAgain(f"{letter.source} has no mapping file")
        if mapping.schema.topic.name != letter.topic:
            raise NotAgain(f"the mapping of {letter.source} makes other reports now")
        return mapping


def _item_of(letter: Letter, mapping: SourceMapping) -> Item:
    """The row as far as it is kept. Raises NotAgain."""
    kept = _kept_of(letter)
    gone = [column for column in mapping.columns if kept.get(column) == REMOVED]
    if gone:
        raise NotAgain(f"its {gone[0]} is not kept")
    if mapping.file.format == "csv":
        return {normalise(column): value for column, value in kept.items()}
    item: dict[str, Any] = {}
    for column, value in kept.items():
        _put(item, parts_of(column), value)
    return item


def _kept_of(letter: Letter) -> Mapping[str, Any]:
    if letter.value is None or letter.reason == "oversized":
        raise NotAgain("it is not kept whole")
    try:
        kept = from_json(letter.value)
    except ValueError:
        kept = None
    if not isinstance(kept, dict) or isinstance(kept.get("row"), int):  # a number: columns are texts
        raise NotAgain("none of its columns are kept")
    if kept.get("source") == letter.source:
        del kept["source"]  # who sent it; not a column of that name
    return kept


def _put(item: dict[str, Any], parts: tuple[str, ...], value: Any) -> None:
    """Let it stand where a JSON pointer looks for it."""
    *way, last = parts
    for part in way:
        inner = item.get(part)
        if not isinstance(inner, dict):
            inner = item[part] = {}
        item = inner
    item[last] = value


def _place_of(letter: Letter) -> str:
    """The file or the request that it came with, as its sentence has it."""
    where = letter.expected.partition(": expected ")[0].removeprefix(f"{letter.source}, ")
    return where.partition(f", row {letter.offset}")[0]
