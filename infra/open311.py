"""The Open311 follower as part of a process: settings → connectors → loop."""

import asyncio
import os
import random
import socket

from connectors.open311.follower import Pace, Surroundings, follow
from connectors.open311.say import say_durably
from connectors.open311.server import Place
from connectors.postgres.ledger import PostgresLedger
from connectors.postgres.pool import Pool
from connectors.postgres.submissions import Submissions
from infra.embedded.state import HOME_MARK
from infra.settings import Settings


async def follow_open311(pool: Pool, settings: Settings, stop: asyncio.Event) -> None:
    """File and follow orders at every endpoint of `rapid open311 endpoints`, until `stop`.

    What comes back waits in the outbox; an API process publishes it.
    """
    tell = say_durably(Submissions(PostgresLedger(pool)))
    pace = Pace(settle_s=settings.open311_settle_s)
    await follow(Surroundings(pool, tell, _worker(), os.environ.get, random.random, pace=pace), stop)


def _worker() -> str:
    """Who holds a lease. Under `rapid up` the one follower of its home: started again after a kill, it goes on at
    once, and does not wait until what it held itself is over."""
    home = os.environ.get(HOME_MARK)
    return f"home:{home}" if home else f"{socket.gethostname()}:{os.getpid()}"


def place_of(settings: Settings) -> Place:
    """What our own endpoint says of itself."""
    contact = settings.open311_contact or Place().contact
    return Place(settings.open311_jurisdiction or None, settings.open311_url.rstrip("/") or None, contact)
