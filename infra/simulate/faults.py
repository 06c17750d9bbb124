"""Kills parts of an installation by a seeded schedule, and sees that they come back."""

import asyncio
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final, NamedTuple

from infra.embedded.processes import Running, send
from infra.embedded.state import State
from infra.embedded.temporary import Temporary

LOOK_EVERY_S: Final = 0.1
BACK_LIMIT_S: Final = 60.0
WORKER: Final = "worker"
BROKER: Final = "broker"


class Planned(NamedTuple):
    """A kill: when, as a share of the time that the day takes, and of what."""

    share: float
    part: str


@dataclass(slots=True)
class Faults:
    """What was killed so far, and what has come back."""

    killed: list[str] = field(default_factory=list)
    back: list[str] = field(default_factory=list)


def schedule(seed: int, parts: Mapping[str, int]) -> tuple[Planned, ...]:
    """Each part that often, spread over the day; the broker, which stops everything, not among the first."""
    chance = Random(f"rapid day, faults, {seed}")
    others = [part for part, times in sorted(parts.items()) if part != BROKER for _ in range(times)]
    chance.shuffle(others)
    order = list(others)
    for _ in range(parts.get(BROKER, 0)):
        order.insert(chance.randint(min(1, len(order)), len(order)), BROKER)
    step = 0.8 / max(1, len(order))
    return tuple(
        Planned(0.1 + step * (index + chance.uniform(0.1, 0.9)), part) for index, part in enumerate(order)
    )


async def strike(
    there: Temporary, planned: Sequence[Planned], duration_s: float, faults: Faults, seed: int
) -> None:
    """Kill each part when its time has come, at once and without a word (SIGKILL). Raises TimeoutError when one
    does not come back."""
    began_s = time.monotonic()
    chance = Random(f"rapid day, victims, {seed}")
    for one in planned:
        await asyncio.sleep(max(0.0, began_s + one.share * duration_s - time.monotonic()))
        victim = await _victim(there, one.part, chance)
        send(victim, signal.SIGKILL)
        faults.killed.append(one.part)
        await _until(there, partial(_is_back, victim))
        faults.back.append(one.part)


async def _victim(there: Temporary, part: str, chance: Random) -> Running:
    """A process of this kind, as soon as there is one."""
    return chance.choice(_of(await _until(there, lambda state: bool(_of(state, part))), part))


async def _until(there: Temporary, holds: Callable[[State | None], bool]) -> State | None:
    """The state in which it holds. Raises TimeoutError."""
    async with asyncio.timeout(BACK_LIMIT_S):
        while True:
            state = there.state()
            if holds(state):
                return state
            await asyncio.sleep(LOOK_EVERY_S)


def _of(state: State | None, part: str) -> list[Running]:
    processes = state.processes() if state else []
    return [
        one for one in processes if one.name == part or (part == WORKER and one.name.startswith("worker-"))
    ]


def _is_back(victim: Running, state: State | None) -> bool:
    """Another process has its name."""
    return any(
        one.name == victim.name and one.pid != victim.pid for one in (state.processes() if state else [])
    )
