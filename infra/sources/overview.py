"""All sources on one page: what is configured, what came of it, what is wrong. `lines` is pure: rows in, lines out."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from connectors.mapping.mapping import SourceMapping
from connectors.portal.feeds import FEEDS
from connectors.postgres import sources
from connectors.postgres.pool import Connection
from connectors.postgres.sources import Records
from infra.sources.load import MappingErrors, Sources
from schemas.source import SourceLine, SourceLines, SourceWay
from schemas.topics import INCIDENT_REPORTS, ISSUE_REPORTS

TABLES: Final = {INCIDENT_REPORTS.name: "incident_reports", ISSUE_REPORTS.name: "issue_reports"}
"""Where intake keeps the reports of each topic."""

_ORDER: Final[Mapping[SourceWay, int]] = {
    "webhook": 0, "folder": 1, "portal": 2, "rest": 3, "replay": 4, "intake": 5,
}  # fmt: skip
_NAME_OF: Final = {feed.id: feed.name for feed in FEEDS}

Key = tuple[str, SourceWay]


def ways_of(mapping: SourceMapping) -> tuple[SourceWay, ...]:
    """How a mapped source can come in: JSON over the webhook too, every format as a file."""
    return ("webhook", "folder") if mapping.file.format == "json" else ("folder",)


async def overview(connection: Connection, found: Sources, portal: bool, now: datetime) -> SourceLines:
    """All sources by what the database knows of them."""
    return SourceLines(items=tuple(lines(found, await sources.records(connection, TABLES), portal, now)))


def lines(found: Sources, records: Records, portal: bool, now: datetime) -> list[SourceLine]:
    """A line for each way in of each source. `portal`: the settings have the portal followed."""
    known = _Known(records)
    made = [*_mapped(found, known, now), *_wrong(found.wrong), *_datasets(records, known, portal, now)]
    named = {(one.source, one.way) for one in made}
    made += _seen(known, named, now)
    made += _taken_in(records, now)
    return sorted(made, key=lambda one: (_ORDER[one.way], one.source, one.what))


class _Known:
    """What our own doors noted, by source and way."""

    def __init__(self, records: Records) -> None:
        self.doors: dict[Key, Mapping[str, Any]] = {(one["source"], one["way"]): one for one in records.doors}
        self.problems: dict[Key, Mapping[str, Any]] = {
            (one["source"], one["way"]): one for one in records.problems
        }
        self.under_way = {one["source"]: one["files"] for one in records.files}


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
    for source, mapping in found.right.items():
        for way in ways_of(mapping):
            files = known.under_way.get(source, 0) if way == "folder" else 0
            what = f"{mapping.file.report} reports as {mapping.file.format}" + (
                f", {files} under way" if files else ""
            )
            yield _line((source, way), what, True, known, now)


def _wrong(wrong: Mapping[str, MappingErrors]) -> Iterator[SourceLine]:
    """A mapping file that cannot be used: its source is left out."""
    for name, errors in wrong.items():
        yield SourceLine(
            source=name[:200], way="folder", what="a mapping file that is wrong", configured=True,
            last_success_at=None, newest_at=None, lag_s=None, accepted_24h=0, refused_24h=0,
            problem=errors.sentence, problem_at=None,
        )  # fmt: skip


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


def _taken_in(records: Records, now: datetime) -> Iterable[SourceLine]:
    refused = {(one["source"], one["topic"]): one["refused"] for one in records.turned_away}
    rows = {(one["source"], one["topic"]): one for one in records.taken_in}
    for source, topic in sorted(rows.keys() | {key for key in refused if _is_code(key[0])}):
        row = rows.get((source, topic), {})
        newest = row.get("newest")
        yield SourceLine(
            source=source, way="intake", what=topic, configured=False, last_success_at=row.get("last_at"),
            newest_at=newest, lag_s=_age_s(newest, now), accepted_24h=row.get("accepted", 0),
            refused_24h=refused.get((source, topic), 0), problem=None, problem_at=None,
        )  # fmt: skip


def _is_code(text: str) -> bool:
    """A key that names no source names none of ours either."""
    return 0 < len(text) <= 40 and text.replace("-", "").replace("_", "").isalnum() and text == text.lower()
