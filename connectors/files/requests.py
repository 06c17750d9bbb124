"""Rows about 311 service requests -> IssueReport: the current system (v6vf-nfxy) and the legacy datasets.

A request whose type belongs to no category of the policy is out of scope; so is `311 INFORMATION ONLY CALL`,
which carries the 311 Center's own address.
"""

from datetime import datetime
from typing import Final

from connectors.files.errors import RowDefect
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
from schemas.issue import IssueReport, RequestStatus

REQUEST_COLUMNS: Final = {
    "request_number": "sr_number",
    "category": "sr_type",
    "service_code": "sr_short_code",
    "status": "status",
    "created_at": "created_date",
    "revised_at": "last_modified_date",
    "closed_at": "closed_date",
    "duplicate": "duplicate",
    "parent_number": "parent_sr_number",
    "address": "street_address",
    "published_area": "community_area",
    "published_area_name": "community_area",
    "ward": "ward",
    "beat": "police_beat",
    "simulated": "simulated",
}

LEGACY_COLUMNS: Final = {
    "request_number": "service_request_number",
    "category": "type_of_service_request",
    "service_code": "type_of_service_request",
    "status": "status",
    "created_at": "creation_date",
    "revised_at": "completion_date",
    "closed_at": "completion_date",
    "address": "street_address",
    "published_area": "community_area",
    "published_area_name": "community_area",
    "ward": "ward",
    "simulated": "simulated",
}

_STATUSES: Final[dict[str, RequestStatus]] = {
    "OPEN": "open",
    "COMPLETED": "completed",
    "CANCELED": "canceled",
    "CANCELLED": "canceled",
}
_DUPLICATE_STATUS: Final = " - DUP"  # legacy: `Open - Dup`, `Completed - Dup`


def request(fields: Fields, reading: Reading) -> IssueReport | OutOfScope:
    """One request of the current system."""
    code, type_name = optional(fields, "sr_short_code"), required(fields, "sr_type", "the type of request")
    category = reading.policy.category_of_sr(code, type_name)
    if category is None:
        return OutOfScope(type_name)
    status, duplicate = _status(fields)
    duplicate = duplicate or bool(yes_or_no(fields, "duplicate"))
    created_at = time(fields, "created_date", reading.zone)
    closed_at = optional_time(fields, "closed_date", reading.zone)
    number, name = area(fields)
    return IssueReport(
        source="311",
        request_number=required(fields, "sr_number", "the request's number"),
        category=category.code,
        service_code=code or type_name,
        status=status,
        created_at=created_at,
        revised_at=optional_time(fields, "last_modified_date", reading.zone) or closed_at or created_at,
        closed_at=_closed(status, closed_at),
        duplicate=duplicate,
        parent_number=_parent(fields) if duplicate else None,
        address=optional(fields, "street_address"),
        published_area=number,
        published_area_name=name,
        ward=number_text(fields, "ward"),
        beat=beat(fields, "police_beat"),
        point=point(fields),
        simulated=bool(yes_or_no(fields, "simulated")),
    )


def legacy_request(fields: Fields, reading: Reading) -> IssueReport | OutOfScope:
    """One request of the system before December 2018. A duplicate does not say of which request."""
    type_name = required(fields, "type_of_service_request", "the type of request")
    category = reading.policy.category_of_sr(None, type_name)
    if category is None:
        return OutOfScope(type_name)
    status, duplicate = _status(fields)
    created_at = time(fields, "creation_date", reading.zone)
    closed_at = optional_time(fields, "completion_date", reading.zone)
    number, name = area(fields)
    return IssueReport(
        source="311",
        request_number=required(fields, "service_request_number", "the request's number"),
        category=category.code,
        service_code=type_name,
        status=status,
        created_at=created_at,
        revised_at=closed_at or created_at,
        closed_at=_closed(status, closed_at),
        duplicate=duplicate,
        address=optional(fields, "street_address"),
        published_area=number,
        published_area_name=name,
        ward=number_text(fields, "ward"),
        point=point(fields),
        simulated=bool(yes_or_no(fields, "simulated")),
    )


def _status(fields: Fields) -> tuple[RequestStatus, bool]:
    """The status, and whether it says that the request is a duplicate."""
    text = required(fields, "status", "a status").upper()
    status = _STATUSES.get(text.removesuffix(_DUPLICATE_STATUS))
    if status is None:
        raise RowDefect("Open, Completed or Canceled, with or without ' - Dup'", "status")
    return status, text.endswith(_DUPLICATE_STATUS)


def _closed(status: RequestStatus, closed_at: datetime | None) -> datetime | None:
    """A request that is open again keeps its old closing date in the source; it is not closed."""
    return None if status == "open" else closed_at


def _parent(fields: Fields) -> str | None:
    """The request that this one repeats; one that names itself names none."""
    parent = optional(fields, "parent_sr_number")
    return None if parent == fields.get("sr_number") else parent
