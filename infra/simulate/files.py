"""Simulated reports as files in the city's own formats, so that they go through the same readers.

`victims.csv` has the columns of gumc-mgzr without those about persons, `service_requests.json` those of
v6vf-nfxy as the portal returns them; every row also says that it is simulated. Rows are revisions: a victim or
request whose row changes later has a row for each state.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO

from infra.simulate import weights
from infra.simulate.generate import ZONE
from schemas.incident import IncidentReport
from schemas.issue import IssueReport

VICTIMS_FILE: Final = "victims.csv"
REQUESTS_FILE: Final = "service_requests.json"

# The header of gumc-mgzr without AGE, SEX and RACE, and two columns more.
VICTIM_COLUMNS: Final = (
    "CASE_NUMBER", "DATE", "BLOCK", "VICTIMIZATION_PRIMARY", "INCIDENT_PRIMARY", "GUNSHOT_INJURY_I",
    "UNIQUE_ID", "ZIP_CODE", "WARD", "COMMUNITY_AREA", "STREET_OUTREACH_ORGANIZATION", "AREA", "DISTRICT",
    "BEAT", "VICTIMIZATION_FBI_CD", "INCIDENT_FBI_CD", "VICTIMIZATION_FBI_DESCR", "INCIDENT_FBI_DESCR",
    "VICTIMIZATION_IUCR_CD", "INCIDENT_IUCR_CD", "VICTIMIZATION_IUCR_SECONDARY", "INCIDENT_IUCR_SECONDARY",
    "MONTH", "DAY_OF_WEEK", "HOUR", "LOCATION_DESCRIPTION", "STATE_HOUSE_DISTRICT", "STATE_SENATE_DISTRICT",
    "UPDATED", "LATITUDE", "LONGITUDE", "LOCATION", "VALIDITY", "SIMULATED",
)  # fmt: skip

_OFFENCES: Final = {(offence.event, offence.gunshot): offence for offence in weights.OFFENCES}


def write_victims(path: Path, reports: Iterable[IncidentReport]) -> None:
    """The reports as CSV, whole or not at all. Raises OSError."""
    with _replacing(path) as out:
        rows = csv.DictWriter(out, VICTIM_COLUMNS, restval="", lineterminator="\n")
        rows.writeheader()
        rows.writerows(map(victim_row, reports))


def write_requests(path: Path, reports: Iterable[IssueReport]) -> None:
    """The reports as one JSON array, a line each, whole or not at all. Raises OSError."""
    with _replacing(path) as out:
        separator = "[\n"
        for report in reports:
            out.write(separator + json.dumps(request_row(report)))
            separator = ",\n"
        out.write("\n]\n" if separator != "[\n" else "[]\n")


def victim_row(report: IncidentReport) -> dict[str, str]:
    """One row of victims.csv; columns that are not simulated are left out."""
    offence = _OFFENCES[report.event, bool(report.gunshot_injury)]
    occurred = report.occurred_at.astimezone(ZONE)
    both = {"PRIMARY": offence.primary, "FBI_CD": offence.fbi, "FBI_DESCR": offence.fbi_text,
            "IUCR_CD": offence.iucr, "IUCR_SECONDARY": offence.secondary}  # fmt: skip
    return {
        "CASE_NUMBER": report.incident_number,
        "DATE": f"{occurred:%Y-%m-%d %H:%M:%S}",
        "BLOCK": report.block or "",
        "GUNSHOT_INJURY_I": "YES" if report.gunshot_injury else "NO",
        "UNIQUE_ID": report.report_id,
        "COMMUNITY_AREA": report.published_area_name or "",
        **{f"{who}_{what}": text for what, text in both.items() for who in ("VICTIMIZATION", "INCIDENT")},
        "MONTH": str(occurred.month),
        "DAY_OF_WEEK": str(_day_of_week(occurred)),
        "HOUR": str(occurred.hour),
        "LOCATION_DESCRIPTION": report.location_type or "",
        "UPDATED": _portal_time(report.revised_at),
        "LATITUDE": "" if report.point is None else repr(report.point.lat),
        "LONGITUDE": "" if report.point is None else repr(report.point.lon),
        "VALIDITY": report.validity.upper(),
        "SIMULATED": "true",
    }


def request_row(report: IssueReport) -> dict[str, Any]:
    """One object of service_requests.json. As the portal does, it leaves out what is not known."""
    kind = weights.BY_CODE[str(report.service_code)]
    created = report.created_at.astimezone(ZONE)
    row = {
        "sr_number": report.request_number,
        "sr_type": kind.name,
        "sr_short_code": kind.code,
        "owner_department": kind.owner,
        "status": report.status.capitalize(),
        "origin": _origin(report),
        "created_date": _portal_time(report.created_at),
        "last_modified_date": _portal_time(report.revised_at),
        "closed_date": None if report.closed_at is None else _portal_time(report.closed_at),
        "city": "Chicago",
        "state": "Illinois",
        **_address(report.address),
        "duplicate": report.duplicate,
        "legacy_record": False,
        "parent_sr_number": report.parent_number,
        "community_area": str(report.published_area or 0),
        "created_hour": str(created.hour),
        "created_day_of_week": str(_day_of_week(created)),
        "created_month": str(created.month),
        **_coordinates(report),
        "simulated": True,
    }
    return {column: value for column, value in row.items() if value is not None}


def _address(address: str | None) -> dict[str, str | None]:
    """`4015 W ADAMS ST` whole and in its parts; `AVENUE N` has no type."""
    if address is None:
        return {}
    number, direction, name = address.split(" ", 2)
    street, _, street_type = name.rpartition(" ")
    typed = len(street_type) > 1 and bool(street)
    return {
        "street_address": address,
        "street_number": number,
        "street_direction": direction,
        "street_name": street if typed else name,
        "street_type": street_type if typed else None,
    }


def _coordinates(report: IssueReport) -> dict[str, Any]:
    if report.point is None:
        return {}
    latitude, longitude = repr(report.point.lat), repr(report.point.lon)
    return {
        "latitude": latitude,
        "longitude": longitude,
        "location": {"latitude": latitude, "longitude": longitude},
    }


def _origin(report: IssueReport) -> str:
    """How the request came in: drawn by its number, as reports do not say it."""
    place = sum(report.request_number.encode()) * 7_919 % sum(weights.ORIGINS.values())
    for origin, weight in weights.ORIGINS.items():
        place -= weight
        if place < 0:
            return origin
    raise AssertionError("the place lies within the sum of all weights")


def _portal_time(at: datetime) -> str:
    """Chicago's wall clock without an offset, as the portal writes it."""
    return f"{at.astimezone(ZONE):%Y-%m-%dT%H:%M:%S}.000"


def _day_of_week(at: datetime) -> int:
    """1 is Sunday."""
    return at.isoweekday() % 7 + 1


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """Writes beside the file and then takes its place, so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    try:
        with draft.open("w", encoding="utf-8", newline="") as out:
            yield out
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
