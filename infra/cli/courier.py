"""`rapid courier`: one process that sends webhooks, and tells people of alerts."""

import os

from infra.cli.session import run
from infra.connect import database_url
from infra.logging import bind, configure
from infra.settings import Settings


def courier() -> None:
    """Send webhooks, file Open311 orders, tell people of alerts, until SIGTERM: what is under way is finished.

    As many as wanted may run; each endpoint and each channel is served by one at a time, in order. It needs the
    database and no broker.
    """
    settings = Settings()
    url = database_url(settings)
    configure(settings.log_level, settings.log_format)
    bind(pid=os.getpid())
    from infra.courier import send_webhooks  # imported late: the settings are checked first

    run(send_webhooks(settings, url))
