"""`rapid replay`: send recorded incidents and issues from files of the city."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from connectors.files.datasets import SourceFile, recognise
from connectors.files.entries import Measure, Selection, entry_of, file_rows, measure, replay_id_of
from connectors.files.errors import FileProblem
from connectors.files.fields import TIME_EXAMPLES, zoned
from connectors.files.reading import Reading
from connectors.files.replay import Counts, Door, order_of
from connectors.files.replay import replay as send
from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.publisher import KafkaPublisher
from connectors.postgres.pool import create_pool
from infra.cli.errors import Oops
from infra.cli.output import Json, print_json
from infra.cli.policy_now import policy_now
from infra.cli.session import run
from infra.connect import Endpoints, connection
from infra.drain import drained
from infra.logging import configure
from infra.settings import Settings
from infra.standing import Standing
from schemas.topics import READ_BY_US

WRONG_FILE: Final = 2  # like a wrong argument
INTERRUPTED: Final = 130
REFRESH_EVERY_S: Final = 0.2
LONG_WAIT_S: Final = 5.0
MOST_TYPES: Final = 8

Files = Annotated[
    list[Path], typer.Argument(help="CSV, JSON or JSON lines, plain or gzip.", show_default=False)
]
Speed = Annotated[
    str,
    typer.Option(
        help="`max`, or how many times faster than it happened: `60x`, in the order it became known."
    ),
]
Since = Annotated[
    str | None, typer.Option(help="Only what became known from then on; local time of the city.")
]
Until = Annotated[
    str | None, typer.Option(help="Only what became known before then; local time of the city.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Return when everything has been handled.")]


def replay(
    files: Files, *, speed: Speed = "max", since: Since = None, until: Until = None, wait: Wait = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Send recorded incidents and issues from files.

    Knows the city's victims, ShotSpotter alerts, crimes and 311 requests by their columns. Interrupted at any point,
    the same command goes on where it stopped; once it is complete, it begins again. Rows that cannot be read become
    dead letters.
    """
    settings = Settings()
    configure("CRITICAL", "console")  # what keeps it waiting is told in the progress line
    reading = _reading(settings)
    selection = Selection(_moment(since, "--since", reading), _moment(until, "--until", reading))
    screen = Screen(Console(stderr=True, quiet=as_json))
    job = Job(settings, reading, selection, _factor(speed), wait, screen)
    try:
        sources = [recognise(file) for file in files]
        measures = [measure(source.path) for source in sources]
        standing = run(_run(job, sources, measures))
    except FileProblem as problem:
        raise Oops(str(problem), WRONG_FILE) from problem
    except KeyboardInterrupt:
        raise Oops(_how_to_go_on(screen.counts), INTERRUPTED) from None
    if as_json:
        print_json(_as_json(screen, standing))
    else:
        _print_summary(screen, standing)


@dataclass(slots=True)
class Screen:
    """What a person sees while it runs: counts, rate, and what it waits for."""

    console: Console
    counts: Counts = field(default_factory=Counts)
    waits_for: str = ""
    began_s: float = field(default_factory=time.monotonic)
    seconds: float = 0.0  # for sending, without waiting for the agents
    _said_where: bool = False
    _waits_since_s: float | None = None

    def tell(self, reason: str) -> None:
        """Note what is waited for, "" for nothing."""
        if bool(reason) != bool(self.waits_for):
            self._waits_since_s = time.monotonic() if reason else None
        self.waits_for = reason

    def complain(self) -> None:
        """Where no progress line is seen, in a log or a pipe, say once that something is waited for."""
        since_s = self._waits_since_s
        if since_s and time.monotonic() - since_s > LONG_WAIT_S and not self.console.is_terminal:
            self._waits_since_s = None
            self.console.print(f"Waiting: {self.waits_for}.")

    def announce(self) -> None:
        """Say once that this replay goes on where an earlier one stopped."""
        if self.counts.began_at and not self._said_where:
            self._said_where = True
            row = self.counts.began_at + 1
            self.console.print(
                f"Going on at row {row:,}: the rows before it were accepted by an earlier run."
            )

    def line(self) -> str:
        """The progress in words."""
        counts = self.counts
        rate = counts.rows / max(0.001, time.monotonic() - self.began_s)
        parts = [
            f"{counts.rows:,} rows, {rate:,.0f}/s", f"{counts.accepted:,} reports",
            f"{counts.out_of_scope.total():,} out of scope", f"{counts.defects:,} defects",
        ]  # fmt: skip
        return ", ".join(parts) + (f" [yellow]waiting: {self.waits_for}[/]" if self.waits_for else "")


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for."""

    settings: Settings
    reading: Reading
    selection: Selection
    speed: float | None
    wait: bool
    screen: Screen


async def _run(job: Job, sources: Sequence[SourceFile], measures: Sequence[Measure]) -> Standing | None:
    there = connection(job.settings)
    replay_id = replay_id_of(measures, job.selection, order_of(job.speed), job.reading)
    read = partial(entry_of, reading=job.reading, selection=job.selection)
    screen = job.screen
    if job.speed is None:
        screen.counts.total = sum(one.lines for one in measures)  # about right for CSV, and only for the bar
    async with _door(there, screen) as door, _shown(screen):
        screen.began_s = time.monotonic()
        await send(door, replay_id, file_rows(sources), read, screen.counts, speed=job.speed)
        screen.seconds = time.monotonic() - screen.began_s
    screen.announce()
    return await _wait(job) if job.wait else None


@asynccontextmanager
async def _door(there: Endpoints, screen: Screen) -> AsyncIterator[Door]:
    pool = await create_pool(there.database_url, min_size=1, max_size=3, application_name="rapid replay")
    publisher = KafkaPublisher(there.brokers, security=there.security, idempotent=not there.embedded)
    try:
        keep = frozenset(READ_BY_US) if there.embedded else frozenset()
        yield Door(pool, publisher, KafkaAdmin(there.brokers, security=there.security), keep, screen.tell)
    finally:
        await publisher.stop()
        pool.terminate()


@asynccontextmanager
async def _shown(screen: Screen) -> AsyncIterator[None]:
    """Keep the progress line up to date meanwhile."""
    bar = Progress(SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), console=screen.console)
    with bar:
        task = bar.add_task(screen.line(), total=None)
        refreshing = asyncio.create_task(_refresh(bar, task, screen))
        try:
            yield
        finally:
            refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await refreshing
            bar.update(task, description=screen.line(), completed=1, total=1)


async def _refresh(bar: Progress, task: TaskID, screen: Screen) -> None:
    while True:
        screen.announce()
        screen.complain()
        done = screen.counts.began_at + screen.counts.rows
        total = screen.counts.total
        bar.update(task, description=screen.line(), completed=done, total=total and max(total, done + 1))
        await asyncio.sleep(REFRESH_EVERY_S)


async def _wait(job: Job) -> Standing:
    """Wait until the agents have handled everything."""
    with job.screen.console.status("Waiting for the agents") as shown:

        def tell(found: Standing | None) -> None:
            shown.update(
                "Waiting for the broker" if found is None
                else f"Waiting for the agents: {sum(found.behind.lag.values()):,} records to read, "
                f"{found.outbox_waiting:,} to publish"
            )  # fmt: skip

        return await drained(job.settings, tell)


def _reading(settings: Settings) -> Reading:
    return Reading.by(policy_now(settings))


def _moment(text: str | None, option: str, reading: Reading) -> Any:
    if text is None:
        return None
    try:
        return zoned(text, reading.zone)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"expected a time such as 2025-12-02, {TIME_EXAMPLES}.", param_hint=option
        ) from error


def _factor(speed: str) -> float | None:
    """`max` is None, `60x` is 60."""
    if speed == "max":
        return None
    with suppress(ValueError):
        factor = float(speed.removesuffix("x"))
        if 0 < factor < float("inf"):
            return factor
    raise typer.BadParameter("expected max, or a factor such as 60x.", param_hint="--speed")


def _how_to_go_on(counts: Counts) -> str:
    done = counts.began_at + counts.rows
    return f"Stopped after {done:,} rows, which are safe: the same command goes on with the next one."


def _as_json(screen: Screen, standing: Standing | None) -> dict[str, Any]:
    counts = screen.counts
    return {
        "rows": counts.rows,
        "began_at": counts.began_at,
        "accepted": counts.accepted,
        "published": counts.published,
        "left_over": counts.left_over,
        "out_of_scope": dict(counts.out_of_scope.most_common()),
        "not_selected": counts.not_selected,
        "defects": counts.defects,
        "seconds": round(screen.seconds, 3),
        "drained": standing.drained if standing else None,
        "counts": standing.counts if standing else None,
    }


def _print_summary(screen: Screen, standing: Standing | None) -> None:
    counts = screen.counts
    print(
        f"{counts.rows:,} rows read in {screen.seconds:.1f} s: {counts.accepted:,} reports accepted and published."
    )
    if counts.left_over:
        print(f"Published {counts.left_over:,} more that an earlier replay had accepted and not published.")
    if counts.not_selected:
        print(f"{counts.not_selected:,} became known outside --since and --until.")
    if counts.out_of_scope:
        print(f"{counts.out_of_scope.total():,} out of scope: {_types(counts)}.")
    if counts.defects:
        print(
            f"{counts.defects:,} could not be read: `rapid dead-letters list` says where they stand and why."
        )
    if standing:
        print(
            "Everything is handled: "
            + ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in standing.counts.items())
            + "."
        )


def _types(counts: Counts) -> str:
    first = [f"{count:,} {name}" for name, count in counts.out_of_scope.most_common(MOST_TYPES)]
    others = len(counts.out_of_scope) - len(first)
    return ", ".join(first) + (f" and {others} more types" if others else "")
