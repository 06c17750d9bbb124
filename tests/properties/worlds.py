"""Small worlds for property tests: a few incidents and requests, so close that everything touches."""

from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from hypothesis import strategies as st

from schemas.base import Point
from schemas.incident import IncidentReport
from schemas.issue import IssueReport

Report: TypeAlias = IncidentReport | IssueReport

NOON = datetime(2025, 6, 2, 12, tzinfo=UTC)
# West Garfield Park: within a block, two blocks, three blocks; and Lincoln Park, where plans are others.
POINTS = (
    None,
    Point(lat=41.8800, lon=-87.7300),
    Point(lat=41.8808, lon=-87.7300),  # 89 m north
    Point(lat=41.8818, lon=-87.7300),  # 200 m north
    Point(lat=41.8830, lon=-87.7300),  # 334 m north
    Point(lat=41.9220, lon=-87.6480),
)
ADDRESSES = (None, "4015 W Washington Blvd", "040XX W WASHINGTON BLVD", "10 N Pulaski Rd")
HOURS = (0, 0.1, 1, 30, 24 * 13, 24 * 15, 24 * 46, 24 * 400)

moments = st.sampled_from(HOURS).map(lambda hours: NOON + timedelta(hours=hours))
revisions = st.integers(0, 3).map(lambda number: NOON + timedelta(days=number))

incident_reports = st.builds(
    IncidentReport,
    source=st.sampled_from(("cpd", "oemc", "shotspotter")),  # a case, a call, a sensor; some share a number
    report_id=st.sampled_from(("1", "2", "3")),
    incident_number=st.sampled_from(("JH1", "JH2", "JH3", "EV1", "SST1")),
    occurred_at=moments,
    revised_at=revisions,
    validity=st.sampled_from(("valid", "valid", "valid", "unfounded")),
    event=st.sampled_from(("homicide", "assault", "gunfire")),
    gunshot_injury=st.sampled_from((True, True, False, None)),
    block=st.sampled_from(ADDRESSES),
    published_area_name=st.sampled_from((None, "AUSTIN", "LINCOLN PARK", "NOWHERE")),
    point=st.sampled_from(POINTS),
    simulated=st.just(True),
)

_WEST = (-87.7300, -87.7312, -87.7324, -87.7336)  # each 99 m west of the one before

tellings = st.builds(
    lambda source, number, minutes, **fields: IncidentReport(
        source=source, incident_number=f"{source}-{number}", report_id=f"{number}",
        occurred_at=NOON + timedelta(minutes=minutes), simulated=True, **fields,
    ),
    source=st.sampled_from(("cpd", "cad", "shotspotter")),
    number=st.integers(1, 2),
    minutes=st.sampled_from((0, 7, 14, 21, 60 * 24 * 20)),
    revised_at=revisions,
    validity=st.sampled_from(("valid", "valid", "valid", "unfounded")),
    event=st.sampled_from(("homicide", "assault", "gunfire")),
    gunshot_injury=st.sampled_from((True, True, None)),
    block=st.just("4015 W Washington Blvd"),
    published_area_name=st.none(),
    point=st.sampled_from(_WEST).map(lambda lon: Point(lat=41.8800, lon=lon)),
)  # fmt: skip
"""What a case, a call and a sensor say of one or two events on the same few blocks."""

issue_reports = st.builds(
    IssueReport,
    source=st.just("city_311"),
    request_number=st.sampled_from(("SR1", "SR2", "SR3", "SR4")),
    category=st.sampled_from(("street_light", "graffiti", "vacant_lot")),
    status=st.sampled_from(("open", "open", "completed", "canceled")),
    created_at=moments,
    revised_at=revisions,
    closed_at=st.none() | moments,
    parent_number=st.sampled_from((None, None, "SR1", "SR2", "SR3", "SR5")),
    address=st.sampled_from(ADDRESSES),
    published_area=st.sampled_from((None, 25, 26)),
    point=st.sampled_from(POINTS),
    simulated=st.just(True),
)

worlds = st.lists(incident_reports | issue_reports, min_size=2, max_size=14, unique_by=repr)

events_retold = st.lists(tellings | tellings | issue_reports, min_size=3, max_size=14, unique_by=repr)
