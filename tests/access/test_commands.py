"""`rapid keys` and `rapid audit` as a person or a script has them."""

import asyncio
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from typer.testing import CliRunner

from connectors.access.authenticate import Unauthenticated
from connectors.access.key import PATTERN, parse
from connectors.access.keys import ApiKeys
from connectors.access.principal import Principal
from connectors.postgres.pool import Connection, Pool
from infra.cli.actor import actor
from infra.cli.durations import duration, moment
from infra.cli.errors import Oops
from infra.cli.main import app

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Rapid:
    """The commands, in this process: a process for each would take a second for each."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    async def __call__(self, *arguments: str) -> Done:
        return await asyncio.to_thread(self._run, arguments)

    def _run(self, arguments: tuple[str, ...]) -> Done:
        done = CliRunner().invoke(app, arguments, env=self.environment, prog_name="rapid")
        if isinstance(done.exception, Oops):
            return Done(done.exception.exit_code, done.stdout, f"rapid: {done.exception}\n")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Done(done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def rapid(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rapid:
    for name in [name for name in os.environ if name.startswith("RAPID_")]:
        monkeypatch.delenv(name)
    return Rapid({"RAPID_HOME": str(tmp_path), "RAPID_DATABASE_URL": database_url, "COLUMNS": "200"})


async def listed(rapid: Rapid, *arguments: str) -> Any:
    done = await rapid(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def made(rapid: Rapid, *arguments: str) -> str:
    done = await rapid(*arguments)
    assert done.returncode == 0, done.stderr
    assert "only time that it is shown" in done.stderr
    assert re.fullmatch(PATTERN, done.stdout.strip())
    return done.stdout.strip()


async def test_the_life_of_a_key_and_its_trail(rapid: Rapid, pool: Pool) -> None:
    checked = ApiKeys(pool, lambda code: code == "cdot", memory=timedelta())
    key = await made(rapid, "keys", "create", "--name", "CDOT's own system", "--role", "department", "--role", "intake",
               "--department", "cdot", "--expires", "90d")  # fmt: skip
    key_id = key.split("_")[1]
    principal = await checked.principal(key)
    assert principal == Principal(f"key:{key_id}", frozenset({"department", "intake"}), "cdot")
    (row,) = await listed(rapid, "keys", "list")
    assert (row["key_id"], row["state"], row["roles"]) == (key_id, "active", ["department", "intake"])
    assert abs(
        datetime.fromisoformat(row["expires_at"]) - datetime.now(UTC) - timedelta(days=90)
    ) < timedelta(hours=1)
    assert row["last_used_at"] is not None

    newer = await made(rapid, "keys", "rotate", key_id)
    assert await checked.principal(newer) == await checked.principal(key) == principal
    assert (await listed(rapid, "keys", "list"))[0]["old_secret_until"] is not None
    newest = json.loads((await rapid("keys", "rotate", key_id, "--overlap", "0s", "--json")).stdout)["key"]
    assert await checked.principal(newest) == principal
    with pytest.raises(Unauthenticated):
        await checked.principal(newer)

    assert (await rapid("keys", "revoke", key_id)).returncode == 0
    with pytest.raises(Unauthenticated, match="is revoked"):
        await checked.principal(newest)
    assert "revoked" in (await rapid("keys", "list")).stdout
    assert (await rapid("keys", "revoke", key_id)).returncode == 1
    assert (await rapid("keys", "rotate", key_id)).returncode == 1

    trail = await listed(rapid, "audit", "list", "--subject", key_id)
    assert [(one["actor"], one["action"], one["outcome"]) for one in trail] == [
        (actor(), f"keys.{what}", "done") for what in ("revoke", "rotate", "rotate", "create")
    ]
    everything = (
        json.dumps(trail)
        + (await rapid("audit", "list")).stdout
        + json.dumps(await listed(rapid, "keys", "list"))
    )
    for text in (key, newer, newest):
        secret = parse(text)
        assert secret is not None
        assert secret.secret not in everything


async def test_what_cannot_be_is_refused_and_leaves_nothing(rapid: Rapid) -> None:
    refused = {
        (await rapid("keys", "create", "--name", "x", *arguments)).returncode
        for arguments in (["--role", "department"], ["--role", "root"], ["--role", "intake", "--expires", "soon"],
                          ["--role", "intake", "--department", "cdot"], [],
                          ["--role", "department", "--department", "cdot", "--role", "supervisor"])
    }  # fmt: skip
    assert refused == {2}
    unknown = await rapid("keys", "create", "--name", "x", "--role", "department", "--department", "nowhere")
    assert (unknown.returncode, "it has cdot, cscc" in unknown.stderr) == (6, True)
    assert (await rapid("keys", "rotate", "ffffffffffff")).returncode == 6
    assert (await rapid("keys", "revoke", "ffffffffffff")).returncode == 6
    assert await listed(rapid, "keys", "list") == []
    assert await listed(rapid, "audit", "list") == []


async def test_the_trail_is_checked_by_command(rapid: Rapid, connection: Connection) -> None:
    for name in ("a", "b", "c"):
        await made(rapid, "keys", "create", "--name", name, "--role", "intake")
    whole = await rapid("audit", "verify")
    assert whole.stdout.startswith("The audit trail is whole: 3 rows.")
    head = whole.stdout.split()[-1]
    assert (await rapid("audit", "verify", "--expect", head)).returncode == 0
    assert (await rapid("audit", "verify", "--expect", "nonsense")).returncode == 2
    longer = await rapid("audit", "verify", "--expect", head.replace("3:", "4:"))
    assert (longer.returncode, longer.stderr) == (
        1, "rapid: The audit trail is not whole. The end is missing: the last row is 3, and 4 was expected.\n"
    )  # fmt: skip
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("UPDATE audit SET details = 'no json' WHERE seq = 2")
    broken = await rapid("audit", "verify")
    assert (broken.returncode, broken.stderr) == (
        1, "rapid: The audit trail is not whole. Row 2 was changed: its content does not have its hash.\n"
    )  # fmt: skip
    assert json.loads((await rapid("audit", "verify", "--json")).stdout)["whole"] is False
    assert [row["seq"] for row in await listed(rapid, "audit", "list", "--since", "1h", "--limit", "2")] == [
        3,
        2,
    ]
    assert await listed(rapid, "audit", "list", "--since", "0s") == []
    assert "no json" in (await rapid("audit", "list")).stdout


def test_a_script_gets_the_key_alone_on_stdout(database_url: str, tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAPID_")}
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli.main", "keys", "create", "--name", "x", "--role", "auditor"],
        capture_output=True, text=True, check=False, timeout=60,
        env=clean | {"RAPID_HOME": str(tmp_path), "RAPID_DATABASE_URL": database_url},
    )  # fmt: skip
    assert re.fullmatch(PATTERN + "\n", done.stdout)
    assert "only time that it is shown" in done.stderr


def test_durations_and_moments() -> None:
    assert [duration(text) for text in ("0s", " 90d ", "2w")] == [
        timedelta(), timedelta(days=90), timedelta(days=14)
    ]  # fmt: skip
    assert moment("24h", NOW) == NOW - timedelta(days=1)
    assert moment("2026-06-30T12:00:00Z", NOW) == NOW - timedelta(days=1)
    assert moment("2026-06-30", NOW).tzinfo is not None


@pytest.mark.parametrize("text", ["", "d", "5", "-5d", "5y", "1.5h", "99999w", "5dd", "٣d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        duration(text)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "99999w", "0001-01-01T00:00+14:00"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        moment(text, NOW)
