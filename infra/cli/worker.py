"""`rapid worker`: one worker process."""

import os

from connectors.errors import Transient
from infra.cli.errors import ExitCode, Oops
from infra.connect import connected
from infra.logging import bind, configure
from infra.policy.load import PolicyErrors
from infra.settings import Settings


def worker() -> None:
    """Run one worker in this process: it takes its share of the partitions until it gets SIGTERM.

    Start as many as there are cores; more than partitions have nothing to do. With `rapid up` they are started for
    you; by itself it needs RAPID_BROKERS and RAPID_DATABASE_URL.
    """
    settings = connected(Settings())
    configure(settings.log_level, settings.log_format)
    bind(pid=os.getpid())
    from agents.app import run  # imported late: the agents are heavy, and the settings are checked first

    try:
        run(settings)
    except Transient as error:
        raise Oops(f"The worker cannot start: {error}", ExitCode.UNREACHABLE) from error
    except PolicyErrors as errors:
        raise Oops(errors.sentence, ExitCode.INVALID) from errors
