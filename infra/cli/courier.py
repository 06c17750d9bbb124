"""`rapid courier`: one process that sends webhooks."""

import os

from infra.cli.session import run
from infra.connect import database_url
from infra.logging import bind, configure
from infra.settings import Settings


def courier() -> None:
    """Send what is told to webhook endpoints, until SIGTERM: what is under way is finished.

    As many as wanted may run; each endpoint is served by one at a time, in order. It needs the database and no broker.
    """
    settings = Settings()
    url = database_url(settings)
    configure(settings.log_level, settings.log_format)
    bind(pid=os.getpid())
    from infra.courier import send_webhooks  # imported late: the settings are checked first

    run(send_webhooks(settings, url))
