"""Whatever happens on the way, the same reports end as the same tables: order, batches, workers, kills."""

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.final_tables import differences, final_tables
from tests.system.installation import Installation, installation, wait_for

CITY_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
CITY_FILES = ("victims_2024-09_2025.csv", "service_requests_2025-12.json", "graffiti_legacy_2011.csv")

Tables = dict[str, list[tuple[Any, ...]]]


def tables_of(there: Installation) -> Tables:
    async def read() -> Tables:
        connection = await asyncpg.connect(there.state()["database_url"])
        try:
            return await final_tables(connection)
        finally:
            await connection.close()

    return asyncio.run(read())


def execute(there: Installation, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(there.state()["database_url"])
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def replay(there: Installation, *files: Path) -> None:
    done = there.rapid("replay", *map(str, files), "--speed", "max", "--wait")
    assert done.returncode == 0, done.stderr + there.logs()


def shuffled(file: Path, seed: int, folder: Path) -> Path:
    """A CSV file with its rows in another order."""
    head, *rows = file.read_text().splitlines()
    random.Random(seed).shuffle(rows)
    made = folder / f"shuffled-{file.name}"
    made.write_text("\n".join([head, *rows]) + "\n")
    return made


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Four days of incidents and issues at twice the real rate."""
    folder = tmp_path_factory.mktemp("simulated")
    with installation() as there:
        made = there.rapid("simulate", "--days", "4", "--seed", "11", "--rate", "2", "--out", str(folder))
        assert made.returncode == 0, made.stderr
    return folder / "victims.csv", folder / "service_requests.json"


@pytest.fixture(scope="module")
def undisturbed(simulated: tuple[Path, Path]) -> Tables:
    """What one worker makes of the simulated files when nothing happens."""
    with installation({"RAPID_WORKERS": "1"}) as there:
        there.up()
        replay(there, *simulated)
        return tables_of(there)


def test_the_simulated_files_reach_every_table(undisturbed: Tables) -> None:
    empty = [table for table, rows in undisturbed.items() if not rows]
    assert empty == ["dead_letters"]
    assert {row[5] for row in undisturbed["work_orders"]} >= {"new", "cancelled"}


def test_three_workers_small_batches_another_order(
    simulated: tuple[Path, Path], undisturbed: Tables, tmp_path: Path
) -> None:
    victims, requests = simulated
    with installation({"RAPID_WORKERS": "3", "RAPID_PARTITIONS": "4", "RAPID_BATCH_RECORDS": "7"}) as there:
        there.up()
        replay(there, requests, shuffled(victims, 5, tmp_path))
        assert differences(undisturbed, tables_of(there)) == ""


def test_broker_and_workers_killed_and_down_and_up_in_the_middle(
    simulated: tuple[Path, Path], undisturbed: Tables
) -> None:
    with installation({"RAPID_BATCH_RECORDS": "50"}) as there:
        there.up()
        sending = there.start("replay", *map(str, simulated), "--speed", "max")
        wait_for("the first issues", lambda: there.status()["issues"] > 0)
        os.kill(there.pids()["broker"], signal.SIGKILL)
        sending.communicate(timeout=120)
        assert sending.returncode == 0
        wait_for("ready again", lambda: there.state()["phase"] == "ready")
        os.kill(there.pids()["worker-1"], signal.SIGKILL)
        there.rapid("down")
        there.up()
        wait_for("everything handled", lambda: there.status()["drained"], 120)
        assert differences(undisturbed, tables_of(there)) == ""


def test_the_real_city_files_again_in_another_order_and_from_the_start_of_every_topic() -> None:
    files = [CITY_DATA / name for name in CITY_FILES]
    if not all(file.exists() for file in files):
        pytest.skip(f"NOT TESTED with the city's real data: there is no {CITY_DATA}")
    with installation() as there:
        there.up()
        replay(there, *files)
        first = tables_of(there)
        counts = there.status()
        assert (counts["incident_reports"], counts["incidents"]) == (2291, 2258)
        assert counts["responses"] == 2258 - 86  # homicides by other means are kept and open nothing
        assert (counts["issue_reports"], counts["dead_letters"]) == (179 + 999, 0)
        replay(there, *reversed(files))
        assert differences(first, tables_of(there)) == ""
        execute(there, "DELETE FROM fences")  # whoever starts next reads every topic from its start
        old = there.pids()
        for worker in ("worker-1", "worker-2"):
            os.kill(old[worker], signal.SIGKILL)
        wait_for("new workers", lambda: not {old["worker-1"], old["worker-2"]} & set(there.pids().values()))
        wait_for("everything handled", lambda: there.status()["drained"], 120)
        assert differences(first, tables_of(there)) == ""
