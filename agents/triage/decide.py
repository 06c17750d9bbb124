"""Pure: what one incident calls for, how grave it is, and the rule that says so."""

from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from agents.near import distance_m
from schemas.base import Instant, Point, Record, ShortText, Version
from schemas.decision import DecisionRecord
from schemas.incident import Incident, IncidentKind, IncidentPhase, Validity
from schemas.issue import RequestStatus
from schemas.policy import Plan, Policy
from schemas.response import Location, Response, SeverityPart, Tier, TriageDecision, Zone, response_id_of

SHOOTINGS: tuple[IncidentKind, ...] = ("fatal_shooting", "nonfatal_shooting")
MOST_NAMED = 3
"""Areas with a tier of their own that a decision names: more say no more."""


class Neighbour(Record):
    """An incident that was ever near: what the near-repeat rule needs of it."""

    incident_id: UUID
    version: Version
    validity: Validity
    kind: IncidentKind
    occurred_at: Instant
    point: Point | None


class NearIssue(Record):
    """An issue that was ever near: what counting the open ones needs of it."""

    issue_id: UUID
    version: Version
    status: RequestStatus
    folded: bool
    category: ShortText
    created_at: Instant
    closed_at: Instant | None
    point: Point | None


class TriageInputs(Record):
    """All that triage looks at. `locations`: one per phase it ever had. Neighbours and issues ordered by id."""

    incident: Incident
    locations: Annotated[tuple[Location, ...], Field(min_length=1)]
    neighbours: tuple[Neighbour, ...] = ()
    issues: tuple[NearIssue, ...] = ()
    boundaries: Version = Field(default=0, exclude_if=lambda count: count == 0)
    """How often boundaries had been put in force; 0: never, and not written."""


def had_plan(incident: Incident, locations: tuple[Location, ...], policy: Policy) -> bool:
    """Whether any phase of the incident ever called for a response: only then its surroundings matter."""
    return any(
        _plan_of(phase, location, policy) for phase, location in zip(incident.ever, locations, strict=True)
    )


def decide(inputs: TriageInputs, policy: Policy) -> tuple[TriageDecision, DecisionRecord]:
    """What the incident calls for, from what is known by now."""
    decision = _decision(inputs, policy)
    return decision, DecisionRecord(
        stage="triage",
        subject=decision.incident_id,
        version=decision.version,
        rule=decision.rule,
        because=decision.because,
        policy_version=policy.version,
        inputs=inputs.model_dump_json(),
        output=decision.model_dump_json(),
    )


def _decision(inputs: TriageInputs, policy: Policy) -> TriageDecision:
    incident, location = inputs.incident, inputs.locations[-1]
    plan = _plan_of(incident.now, location, policy)
    parts = _severity_parts(inputs, plan, policy) if plan else ()
    rule, because = _rule(incident, location, plan, policy)
    severity = sum(part.points for part in parts)
    version = _version(inputs)
    return TriageDecision(
        incident_id=incident.incident_id,
        version=version,
        rule=rule,
        because=because,
        location=location,
        tier=_tier(location, policy),
        severity=severity,
        parts=parts,
        response=_response(inputs, plan, severity, version, policy),
        policy_version=policy.version,
    )


def _version(inputs: TriageInputs) -> int:
    """The number of facts behind the decision: it grows with each new one and with nothing else. That other
    boundaries hold is a fact: docs/decisions/0012-boundaries.md."""
    return (
        inputs.boundaries
        + inputs.incident.version
        + sum(one.version for one in inputs.neighbours)
        + sum(one.version for one in inputs.issues)
    )


def _plan_of(phase: IncidentPhase, location: Location, policy: Policy) -> Plan | None:
    if phase.validity == "unfounded":
        return None
    return policy.plan_for(phase.kind, _tier(location, policy))


def _rule(
    incident: Incident, location: Location, plan: Plan | None, policy: Policy
) -> tuple[Literal["respond", "unfounded", "not_gun_violence", "no_plan"], str]:
    kind, tier = incident.kind.replace("_", " "), _tier(location, policy)
    if incident.validity == "unfounded":
        return "unfounded", "Its source says by now that it did not happen: what nobody has started ends."
    if incident.kind == "not_gun_violence":
        return "not_gun_violence", "No gunshot injury and no gunfire is reported: kept, opens no response."
    if plan is None:
        return "no_plan", f"The policy has no plan for a {kind} in a {tier} area."
    where = _where(location, policy)
    return "respond", f"A {kind} {where} ({tier}): plan {plan.name}, {plan.window_days} days."


def _tier(location: Location, policy: Policy) -> Tier:
    """The tier of its area, or a higher one of an area with a tier of its own that it lies in: higher is what weighs
    more. A tier that this policy does not know raises nothing."""
    weights = policy.severity.tier
    own = policy.tier_of(location.area)
    return max((own, *(area.tier for area in location.within)), key=lambda tier: weights.get(tier, -1))


def _where(location: Location, policy: Policy) -> str:
    """In which area, and what else is there that sets the place apart."""
    within = [f"{one.name}, {one.because}" if one.because else one.name for one in location.within]
    return ", and ".join(
        [_where_in_the_city(location, policy), *(f"at {one}" for one in within[:MOST_NAMED])]
    )


def _where_in_the_city(location: Location, policy: Policy) -> str:
    area = policy.area(location.area) if location.area is not None else None
    name = area.name if area else "outside every area"
    match location.rule:
        case "published_name_decides":
            return f"in {name}, as published, for it has no coordinates"
        case "point_outside_every_area" if area:
            return f"in {name}, as published, for its point lies outside every area"
        case "point_on_border":
            return f"on the border of {name}"
    if location.differs and location.published_area is not None:
        published = policy.area(location.published_area)
        return f"in {name} by its point (published as {published.name if published else 'another area'})"
    return f"in {name}" if area else name


def _severity_parts(inputs: TriageInputs, plan: Plan, policy: Policy) -> tuple[SeverityPart, ...]:
    incident, weights, near = inputs.incident, policy.severity, policy.near_repeat
    tier = _tier(inputs.locations[-1], policy)
    repeats = _near_repeats(inputs, policy)
    issues = _open_around(inputs, plan)
    kind = incident.kind.replace("_", " ")
    further = max(0, incident.victims - 1)
    parts = (
        ("kind", weights.kind.get(incident.kind, 0), f"a {kind}"),
        ("victims", further * weights.per_further_victim, f"further victims: {further}"),
        ("tier", weights.tier.get(tier, 0), f"a {tier} area"),
        (
            "near_repeat",
            weights.near_repeat if repeats else 0,
            f"shootings within {near.radius_m:.0f} m in the {near.days} days before: {len(repeats)}",
        ),
        (
            "open_issues",
            min(len(issues) * weights.per_open_issue, weights.open_issues_cap),
            f"issues open around at the time: {len(issues)}",
        ),
    )
    return tuple(
        SeverityPart(factor=factor, points=points, because=because)
        for factor, points, because in parts
        if points
    )


def _near_repeats(inputs: TriageInputs, policy: Policy) -> list[Neighbour]:
    """Shootings shortly before this one, within one block. Of two at the same instant, the lower id is first."""
    here = inputs.incident.now.point
    at, me = inputs.incident.occurred_at, inputs.incident.incident_id
    since = at - timedelta(days=policy.near_repeat.days)
    return [
        one
        for one in inputs.neighbours
        if one.validity == "valid"
        and one.kind in SHOOTINGS
        and since <= one.occurred_at
        and (one.occurred_at, one.incident_id) < (at, me)
        and _within(here, one.point, policy.near_repeat.radius_m)
    ]


def _open_around(inputs: TriageInputs, plan: Plan) -> list[NearIssue]:
    """Issues of the plan's categories that were open within its radius when it happened."""
    here, at = inputs.incident.now.point, inputs.incident.occurred_at
    return [
        one
        for one in inputs.issues
        if not one.folded
        and one.category in plan.fixes
        and one.created_at <= at
        and (one.status == "open" or (one.closed_at is not None and one.closed_at > at))
        and _within(here, one.point, plan.radius_m)
    ]


def _within(a: Point | None, b: Point | None, radius_m: float) -> bool:
    return a is not None and b is not None and distance_m(a, b) <= radius_m


def _response(
    inputs: TriageInputs, plan: Plan | None, severity: int, version: int, policy: Policy
) -> Response | None:
    zones = _zones(inputs, policy)
    if not zones:
        return None
    incident, location = inputs.incident, inputs.locations[-1]
    last = zones[-1]
    return Response(
        response_id=response_id_of(incident.incident_id),
        incident_id=incident.incident_id,
        version=version,
        status="active" if plan else "ended",
        kind=incident.kind,
        tier=_tier(location, policy),
        severity=severity,
        priority=policy.priority_of(severity),
        area=location.area,
        opens_at=last.opens_at,
        ends_at=last.ends_at,
        zones=zones,
        policy_version=policy.version,
        simulated=incident.simulated,
    )


def _zones(inputs: TriageInputs, policy: Policy) -> tuple[Zone, ...]:
    """One zone for each phase that had a plan; the next phase ends it, a void one at once."""
    phases = inputs.incident.ever
    ends: list[Instant | None] = [*(phase.since for phase in phases[1:]), None]
    zones = []
    for phase, location, until in zip(phases, inputs.locations, ends, strict=True):
        plan = _plan_of(phase, location, policy)
        if plan:
            zones.append(_zone(phase, location, plan, until))
    return tuple(zones)


def _zone(phase: IncidentPhase, location: Location, plan: Plan, until: Instant | None) -> Zone:
    return Zone(
        since=phase.since,
        until=until,
        centre=phase.point,
        radius_m=plan.radius_m,
        opens_at=phase.occurred_at,
        ends_at=phase.occurred_at + timedelta(days=plan.window_days),
        block=phase.block,
        area=location.area,
        fixes=plan.fixes,
        inspections=plan.inspections,
    )
