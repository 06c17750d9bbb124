"""Read models as JSON-ready values, made for the command line and for a REST API: one function each.

Restricted: but for `department_view`, they tell of incidents and are never for departments.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from agents.explain import (
    STATES,
    Story,
    area_name,
    location_in_words,
    routing_in_words,
    rule_in_words,
    told,
)
from connectors.postgres import readmodels
from connectors.postgres.policies import policies
from connectors.postgres.pool import Connection
from connectors.postgres.promises import promises_of
from connectors.postgres.readmodels import Grouping, IncidentFilter, OrderFilter
from schemas.decision import DecisionRecord
from schemas.incident import Incident
from schemas.issue import Issue
from schemas.policy import Policy
from schemas.response import TriageDecision
from schemas.sla import Clock
from schemas.work_order import WorkOrder, WorkOrderCommand
from schemas.work_order_update import LedgerEntry

Value = dict[str, Any]

NEVER_TOLD: Final = "Nothing: it ended before the department was told of it."


class UnknownName(LookupError):
    """Something was asked for by a name that the policy does not know; the message is one sentence."""


async def list_orders(connection: Connection, wanted: OrderFilter) -> list[Value]:
    """Orders that fit, the newest first, each with its first due time; with `due_before`, the first due first."""
    policy = await readmodels.newest_policy(connection)
    found = await readmodels.orders(connection, wanted)
    return [
        _order_value(one.order, policy) | {"due_at": one.next_due_at and one.next_due_at.isoformat()}
        for one in found
    ]


async def summarize_orders(connection: Connection, by: Grouping) -> list[Value]:
    """How many orders there are of each department, category or area, the most first."""
    policy = await readmodels.newest_policy(connection)
    counts = await readmodels.order_counts(connection, by)
    return [{by: one.group, "name": _group_name(by, one.group, policy)} | _figures(one) for one in counts]


def _figures(count: readmodels.OrderCount) -> Value:
    return {name: figure for name, figure in count._asdict().items() if name != "group"}


def _group_name(by: Grouping, group: str | None, policy: Policy | None) -> str | None:
    if group is None or policy is None:
        return None
    if by == "area":
        area = policy.area(int(group))
        return area.name if area else None
    known = policy.department(group) if by == "department" else policy.category(group)
    return known.name if known else None


async def show_order(connection: Connection, name: str) -> Value | None:
    """Everything of the order with this reference or id; None: there is none."""
    order = await readmodels.order(connection, name)
    if order is None:
        return None
    known = await policies(connection)
    policy = known.get(order.policy_version)
    decisions = await readmodels.history(connection, "orders", order.order_id)
    causes = await readmodels.causes_of_order(connection, order)
    seen = await readmodels.department_body(connection, order.order_id)
    promises = await promises_of(connection, order.order_id)
    return _order_value(order, policy) | {
        "order_key": order.order_key,
        "version": order.version,
        "state_in_words": STATES[order.state],
        "site": order.site.model_dump(mode="json"),
        "routing_rule": order.routing_rule,
        "routing_in_words": routing_in_words(order.routing_rule),
        "policy_version": order.policy_version,
        "decisions": [_decision_value(record) for record in decisions],
        "causes": await _cause_values(connection, causes),
        "promises": [_promise_value(clock) for clock in promises.clocks] if promises else [],
        "timeline": [_said(entry) for entry in await readmodels.ledger(connection, order.order_id)],
        "department_sees": json.loads(seen) if seen else None,
    }


def _promise_value(clock: Clock) -> Value:
    """What one clock stands at."""
    on_hold = clock.result is None and bool(clock.holds) and clock.holds[-1].until is None
    return {
        "clock": clock.name,
        "cycle": clock.cycle,
        "promised": f"{clock.target.budget} of {clock.target.calendar}",
        "due_at": clock.due_at.isoformat() if clock.due_at else None,
        "on_hold": on_hold,
        "result": clock.result,
        "ended_at": clock.ended_at.isoformat() if clock.ended_at else None,
    }


def _said(entry: LedgerEntry) -> Value:
    """A line of the ledger. `what`: the verb, or what another order said."""
    said = entry.update or entry.link
    assert said is not None
    told = said.model_dump(mode="json", exclude_none=True, exclude={"update_id", "reference", "verb", "at"})
    return {
        "seq": entry.seq,
        "at": entry.at.isoformat(),
        "received_at": entry.received_at.isoformat(),
        "by": entry.department,
        "what": entry.update.verb if entry.update else said.model_dump()["kind"],
        "update_id": entry.update.update_id if entry.update else None,
        "said": told,
        "verdict": entry.verdict,
        "rule": entry.rule,
        "because": entry.because,
    }


def _order_value(order: WorkOrder, policy: Policy | None) -> Value:
    owner = policy.department(order.department) if policy else None
    return {
        "reference": order.reference,
        "order_id": str(order.order_id),
        "state": order.state,
        "work": order.work,
        "category": order.category,
        "address": order.site.address or order.site.key,
        "area": order.site.area,
        "area_name": area_name(order.site.area, policy),
        "department": order.department,
        "department_name": owner.name if owner else order.department,
        "priority": order.priority,
        "generation": order.generation,
        "outcome": order.outcome,
        "hold_reason": order.hold_reason,
        "crew": order.crew,
        "estimate": order.estimate.isoformat() if order.estimate else None,
        "duplicate_of": order.duplicate_of,
        "verify": order.verify,
        "opened_at": order.opened_at.isoformat(),
        "acknowledged_at": order.acknowledged_at.isoformat() if order.acknowledged_at else None,
        "resolved_at": order.resolved_at.isoformat() if order.resolved_at else None,
        "cancelled_at": order.cancelled_at.isoformat() if order.cancelled_at else None,
        "covers": list(order.covers),
        "incident_ids": [str(one) for one in order.incident_ids],
        "simulated": order.simulated,
    }


def _decision_value(record: DecisionRecord) -> Value:
    return {
        "version": record.version,
        "rule": record.rule,
        "rule_in_words": rule_in_words(record.rule),
        "because": record.because,
        "policy_version": record.policy_version,
    }


async def decision_records(connection: Connection, stage: str, name: str) -> list[Value] | None:
    """Every decision on an order (stage `orders`) or an incident (`triage`), the oldest first, with what it was taken
    from; None: there is none of this name."""
    if stage == "orders":
        order = await readmodels.order(connection, name)
        subject = order.order_id if order else None
    else:
        incident = await readmodels.incident(connection, name)
        subject = incident.incident_id if incident else None
    if subject is None:
        return None
    records = await readmodels.history(connection, "orders" if stage == "orders" else "triage", subject)
    return [
        _decision_value(one) | {"inputs": json.loads(one.inputs), "output": json.loads(one.output)}
        for one in records
    ]


async def _cause_values(connection: Connection, causes: Sequence[WorkOrderCommand]) -> list[Value]:
    incidents = await readmodels.incidents_by_id(connection, {one.incident_id for one in causes})
    issues = await readmodels.issues_by_id(connection, {one.issue_id for one in causes if one.issue_id})
    return [
        _cause_value(one, incidents.get(one.incident_id), issues.get(one.issue_id) if one.issue_id else None)
        for one in sorted(causes, key=lambda one: (one.at, one.cause_id))
    ]


def _cause_value(cause: WorkOrderCommand, incident: Incident | None, issue: Issue | None) -> Value:
    return {
        "cause_id": str(cause.cause_id),
        "standing": cause.standing,
        "rule": cause.rule,
        "rule_in_words": rule_in_words(cause.rule),
        "because": cause.because,
        "priority": cause.priority,
        "at": cause.at.isoformat(),
        "ended_at": cause.ended_at.isoformat() if cause.ended_at else None,
        "incident_id": str(cause.incident_id),
        "incident_number": incident.number if incident else None,
        "incident_kind": incident.kind if incident else None,
        "issue_id": str(cause.issue_id) if cause.issue_id else None,
        "request_number": issue.request_number if issue else None,
        "issue_status": issue.status if issue else None,
    }


async def list_incidents(connection: Connection, wanted: IncidentFilter) -> list[Value]:
    """Incidents that fit, the newest first."""
    policy = await readmodels.newest_policy(connection)
    return [
        _incident_value(row.incident, row.triage, policy) | {"open_orders": row.orders}
        for row in await readmodels.incidents(connection, wanted)
    ]


async def show_incident(connection: Connection, name: str) -> Value | None:
    """Everything of the incident with this case number or id; None: there is none."""
    incident = await readmodels.incident(connection, name)
    if incident is None:
        return None
    record = (await readmodels.standing(connection, "triage", [incident.incident_id])).get(
        incident.incident_id
    )
    triage = TriageDecision.model_validate_json(record.output) if record else None
    policy = (await policies(connection)).get(record.policy_version) if record else None
    follows = triage is not None and triage.follows is not None
    orders = [] if follows else await orders_of_incident(connection, incident.incident_id)
    return _incident_value(incident, triage, policy) | {
        "version": incident.version,
        "revised_at": incident.revised_at.isoformat(),
        "sources": list(incident.sources),
        "location_type": incident.location_type,
        "phases": [phase.model_dump(mode="json") for phase in incident.phases],
        "location": triage.location.model_dump(mode="json") if triage else None,
        "location_in_words": location_in_words(triage.location, policy) if triage else None,
        "triage": _decision_value(record) if record else None,
        "severity_parts": [part.model_dump(mode="json") for part in triage.parts] if triage else [],
        "response": triage.response.model_dump(mode="json") if triage and triage.response else None,
        "followers": [tie.model_dump(mode="json") for tie in triage.followers] if triage else [],
        "orders": [_order_value(order, policy) for order in orders],
    }


async def orders_of_incident(connection: Connection, incident_id: UUID) -> list[WorkOrder]:
    """Those that it asks for, or did when they ended, the oldest first."""
    causes = await readmodels.causes_of_incidents(connection, [incident_id])
    orders = await readmodels.orders_by_key(connection, {cause.order_key for cause in causes})
    return [order for order in orders if incident_id in order.incident_ids]


def _incident_value(incident: Incident, triage: TriageDecision | None, policy: Policy | None) -> Value:
    response = triage.response if triage else None
    return {
        "number": incident.number,
        "incident_id": str(incident.incident_id),
        "occurred_at": incident.occurred_at.isoformat(),
        "kind": incident.kind,
        "validity": incident.validity,
        "victims": incident.victims,
        "killed": incident.killed,
        "block": incident.now.block,
        "area": triage.location.area if triage else None,
        "area_name": area_name(triage.location.area, policy) if triage else None,
        "tier": triage.tier if triage else None,
        "rule": triage.rule if triage else None,
        "severity": triage.severity if triage else None,
        "priority": response.priority if response else None,
        "follows": triage.follows.model_dump(mode="json") if triage and triage.follows else None,
        "simulated": incident.simulated,
    }


async def explain(connection: Connection, name: str, *, earlier: bool = False) -> list[Value] | None:
    """The story of a case number, request number, order reference, or the id of an incident, an issue, a cause, a
    response or an order, step by step; None: nothing has this name. `earlier`: also what triage held before."""
    causes, incidents, issues = await _concerned(connection, name)
    if not (causes or incidents or issues):
        return None
    story = await _story(connection, causes, incidents, issues)
    if incidents and not issues and any(map(_follows, story.triage.values())):
        story = replace(story, orders={})  # the leader's
    if earlier:
        before = [
            record
            for one in story.triage
            for record in (await readmodels.history(connection, "triage", one))[:-1]
        ]
        story = replace(story, earlier=before)
    return [step.model_dump(mode="json") for step in told(story)]


def _follows(triage: DecisionRecord) -> bool:
    return TriageDecision.model_validate_json(triage.output).follows is not None


Concerned = tuple[list[WorkOrderCommand], set[UUID], set[UUID]]


async def _concerned(connection: Connection, name: str) -> Concerned:
    """The causes, and the ids of incidents and issues, that the story of this name is about."""
    order = await readmodels.order(connection, name)
    if order:
        return await readmodels.causes_of_order(connection, order), set(), set()
    identity = readmodels.as_uuid(name)
    cause = await _cause(connection, identity) if identity else None
    if cause:
        return [cause], set(), set()
    incident = await readmodels.incident(connection, name)
    issues = await _issues_and_parents(connection, name, identity)
    incidents = {incident.incident_id} if incident else set()
    return (
        [
            *await readmodels.causes_of_incidents(connection, sorted(incidents)),
            *await readmodels.causes_of_issues(connection, sorted(issues)),
        ],
        incidents,
        issues,
    )


async def _cause(connection: Connection, identity: UUID) -> WorkOrderCommand | None:
    record = (await readmodels.standing(connection, "dispatch", [identity])).get(identity)
    return WorkOrderCommand.model_validate_json(record.output) if record else None


async def _issues_and_parents(connection: Connection, name: str, identity: UUID | None) -> set[UUID]:
    """A duplicate's story is also its parent's, which stands for it."""
    if identity:
        issues = list((await readmodels.issues_by_id(connection, [identity])).values())
    else:
        issues = await readmodels.issues_by_number(connection, name)
    return {one.issue_id for one in issues} | {one.folded_into for one in issues if one.folded_into}


async def _story(
    connection: Connection,
    causes: Sequence[WorkOrderCommand],
    incidents: Iterable[UUID],
    issues: Iterable[UUID],
) -> Story:
    """The standing decisions on all of these, each kind in the order in which it happened."""
    incident_ids = {*incidents, *(cause.incident_id for cause in causes)}
    issue_ids = {*issues, *(cause.issue_id for cause in causes if cause.issue_id)}
    orders = await readmodels.orders_by_key(connection, {cause.order_key for cause in causes})
    in_time = sorted(causes, key=lambda cause: (cause.at, cause.cause_id))
    standing = readmodels.standing
    return Story(
        incidents=await standing(connection, "intake.incident", incident_ids),
        triage=await standing(connection, "triage", incident_ids),
        issues=await standing(connection, "intake.issue", issue_ids),
        causes=_in_order(
            [cause.cause_id for cause in in_time],
            await standing(connection, "dispatch", {cause.cause_id for cause in causes}),
        ),
        orders=_in_order(
            [order.order_id for order in orders],
            await standing(connection, "orders", {order.order_id for order in orders}),
        ),
        policies=await policies(connection),
    )


def _in_order(ids: Iterable[UUID], records: Mapping[UUID, DecisionRecord]) -> dict[UUID, DecisionRecord]:
    return {one: records[one] for one in dict.fromkeys(ids) if one in records}


async def area_number(connection: Connection, name: str) -> int:
    """The number of an area that is asked for by number or name. Raises UnknownName."""
    policy = await readmodels.newest_policy(connection)
    found = policy and (policy.area(int(name)) if name.isdecimal() else policy.area_by_name(name))
    if not found:
        raise UnknownName(f"There is no area {name}: give the number or the name of a community area.")
    return found.number


async def department_code(connection: Connection, name: str) -> str:
    """The code of a department that is asked for by code or name. Raises UnknownName."""
    policy = await readmodels.newest_policy(connection)
    departments = policy.departments if policy else ()
    for one in departments:
        if name.casefold() in (one.code, one.name.casefold()):
            return one.code
    raise UnknownName(
        f"There is no department {name}: choose from {', '.join(one.code for one in departments)}."
    )


async def category_code(connection: Connection, name: str) -> str:
    """The code of a category that is asked for by code or name. Raises UnknownName."""
    policy = await readmodels.newest_policy(connection)
    categories = policy.categories if policy else ()
    for one in categories:
        if name.casefold() in (one.code, one.name.casefold()):
            return one.code
    raise UnknownName(
        f"There is no category {name}: choose from {', '.join(one.code for one in categories)}."
    )
