"""`rapid db`: the database itself."""

import typer

from infra.connect import database_url
from infra.settings import Settings

app = typer.Typer(help="The address of the database.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """The address of the database."""


@app.command()
def url() -> None:
    """Print the database's URL, for psql and other tools: psql "$(rapid db url)"."""
    print(database_url(Settings()))
