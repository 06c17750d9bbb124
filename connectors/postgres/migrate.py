"""Numbered SQL migrations, applied once each, in order. Why not a library: docs/decisions/0002-migrations.md."""

import hashlib
import re
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
import structlog

from connectors.postgres.pool import Connection, classified

log = structlog.get_logger(__name__)

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_LOCK_ID: Final = 7_214_803_551  # any number; every program that migrates this database uses this one
_FILE: Final = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")

_RECORD_TABLE: Final = """
CREATE TABLE IF NOT EXISTS migrations (
  number     int  PRIMARY KEY,
  name       text NOT NULL,
  checksum   text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
)"""
_APPLIED: Final = "SELECT number, checksum FROM migrations"
_RECORD: Final = "INSERT INTO migrations (number, name, checksum) VALUES ($1, $2, $3)"


class MigrationError(Exception):
    """The migrations and the database do not fit together; the message says what to do."""


class Migration(NamedTuple):
    """One file. `checksum`: SHA-256 of its text, line ends normalized."""

    number: int
    name: str
    sql: str
    checksum: str


def read_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """The migrations of a folder, by number. Raises MigrationError for a doubled number or an odd name."""
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        migration = _read(path)
        if migration.number in found:
            other = found[migration.number].name
            raise MigrationError(
                f"{path.name} has the same number as {other}; give one of them the next number."
            )
        found[migration.number] = migration
    return list(found.values())


def _read(path: Path) -> Migration:
    matched = _FILE.match(path.name)
    if matched is None:
        raise MigrationError(f"{path.name} is not named like 0001_what_it_does.sql; rename it.")
    sql = path.read_text(encoding="utf-8")
    return Migration(int(matched[1]), path.name, sql, hashlib.sha256(sql.encode()).hexdigest())


async def migrate(dsn: str, folder: Path = MIGRATIONS) -> list[str]:
    """Apply what is not applied yet and return the names of those files.

    Safe when several start at once: the others wait for the lock and find nothing to do. The lock belongs to
    the session, so a killed process leaves none behind. Raises MigrationError when an applied file was
    changed, Transient when the server cannot be reached.
    """
    migrations = read_migrations(folder)
    try:
        connection = await asyncpg.connect(dsn, timeout=10.0)
    except Exception as error:
        raise classified(error) from error
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK_ID)
        return await _apply_missing(connection, migrations)
    finally:
        await connection.close()


async def _apply_missing(connection: Connection, migrations: list[Migration]) -> list[str]:
    await connection.execute(_RECORD_TABLE)
    applied = {row["number"]: row["checksum"] for row in await connection.fetch(_APPLIED)}
    for migration in migrations:
        if applied.get(migration.number, migration.checksum) != migration.checksum:
            raise MigrationError(
                f"{migration.name} was changed after it was applied to this database; "
                "restore the file and put the change into a new migration."
            )
    unknown = sorted(applied.keys() - {migration.number for migration in migrations})
    if unknown:
        log.warning("the database has migrations that this version does not know", numbers=unknown)
    missing = [migration for migration in migrations if migration.number not in applied]
    for migration in missing:
        await _apply(connection, migration)
    return [migration.name for migration in missing]


async def _apply(connection: Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.sql)
        await connection.execute(_RECORD, migration.number, migration.name, migration.checksum)
    log.info("migrated", migration=migration.name)
