"""The scripted day with promises of seconds: each alert can be recomputed from the ledgers alone, and agrees."""

import asyncio
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from connectors.postgres.policies import policies
from infra.embedded.temporary import Temporary, temporary
from infra.policy.load import SHIPPED, load_policy
from infra.simulate.day import SETTINGS, SMALL, Asked, Progress, run_day
from infra.simulate.departments.command import USES
from tests.alerts_again import Compared, compared
from tests.system.installation import RAPID, wait_for

pytestmark = pytest.mark.slow

STREAM_S = 30.0
VERIFY_LIMIT_S = 120.0
TIMERS = "SELECT count(*) FROM timers WHERE kind = 'order'"
KINDS = "SELECT kind, count(*) AS times FROM alert_events GROUP BY kind"
LATENESS = """
SELECT percentile_disc(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (
  ORDER BY extract(epoch FROM (body::json ->> 'fired_at')::timestamptz - at)::float8) FROM alerts"""


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="day-promises-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def impatient(folder: Path) -> Path:
    """The shipped policy, but around the clock, and with seconds where it has hours and days."""
    shutil.copytree(SHIPPED, folder)
    sla = (folder / "sla.yaml").read_text()
    sla = re.sub(r"budget: \w+, calendar: \w+", "budget: 7s, calendar: 24x7", sla)
    sla = re.sub(r"(clock: acknowledge, budget:) \w+", r"\1 2s", sla)
    sla = sla.replace("after_breach: 4h", "after_breach: 3s").replace("after_breach: 2wd", "after_breach: 9s")
    (folder / "sla.yaml").write_text(sla)
    alerts = (folder / "alerts.yaml").read_text()
    (folder / "alerts.yaml").write_text(alerts.replace("late_after_s: 60", "late_after_s: 1"))
    return folder


def test_each_alert_of_a_day_can_be_recomputed_from_the_ledgers_alone(place: Path) -> None:
    policy = impatient(place / "policy")
    assert load_policy(policy).version != load_policy(SHIPPED).version
    asked = Asked(3, STREAM_S, SMALL, True, USES, lambda _seen, _received: None)
    with temporary("day-promises", SMALL.workers, SETTINGS | {"RAPID_POLICY": str(policy)}) as there:
        there.await_ready()
        result = asyncio.run(run_day(there, place, asked, Progress()))
        assert result.faults["killed"] == result.faults["back"]
        wait_for("no timer", lambda: nobody_waits(there))
        again, kinds, late_s = asyncio.run(look_again(there))
        disagreements = disagreements_of(there)
    print(
        f"{again.orders} orders, {again.events} events of alerts {dict(kinds)}; late p50/p99/max {late_s} s"
    )
    assert again.differences == []
    assert again.orders > 30
    assert kinds["fired"] > 80
    assert kinds["over"] > 0  # how many are superseded depends on what was down, and for how long
    assert disagreements == {}


def nobody_waits(there: Temporary) -> bool:
    """Whether nothing waits for time to pass any more: what is left after the day is due within seconds."""

    async def waiting() -> int:
        connection = await connect(there)
        try:
            return int(await connection.fetchval(TIMERS))
        finally:
            await connection.close()

    return asyncio.run(waiting()) == 0


async def connect(there: Temporary) -> Any:
    state = there.state()
    assert state is not None
    return await asyncpg.connect(state.database_url)


async def look_again(there: Temporary) -> tuple[Compared, Counter[str], list[float]]:
    connection = await connect(there)
    try:
        assert await connection.fetchval(TIMERS) == 0
        again = await compared(connection, await policies(connection))
        kinds = Counter({row["kind"]: row["times"] for row in await connection.fetch(KINDS)})
        return again, kinds, [round(one, 3) for one in await connection.fetchval(LATENESS)]
    finally:
        await connection.close()


def disagreements_of(there: Temporary) -> dict[str, Any]:
    """What `rapid verify` still finds by check, once it had time until everything is handled."""
    until = time.monotonic() + VERIFY_LIMIT_S
    while (found := verified(there)) and time.monotonic() < until:
        time.sleep(1)
    return found


def verified(there: Temporary) -> dict[str, Any]:
    """What `rapid verify` finds, by check."""
    done = subprocess.run(
        [str(RAPID), "verify", "--json"], env=dict(there.environment), capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    checks = json.loads(done.stdout)["checks"]
    return {check["check"]: check["disagreements"] for check in checks if check["disagreements"]}
