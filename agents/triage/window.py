"""Pure: until when a response looks for work, which later shootings in its zone may put off."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from agents.near import distance_m
from agents.triage.neighbour import SHOOTINGS, Neighbour
from schemas.incident import IncidentPhase
from schemas.policy import Plan, Policy
from schemas.response import Tier


class Window(NamedTuple):
    """Until when, as is known now, and the later shootings that make it so."""

    ends_at: datetime
    extended_by: tuple[Neighbour, ...] = ()


def window_of(
    phase: IncidentPhase, plan: Plan, tier: Tier, later: Sequence[Neighbour], policy: Policy
) -> Window:
    """The window of a phase. `later`: shootings that are events of their own; the phase counts those in its reach."""
    own = phase.occurred_at + timedelta(days=plan.window_days)
    if policy.extension is None or not policy.extension.enabled or phase.kind not in SHOOTINGS:
        return Window(own)
    most = phase.occurred_at + timedelta(days=policy.extension.most_days)
    ends_at, extended_by = own, []
    for one in sorted(later, key=lambda one: (one.occurred_at, one.incident_id.int)):
        theirs = policy.plan_for(one.kind, tier)
        if theirs is None or not _is_within(one, phase, plan, ends_at):
            continue
        after = min(most, one.occurred_at + timedelta(days=theirs.window_days))
        if after > ends_at:
            ends_at = after
            extended_by.append(one)
    return Window(ends_at, tuple(extended_by))


def ever_until(opens_at: datetime, neighbours: Sequence[Neighbour], policy: Policy) -> datetime | None:
    """The latest end that any part of what is known may have given a window; None: never another than its own."""
    if policy.extension is None or not policy.extension.enabled:
        return None
    longest = timedelta(days=max((plan.window_days for plan in policy.plans), default=0))
    most = opens_at + timedelta(days=policy.extension.most_days)
    ends = [one.may_extend_from + longest for one in neighbours if one.may_extend_from is not None]
    return min(most, max(ends)) if ends else None


def _is_within(one: Neighbour, phase: IncidentPhase, plan: Plan, ends_at: datetime) -> bool:
    """Whether it happened while the response was open, in its zone."""
    return (
        phase.occurred_at <= one.occurred_at < ends_at
        and one.point is not None
        and phase.point is not None
        and distance_m(phase.point, one.point) <= plan.radius_m
    )
