"""One pass over a dataset: from a little before the newest row that we have, page by page, to its end.

Killed anywhere it goes on after the last page that was accepted. `:updated_at` can move, rows can appear late and a
portal can show an older state: that is why a pass begins an overlap before the mark, why what is known already is
known by its content, and why the mark never goes back.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from connectors.files.reading import Reading
from connectors.portal.answers import Away, ColumnGone, Page, Refused, Unchanged, Validators, http_time
from connectors.portal.client import Portal
from connectors.portal.door import Accepted, Door, Overtaken
from connectors.portal.feeds import Feed
from connectors.portal.query import Position, query, soda_time
from connectors.portal.rows import Taken, take
from connectors.postgres.portal import Finding, Mark, Move

AHEAD_AFTER: Final = timedelta(hours=1)
"""A row that was changed later than this from now: the portal's clock, or ours, is wrong."""
ASK_AGAIN_AFTER: Final = timedelta(days=1)
"""How often a column that was gone is asked for again."""


class Wish(NamedTuple):
    """What a person asked for. `since`: read again from then on what was read before, too. `first`: where a dataset
    begins of which nothing was read yet, None for its first row."""

    page_rows: int
    since: datetime | None = None
    first: datetime | None = None


@dataclass(slots=True)
class Counts:
    """What has become of a dataset since this process began. `problem`: why the last pass ended early."""

    feed: Feed
    left_over: int = 0
    passes: int = 0
    requests: int = 0
    rows: int = 0
    accepted: int = 0
    known: int = 0
    defects: int = 0
    out_of_scope: Counter[str] = field(default_factory=Counter)
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)  # by kind and subject
    mark: datetime | None = None
    unchanged: bool = False
    problem: str = ""
    wait_s: float = 0.0  # that the portal asked for, with the problem
    waits_for: str = ""

    def asked(self) -> None:
        """Count a request."""
        self.requests += 1

    def tell(self, reason: str) -> None:
        """Note what is waited for, "" for nothing."""
        self.waits_for = reason

    def add(self, taken: Taken, accepted: Accepted) -> None:
        """Count a page that was accepted."""
        self.rows += taken.rows
        self.accepted += len(accepted.rows)
        self.defects += accepted.letters
        self.out_of_scope += taken.out_of_scope
        self.known += taken.rows - len(accepted.rows) - accepted.letters - taken.out_of_scope.total()
        self.found(accepted.findings)

    def found(self, findings: Iterable[Finding]) -> None:
        """Keep what was found of the dataset; new stays new."""
        for one in findings:
            before = self.findings.get(one[:2])
            self.findings[one[:2]] = one._replace(is_new=one.is_new or bool(before and before.is_new))


@dataclass(frozen=True, slots=True)
class Reader:
    """All that a pass needs. `now`: the wall clock."""

    portal: Portal
    door: Door
    feed: Feed
    reading: Reading
    wish: Wish
    counts: Counts
    now: Callable[[], datetime]

    async def read(self) -> None:
        """One pass. What keeps it from its end is in `counts.problem`, and kept with the dataset."""
        counts = self.counts
        counts.problem, counts.wait_s, counts.unchanged = "", 0.0, False
        counts.passes += 1
        try:
            await self._read()
        except (Away, Refused) as failed:
            counts.problem = f"The portal {failed}."
            counts.wait_s = getattr(failed, "wait_s", None) or 0.0
            await self.door.failed(counts.problem)
        except Overtaken as overtaken:
            counts.problem = f"Left: {overtaken}."
        counts.tell("")

    async def _read(self) -> None:
        self.counts.left_over += await self.door.send_left_over()
        mark = await self.door.begin()
        self.counts.mark = mark.mark
        under_way = _Pass.of(self.feed, mark, self.wish, self.now())
        while not under_way.finished:
            await self.door.room()
            found = await self._ask(under_way)
            findings = under_way.findings_of(found, self.now())
            if isinstance(found, Unchanged):
                self.counts.unchanged = True
                self.counts.found(await self.door.find(findings))
                await self.door.unchanged(mark.pass_)
                return
            await self._accept(under_way, found, findings)

    async def _ask(self, under_way: "_Pass") -> Page | Unchanged:
        """The next page, without the columns that turn out to be gone."""
        while True:
            asked = query(self.feed.columns - under_way.gone, under_way.at, self.wish.page_rows)
            try:
                return await self.portal.page(
                    self.feed.id, asked, under_way.conditional, self.counts.tell, self.counts.asked
                )
            except ColumnGone as gone:
                await self._do_without(under_way, gone.column)

    async def _do_without(self, under_way: "_Pass", column: str) -> None:
        """Raises Refused when there is no doing without it."""
        if column not in self.feed.columns - self.feed.essential:
            raise Refused(
                f"has no column {column} any more, without which its rows say nothing to us: nothing was read, what "
                "was read before is kept"
            ) from None
        under_way.gone |= {column}
        under_way.gone_at = self.now()
        sentence = f"{column} is gone from the portal: rows are read without it."
        self.counts.found(await self.door.find([Finding("column_gone", column, sentence)]))

    async def _accept(self, under_way: "_Pass", page: Page, findings: list[Finding]) -> None:
        taken = await asyncio.to_thread(take, self.feed, page.items, self.reading, under_way.rows + 1)
        to = under_way.move(page, self.wish.page_rows, self.now())
        accepted = await self.door.accept(to, taken, [*findings, *(_odd(*one) for one in taken.odd)])
        under_way.moved(to, taken.rows)
        self.counts.mark = under_way.mark
        self.counts.add(taken, accepted)
        await self.door.send(accepted.rows)


@dataclass(slots=True)
class _Pass:
    """A pass under way. `fresh`: it did not begin in the middle of an earlier one."""

    feed: Feed
    number: int
    at: Position | None
    mark: datetime | None
    seen: Validators | None
    seeing: Validators | None
    fresh: bool
    by_wish: bool
    was_gone: frozenset[str]
    gone: frozenset[str]
    gone_at: datetime | None
    pages: int = 0
    rows: int = 0
    finished: bool = False

    @classmethod
    def of(cls, feed: Feed, mark: Mark, wish: Wish, now: datetime) -> "_Pass":
        ask_all = mark.gone_at is None or now - mark.gone_at >= ASK_AGAIN_AFTER
        return cls(
            feed, mark.pass_, start_of(feed, mark, wish), mark.mark, mark.seen,
            mark.seeing if mark.under_way else None, not mark.under_way, wish.since is not None,
            mark.gone, frozenset() if ask_all else mark.gone, mark.gone_at,
        )  # fmt: skip

    @property
    def conditional(self) -> Validators | None:
        """Only the first question of a pass can be answered with "nothing new", and not when a person wants to
        read something again."""
        return self.seen if self.fresh and not self.by_wish and self.pages == 0 else None

    def findings_of(self, found: Page | Unchanged, now: datetime) -> list[Finding]:
        """What an answer says of the dataset as a whole."""
        findings = self._of_first(found) if self.pages == 0 else []
        if isinstance(found, Page) and found.items and found.items[-1].at > now + AHEAD_AFTER:
            findings.append(_ahead(found, now))
        return findings

    def _of_first(self, found: Page | Unchanged) -> list[Finding]:
        findings = []
        last = http_time(self.seen.last_modified) if self.seen else None
        if found.modified_at and last and found.modified_at < last:
            findings.append(
                _went_back(f"it is of {soda_time(found.modified_at)}, and was of {soda_time(last)}")
            )
        elif isinstance(found, Page) and not found.items and self.mark and self.fresh and not self.by_wish:
            findings.append(
                _went_back(f"it has no row of {soda_time(self.mark)} any more, where it had some")
            )
        if isinstance(found, Page):
            findings += [_back(column) for column in sorted(self.was_gone - self.gone)]
        return findings

    def move(self, page: Page, page_rows: int, now: datetime) -> Move:
        """To the place after a page. A page that is not full is the last."""
        newest = min(page.items[-1].at, now) if page.items else None
        mark = max(filter(None, (self.mark, newest)), default=None)
        seeing = self.seeing if self.pages or not self.fresh else page.validators
        finished = len(page.items) < page_rows
        gone_at = self.gone_at if self.gone else None
        return Move(
            self.feed.id, self.number, self.pages, page.end, mark, seeing, finished, self.gone, gone_at
        )

    def moved(self, to: Move, rows: int) -> None:
        """A page was accepted."""
        self.at, self.mark, self.seeing, self.finished = to.end, to.mark, to.seeing, to.finished
        self.pages += 1
        self.rows += rows


def start_of(feed: Feed, mark: Mark, wish: Wish) -> Position | None:
    """Where a pass begins, None for the dataset's first row.

    A wish can make it begin earlier, and where nothing was read yet also later; otherwise rows would be skipped.
    """
    since = wish.since
    if mark.under_way:
        start = mark.at
    elif mark.mark is not None:
        start = Position(mark.mark - feed.overlap)
    else:
        first = since or wish.first
        return None if first is None else Position(first)
    return Position(since) if since and start and since < start.at else start


def _odd(column: str, value: str) -> Finding:
    sentence = (
        f"{column} has a value that we do not know, “{value}”: docs/portal.md tells what becomes of the row."
    )
    return Finding("new_value", f"{column} = {value}", sentence)


def _ahead(page: Page, now: datetime) -> Finding:
    ahead = sum(item.at > now + AHEAD_AFTER for item in page.items)
    return Finding(
        "ahead", ":updated_at",
        f"{ahead:,} rows were changed in the future, up to {soda_time(page.items[-1].at)}: they were read, and the "
        "high-water mark stays at now.",
    )  # fmt: skip


def _went_back(how: str) -> Finding:
    return Finding(
        "went_back", "dataset",
        f"The portal went back in time: {how}. What was read is kept, and so is the high-water mark.",
    )  # fmt: skip


def _back(column: str) -> Finding:
    return Finding(
        "column_back", column,
        f"{column} is back. Rows that were read without it are read again with `rapid ingest portal --once --since`, "
        "from the day on which it went.",
    )  # fmt: skip
