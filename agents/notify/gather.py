"""What goes out as one message: the storm of one outage, a digest. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from schemas.notification import Bundle, ItemKind, Template, Waiting

_ONE: Final[dict[ItemKind, Template]] = {"alert": "alert", "correction": "correction"}
_MANY: Final[dict[ItemKind, Template]] = {
    "alert": "alerts", "correction": "correction", "channel_dead": "notice", "channel_back": "notice",
}  # fmt: skip


def bundles(waiting: Sequence[Waiting], few: int) -> list[Bundle]:
    """The messages for what waits on one channel, the oldest first: what a digest collects is one; of the rest, more
    than a few of one kind are one as well: also the notices of one mail server over which many channels lead. A
    digest is of alerts; notices are in none."""
    found: list[Bundle] = []
    for person in dict.fromkeys(one.person for one in waiting):
        theirs = [one for one in waiting if one.person == person]
        collected = [one for one in theirs if one.wait == "digest" and one.item.kind in _ONE]
        if collected:
            found.append(Bundle(person, "digest", collected))
        found += _by_kind(person, (one for one in theirs if one not in collected), few)
    return sorted(found, key=lambda bundle: min(one.due_at for one in bundle.waiting))


def _by_kind(person: str, waiting: Iterable[Waiting], few: int) -> Iterator[Bundle]:
    ordered = sorted(waiting, key=lambda one: one.item.kind)  # stable: within a kind, as they came
    for kind, of_kind in groupby(ordered, key=lambda one: one.item.kind):
        ones = list(of_kind)
        if len(ones) > few and kind in _MANY:
            yield Bundle(person, _MANY[kind], ones)
        else:
            yield from (Bundle(person, _ONE.get(kind, "notice"), [one]) for one in ones)
