"""`rapid dead-letters`: the records that could not be used."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from connectors.errors import Transient
from connectors.postgres import refused, retries
from connectors.postgres.pool import Connection
from connectors.postgres.refused import Bad, SourceReport, Window
from connectors.postgres.retries import Letter, Old, Wanted
from infra import dead_letters as work
from infra.cli.actor import actor
from infra.cli.dead_letters_shown import (
    Foreseen,
    Tally,
    print_forecast,
    print_letter,
    print_letters,
    print_old,
    print_report,
    print_sent,
    readable,
    window_until,
)
from infra.cli.durations import moment
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json
from infra.cli.session import database, run
from infra.connect import Endpoints, connection, database_url
from infra.dead_letters import Border
from infra.in_force import file_of, in_force
from infra.policy.load import PolicyErrors
from infra.settings import Settings
from infra.sources.load import load_sources
from schemas.policy import Policy

__all__ = ["app", "readable"]

app = typer.Typer(
    help="Records that could not be used: each with its reason and its original bytes.", no_args_is_help=True
)

MOST_SHOWN: Final = 10_000
MOST_AT_ONCE: Final = 1_000_000
MOST_NAMED: Final = 5
MOST_BYTES: Final = 1_000_000
MOST_WHY: Final = 500

Id = Annotated[str, typer.Argument(metavar="ID", help="Its id, or the first characters.")]
Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID]...", help="Ids, or the first characters of one.", show_default=False),
]
All = Annotated[bool, typer.Option("--all", help="Every open one that fits the other filters.")]
OfTopic = Annotated[str | None, typer.Option("--topic", help="Only those of this topic.", show_default=False)]
OfReason = Annotated[
    str | None, typer.Option("--reason", help="Refused for this reason.", show_default=False)
]
OfField = Annotated[
    str | None, typer.Option("--field", help="Refused because of this field.", show_default=False)
]
OfSource = Annotated[str | None, typer.Option("--source", help="Sent by this source.", show_default=False)]
Since = Annotated[
    str | None,
    typer.Option("--since", help="Seen since a date, a time, or so long ago (24h).", show_default=False),
]
Until = Annotated[
    str | None,
    typer.Option("--until", help="Seen before a date, a time, or so long ago.", show_default=False),
]
Contains = Annotated[
    str | None, typer.Option("--contains", help="Whose original bytes hold this text.", show_default=False)
]
Untried = Annotated[bool, typer.Option("--untried", help="Only those that were never sent again.")]
Limit = Annotated[
    int, typer.Option(min=1, max=MOST_AT_ONCE, help="How many at most, the longest waiting first.")
]


class Chosen(NamedTuple):
    """Whom a command is about: ids, or all that fit."""

    ids: Sequence[str]
    wanted: Wanted
    limit: int


@app.command("list")
def list_letters(
    *, topic: OfTopic = None, reason: OfReason = None, field: OfField = None, source: OfSource = None,
    since: Since = None, until: Until = None, contains: Contains = None, untried: Untried = False,
    state: Annotated[
        Literal["open", "retried", "discarded", "any"], typer.Option(help="Which ones.")
    ] = "open",
    limit: Annotated[int, typer.Option(min=1, max=MOST_SHOWN, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:  # fmt: skip
    """The latest first: what was refused, where, and why."""
    wanted = _wanted(topic, reason, field, source, since, until, contains, untried=untried)
    wanted = wanted._replace(state=None if state == "any" else state)
    print_letters(run(_list(wanted, limit)), as_json=as_json)


@app.command()
def show(dead_letter: Id, as_json: Json = False) -> None:
    """One of them with all that is known, the record itself as text, and what happened to it."""
    letter, history = run(_one(dead_letter))
    print_letter(letter, history, as_json=as_json)


@app.command()
def retry(
    ids: Ids = None, *, every: All = False, topic: OfTopic = None, reason: OfReason = None, field: OfField = None,
    source: OfSource = None, since: Since = None, until: Until = None, contains: Contains = None,
    untried: Untried = False, limit: Limit = MOST_AT_ONCE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing: say how many would pass now, and why others not.")
    ] = False,
    value: Annotated[
        str | None,
        typer.Option(
            "--value", metavar="FILE|-", help="Of one: what to send instead; the original is kept.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Send the original bytes again to the topic they came from, after the policy or the code was mended.

    A row of a dropped file or an element of a webhook is read again by today's mapping of its source, and its report
    goes out. One that still cannot be used is the same dead letter, open again. What was not kept whole, and rows of
    sources without a mapping, cannot be sent again. Interrupted, the same command goes on; with --untried, without
    those that have come back.

    One that is not open any more, because it was sent again or discarded, is left as it is and told, also with --value:
    that is no failure (exit code 0). Exit code 8: one of those named is open and cannot be sent; then none is.
    """
    wanted = _wanted(topic, reason, field, source, since, until, contains, untried=untried)
    chosen = _checked(Chosen(ids or [], wanted, limit), every=every)
    if value is not None and dry_run:
        run(_could_be(chosen, _read(value)))
        if as_json:
            print_json({"would_pass": 1})
        else:
            print("It would pass like that. Nothing was sent.")
    elif value is not None:
        sent, closed = run(_correct(connection(Settings()), chosen, _read(value)))
        print_sent(sent, _refusal(closed), as_json=as_json)
    elif dry_run:
        print_forecast(run(_foresee(Settings(), chosen)), as_json=as_json)
    else:
        _send(chosen, as_json=as_json)


@app.command()
def discard(
    ids: Ids = None, *, every: All = False, topic: OfTopic = None, reason: OfReason = None, field: OfField = None,
    source: OfSource = None, since: Since = None, until: Until = None, contains: Contains = None,
    untried: Untried = False, limit: Limit = MOST_AT_ONCE,
    why: Annotated[str, typer.Option("--why", help="Kept with each, beside who and when.")] = "",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Put them away: they are kept for a while, but no longer counted as open. More than one needs --why."""
    wanted = _wanted(topic, reason, field, source, since, until, contains, untried=untried)
    chosen = _checked(Chosen(ids or [], wanted, limit), every=every)
    count = run(_discard(chosen, why.strip()[:MOST_WHY]))
    if as_json:
        print_json({"discarded": count})
    else:
        print(f"Discarded {count:,}." if count else "There is nothing to discard.")


@app.command()
def report(
    *,
    since: Annotated[str, typer.Option("--since", help="A date, a time, or so long ago (1h).")] = "1h",
    threshold: Annotated[
        float, typer.Option(min=0, max=100, help="Percent of a source's records from which it is marked.")
    ] = 5.0,
    at_least: Annotated[int, typer.Option(min=1, help="Records from which it is marked.")] = 5,
    as_json: Json = False,
) -> None:
    """Who sends what cannot be used, and why: the top reasons of each source, beside the same time a day before."""
    now = _now()
    window = window_until(now, moment(since, now).astimezone(UTC))
    print_report(run(_report(window, Bad(threshold / 100, at_least))), window, as_json=as_json)


@app.command()
def prune(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Let go of those that were retried or discarded more than RAPID_DEAD_LETTER_DAYS ago. Open ones always stay.

    The courier does it once a day.
    """
    settings = Settings()
    days = settings.dead_letter_days
    if dry_run:
        print_old(run(_old(settings, days)), days, as_json=as_json)
        return
    gone = run(_prune(settings, days))
    if as_json:
        print_json({"days": days, "gone": gone})
    else:
        print(f"Let go of {gone:,}." if gone else f"Nothing was closed more than {days} days ago.")


# ---------------------------------------------------------------- what was asked for


def _wanted(  # noqa: PLR0917 - the filters, in the order in which they are declared
    topic: str | None, reason: str | None, field: str | None, source: str | None, since: str | None,
    until: str | None, contains: str | None, *, untried: bool,
) -> Wanted:  # fmt: skip
    now = _now()
    return Wanted(
        "open", topic, reason, field, source,
        moment(since, now) if since else None, moment(until, now) if until else None,
        contains.encode() if contains else None, untried,
    )  # fmt: skip


def _checked(chosen: Chosen, *, every: bool) -> Chosen:
    """Ids, or filters, or --all in so many words. Raises Oops."""
    filtered = chosen.wanted != Wanted()
    if bool(chosen.ids) == (every or filtered):
        raise Oops(
            "Name the ids of dead letters, or say which ones by --topic, --reason, --field, --source, --since, "
            "--until, --contains, --untried, or --all.",
            ExitCode.INVALID,
        )
    return chosen


def _read(name: str) -> bytes:
    try:
        raw = sys.stdin.buffer.read(MOST_BYTES) if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise Oops(f"{name} cannot be read ({error.strerror}).", ExitCode.INVALID) from error
    return raw.strip()


def _now() -> datetime:
    return datetime.now(UTC)


# ---------------------------------------------------------------- with the database


async def _list(wanted: Wanted, limit: int) -> list[Letter]:
    async with database(database_url(Settings())) as connected:
        return await retries.list_letters(connected, wanted, limit)


async def _one(beginning: str) -> tuple[Letter, list[retries.Happened]]:
    async with database(database_url(Settings())) as connected:
        letter = await _found(connected, beginning)
        return letter, await retries.history(connected, letter.dead_letter_id)


async def _found(connected: Connection, beginning: str) -> Letter:
    found = await retries.find(connected, beginning.lower())
    if not found:
        raise Oops(f"There is no dead letter {beginning}: see `rapid dead-letters list`.", ExitCode.NOT_FOUND)
    if len(found) > 1:
        raise Oops(f"Several dead letters begin with {beginning}: give more of the id.", ExitCode.NOT_FOUND)
    return found[0]


async def _ids(connected: Connection, chosen: Chosen) -> list[UUID]:
    if chosen.ids:
        return [(await _found(connected, beginning)).dead_letter_id for beginning in chosen.ids]
    return await retries.choose(connected, chosen.wanted, chosen.limit)


def _send(chosen: Chosen, *, as_json: bool) -> None:
    with _bar(quiet=as_json) as tell:
        at, left = run(_retry(connection(Settings()), chosen, tell))
    print_sent(at, _refusal(left), as_json=as_json)


Tell = Callable[[work.Progress, int], None]


async def _retry(there: Endpoints, chosen: Chosen, tell: Tell) -> tuple[work.Progress, list[Letter]]:
    """Written down first, published then: a broker that is away delays it, no more. Also those that were left."""
    async with database(there.database_url) as connected:
        ids = await _ids(connected, chosen)
        new, left = await _apart(connected, ids)
        hopeless = [one for one in left if one.state == "open"]
        for one in hopeless:
            if one.today:
                await retries.retell(connected, one)
        if hopeless and chosen.ids:
            raise Oops(str(_refusal(hopeless)), ExitCode.INVALID)
        out = {one.dead_letter_id for one in hopeless}
        todo = [one for one in ids if one not in out]
        try:
            at = await work.send_again(
                connected, there, todo, actor(), lambda at: tell(at, len(todo)), new=new
            )
        except Transient as error:
            raise Oops(
                "The broker is away: nothing is lost, run the same command again when it is back.",
                ExitCode.UNREACHABLE,
            ) from error
    return at, hopeless if at.before else left  # what this very command had written down is no news


async def _apart(
    connected: Connection, ids: Sequence[UUID]
) -> tuple[dict[UUID, retries.Correction], list[Letter]]:
    """What rows say by today's mappings; and letters that are not sent, with why."""
    new: dict[UUID, retries.Correction] = {}
    left: list[Letter] = []
    rereading: work.Rereading | None = None
    async for letter in _each(connected, ids):
        if letter.state == "open" and letter.is_row:
            rereading = rereading or await _rereading(connected, Settings())
            found = await rereading.look(letter)
            if isinstance(found, retries.Correction):
                new[letter.dead_letter_id] = found
            else:
                left.append(found)
        elif letter.state != "open" or letter.hopeless:
            left.append(letter)
    return new, left


async def _rereading(connected: Connection, settings: Settings) -> work.Rereading:
    """By the mapping files as they are now, checked by the policy in force."""
    found = await in_force(connected)
    policy, now = found.policy if found else _policy(settings), _now()
    return work.Rereading(connected, Border(policy, now), load_sources(settings.sources, policy), now)


async def _each(connected: Connection, ids: Sequence[UUID]) -> AsyncIterator[Letter]:
    for first in range(0, len(ids), work.BATCH):
        for letter in await retries.letters_of(connected, ids[first : first + work.BATCH]):
            yield letter


def _refusal(hopeless: Sequence[Letter]) -> str | None:
    """One sentence for each reason why letters are not sent again, with the first of their ids."""
    ids: dict[str, list[str]] = {}
    for letter in hopeless:
        ids.setdefault(_why_not(letter), []).append(str(letter.dead_letter_id)[:8])
    sentences = [
        f"{', '.join(those[:MOST_NAMED])}{', …' if len(those) > MOST_NAMED else ''} ({len(those)}) {why}."
        for why, those in ids.items()
    ]
    return "\n".join(sentences) or None


def _why_not(letter: Letter) -> str:
    if letter.state == "open":
        return f"cannot be sent again: {letter.hopeless}"
    done = "sent again" if letter.state == "retried" else letter.state
    return f"left as it is: {done} already, see `rapid dead-letters show`"


async def _corrected(connected: Connection, chosen: Chosen, raw: bytes) -> tuple[Letter, retries.Correction]:
    """The one letter that is meant, and what it is to say. Raises Oops when that would not pass either."""
    letter = await _the_one(connected, chosen)
    return letter, (await _border(connected, Settings())).corrected(letter, raw)


async def _the_one(connected: Connection, chosen: Chosen) -> Letter:
    if len(chosen.ids) != 1:
        raise Oops("--value is what one dead letter should have said: name one id.", ExitCode.INVALID)
    return await _found(connected, chosen.ids[0])


async def _could_be(chosen: Chosen, raw: bytes) -> None:
    async with database(database_url(Settings())) as connected:
        await _corrected(connected, chosen, raw)


async def _correct(there: Endpoints, chosen: Chosen, raw: bytes) -> tuple[work.Progress, list[Letter]]:
    """How far it came; and the letter, where it is not open any more."""
    async with database(there.database_url) as connected:
        letter = await _the_one(connected, chosen)
        if letter.state != "open":
            return work.Progress(1, 0, 0), [letter]
        letter, new = await _corrected(connected, chosen, raw)
        try:
            return await work.send_corrected(connected, there, letter, new, actor()), []
        except Transient as error:
            raise Oops(
                "The correction is written down, but the broker is away: `rapid dead-letters retry --all` sends it "
                "when it is back.",
                ExitCode.UNREACHABLE,
            ) from error


async def _foresee(settings: Settings, chosen: Chosen) -> Tally:
    tally = Tally()
    async with database(database_url(settings)) as connected:
        border, rereading = await _border(connected, settings), await _rereading(connected, settings)
        async for letter in _each(connected, await _ids(connected, chosen)):
            if letter.state == "open":
                found = await rereading.look(letter)
                if isinstance(found, retries.Correction):
                    tally.add(Foreseen(letter, work.PASSES))
                else:
                    tally.add(Foreseen(found, border.forecast(found)))
    return tally


async def _border(connected: Connection, settings: Settings) -> Border:
    """Of the policy that is in force; before a first start, of the one that the settings name."""
    found = await in_force(connected)
    return Border(found.policy if found else _policy(settings), _now())


def _policy(settings: Settings) -> Policy:
    try:
        return file_of(settings).policy
    except PolicyErrors as errors:
        raise Oops(errors.sentence, ExitCode.INVALID) from errors


async def _discard(chosen: Chosen, why: str) -> int:
    async with database(database_url(Settings())) as connected:
        ids = await _ids(connected, chosen)
        if len(ids) > 1 and not why:
            raise Oops(f"{len(ids):,} dead letters: say --why they are put away.", ExitCode.INVALID)
        return await work.put_away(connected, ids, actor(), why)


async def _report(window: Window, bad: Bad) -> list[SourceReport]:
    async with database(database_url(Settings())) as connected:
        return await refused.report(connected, window, bad)


async def _old(settings: Settings, days: int) -> list[Old]:
    async with database(database_url(settings)) as connected:
        return await retries.old(connected, days)


async def _prune(settings: Settings, days: int) -> int:
    async with database(database_url(settings)) as connected:
        return await work.let_go(connected, days)


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Tell]:
    """A line that shows how far it is, on a terminal."""
    columns = (TextColumn("Sending again"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    out = Console(stderr=True)
    with Progress(*columns, console=out, disable=quiet or not out.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda at, letters: bar.update(task, completed=at.done, total=letters)
