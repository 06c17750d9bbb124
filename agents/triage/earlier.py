"""Pure: what earlier rules had an incident call for. Rules are a policy with a set of boundaries.

An incident is decided on anew, as a whole, by the rules in force. What earlier ones asked for, and today's would not,
was asked for rightly, and stays; but it must not outlive its reason: when the incident turns out to be unfounded, or
the request is closed, it is taken back like everything else. So zones that today's do not replace are carried on.
"""

from collections.abc import Iterable, Sequence

from schemas.base import Point
from schemas.incident import Incident
from schemas.response import Response, Zone


def earlier_zones(stored: Response, zones: Sequence[Zone], *, same_policy: bool) -> tuple[Zone, ...]:
    """The zones of a response of earlier rules that today's `zones` of the same incident do not replace.

    Beyond today's window today's policy takes back only what it asked for itself.
    """
    replacing = [zone for zone in zones if same_policy or zone.void_for != "window"]
    return tuple(
        zone if zone.earlier else zone.model_copy(update={"earlier": True})
        for zone in stored.zones
        if zone.earlier or not _is_replaced(zone, replacing)
    )


def carried_on(zones: Iterable[Zone], incident: Incident, *, is_linked: bool) -> list[Zone]:
    """Zones of earlier rules, as they stand now: they end with what they were made for."""
    return [_as_it_stands(zone, incident, is_linked) for zone in zones]


def _as_it_stands(zone: Zone, incident: Incident, is_linked: bool) -> Zone:
    if zone.until is not None:
        return zone
    if is_linked:
        return zone.model_copy(update={"until": zone.since, "void_for": "linked"})
    if _is_over(zone, incident):
        return zone.model_copy(update={"until": max(zone.since, incident.now.since)})
    return zone


def _is_over(zone: Zone, incident: Incident) -> bool:
    """Whether what the zone was made for is not held to be so any more: it did not happen, or not there."""
    if incident.validity == "unfounded" or incident.kind == "not_gun_violence":
        return True
    here: Point | str | None = incident.now.point if zone.centre else incident.now.block
    return here != (zone.centre or zone.block)


def _is_replaced(zone: Zone, by: Sequence[Zone]) -> bool:
    """Whether all that the zone may have asked for is decided on again by others at the same place."""
    there = [one for one in by if (one.centre, one.block, one.area) == (zone.centre, zone.block, zone.area)]
    return {*zone.inspections} <= {code for one in there for code in one.inspections} and (
        not zone.fixes
        or zone.centre is None
        or any(
            one.radius_m >= zone.radius_m and one.ends_at >= zone.ends_at and {*zone.fixes} <= {*one.fixes}
            for one in there
        )
    )
