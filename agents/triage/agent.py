"""Triage: incident -> areas, severity, response. Shell around `decide.py`."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from agents.messages import Message, Outcome, id_of
from agents.near import cells_of, disk_around
from agents.recount import (
    ISSUE_LOOKBACK,
    counts_issue,
    counts_neighbour,
    earliest,
    latest,
    may_be_one,
    may_extend,
    may_repeat,
    recounts,
    was_shooting,
    widest_radius_m,
)
from agents.triage.decide import NearIssue, TriageInputs, decide, had_plan, has_news
from agents.triage.earlier import earlier_zones
from agents.triage.linking import leader_of
from agents.triage.neighbour import Neighbour, seen
from connectors.ports import CalledFor, Geography, Reach, ResponseRow, Row, TriageStore
from schemas.decision import DecisionRecord
from schemas.envelope import Event
from schemas.incident import Incident
from schemas.issue import Issue
from schemas.policy import Policy
from schemas.response import Location, Response, TriageDecision
from schemas.topics import RESPONSES, TRIAGE_DECISIONS


class Bond(NamedTuple):
    """An incident that may stop to ask for work, and another one of the same event that may ask for it instead."""

    incident: Incident
    other: Incident
    was_revised: bool = False


Decided = tuple[TriageDecision, DecisionRecord]


class Triage:
    """Reads `incidents` and `response-commands`; both only wake it: it decides from the latest rows."""

    def __init__(self, policy: Policy, geography: Geography) -> None:
        self._policy = policy
        self._geography = geography
        self._issue_radius_m = widest_radius_m(policy)
        self._rules = f"{policy.version}/{geography.revision}"

    async def incidents(self, store: TriageStore, messages: Sequence[Message]) -> Outcome:
        """Triage incidents that are new or revised, and have those that they may aggravate recounted."""
        incidents = await store.incidents(_ids(messages))
        neighbours = await self._neighbours(store, incidents)
        together = await self._with_its_own(store, incidents, neighbours)
        outcome = await self._triage(store, together, neighbours)
        outcome.events += self._recounts_after(incidents, together, neighbours)
        return outcome

    async def commands(self, store: TriageStore, messages: Sequence[Message]) -> Outcome:
        """Triage incidents again whose surroundings changed."""
        incidents = await store.incidents(_ids(messages))
        neighbours = await self._neighbours(store, incidents)
        together = await self._with_its_own(store, incidents, neighbours)
        return await self._triage(store, together, neighbours)

    async def _with_its_own(
        self, store: TriageStore, incidents: Sequence[Incident], neighbours: dict[UUID, list[Incident]]
    ) -> Sequence[Incident]:
        """These, and those of the same event that are to ask for work when one of these no longer asks.

        They are decided in one transaction, so that dispatch finds the one asking when the other stops. What has no
        response yet has not asked for anything. `neighbours` gets those of whom is added.
        """
        together = {one.incident_id: one for one in incidents}
        bonds = [bond for one in incidents for bond in self._bonds(one, neighbours)]
        while fresh := [one for one in await _to_decide(store, bonds) if one.incident_id not in together]:
            together |= {one.incident_id: one for one in fresh}
            neighbours |= await self._neighbours(store, fresh)
            bonds = [Bond(one, leader) for one in fresh for leader in self._leader(one, neighbours)]
        return _by_id(together.values())

    def _bonds(self, incident: Incident, neighbours: Mapping[UUID, Sequence[Incident]]) -> list[Bond]:
        """With who leads it; of one that was revised with all that may ever have led or followed it."""
        if len(incident.ever) == 1:
            return [Bond(incident, leader) for leader in self._leader(incident, neighbours)]
        near = neighbours.get(incident.incident_id, ())
        kin = [other for other in near if may_be_one(incident, other, self._policy)]
        return [Bond(incident, other, was_revised=True) for other in kin]

    def _leader(self, incident: Incident, neighbours: Mapping[UUID, Sequence[Incident]]) -> list[Incident]:
        linking = self._policy.linking
        near = neighbours.get(incident.incident_id, ())
        kin = {one.incident_id: one for one in near if may_be_one(incident, one, self._policy)}
        if linking is None or not kin:
            return []
        leader = leader_of(seen(incident), map(seen, kin.values()), linking)
        return [kin[leader.incident_id]] if leader else []

    async def _triage(
        self,
        store: TriageStore,
        incidents: Sequence[Incident],
        neighbours: Mapping[UUID, list[Incident]],
    ) -> Outcome:
        locations = self._locate(incidents)
        planned = [one for one in incidents if had_plan(one, locations[one.incident_id], self._policy)]
        issues = await store.issues_near([reach for one in planned for reach in self._issue_reach(one)])
        matters = {one.incident_id for one in planned}
        inputs = [
            TriageInputs(
                incident=one,
                locations=locations[one.incident_id],
                neighbours=self._neighbours_of(one, neighbours) if one.incident_id in matters else (),
                issues=self._issues_of(one, issues),
                boundaries=self._geography.revision,
            )
            for one in incidents
        ]
        return await self._keep(store, await self._decide(store, inputs))

    async def _decide(self, store: TriageStore, inputs: Sequence[TriageInputs]) -> list[Decided]:
        """Most were never decided on by other rules: of those that were, with what these asked for."""
        called_for = await store.called_for([one.incident.incident_id for one in inputs], self._rules)
        if not called_for:
            return [decide(one, self._policy) for one in inputs]
        decided = []
        for one in inputs:
            stored = called_for.get(one.incident.incident_id)
            knows = self._knowing(one, stored) if stored else one
            if knows:
                decided.append(self._decide_after(knows, stored) if stored else decide(knows, self._policy))
        return decided

    def _knowing(self, inputs: TriageInputs, stored: CalledFor) -> TriageInputs | None:
        """With the version from which facts are counted. None: there is no fact that the policy which decided last did
        not know, so that its decision stands."""
        response = stored.response
        if response.policy_version == self._policy.version:
            return inputs.model_copy(update={"floor": response.floor})
        if not has_news(inputs, TriageInputs.model_validate_json(stored.inputs)):
            return None
        return inputs.model_copy(update={"floor": response.version})

    def _decide_after(self, inputs: TriageInputs, stored: CalledFor) -> Decided:
        """By today's rules, and once more with what these do not say of what earlier ones asked for."""
        decided = decide(inputs, self._policy)
        response, before = decided[0].response, stored.response
        if stored.rules == self._rules:
            earlier = tuple(zone for zone in before.zones if zone.earlier)
        else:
            same_policy = before.policy_version == self._policy.version
            earlier = earlier_zones(before, response.zones if response else (), same_policy=same_policy)
        return decide(inputs.model_copy(update={"earlier": earlier}), self._policy) if earlier else decided

    async def _keep(self, store: TriageStore, decided: Sequence[Decided]) -> Outcome:
        new = await store.record([record for _, record in decided])
        rows = [ResponseRow(one.response, self._row(one.response)) for one, _ in decided if one.response]
        changed = await store.save_responses(rows, self._rules)
        outcome = Outcome()
        for decision, record in decided:
            if (decision.incident_id, decision.version) in new:
                outcome.events.append(_decision_event(decision, record.output))
        outcome.events += [_response_event(response, row) for response, row in rows if row.id in changed]
        return outcome

    def _locate(self, incidents: Sequence[Incident]) -> dict[UUID, tuple[Location, ...]]:
        """Where each phase that each incident ever had lies, all in one batch."""
        phases = [(one.incident_id, phase) for one in incidents for phase in one.ever]
        located = self._geography.locate(
            [phase.point for _, phase in phases],
            [self._policy.published_area_of(phase) for _, phase in phases],
            [phase.occurred_at for _, phase in phases],
        )
        found: dict[UUID, tuple[Location, ...]] = {}
        for (incident_id, _), location in zip(phases, located, strict=True):
            found[incident_id] = (*found.get(incident_id, ()), location)
        return found

    async def _neighbours(
        self, store: TriageStore, incidents: Sequence[Incident]
    ) -> dict[UUID, list[Incident]]:
        return dict(await store.incidents_near([self._surroundings(one) for one in incidents]))

    def _surroundings(self, incident: Incident) -> Reach:
        """Where and when those lie that it counts, and those that count it: all rules of `recount` in one look. What
        may be one event is minutes apart, near repeats are days."""
        near, linking, extension = self._policy.near_repeat, self._policy.linking, self._policy.extension
        radius_m, days = max(near.radius_m, linking.radius_m if linking else 0), near.days
        if extension and extension.enabled and was_shooting(incident):
            radius_m, days = max(radius_m, self._issue_radius_m), max(days, extension.most_days)
        span = timedelta(days=days)
        return self._reach(incident, radius_m, earliest(incident) - span, latest(incident) + span)

    def _issue_reach(self, incident: Incident) -> list[Reach]:
        since, until = earliest(incident) - ISSUE_LOOKBACK, latest(incident)
        reach = self._reach(incident, self._issue_radius_m, since, until)
        return [reach] if reach.cells else []

    def _reach(self, incident: Incident, radius_m: float, since: datetime, until: datetime) -> Reach:
        resolution = self._policy.cell_resolution
        cells = {
            cell
            for phase in incident.ever
            if phase.point
            for cell in disk_around(phase.point, radius_m, resolution)
        }
        return Reach(incident.incident_id, sorted(cells), since, until)

    def _recounts_after(
        self,
        incidents: Sequence[Incident],
        together: Sequence[Incident],
        neighbours: Mapping[UUID, list[Incident]],
    ) -> list[Event]:
        """Commands for the neighbours that count these. Those that are triaged with them need none."""
        here = {one.incident_id for one in together}
        return recounts(
            other.incident_id
            for one in incidents
            for other in neighbours.get(one.incident_id, ())
            if other.incident_id not in here and counts_neighbour(other, one, self._policy)
        )

    def _neighbours_of(
        self, incident: Incident, neighbours: Mapping[UUID, list[Incident]]
    ) -> tuple[Neighbour, ...]:
        """Those that it counts, as `counts_neighbour` has it, and by which of its rules."""
        found, policy = [], self._policy
        for one in _by_id(neighbours.get(incident.incident_id, ())):
            kin, extends = may_be_one(incident, one, policy), may_extend(incident, one, policy)
            if kin or extends or may_repeat(incident, one, policy):
                found.append(seen(one, is_kin=kin, may_extend_from=latest(one) if extends else None))
        return tuple(found)

    def _issues_of(self, incident: Incident, issues: Mapping[UUID, list[Issue]]) -> tuple[NearIssue, ...]:
        return tuple(
            NearIssue(
                issue_id=one.issue_id,
                version=one.version,
                status=one.status,
                folded=one.folded_into is not None,
                category=one.category,
                created_at=one.created_at,
                closed_at=one.closed_at,
                point=one.now.point,
            )
            for one in sorted(issues.get(incident.incident_id, ()), key=lambda one: one.issue_id.int)
            if counts_issue(incident, one, self._policy)
        )

    def _row(self, response: Response) -> Row:
        resolution = self._policy.cell_resolution
        cells = cells_of((zone.centre for zone in response.zones), resolution)
        wide = [zone for zone in response.zones if zone.radius_m > self._issue_radius_m and zone.centre]
        if wide:  # of an earlier policy: an issue looks for responses as far as today's plans reach
            around = (disk_around(zone.centre, zone.radius_m, resolution) for zone in wide if zone.centre)
            cells = sorted({*cells, *(cell for disk in around for cell in disk)})
        return Row(response.response_id, response.version, cells, response.model_dump_json())


async def _to_decide(store: TriageStore, bonds: Sequence[Bond]) -> list[Incident]:
    """The others that are to be decided in the same transaction. One that has a response, and never was anything else
    than it is, is known to ask: unless the incident was revised, it need not be decided again."""
    if not bonds:
        return []
    ids = {one.incident_id for bond in bonds for one in (bond.incident, bond.other)}
    there = await store.responding(sorted(ids, key=lambda one: one.int))
    return _by_id(
        bond.other
        for bond in bonds
        if bond.incident.incident_id in there
        and (bond.was_revised or bond.other.incident_id not in there or len(bond.other.ever) > 1)
    )


def _by_id(incidents: Iterable[Incident]) -> list[Incident]:
    """Each once."""
    return sorted({one.incident_id: one for one in incidents}.values(), key=lambda one: one.incident_id.int)


def _ids(messages: Sequence[Message]) -> list[UUID]:
    return sorted(
        {id_of(message) for message in messages}, key=lambda key: key.int
    )  # as UUIDs sort, but sooner


def _decision_event(decision: TriageDecision, body: str) -> Event:
    key = str(decision.incident_id)
    return Event(TRIAGE_DECISIONS.name, key, body.encode(), TRIAGE_DECISIONS.type, key, decision.version, key)


def _response_event(response: Response, row: Row) -> Event:
    key = str(response.incident_id)
    return Event(RESPONSES.name, key, row.body.encode(), RESPONSES.type, key, response.version, key)
