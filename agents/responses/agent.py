"""Responses: the one writer of their lives. Shell around `decide.py`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from agents.messages import Message, Outcome, id_of
from agents.responses.decide import Known, Looked, Rules, look, wants_orders
from agents.sla.book import Book
from connectors.ports import LifeStore, Timer, Told
from schemas.codec import encode
from schemas.envelope import Event
from schemas.policy import Policy
from schemas.response import Response
from schemas.response_life import TELLS, LifeLine, OrderHistory, OrderTally, ResponseLife
from schemas.topics import RESPONSE_LIFE

SUPERVISORS: Final = ""
NONE: Final = OrderTally(0, 0)


class Responses:
    """Reads `response-looks`, keyed by incident; a record only wakes it: it decides from the latest rows.

    `now` is what the workers' clock says: windows end by it.
    """

    def __init__(self, policy: Policy, now: Callable[[], datetime]) -> None:
        self._policy = policy
        self._now = now
        self._policies = {policy.version: policy}
        self._book = Book([policy])

    async def looks(self, store: LifeStore, messages: Sequence[Message]) -> Outcome:
        """Look at the responses of these incidents. Their rows are locked first: an order that opens meanwhile either
        is seen here, or sees what was decided here (`OrderStore.at_rest`)."""
        now = self._now()
        ids = sorted({id_of(message) for message in messages}, key=lambda one: one.int)
        lives = await store.lives(ids)
        responses = await store.responses(ids)
        tallies = await store.tallies([one.incident_id for one in responses])
        known = await self._known(store, responses, lives, tallies, now)
        rules = Rules(self._policy, self._policies, self._book)
        found = [(one.response.response_id, look(one, rules, now)) for one in known]
        # of what never was a response nothing is waited for: without this its timer would wake us for ever
        await store.set_timers([], [response_id for response_id, looked in found if looked is None])
        return await _stored(store, [looked for _, looked in found if looked is not None])

    async def _known(
        self,
        store: LifeStore,
        responses: Sequence[Response],
        lives: Mapping[UUID, ResponseLife],
        tallies: Mapping[UUID, OrderTally],
        now: datetime,
    ) -> list[Known]:
        known = [Known(one, lives.get(one.incident_id)) for one in responses]
        wanting = [
            one.response.incident_id
            for one in known
            if wants_orders(one, tallies.get(one.response.incident_id, NONE), now)
        ]
        orders = await store.histories(wanting) if wanting else {}
        await self._know(store, lives.values(), orders)
        return [one._replace(orders=orders.get(one.response.incident_id, ())) for one in known]

    async def _know(
        self,
        store: LifeStore,
        lives: Iterable[ResponseLife],
        orders: Mapping[UUID, Sequence[OrderHistory]],
    ) -> None:
        """Have the policies at hand that closings, and the promises of these orders, were made under."""
        versions = {life.policy_version for life in lives if life.state == "closed"}
        for histories in orders.values():
            versions |= {one.order.policy_version for one in histories}
            versions |= {line.policy_version for one in histories for line in one.lines}
        missing = sorted(versions - self._policies.keys())
        for version, policy in (await store.policies(missing) if missing else {}).items():
            self._policies[version] = policy
            self._book.add(policy)


async def _stored(store: LifeStore, looked: Sequence[Looked]) -> Outcome:
    changed = [one for one in looked if one.is_new]
    lines = [line for one in changed for line in one.lines]
    await store.save_lives(lines, [one.life for one in changed])
    await store.set_timers(
        [_timer(one.life, one.next_at) for one in looked if one.next_at],
        [one.life.response_id for one in looked if one.next_at is None],
    )
    telling = [line for line in lines if line.kind in TELLS]
    await store.tell([_told(line) for line in telling])
    return Outcome(events=[_event(line) for line in telling])


def _timer(life: ResponseLife, at: datetime) -> Timer:
    return Timer(life.response_id, str(life.incident_id), str(life.response_id), at, "response")


def _told(line: LifeLine) -> Told:
    return Told(SUPERVISORS, "response", str(line.response_id), line.seq, line.model_dump_json())


def _event(line: LifeLine) -> Event:
    key = str(line.incident_id)
    return Event(
        RESPONSE_LIFE.name, key, encode(line), RESPONSE_LIFE.type, str(line.response_id), line.seq, key
    )
