"""Made-up files in the city's formats, in both header styles. No row is taken from real data."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

Cells = Mapping[str, str]

PERSONS = ("PLANTED QUINCY", "PLANTED-AGE", "PLANTED-SEX", "PLANTED-RACE")
"""What stands in the columns about persons; it must never come out anywhere."""

VICTIM = {
    "CASE_NUMBER": "ZZ100001", "DATE": "2024-12-31 23:26:00", "BLOCK": "100 E MADE UP ST",
    "VICTIMIZATION_PRIMARY": "BATTERY", "INCIDENT_PRIMARY": "BATTERY", "GUNSHOT_INJURY_I": "YES",
    "UNIQUE_ID": "SHOOT-ZZ100001-#1", "ZIP_CODE": "60600", "WARD": "", "COMMUNITY_AREA": "ENGLEWOOD",
    "DISTRICT": "7", "BEAT": "0713", "VICTIM_NAME": PERSONS[0], "AGE": PERSONS[1], "SEX": PERSONS[2],
    "RACE": PERSONS[3], "LOCATION_DESCRIPTION": "STREET", "UPDATED": "2025-01-18T03:11:58.000",
    "LATITUDE": "41.7791", "LONGITUDE": "-87.6445",
}  # fmt: skip

ALERT = {
    "DATE": "01/31/2024 01:05:09 AM", "BLOCK": "200 W MADE UP ST", "COMMUNITY_AREA": "", "BEAT": "",
    "UNIQUE_ID": "SST-1", "INCIDENT_TYPE_DESCRIPTION": "MULTIPLE GUNSHOTS", "ROUNDS": "4",
    "LATITUDE": "41.78", "LONGITUDE": "-87.64",
}  # fmt: skip

CRIME = {
    "ID": "900001", "Case Number": "ZZ100002", "Date": "07/04/2024 12:30:00 AM",
    "Block": "040XX W MADE UP ST", "IUCR": "110", "Primary Type": "HOMICIDE",
    "Description": "FIRST DEGREE MURDER", "Location Description": "ALLEY", "Arrest": "false",
    "Beat": "322", "District": "003", "Ward": "6", "Community Area": "69", "FBI Code": "01A",
    "Updated On": "07/11/2024 03:41:59 PM", "Latitude": "", "Longitude": "",
}  # fmt: skip

REQUEST = {
    "SR_NUMBER": "SR24-1", "SR_TYPE": "Street Light Out Complaint", "SR_SHORT_CODE": "SFD",
    "OWNER_DEPARTMENT": "CDOT - Department of Transportation", "STATUS": "Completed",
    "CREATED_DATE": "12/02/2024 08:15:00 AM", "LAST_MODIFIED_DATE": "12/05/2024 04:00:00 PM",
    "CLOSED_DATE": "12/05/2024 03:59:00 PM", "STREET_ADDRESS": "1 E MADE UP ST", "DUPLICATE": "false",
    "LEGACY_RECORD": "false", "PARENT_SR_NUMBER": "", "COMMUNITY_AREA": "68", "WARD": "16",
    "POLICE_BEAT": "0713", "LATITUDE": "41.7791", "LONGITUDE": "-87.6445",
}  # fmt: skip

LEGACY = {
    "Creation Date": "2011-01-01T00:00:00", "Status": "Completed - Dup",
    "Completion Date": "2011-01-03T00:00:00", "Service Request Number": "11-1",
    "Type of Service Request": "Graffiti Removal", "What Type of Surface is the Graffiti on?": "Brick",
    "Street Address": "1 S MADE UP AVE", "ZIP Code": "60600", "Ward": "11", "Police District": "9",
    "Community Area": "59", "Latitude": "41.8266", "Longitude": "-87.6725",
}  # fmt: skip


def snake(cells: Cells) -> dict[str, str]:
    """The same row with the portal API's column names."""
    return {name.lower().replace(" ", "_").replace("?", ""): value for name, value in cells.items()}


def title(cells: Cells) -> dict[str, str]:
    """The same row with the column names of a CSV export."""
    return {name.replace("_", " ").title(): value for name, value in snake(cells).items()}


def write_csv(path: Path, rows: Sequence[Cells], bom: bool = False) -> Path:
    """A CSV file whose header is the first row's columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8-sig" if bom else "utf-8", newline="")
    return path


def write_json(path: Path, rows: Sequence[Cells], lines: bool = False) -> Path:
    """A JSON array, or JSON lines, without the blank fields, as the portal answers."""
    present = [{name: value for name, value in snake(row).items() if value} for row in rows]
    text = "\n".join(map(json.dumps, present)) + "\n" if lines else json.dumps(present, indent=1)
    path.write_text(text, encoding="utf-8")
    return path
