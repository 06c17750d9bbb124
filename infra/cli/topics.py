"""`rapid topics`: list them, create them, and say who may use them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Annotated, Any, Final

import typer

from connectors.kafka.acls import SOURCES, AclRule, Principals, as_commands, foreign, rules_of
from connectors.kafka.admin import KafkaAdmin, NotAllowed
from infra.cli.errors import ExitCode, Oops
from infra.cli.output import Json, print_json, print_table
from infra.cli.session import run
from infra.connect import connected
from infra.embedded.installation import all_departments, create_topics, departments
from infra.settings import Settings
from schemas.topics import DAY_MS, Topic, all_topics

app = typer.Typer(
    help="List or create the topics, and say who may read and write them.", no_args_is_help=True
)

NOBODY: Final = "none"
_PRINCIPAL: Final = re.compile(r"[A-Za-z]+:\S.*")


@app.command("list")
def list_topics(as_json: Json = False) -> None:
    """Every topic: its key, who writes and who reads it, how long it keeps its records.

    Needs no running system: this is what the installed policy's departments call for.
    """
    rows = [_row(topic) for topic in all_topics(departments(Settings()))]
    if as_json:
        print_json(rows)
    else:
        shown = ("topic", "key", "writers", "readers", "kept")
        print_table("Topics", [{name: row[name] for name in shown} for row in rows], "There are no topics.")


@app.command()
def create() -> None:
    """Create the topics that are missing on the broker; those that are there stay as they are."""
    settings = Settings()
    if not settings.broker_list:  # then they are on the embedded broker, which must run
        settings = connected(settings)
    run(create_topics(settings))
    names = all_topics(run(all_departments(settings)))
    print(f"All {len(names)} topics are on {settings.brokers}.")


@app.command()
def acls(
    *,
    principal: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHO=PRINCIPAL",
            help="Who a department (its code) or the reporters from outside (`sources`) are at the broker; again for "
            "a second one; `none`: nobody. Without it: User:CODE, User:sources.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        str, typer.Option(metavar="PRINCIPAL", help="Who our own processes are.")
    ] = "User:rapid",
    apply: Annotated[bool, typer.Option("--apply", help="Add what is missing at RAPID_BROKERS.")] = False,
    commands: Annotated[bool, typer.Option("--commands", help="Print lines for kafka-acls.sh.")] = False,
    as_json: Json = False,
) -> None:
    """Who may do what: the least that the topics call for. Prints it, or adds what is missing to the broker.

    Nothing is ever removed: rules on our topics that are not ours are named, for you to judge.
    """
    if commands and (apply or as_json):
        raise Oops("--commands prints lines for another tool: leave --apply and --json out.", 2)
    settings = Settings()
    codes = run(all_departments(settings))
    rules = rules_of(all_topics(codes), _principals(codes, workers, principal or []))
    if commands:
        print("\n".join(as_commands(rules, settings.brokers or '"$BROKERS"')))
    elif apply:
        _report(*run(_apply(settings, rules)), rules, as_json)
    elif as_json:
        print_json({"rules": _acl_rows(rules)})
    else:
        print_table("Who may do what", _acl_lines(rules), "Nobody may do anything.")


def _principals(codes: Sequence[str], workers: str, named: Sequence[str]) -> Principals:
    chosen: dict[str, tuple[str, ...]] = {}
    for one in named:
        who, _, principal = one.partition("=")
        if who not in (SOURCES, *codes):
            raise Oops(
                f"--principal {one}: say who it is, {', '.join(codes)} or {SOURCES}, as in "
                f"{codes[0]}=User:{codes[0]}.",
                ExitCode.INVALID,
            )
        chosen[who] = (*chosen.get(who, ()), *_checked(principal))
    theirs: Mapping[str, tuple[str, ...]] = {
        who: chosen.get(who, (f"User:{who}",)) for who in (SOURCES, *codes)
    }
    ours = _checked(workers)
    return Principals(ours, theirs[SOURCES], {code: theirs[code] for code in codes})


def _checked(principal: str) -> tuple[str, ...]:
    if principal == NOBODY:
        return ()
    if not _PRINCIPAL.fullmatch(principal) or principal.endswith(":*"):
        raise Oops(
            f"{principal!r} is not one principal: write its type and name, as in User:rapid, or {NOBODY}.",
            ExitCode.INVALID,
        )
    return (principal,)


async def _apply(settings: Settings, rules: Sequence[AclRule]) -> tuple[Sequence[AclRule], Sequence[AclRule]]:
    """What was added, and what is there on our topics and is not ours."""
    if not settings.broker_list or settings.embedded:
        raise Oops(
            "The embedded broker knows no logins, so there is nothing to allow: set RAPID_BROKERS to a Kafka "
            "with an authorizer.",
            ExitCode.INVALID,
        )
    admin = KafkaAdmin(settings.broker_list, security=settings.security)
    try:
        there = await admin.acls()
        missing = [rule for rule in rules if rule not in there]
        await admin.allow(missing)
    except NotAllowed as error:
        raise Oops(str(error)) from error
    return missing, foreign(there, rules)


def _report(
    added: Sequence[AclRule], others: Sequence[AclRule], rules: Sequence[AclRule], as_json: bool
) -> None:
    if as_json:
        print_json({"rules": _acl_rows(rules), "added": _acl_rows(added), "foreign": _acl_rows(others)})
        return
    print(f"Added {len(added)} of {len(rules)} rules; the others were there.")
    if added:
        print_table("Added", _acl_lines(added), "")
    print_table(
        "On our topics and groups, and not ours (kafka-acls.sh --remove, if nobody needs them)",
        _acl_lines(others),
        "There are no other rules on our topics and groups.",
    )


def _acl_rows(rules: Sequence[AclRule]) -> list[dict[str, Any]]:
    return [asdict(rule) for rule in rules]


def _acl_lines(rules: Sequence[AclRule]) -> list[dict[str, str]]:
    """One line for all that a principal may do with one topic or group."""
    return [
        {
            "principal": principal,
            "what": resource,
            "name": f"{name}…" if pattern == "prefixed" else name,
            "may": ("" if permission == "ALLOW" else "NOT ") + ", ".join(rule.operation for rule in some),
            "from": "anywhere" if host == "*" else host,
        }
        for (principal, resource, name, pattern, permission, host), some in groupby(
            rules, lambda one: (one.principal, one.resource, one.name, one.pattern, one.permission, one.host)
        )
    ]


def _row(topic: Topic) -> dict[str, Any]:
    kept = "latest of each key" if topic.compacted else f"{topic.retention_ms / DAY_MS:g} days"
    return {
        "topic": topic.name,
        "key": topic.key,
        "writers": ", ".join(topic.writers),
        "readers": ", ".join(topic.readers) or "outside",
        "access": topic.access,
        "partitions": topic.partitions,
        "kept": kept,
        "type": topic.type,
    }
