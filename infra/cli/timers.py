"""`rapid timers`: one process that nudges."""

import os

import asyncpg

from infra.cli.errors import ExitCode, Oops
from infra.cli.session import NO_TABLES
from infra.connect import connected
from infra.logging import bind, configure
from infra.settings import Settings


def timers() -> None:
    """Tell the workers when an order's time has come, until SIGTERM.

    As many as wanted may run, on any machines: each takes a share, and what one that died had taken comes again after
    ten seconds. It needs the database and the broker, and waits for either.
    """
    settings = connected(Settings())
    configure(settings.log_level, settings.log_format)
    bind(pid=os.getpid())
    from infra.timers import keep_time  # imported late: the settings are checked first

    try:
        keep_time(settings)
    except asyncpg.UndefinedTableError as error:
        raise Oops(NO_TABLES, ExitCode.NOT_FOUND) from error
