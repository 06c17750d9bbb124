"""`rapid migrate`: the tables."""

from connectors.postgres.migrate import MigrationError
from infra.cli.errors import ExitCode, Oops
from infra.cli.session import run
from infra.connect import database_url
from infra.embedded.installation import apply_migrations
from infra.settings import Settings


def migrate() -> None:
    """Bring the database's tables up to date. Safe to run again, and from several places at once."""
    url = database_url(Settings())
    try:
        applied = run(apply_migrations(url))
    except MigrationError as error:
        raise Oops(str(error), ExitCode.INVALID) from error
    print("\n".join(f"Applied {name}." for name in applied) or "The tables are up to date.")
