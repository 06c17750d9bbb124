"""Pure: what one incident calls for, how grave it is, and the rule that says so."""

from datetime import timedelta
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

from pydantic import Field

from agents.near import distance_m
from agents.triage.earlier import carried_on
from agents.triage.linking import (
    are_one_event,
    events_of,
    followers_of,
    leader_of,
    tie,
    who_follows,
    why_linked,
)
from agents.triage.neighbour import SHOOTINGS, Neighbour, seen
from agents.triage.window import Window, ever_until, window_of
from schemas.base import Instant, Point, Record, ShortText, Version
from schemas.decision import DecisionRecord
from schemas.incident import Incident, IncidentPhase
from schemas.issue import RequestStatus
from schemas.policy import NearRepeat, Plan, Policy
from schemas.response import (
    Location,
    Response,
    SeverityPart,
    Tie,
    Tier,
    TriageDecision,
    Zone,
    response_id_of,
)

MOST_NAMED = 3
"""Areas with a tier of their own that a decision names: more say no more."""


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
    floor: Version = Field(default=0, exclude_if=lambda version: version == 0)
    """`Response.floor`, which see."""
    earlier: tuple[Zone, ...] = Field(default=(), exclude_if=lambda zones: not zones)
    """Zones of earlier rules that ask for something that today's do not ask for."""


class Ties(NamedTuple):
    """The incident's other tellings: which leads it, which follow it, and all that may ever have done either."""

    leader: Tie | None = None
    followers: tuple[Tie, ...] = ()
    kin: tuple[UUID, ...] = ()


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
    ties = _ties(inputs, policy)
    plan = _plan_of(incident.now, location, policy)
    responds = plan if ties.leader is None else None
    window = _window(inputs, responds, policy)
    parts = _severity_parts(inputs, responds, policy) if responds else ()
    rule, because = _rule(inputs, plan, ties, policy)
    if responds:
        because += who_follows(ties.followers) + _why_extended(incident, window)
    severity = sum(part.points for part in parts)
    response = _response(inputs, window, severity, ties, policy)
    return TriageDecision(
        incident_id=incident.incident_id,
        version=_version(inputs),
        rule=rule,
        because=because,
        location=location,
        tier=_tier(location, policy),
        severity=severity,
        parts=parts,
        response=response and _tied(response, ties, window),
        policy_version=policy.version,
        follows=ties.leader,
        followers=ties.followers,
    )


def _ties(inputs: TriageInputs, policy: Policy) -> Ties:
    """Only an incident that calls for a response itself can follow: what did not happen tells of no event."""
    linking, kin = policy.linking, [one for one in inputs.neighbours if one.is_kin]
    if linking is None or not kin:
        return Ties()
    me = seen(inputs.incident)
    plan = _plan_of(inputs.incident.now, inputs.locations[-1], policy)
    leader = leader_of(me, kin, linking) if plan else None
    return Ties(
        tie(me, leader) if leader else None,
        tuple(tie(me, one) for one in followers_of(me, kin, linking)),
        tuple(one.incident_id for one in kin),
    )


def _tied(response: Response, ties: Ties, window: Window | None) -> Response:
    """The response with what it shares its event with, and who extends it."""
    extended_by = window.extended_by if window else ()
    if not ties.kin and not extended_by:
        return response
    return response.model_copy(
        update={
            "follows": ties.leader.incident_id if ties.leader else None,
            "followers": tuple(one.incident_id for one in ties.followers),
            "kin": ties.kin,
            "extended_by": tuple(one.incident_id for one in extended_by),
        }
    )


def _version(inputs: TriageInputs) -> int:
    """The number of facts behind the decision: it grows with each new one and with nothing else. That other
    boundaries hold is a fact: docs/decisions/0012-boundaries.md."""
    return (
        inputs.floor
        + inputs.boundaries
        + inputs.incident.version
        + sum(one.version for one in inputs.neighbours)
        + sum(one.version for one in inputs.issues)
    )


def has_news(inputs: TriageInputs, before: TriageInputs) -> bool:
    """Whether one knows a fact that another, decided on by another policy, did not."""
    known = {one.incident_id: one.version for one in before.neighbours}
    known |= {one.issue_id: one.version for one in before.issues}
    return (
        inputs.incident.version > before.incident.version
        or inputs.boundaries > before.boundaries
        or any(one.version > known.get(one.incident_id, 0) for one in inputs.neighbours)
        or any(one.version > known.get(one.issue_id, 0) for one in inputs.issues)
    )


def _plan_of(phase: IncidentPhase, location: Location, policy: Policy) -> Plan | None:
    if phase.validity == "unfounded":
        return None
    return policy.plan_for(phase.kind, _tier(location, policy))


def _rule(
    inputs: TriageInputs, plan: Plan | None, ties: Ties, policy: Policy
) -> tuple[Literal["respond", "linked", "unfounded", "not_gun_violence", "no_plan"], str]:
    incident, location = inputs.incident, inputs.locations[-1]
    kind, tier = incident.kind.replace("_", " "), _tier(location, policy)
    if incident.validity == "unfounded":
        return "unfounded", "Its source says by now that it did not happen: what nobody has started ends."
    if incident.kind == "not_gun_violence":
        return "not_gun_violence", "No gunshot injury and no gunfire is reported: kept, opens no response."
    if plan is None:
        return "no_plan", f"The policy has no plan for a {kind} in a {tier} area."
    if ties.leader and policy.linking:
        return "linked", why_linked(seen(incident), ties.leader, policy.linking)
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
            _repeats_in_words(inputs.incident, repeats, near),
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
    """Shootings shortly before this one, within one block, each event once and never this one itself, told by another
    source. Of two at the same instant, the lower id is first."""
    here = inputs.incident.now.point
    at, me = inputs.incident.occurred_at, inputs.incident.incident_id
    since = at - timedelta(days=policy.near_repeat.days)
    near = [
        one
        for one in inputs.neighbours
        if one.validity == "valid"
        and one.kind in SHOOTINGS
        and since <= one.occurred_at
        and (one.occurred_at, one.incident_id) < (at, me)
        and _within(here, one.point, policy.near_repeat.radius_m)
    ]
    return events_of(_others(near, inputs.incident, policy), policy.linking)


def _others(neighbours: list[Neighbour], incident: Incident, policy: Policy) -> list[Neighbour]:
    """Without those that tell of the incident itself."""
    if not any(one.is_kin for one in neighbours):
        return neighbours
    me = seen(incident)
    return [one for one in neighbours if not are_one_event(me, one, policy.linking)]


def _repeats_in_words(incident: Incident, repeats: list[Neighbour], near: NearRepeat) -> str:
    """How many, and of the last one which, how far, how long ago. Older decisions kept no number and do not say."""
    count = f"shootings within {near.radius_m:.0f} m in the {near.days} days before: {len(repeats)}"
    last = max(repeats, key=lambda one: (one.occurred_at, one.incident_id), default=None)
    here = incident.now.point
    if last is None or last.number is None or last.point is None or here is None:
        return count
    days = (incident.occurred_at - last.occurred_at) / timedelta(days=1)
    return (
        f"{count}; the last: {last.number}, {distance_m(here, last.point):.0f} m away, {_days(days)} before"
    )


def _days(days: float) -> str:
    """`less than a day`, `1 day`, `13 days`: whole days that have passed."""
    return "less than a day" if days < 1 else "1 day" if days < 2 else f"{int(days)} days"


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
    inputs: TriageInputs, window: Window | None, severity: int, ties: Ties, policy: Policy
) -> Response | None:
    """What the incident's phases ever called for. Without a window nothing is asked for now."""
    earlier = carried_on(inputs.earlier, inputs.incident, is_linked=ties.leader is not None)
    zones = (*earlier, *_zones(inputs, window, policy))
    if not zones:
        return None
    incident, location = inputs.incident, inputs.locations[-1]
    last = zones[-1]
    return Response(
        response_id=response_id_of(incident.incident_id),
        incident_id=incident.incident_id,
        version=_version(inputs),
        status="active" if window else "ended",
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
        floor=inputs.floor,
    )


def _window(inputs: TriageInputs, plan: Plan | None, policy: Policy) -> Window | None:
    """Until when the incident's response looks for work, with the shootings of other events that extend it."""
    if plan is None:
        return None
    later = [
        one
        for one in inputs.neighbours
        if one.may_extend_from is not None
        and one.validity == "valid"
        and one.kind in SHOOTINGS
        and one.simulated == inputs.incident.simulated
    ]
    others = events_of(_others(later, inputs.incident, policy), policy.linking)
    tier = _tier(inputs.locations[-1], policy)
    return window_of(inputs.incident.now, plan, tier, others, policy)


def _why_extended(incident: Incident, window: Window | None) -> str:
    """Until when, and by whom; empty when the window is the plan's own."""
    if window is None or not window.extended_by:
        return ""
    last, count = window.extended_by[-1], len(window.extended_by)
    by = f"{last.number}, {_days((last.occurred_at - incident.occurred_at) / timedelta(days=1))} after"
    whose = "a later shooting in its zone" if count == 1 else f"{count} later shootings in its zone, the last"
    return f" Extended to {window.ends_at:%Y-%m-%d} by {whose}: {by}."


def _zones(inputs: TriageInputs, window: Window | None, policy: Policy) -> tuple[Zone, ...]:
    """One zone for each phase that had a plan; the next phase ends it, a void one at once. The one of what holds now
    comes last. The zones of an incident that follows another are all void, whenever that came to be known."""
    phases = inputs.incident.ever
    ends: list[Instant | None] = [*(phase.since for phase in phases[1:]), None]
    planned = [
        _zone(phase, location, plan, until)
        for phase, location, until in zip(phases, inputs.locations, ends, strict=True)
        if (plan := _plan_of(phase, location, policy))
    ]
    if planned and planned[-1].until is None:
        if window is None:
            planned = [_void(zone, "linked") for zone in planned]
        else:
            planned[-1] = planned[-1].model_copy(update={"ends_at": window.ends_at})
    return (*_beyond(inputs, planned, policy), *planned)


def _beyond(inputs: TriageInputs, planned: list[Zone], policy: Policy) -> list[Zone]:
    """Void zones for as long as any window may have been when less was known: so that what was asked for then is
    decided again, and taken back."""
    shootings = [phase for phase in inputs.incident.ever if phase.kind in SHOOTINGS]
    if not shootings or not any(one.may_extend_from for one in inputs.neighbours):
        return []
    found = []
    for zone in planned:
        until = ever_until(zone.opens_at, inputs.neighbours, policy)
        if until is not None and until > zone.ends_at:
            further = {"ends_at": until, "inspections": ()}
            found.append(_void(zone, "window").model_copy(update=further))
    return found


def _void(zone: Zone, why: Literal["linked", "window"]) -> Zone:
    return zone.model_copy(update={"until": zone.since, "void_for": why})


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
