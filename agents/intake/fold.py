"""Pure: what the reports about one case or one request add up to, whatever the order they came in."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import groupby, product
from typing import TypeVar
from uuid import UUID

from schemas.base import Record
from schemas.incident import Incident, IncidentKind, IncidentPhase, IncidentReport, Validity, incident_id_of
from schemas.issue import Issue, IssuePhase, IssueReport, RequestStatus, issue_id_of

R = TypeVar("R", IncidentReport, IssueReport)
P = TypeVar("P", IncidentPhase, IssuePhase)


class IncidentInputs(Record):
    """Every revision known of every report of one case, contradicting ones too, in byte order of the JSON."""

    reports: tuple[IncidentReport, ...]


class IssueInputs(Record):
    """Every revision known of one request, and of the requests that ever named it as their parent, in byte
    order of their JSON."""

    source: str
    request_number: str
    reports: tuple[IssueReport, ...]


def agreed(reports: Sequence[R], identity: Callable[[R], str]) -> tuple[list[R], list[R]]:
    """The revisions that count, oldest first, and those that contradict one of them.

    Two contents under the same id and revision cannot both be true, and no clock tells which is: the
    smaller one in byte order counts, so that every worker and every replay takes the same.
    """
    if len(reports) == 1:  # nearly always
        return list(reports), []
    counted: list[R] = []
    contradicting: list[R] = []
    ordered = sorted(reports, key=lambda report: (report.revised_at, identity(report)))
    for _, same in groupby(ordered, key=lambda report: (report.revised_at, identity(report))):
        contents = _by_content(list(same))
        counted.append(contents[0])
        contradicting += contents[1:]
    return counted, contradicting


def _by_content(reports: list[R]) -> list[R]:
    if len(reports) == 1:  # writing JSON just to sort one takes its time
        return reports
    return sorted(reports, key=lambda report: report.model_dump_json())


def incident_report_identity(report: IncidentReport) -> str:
    """What makes two revisions the same report."""
    return f"{report.source}:{report.report_id}"


def issue_report_identity(report: IssueReport) -> str:
    """What makes two revisions the same report."""
    return f"{report.source}:{report.request_number}"


# --- incidents ------------------------------------------------------------------------------------------


def fold_incident(inputs: IncidentInputs) -> Incident:
    """The incident that these reports describe. At least one report."""
    counted, _ = agreed(inputs.reports, incident_report_identity)
    latest: dict[str, IncidentReport] = {}
    phases: list[IncidentPhase] = []
    for revised_at, revisions in groupby(counted, key=lambda report: report.revised_at):
        latest.update((incident_report_identity(report), report) for report in revisions)
        _append_changed(phases, _incident_phase(revised_at, list(latest.values())))
    reports = sorted(latest.values(), key=lambda report: (report.source, report.report_id))
    head = _representative(reports)
    shot = [report for report in _in_force(reports) if report.gunshot_injury]
    killed = [report for report in shot if report.event == "homicide"]
    phases = _from_the_event_on(phases)
    return Incident(
        incident_id=incident_id_of(head.incident_number),
        number=head.incident_number,
        version=len(inputs.reports),
        validity=phases[-1].validity,
        kind=phases[-1].kind,
        victims=_most_of_one_source(shot),
        killed=_most_of_one_source(killed),
        occurred_at=phases[-1].occurred_at,
        revised_at=counted[-1].revised_at,
        location_type=head.location_type,
        beat=head.beat,
        district=head.district,
        ward=head.ward,
        phases=tuple(phases),
        void_phases=_void_of_incident(inputs.reports, phases),
        sources=tuple(sorted({report.source for report in reports})),
        simulated=any(report.simulated for report in reports),
    )


def _incident_phase(since: datetime, reports: list[IncidentReport]) -> IncidentPhase:
    head = _representative(reports)
    return IncidentPhase(
        since=since,
        validity=_validity(reports),
        kind=kind_of(_in_force(reports)),
        occurred_at=min(report.occurred_at for report in _in_force(reports)),
        block=head.block,
        published_area_name=head.published_area_name,
        published_area=head.published_area,
        point=head.point,
    )


def _never_held(phases: list[P], said: Iterable[P]) -> tuple[P, ...]:
    """What no phase says, each once, in byte order of the JSON.

    In another order of arrival it may have been acted on before the other reports came. Whoever decides from
    a fold must see it: to take back what it led to, and so that versions, which count what lies around, grow.
    """
    held = {_words_of(phase) for phase in phases}
    candidates = {_words_of(phase): phase for phase in said}
    return tuple(candidates[key] for key in sorted(candidates.keys() - held))


def _words_of(phase: IncidentPhase | IssuePhase) -> bytes:
    """What a phase says, whenever it began, as JSON."""
    return phase.__pydantic_serializer__.to_json(phase, exclude={"since"})


def _void_of_incident(
    reports: Sequence[IncidentReport], phases: list[IncidentPhase]
) -> tuple[IncidentPhase, ...]:
    if len(reports) == 1:  # nearly always: what it says is the one phase
        return ()
    return _never_held(phases, _said_of_incident(reports, phases[0].since))


def _said_of_incident(reports: Sequence[IncidentReport], since: datetime) -> Iterable[IncidentPhase]:
    """All phases that any of these reports alone could make, or more than those: the place is always one
    report's, but of several reports kind and time may be another's."""
    alone = [_incident_phase(since, [report]) for report in reports]
    if len({incident_report_identity(report) for report in reports}) == 1:
        return alone
    kinds = sorted({phase.kind for phase in alone if phase.validity == "valid"})
    known = [phase.occurred_at for phase in alone]
    times = sorted({min(known), max(known)})
    return (
        phase.model_copy(update={"kind": kind, "occurred_at": at})
        for phase in alone
        for kind, at in product(kinds if phase.validity == "valid" else [phase.kind], times)
    )


def _append_changed(phases: list[P], phase: P) -> None:
    """A revision that changes nothing of what a phase says does not begin a new one."""
    if not phases or phase.model_copy(update={"since": phases[-1].since}) != phases[-1]:
        phases.append(phase)


def _from_the_event_on(phases: list[IncidentPhase]) -> list[IncidentPhase]:
    """The first thing known is taken to have been known when it happened: public feeds publish it days
    later, and history is decided as it would have been then."""
    first = phases[0]
    since = min(first.since, first.occurred_at)
    return [first.model_copy(update={"since": since}), *phases[1:]]


def _most_of_one_source(reports: list[IncidentReport]) -> int:
    """Each source tells of a person once; of the persons that two sources tell of, nobody knows which are the same.
    So the one that tells of most is believed, and its count is added to no other."""
    return max(Counter(report.source for report in reports).values(), default=0)


def _validity(reports: list[IncidentReport]) -> Validity:
    return "valid" if any(report.validity == "valid" for report in reports) else "unfounded"


def _in_force(reports: list[IncidentReport]) -> list[IncidentReport]:
    """The valid reports; when all are unfounded, all of them, so that the incident still says what it was."""
    return [report for report in reports if report.validity == "valid"] or reports


def _representative(reports: list[IncidentReport]) -> IncidentReport:
    """The report that speaks for where it was: in force, with a gunshot injury, with a point, lowest id."""
    return min(
        _in_force(reports),
        key=lambda report: (
            not report.gunshot_injury,
            report.point is None,
            report.source,
            report.report_id,
        ),
    )


def kind_of(reports: Sequence[IncidentReport]) -> IncidentKind:
    """The gravest kind that the reports support."""
    if any(report.gunshot_injury and report.event == "homicide" for report in reports):
        return "fatal_shooting"
    if any(report.gunshot_injury for report in reports):
        return "nonfatal_shooting"
    if any(report.event == "gunfire" for report in reports):
        return "gunfire"
    homicides = [report for report in reports if report.event == "homicide"]
    if homicides and all(report.gunshot_injury is None for report in homicides):
        return "homicide_cause_unknown"
    return "not_gun_violence"


# --- issues ---------------------------------------------------------------------------------------------


def fold_issue(inputs: IssueInputs) -> Issue:
    """The issue that these reports describe. At least one report, its own or a duplicate's."""
    identity = f"{inputs.source}:{inputs.request_number}"
    counted, _ = agreed(inputs.reports, issue_report_identity)
    latest: dict[str, IssueReport] = {}
    phases: list[IssuePhase] = []
    for revised_at, revisions in groupby(counted, key=lambda report: report.revised_at):
        latest.update((issue_report_identity(report), report) for report in revisions)
        known = _own_or_duplicates(identity, latest, inputs.request_number)
        _append_changed(
            phases, _issue_phase(revised_at, known or list(latest.values()), identity, bool(known))
        )
    own = latest.get(identity)
    children = _duplicates_of(latest, inputs.request_number, identity)
    known = [own] if own else children or list(latest.values())
    created_at = phases[-1].created_at
    phases[0] = phases[0].model_copy(update={"since": min(phases[0].since, created_at)})
    return Issue(
        issue_id=issue_id_of(inputs.source, inputs.request_number),
        source=inputs.source,
        request_number=inputs.request_number,
        version=len(inputs.reports),
        status=phases[-1].status,
        category=phases[-1].category,
        created_at=created_at,
        closed_at=own.closed_at if own else None,
        folded_into=_parent_id(own) if own else None,
        covers=tuple(sorted({inputs.request_number, *(child.request_number for child in children)})),
        known_by="own_report" if own else "duplicates",
        phases=tuple(phases),
        void_phases=_void_of_issue(inputs, phases),
        simulated=any(report.simulated for report in known),
    )


def _own_or_duplicates(identity: str, latest: dict[str, IssueReport], number: str) -> list[IssueReport]:
    own = latest.get(identity)
    return [own] if own else _duplicates_of(latest, number, identity)


def _duplicates_of(latest: dict[str, IssueReport], number: str, identity: str) -> list[IssueReport]:
    return sorted(
        (report for report in latest.values() if _names(report, number, identity)),
        key=lambda report: (report.created_at, report.request_number),
    )


def _names(report: IssueReport, number: str, identity: str) -> bool:
    """Whether another request says here that this one is its parent."""
    return report.parent_number == number and issue_report_identity(report) != identity


def _issue_phase(since: datetime, reports: list[IssueReport], identity: str, is_named: bool) -> IssuePhase:
    """`is_named` False: no request names this one as its parent any more, and it has no report itself."""
    head = reports[0]
    is_own = issue_report_identity(head) == identity
    status: RequestStatus = head.status if is_own else _status_by_duplicates(reports)
    return IssuePhase(
        since=since,
        status=status if is_named else "canceled",
        created_at=min(report.created_at for report in reports),
        folded=is_own and _parent_id(head) is not None,
        category=head.category,
        address=head.address,
        published_area=head.published_area,
        published_area_name=head.published_area_name,
        point=head.point,
    )


def _void_of_issue(inputs: IssueInputs, phases: list[IssuePhase]) -> tuple[IssuePhase, ...]:
    if len(inputs.reports) == 1:  # what it says is the one phase
        return ()
    return _never_held(phases, _said_of_issue(inputs, phases[0].since))


def _said_of_issue(inputs: IssueInputs, since: datetime) -> Iterable[IssuePhase]:
    """All phases that any of these reports alone could make: always one report's, but of duplicates any open
    one keeps the issue open."""
    identity = f"{inputs.source}:{inputs.request_number}"
    naming = [one for one in inputs.reports if _names(one, inputs.request_number, identity)]
    status = _status_by_duplicates(naming)
    for report in inputs.reports:
        is_own, names = issue_report_identity(report) == identity, report in naming
        phase = _issue_phase(since, [report], identity, is_own or names)
        yield phase.model_copy(update={"status": status}) if names else phase


def _status_by_duplicates(reports: list[IssueReport]) -> RequestStatus:
    """A parent that only its duplicates tell of is open as long as one of them is."""
    return "open" if any(report.status == "open" for report in reports) else "completed"


def _parent_id(report: IssueReport) -> UUID | None:
    if report.parent_number is None or report.parent_number == report.request_number:
        return None
    return issue_id_of(report.source, report.parent_number)
