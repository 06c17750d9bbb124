"""`rapid courier` and `rapid webhooks` as processes: killed, stopped, two at a time; and by hand."""

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from standardwebhooks import Webhook
from typer.testing import CliRunner, Result

from connectors.postgres import audit, webhooks
from connectors.webhooks.message import new_secret
from infra.cli.errors import Oops
from infra.cli.webhooks import app
from tests.webhooks.conftest import tell
from tests.webhooks.receiver import LIMIT_S, answering, receiving, until

COMMAND: Final = (sys.executable, "-P", "-m", "infra.cli.main")
KILLS: Final = 4
MESSAGES: Final = 120


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAPID_")}
    return env | {
        "RAPID_HOME": str(tmp_path), "RAPID_DATABASE_URL": database_url, "RAPID_LOG_FORMAT": "json",
        "RAPID_WEBHOOK_HTTP": "true", "RAPID_WEBHOOK_ALLOW": "127.0.0.1/32", "RAPID_WEBHOOK_PORTS": "any",
        "RAPID_WEBHOOK_TIMEOUT_S": "5", "RAPID_WEBHOOK_FIRST_RETRY_S": "0.05", "RAPID_COURIER_GRACE_S": "0.5",
        "RAPID_WEBHOOK_LONGEST_RETRY_S": "0.1", "COLUMNS": "200", "NO_COLOR": "1",
    }  # fmt: skip


@asynccontextmanager
async def courier(env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A courier process that is ready; it is killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "courier", env=env, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(LIMIT_S):
            while b"courier is ready" not in (line := await process.stderr.readline()):
                assert line, "the courier ended"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def rapid(env: dict[str, str], *words: str, code: int = 0) -> str:
    """What a command prints; it must end with `code`, and never with a traceback."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *words, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    said = out.decode() + err.decode()
    assert process.returncode == code, said
    assert "Traceback" not in said
    return said


async def invoke(env: dict[str, str], *words: str) -> Result:
    """A command of `rapid webhooks` in this process, which is quicker."""
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, words, env=env))


async def register(connection: Any, url: str, endpoint: str = "wh_1") -> str:
    secret = new_secret()
    await webhooks.add(connection, endpoint, "cdot", url, secret, from_start=False)
    return secret


async def until_nothing_waits(connection: Any) -> None:
    async def none() -> bool:
        return not any(row["pending"] for row in await webhooks.endpoints(connection, None, 10_000))

    await until(none)


@pytest.mark.slow
async def test_nothing_is_lost_and_the_order_holds_through_kill_9(
    connection: Any, environment: dict[str, str]
) -> None:
    """Killed at random moments, and while a receiver is about to answer; the last one carries on to the end."""
    chance = random.Random(4)
    async with receiving() as receiver:
        receiver.script.extend(
            [answering(500) if chance.random() < 0.1 else answering(204) for _ in range(80)]
        )
        secret = await register(connection, receiver.url())
        await tell(connection, *range(1, MESSAGES + 1))
        for _ in range(KILLS):
            async with courier(environment) as process:
                arrived = len(receiver.received)
                await receiver.until(arrived + chance.randint(1, 20))
                process.send_signal(signal.SIGKILL)
        async with courier(environment):
            await until_nothing_waits(connection)
    first_seen = list(dict.fromkeys(one.message_id for one in receiver.received))
    version_of = {one.message_id: one.version for one in receiver.received}
    assert [version_of[one] for one in first_seen] == list(range(1, MESSAGES + 1))
    seen = receiver.versions
    assert all(after in {before, before + 1} for before, after in pairwise(seen))
    assert receiver.at_once == 1
    for one in receiver.received:
        Webhook(secret).verify(one.body, one.headers)


@pytest.mark.slow
async def test_the_answer_that_a_killed_courier_never_read_leads_to_the_same_message_again(
    connection: Any, environment: dict[str, str]
) -> None:
    async with receiving() as receiver:
        killed = asyncio.Event()

        async def answer_after_the_kill(writer: asyncio.StreamWriter) -> None:
            async with asyncio.timeout(LIMIT_S):
                await killed.wait()
            await answering(204)(writer)

        receiver.script.append(answer_after_the_kill)
        await register(connection, receiver.url())
        async with courier(environment) as first, courier(environment):  # another one is there all the while
            await tell(connection, 1, 2)
            await receiver.until(1)
            pid = await connection.fetchval(
                "SELECT split_part(lease_holder, ':', 2)::int FROM webhook_endpoints"
            )
            victim = first.pid if first.pid == pid else pid
            os.kill(victim, signal.SIGKILL)
            killed.set()
            await until_nothing_waits(connection)
    assert receiver.versions == [1, 1, 2]
    assert receiver.received[0].message_id == receiver.received[1].message_id


async def test_sigterm_finishes_the_attempt_and_ends_with_success(
    connection: Any, environment: dict[str, str]
) -> None:
    async with receiving() as receiver:
        stopped = asyncio.Event()

        async def answer_after_the_signal(writer: asyncio.StreamWriter) -> None:
            async with asyncio.timeout(LIMIT_S):
                await stopped.wait()
            await answering(204)(writer)

        receiver.always = answer_after_the_signal
        await register(connection, receiver.url())
        await tell(connection, 1, 2)
        async with courier(environment) as process:
            await receiver.until(1)
            process.terminate()
            assert process.stderr is not None
            async with asyncio.timeout(LIMIT_S):
                while b"asked to stop" not in await process.stderr.readline():
                    pass
            stopped.set()
            async with asyncio.timeout(LIMIT_S):
                rest = await process.stderr.read()
                assert await process.wait() == 0
            assert b"courier stopped" in rest
            assert b"/hook" not in rest  # a URL may hold a token of the receiver's
        (row,) = await webhooks.endpoints(connection, "wh_1", 10)
    assert (receiver.versions, row["pending"], row["sending"]) == ([1], 1, False)


async def _add(env: dict[str, str], url: str) -> tuple[str, str]:
    made = json.loads(await rapid(env, "webhooks", "add", "--department", "cdot", "--url", url, "--json"))
    return made["endpoint"], made["secret"]


async def test_an_endpoint_by_hand_is_tested_sent_to_again_and_rotated(
    connection: Any, environment: dict[str, str]
) -> None:
    async with receiving() as receiver:
        endpoint, secret = await _add(environment, receiver.url())
        assert "It took" in await rapid(environment, "webhooks", "test", endpoint)
        tested = receiver.received.pop()
        assert Webhook(secret).verify(tested.body, tested.headers)["type"] == "webhook.test"
        await tell(connection, 1, 2)
        async with courier(environment):
            await until_nothing_waits(connection)
            log = json.loads(await rapid(environment, "webhooks", "log", endpoint, "--json"))
            assert [row["rule"] for row in log] == ["delivered", "delivered"]
            await rapid(environment, "webhooks", "redeliver", endpoint, log[1]["message_id"])
            await receiver.until(3)
            await rapid(environment, "webhooks", "redeliver", endpoint, "--since", "2020-01-01T00:00:00Z")
            await receiver.until(5)
            rotated = json.loads(await rapid(environment, "webhooks", "rotate", endpoint, "--json"))
            await tell(connection, 3)
            await receiver.until(6)
    assert receiver.versions == [1, 2, 1, 1, 2, 3]
    for key in (secret, rotated["secret"]):
        Webhook(key).verify(receiver.received[-1].body, receiver.received[-1].headers)


async def test_an_endpoint_that_is_disabled_raises_an_alert_until_it_is_enabled_by_hand(
    connection: Any, environment: dict[str, str]
) -> None:
    async with receiving() as receiver:
        endpoint, _ = await _add(environment, receiver.url())
        receiver.script.append(answering(410))
        await tell(connection, 1)
        async with courier(environment):
            await until(lambda: webhooks.open_alerts(connection))
            shown = await rapid(environment, "webhooks", "list")
            assert "disabled" in shown
            assert f"ALERT {endpoint}: The receiver answered 410" in shown
            await rapid(environment, "webhooks", "enable", endpoint)
            await until_nothing_waits(connection)
        assert "ALERT" not in await rapid(environment, "webhooks", "list")
    assert receiver.versions == [1, 1]


async def test_no_secret_is_shown_twice_and_each_change_is_in_the_audit_trail(
    connection: Any, environment: dict[str, str]
) -> None:
    async with receiving() as receiver:
        endpoint, _ = await _add(environment, receiver.url())
        await rapid(environment, "webhooks", "rotate", endpoint)
    results = [
        await invoke(environment, *words)
        for words in (["list"], ["list", "--json"], ["show", endpoint], ["show", endpoint, "--json"], ["log", endpoint],
                      ["disable", endpoint], ["enable", endpoint, "--skip-one"], ["enable", endpoint, "--skip-to-now"],
                      ["redeliver", endpoint, "--since", "2020-01-01T00:00:00Z"], ["remove", endpoint])
    ]  # fmt: skip
    assert {one.exit_code for one in results} == {0}
    assert "no webhook endpoints" in (await invoke(environment, "list")).output
    trail = await connection.fetch("SELECT actor, action, subject, details FROM audit ORDER BY seq")
    verbs = ("add", "rotate", "disable", "enable", "enable", "redeliver", "remove")
    assert [row["action"] for row in trail] == [f"webhooks.{verb}" for verb in verbs]
    assert {(row["actor"][:4], row["subject"]) for row in trail} == {("cli:", endpoint)}
    assert "whsec_" not in "".join([*(one.output for one in results), *(row["details"] for row in trail)])
    assert (await audit.verify(connection)).broken is None


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["add", "--url", "https://example.org/"], 8, "--department CODE, or --supervisors"),
        (["add", "--department", "cdot", "--url", "https://u:pw@example.org/"], 8, "no user name"),
        (["add", "--department", "cdot", "--url", "http://10.0.0.1/"], 8, "10.0.0.1, which is private"),
        (
            ["add", "--department", "nobody", "--url", "http://127.0.0.1/"],
            6,
            "no department nobody: choose from",
        ),
        (["show", "wh_none"], 6, "no webhook endpoint wh_none"),
        (["test", "wh_none"], 6, "no webhook endpoint wh_none"),
        (["redeliver", "wh_none"], 8, "Say a MESSAGE_ID, or --since"),
        (["redeliver", "wh_none", "--since", "yesterday"], 8, "expected a time with its zone"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_sentence(
    words: list[str], code: int, sentence: str, environment: dict[str, str]
) -> None:
    said = (await invoke(environment, *words)).exception
    assert isinstance(said, Oops)
    assert (said.exit_code, sentence in str(said)) == (code, True), said


async def test_a_test_message_that_fails_ends_with_failure(
    connection: Any, environment: dict[str, str]
) -> None:
    async with receiving() as receiver:
        receiver.always = answering(401)
        await register(connection, receiver.url())
        assert "answered 401" in await rapid(environment, "webhooks", "test", "wh_1", code=1)
    assert not await webhooks.attempts(connection, "wh_1", 10)


async def test_settings_that_cannot_work_are_refused(environment: dict[str, str]) -> None:
    for name, value in (("ALLOW", "10.0.0.0/99"), ("PORTS", "9-1"), ("CA_FILE", "nothing.pem")):
        said = await rapid(environment | {f"RAPID_WEBHOOK_{name}": value}, "courier", code=8)
        assert f"RAPID_WEBHOOK_{name}" in said
