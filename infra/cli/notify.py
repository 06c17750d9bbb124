"""`rapid notify`: what people are told of alerts, over which channels, and how that goes."""

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple

import typer

from agents.notify.render import LANGUAGES, TEMPLATES, Reader, Rendered, Templates
from agents.notify.samples import SAMPLES
from connectors.notify.schedule import Answer
from connectors.postgres import audit, notifications
from infra.cli.actor import actor
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.screen import safe_row, short_time
from infra.cli.session import database, run
from infra.connect import database_url
from infra.notify_templates import load_templates
from infra.policy.load import SHIPPED, PolicyErrors, load_policy
from infra.settings import Settings
from schemas.oncall import OncallPolicy, Person
from schemas.policy import Policy

app = typer.Typer(
    help="Messages to people about alerts: what was sent, what waits, what fails.",
    no_args_is_help=True,
    add_completion=False,
)

MOST_ROWS: Final = 10_000

Channel = Annotated[
    str | None, typer.Option("--channel", metavar="CODE", help="Only this channel.", show_default=False)
]
OnePerson = Annotated[
    str | None, typer.Option("--person", metavar="CODE", help="Only this person.", show_default=False)
]


@app.command("list")
def list_notifications(  # noqa: PLR0917 - typer gives them by name
    undeliverable: Annotated[
        bool, typer.Option("--undeliverable", help="Only what was given up, with the reason.")
    ] = False,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="Only what is still to be sent, and what it waits for.")
    ] = False,
    person: OnePerson = None,
    channel: Channel = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:
    """Who was told of what, the newest first; and the channels that do not work."""
    if undeliverable and waiting:
        raise Oops("Say --undeliverable or --waiting: a notification is one of the two.", ExitCode.INVALID)
    state = "undeliverable" if undeliverable else "waiting" if waiting else None
    found, dead = run(_list(state, channel, person, limit))
    if as_json:
        print_json(found)
        return
    print_table("Notifications", [_row(one) for one in found], "There are no notifications.")
    for one in dead:
        print(
            f"ALERT {one['channel']}: does not work since {short_time(one['dead_since'])}. {one['dead_why']}"
        )


@app.command()
def channels(as_json: Json = False) -> None:
    """How every channel fares that was ever used: failures in a row, what waits, what was given up."""
    found = run(_channels())
    if as_json:
        print_json(found)
    else:
        print_table("Channels", [_channel(one) for one in found], "No channel was used yet.")


@app.command()
def retry(
    notification: Annotated[str, typer.Argument(metavar="ID", help="As `rapid notify list` shows it (n_…).")],
) -> None:
    """Send a notification that was given up once more, at once."""
    state = run(_retry(notification))
    if state == "":
        raise Oops(f"There is no notification {notification}: see `rapid notify list`.", ExitCode.NOT_FOUND)
    if state == "undeliverable":
        raise Oops(
            f"Nobody could be found to be told of {notification}: name somebody in oncall.yaml.",
            ExitCode.INVALID,
        )
    if state is not None:
        raise Oops(f"{notification} is {state}: only what was given up is tried again.", ExitCode.INVALID)
    print(f"{notification} is sent once more.")


@app.command("test")
def send_test(
    person: Annotated[
        str, typer.Option("--person", metavar="CODE", help="Whom to tell, as oncall.yaml has it.")
    ],
    channel: Channel = None,
    as_json: Json = False,
) -> None:
    """Send an exercise to a person over each of their channels now, from here, and show what the receivers say."""
    settings = Settings()
    policy = _policy(settings)
    known = policy.oncall.person(person)
    if known is None:
        raise Oops(
            f"There is no person {person}: choose from {_codes(policy.oncall.persons)}.", ExitCode.NOT_FOUND
        )
    if channel is not None and channel not in known.channels:
        raise Oops(
            f"{person} has no channel {channel}: choose from {', '.join(known.channels)}.", ExitCode.NOT_FOUND
        )
    answers = run(_test(settings, policy, known, [channel] if channel else list(known.channels)))
    rows = [{"channel": code, **answer._asdict()} for code, answer in answers]
    if as_json:
        print_json(rows)
    else:
        print_table(f"Sent to {known.name}", [safe_row(row) for row in rows], f"{person} has no channel.")
    if not rows or any(row["ending"] != "delivered" for row in rows):
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def preview(
    template: Annotated[str, typer.Option("--template", help=f"One of {', '.join(TEMPLATES)}.")] = "alert",
    language: Annotated[str, typer.Option("--lang", help=f"One of {', '.join(LANGUAGES)}.")] = "en",
    rich: Annotated[bool, typer.Option("--html", help="The rich form instead of the plain one.")] = False,
) -> None:
    """Show a message as its template makes it, with invented orders."""
    settings = Settings()
    known = next((one for one in TEMPLATES if one == template), None)
    spoken = next((one for one in LANGUAGES if one == language), None)
    if known is None or spoken is None:
        raise Oops(
            f"--template is one of {', '.join(TEMPLATES)}, --lang one of {', '.join(LANGUAGES)}.",
            ExitCode.INVALID,
        )
    templates = load_templates(settings.policy)
    reader = Reader("Sam Sample", _policy(settings).city.time_zone, spoken)
    for sample in SAMPLES[known][:3]:
        rendered = templates.render(known, sample.items, reader, sample.now, sample.names)
        print(
            "\n".join(
                [f"Subject: {rendered.subject}", "", rendered.html if rich else rendered.text, "", "---"]
            )
        )


@app.command()
def check(as_json: Json = False) -> None:
    """Check all templates with invented orders, and that every channel of the policy has an address here."""
    settings = Settings()
    problems = [
        *_template_problems(load_templates(settings.policy)),
        *_channel_problems(_policy(settings).oncall),
    ]
    if as_json:
        print_json({"ok": not problems, "problems": [one._asdict() for one in problems]})
    else:
        rows = [safe_row(one._asdict()) for one in problems]
        print_table("What has to be mended", rows, "All templates and all channels are right.")
    if problems:
        raise typer.Exit(ExitCode.FAILED)


class Problem(NamedTuple):
    """What is wrong, and with what."""

    of: str
    problem: str


# -- what they do


async def _list(
    state: str | None, channel: str | None, person: str | None, limit: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    async with database(database_url(Settings())) as connected:
        rows = await notifications.listed(connected, state, channel, person, limit)
        dead = [dict(row) for row in await notifications.channels(connected) if row["dead_since"]]
    return [_texts(row) for row in rows], [_texts(row) for row in dead]


async def _channels() -> list[dict[str, Any]]:
    async with database(database_url(Settings())) as connected:
        return [_texts(row) for row in await notifications.channels(connected)]


async def _retry(notification: str) -> str | None:
    async with database(database_url(Settings())) as connected, connected.transaction():
        state = await notifications.again(connected, notification, datetime.now(UTC))
        if state is None:
            await audit.write(connected, [audit.Entry(actor(), "notify.retry", notification)])
    return state


async def _test(
    settings: Settings, policy: Policy, person: Person, codes: Sequence[str]
) -> list[tuple[str, Answer]]:
    from connectors.notify.sender import Sender
    from infra.notify import Address, address_of, outgoing

    sender = Sender(settings.notify_timeout_s)
    rendered = _exercise(settings, person)
    answers = []
    for code in codes:
        address = address_of(policy.oncall, code, os.environ.get)
        if isinstance(address, Address):
            message = outgoing(f"rn_test_{os.urandom(8).hex()}", rendered, breach=False)
            answers.append((code, await sender.send(address.url, message)))
        else:
            answers.append((code, address))
    return answers


def _exercise(settings: Settings, person: Person) -> Rendered:
    """An alert that says that it is an exercise."""
    from agents.notify import samples

    now = datetime.now(UTC)
    item = samples.item(samples.alert(due_at=now, simulated=True))
    reader = Reader(person.name, person.time_zone, person.language)
    return load_templates(settings.policy).render("alert", [item], reader, now, samples.NO_LINKS)


def _template_problems(templates: Templates) -> Iterable[Problem]:
    from infra.notify_templates import TELLING

    for defect in templates.defects(TELLING):
        place = f"{defect.file}:{defect.line}" if defect.line else defect.file
        yield Problem(place, defect.message)


def _channel_problems(oncall: OncallPolicy) -> Iterable[Problem]:
    from connectors.notify.sender import Unusable, opened
    from infra.notify import Address, address_of

    for channel in oncall.channels:
        address = address_of(oncall, channel.code, os.environ.get)
        if not isinstance(address, Address):
            yield Problem(f"channel {channel.code}", address.sentence)
            continue
        try:
            opened(address.url)
        except Unusable as error:
            yield Problem(f"channel {channel.code}", str(error))


def _policy(settings: Settings) -> Policy:
    try:
        return load_policy(settings.policy or SHIPPED)
    except PolicyErrors as errors:
        raise Oops(errors.sentence, ExitCode.INVALID) from errors


def _codes(persons: Iterable[Person]) -> str:
    return ", ".join(person.code for person in persons) or "nobody: oncall.yaml names no persons"


# -- how they look


def _texts(row: Any) -> dict[str, Any]:
    return {
        name: value.astimezone(UTC).isoformat()
        if isinstance(value, datetime) and abs(value.year) > 1
        else value
        for name, value in dict(row).items()
    }


def _row(one: dict[str, Any]) -> dict[str, Any]:
    return safe_row({
        "notification": one["notification_id"],
        "about": one["reference"] or one["subject"],
        "kind": one["kind"],
        "level": one["level"],
        "person": one["person"],
        "channel": one["channel"],
        "state": one["state"],
        "since or due": short_time(one["ended_at"] or one["due_at"]),
        "attempts": one["attempts"],
        "why": one["why"] or (one["last_answer"] if one["state"] == "waiting" else "") or _waits(one),
    })  # fmt: skip


def _waits(one: dict[str, Any]) -> str:
    if one["state"] != "waiting":
        return ""
    return {"quiet": "quiet hours", "digest": "its digest"}.get(one["wait"], "more to come with it")


def _channel(one: dict[str, Any]) -> dict[str, Any]:
    return safe_row({
        "channel": one["channel"],
        "state": "dead" if one["dead_since"] else "failing" if one["failures"] else "sound",
        "failures": one["failures"],
        "waiting": one["waiting"],
        "undeliverable": one["undeliverable"],
        "delivered": short_time(one["delivered_at"]),
        "why": one["dead_why"],
    })  # fmt: skip
