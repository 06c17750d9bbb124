"""The asyncpg pool, and what an error of PostgreSQL means to the loop."""

from typing import Any, Final

import asyncpg

from connectors.errors import Fenced, Permanent, Transient

Connection = Any  # asyncpg's pool hands out a proxy, not a Connection; both have the methods used here
Pool = Any

_TRANSIENT: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,  # statement_timeout
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InsufficientResourcesError,  # too many connections, disk full, out of memory
    asyncpg.ReadOnlySQLTransactionError,  # the primary has just become a standby
    asyncpg.InvalidCachedStatementError,  # somebody migrated the tables meanwhile
    asyncpg.exceptions.OutdatedSchemaCacheError,
    asyncpg.exceptions.InternalClientError,  # the protocol got confused, e.g. by a session that was ended
)
_PERMANENT: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)

# Every array type of our statements. asyncpg looks a type up when a connection first meets it: with three statements,
# one of them slow, each time, in the middle of a transaction that holds its fence.
_TYPES: Final = """
SELECT NULL::bigint[], NULL::boolean[], NULL::bytea[], NULL::float8[], NULL::int[], NULL::timestamptz[], NULL::uuid[]"""


async def create_pool(
    dsn: str,
    *,
    min_size: int = 2,
    max_size: int = 16,
    application_name: str = "rapid-response",
    statement_timeout_s: float = 60.0,
    idle_in_transaction_timeout_s: float = 8.0,
    lock_timeout_s: float = 20.0,
    connect_timeout_s: float = 10.0,
) -> Pool:
    """A pool whose sessions cannot hold a lock for ever.

    A worker that is stopped in the middle of a transaction (SIGSTOP, a paused machine) would keep its fence
    locked and nobody could take its partition over: `idle_in_transaction_timeout_s` ends its session.
    Raises Transient when the server cannot be reached.
    """
    try:
        return await asyncpg.create_pool(
            dsn,
            min_size=min_size,
            max_size=max_size,
            timeout=connect_timeout_s,
            init=_init,
            reset=_reset,
            command_timeout=statement_timeout_s + 5.0,  # a server that does not answer at all
            server_settings={
                "application_name": application_name,
                "statement_timeout": _ms(statement_timeout_s),
                "idle_in_transaction_session_timeout": _ms(idle_in_transaction_timeout_s),
                "lock_timeout": _ms(lock_timeout_s),
                "jit": "off",  # every statement here is short
            },
        )
    except Exception as error:
        raise classified(error) from error


async def _init(connection: Any) -> None:
    """A new connection learns all types at once."""
    await connection.fetchrow(_TYPES)


async def _reset(connection: Any) -> None:
    """Nothing here changes a session (no SET, LISTEN, cursor or advisory lock), so what asyncpg asks of the server
    at each release, a round trip for each transaction, has nothing to undo; an open transaction has."""
    if connection.is_in_transaction():
        await connection.reset()


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))


def classified(error: Exception) -> Exception:
    """Transient or Permanent for an error that the loop can deal with, else the error itself.

    The sentence never repeats a value: PostgreSQL's own messages do.
    """
    if isinstance(error, Transient | Permanent | Fenced):
        return error
    if isinstance(error, _TRANSIENT) or _is_lost_connection(error):
        return Transient(f"PostgreSQL is not available: {type(error).__name__}")
    if isinstance(error, _PERMANENT):
        return Permanent(f"PostgreSQL refused it: {_describe(error)}", getattr(error, "column_name", None))
    return error


def _is_lost_connection(error: Exception) -> bool:
    """asyncpg has no class of its own for using a connection that is gone."""
    return isinstance(error, asyncpg.InterfaceError) and any(
        words in str(error) for words in ("closed", "closing", "released", "lost", "in progress")
    )


def _describe(error: Exception) -> str:
    parts = [type(error).__name__]
    for name in ("sqlstate", "table_name", "column_name", "constraint_name"):
        value = getattr(error, name, None)
        if value:
            parts.append(f"{name} {value}")
    return ", ".join(parts)
