"""All sources on one page: what is configured, what came of it, what is wrong. `lines` is pure: rows in, lines out."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from connectors.mapping.mapping import SourceMapping
from connectors.portal.feeds import FEEDS
from connectors.postgres import sources
from connectors.postgres.pool import Connection
from connectors.postgres.sources import Records
from infra.sources.load import Sources
from schemas.source import SourceLine, SourceLines, SourceWay
from schemas.topics import INCIDENT_REPORTS, ISSUE_REPORTS

TABLES: Final = {INCIDENT_REPORTS.name: "incident_reports", ISSUE_REPORTS.name: "issue_reports"}
"""Where intake keeps the reports of each topic."""

_ORDER: Final[Mapping[SourceWay, int]] = {
    "webhook": 0, "folder": 1, "portal": 2, "rest": 3, "replay": 4, "intake": 5,
}  # fmt: skip
_NAME_OF: Final = {feed.id: feed.name for feed in FEEDS}
OF_THE_PORTAL: Final = frozenset({"cpd", "shotspotter", "311"})
"""Who reports in the city's datasets."""
KEPT: Final = "The last good one stays in force until it is mended."

_OURS: Final[tuple[SourceWay, ...]] = ("webhook", "folder")
"""The doors of sources with a mapping."""

Key = tuple[str, SourceWay]


def ways_of(mapping: SourceMapping) -> tuple[SourceWay, ...]:
    """How a mapped source can come in: JSON over the webhook too, every format as a file."""
    return ("webhook", "folder") if mapping.file.format == "json" else ("folder",)


async def overview(connection: Connection, found: Sources, portal: bool, now: datetime) -> SourceLines:
    """All sources by what the database knows of them."""
    return SourceLines(items=tuple(lines(found, await sources.records(connection, TABLES), portal, now)))


def lines(found: Sources, records: Records, portal: bool, now: datetime) -> list[SourceLine]:
    """A line for each way in that a source has. `portal`: the settings have the portal followed."""
    known = _Known(records)
    made = [*_mapped(found, known, now), *_wrong(found, known, now), *_datasets(records, known, portal, now)]
    named = {(one.source, one.way) for one in made}
    made += _seen(known, named, now)
    told = {one.source for one in made if one.way in _OURS and known.has_seen((one.source, one.way))}
    made += _taken_in(records, told, portal, now)
    return sorted(made, key=lambda one: (_ORDER[one.way], one.source, one.what))


class _Known:
    """What our own doors noted, by source and way."""

    def __init__(self, records: Records) -> None:
        self.doors: dict[Key, Mapping[str, Any]] = {(one["source"], one["way"]): one for one in records.doors}
        self.problems: dict[Key, Mapping[str, Any]] = {
            (one["source"], one["way"]): one for one in records.problems
        }
        self.under_way = {one["source"]: one["files"] for one in records.files}
        self.refused_behind = Counter[str]()  # by intake, of what a door of ours let in
        for one in records.turned_away:
            self.refused_behind[one["source"]] += one["refused"]

    def has_seen(self, key: Key) -> bool:
        """Whether anything ever came this way, well or not."""
        return key in self.doors or key in self.problems or (key[1] == "folder" and key[0] in self.under_way)

    def doors_of(self, source: str, ways: Sequence[SourceWay]) -> list[SourceWay]:
        """The ways that say something, the first of them anyway: who has a webhook drops no files, until they do."""
        seen = [way for way in ways if self.has_seen((source, way))]
        return seen or [ways[0]]


def _line(key: Key, what: str, configured: bool, known: _Known, now: datetime, **more: Any) -> SourceLine:
    door, problem = known.doors.get(key, {}), known.problems.get(key, {})
    newest = more.get("newest_at", door.get("newest"))
    told: dict[str, Any] = {
        "source": key[0], "way": key[1], "what": what, "configured": configured,
        "last_success_at": door.get("last_at"), "newest_at": newest, "lag_s": _age_s(newest, now),
        "accepted_24h": door.get("accepted", 0), "refused_24h": door.get("refused", 0),
        "problem": problem.get("problem"), "problem_at": problem.get("at"),
    }  # fmt: skip
    return SourceLine(**told | more)


def _age_s(at: datetime | None, now: datetime) -> int | None:
    return None if at is None else max(0, int((now - at).total_seconds()))


def _mapped(found: Sources, known: _Known, now: datetime) -> Iterator[SourceLine]:
    newer = {errors.source: {"problem": f"{errors.sentence} {KEPT}"} for errors in found.wrong.values()}
    for source, mapping in found.right.items():
        said = f"{mapping.file.report} reports as {mapping.file.format}"
        yield from _of_doors(source, ways_of(mapping), said, known, now, newer.get(source, {}))


def _wrong(found: Sources, known: _Known, now: datetime) -> Iterator[SourceLine]:
    """A mapping file that cannot be used, and whose source is left out."""
    for errors in found.wrong.values():
        if errors.source not in found.right:
            said = "a mapping file that is wrong"
            yield from _of_doors(errors.source, _OURS[::-1], said, known, now, {"problem": errors.sentence})


def _of_doors(  # noqa: PLR0917 - what a line is made of
    source: str, ways: Sequence[SourceWay], what: str, known: _Known, now: datetime, more: Mapping[str, Any]
) -> Iterator[SourceLine]:
    """The lines of a mapped source. Its first door tells, too, what intake refused of what came through."""
    first, *others = known.doors_of(source, ways)
    told = dict(more)
    if known.has_seen((source, first)):
        refused_at_it = known.doors.get((source, first), {}).get("refused", 0)
        told["refused_24h"] = refused_at_it + known.refused_behind[source]
    yield _line((source, first), what + _under_way(source, first, known), True, known, now, **told)
    for way in others:
        yield _line((source, way), what + _under_way(source, way, known), True, known, now)


def _under_way(source: str, way: SourceWay, known: _Known) -> str:
    files = known.under_way.get(source, 0) if way == "folder" else 0
    return f", {files} under way" if files else ""


def _datasets(records: Records, known: _Known, portal: bool, now: datetime) -> Iterator[SourceLine]:
    """The datasets that were ever read; all of them when the portal is followed."""
    marks = {one["dataset"]: one for one in records.portal}
    for dataset, name in _NAME_OF.items():
        mark = marks.get(dataset)
        if mark is None and not portal:
            continue
        mark = mark or {}
        findings = mark.get("findings", 0)
        what = f"dataset {dataset}" + (f", {findings} finding{'s' * (findings > 1)}" if findings else "")
        yield _line(
            (name, "portal"), what, portal, known, now, newest_at=mark.get("mark"),
            last_success_at=mark.get("succeeded_at"), problem=mark.get("problem"), problem_at=mark.get("problem_at"),
        )  # fmt: skip


def _seen(known: _Known, named: set[Key], now: datetime) -> Iterator[SourceLine]:
    """What came through a door without being configured: reports over REST, replays, files of a source that was."""
    for key in sorted((known.doors.keys() | known.problems.keys()) - named):
        yield _line(key, "reports", False, known, now)


def _taken_in(records: Records, told: Collection[str], portal: bool, now: datetime) -> Iterable[SourceLine]:
    """What intake took in of sources that have no line of their own: those of the portal's datasets, producers on
    Kafka."""
    refused = {(one["source"], one["topic"]): one["refused"] for one in records.turned_away}
    rows = {(one["source"], one["topic"]): one for one in records.taken_in}
    for source, topic in sorted(rows.keys() | {key for key in refused if _is_code(key[0])}):
        if source in told:
            continue
        row = rows.get((source, topic), {})
        newest = row.get("newest")
        ours = portal and source in OF_THE_PORTAL
        yield SourceLine(
            source=source, way="intake", what=topic, configured=ours, last_success_at=row.get("last_at"),
            newest_at=newest, lag_s=_age_s(newest, now), accepted_24h=row.get("accepted", 0),
            refused_24h=refused.get((source, topic), 0), problem=None, problem_at=None,
        )  # fmt: skip


def _is_code(text: str) -> bool:
    """A key that names no source names none of ours either."""
    return 0 < len(text) <= 40 and text.replace("-", "").replace("_", "").isalnum() and text == text.lower()
