"""The load of the benchmark: simulated reports as Kafka records, made before the clock starts."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from connectors.geography.areas import Areas
from infra.simulate import weights
from infra.simulate.generate import incident_reports, issue_reports
from infra.simulate.places import Places
from schemas.codec import encode
from schemas.envelope import Event, Headers, headers_of
from schemas.incident import IncidentReport, incident_id_of
from schemas.issue import IssueReport
from schemas.topics import INCIDENT_REPORTS, ISSUE_REPORTS

LAST_DAY: Final = date(2026, 6, 1)
"""Fixed, so that the same options give the same load; the window ends here."""
MOST_DAYS: Final = 7_300
"""20 years: a larger load makes the days denser instead, for reports from before the city's first are refused."""
SPARE: Final = 1.1
"""Days are drawn at random, and a few incidents more than asked for are made so that there are enough."""
REQUESTS_PER_DAY: Final = sum(kind.per_day for kind in weights.REQUEST_TYPES)
RECORDED_AT: Final = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Record:
    """One report as it is sent. `incident_id` is set for the first report of an incident."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    incident_id: UUID | None


@dataclass(frozen=True, slots=True)
class Load:
    """Records in the order in which they became known."""

    records: Sequence[Record]

    @property
    def incidents(self) -> int:
        """How many incidents are reported for the first time."""
        return sum(record.incident_id is not None for record in self.records)

    @property
    def size_bytes(self) -> int:
        """Bytes of all values."""
        return sum(len(record.value) for record in self.records)

    def split(self, incidents: int) -> tuple["Load", "Load"]:
        """The part up to so many incidents, and the rest."""
        seen = 0
        for index, record in enumerate(self.records):
            if record.incident_id is not None:
                if seen == incidents:
                    return Load(self.records[:index]), Load(self.records[index:])
                seen += 1
        return self, Load(())


def make_load(incidents: int, requests_per_incident: float, seed: int) -> Load:
    """The reports of so many incidents, as dense as in Chicago, with service requests in between.

    Chicago's own share, some 180 requests for an incident, would measure little but the requests.
    """
    days, rate = _window(incidents)
    start = LAST_DAY - timedelta(days=days)
    places = Places(Areas.of_chicago())
    request_rate = rate * requests_per_incident * weights.CASES_PER_YEAR / 365.25 / REQUESTS_PER_DAY
    reports: list[Iterator[IncidentReport | IssueReport]] = [
        incident_reports(seed, start, days, rate, places),
        issue_reports(seed, start, days, request_rate, places),
    ]
    known = iter(heapq.merge(*reports, key=lambda report: report.revised_at))
    return Load(list(_until(incidents, _records(known))))


def _window(incidents: int) -> tuple[int, float]:
    """Days and rate that hold so many incidents."""
    needed = incidents * SPARE * 365.25 / weights.CASES_PER_YEAR + 30
    days = min(MOST_DAYS, round(needed))
    return days, max(1.0, needed / days)


def _records(reports: Iterator[IncidentReport | IssueReport]) -> Iterator[Record]:
    seen: set[str] = set()
    for version, report in enumerate(reports):
        if isinstance(report, IssueReport):
            event = _event(ISSUE_REPORTS.name, ISSUE_REPORTS.type, report, version)
            yield _record(event, None)
            continue
        event = _event(INCIDENT_REPORTS.name, INCIDENT_REPORTS.type, report, version)
        first = report.incident_number not in seen
        seen.add(report.incident_number)
        yield _record(event, incident_id_of(report.incident_number) if first else None)


def _event(topic: str, kind: str, report: IncidentReport | IssueReport, version: int) -> Event:
    return Event(topic, report.key, encode(report), kind, report.key, version)


def _record(event: Event, incident_id: UUID | None) -> Record:
    return Record(event.topic, event.key.encode(), event.value, headers_of(event, RECORDED_AT), incident_id)


def _until(incidents: int, records: Iterator[Record]) -> Iterator[Record]:
    """The records before the first of the incident that is one too many."""
    seen = 0
    for record in records:
        seen += record.incident_id is not None
        if seen > incidents:
            return
        yield record
