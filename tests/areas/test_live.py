"""Boundaries imported while workers run: they take them up with their next batch, without looking by themselves and
without a restart; and days decided again."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
import shapely
from shapely.geometry import Point as Spot

from connectors.geography.areas import Areas
from tests.areas.made_files import city_export
from tests.areas.test_in_force import CHATHAM, ENGLEWOOD, WEST_ENGLEWOOD
from tests.system.installation import Installation, installation, wait_for

pytestmark = pytest.mark.slow

LIMIT_S: Final = 120.0
COLUMNS: Final = (
    "CASE_NUMBER,DATE,BLOCK,VICTIMIZATION_PRIMARY,INCIDENT_PRIMARY,GUNSHOT_INJURY_I,UNIQUE_ID,COMMUNITY_AREA,"
    "DISTRICT,BEAT,LOCATION_DESCRIPTION,UPDATED,LATITUDE,LONGITUDE"
)
NEVER_LOOKS: Final = """
import sys
if "worker" in sys.orig_argv:
    import infra.in_force
    infra.in_force.LOOK_EVERY_S = 3600.0
"""
"""For the workers' processes only: whatever they take up, they were not told of it by their own looks."""
BEHIND: Final = """
SELECT count(*) FROM decisions d WHERE d.stage = 'triage' AND coalesce((d.inputs::json ->> 'boundaries')::bigint, 0)
  < (SELECT count(*) FROM activations a WHERE a.what = 'areas' AND a.at < d.recorded_at)"""
"""Decisions of transactions that began after an activation, and go by the one before."""
RETRIAGE: Final = ("areas", "retriage", "--from", "2026-02-01", "--to", "2026-02-02", "--json")


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Two workers that never look, and a temporary folder of their own."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "sitecustomize.py").write_text(NEVER_LOOKS)
    scratch = folder / "scratch"
    scratch.mkdir()
    with installation({"PYTHONPATH": str(folder), "TMPDIR": str(scratch)}) as made:
        made.up("--workers", "2")
        yield made


@pytest.fixture(scope="module")
def lived(there: Installation, areas: Areas, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Shootings in Englewood and Chatham, then a map on which West Englewood has most of Englewood, then shootings
    there again (later and elsewhere: what is near would have the first ones decided again); the processes of before."""
    folder, before = tmp_path_factory.mktemp("files"), there.pids()
    send(there, victims(folder / "before", areas, "02", 0.002, {"ZZ1": ENGLEWOOD, "ZZ2": CHATHAM}))
    export = folder / "areas.geojson"
    rest = Spot(-87.6382, 41.7750).buffer(0.0005)
    englewood, west = areas.shapes[ENGLEWOOD], areas.shapes[WEST_ENGLEWOOD]
    moved = {ENGLEWOOD: englewood.intersection(rest), WEST_ENGLEWOOD: west.union(englewood.difference(rest))}
    export.write_text(city_export(areas, moved))
    done = there.rapid(
        "areas", "import", str(export), "--kind", "community_area", "--valid-from", "2026-01-01"
    )
    assert done.returncode == 0, done.stderr
    send(there, victims(folder / "after", areas, "08", -0.006, {"ZZ3": ENGLEWOOD, "ZZ4": CHATHAM}))
    return before


def victims(folder: Path, areas: Areas, month: str, north: float, incidents: dict[str, int]) -> Path:
    """A file of people shot north of the middle of an area."""
    lines = [COLUMNS]
    for number, area in incidents.items():
        middle = shapely.point_on_surface(areas.shapes[area])
        lines.append(
            f"{number},2026-{month}-01 21:30:00,{number[2:]}00 W MADE UP ST,BATTERY,BATTERY,YES,SHOOT-{number}-#1,,11,"
            f"1122,STREET,2026-{month}-02T03:00:00.000,{middle.y + north:.6f},{middle.x:.6f}"
        )
    folder.mkdir()
    file = folder / "victims.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def send(there: Installation, file: Path) -> None:
    done = there.rapid("replay", str(file), "--speed", "max")
    assert done.returncode == 0, done.stderr
    wait_for("everything is handled", lambda: bool(there.status()["drained"]), LIMIT_S)


def query(there: Installation, sql: str) -> list[Any]:
    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(there.state()["database_url"])
        try:
            return list(await connection.fetch(sql))
        finally:
            await connection.close()

    return asyncio.run(fetch())


def placed(there: Installation) -> dict[str, int]:
    """Where the decision that stands places each incident."""
    rows = query(
        there,
        "SELECT DISTINCT ON (i.number) i.number, (d.output::json -> 'location' ->> 'area')::int AS area "
        "FROM incidents i JOIN decisions d ON d.stage = 'triage' AND d.subject = i.incident_id "
        "ORDER BY i.number, d.version DESC",
    )
    return {row["number"]: row["area"] for row in rows}


def retriaged(there: Installation, *more: str) -> dict[str, Any]:
    done = there.rapid(*RETRIAGE, *more)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def replayed(there: Installation) -> int:
    """How many decisions come out the same when they are taken again: all of them."""
    done = there.rapid("replay-decisions", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["differences"] == []
    return sum(stage["decisions"] for stage in found["stages"])


def test_running_workers_place_the_next_incident_by_the_imported_boundaries(
    there: Installation, lived: dict[str, int]
) -> None:
    assert placed(there) == {"ZZ1": ENGLEWOOD, "ZZ2": CHATHAM, "ZZ3": WEST_ENGLEWOOD, "ZZ4": CHATHAM}
    assert there.pids() == lived  # nobody began anew for it
    assert query(there, BEHIND)[0][0] == 0
    assert query(there, "SELECT count(*) FROM dead_letters")[0][0] == 0
    logs = [file.read_text() for file in (there.home / "logs").glob("worker-*")]
    assert any("something else is in force, the batch begins anew" in log for log in logs)


def test_days_are_decided_again_once_and_every_decision_recomputes(
    there: Installation, lived: dict[str, int]
) -> None:
    del lived
    before = replayed(there)
    looked = retriaged(there, "--dry-run")
    assert placed(there)["ZZ1"] == ENGLEWOOD
    done = retriaged(there)
    assert done["differing"] == looked["differing"]
    assert [one["incident"] for one in done["differing"] if one["decided_differently"]] == ["ZZ1"]
    wait_for("everything is handled", lambda: bool(there.status()["drained"]), LIMIT_S)
    assert placed(there) == {"ZZ1": WEST_ENGLEWOOD, "ZZ2": CHATHAM, "ZZ3": WEST_ENGLEWOOD, "ZZ4": CHATHAM}
    rows = query(
        there,
        "SELECT DISTINCT r.area FROM responses r JOIN incidents i USING (incident_id) WHERE number = 'ZZ1'",
    )
    assert [row["area"] for row in rows] == [WEST_ENGLEWOOD]
    after = replayed(there)
    assert after > before  # the old decisions are kept beside the new ones
    again = retriaged(there)
    assert (again["looked_at"], again["differing"]) == (2, [])
    assert replayed(there) == after


def test_a_killed_worker_leaves_nothing_in_the_temporary_folder(there: Installation) -> None:
    old = there.pids()["worker-1"]
    os.kill(old, signal.SIGKILL)
    wait_for(
        "another worker",
        lambda: there.state().get("phase") == "ready" and there.pids().get("worker-1", old) != old,
        LIMIT_S,
    )
    assert there.rapid("down").returncode == 0
    assert list(Path(there.environment["TMPDIR"]).iterdir()) == []
