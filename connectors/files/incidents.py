"""Rows about gun violence -> IncidentReport: victims (gumc-mgzr), ShotSpotter (3h7q-7mdb), crimes (ijzp-q8t2).

`*_COLUMNS` says for each field of the report which column it is read from. Names, age, sex and race are in
none of them, and what is in none of them is never read.
"""

from typing import Final

from connectors.files.fields import (
    Fields,
    area,
    beat,
    number_text,
    optional,
    optional_time,
    point,
    required,
    time,
    yes_or_no,
)
from connectors.files.reading import OutOfScope, Reading
from schemas.incident import Event, IncidentReport, Validity

VICTIM_COLUMNS: Final = {
    "report_id": "unique_id",
    "incident_number": "case_number",
    "occurred_at": "date",
    "revised_at": "updated",
    "validity": "validity",  # only simulated files have it
    "event": "victimization_primary",
    "gunshot_injury": "gunshot_injury_i",
    "block": "block",
    "location_type": "location_description",
    "published_area": "community_area",
    "published_area_name": "community_area",
    "beat": "beat",
    "district": "district",
    "ward": "ward",
    "simulated": "simulated",
}

SHOTSPOTTER_COLUMNS: Final = {
    "report_id": "unique_id",
    "incident_number": "unique_id",
    "occurred_at": "date",
    "revised_at": "date",
    "event": "incident_type_description",
    "block": "block",
    "published_area": "community_area",
    "published_area_name": "community_area",
    "beat": "beat",
    "district": "district",
    "ward": "ward",
    "simulated": "simulated",
}

CRIME_COLUMNS: Final = {
    "report_id": "id",
    "incident_number": "case_number",
    "occurred_at": "date",
    "revised_at": "updated_on",
    "event": "iucr",
    "block": "block",
    "location_type": "location_description",
    "published_area": "community_area",
    "published_area_name": "community_area",
    "beat": "beat",
    "district": "district",
    "ward": "ward",
    "simulated": "simulated",
}

CRIME_TYPE: Final = "primary_type"  # only to say what was left out

_VICTIMIZATIONS: Final[dict[str, Event]] = {
    "HOMICIDE": "homicide",
    "BATTERY": "assault",
    "ASSAULT": "assault",
    "NON-FATAL": "assault",
    "ROBBERY": "robbery",
    "CRIMINAL SEXUAL ASSAULT": "sexual_assault",
    "CRIM SEXUAL ASSAULT": "sexual_assault",
}


def victim(fields: Fields, reading: Reading) -> IncidentReport:
    """One victimization; the case number makes victims of one event one incident."""
    occurred_at = time(fields, "date", reading.zone)
    number, name = area(fields)
    return IncidentReport(
        source="cpd",
        report_id=_victim_id(required(fields, "unique_id", "the victimization's id")),
        incident_number=required(fields, "case_number", "the case number"),
        occurred_at=occurred_at,
        revised_at=optional_time(fields, "updated", reading.zone) or occurred_at,
        validity=_validity(fields),
        event=_VICTIMIZATIONS.get(fields.get("victimization_primary", "").upper(), "other"),
        gunshot_injury=yes_or_no(fields, "gunshot_injury_i"),
        block=optional(fields, "block"),
        location_type=optional(fields, "location_description"),
        published_area=number,
        published_area_name=name,
        beat=beat(fields),
        district=number_text(fields, "district"),
        ward=number_text(fields, "ward"),
        point=point(fields),
        simulated=bool(yes_or_no(fields, "simulated")),
    )


def _victim_id(unique_id: str) -> str:
    """The id without what the city puts before it: `SHOOT-…` becomes `HOM-…` when a victim dies, and the
    same person must not count twice."""
    kind, dash, rest = unique_id.partition("-")
    return rest if dash and rest and kind in ("SHOOT", "HOM") else unique_id


def shotspotter(fields: Fields, reading: Reading) -> IncidentReport:
    """One acoustic alert: gunfire, nothing said about injuries. Alerts have no case number and no revisions."""
    occurred_at = time(fields, "date", reading.zone)
    alert = required(fields, "unique_id", "the alert's id")
    number, name = area(fields)
    return IncidentReport(
        source="shotspotter",
        report_id=alert,
        incident_number=alert,
        occurred_at=occurred_at,
        revised_at=occurred_at,
        event="gunfire",
        gunshot_injury=None,
        block=optional(fields, "block"),
        published_area=number,
        published_area_name=name,
        beat=beat(fields),
        district=number_text(fields, "district"),
        ward=number_text(fields, "ward"),
        point=point(fields),
        simulated=bool(yes_or_no(fields, "simulated")),
    )


def crime(fields: Fields, reading: Reading) -> IncidentReport | OutOfScope:
    """One crime whose IUCR code the policy has in scope. The code names the offence, not whether a shot hit."""
    event = reading.policy.event_kinds.get(_iucr(fields))
    if event is None:
        return OutOfScope(fields.get(CRIME_TYPE) or "no type")
    occurred_at = time(fields, "date", reading.zone)
    number, name = area(fields)
    return IncidentReport(
        source="cpd",
        report_id="CRIME-" + required(fields, "id", "the record's id"),
        incident_number=required(fields, "case_number", "the case number"),
        occurred_at=occurred_at,
        revised_at=optional_time(fields, "updated_on", reading.zone) or occurred_at,
        event=event,
        gunshot_injury=None,
        block=optional(fields, "block"),
        location_type=optional(fields, "location_description"),
        published_area=number,
        published_area_name=name,
        beat=beat(fields),
        district=number_text(fields, "district"),
        ward=number_text(fields, "ward"),
        point=point(fields),
        simulated=bool(yes_or_no(fields, "simulated")),
    )


def _iucr(fields: Fields) -> str:
    """The code with the leading zeros that spreadsheets eat: `41A` is `041A`, `110` is `0110`."""
    return required(fields, "iucr", "an IUCR code").upper().zfill(4)


def _validity(fields: Fields) -> Validity:
    return "unfounded" if fields.get("validity", "").upper() == "UNFOUNDED" else "valid"
