"""What commands share: a database connection, and what a failed one means to a person."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import asyncpg

from connectors.errors import Transient
from infra.cli.errors import ExitCode, Oops

T = TypeVar("T")
CONNECT_S: Final = 10.0
NO_TABLES: Final = "The database has no tables yet: run `rapid migrate`."


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine. Raises Oops where broker or database are away."""
    try:
        return asyncio.run(work)
    except Transient as error:
        said = str(error)
        end = "" if said.endswith((".", "?")) else "."
        raise Oops(f"{said}{end} See `rapid doctor`.", ExitCode.UNREACHABLE) from error
    except asyncpg.UndefinedTableError as error:
        raise Oops(NO_TABLES, ExitCode.NOT_FOUND) from error


@asynccontextmanager
async def database(url: str) -> AsyncIterator[Any]:
    """One connection to PostgreSQL. Raises Oops when it cannot be had."""
    try:
        connection = await asyncpg.connect(
            url, timeout=CONNECT_S, server_settings={"application_name": "rapid"}
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise Oops(
            f"PostgreSQL does not answer ({type(error).__name__}): see `rapid doctor`.", ExitCode.UNREACHABLE
        ) from error
    try:
        yield connection
    finally:
        await connection.close()
