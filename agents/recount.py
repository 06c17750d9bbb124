"""Pure: which incidents and issues an incident's decision counts, and the command to count again.

Both sides must agree on who counts whom: the incident that looks around, and the neighbour or the issue that
arrives later and has it look again. So these rules stand here once, symmetric and exact to the metre; the
cells of a look-up only narrow down. They hold for every phase that the two ever had, so that what was once
counted stays counted and versions only grow.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from agents.near import distance_m
from agents.triage.neighbour import SHOOTINGS
from schemas.base import Point
from schemas.envelope import Event
from schemas.incident import Incident
from schemas.issue import Issue
from schemas.policy import Policy
from schemas.topics import RESPONSE_COMMANDS

ISSUE_LOOKBACK = timedelta(days=365)
"""How long before an incident an issue may have been reported to count as open around it: a request that
is older says more about the records than about the block."""


def counts_neighbour(incident: Incident, other: Incident, policy: Policy) -> bool:
    """Whether the incident's decision depends on the other one: as an earlier shooting nearby, as the same event told
    by another source, or as a later shooting that extends its window."""
    return other.incident_id != incident.incident_id and (
        may_repeat(incident, other, policy)
        or may_be_one(incident, other, policy)
        or may_extend(incident, other, policy)
    )


def may_repeat(incident: Incident, other: Incident, policy: Policy) -> bool:
    """Whether the other may be an earlier one nearby: near enough, and not later."""
    near = policy.near_repeat
    since = earliest(incident) - timedelta(days=near.days)
    return (
        since <= latest(other)
        and earliest(other) <= latest(incident)
        and _ever_within(_places(incident), _places(other), near.radius_m)
    )


def may_be_one(some: Incident, other: Incident, policy: Policy) -> bool:
    """Whether the two may ever have been taken for one event that two sources tell of; symmetric."""
    linking = policy.linking
    if linking is None or some.sources == other.sources == some.sources[:1]:
        return False
    span = timedelta(minutes=linking.minutes)
    return (
        earliest(some) - latest(other) <= span
        and earliest(other) - latest(some) <= span
        and linking.are_ranked_apart(some.sources, other.sources)
        and any(linking.are_compatible(a.kind, b.kind) for a in some.ever for b in other.ever)
        and _ever_within(_places(some), _places(other), linking.radius_m)
    )


def may_extend(incident: Incident, other: Incident, policy: Policy) -> bool:
    """Whether the other may ever have extended the incident's window: both a shooting, the other not earlier, within
    the widest zone and the longest window."""
    extension = policy.extension
    return (
        extension is not None
        and extension.enabled
        and other.incident_id != incident.incident_id
        and was_shooting(incident)
        and was_shooting(other)
        and earliest(incident) <= latest(other)
        and earliest(other) <= latest(incident) + timedelta(days=extension.most_days)
        and _ever_within(_places(incident), _places(other), widest_radius_m(policy))
    )


def was_shooting(incident: Incident) -> bool:
    """Whether it was ever held to have hit anybody."""
    if _was_always_so(incident):
        return incident.kind in SHOOTINGS
    return any(phase.kind in SHOOTINGS for phase in incident.ever)


def counts_issue(incident: Incident, issue: Issue, policy: Policy) -> bool:
    """Whether the incident's severity depends on the issue: near enough, and reported not after it."""
    since = earliest(incident) - ISSUE_LOOKBACK
    return (
        since <= last_reported(issue)
        and first_reported(issue) <= latest(incident)
        and _ever_within(_places(incident), _places(issue), widest_radius_m(policy))
    )


def earliest(incident: Incident) -> datetime:
    """The earliest that it was ever held to have happened."""
    if _was_always_so(incident):
        return incident.occurred_at
    return min(phase.occurred_at for phase in incident.ever)


def latest(incident: Incident) -> datetime:
    """The latest that it was ever held to have happened."""
    if _was_always_so(incident):
        return incident.occurred_at
    return max(phase.occurred_at for phase in incident.ever)


def _was_always_so(incident: Incident) -> bool:
    """Whether it was never held to be anything else: nearly always, and neighbours are many."""
    return len(incident.phases) == 1 and not incident.void_phases


def first_reported(issue: Issue) -> datetime:
    """The earliest that it was ever held to be reported."""
    return min(phase.created_at for phase in issue.ever)


def last_reported(issue: Issue) -> datetime:
    """The latest that it was ever held to be reported."""
    return max(phase.created_at for phase in issue.ever)


def widest_radius_m(policy: Policy) -> float:
    """The largest radius of any plan; 0 without plans."""
    return policy.widest_radius_m


def _places(fold: Incident | Issue) -> list[Point]:
    return [phase.point for phase in fold.ever if phase.point]


def _ever_within(some: list[Point], others: list[Point], radius_m: float) -> bool:
    return any(distance_m(a, b) <= radius_m for a in some for b in others)


def recounts(incident_ids: Iterable[UUID]) -> list[Event]:
    """One command per incident. It carries nothing: triage decides from the latest rows."""
    return [
        Event(RESPONSE_COMMANDS.name, key, b"{}", RESPONSE_COMMANDS.type, key, 0, key)
        for key in sorted({str(incident_id) for incident_id in incident_ids})
    ]
