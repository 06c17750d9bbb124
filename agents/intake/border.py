"""Pure: what the border lets in. A refusal names the rule, the field, what was expected, what to do."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from schemas.base import Point
from schemas.dead_letter import Reason
from schemas.incident import IncidentReport
from schemas.issue import IssueReport
from schemas.policy import City, Policy


class Refusal(NamedTuple):
    """Why a report cannot be let in."""

    reason: Reason
    field: str
    expected: str


def refuse_incident_report(report: IncidentReport, policy: Policy, now: datetime) -> Refusal | None:
    """The first rule that the report breaks, None when it may come in."""
    return (
        refuse_point(report.point, policy.city)
        or refuse_time("occurred_at", report.occurred_at, policy.city, now)
        or refuse_time("revised_at", report.revised_at, policy.city, now)
        or _refuse_area(report.published_area, policy)
    )


def refuse_issue_report(report: IssueReport, policy: Policy, now: datetime) -> Refusal | None:
    """The first rule that the report breaks, None when it may come in."""
    return (
        _refuse_category(report.category, policy)
        or refuse_point(report.point, policy.city)
        or refuse_time("created_at", report.created_at, policy.city, now)
        or refuse_time("revised_at", report.revised_at, policy.city, now)
        or _refuse_area(report.published_area, policy)
    )


def refuse_point(point: Point | None, city: City) -> Refusal | None:
    """Coordinates that no place of this city can have."""
    if point is None or city.extent.holds(point.lat, point.lon):
        return None
    extent = city.extent
    within = (
        f"{city.name} lies within latitude {extent.min_lat} to {extent.max_lat}"
        f" and longitude {extent.min_lon} to {extent.max_lon}"
    )
    if point.lat == 0 and point.lon == 0:
        hint = "0, 0 stands for 'not geocoded': leave the point out"
    elif extent.holds(point.lon, point.lat):
        hint = "latitude and longitude look swapped: send them the other way round"
    else:
        hint = "correct the coordinates, or leave the point out and name the area"
    return Refusal("impossible_place", "point", f"{within}; {hint}.")


def refuse_time(field: str, at: datetime, city: City, now: datetime) -> Refusal | None:
    """Times before the city's earliest date, or further ahead of our clock than the allowed skew."""
    if at > now + timedelta(seconds=city.future_skew_s):
        return Refusal(
            "impossible_time",
            field,
            f"not later than {city.future_skew_s} s after it is received; check the sender's clock and zone,"
            " then retry.",
        )
    if at < datetime(city.earliest.year, city.earliest.month, city.earliest.day, tzinfo=UTC):
        return Refusal("impossible_time", field, f"not before {city.earliest.isoformat()}; correct the date.")
    return None


def _refuse_category(category: str, policy: Policy) -> Refusal | None:
    if policy.category(category) is not None:
        return None
    known = ", ".join(sorted(one.code for one in policy.categories))
    return Refusal("unknown_category", "category", f"one of {known}.")


def _refuse_area(number: int | None, policy: Policy) -> Refusal | None:
    if number is None or policy.area(number) is not None:
        return None
    return Refusal("invalid", "published_area", f"the number of an area of {policy.city.name}, or nothing.")
