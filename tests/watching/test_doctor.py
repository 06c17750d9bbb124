"""`rapid doctor`: what it says of facts, and of systems that are really broken."""

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not in __all__
    AdminClient,
    NewTopic,
)

from connectors.kafka.admin import KafkaAdmin
from connectors.postgres import outbox
from connectors.postgres.migrate import read_migrations
from infra.embedded.processes import Running
from infra.policy.load import SHIPPED
from infra.settings import Settings
from infra.watching import findings
from infra.watching.examine import boundaries, examine, known_better
from infra.watching.findings import Finding
from infra.watching.world import Waiting
from schemas.envelope import Event
from schemas.policy import Extent, Policy
from schemas.topics import INCIDENTS, RESPONSES
from tests.sources.conftest import EXAMPLES
from tests.system.installation import Installation, installation
from tests.watching.watched import all_ready, held_still, kill, stopped, until

NOW: Final = datetime(2026, 7, 4, 22, 40, tzinfo=UTC)


def levels(found: list[Finding]) -> dict[str, str]:
    """The worst level of each check."""
    order = ("ok", "unknown", "warn", "fail")
    worst: dict[str, str] = {}
    for one in found:
        worst[one.check] = max(worst.get(one.check, "ok"), one.level, key=order.index)
    return worst


def wrong(found: list[Finding]) -> list[Finding]:
    return [one for one in found if one.level in ("warn", "fail") and one.check != "channels"]


def test_everything_that_is_not_well_says_what_to_do() -> None:
    topic, fewer, other = (
        replace(INCIDENTS, partitions=4),
        {"incidents": 2},
        {"incidents": {"retention.ms": "1"}},
    )
    files = read_migrations()
    found = [
        findings.disk(10, 1000, "/srv"),
        findings.migrations(files, {}),
        findings.migrations(files, {one.number: "other" for one in files}),
        findings.migrations(files, {one.number: one.checksum for one in files} | {9999: "x"}),
        *findings.topics([topic], {}, {}, 1),
        *findings.topics([topic], fewer, other, 1),
        findings.clocks(45.0, 0.01),
        findings.outbox(Waiting(3, 400.0, 0)),
        findings.lag({"incidents": 7}, 700.0),
        findings.dead_letters([("incidents", "not_json", 3)]),
        *findings.processes([("worker-1", False, {"database": "PostgreSQL has not answered for 17 s."})]),
        findings.keys([{"name": "pat", "expires_at": NOW + timedelta(days=3)}], NOW),
    ]
    assert all(one.level in ("warn", "fail") and one.fix and one.said for one in found), found


@pytest.mark.parametrize(
    ("skew_s", "round_trip_s", "level"),
    [(0.5, 0.01, "ok"), (-3.0, 0.01, "warn"), (3.0, 4.0, "ok"), (-31.0, 0.01, "fail"), (3600.0, 0.1, "fail")],
)
def test_a_skew_counts_as_far_as_the_way_there_and_back_tells(
    skew_s: float, round_trip_s: float, level: str
) -> None:
    found = findings.clocks(skew_s, round_trip_s)
    assert found.level == level
    assert ("behind" in found.said) is (skew_s < 0)


def test_more_partitions_warn_fewer_fail_and_a_broker_that_tells_no_settings_is_believed() -> None:
    wanted = [replace(INCIDENTS, partitions=2), replace(RESPONSES, partitions=2)]
    both = {"incidents": 2, "responses": 2}
    assert [one.level for one in findings.topics(wanted, both, {}, 1)] == ["ok"]
    assert [one.level for one in findings.topics(wanted, both | {"incidents": 3}, {}, 1)] == ["warn"]
    [found] = findings.topics(wanted, both | {"incidents": 1}, {}, 1)
    assert (found.level, "1, not 2" in found.said) == ("fail", True)
    [found] = findings.topics(wanted, both, {"responses": {"cleanup.policy": "delete"}}, 1)
    assert found == Finding(
        "topics", "fail", "responses has cleanup.policy=delete, and should have compact",
        "set it on the broker: kafka-configs --alter --topic responses --add-config cleanup.policy=compact",
    )  # fmt: skip


# ---------------------------------------------------------------- without anything that runs


def look(**settings: Any) -> list[Finding]:
    return asyncio.run(examine(Settings(**settings), {}))


def test_where_nothing_runs_what_cannot_be_looked_at_is_not_held_to_be_wrong(tmp_path: Path) -> None:
    found = look(home=tmp_path / "home")
    assert {one.check for one in found if one.level == "unknown"} == {"database", "broker", "processes"}
    assert wrong(found) == []


def test_a_home_that_is_no_folder_and_a_state_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "home"
    file.write_text("")
    [found] = wrong(look(home=file))
    assert (found.check, found.level) == ("home", "fail")
    assert "no folder that we may read and write" in found.said
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "state.json").write_text("{ truncated")
    [found] = wrong(look(home=folder))
    assert "state.json cannot be read: JSONDecodeError" in found.said


def test_a_state_that_names_processes_that_are_no_more(tmp_path: Path) -> None:
    gone = Running("supervisor", 2**22 + 1, 1.0)
    state = {"phase": "ready", "supervisor": {"name": gone.name, "pid": gone.pid, "started": gone.started}}
    (tmp_path / "state.json").write_text(json.dumps(state))
    [found] = wrong(look(home=tmp_path))
    assert (found.check, found.level) == ("home", "fail")
    assert f"names the supervisor {gone.pid}, which does not run" in found.said
    assert "rapid up" in found.fix


def test_a_full_disk_and_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = wrong(look(home=tmp_path, least_disk_bytes=10**15, broker_port=port))
    assert [(one.check, one.level) for one in found] == [("disk", "fail"), ("ports", "fail")]
    assert f"RAPID_BROKER_PORT={port} is taken by another process" in found[1].said


def test_a_policy_that_does_not_load(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "policy"))
    file = next(folder.glob("*.yaml"))
    file.write_text(file.read_text() + "\nnonsense: [")
    [found] = wrong(look(home=tmp_path / "home", policy=folder))
    assert (found.check, found.level) == ("policy", "fail")
    assert "rapid policy check" in found.fix


def test_another_citys_policy_is_not_well_served_by_the_boundaries_of_this_one(
    policy: Policy, tmp_path: Path
) -> None:
    elsewhere = Extent(min_lat=39.19, max_lat=39.38, min_lon=-76.72, max_lon=-76.52)
    baltimore = policy.city.model_copy(update={"name": "Baltimore", "extent": elsewhere})
    assert boundaries(tmp_path, policy).level == "ok"
    found = boundaries(tmp_path, policy.model_copy(update={"city": baltimore}))
    assert (found.level, found.said) == ("warn", "of those of the product, none lies in Baltimore")
    more = (*policy.areas, policy.areas[-1].model_copy(update={"number": 278}))
    found = boundaries(tmp_path, policy.model_copy(update={"areas": more}))
    assert (found.level, found.said) == (
        "warn",
        "of those of the product, none is of area 278, which the policy names",
    )


def test_of_boundaries_the_database_has_the_last_word() -> None:
    product, imported = (
        Finding("boundaries", "warn", "far", "import"),
        Finding("boundaries", "ok", "in force"),
    )
    away = Finding("boundaries", "unknown", "no answer", "start it")
    assert known_better([product], [imported]) == [imported]
    assert known_better([product], [away]) == [product, away]


def test_a_mapping_file_that_is_wrong(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EXAMPLES, tmp_path / "sources"))
    assert levels(look(home=tmp_path / "home", sources=folder))["sources"] == "ok"
    (folder / "cad.yaml").write_text((folder / "cad.yaml").read_text().replace("block: BLOCK", "blok: BLOCK"))
    [found] = wrong(look(home=tmp_path / "home", sources=folder))
    assert (found.check, found.level) == ("sources", "fail")
    assert "fields.blok: is no field of IncidentReport; did you mean block?" in found.said
    assert f"rapid sources check {folder}" in found.fix


# ---------------------------------------------------------------- a system that runs, and is broken


@dataclass
class Broken:
    """A running installation, and the doctor on it."""

    running: Installation
    settings: dict[str, Any] = field(default_factory=dict)

    async def look(self, **settings: Any) -> list[Finding]:
        return await examine(Settings(home=self.running.home, workers=1, **self.settings, **settings), {})

    async def only(self, check: str, **settings: Any) -> Finding:
        """The one thing that is wrong."""
        found = wrong(await self.look(**settings))
        assert {one.check for one in found} == {check}, found
        assert found[0].fix
        return found[0]

    @property
    def state(self) -> dict[str, Any]:
        return self.running.state()


async def until_well(broken: Broken) -> None:
    await asyncio.to_thread(until, "everything is ready", lambda: all_ready(broken.running))


@asynccontextmanager
async def broken_system() -> AsyncIterator[tuple[Broken, Any]]:
    with installation({"RAPID_WATCH_STUCK_S": "3", "RAPID_START_TIMEOUT_S": "300"}) as made:
        await asyncio.to_thread(made.up, "--workers", "1")
        connection = await asyncpg.connect(made.state()["database_url"])
        broken = Broken(made)
        await until_well(broken)
        try:
            yield broken, connection
        finally:
            await connection.close()


async def check_database(broken: Broken, connection: Any) -> None:
    """Migrations, policy, outbox, dead letters, keys."""
    last = read_migrations()[-1]
    await connection.execute("DELETE FROM migrations WHERE number = $1", last.number)
    assert (
        f"1 of {len(read_migrations())} are not applied, first {last.name}"
        in (await broken.only("migrations")).said
    )
    await connection.execute(
        "INSERT INTO migrations (number, name, checksum) VALUES ($1, $2, 'other')", last.number, last.name
    )
    assert f"{last.name} was changed after it was applied" in (await broken.only("migrations")).said
    await connection.execute(
        "UPDATE migrations SET checksum = $2 WHERE number = $1", last.number, last.checksum
    )

    event = Event("nobody-reads", "k", b"{}", "rapid.test.v1", "s", 1)
    async with connection.transaction():
        [row] = await outbox.add_rows(connection, "door/nobody", [event])
    old = json.dumps([["ce_time", (datetime.now(UTC) - timedelta(minutes=7)).isoformat()]]).encode()
    await connection.execute("UPDATE outbox SET headers = $2 WHERE seq = $1", row.seq, old)
    found = await broken.only("outbox")
    assert (found.level, "1 events wait to be published, the oldest for 42" in found.said) == ("fail", True)
    await connection.execute("DELETE FROM outbox WHERE seq = $1", row.seq)

    await connection.execute(
        """INSERT INTO dead_letters (dead_letter_id, topic, partition, "offset", reason, expected)
        SELECT gen_random_uuid(), 'incident-reports', 0, n, 'not_json', 'JSON' FROM generate_series(1, 3) n"""
    )
    found = await broken.only("dead letters")
    assert "3 in the last hour, most of incident-reports: not json (3)" in found.said
    await connection.execute("DELETE FROM dead_letters")


async def check_rules(broken: Broken, folder: Path) -> None:
    """A policy file that says something else than what is active, and holidays that have ended."""
    edited = Path(shutil.copytree(SHIPPED, folder / "edited"))
    file = edited / "calendars.yaml"
    file.write_text(file.read_text().replace("last: 2036", "last: 2025"))
    found = {one.check: one for one in wrong(await broken.look(policy=edited))}
    assert set(found) == {"calendars", "policy in force"}
    assert (found["calendars"].level, found["policy in force"].level) == ("fail", "warn")
    assert "rapid policy activate" in found["policy in force"].said


async def check_topics(broken: Broken) -> None:
    address = broken.state["broker_address"]
    assert "RAPID_PARTITIONS: 2, not 6" in (await broken.only("topics", partitions=6)).said
    admin = KafkaAdmin([address])
    await admin.delete(["work-orders.dob"])
    assert "work-orders.dob is missing on the broker" in (await broken.only("topics")).said
    client = AdminClient({"bootstrap.servers": address})  # held: it lets go of what it was asked when it goes
    made = client.create_topics(
        [NewTopic("work-orders.dob", 1, 1, config={"cleanup.policy": "delete", "retention.ms": "1000"})]
    )
    await asyncio.to_thread(made["work-orders.dob"].result, 20)
    said = " ".join(one.said for one in wrong(await broken.look()))
    assert "work-orders.dob has fewer partitions than RAPID_PARTITIONS: 1, not 2" in said
    assert "work-orders.dob has retention.ms=1000" in said
    await admin.delete(["work-orders.dob"])
    await asyncio.to_thread(broken.running.rapid, "topics", "create")
    assert wrong(await broken.look()) == []


async def check_processes(broken: Broken) -> None:
    """A supervisor that is stopped starts nothing again: what has died stays dead."""
    pids = broken.running.pids()
    with held_still(pids["supervisor"]):
        kill(pids["worker-1"])
        found = wrong(await broken.look())
        said = {one.check: one.said for one in found}
        assert "worker-1: it does not run." in said["processes"]
    await until_well(broken)
    assert {one.check for one in wrong(await broken.look())} == {"restarts"}
    with stopped(broken.running.pids()["courier"]):
        found = [one for one in wrong(await broken.look()) if one.check == "processes"]
        assert "courier: It does not answer at" in found[0].said
    with held_still(pids["supervisor"]), stopped(pids["database"]):
        said = {one.check: one.level for one in await broken.look()}
        assert said["database"] == "fail"
    await until_well(broken)
    with held_still(pids["supervisor"]), stopped(pids["broker"]):
        said = {one.check: one.level for one in await broken.look()}
        assert (said["broker"], said["topics"], said["database"]) == ("fail", "fail", "ok")


@pytest.mark.slow
async def test_a_healthy_system_has_nothing_wrong_and_each_thing_that_is_broken_is_found(
    tmp_path: Path,
) -> None:
    """One installation, broken and mended again and again: a drill of each kind costs seconds, not a start."""
    async with broken_system() as (broken, connection):
        found = await broken.look()
        assert wrong(found) == [], found
        assert {"ok", "warn"} == set(levels(found).values())  # the channels have no address here
        await check_database(broken, connection)
        await check_rules(broken, tmp_path)
        await check_topics(broken)
        await check_processes(broken)


def test_the_command_prints_every_finding_with_its_fix_and_fails_where_something_fails() -> None:
    with installation({"RAPID_LEAST_DISK_BYTES": str(10**15)}) as made:
        done = made.rapid("doctor")
        assert done.returncode == 1
        assert "fail disk" in done.stdout
        assert "→ make room there" in done.stdout
        assert done.stderr == "rapid: Not right: disk.\n"
        rows = json.loads(made.rapid("doctor", "--json").stdout)
        assert {row["level"] for row in rows} == {"ok", "warn", "fail", "unknown"}
        assert all(row["fix"] for row in rows if row["level"] in ("warn", "fail"))
