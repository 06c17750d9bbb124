"""Dispatch: responses x issues -> causes for work orders, from both sides. Shell around `decide.py`.

Both sides are committed before either is joined, so of a response and an issue that arrive at the same
instant, the one handled later sees the other.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from agents.dispatch.decide import DispatchInputs, decide, earlier_causes, has_earlier
from agents.messages import Message, Outcome, id_of
from agents.near import disk_around
from agents.recount import (
    ISSUE_LOOKBACK,
    counts_issue,
    first_reported,
    last_reported,
    recounts,
    widest_radius_m,
)
from agents.responses.looks import looks
from connectors.ports import DispatchStore, Reach
from schemas.base import BEGINNING, Point
from schemas.decision import DecisionRecord
from schemas.envelope import Event
from schemas.issue import Issue
from schemas.policy import Policy
from schemas.response import Response
from schemas.topics import WORK_ORDER_COMMANDS
from schemas.work_order import WorkOrderCommand

END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


class Dispatch:
    """Reads `responses` and `issues`; both only wake it: it decides from the latest rows."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._radius_m = widest_radius_m(policy)

    async def responses(self, store: DispatchStore, messages: Sequence[Message]) -> Outcome:
        """A response looks for its standing inspections and for issues in its zones; its life is looked at first."""
        responses = await self._with_kin(store, await store.responses(_ids(messages)))
        issues = await store.issues_near([self._response_reach(one) for one in responses])
        pairs = [DispatchInputs(response=one, issue=None) for one in responses]
        pairs += [
            DispatchInputs(response=one, issue=issue)
            for one in responses
            for issue in issues.get(one.response_id, ())
        ]
        outcome = await self._ask(store, pairs)
        outcome.events[:0] = looks(one.incident_id for one in responses)
        return outcome

    async def _with_kin(self, store: DispatchStore, responses: Sequence[Response]) -> list[Response]:
        """These, and with those that ask for less than before the ones that may ask in their place, and so on along a
        chain: a sensor follows a call that follows a case."""
        found = {one.incident_id: one for one in responses}
        fresh = list(responses)
        for _ in range(len(self._policy.linking.ranks) if self._policy.linking else 0):
            kin = {one for response in fresh if _has_ended(response) for one in response.kin}
            if not kin - found.keys():
                break
            fresh = await store.responses(sorted(kin - found.keys()))
            found |= {one.incident_id: one for one in fresh}
        return sorted(found.values(), key=lambda one: one.response_id.int)

    async def issues(self, store: DispatchStore, messages: Sequence[Message]) -> Outcome:
        """An issue looks for responses around it, and has those recounted that count it as open."""
        issues = await store.issues(_ids(messages))
        reaches = [self._issue_reach(one) for one in issues]
        responses = await store.responses_near(reaches)
        pairs = [
            DispatchInputs(response=response, issue=one)
            for one in issues
            for response in responses.get(one.issue_id, ())
        ]
        outcome = await self._ask(store, pairs)
        incidents = await store.incidents_near(
            [_lookback(one, reach) for one, reach in zip(issues, reaches, strict=True)]
        )
        outcome.events += recounts(
            incident.incident_id
            for one in issues
            for incident in incidents.get(one.issue_id, ())
            if counts_issue(incident, one, self._policy)
        )
        return outcome

    async def _ask(self, store: DispatchStore, pairs: Sequence[DispatchInputs]) -> Outcome:
        """Record what each pair asks for; command what is new.

        Of what concerns one order, what asks for it goes first, so that an order that passes from one telling of an
        event to another is never left without a cause, which would cancel it. What asks in the place of another is
        said again for that: it may have been said on another partition, and not yet be heard.
        """
        knowing = await self._with_asked(store, pairs)
        decided = [asked for pair in knowing for asked in decide(pair, self._policy)]
        decided.sort(key=lambda asked: (asked[0].order_key, asked[0].standing != "live", asked[0].cause_id))
        new = await store.record([record for _, record in decided])
        passing = {
            command.order_key
            for command, _ in decided
            if command.kin and command.standing != "live" and (command.cause_id, command.version) in new
        }
        return Outcome(
            events=[
                _event(command, record)
                for command, record in decided
                if (command.cause_id, command.version) in new
                or (command.kin and command.standing == "live" and command.order_key in passing)
            ]
        )

    async def _with_asked(
        self, store: DispatchStore, pairs: Sequence[DispatchInputs]
    ) -> Sequence[DispatchInputs]:
        """Of responses that carry on zones of earlier rules, with the causes that these asked for."""
        carrying = {
            at: earlier_causes(pair, self._policy)
            for at, pair in enumerate(pairs)
            if has_earlier(pair.response)
        }
        asked = (
            await store.asked([one for causes in carrying.values() for one in causes]) if carrying else set()
        )
        return [
            pair.model_copy(update={"asked": tuple(one for one in carrying.get(at, ()) if one in asked)})
            if at in carrying
            else pair
            for at, pair in enumerate(pairs)
        ]

    def _response_reach(self, response: Response) -> Reach:
        """All places where it ever had a zone; issues reported before its last zone closes."""
        until = max(zone.ends_at for zone in response.zones)
        radius_m = max(self._radius_m, *(zone.radius_m for zone in response.zones))  # wider: of earlier rules
        cells = self._cells((zone.centre for zone in response.zones), radius_m)
        return Reach(response.response_id, cells, BEGINNING, until)

    def _issue_reach(self, issue: Issue) -> Reach:
        """All places where it ever was; responses that were still open when it was reported."""
        cells = self._cells((phase.point for phase in issue.ever), self._radius_m)
        return Reach(issue.issue_id, cells, first_reported(issue), END_OF_TIME)

    def _cells(self, points: Iterable[Point | None], radius_m: float) -> list[int]:
        resolution = self._policy.cell_resolution
        return sorted(
            {cell for point in points if point for cell in disk_around(point, radius_m, resolution)}
        )


def _ids(messages: Sequence[Message]) -> list[UUID]:
    return sorted(
        {id_of(message) for message in messages}, key=lambda key: key.int
    )  # as UUIDs sort, but sooner


def _has_ended(response: Response) -> bool:
    """Whether it ever asked for something that it may no longer ask for."""
    return any(zone.until is not None for zone in response.zones)


def _lookback(issue: Issue, reach: Reach) -> Reach:
    """Where and when incidents lie that may count this issue as open around them."""
    return reach._replace(until=last_reported(issue) + ISSUE_LOOKBACK)


def _event(command: WorkOrderCommand, record: DecisionRecord) -> Event:
    return Event(
        WORK_ORDER_COMMANDS.name,
        command.order_key,
        record.output.encode(),
        WORK_ORDER_COMMANDS.type,
        str(command.cause_id),
        command.version,
        str(command.incident_id),
    )
