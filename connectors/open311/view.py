"""Pure: what we hold, in the standard's words. What the public reads tells of places only by the block."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from connectors.open311.model import Document, Many, Value, w3_time
from connectors.open311.parameters import Status
from schemas.base import Point
from schemas.issue import Issue, RequestStatus
from schemas.policy import Category, Policy
from schemas.work_order import DepartmentState, DepartmentWorkOrder

SPECIFICATION: Final = "http://wiki.open311.org/GeoReport_v2"
PUBLIC_DECIMALS: Final = 3  # of a degree: about a hundred metres, a block

STATUS_OF_STATE: Final[dict[DepartmentState, Status]] = {
    "new": "open", "acknowledged": "open", "in_progress": "open", "on_hold": "open", "reopened": "open",
    "resolved": "closed", "verified": "closed", "cancelled": "closed", "rejected": "closed",
}  # fmt: skip
STATES_OF_STATUS: Final[dict[Status, tuple[DepartmentState, ...]]] = {
    "open": tuple(state for state, status in STATUS_OF_STATE.items() if status == "open"),
    "closed": tuple(state for state, status in STATUS_OF_STATE.items() if status == "closed"),
}
STATUS_OF_REQUEST: Final[dict[RequestStatus, Status]] = {
    "open": "open", "completed": "closed", "canceled": "closed",
}  # fmt: skip
REQUESTS_OF_STATUS: Final[dict[Status, tuple[RequestStatus, ...]]] = {
    "open": ("open",), "closed": ("completed", "canceled"),
}  # fmt: skip
NOTES_OF_REQUEST: Final[dict[RequestStatus, str | None]] = {
    "open": None, "completed": "Completed.", "canceled": "Canceled.",
}  # fmt: skip
NOTICE: Final = (
    "Kept: the kind of service, and the place. Not kept: your description, your name, how to reach you."
)

_HOUSE: Final = re.compile(
    r"^(?P<number>\d{1,6})(?:\s*-\s*\d{1,6})?[A-Z]?\s+"
    r"(?P<street>(?:(?:N|S|E|W|NORTH|SOUTH|EAST|WEST)\.?\s+)?[A-Z0-9][A-Z0-9 .'\u2019]{1,60}?)"
    r"(?:\s*(?:,|#|\bAPT\b|\bAPARTMENT\b|\bUNIT\b|\bSTE\b|\bSUITE\b|\bFL\b|\bFLOOR\b|\bRM\b|\bROOM\b).*)?$",
    re.IGNORECASE,
)

_TELEPHONE: Final = re.compile(r"\b\d{2,}\b")  # no street is called so; `79TH` is


class Listed(NamedTuple):
    """A request as it is stored, and the number of the one that it repeats."""

    issue: Issue
    requested_at: datetime
    updated_at: datetime
    parent_number: str | None


class Told(NamedTuple):
    """An order as its department was told of it last, and when that was."""

    order: DepartmentWorkOrder
    updated_at: datetime


def service_codes(policy: Policy) -> dict[str, str]:
    """The category of every service code that is understood: a category may have several."""
    return {
        code: category.code
        for category in policy.categories
        for code in (*category.open311_codes, category.code)
    }


def service_code_of(category: Category) -> str:
    """The code that we list for a category: the first of its Open311 codes, else its own."""
    return category.open311_codes[0] if category.open311_codes else category.code


def services(policy: Policy) -> Document:
    """`GET services`: one for each category."""
    return Document("services", Many("service", [_service(one, policy) for one in policy.categories]))


def _service(category: Category, policy: Policy) -> dict[str, Value]:
    return {
        "service_code": service_code_of(category),
        "service_name": category.name,
        "description": f"{category.name}: {category.fix_title}.",
        "metadata": False,
        "type": "batch",
        "keywords": ", ".join(name.replace(",", " ") for name in category.sr_types) or None,
        "group": _agency(category.department, policy),
    }


def definition(category: Category) -> Document:
    """`GET services/{code}`: no service asks for more than the standard's own arguments."""
    return Document(
        "service_definition",
        {"service_code": service_code_of(category), "attributes": Many("attribute", [])},
    )


def discovery(endpoint: str, changed_at: datetime, contact: str) -> Document:
    """The service discovery document; `changed_at`: when the services may have changed last."""
    formats = Many("format", ["text/xml", "application/json"])
    one: dict[str, Value] = {
        "specification": SPECIFICATION,
        "url": endpoint,
        "changeset": w3_time(changed_at),
        "type": "production",
        "formats": formats,
    }
    return Document(
        "discovery",
        {
            "changeset": w3_time(changed_at),
            "contact": contact,
            "key_service": f"Keys are given by hand. {contact}",
            "endpoints": Many("endpoint", [one]),
        },
    )


def receipt(token: str) -> Document:
    """The answer to `POST requests`."""
    return _requests([{"token": token, "service_notice": NOTICE, "account_id": None}])


def redeemed(token: str, number: str | None) -> Document:
    """The answer to `GET tokens/{token}`; no number yet: the request is on its way."""
    return _requests([{"service_request_id": number, "token": token}])


def requests(found: Sequence[Mapping[str, Value]]) -> Document:
    """The answer to `GET requests`."""
    return _requests(found)


def _requests(found: Sequence[Mapping[str, Value]]) -> Document:
    return Document("service_requests", Many("request", list(found)))


def public_request(listed: Listed, policy: Policy, *, extensions: bool) -> dict[str, Value]:
    """A request as everybody may read it: of its kind, its block and its status, and of nothing else."""
    issue, now = listed.issue, listed.issue.now
    category = policy.category(now.category)
    shown: dict[str, Value] = {
        "service_request_id": issue.request_number,
        "status": STATUS_OF_REQUEST[issue.status],
        "status_notes": "Duplicate request." if now.folded else NOTES_OF_REQUEST[issue.status],
        "service_name": category.name if category else now.category,
        "service_code": service_code_of(category) if category else now.category,
        "description": category.name if category else None,
        "agency_responsible": _agency(category.department if category else None, policy),
        "service_notice": None,
        "requested_datetime": w3_time(listed.requested_at),
        "updated_datetime": w3_time(_updated(issue, listed.updated_at)),
        "expected_datetime": None,
    }
    shown |= _place(public_block(now.address), public_point(now.point))
    if extensions:
        shown["extended_attributes"] = {
            "channel": issue.source,
            "community_area": now.published_area,
            "duplicate": now.folded,
            "parent_service_request_id": listed.parent_number,
        }
    return shown


def _updated(issue: Issue, known_at: datetime) -> datetime:
    """Of what is closed: when it was closed."""
    return issue.closed_at if issue.status != "open" and issue.closed_at else known_at


def order_request(told: Told, department: str, policy: Policy, *, extensions: bool) -> dict[str, Value]:
    """An order as its department reads it, with its own key. All of it is from the department's own view."""
    order = told.order
    category = policy.category(order.category)
    shown: dict[str, Value] = {
        "service_request_id": order.reference,
        "status": STATUS_OF_STATE[order.state],
        "status_notes": _notes(order),
        "service_name": category.name if category else order.category,
        "service_code": service_code_of(category) if category else order.category,
        "description": order.title,
        "agency_responsible": _agency(department, policy),
        "service_notice": None,
        "requested_datetime": w3_time(_start_of(told, policy)),
        "updated_datetime": w3_time(told.updated_at),
        "expected_datetime": w3_time(order.estimate) if order.estimate else None,
    }
    shown |= _place(order.address, order.point)
    if extensions:
        shown["extended_attributes"] = _extended(order)
    return shown


def _start_of(told: Told, policy: Policy) -> datetime:
    """The day on which it was requested, as the moment at which that day begins in the city."""
    zone = ZoneInfo(policy.city.time_zone)
    return datetime.combine(told.order.requested_on, time(), zone).astimezone(UTC)


def _notes(order: DepartmentWorkOrder) -> str:
    codes = {"outcome": order.outcome, "reason": order.hold_reason}
    more = [f"{name}: {code.replace('_', ' ')}" for name, code in codes.items() if code]
    return ", ".join([order.state.replace("_", " ").capitalize(), *more]) + "."


def _extended(order: DepartmentWorkOrder) -> dict[str, Value]:
    return {
        "state": order.state,
        "version": order.version,
        "priority": order.priority,
        "work": order.work,
        "community_area": order.area,
        "outcome": order.outcome,
        "hold_reason": order.hold_reason,
        "crew": order.crew,
        "service_requests": Many("service_request_id", list(order.service_requests)),
        "simulated": order.simulated,
    }


def _place(address: str | None, point: Point | None) -> dict[str, Value]:
    return {
        "address": address,
        "address_id": None,
        "zipcode": None,
        "lat": point.lat if point else None,
        "long": point.lon if point else None,
        "media_url": None,
    }


def _agency(code: str | None, policy: Policy) -> str | None:
    department = policy.department(code) if code else None
    return department.name if department else None


def public_block(address: str | None) -> str | None:
    """The block of an address: `4000 W WEST END AVE` for `4015 W WEST END AVE APT 3`.

    None for what does not begin like an address: people write all sorts of things into that field.
    """
    found = _HOUSE.match(address.strip()) if address else None
    if found is None or _TELEPHONE.search(found["street"]):
        return None
    return f"{int(found['number']) // 100 * 100} {' '.join(found['street'].split())}".upper()


def public_point(point: Point | None) -> Point | None:
    """The point to about a block."""
    return (
        Point(lat=round(point.lat, PUBLIC_DECIMALS), lon=round(point.lon, PUBLIC_DECIMALS)) if point else None
    )
