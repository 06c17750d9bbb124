"""Pure: what a simulated crew says of an order, and when. The same seed and order, the same words.

Every figure here is made up: it is meant to bring up everything that departments do, not to measure any.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, Literal, NamedTuple

from schemas.policy import Policy
from schemas.work_order import DepartmentWorkOrder, Outcome, WorkOrder
from schemas.work_order_update import Verb, WorkOrderUpdate

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
LONGEST_S: Final = 96 * HOUR_S
"""Nothing is said later than this after a visit began."""

SILENT: Final = 0.06
REJECTS: Final = 0.10
STARTS_UNSEEN: Final = 0.12  # begins without having acknowledged
ESTIMATES: Final = 0.20
NOTES: Final = 0.15
PHOTOS: Final = 0.05
HOLDS: Final = 0.18
SAYS_LATE: Final = 0.10
SAYS_TWICE: Final = 0.10
SWAPS: Final = 0.08
BLUNDERS: Final = 0.06
DUPLICATES: Final = 0.04
REOPENS_WHAT_IT_SEES: Final = 0.30
HEARS_COMPLAINTS: Final = 0.06
CITY_SILENT: Final = 0.06
CITY_REOPENS: Final = 0.06

FIXES: Final[tuple[tuple[Outcome, int], ...]] = (
    ("fixed", 70), ("found_working", 10), ("contractor_maintained", 5), ("no_access", 4), ("no_such_address", 4),
    ("private_property", 4), ("not_found", 3),
)  # fmt: skip
INSPECTIONS: Final[tuple[tuple[Outcome, int], ...]] = (
    ("inspected", 80), ("fixed", 6), ("found_working", 8), ("not_found", 6),
)  # fmt: skip
CLOSING_WORDS: Final[dict[Outcome, str]] = {
    "fixed": "Repaired.", "found_working": "Found working.", "no_such_address": "No such address.",
    "contractor_maintained": "Maintained by a contractor.", "private_property": "It is private property.",
    "no_access": "No access.", "not_found": "Not found.", "inspected": "We have been there.",
}  # fmt: skip
"""What a city's clerk writes when a request is closed. Not every way to write it is known to who reads it."""
REMARKS: Final = (
    "The gate is locked until noon.",
    "Bring the long ladder.",
    "Parts are ordered.",
    "Second crew needed.",
)


class Crew(NamedTuple):
    """Who speaks: its department, and what it may refer to."""

    seed: int
    department: str
    hold_reasons: tuple[str, ...]
    others: tuple[str, ...]  # departments that it may say an order belongs to

    @classmethod
    def of(cls, policy: Policy, department: str, seed: int) -> "Crew":
        """The crew of one of the policy's departments."""
        others = {one.code for one in policy.departments} - {department, policy.triage_queue}
        return cls(seed, department, tuple(one.code for one in policy.hold_reasons), tuple(sorted(others)))


class Planned(NamedTuple):
    """Something that a crew will say. Seconds of the real world since it was told of the order.

    `update` has no times yet: whoever says it knows when that was.
    """

    happens_s: float
    sent_s: float
    update: WorkOrderUpdate
    copies: int = 1
    expected_s: float | None = None  # when the work will be done

    def dated(self, began: datetime, pace: float) -> WorkOrderUpdate:
        """The update of a visit that began then, in a world that runs `pace` times faster."""
        times = {"at": began + timedelta(seconds=self.happens_s / pace)}
        if self.expected_s is not None:
            times["estimate"] = began + timedelta(seconds=self.expected_s / pace)
        return self.update.model_copy(update=times)


def visit(
    crew: Crew, order: DepartmentWorkOrder, number: int, known: Sequence[str] = ()
) -> tuple[Planned, ...]:
    """What a crew says from being told to do an order until that is done. Nothing, where it keeps silent.

    `number`: the how-manieth time it is told to; `known`: other orders of the department, of which it may be a
    duplicate.
    """
    say = _Speaker(crew, order)
    chance = say.chance
    if chance.random() < SILENT:
        return ()
    if number == 1 and chance.random() < REJECTS:
        _reject(say)
        return tuple(say.planned)
    _begin(say)
    _hold(say)
    _end(say, [reference for reference in known if reference != order.reference])
    return _as_sent(say.planned, chance)


class _Speaker:
    """Collects what is said during one visit; `clock_s` is where it has come to."""

    def __init__(self, crew: Crew, order: DepartmentWorkOrder) -> None:
        self.crew = crew
        self.order = order
        self.name = f"{crew.department}-{order.reference}-{order.version}"
        self.chance = Random(f"rapid crew {crew.seed}: {self.name}")
        self.clock_s = 0.0
        self.planned: list[Planned] = []

    def wait(self, low_s: float, high_s: float) -> None:
        self.clock_s = min(self.clock_s + self.chance.uniform(low_s, high_s), LONGEST_S)

    def say(self, verb: Verb, expected_s: float | None = None, **members: Any) -> None:
        update = WorkOrderUpdate(
            update_id=f"{self.name}-{len(self.planned) + 1}", reference=self.order.reference, verb=verb,
            by=f"crew of {self.crew.department} (simulated)", **members,
        )  # fmt: skip
        self.planned.append(Planned(self.clock_s, self.clock_s, update, expected_s=expected_s))

    def blunders(self) -> bool:
        return self.chance.random() < BLUNDERS


def _reject(say: _Speaker) -> None:
    say.wait(10 * MINUTE_S, 6 * HOUR_S)
    there = say.chance.choice((None, *say.crew.others))
    say.say("reject", text="This is not our asset.", to_department=there)


def _begin(say: _Speaker) -> None:
    """Acknowledge, say when, go there."""
    chance = say.chance
    crew = f"Crew {chance.randint(1, 12)}"
    say.wait(5 * MINUTE_S, 3 * HOUR_S)
    if chance.random() >= STARTS_UNSEEN:
        say.say("acknowledge", crew=crew if chance.random() < 0.3 else None)
    if chance.random() < NOTES:
        say.wait(MINUTE_S, HOUR_S)
        say.say("note", text=chance.choice(REMARKS))
    if chance.random() < ESTIMATES:
        say.say("estimate", expected_s=say.clock_s + 40 * HOUR_S)
    say.wait(HOUR_S, 20 * HOUR_S)
    if say.blunders():
        say.say("hold", reason="lunch")
    say.say("start", crew=crew)


def _hold(say: _Speaker) -> None:
    chance = say.chance
    if not say.crew.hold_reasons or chance.random() >= HOLDS:
        return
    say.wait(20 * MINUTE_S, 2 * HOUR_S)
    say.say("hold", reason=chance.choice(say.crew.hold_reasons))
    say.wait(2 * HOUR_S, 30 * HOUR_S)
    say.say("resume")


def _end(say: _Speaker, known: Sequence[str]) -> None:
    chance, order = say.chance, say.order
    say.wait(20 * MINUTE_S, 5 * HOUR_S)
    if say.blunders():
        say.say("resolve", outcome="fixed", if_version=1_000_000)  # as if it had seen another one
    if known and chance.random() < DUPLICATES:
        say.say("resolve", outcome="duplicate_of", duplicate_of=chance.choice(known))
        return
    outcome = _drawn(chance, FIXES if order.work == "fix" else INSPECTIONS)
    say.say("resolve", outcome=outcome)
    if chance.random() < PHOTOS:
        say.wait(MINUTE_S, HOUR_S)
        say.say("photo", photo=f"https://photos.example/{order.reference}.jpg")
    if say.blunders():
        say.wait(MINUTE_S, HOUR_S)
        say.say("resolve", outcome="not_found" if outcome != "not_found" else "fixed")  # contradicts itself


def _drawn(chance: Random, weighted: Sequence[tuple[Outcome, int]]) -> Outcome:
    outcomes, weights = zip(*weighted, strict=True)
    drawn: Outcome = chance.choices(outcomes, weights)[0]
    return drawn


def _as_sent(planned: Sequence[Planned], chance: Random) -> tuple[Planned, ...]:
    """Some of it is entered late, some twice, and of two neighbours the later may come first."""
    sent = []
    for one in planned:
        late_s = chance.uniform(HOUR_S, 12 * HOUR_S) if chance.random() < SAYS_LATE else 0.0
        copies = 2 if chance.random() < SAYS_TWICE else 1
        sent.append(one._replace(sent_s=min(one.happens_s + late_s, LONGEST_S), copies=copies))
    for index in range(len(sent) - 1):
        if chance.random() < SWAPS:
            one, two = sent[index], sent[index + 1]
            last_s = max(one.sent_s, two.sent_s)
            sent[index] = one._replace(sent_s=last_s + MINUTE_S)
            sent[index + 1] = two._replace(sent_s=last_s)
    return tuple(sorted(sent, key=lambda one: one.sent_s))


# -- the coordination centre


def route(crew: Crew, order: DepartmentWorkOrder, number: int, policy: Policy) -> tuple[Planned, ...]:
    """What the centre does with what reaches its triage queue: to who owns such work, then to another, then no more."""
    say = _Speaker(crew, order)
    say.wait(10 * MINUTE_S, 4 * HOUR_S)
    category = policy.category(order.category)
    owner = category.department if category else None
    if number == 1 and owner and owner != crew.department:
        say.say("route", to_department=owner)
    elif number == 2 and crew.others:
        say.say("route", to_department=say.chance.choice(crew.others))
    else:
        say.say("cancel", text="Nobody's asset: taken up with the owner of the land.")
    return tuple(say.planned)


def look_again(crew: Crew, order: WorkOrder) -> tuple[Planned, ...]:
    """What the centre says of an order that was resolved: of one that is drawn, that it is done or that it is
    not; of others, once in a while, what neighbours say."""
    if order.state != "resolved":
        return ()
    chance = Random(f"rapid centre {crew.seed}: {order.reference} {order.resolved_at and order.updates}")
    name = f"{crew.department}-{order.reference}-seen-{order.updates}"
    unhappy = chance.random() < (REOPENS_WHAT_IT_SEES if order.verify else HEARS_COMPLAINTS)
    after_s = chance.uniform(HOUR_S, 12 * HOUR_S)
    if unhappy:
        said = WorkOrderUpdate(
            update_id=name, reference=order.reference, verb="reopen", text="It is as it was before."
        )
    elif order.verify:
        said = WorkOrderUpdate(update_id=name, reference=order.reference, verb="verify")
    else:
        return ()
    return (Planned(after_s, after_s, said),)


# -- a city's 311, which knows requests and not orders


class Change(NamedTuple):
    """What a clerk enters in a request. Seconds of the real world since it was filed."""

    after_s: float
    status: Literal["open", "closed"]
    notes: str | None = None
    state: str | None = None
    expected_s: float | None = None  # when it will be done


def course(seed: int, request: str) -> tuple[Change, ...]:
    """What becomes of a request: `request` is what it was filed as."""
    chance = Random(f"rapid city {seed}: {request}")
    if chance.random() < CITY_SILENT:
        return ()
    changes = []
    clock_s = chance.uniform(HOUR_S, 20 * HOUR_S)
    expected_s = clock_s + 48 * HOUR_S if chance.random() < ESTIMATES else None
    changes.append(Change(clock_s, "open", state="in_progress", expected_s=expected_s))
    if chance.random() < NOTES:
        clock_s += chance.uniform(MINUTE_S, 5 * HOUR_S)
        changes.append(Change(clock_s, "open", notes=chance.choice(REMARKS), state="in_progress"))
    clock_s += chance.uniform(HOUR_S, 30 * HOUR_S)
    changes.append(Change(clock_s, "closed", notes=CLOSING_WORDS[_drawn(chance, FIXES)]))
    if chance.random() < CITY_REOPENS:
        changes.append(Change(clock_s + 2 * HOUR_S, "open", notes="Opened again: it is not done."))
        changes.append(Change(clock_s + 9 * HOUR_S, "closed", notes="Repaired."))
    return tuple(changes)
