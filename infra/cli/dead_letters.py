"""`rapid dead-letters`: the records that could not be used."""

from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from connectors.errors import Transient
from connectors.postgres import retries
from connectors.postgres.pool import Connection
from connectors.postgres.retries import Letter
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.session import database, run
from infra.connect import Endpoints, connection, database_url
from infra.embedded.installation import publish_unsent
from infra.settings import Settings

app = typer.Typer(
    help="Records that could not be used: each with its reason and its original bytes.", no_args_is_help=True
)

SHOWN_CHARACTERS = 4_000
MOST_AT_ONCE = 10_000
MOST_NAMED = 5

Id = Annotated[str, typer.Argument(metavar="ID", help="Its id, or the first characters.")]
Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID]...", help="Ids, or the first characters of one.", show_default=False),
]
All = Annotated[bool, typer.Option("--all", help="Every open one (of the topic).")]
OfTopic = Annotated[str | None, typer.Option("--topic", help="Only those of this topic.")]


@app.command("list")
def list_letters(
    as_json: Json = False,
    topic: OfTopic = None,
    state: Annotated[
        Literal["open", "retried", "discarded", "any"], typer.Option(help="Which ones.")
    ] = "open",
    limit: Annotated[int, typer.Option(min=1, max=MOST_AT_ONCE, help="How many at most.")] = 50,
) -> None:
    """The latest first: what was refused, where, and why."""
    letters = run(_list(None if state == "any" else state, topic, limit))
    if as_json:
        print_json([_as_json(letter) for letter in letters])
    else:
        print_table("Dead letters", [_row(letter) for letter in letters], "There are no dead letters.")


@app.command()
def show(dead_letter: Id, as_json: Json = False) -> None:
    """One of them with all that is known, and the record itself as text."""
    letter = run(_one(dead_letter))
    if as_json:
        print_json(_as_json(letter) | {"key": readable(letter.key), "value": readable(letter.value)})
        return
    console = Console(highlight=False, markup=False)
    for name, value in (_as_json(letter) | {"key": readable(letter.key)}).items():
        console.print(f"{name.replace('_', ' '):<15} {'' if value is None else value}")
    console.print(f"\n{readable(letter.value) or '(no value)'}")


@app.command()
def retry(ids: Ids = None, every: All = False, topic: OfTopic = None) -> None:
    """Send the original bytes again to the topic they came from, after the policy or the code was mended.

    One that still cannot be used is an open dead letter again. Rows of files and what was not kept whole cannot be
    sent again.
    """
    there = connection(Settings())
    for sentence in run(_retry(there, ids or [], every, topic)):
        print(sentence)


@app.command()
def discard(ids: Ids = None, every: All = False, topic: OfTopic = None) -> None:
    """Put them away: they are kept, but no longer counted as open."""
    count = run(_discard(ids or [], every, topic))
    print(f"Discarded {count}." if count else "There is nothing to discard.")


async def _list(state: str | None, topic: str | None, limit: int) -> list[Letter]:
    async with database(database_url(Settings())) as connected:
        return await retries.list_letters(connected, state, topic, limit)


async def _one(beginning: str) -> Letter:
    async with database(database_url(Settings())) as connected:
        return await _found(connected, beginning)


async def _retry(there: Endpoints, ids: list[str], every: bool, topic: str | None) -> list[str]:
    """Written down first, published then: a broker that is away delays it, no more. What was done, in sentences."""
    async with database(there.database_url) as connected:
        chosen = await _chosen(connected, ids, every, topic)
        hopeless = [one for one in chosen if one.state == "open" and one.hopeless]
        if hopeless and not every:
            raise Oops(_refusal(hopeless), ExitCode.INVALID)
        count = await retries.retry(connected, [one.dead_letter_id for one in chosen])
        try:
            published = await publish_unsent(
                connected, there.brokers, retries.SOURCE, embedded=there.embedded, security=there.security
            )
        except Transient as error:
            raise Oops(
                "What can be sent again is written down, but the broker is away: "
                "run the same command again when it is back.",
                ExitCode.UNREACHABLE,
            ) from error
    waited = max(0, published - count)
    done = [f"Sent {count} again."] if count else []
    done += [f"Sent {waited} that an earlier command had written down."] if waited else []
    done += [_refusal(hopeless)] if hopeless else []
    return done or ["There is nothing to send again."]


def _refusal(hopeless: list[Letter]) -> str:
    """One sentence for each reason why letters cannot be sent again, with the first of their ids."""
    ids: dict[str, list[str]] = {}
    for letter in hopeless:
        ids.setdefault(str(letter.hopeless), []).append(str(letter.dead_letter_id)[:8])
    return "\n".join(
        f"{', '.join(those[:MOST_NAMED])}{', …' if len(those) > MOST_NAMED else ''} "
        f"({len(those)}) cannot be sent again: {why}."
        for why, those in ids.items()
    )


async def _discard(ids: list[str], every: bool, topic: str | None) -> int:
    async with database(database_url(Settings())) as connected:
        chosen = await _chosen(connected, ids, every, topic)
        return await retries.discard(connected, [one.dead_letter_id for one in chosen])


async def _chosen(connected: Connection, ids: list[str], every: bool, topic: str | None) -> list[Letter]:
    if bool(ids) == every:
        raise Oops("Name the ids of dead letters, or say --all.", ExitCode.INVALID)
    if every:
        return await retries.list_letters(connected, "open", topic, MOST_AT_ONCE)
    return [await _found(connected, beginning) for beginning in ids]


async def _found(connected: Connection, beginning: str) -> Letter:
    found = await retries.find(connected, beginning.lower())
    if not found:
        raise Oops(f"There is no dead letter {beginning}: see `rapid dead-letters list`.", ExitCode.NOT_FOUND)
    if len(found) > 1:
        raise Oops(f"Several dead letters begin with {beginning}: give more of the id.", ExitCode.NOT_FOUND)
    return found[0]


def readable(raw: bytes | None) -> str | None:
    """Bytes of unknown origin as text that cannot command a terminal; cut when it is long."""
    if raw is None:
        return None
    text = raw.decode("utf-8", "replace")
    safe = "".join(one if one.isprintable() or one == "\n" else f"\\x{ord(one):02x}" for one in text)
    return safe if len(safe) <= SHOWN_CHARACTERS else f"{safe[:SHOWN_CHARACTERS]}… ({len(raw)} bytes)"


def _row(letter: Letter) -> dict[str, Any]:
    return {
        "id": str(letter.dead_letter_id)[:8],
        "origin": f"{letter.topic}/{letter.partition}@{letter.offset}",
        "reason": letter.reason,
        "field": letter.field,
        "what to do": letter.expected,
        "seen": f"{letter.last_seen:%Y-%m-%d %H:%M}",
    }


def _as_json(letter: Letter) -> dict[str, Any]:
    return {
        "dead_letter_id": str(letter.dead_letter_id),
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "reason": letter.reason,
        "field": letter.field,
        "expected": letter.expected,
        "state": letter.state,
        "last_seen": letter.last_seen.isoformat(),
    }
