"""Pure: which work a response asks for, at which site, and whether it still does.

A cause is one reason for one order: a response together with an issue in its zone, or with one of its
standing inspections. A cause whose reason has ended is kept: it is `withdrawn` if there was a time at which
both sides were in force, `void` if, as is known by now, there never was.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from pydantic import Field

from agents.near import distance_m
from agents.sites import site_of
from schemas.base import Record, derived_id
from schemas.decision import DecisionRecord
from schemas.issue import Issue, IssuePhase
from schemas.policy import Policy
from schemas.response import Response, Zone
from schemas.work_order import Site, Standing, WorkOrderCommand, order_key_of

VOID: Final[Mapping[str, str]] = {
    "linked": "Another incident of the same event asks in its place.",
    "window": "The response's window is not extended so far.",
}
"""Why a zone never was in force, if not by a revision."""
BY_EARLIER_RULES: Final = "It was asked for when another policy or other boundaries held, which stays."


class DispatchInputs(Record):
    """A response, and an issue that was ever near it; without one, its standing inspections."""

    response: Response
    issue: Issue | None
    asked: tuple[UUID, ...] = Field(default=(), exclude_if=lambda ids: not ids)
    """Causes by zones of earlier rules that were asked for when these held."""


class Span(NamedTuple):
    """From when to when something was in force; `until` None: it is. `void_for`: why it never was, if not by a
    revision."""

    since: datetime
    until: datetime | None
    void_for: str | None = None


class Ask(NamedTuple):
    """One zone asking for one piece of work."""

    category: str
    site: Site
    zone: Span
    reason: Span
    at: datetime
    because: str
    is_earlier: bool  # by a zone of earlier rules


def decide(inputs: DispatchInputs, policy: Policy) -> list[tuple[WorkOrderCommand, DecisionRecord]]:
    """Every cause that the response ever had with this issue, or by its inspections, as it stands now."""
    by_key = _asks_by_order(inputs, policy)
    if not by_key:
        return []
    stored = inputs.model_dump_json()
    commands = [_command(inputs, order_key, asked, policy) for order_key, asked in sorted(by_key.items())]
    return [(command, _record(command, stored)) for command in commands if command]


def has_earlier(response: Response) -> bool:
    """Whether it carries on zones of earlier rules: what these asked for has to be known."""
    return any(zone.earlier for zone in response.zones)


def earlier_causes(inputs: DispatchInputs, policy: Policy) -> list[UUID]:
    """The causes that earlier rules may have asked for: which of them they did has to be looked up."""
    return [
        cause_id_of(inputs.response, inputs.issue, order_key)
        for order_key, asks in sorted(_asks_by_order(inputs, policy).items())
        if any(ask.is_earlier for ask in asks)
    ]


def _asks_by_order(inputs: DispatchInputs, policy: Policy) -> dict[str, list[Ask]]:
    asks = (
        _fixes(inputs.response, inputs.issue, policy)
        if inputs.issue
        else _inspections(inputs.response, policy)
    )
    by_key: dict[str, list[Ask]] = {}
    work = "fix" if inputs.issue else "inspect"
    for ask in asks:
        by_key.setdefault(order_key_of(ask.category, work, ask.site.key), []).append(ask)
    return by_key


def _record(command: WorkOrderCommand, inputs: str) -> DecisionRecord:
    return DecisionRecord(
        stage="dispatch",
        subject=command.cause_id,
        version=command.version,
        rule=command.rule if command.standing == "live" else f"{command.rule}:{command.standing}",
        because=command.because,
        policy_version=command.policy_version,
        inputs=inputs,
        output=command.model_dump_json(),
    )


def _fixes(response: Response, issue: Issue, policy: Policy) -> Iterable[Ask]:
    """Open phases that the issue ever had, in zones of the response."""
    ends = [*(phase.since for phase in issue.ever[1:]), None]
    for zone in response.zones:
        for phase, until in zip(issue.ever, ends, strict=True):
            ask = _fix(zone, issue, phase, Span(phase.since, until), policy)
            if ask:
                yield ask


def _fix(zone: Zone, issue: Issue, phase: IssuePhase, reason: Span, policy: Policy) -> Ask | None:
    if phase.status != "open" or phase.folded or phase.category not in zone.fixes:
        return None
    if zone.centre is None or phase.point is None or phase.created_at >= zone.ends_at:
        return None
    metres = distance_m(zone.centre, phase.point)
    if metres > zone.radius_m:
        return None
    return Ask(
        category=phase.category,
        site=_issue_site(phase, zone, policy),
        zone=Span(zone.since, zone.until, zone.void_for),
        reason=reason,
        at=max(zone.opens_at, phase.created_at),
        because=f"Request {issue.request_number} was open {metres:.0f} m away, within {zone.radius_m:.0f} m.",
        is_earlier=zone.earlier,
    )


def _issue_site(phase: IssuePhase, zone: Zone, policy: Policy) -> Site:
    area = phase.published_area
    if area is None and phase.published_area_name is not None:
        named = policy.area_by_name(phase.published_area_name)
        area = named.number if named else None
    return site_of(policy, address=phase.address, point=phase.point, area=area or zone.area)


def _inspections(response: Response, policy: Policy) -> Iterable[Ask]:
    """The standing inspections of every zone that the response ever had."""
    for zone in response.zones:
        in_force = Span(zone.since, zone.until, zone.void_for)
        for category in zone.inspections:
            site = site_of(policy, block=zone.block, point=zone.centre, area=zone.area)
            because = f"The plan has somebody look at it although nobody called: {site.address or site.key}."
            yield Ask(category, site, in_force, in_force, zone.opens_at, because, zone.earlier)


def _command(
    inputs: DispatchInputs, order_key: str, asks: list[Ask], policy: Policy
) -> WorkOrderCommand | None:
    """The asks of one response for one order are one cause: the newest speaks for it, live before ended. None: only
    earlier rules would ask for it, and never did."""
    response, issue = inputs.response, inputs.issue
    cause_id = cause_id_of(response, issue, order_key)
    standing = _standing(asks)
    telling = [ask for ask in asks if _standing_of(ask) == standing]
    if cause_id not in inputs.asked and all(ask.is_earlier for ask in telling):
        if standing == "live":
            return None
        standing = "void"  # the cause may be on its way: then this takes it back
    ask = telling[-1]
    return WorkOrderCommand(
        order_key=order_key,
        category=ask.category,
        work="fix" if issue else "inspect",
        site=ask.site,
        cause_id=cause_id,
        version=response.version + (issue.version if issue else 0),
        standing=standing,
        rule="open_issue_in_zone" if issue else "standing_inspection",
        because=_why(ask, standing),
        response_id=response.response_id,
        incident_id=response.incident_id,
        issue_id=issue.issue_id if issue else None,
        at=min(one.at for one in telling),
        ended_at=max(_end(one) for one in telling) if standing == "withdrawn" else None,
        priority=response.priority,
        covers=issue.covers if issue else (),
        policy_version=policy.version,
        simulated=response.simulated,
        kin=response.kin,
    )


def cause_id_of(response: Response, issue: Issue | None, order_key: str) -> UUID:
    """The id of the one reason that a response, with this issue or by itself, has for an order."""
    return derived_id("cause", str(response.response_id), str(issue.issue_id if issue else ""), order_key)


def _standing(asks: list[Ask]) -> Standing:
    found = {_standing_of(ask) for ask in asks}
    return "live" if "live" in found else "withdrawn" if "withdrawn" in found else "void"


def _standing_of(ask: Ask) -> Standing:
    if ask.zone.until is None and ask.reason.until is None:
        return "live"
    return "withdrawn" if max(ask.zone.since, ask.reason.since) < _end(ask) else "void"


def _end(ask: Ask) -> datetime:
    """When the first of the two sides ended. One of them has."""
    return min(until for until in (ask.zone.until, ask.reason.until) if until is not None)


def _why(ask: Ask, standing: Standing) -> str:
    if standing == "live":
        return f"{ask.because} {BY_EARLIER_RULES}" if ask.is_earlier else ask.because
    if ask.zone.void_for:
        return f"{ask.because} {VOID[ask.zone.void_for]}"
    for whose, side in (("incident", ask.zone), ("request", ask.reason)):
        if side.since == side.until:
            return f"{ask.because} All reports of the {whose} together say that this never held."
    whose = "incident" if ask.zone.until == _end(ask) else "request"
    ended = f"A revision of the {whose} ended that on {_end(ask):%Y-%m-%d at %H:%M} UTC"
    return f"{ask.because} {ended}{', before both held.' if standing == 'void' else '.'}"
