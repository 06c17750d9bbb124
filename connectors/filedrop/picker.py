"""Who picks files up: begun ones first, then those that nobody writes any more, each to its end.

Killed anywhere, it goes on: what stands in working/ was begun, and the database knows how far it is taken in.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from connectors.filedrop.door import Door, Overtaken, listed
from connectors.filedrop.folder import Folder, given_name
from connectors.files.errors import FileProblem
from connectors.files.rows import normalise
from connectors.mapping.items import Numbered, header_of, items_of
from connectors.mapping.mapping import Refuse, SourceMapping
from connectors.mapping.taking import Border, Taken, take
from connectors.postgres.sources import FileState

BATCH_ROWS: Final = 1_000
SEPARATORS: Final = (",", ";", "\t", "|")
SKIP_ROWS: Final = 20_000
"""Rows passed over at once, so that a request to stop is heard."""


class Done(NamedTuple):
    """A file that was put away, and what became of it."""

    name: str
    failed: bool
    report: dict[str, Any]


@dataclass(slots=True)
class Counts:
    """What has become of a source's files since this process began."""

    source: str
    files: list[Done] = field(default_factory=list)
    left_over: int = 0
    waits_for: str = ""
    problem: str = ""
    busy: bool = False  # another process works on this source

    def tell(self, reason: str) -> None:
        """Note what is waited for, "" for nothing."""
        self.waits_for = reason


@dataclass
class Picker:
    """Takes in what is dropped for one source. `now`: the time by which reports of the future are refused.

    `mapping` may be replaced at any time: a file is read by the one with which it was begun, the next by the new one.
    """

    mapping: SourceMapping
    folder: Folder
    door: Door
    refuse: Refuse
    counts: Counts
    now: Callable[[], datetime]
    settle_s: float
    clock: Callable[[], float] = time.monotonic

    async def once(self) -> None:
        """Take in all that is there and not being written: it looks, waits until it can know, and looks again."""
        await self.look()
        if not self.counts.problem and not self.counts.busy and self.folder.waiting():
            await asyncio.sleep(self.settle_s)
            await self.look()

    async def look(self) -> None:
        """One look: publish what is left over, end what was begun, pick up what is settled. Raises Transient."""
        self.counts.problem = ""
        async with self.door.turn() as mine:
            self.counts.busy = not mine
            if mine:
                await self._work()

    async def _work(self) -> None:
        self.counts.left_over += await self.door.send_left_over()
        try:
            await asyncio.to_thread(self.folder.make)
            for begun in self.folder.begun():
                await self._take_in(begun)
            for name in self.folder.settled(self.clock(), self.settle_s):
                picked = await asyncio.to_thread(self.folder.pick, name)
                if picked is not None:
                    await self._take_in(picked)
        except OSError as error:
            await self._complain(f"{self.folder.path}: {(error.strerror or 'cannot be used').lower()}.")

    async def _take_in(self, working: Path) -> None:
        state = await self.door.begin(working.name)
        border = Border(self.mapping, self.refuse, given_name(working))
        try:
            await asyncio.to_thread(_check_columns, working, border.mapping)
            state, problem = await self._rows(working, state, border)
        except FileProblem as found:
            problem = str(found)
        except Overtaken:
            return
        await self._put_away(working, state, problem.replace(str(working), border.place), border.mapping)

    async def _rows(self, working: Path, state: FileState, border: Border) -> tuple[FileState, str]:
        """Accept all rows that are not accepted yet; and why the rest of them cannot be read. Raises Overtaken."""
        rows = _Rows(items_of(working, border.mapping.file))
        for start in range(0, state.position, SKIP_ROWS):
            await asyncio.to_thread(rows.pass_over, min(SKIP_ROWS, state.position - start))
        while True:
            taken = await asyncio.to_thread(self._some, rows, border)
            if not taken.rows:
                return state, rows.problem
            await self.door.room()
            accepted = await self.door.accept(working.name, state, taken)
            state = _moved(state, taken)
            await self.door.send(accepted)

    def _some(self, rows: "_Rows", border: Border) -> Taken:
        return take(rows.some(), border, self.now())

    async def _put_away(self, working: Path, state: FileState, problem: str, mapping: SourceMapping) -> None:
        nothing = not problem and state.refused > 0 and not state.accepted + state.skipped
        if nothing:
            problem = f"{given_name(working)}: none of its {state.refused:,} rows can be used."
        report = self._report(state, problem, mapping)
        await self.door.finish(
            working.name
        )  # before it is moved: killed between the two, it is only moved again
        place = await asyncio.to_thread(self.folder.put_away, working, failed=bool(problem), report=report)
        self.counts.files.append(Done(place.name, bool(problem), report))
        if problem:
            await self._complain(problem)
        else:
            await self.door.well()

    def _report(self, state: FileState, problem: str, mapping: SourceMapping) -> dict[str, Any]:
        return {
            "source": mapping.source,
            "mapping": mapping.version,
            "ended_at": self.now().isoformat(),
            "rows": state.position,
            "accepted": state.accepted,
            "skipped": state.skipped,
            "refused": state.refused,
            "problem": problem or None,
            "refusals": state.refusals,
            "refusals_not_listed": state.refused - len(state.refusals),
        }

    async def _complain(self, sentence: str) -> None:
        self.counts.problem = sentence
        await self.door.failed(sentence)


def _check_columns(working: Path, mapping: SourceMapping) -> None:
    """A file without the columns that the mapping reads is another file. Raises FileProblem."""
    if mapping.file.format != "csv":
        return
    header = header_of(working, mapping.file)
    there = {normalise(name) for name in header}
    missing = [one for one in mapping.needed if normalise(one) not in there]
    if missing:
        found = ", ".join(header[:15])
        raise FileProblem(
            f"{working} has no column {', '.join(missing)}; its columns are: {found}{_separated(header, mapping)}."
        )


def _separated(header: list[str], mapping: SourceMapping) -> str:
    """A hint where the whole header is one cell."""
    told = mapping.file.delimiter
    likely = max(SEPARATORS, key=header[0].count)
    if len(header) > 1 or likely == told or likely not in header[0]:
        return ""
    return f"; it looks as if it were separated by {likely!r}, the mapping says {told!r} (delimiter)"


class _Rows:
    """The rows of a file. One that breaks off has a `problem`; the rows before it are good."""

    def __init__(self, rows: Iterator[Numbered]) -> None:
        self._rows = rows
        self.problem = ""

    def some(self) -> Iterator[Numbered]:
        """The next ones."""
        try:
            yield from islice(self._rows, BATCH_ROWS)
        except FileProblem as problem:
            self.problem = str(problem)

    def pass_over(self, count: int) -> None:
        """Leave out the next ones: they were accepted before."""
        try:
            for _ in islice(self._rows, count):
                pass
        except FileProblem as problem:
            self.problem = str(problem)


def _moved(state: FileState, taken: Taken) -> FileState:
    return FileState(
        state.pass_, state.position + taken.rows, state.accepted + len(taken.events),
        state.refused + len(taken.refusals), state.skipped + taken.skipped, [*state.refusals, *listed(state, taken)],
    )  # fmt: skip
