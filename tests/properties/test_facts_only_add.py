"""Pure: a fold is a function of the set of its facts, and whatever a part of them led to, all of them still
look at. That is what lets the stream take back what an order of arrival did too early."""

from collections.abc import Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agents.dispatch.decide import DispatchInputs
from agents.dispatch.decide import decide as dispatch
from agents.intake.fold import IncidentInputs, IssueInputs, fold_incident, fold_issue
from agents.recount import counts_issue, counts_neighbour, latest, may_be_one, may_extend
from agents.triage.decide import TriageInputs
from agents.triage.decide import decide as triage
from agents.triage.neighbour import Neighbour, seen
from infra.policy.load import load_policy
from schemas.base import Point
from schemas.incident import Incident, IncidentReport, incident_id_of
from schemas.issue import Issue, IssueReport
from schemas.policy import Policy
from schemas.response import Location, Response
from tests.properties.worlds import incident_reports, issue_reports

quick = settings(deadline=None, max_examples=100)


def one_case(number: str) -> st.SearchStrategy[list[IncidentReport]]:
    reports = incident_reports.map(lambda one: one.model_copy(update={"incident_number": number}))
    return st.lists(reports, min_size=1, max_size=6, unique_by=repr)


def own_or_duplicate(report: IssueReport) -> bool:
    return report.request_number == "SR1" or report.parent_number == "SR1"


one_request = st.lists(issue_reports.filter(own_or_duplicate), min_size=1, max_size=6, unique_by=repr)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy()


def incident_of(reports: Sequence[IncidentReport]) -> Incident:
    return fold_incident(IncidentInputs(reports=tuple(reports)))


def issue_of(reports: Sequence[IssueReport]) -> Issue:
    return fold_issue(IssueInputs(source="city_311", request_number="SR1", reports=tuple(reports)))


def located(point: Point | None) -> Location:
    """West Garfield Park has priority; Lincoln Park, where the last of the points lies, has not."""
    area = None if point is None else 26 if point.lat < 41.9 else 7
    rule = "point_inside_area" if point else "no_location"
    return Location.model_validate(
        {"area": area, "computed_area": area, "published_area": None, "rule": rule, "differs": False}
    )


def response_to(incident: Incident, policy: Policy) -> Response | None:
    locations = tuple(located(phase.point) for phase in incident.ever)
    return triage(TriageInputs(incident=incident, locations=locations), policy)[0].response


def asked(response: Response | None, issue: Issue | None, policy: Policy) -> set[str]:
    if response is None:
        return set()
    commands = dispatch(DispatchInputs(response=response, issue=issue), policy)
    return {command.order_key for command, _ in commands}


@given(reports=one_case("JH1").flatmap(lambda reports: st.tuples(st.just(reports), st.permutations(reports))))
@quick
def test_an_incident_is_the_same_whatever_the_order_of_its_reports(
    reports: tuple[list[IncidentReport], list[IncidentReport]],
) -> None:
    assert incident_of(reports[0]) == incident_of(reports[1])


@given(reports=one_request.flatmap(lambda reports: st.tuples(st.just(reports), st.permutations(reports))))
@quick
def test_an_issue_is_the_same_whatever_the_order_of_its_reports(
    reports: tuple[list[IssueReport], list[IssueReport]],
) -> None:
    assert issue_of(reports[0]) == issue_of(reports[1])


@given(reports=one_case("JH1"), known=st.integers(1, 5))
@quick
def test_each_new_report_raises_the_version_by_one(reports: list[IncidentReport], known: int) -> None:
    versions = [incident_of(reports[: count + 1]).version for count in range(len(reports))]
    assert versions == list(range(1, len(reports) + 1))


@given(
    reports=one_case("JH1"), others=one_case("JH2"), known=st.integers(1, 5), known_others=st.integers(1, 5)
)
@quick
def test_a_neighbour_that_was_counted_stays_counted(
    policy: Policy, reports: list[IncidentReport], others: list[IncidentReport], known: int, known_others: int
) -> None:
    assume(counts_neighbour(incident_of(reports[:known]), incident_of(others[:known_others]), policy))
    assert counts_neighbour(incident_of(reports), incident_of(others), policy)


@given(
    reports=one_case("JH1"), requests=one_request, known=st.integers(1, 5), known_requests=st.integers(1, 5)
)
@quick
def test_an_issue_that_was_counted_stays_counted(
    policy: Policy,
    reports: list[IncidentReport],
    requests: list[IssueReport],
    known: int,
    known_requests: int,
) -> None:
    assume(counts_issue(incident_of(reports[:known]), issue_of(requests[:known_requests]), policy))
    assert counts_issue(incident_of(reports), issue_of(requests), policy)


@given(
    reports=one_case("JH1"), requests=one_request, known=st.integers(1, 5), known_requests=st.integers(1, 5)
)
@quick
def test_work_that_was_once_asked_for_is_decided_on_again(
    policy: Policy,
    reports: list[IncidentReport],
    requests: list[IssueReport],
    known: int,
    known_requests: int,
) -> None:
    before, after = (response_to(incident_of(one), policy) for one in (reports[:known], reports))
    assert asked(before, None, policy) <= asked(after, None, policy)
    assert asked(before, issue_of(requests[:known_requests]), policy) <= asked(
        after, issue_of(requests), policy
    )


@given(reports=one_case("JH1"))
@quick
def test_a_single_report_revised_without_contradictions_has_nothing_void(
    reports: list[IncidentReport],
) -> None:
    revisions = {
        one.revised_at: one.model_copy(update={"source": "cpd", "report_id": "1"}) for one in reports
    }
    incident = incident_of(list(revisions.values()))
    assert (incident.incident_id, incident.void_phases) == (incident_id_of("JH1"), ())


@given(
    reports=one_case("JH1"),
    others=one_case("JH2"),
    known=st.integers(1, 5),
    known_others=st.integers(0, 5),
    requests=one_request,
)
@quick
def test_work_asked_for_with_less_known_of_the_neighbours_is_decided_on_again(
    policy: Policy,
    reports: list[IncidentReport],
    others: list[IncidentReport],
    known: int,
    known_others: int,
    requests: list[IssueReport],
) -> None:
    """A neighbour may link an incident, or extend its window, and may be taken back: nothing asked for is forgotten."""
    light = issue_of(requests)
    before = response_among(reports[:known], others[:known_others], policy)
    after = response_among(reports, others, policy)
    assert asked(before, None, policy) <= asked(after, None, policy)
    assert asked(before, light, policy) <= asked(after, light, policy)


def response_among(
    reports: Sequence[IncidentReport], others: Sequence[IncidentReport], policy: Policy
) -> Response | None:
    """The response when this is known of another incident; nothing when there is no report of it."""
    incident = incident_of(reports)
    locations = tuple(located(phase.point) for phase in incident.ever)
    around: tuple[Neighbour, ...] = ()
    if others:
        other = incident_of(others)
        extends = latest(other) if may_extend(incident, other, policy) else None
        if counts_neighbour(incident, other, policy):
            around = (seen(other, is_kin=may_be_one(incident, other, policy), may_extend_from=extends),)
    inputs = TriageInputs(incident=incident, locations=locations, neighbours=around)
    return triage(inputs, policy)[0].response
