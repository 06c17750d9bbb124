"""What the broker has is noted for all lanes together, and nothing of it is forgotten when that fails."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from agents.settling import Published, Settling
from connectors.delivery import Incarnations, OutboxRow, Position
from connectors.errors import Transient
from tests.delivery.scenario import until

PAUSE_S = 0.01


class Ledger:
    """Keeps what it is told to settle; `answers` come first: an error is raised, False is the broker's end."""

    def __init__(self, *answers: Exception | bool) -> None:
        self.answers = list(answers)
        self.settled: list[list[int]] = []
        self.asked_s: list[float] = []

    async def settle(
        self, rows: Sequence[OutboxRow], positions: Sequence[Position], incarnations: Incarnations
    ) -> bool:
        assert [position.offset for position in positions] == [row.seq for row in rows]
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        self.settled.append([row.seq for row in rows])
        self.asked_s.append(incarnations.asked_s)
        return answer


class Told:
    """What a lane hears, and why the process would end."""

    def __init__(self) -> None:
        self.again = 0
        self.deaths: list[BaseException] = []

    def published(self, *seqs: int, boot: str = "", asked_s: float = 0.0) -> Published:
        rows = [OutboxRow(seq, "t", b"k", b"{}", []) for seq in seqs]
        incarnations = Incarnations({"t": f"{boot}/t"} if boot else {})
        incarnations.asked_s = asked_s
        return Published(rows, [Position(0, seq) for seq in seqs], incarnations, self._again)

    def _again(self) -> None:
        self.again += 1


def settling(ledger: Any, told: Told, pause_s: float = PAUSE_S) -> Settling:
    return Settling(ledger, pause_s, told.deaths.append)


async def test_lanes_that_publish_at_the_same_time_are_settled_in_one_statement() -> None:
    ledger, told = Ledger(), Told()
    one = settling(ledger, told)
    for seq in range(1, 6):
        one.note(told.published(seq, seq + 100, boot="boot-1", asked_s=10.0 - seq))
    assert await until(lambda: bool(ledger.settled), 5.0)
    assert ledger.settled == [[1, 101, 2, 102, 3, 103, 4, 104, 5, 105]]
    assert ledger.asked_s == [5.0]  # as old as the oldest answer
    one.note(told.published(6))
    assert await until(lambda: ledger.settled[1:] == [[6]], 5.0)


async def test_what_cannot_be_settled_now_is_settled_later_in_the_same_order() -> None:
    ledger, told = Ledger(Transient("away"), Transient("away")), Told()
    one = settling(ledger, told)
    one.note(told.published(1))
    assert await until(lambda: len(ledger.answers) < 2, 5.0)
    one.note(told.published(2))
    assert await until(lambda: bool(ledger.settled), 5.0)
    assert (ledger.settled, told.deaths) == ([[1, 2]], [])


async def test_rows_of_two_boots_of_the_broker_are_settled_apart_and_only_the_lane_of_the_old_one_is_told() -> (
    None
):
    ledger, old, new = Ledger(False, True), Told(), Told()
    one = settling(ledger, old, pause_s=60.0)
    one.note(old.published(1, boot="boot-1"))
    one.note(new.published(2, boot="boot-2"))
    await one.settle()
    assert (ledger.settled, old.again, new.again) == ([[1], [2]], 1, 0)


async def test_settling_that_is_interrupted_is_done_again() -> None:
    started = asyncio.Event()

    class Slow(Ledger):
        async def settle(self, *args: Any) -> bool:
            started.set()
            if not self.answers:
                return await super().settle(*args)
            self.answers.pop()
            await asyncio.Event().wait()
            raise AssertionError

    ledger, told = Slow(True), Told()
    one = settling(ledger, told, pause_s=60.0)
    one.note(told.published(1))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(one.settle(), 0.05)
    await one.settle()
    assert (started.is_set(), ledger.settled) == (True, [[1]])


async def test_what_nobody_foresaw_ends_the_process() -> None:
    ledger, told = Ledger(KeyError("bug")), Told()
    settling(ledger, told).note(told.published(1))
    assert await until(lambda: bool(told.deaths), 5.0)
    assert ledger.settled == []
