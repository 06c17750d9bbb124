"""The policy is changed back and forth while the embedded stream runs, and a worker is killed meanwhile."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agents.orders.rebuild import again
from agents.replay import recompute
from connectors.postgres.orders import PostgresOrders
from connectors.postgres.policies import policies
from connectors.postgres.readmodels import every_decision
from infra.policy.load import load_policy
from schemas.response import TriageDecision
from tests.policy_life.changed import tighter, with_parks, without_buildings
from tests.system.installation import Installation, installation, wait_for

ACTIVATIONS = 4
KILL_AT = 2
PROGRESS = 30
"""Decisions of triage on a part of the reports, before the policy is changed in the middle of it."""
BEHIND = """
SELECT count(*) FROM decisions d WHERE d.stage IN ('intake.incident', 'intake.issue', 'triage')
  AND d.policy_version <> (SELECT a.version FROM activations a
    WHERE a.what = 'policy' AND a.at < d.recorded_at ORDER BY a.seq DESC LIMIT 1)
  AND d.policy_version IS DISTINCT FROM (SELECT a.version FROM activations a
    WHERE a.what = 'policy' AND a.at >= d.recorded_at AND a.at < d.recorded_at + interval '5 s'
    ORDER BY a.seq LIMIT 1)"""
"""Decisions of transactions that began after an activation, and went by what had held before. One that begins while an
activation waits for others goes by that one."""
REQUESTS = 2_000
LIMIT_S = 120.0


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An installation that has done all of it, and the two versions."""
    folder = tmp_path_factory.mktemp("load")
    with installation({"RAPID_BATCH_RECORDS": "50"}) as there:
        files = simulated(there, folder)
        there.up()
        versions = stream_with_changes(there, files, str(tighter(folder / "tighter")))
        yield there, versions


def simulated(there: Installation, folder: Path) -> list[list[str]]:
    """Reports in as many parts as there will be activations, and one more."""
    done = there.rapid("simulate", "--days", "80", "--rate", "1.5", "--seed", "5", "--out", str(folder))
    assert done.returncode == 0, done.stderr
    header, *victims = (folder / "victims.csv").read_text().splitlines()
    requests = (folder / "service_requests.json").read_text().splitlines()[1 : REQUESTS + 1]
    parts = []
    for number in range(ACTIVATIONS + 1):
        part = folder / f"part-{number}"
        part.mkdir()
        mine, asked = victims[number :: ACTIVATIONS + 1], requests[number :: ACTIVATIONS + 1]
        (part / "victims.csv").write_text("\n".join([header, *mine]) + "\n")
        (part / "service_requests.json").write_text("[\n" + "\n".join(asked).rstrip(",") + "\n]\n")
        parts.append([str(part / "victims.csv"), str(part / "service_requests.json")])
    return parts


def stream_with_changes(there: Installation, parts: list[list[str]], other: str) -> tuple[str, str]:
    """Replay part by part, and activate the one and the other in turns, each in the middle of a part."""
    decided = counter(there)
    for number, (files, policy) in enumerate(zip(parts, cycle([other, "shipped"]), strict=False)):
        before = decided()
        sending = there.start("replay", *files, "--speed", "max")
        wait_for(f"progress {number}", lambda before=before: decided() >= before + PROGRESS, LIMIT_S)  # type: ignore[misc]
        if number < ACTIVATIONS:
            done = there.rapid("policy", "activate", policy, "--why", f"change {number}")
            assert done.returncode == 0, done.stderr
        if number == KILL_AT:
            os.kill(there.pids()["worker-1"], signal.SIGKILL)
        out, _ = sending.communicate(timeout=LIMIT_S)
        assert sending.returncode == 0, out
    wait_for("everything is handled", lambda: bool(there.status()["drained"]), LIMIT_S)
    return load_policy().version, load_policy(Path(other)).version


def counter(there: Installation) -> Callable[[], int]:
    def count() -> int:
        found = query(there, "SELECT count(*) FROM decisions WHERE stage = 'triage'")
        return int(found[0][0])

    return count


def query(there: Installation, sql: str) -> list[Any]:
    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(there.state()["database_url"])
        try:
            return list(await connection.fetch(sql))
        finally:
            await connection.close()

    return asyncio.run(fetch())


def test_each_decision_carries_the_old_or_the_new_version(ran: tuple[Installation, tuple[str, str]]) -> None:
    there, versions = ran
    found = Counter(
        dict(query(there, "SELECT policy_version, count(*) FROM decisions WHERE stage = 'triage' GROUP BY 1"))
    )
    assert found.keys() == set(versions)
    assert min(found.values()) >= PROGRESS


def test_no_transaction_decides_by_two_policies(ran: tuple[Installation, tuple[str, str]]) -> None:
    """Of what is new in it: an open order lives by the policy that opened it."""
    there, _ = ran
    mixed = query(
        there,
        "SELECT xmin::text, stage FROM decisions WHERE stage <> 'orders' GROUP BY 1, 2 "
        "HAVING count(DISTINCT policy_version) > 1",
    )
    assert mixed == []
    transactions = query(there, "SELECT count(DISTINCT xmin::text) FROM decisions WHERE stage = 'triage'")
    assert transactions[0][0] > 2 * ACTIVATIONS


def test_no_transaction_that_began_after_an_activation_goes_by_the_one_before(
    ran: tuple[Installation, tuple[str, str]],
) -> None:
    there, _ = ran
    assert query(there, BEHIND)[0][0] == 0


def test_every_decision_is_the_same_when_taken_again_by_the_policy_that_it_names(
    ran: tuple[Installation, tuple[str, str]],
) -> None:
    there, _ = ran
    done = there.rapid("replay-decisions", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["differences"] == []
    assert sum(stage["decisions"] for stage in found["stages"]) > 5_000


def test_responses_and_orders_agree_with_an_offline_recomputation(
    ran: tuple[Installation, tuple[str, str]],
) -> None:
    there, _ = ran
    counted, stored = asyncio.run(recomputed(there.state()["database_url"]))
    assert counted == stored
    assert len({version for what, version, *_ in counted if what == "order"}) == 2
    assert len({version for what, version, *_ in counted if what == "response"}) == 2


async def recomputed(dsn: str) -> tuple[Counter[tuple[Any, ...]], Counter[tuple[Any, ...]]]:
    """Responses and orders by policy and by what they say: computed from decisions and causes alone, and as stored."""
    connection = await asyncpg.connect(dsn)
    try:
        known = await policies(connection)
        counted: Counter[tuple[Any, ...]] = Counter()
        last = {}
        async for page in every_decision(connection, "triage"):
            for record in page:
                decision = TriageDecision.model_validate_json(
                    recompute(record, known[record.policy_version]).output
                )
                if decision.response:
                    last[record.subject] = decision.response  # pages go by subject and version
        counted.update(("response", one.policy_version, one.model_dump_json()) for one in last.values())
        keys = [row[0] for row in await connection.fetch("SELECT DISTINCT order_key FROM order_causes")]
        for rows in (await PostgresOrders(connection).sites(keys)).values():
            for one in again(rows, known):
                assert one.order is not None
                counted["order", one.order.policy_version, one.body] += 1
        return counted, await as_stored(connection)
    finally:
        await connection.close()


async def as_stored(connection: Any) -> Counter[tuple[Any, ...]]:
    stored: Counter[tuple[Any, ...]] = Counter()
    for what, table in (("response", "responses"), ("order", "work_orders")):
        rows = await connection.fetch(f"SELECT body::json ->> 'policy_version', body FROM {table}")
        stored.update((what, *row) for row in rows)
    return stored


def test_the_history_counts_every_decision_once(ran: tuple[Installation, tuple[str, str]]) -> None:
    there, versions = ran
    rows = json.loads(there.rapid("policy", "history", "--json").stdout)
    assert [row["version"] for row in rows] == [versions[0], *[versions[1], versions[0]] * (ACTIVATIONS // 2)]
    assert rows[0]["by"] == "rapid"
    assert [row["why"] for row in rows][1:] == [f"change {number}" for number in range(ACTIVATIONS)]
    [total] = query(there, "SELECT count(*) FROM decisions")
    assert sum(row["decisions"] for row in rows) == total[0]
    assert json.loads(there.rapid("audit", "verify", "--json").stdout)


def test_a_policy_without_a_department_that_has_open_orders_is_refused_and_the_active_one_goes_on(
    ran: tuple[Installation, tuple[str, str]], tmp_path: Path
) -> None:
    there, versions = ran
    folder = str(without_buildings(tmp_path / "policy"))
    [[count]] = query(
        there,
        "SELECT count(*) FROM work_orders WHERE department = 'dob' AND state NOT IN ('cancelled', 'void')",
    )
    assert count > 1
    done = there.rapid("policy", "activate", folder, "--why", "no buildings")
    assert done.returncode == 8
    assert f"It has no department dob, which has {count} open orders (WO-" in done.stderr
    assert f"{versions[0]} goes on" in done.stderr
    looked = there.rapid("policy", "activate", folder, "--dry-run", "--json")
    assert looked.returncode == 8
    assert len(json.loads(looked.stdout)["breaks"]) == 1
    kept = json.loads(there.rapid("policy", "list", "--json").stdout)
    assert {row["version"] for row in kept} == set(versions)
    assert [row["version"] for row in kept if row["active"]] == [versions[0]]


def test_workers_begin_anew_for_a_new_department_and_read_its_updates_although_one_was_killed_before(
    ran: tuple[Installation, tuple[str, str]], tmp_path: Path
) -> None:
    there, _ = ran
    done = there.rapid("policy", "activate", str(with_parks(tmp_path / "policy")), "--why", "parks")
    assert done.returncode == 0, done.stderr
    claimed = "SELECT count(*) FROM fences WHERE topic = 'work-order-updates.parks'"
    wait_for("the new topic is read", lambda: query(there, claimed)[0][0] == 2, LIMIT_S)
    wait_for("nothing is left behind", lambda: bool(there.status()["drained"]), LIMIT_S)
