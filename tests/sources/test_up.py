"""`rapid up` with RAPID_SOURCES: what is dropped becomes incidents, whatever is killed or mapped wrong."""

import os
import shutil
import signal
from pathlib import Path

import asyncpg
import pytest

from tests.sources.conftest import EXAMPLES, calls
from tests.system.installation import Installation, installation
from tests.timers.conftest import until_true

LIMIT_S = 90.0


async def _until_there_are(url: str, incidents: int) -> None:
    async def there() -> bool:
        connection = await asyncpg.connect(url)
        try:
            return bool(await connection.fetchval("SELECT count(*) = $1 FROM incidents", incidents))
        finally:
            await connection.close()

    await until_true(there, LIMIT_S)


@pytest.mark.slow
async def test_rapid_up_takes_in_what_is_dropped(tmp_path: Path) -> None:
    mappings = tmp_path / "sources"
    shutil.copytree(EXAMPLES, mappings)
    (mappings / "broken.yaml").write_text("source: broken\nformat: xml\n")
    settings = {"RAPID_SOURCES": str(mappings), "RAPID_WORKERS": "1", "RAPID_DROP_SETTLE_S": "0.2"}
    with installation(settings) as made:
        made.up()
        await _follows(made)
        listed = made.rapid("sources", "list")
        assert "broken (folder): broken.yaml:1: fields: is missing" in listed.stdout


async def _follows(made: Installation) -> None:
    url, incoming = str(made.state()["database_url"]), made.home / "drop" / "cad" / "incoming"

    async def made_the_folder() -> bool:
        return incoming.is_dir()

    await until_true(made_the_folder, LIMIT_S)
    (incoming / "one.csv").write_text(calls(20))
    await _until_there_are(url, 20)
    before = made.pids()["folder"]
    os.kill(before, signal.SIGKILL)
    (incoming / "two.csv").write_text(calls(20, 20))
    await _until_there_are(url, 40)
    assert made.pids()["folder"] != before
