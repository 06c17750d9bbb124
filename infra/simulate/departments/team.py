"""All crews at once: each over its own interface, until they have nothing more to say."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import httpx

from connectors.kafka.security import PLAINTEXT, Security
from infra.cli.errors import Oops
from infra.simulate.departments import behaviour
from infra.simulate.departments.capture import Capture
from infra.simulate.departments.city import City
from infra.simulate.departments.crew import Crew, Interface, Plan
from infra.simulate.departments.kafka import OverKafka
from infra.simulate.departments.office import CITY_KEY, Office
from infra.simulate.departments.rest import Api, OverRest
from infra.simulate.departments.serving import serving
from infra.simulate.departments.webhook import OverWebhook
from infra.simulate.together import together
from schemas.policy import Policy
from schemas.views import WholeWorkOrder

InterfaceName = Literal["kafka", "rest", "webhook", "open311"]
INTERFACES: Final[tuple[InterfaceName, ...]] = ("kafka", "rest", "webhook", "open311")
VERDICTS: Final = ("accepted", "ignored", "refused", "declined")
"""What becomes of an update; `declined`: by the interface itself."""
SUPERVISOR: Final = "supervisor"
"""The name under which `keys` has the coordination centre's."""


class Place(NamedTuple):
    """Where the crews work. `api`: URL; "": there is none, and only Kafka is spoken."""

    policy: Policy
    brokers: tuple[str, ...]
    api: str
    office: Office
    security: Security = PLAINTEXT


class Habits(NamedTuple):
    """How they work. `keys`: by department, those that are not to be made; `received`: a folder for all that they
    are told."""

    seed: int = 1
    pace: float = 100.0
    keys: Mapping[str, str] = {}
    received: Path | None = None


@dataclass(slots=True)
class Team:
    """The crews at work."""

    uses: Mapping[str, InterfaceName]
    crews: dict[str, Crew] = field(default_factory=dict)
    cities: dict[str, City] = field(default_factory=dict)
    captures: dict[str, Capture] = field(default_factory=dict)
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def check(self) -> None:
        """Raises what ended a crew."""
        for task in self.tasks:
            if task.done():
                task.result()

    def is_idle(self, quiet_s: float) -> bool:
        """Whether nobody has anything to say or is owed an answer, and nothing was heard for so long."""
        everybody: list[Crew | City] = [*self.crews.values(), *self.cities.values()]
        return all(one.is_idle(quiet_s) for one in everybody)

    def last_seen(self) -> list[dict[str, Any]]:
        """What each department saw last of each order."""
        seen = [line for crew in self.crews.values() for line in crew.last_seen()]
        return seen + [
            line for department, city in self.cities.items() for line in city.last_seen(department)
        ]

    def is_followed(self, filings: Sequence[Mapping[str, Any]]) -> bool:
        """Whether what cities have was seen by who follows it; `filings`: what `rapid open311 status` says."""
        return all(city.is_followed(filings) for city in self.cities.values())

    def write_seen(self, file: Path) -> None:
        """The same as NDJSON, for `rapid verify --seen`."""
        file.write_text("".join(json.dumps(line) + "\n" for line in self.last_seen()))

    def rows(self) -> list[dict[str, Any]]:
        """A row for each department: what it saw, said and was answered."""
        return [self._row(department) for department in self.uses]

    def _row(self, department: str) -> dict[str, Any]:
        row: dict[str, Any] = {"department": department, "interface": self.uses[department]}
        if department in self.cities:
            city = self.cities[department]
            return (
                row
                | {"orders": len(city.requests), "said": city.changes, "to say": city.to_say}
                | dict.fromkeys(VERDICTS)
            )
        crew = self.crews[department]
        verdicts = Counter(dict.fromkeys(VERDICTS, 0))
        for (verdict, _), count in crew.answers.items():
            verdicts[verdict] += count
        return row | {"orders": len(crew.seen), "said": crew.said, "to say": crew.to_say, **verdicts}


@asynccontextmanager
async def at_work(place: Place, uses: Mapping[str, InterfaceName], habits: Habits) -> AsyncIterator[Team]:
    """Set up every department's interface and start its crew; everything is taken down at the end."""
    async with AsyncExitStack() as stack:
        team = Team(uses)
        hiring = _Hiring(place, habits, team, stack)
        stack.push_async_callback(_end, team.tasks)
        await together(*(hiring.hire(*one) for one in uses.items()))
        yield team


async def _end(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Hiring:
    """Sets up one department after the other."""

    def __init__(self, place: Place, habits: Habits, team: Team, stack: AsyncExitStack) -> None:
        self._place = place
        self._habits = habits
        self._team = team
        self._stack = stack

    async def hire(self, department: str, interface: InterfaceName) -> None:
        capture = self._capture(department, interface)
        if interface == "open311":
            await self._found_city(department, capture)
            return
        spoken = await self._interface(department, interface, capture)
        crew = Crew(department, spoken, self._plan(department), self._habits.pace)
        self._team.crews[department] = crew
        self._begin(crew.work())
        if department == self._place.policy.triage_queue and self._place.api:
            self._begin(_watch(await self._api(department, Capture(None)), crew, self._who(department)))

    def _begin(self, work: Any) -> None:
        self._team.tasks.append(asyncio.create_task(work))

    def _who(self, department: str) -> behaviour.Crew:
        return behaviour.Crew.of(self._place.policy, department, self._habits.seed)

    def _plan(self, department: str) -> Plan:
        who, policy = self._who(department), self._place.policy
        if department == policy.triage_queue:
            return lambda order, number, _known: behaviour.route(who, order, number, policy)
        return partial(behaviour.visit, who)

    def _capture(self, department: str, interface: str) -> Capture:
        folder = self._habits.received
        file = folder / f"{department}-{interface}.received" if folder else None
        self._team.captures[department] = Capture(file)
        return self._team.captures[department]

    async def _interface(self, department: str, interface: str, capture: Capture) -> Interface:
        place = self._place
        if interface == "kafka":
            kafka = OverKafka(department, place.brokers, capture, place.security)
            self._stack.push_async_callback(kafka.close)
            return kafka
        api = await self._api(department, capture)
        if interface == "rest":
            return OverRest(api, capture)
        hooked = OverWebhook(api, capture)
        port = await self._stack.enter_async_context(serving(hooked.app))
        hook = await place.office.hook(department, f"http://127.0.0.1:{port}/hook")
        hooked.secret = hook.secret
        self._stack.push_async_callback(_if_there, partial(place.office.unhook, hook))
        return hooked

    async def _api(self, department: str, capture: Capture) -> Api:
        """With the department's own key; the centre speaks of others' orders, so it has a supervisor's."""
        centre = department == self._place.policy.triage_queue
        name = SUPERVISOR if centre else department
        key = self._habits.keys.get(name)
        if key is None:
            office = self._place.office
            key = await (office.key(SUPERVISOR) if centre else office.key("department", department))
        api = Api(self._place.api, key, capture)
        self._stack.push_async_callback(api.close)
        return api

    async def _found_city(self, department: str, capture: Capture) -> None:
        habits = self._habits
        city = City(CITY_KEY, partial(behaviour.course, habits.seed), habits.pace, capture)
        port = await self._stack.enter_async_context(serving(city.app()))
        office = self._place.office
        await office.endpoint(department, f"http://127.0.0.1:{port}/v2")
        self._stack.push_async_callback(_if_there, partial(office.forget, department))
        self._team.cities[department] = city
        self._begin(city.work())


async def _if_there(command: Callable[[], Awaitable[None]]) -> None:
    """The installation may be gone by now."""
    with suppress(Oops):
        await command()


async def _watch(api: Api, crew: Crew, who: behaviour.Crew) -> None:
    """The centre reads of all orders, and says what it finds of those that were resolved. Until cancelled."""
    stream, planned = OverRest(api, Capture(None)), set[str]()
    while True:
        with suppress(httpx.HTTPError):
            async for kind, data in stream.events():
                if kind != "work-order":
                    continue
                found = behaviour.look_again(who, WholeWorkOrder.model_validate_json(data))
                crew.plan([one for one in found if one.update.update_id not in planned])
                planned |= {one.update.update_id for one in found}
        await asyncio.sleep(0.5)
