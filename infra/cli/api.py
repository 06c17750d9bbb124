"""`rapid api`: one process of the REST API."""

import os

from infra.cli.errors import ExitCode, Oops
from infra.connect import connected
from infra.logging import bind, configure
from infra.policy.load import PolicyErrors
from infra.settings import Settings


def api() -> None:
    """Serve the REST API in this process, until it gets SIGTERM.

    Start as many as you like behind a load balancer: one of them at a time publishes what all of them accepted. With
    `rapid up` one is started for you; by itself it needs RAPID_BROKERS and RAPID_DATABASE_URL.
    """
    settings = connected(Settings())
    configure(settings.log_level, settings.log_format)
    bind(pid=os.getpid())
    from infra.serve import serve  # imported late: the settings are checked first

    try:
        serve(settings)
    except PolicyErrors as errors:
        raise Oops(errors.sentence, ExitCode.INVALID) from errors
