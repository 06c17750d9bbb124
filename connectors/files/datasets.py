"""The city's datasets, each once: how a file is recognised, which columns are read, into what.

path -> recognise(columns) -> rows -> read_row -> report | out of scope | defect
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from connectors.files.errors import FileProblem, RowDefect
from connectors.files.fields import Fields
from connectors.files.incidents import (
    CRIME_COLUMNS,
    CRIME_TYPE,
    SHOTSPOTTER_COLUMNS,
    VICTIM_COLUMNS,
    crime,
    shotspotter,
    victim,
)
from connectors.files.reading import OutOfScope, Reading
from connectors.files.requests import LEGACY_COLUMNS, REQUEST_COLUMNS, legacy_request, request
from connectors.files.rows import Row, columns_of
from schemas.dead_letter import Reason
from schemas.expected import expectation
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.topics import INCIDENT_REPORTS, ISSUE_REPORTS, Topic

Report = IncidentReport | IssueReport
Parse = Callable[[Fields, Reading], Report | OutOfScope]

_TIME_FIELDS: Final = frozenset({"occurred_at", "revised_at", "created_at", "closed_at"})


@dataclass(frozen=True)
class Dataset:
    """One dataset of the city. `signature`: the columns that no other known dataset has together."""

    name: str
    portal_id: str
    signature: frozenset[str]
    column_of: Mapping[str, str]  # field of the report -> the column it is read from
    topic: Topic
    parse: Parse
    further_columns: frozenset[str] = frozenset()
    speaks: str = "cpd"  # the source of its reports

    @property
    def columns(self) -> frozenset[str]:
        """All that is ever read of a row."""
        return frozenset(self.column_of.values()) | {"latitude", "longitude"} | self.further_columns


VICTIMS: Final = Dataset(
    "victims of homicides and non-fatal shootings", "gumc-mgzr",
    frozenset({"case_number", "date", "victimization_primary", "gunshot_injury_i", "unique_id"}),
    VICTIM_COLUMNS, INCIDENT_REPORTS, victim,
)  # fmt: skip
SHOTSPOTTER: Final = Dataset(
    "ShotSpotter alerts", "3h7q-7mdb",
    frozenset({"date", "unique_id", "incident_type_description", "rounds"}),
    SHOTSPOTTER_COLUMNS, INCIDENT_REPORTS, shotspotter, speaks="shotspotter",
)  # fmt: skip
CRIMES: Final = Dataset(
    "crimes", "ijzp-q8t2",
    frozenset({"id", "case_number", "date", "iucr", "primary_type"}),
    CRIME_COLUMNS, INCIDENT_REPORTS, crime, frozenset({CRIME_TYPE}),
)  # fmt: skip
REQUESTS: Final = Dataset(
    "311 service requests", "v6vf-nfxy",
    frozenset({"sr_number", "sr_type", "status", "created_date"}),
    REQUEST_COLUMNS, ISSUE_REPORTS, request, speaks="311",
)  # fmt: skip
LEGACY_REQUESTS: Final = Dataset(
    "311 service requests before December 2018", "hec5-y4x5 and others",
    frozenset({"creation_date", "status", "service_request_number", "type_of_service_request"}),
    LEGACY_COLUMNS, ISSUE_REPORTS, legacy_request, speaks="311",
)  # fmt: skip

KNOWN: Final = (VICTIMS, SHOTSPOTTER, CRIMES, REQUESTS, LEGACY_REQUESTS)


@dataclass(frozen=True)
class SourceFile:
    """A file whose dataset is known. `titles`: normalised column name -> as the file writes it."""

    path: Path
    dataset: Dataset
    titles: Mapping[str, str]


def recognise(path: Path) -> SourceFile:
    """Opens a file far enough to know its dataset; raises FileProblem when it cannot be known."""
    titles = columns_of(path)
    for dataset in KNOWN:
        if dataset.signature <= titles.keys():
            return SourceFile(path, dataset, titles)
    raise FileProblem(_unknown(path, titles.values()))


def read_row(source: SourceFile, row: Row, reading: Reading) -> Report | OutOfScope:
    """What a row says; raises RowDefect when it cannot become a report."""
    if row.problem:
        raise RowDefect(row.problem)
    try:
        return source.dataset.parse(row.fields, reading)
    except ValidationError as error:
        raise _defect(source.dataset, error) from None


def _defect(dataset: Dataset, error: ValidationError) -> RowDefect:
    """The first thing that the schema found wrong, told of the column and without the column's content."""
    first = error.errors(include_input=False, include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    reason: Reason = "impossible_time" if field in _TIME_FIELDS else "invalid"
    return RowDefect(f"{expectation(first)} for {field}", dataset.column_of.get(field), reason)


def _unknown(path: Path, columns: Collection[str]) -> str:
    found = ", ".join(list(columns)[:12]) + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")
    known = "; ".join(
        f"{dataset.name} ({dataset.portal_id}: {', '.join(sorted(dataset.signature)).upper()})"
        for dataset in KNOWN
    )
    return (
        f"{path} is of no known dataset. Its columns: {found}. Known datasets and what tells them: {known}."
    )
