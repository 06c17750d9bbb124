"""What must hold after any faults, as sentences about what was seen; an empty list is a pass."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Seen(NamedTuple):
    """A record of the log that is read, a row of the table, or a record of the log that is written."""

    partition: int
    offset: int
    key: str
    number: int


class Sample(NamedTuple):
    """The group's committed offset of a partition, read before the fence's next offset."""

    partition: int
    committed: int
    fence: int


def check(
    log: Sequence[Seen], applied: Sequence[Seen], published: Sequence[Seen], samples: Sequence[Sample]
) -> list[str]:
    """`applied` in the order of application, `log` and `published` in the order of each partition."""
    return [
        *_applied_once(log, applied),
        *_order_kept("applied", log, applied),
        *_published(log, published),
        *_order_kept("published", log, first_occurrences(published)),
        *_not_ahead(samples),
    ]


def first_occurrences(records: Iterable[Seen]) -> list[Seen]:
    """As a consumer sees it that dedupes on the event's id."""
    first: dict[tuple[str, int], Seen] = {}
    for record in records:
        first.setdefault((record.key, record.number), record)
    return list(first.values())


def _applied_once(log: Sequence[Seen], applied: Sequence[Seen]) -> list[str]:
    times = Counter(applied)
    lost = [record for record in log if not times[record]]
    twice = [record for record, count in times.items() if count > 1]
    alien = times.keys() - set(log)
    return [
        f"{len(records)} {what}, e.g. {next(iter(records))}"
        for what, records in (("lost", lost), ("applied twice", twice), ("applied and not in the log", alien))
        if records
    ]


def _published(log: Sequence[Seen], published: Sequence[Seen]) -> list[str]:
    missing = {(record.key, record.number) for record in log} - {(r.key, r.number) for r in published}
    return [f"{len(missing)} never published, e.g. {min(missing)}"] if missing else []


def _order_kept(what: str, log: Sequence[Seen], records: Sequence[Seen]) -> list[str]:
    """Per key, in the order of the log (a producer that tried again may have put a number there twice)."""
    rank: dict[tuple[str, int], int] = {}
    for record in log:
        rank.setdefault((record.key, record.number), len(rank))
    latest: dict[str, int] = {}
    wrong = []
    for record in first_occurrences(records):
        place = rank.get((record.key, record.number), -1)
        if place < latest.get(record.key, -1):
            wrong.append(record)
        latest[record.key] = place
    return [f"{len(wrong)} {what} out of order, e.g. {wrong[0]}"] if wrong else []


def _not_ahead(samples: Sequence[Sample]) -> list[str]:
    ahead = [sample for sample in samples if sample.committed > sample.fence]
    return [f"committed ahead of the fence {len(ahead)} times, e.g. {ahead[0]}"] if ahead else []
