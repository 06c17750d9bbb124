"""Made-up reports for the tests of the pure decisions: one shooting, one street light, a block apart."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from agents.intake.fold import IncidentInputs, IssueInputs, fold_incident, fold_issue
from agents.triage.decide import TriageInputs
from agents.triage.decide import decide as decide_triage
from schemas.base import Point
from schemas.incident import Incident, IncidentReport
from schemas.issue import Issue, IssueReport
from schemas.policy import Policy
from schemas.response import Location, Response

AT = datetime(2025, 7, 4, 3, 12, tzinfo=UTC)
HERE = Point(lat=41.8800, lon=-87.7300)
NEAR = Point(lat=41.8805, lon=-87.7300)  # 56 m north
FAR = Point(lat=41.8900, lon=-87.7300)  # 1.1 km north
INSIDE = Location(area=26, computed_area=26, published_area=None, rule="point_inside_area", differs=False)


def day(number: float) -> datetime:
    return AT + timedelta(days=number)


def report(**changed: Any) -> IncidentReport:
    """A man was shot on the street; the source knows it the next day."""
    fields: dict[str, Any] = {
        "source": "cpd", "report_id": "V1", "incident_number": "JH1", "occurred_at": AT, "revised_at": day(1),
        "event": "assault", "gunshot_injury": True, "block": "4000 W WASHINGTON BLVD", "point": HERE,
    }  # fmt: skip
    return IncidentReport.model_validate(fields | changed)


def request(**changed: Any) -> IssueReport:
    """A street light has been out for two days."""
    fields: dict[str, Any] = {
        "source": "city_311", "request_number": "SR1", "category": "street_light", "status": "open",
        "created_at": day(-2), "revised_at": day(-2), "address": "4015 W WASHINGTON BLVD",
        "published_area": 26, "point": NEAR,
    }  # fmt: skip
    return IssueReport.model_validate(fields | changed)


def incident(*reports: IncidentReport) -> Incident:
    return fold_incident(IncidentInputs(reports=reports or (report(),)))


def issue(*reports: IssueReport, number: str = "SR1") -> Issue:
    return fold_issue(IssueInputs(source="city_311", request_number=number, reports=reports or (request(),)))


def triaged(one: Incident, locations: Sequence[Location] = (), **around: Any) -> TriageInputs:
    """What triage looks at; every phase lies in West Garfield Park unless told."""
    return TriageInputs(incident=one, locations=tuple(locations) or (INSIDE,) * len(one.ever), **around)


def response(one: Incident, policy: Policy) -> Response:
    decided = decide_triage(triaged(one), policy)[0].response
    assert decided is not None
    return decided
