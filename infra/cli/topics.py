"""`rapid topics`: list and create them."""

from typing import Any

import typer

from infra.cli.output import Json, print_json, print_table
from infra.cli.session import run
from infra.connect import connected
from infra.embedded.installation import create_topics, departments
from infra.settings import Settings
from schemas.topics import DAY_MS, Topic, all_topics

app = typer.Typer(help="List or create the topics.", no_args_is_help=True)


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
    names = all_topics(departments(settings))
    print(f"All {len(names)} topics are on {settings.brokers}.")


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
