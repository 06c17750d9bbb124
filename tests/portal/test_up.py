"""`rapid up` with RAPID_PORTAL: what the city publishes becomes incidents and issues, whatever is killed."""

import asyncio
import os
import signal

import asyncpg
import pytest

from tests.portal.soda_server import SodaServer
from tests.portal.world import PAGE, City
from tests.system.installation import Installation, installation
from tests.timers.conftest import until_true

LIMIT_S = 90.0


async def _counts(url: str) -> tuple[int, int]:
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM incident_reports), (SELECT count(*) FROM issue_reports)"
        )
    finally:
        await connection.close()
    return row[0], row[1]


async def _until_there_are(url: str, incidents: int, issues: int) -> None:
    async def there() -> bool:
        return await _counts(url) == (incidents, issues)

    await until_true(there, LIMIT_S)


@pytest.mark.slow
async def test_rapid_up_follows_the_portal(city: City, soda: SodaServer) -> None:
    for name in ("victims", "requests"):
        city.show(name, 45)
    settings = {
        "RAPID_PORTAL": "true", "RAPID_PORTAL_URL": soda.url, "RAPID_PORTAL_PAGE_ROWS": str(PAGE), "RAPID_WORKERS": "1",
        "RAPID_PORTAL_EVERY": "victims=1s, requests=1s, crimes=off, shotspotter=off", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    with installation(settings) as made:
        await asyncio.to_thread(made.up)
        await _follows(made, city)


async def _follows(made: Installation, city: City) -> None:
    url = str(made.state()["database_url"])
    await _until_there_are(url, 45, 45)
    before = made.pids()["portal"]
    os.kill(before, signal.SIGKILL)
    city.show("victims", 15)
    city.show("requests", 15)
    await _until_there_are(url, 60, 60)
    assert made.pids()["portal"] != before
    status = await asyncio.to_thread(made.status)
    assert "portal" in {service["name"] for service in status["services"]}
