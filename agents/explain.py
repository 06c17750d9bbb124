"""Pure: recorded decisions told in words, in the order of the stream. Nothing is decided here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Final, Literal
from uuid import UUID

from agents.dispatch.decide import DispatchInputs
from agents.intake.fold import IncidentInputs, IssueInputs
from agents.orders.decide import NO_LOCATION, REJECTED, ROUTED
from agents.orders.life import CLOSED
from schemas.base import Record
from schemas.decision import DecisionRecord
from schemas.incident import Incident, IncidentPhase, IncidentReport
from schemas.issue import Issue, IssueReport
from schemas.policy import NOBODY_OWNS_IT, OWNER_OF_CATEGORY, Policy
from schemas.response import Location, Response, Tie, TieredArea, TriageDecision, Zone
from schemas.work_order import WorkOrder, WorkOrderCommand, order_id_of, reference_of

StepOf = Literal["report", "incident", "triage", "response", "issue", "cause", "order", "outcome"]

RULES: Final[Mapping[str, str]] = {
    # intake
    "one_report": "A case that one report tells of is one incident.",
    "reports_of_one_case": "Reports that share a case number are one incident.",
    "revised": "The newest revision of each report holds; what was held before is kept as a phase.",
    "unfounded": "What every report calls unfounded did not happen; it opens nothing and ends what is open.",
    "one_request": "One request is one issue.",
    "covers_duplicates": "A request stands for the requests that name it as their parent.",
    "folded_into_parent": "A duplicate is folded into its parent, so that one thing is repaired once.",
    "known_by_duplicates": "A parent that only its duplicates tell of is an issue all the same.",
    # triage
    "respond": "The policy has a plan for this kind of incident in this tier of area.",
    "linked": "Of incidents that are one event, told by several sources, the one of the best source responds.",
    "not_gun_violence": "Only gun violence calls for a response; anything else is kept and opens nothing.",
    "no_plan": "The policy has no plan for this kind of incident in this tier of area.",
    # dispatch
    "open_issue_in_zone": "An open issue of the plan's categories within the response's radius is to be fixed.",
    "standing_inspection": "The plan has the block inspected although nobody has called about it.",
    # orders
    "one_cause": "One cause asks for this work at this site: that is enough for an order.",
    "several_causes": "Several causes ask for the same work at the same site: one order; the highest priority holds.",
    "cancelled": "An order whose every cause has been withdrawn is cancelled.",
    "void": "An order that, as is known by now, nothing ever asked for is void.",
    "acknowledged": "Its department has seen it.",
    "in_progress": "Its department works on it.",
    "on_hold": "Its department waits, for a reason of the policy's list.",
    "resolved": "Its department says that it is done; only the outcome `fixed` counts as fixed.",
    "verified": "The coordination centre has seen that it is done.",
    "reopened": "It was done, and is not.",
    "cancelled_by_person": "The coordination centre cancelled it.",
}
"""What each rule says in general; a decision's own `because` says it of the case."""

STANDINGS: Final[Mapping[str, str]] = {
    "live": "It asks for the work.",
    "withdrawn": "It asked for the work until its incident or its issue was revised or ended.",
    "void": "As is known by now it never asked for the work: incident and issue never held at the same time, or another"
    " incident asks in its place.",
}

STATES: Final[Mapping[str, str]] = {
    "new": "asked for, and not started",
    "acknowledged": "its department has seen it",
    "in_progress": "its department works on it",
    "on_hold": "its department waits",
    "resolved": "its department says that it is done",
    "verified": "somebody has seen that it is done",
    "reopened": "it was done, and is not",
    "cancelled": "it was asked for, and no longer is",
    "void": "as is known by now, it never was asked for",
}

OPENED: Final = (
    "when the first of the causes that it stands on now held; it moves as causes become known or end."
)

LOCATIONS: Final[Mapping[str, str]] = {
    "point_inside_area": "The point lies inside the area.",
    "point_on_border": "The point lies on a border: the published area decides if it touches it.",
    "point_outside_every_area": "The point lies outside every area: the published area decides, if there is one.",
    "published_name_decides": "There is no point: the published area decides.",
    "no_location": "There is neither a point nor a published area.",
}

ROUTINGS: Final[Mapping[str, str]] = {
    OWNER_OF_CATEGORY: "No exception holds: the owner of the category takes it.",
    NOBODY_OWNS_IT: "Nobody owns the category: the triage queue takes it.",
    REJECTED: "Its department says that it is not its work.",
    ROUTED: "The coordination centre gave it to this department.",
    NO_LOCATION: "No crew can be sent to an area as a whole: the triage queue finds out where.",
}


class Step(Record):
    """One step of the story. `in_words`: what its rule says in general; `because`: of this case."""

    step: StepOf
    subject: str
    title: str
    rule: str | None
    in_words: str | None
    because: str
    details: tuple[str, ...] = ()
    version: int | None = None
    policy_version: str | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """What a story is told from: standing decisions by subject, and the policies that they were taken by. `earlier`:
    what triage held before, where that is asked for, the oldest first."""

    incidents: Mapping[UUID, DecisionRecord] = field(default_factory=dict)
    triage: Mapping[UUID, DecisionRecord] = field(default_factory=dict)
    issues: Mapping[UUID, DecisionRecord] = field(default_factory=dict)
    causes: Mapping[UUID, DecisionRecord] = field(default_factory=dict)
    orders: Mapping[UUID, DecisionRecord] = field(default_factory=dict)
    policies: Mapping[str, Policy] = field(default_factory=dict)
    earlier: Sequence[DecisionRecord] = ()


def told(story: Story) -> list[Step]:
    """Every step in the order of the stream: reports, incident, triage, response, issues, causes, orders."""
    return [
        *dict.fromkeys(_report_steps(story)),  # a duplicate's report is its parent's as well
        *map(_incident_step, story.incidents.values()),
        *map(_issue_step, story.issues.values()),
        *(_triage_step(record, _policy(story, record), "Earlier") for record in story.earlier),
        *(_triage_step(record, _policy(story, record)) for record in story.triage.values()),
        *(
            step
            for record in story.triage.values()
            for step in _response_step(record, _policy(story, record))
        ),
        *(_cause_step(record, story) for record in story.causes.values()),
        *(_order_step(record, _policy(story, record)) for record in story.orders.values()),
        _outcome(story),
    ]


def rule_in_words(rule: str) -> str | None:
    """What a decision's rule says in general; of a cause also how it stands (`rule:withdrawn`)."""
    name, _, standing = rule.partition(":")
    words = RULES.get(name)
    return f"{words} {STANDINGS[standing]}" if words and standing in STANDINGS else words


def routing_in_words(rule: str) -> str:
    """Why an order goes to its department: one of our own rules, or an exception named by the policy."""
    return ROUTINGS.get(rule, f"The policy's routing rule {rule} holds.")


def location_in_words(location: Location, policy: Policy | None) -> str:
    """Which areas are known of a place, and which one decided."""
    computed, published = (
        area_name(number, policy) for number in (location.computed_area, location.published_area)
    )
    known = f"by its point: {computed or 'none'}; as published: {published or 'none'}"
    differ = " – they differ" if location.differs else ""
    told = [
        f"Area {area_name(location.area, policy) or 'unknown'} ({known}{differ}). {LOCATIONS[location.rule]}",
        f"By the boundaries {location.boundaries}." if location.boundaries else "",
        *map(_within, location.within),
    ]
    return " ".join(filter(None, told))


def _within(area: TieredArea) -> str:
    """An area with a tier of its own that holds the place."""
    because = f", {area.because}" if area.because else ""
    return f"Within {area.name}{because}: at least {area.tier} (boundaries {area.boundaries})."


def area_name(number: int | None, policy: Policy | None) -> str | None:
    """`Englewood (68)`; only the number when the policy does not know it; None when there is none."""
    if number is None:
        return None
    area = policy.area(number) if policy else None
    return f"{area.name} ({number})" if area else str(number)


def moment(at: datetime) -> str:
    """As people read it, to the minute, in UTC."""
    return f"{at:%Y-%m-%d %H:%M}Z"


def _policy(story: Story, record: DecisionRecord) -> Policy | None:
    return story.policies.get(record.policy_version)


def _step_of(record: DecisionRecord, step: StepOf, title: str, details: Iterable[str] = ()) -> Step:
    return Step(
        step=step,
        subject=str(record.subject),
        title=title,
        rule=record.rule,
        in_words=rule_in_words(record.rule),
        because=record.because,
        details=tuple(details),
        version=record.version,
        policy_version=record.policy_version,
    )


# --- reports --------------------------------------------------------------------------------------------


def _report_steps(story: Story) -> Iterable[Step]:
    for record in story.incidents.values():
        yield from _incident_report_steps(record)
    for record in story.issues.values():
        yield from _issue_report_steps(record)


def _incident_report_steps(record: DecisionRecord) -> list[Step]:
    """A step for each report, with a line for each of its revisions, the oldest first."""
    reports = IncidentInputs.model_validate_json(record.inputs).reports
    ordered = sorted(reports, key=lambda one: (one.source, one.report_id, one.revised_at))
    return [
        _report_step(f"Report {report_id} of {source}", report_id, [_incident_said(one) for one in revisions])
        for (source, report_id), revisions in groupby(ordered, key=lambda one: (one.source, one.report_id))
    ]


def _issue_report_steps(record: DecisionRecord) -> list[Step]:
    reports = IssueInputs.model_validate_json(record.inputs).reports
    ordered = sorted(reports, key=lambda one: (one.source, one.request_number, one.revised_at))
    return [
        _report_step(f"Request {number} of {source}", number, [_issue_said(one) for one in revisions])
        for (source, number), revisions in groupby(ordered, key=lambda one: (one.source, one.request_number))
    ]


def _report_step(title: str, subject: str, said: Sequence[str]) -> Step:
    """The newest revision speaks; the earlier ones are its details."""
    return Step(
        step="report", subject=subject, title=title, rule=None, in_words=None, because=said[-1],
        details=tuple(said[:-1]), version=len(said),
    )  # fmt: skip


def _incident_said(report: IncidentReport) -> str:
    injury = {True: "with a gunshot injury", False: "without a gunshot injury", None: "injury not said"}
    what = f"{_spaced(report.event)}, {injury[report.gunshot_injury]}"
    unfounded = "unfounded: " if report.validity == "unfounded" else ""
    where = report.block or "no block"
    return (
        f"Revision of {moment(report.revised_at)}: {unfounded}{what}, {moment(report.occurred_at)}, {where}."
    )


def _issue_said(report: IssueReport) -> str:
    parent = f", duplicate of {report.parent_number}" if report.parent_number else ""
    where = report.address or "no address"
    return (
        f"Revision of {moment(report.revised_at)}: {_spaced(report.category)}, {report.status},"
        f" reported {moment(report.created_at)}, {where}{parent}."
    )


# --- incident, issue ------------------------------------------------------------------------------------


def _incident_step(record: DecisionRecord) -> Step:
    incident = Incident.model_validate_json(record.output)
    shot = f"{incident.victims} shot, {incident.killed} of them killed"
    title = f"Incident {incident.number}: {_spaced(incident.kind)}, {shot}"
    return _step_of(record, "incident", title, map(phase_in_words, incident.phases))


def phase_in_words(phase: IncidentPhase) -> str:
    """What was held to be true from one revision on."""
    what = "unfounded" if phase.validity == "unfounded" else _spaced(phase.kind)
    return f"Since {moment(phase.since)}: {what}, {moment(phase.occurred_at)}, {phase.block or 'no block'}."


def _issue_step(record: DecisionRecord) -> Step:
    issue = Issue.model_validate_json(record.output)
    title = f"Issue {issue.request_number}: {_spaced(issue.category)}, {issue.status}"
    phases = [
        f"Since {moment(phase.since)}: {phase.status}{', folded' if phase.folded else ''},"
        f" {phase.address or 'no address'}."
        for phase in issue.phases
    ]
    return _step_of(record, "issue", title, phases)


# --- triage, response -----------------------------------------------------------------------------------


def _triage_step(record: DecisionRecord, policy: Policy | None, which: str = "Triage") -> Step:
    decision = TriageDecision.model_validate_json(record.output)
    parts = [f"{part.points:+d} {part.because}" for part in decision.parts]
    title = f"{which}: {_spaced(record.rule)}, {decision.tier} area" + (
        f", severity {decision.severity}" if decision.parts else ""
    )
    return _step_of(record, "triage", title, [location_in_words(decision.location, policy), *parts])


def _response_step(record: DecisionRecord, policy: Policy | None) -> list[Step]:
    """Triage makes the response: it has no decision of its own. None: no phase ever had a plan."""
    decision = TriageDecision.model_validate_json(record.output)
    response = decision.response
    if response is None:
        return []
    if decision.follows is not None:
        return [_of_follower(record, response, decision.follows)]
    return [
        Step(
            step="response",
            subject=str(response.response_id),
            title=f"Response: {response.status}, priority {response.priority}",
            rule=f"priority_{response.priority}",
            in_words="The highest priority whose step the severity reaches holds.",
            because=_why_priority(response, policy),
            details=tuple(zone_in_words(zone) for zone in response.zones),
            version=response.version,
            policy_version=response.policy_version,
        )
    ]


def _of_follower(record: DecisionRecord, response: Response, leader: Tie) -> Step:
    """The response of an incident that follows another one: it asks for nothing."""
    return Step(
        step="response",
        subject=str(response.response_id),
        title=f"Response: none of its own, follows {leader.number}",
        rule=record.rule,
        in_words=rule_in_words(record.rule),
        because=f"It asks for nothing: {leader.number}, which tells of the same event, asks in its place.",
        details=tuple(zone_in_words(zone) for zone in response.zones),
        version=response.version,
        policy_version=response.policy_version,
    )


def _why_priority(response: Response, policy: Policy | None) -> str:
    if response.status == "ended":
        return "It has ended: what is known by now calls for no response."
    steps = (
        [step.from_severity for step in policy.priorities if step.priority == response.priority]
        if policy
        else []
    )
    reached = f", reached from {steps[-1]} on" if steps else ""
    return f"Severity {response.severity} is priority {response.priority}{reached}."


def zone_in_words(zone: Zone) -> str:
    """Where and when a response looks for work, and for which."""
    ended = f"; {_why_ended(zone, zone.until)}" if zone.until else ""
    of_before = "; of earlier rules, so nothing new is asked for" if zone.earlier else ""
    place = (
        f"{zone.radius_m:g} m around {zone.block or 'its point'}" if zone.centre else "without coordinates"
    )
    return (
        f"Zone {place}, {moment(zone.opens_at)} to {moment(zone.ends_at)}{of_before}{ended}:"
        f" fixes {_listed(zone.fixes)}; inspects {_listed(zone.inspections)}."
    )


def _why_ended(zone: Zone, until: datetime) -> str:
    match zone.void_for:
        case "linked":
            return "void, for another incident of the same event asks"
        case "window":
            return "void, for the window is not extended so far"
    return f"ended by a revision {moment(until)}"


# --- causes, orders -------------------------------------------------------------------------------------


def _cause_step(record: DecisionRecord, story: Story) -> Step:
    command = WorkOrderCommand.model_validate_json(record.output)
    issue = DispatchInputs.model_validate_json(record.inputs).issue
    details = [
        f"For incident {_number_of(command.incident_id, story)}"
        + (f" and request {issue.request_number}." if issue else "."),
        f"Standing: {command.standing}. {STANDINGS[command.standing]}",
        f"Order {reference_of(order_id_of(command.order_key).int)}.",
    ]
    return _step_of(record, "cause", f"Cause: {work_in_words(command)}", details)


def _number_of(incident_id: UUID, story: Story) -> str:
    record = story.incidents.get(incident_id)
    return Incident.model_validate_json(record.output).number if record else str(incident_id)


def work_in_words(asked: WorkOrderCommand | WorkOrder) -> str:
    """`fix street light at 1 E MADE UP ST`."""
    return f"{asked.work} {_spaced(asked.category)} at {asked.site.address or asked.site.key}"


def _order_step(record: DecisionRecord, policy: Policy | None) -> Step:
    order = WorkOrder.model_validate_json(record.output)
    owner = policy.department(order.department) if policy else None
    to = owner.name if owner else order.department
    details = [
        f"State {order.state}: {STATES[order.state]}.",
        f"Opened {moment(order.opened_at)}: {OPENED}",
        f"To {to} ({order.routing_rule}): {routing_in_words(order.routing_rule)}",
        f"Requests it covers: {_listed(order.covers)}.",
    ]
    return _step_of(record, "order", f"Order {order.reference}: {work_in_words(order)}", details)


# --- what came of it ------------------------------------------------------------------------------------


def _outcome(story: Story) -> Step:
    orders = [WorkOrder.model_validate_json(record.output) for record in story.orders.values()]
    stand = [order.reference for order in orders if order.state not in CLOSED]
    done = [order.reference for order in orders if order.state in ("resolved", "verified")]
    ended = [order.reference for order in orders if order.state == "cancelled"]
    if stand or done or ended:
        because = f"{len(stand)} {'order stands' if len(stand) == 1 else 'orders stand'}: {_listed(stand)}."
        because += f" {len(done)} were resolved: {_listed(done)}." if done else ""
        because += f" {len(ended)} were cancelled: {_listed(ended)}." if ended else ""
    elif leaders := _leaders(story):
        because = "It has no orders of its own. " + " ".join(map(_see_leader, leaders))
    else:
        because = f"No order was opened. {' '.join(dict.fromkeys(_reasons(story)))}"
    return Step(
        step="outcome", subject="", title="What came of it", rule=None, in_words=None, because=because
    )


def _reasons(story: Story) -> Iterable[str]:
    """Why nothing was opened, from the last step that there is."""
    if story.orders:
        yield "As is known by now, nothing ever asked for one."
    elif story.causes:
        yield "A cause is recorded, and its order is still to be written."
    else:
        for record in story.issues.values():
            yield _why_no_cause_of_issue(record, story.policies.get(record.policy_version))
        for incident_id in story.incidents:
            yield _why_no_cause_of_incident(story.triage.get(incident_id))


def _leaders(story: Story) -> list[Tie]:
    """Whom its incidents follow; none where one of them follows nobody."""
    ties = [TriageDecision.model_validate_json(one.output).follows for one in story.triage.values()]
    leaders = [one for one in ties if one is not None]
    return leaders if len(leaders) == len(story.incidents) else []


def _see_leader(leader: Tie) -> str:
    return f"It follows {leader.number}, which has the orders of this event: see `rapid explain {leader.number}`."


def _why_no_cause_of_incident(triage: DecisionRecord | None) -> str:
    if triage is None:
        return "Triage has not yet handled the incident."
    response = TriageDecision.model_validate_json(triage.output).response
    if response is None:
        return triage.because
    if not any(zone.centre for zone in response.zones):
        return "The incident has no coordinates, so no issue can be near it, and its plan inspects nothing."
    return "No issue of the plan's categories was open within its radius, and the plan inspects nothing."


def _why_no_cause_of_issue(record: DecisionRecord, policy: Policy | None) -> str:
    issue = Issue.model_validate_json(record.output)
    number = issue.request_number
    if issue.folded_into:
        return f"Request {number} is a duplicate: only its parent can open one."
    if not any(phase.status == "open" and not phase.folded for phase in issue.phases):
        return f"Request {number} was never known to be open."
    if issue.now.point is None:
        return f"Request {number} has no coordinates, so it can be near no incident."
    if policy and not any(issue.category in plan.fixes for plan in policy.plans):
        return f"No plan of the policy fixes {_spaced(issue.category)}."
    return f"No response had request {number} in its zone while it was open."


def _spaced(code: str) -> str:
    return code.replace("_", " ")


def _listed(items: Iterable[str]) -> str:
    return ", ".join(_spaced(item) for item in items) or "none"
