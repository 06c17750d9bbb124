"""`rapid courier` as a process that tells people: killed between what a server accepts and its own note, stopped;
and `rapid notify` by hand."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from connectors.postgres import audit
from schemas.policy import Policy
from tests.notify.receivers import ACCEPTED, mail_server
from tests.notify.world import attempts, fired, in_force, people, person, tell, until_states
from tests.webhooks.receiver import LIMIT_S, answering, receiving
from tests.webhooks.test_process import courier, rapid


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAPID_")}
    return env | {
        "RAPID_HOME": str(tmp_path), "RAPID_DATABASE_URL": database_url, "RAPID_LOG_FORMAT": "json",
        "RAPID_NOTIFY_GATHER_S": "0", "RAPID_NOTIFY_TIMEOUT_S": "2", "RAPID_COURIER_GRACE_S": "0.5",
        "RAPID_NOTIFY_FIRST_RETRY_S": "0.05", "RAPID_NOTIFY_LONGEST_RETRY_S": "0.1",
        "RAPID_ALERT_LINK": "https://rapid.example/v1/alerts/{alert}", "COLUMNS": "200", "NO_COLOR": "1",
    }  # fmt: skip


def accepted_when(happens: asyncio.Event) -> Callable[[], Awaitable[str]]:
    """A server that has taken the mail, and says so only then."""

    async def answer() -> str:
        async with asyncio.timeout(LIMIT_S):
            await happens.wait()
        return ACCEPTED

    return answer


@pytest.mark.slow
async def test_a_mail_whose_sender_was_killed_before_it_noted_it_comes_again_under_the_same_id(
    connection: Any, environment: dict[str, str], policy: Policy
) -> None:
    """At least once: nobody knows that the first one arrived. The id in X-Rapid-Notification is the same."""
    async with mail_server() as mail:
        await in_force(connection, policy, people({"mail": mail.url()}, person("pat", "mail")))
        killed = asyncio.Event()
        mail.script.append(accepted_when(killed))
        await tell(connection, fired(1), fired(2))
        async with courier(environment) as first:
            await mail.until_seen(1)
            first.send_signal(signal.SIGKILL)
            await first.wait()
            killed.set()
        async with courier(environment | {"RAPID_NOTIFY_TIMEOUT_S": "5"}):
            await until_states(connection, "sent", "sent")
    ids = [one.message_id for one in mail.seen]
    assert len(ids) == 3
    assert ids[0] == ids[1] != ids[2]
    assert [("4001 W" in one.subject, "4002 W" in one.subject) for one in mail.seen] == [
        (True, False), (True, False), (False, True)
    ]  # fmt: skip


@pytest.mark.slow
async def test_nobody_is_left_out_when_senders_are_killed_at_any_moment(
    connection: Any, environment: dict[str, str], policy: Policy
) -> None:
    alerts = 30
    async with mail_server() as mail, receiving() as receiver:
        urls = {"mail": mail.url(), "hook": f"json://127.0.0.1:{receiver.port}/hook"}
        await in_force(connection, policy, people(urls, person("pat", "mail", "hook")))
        for number in range(1, alerts + 1):
            await tell(connection, fired(number))
        for kill in range(4):
            async with courier(environment | {"RAPID_NOTIFY_FEW": "1000"}) as process:
                await mail.until(len(mail.accepted) + 1 + kill)
                process.send_signal(signal.SIGKILL)
        async with courier(environment | {"RAPID_NOTIFY_FEW": "1000"}):
            await until_states(connection, *["sent"] * (2 * alerts))
    for got in (
        {one.subject for one in mail.accepted},
        {json.loads(one.body)["title"] for one in receiver.received},
    ):
        places = {title.split(",")[1].strip() for title in got}
        assert places == {f"{4000 + number} W WEST END AVE" for number in range(1, alerts + 1)}
    repeated = len(mail.accepted) - len({one.message_id for one in mail.accepted})
    unanswered = sum("no answer" in sentence for _, sentence in await attempts(connection, "mail"))
    assert repeated <= 4 + unanswered  # at most one for each kill, and for each answer that came too late


async def test_sigterm_finishes_the_attempt_and_notes_it(
    connection: Any, environment: dict[str, str], policy: Policy
) -> None:
    async with mail_server() as mail:
        await in_force(connection, policy, people({"mail": mail.url()}, person("pat", "mail")))
        stopped = asyncio.Event()
        mail.script.append(accepted_when(stopped))
        await tell(connection, fired(1), fired(2))
        async with courier(environment | {"RAPID_NOTIFY_TIMEOUT_S": "20"}) as process:
            await mail.until_seen(1)
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
        assert b"example.org" not in rest  # no address of anybody is logged
        await until_states(connection, "sent", "waiting")


async def test_what_was_given_up_is_listed_with_its_reason_and_sent_once_more_by_hand(
    connection: Any, environment: dict[str, str], policy: Policy
) -> None:
    async with receiving() as receiver:
        receiver.script.append(answering(410))
        url = f"json://127.0.0.1:{receiver.port}/hook"
        await in_force(connection, policy, people({"hook": url}, person("pat", "hook")))
        await tell(connection, fired(1))
        async with courier(environment):
            await until_states(connection, "undeliverable")
            (row,) = json.loads(await rapid(environment, "notify", "list", "--undeliverable", "--json"))
            assert (row["person"], row["why"]) == (
                "pat", "The receiver answered 410, and takes this message never."
            )  # fmt: skip
            assert json.loads(await rapid(environment, "notify", "list", "--waiting", "--json")) == []
            said = await rapid(environment, "notify", "retry", row["notification_id"])
            assert "sent once more" in said
            await until_states(connection, "sent")
        refused = await rapid(environment, "notify", "retry", row["notification_id"], code=8)
        assert "is sent: only what was given up" in refused
        assert "no notification n_none" in await rapid(environment, "notify", "retry", "n_none", code=6)
        assert "sound" in await rapid(environment, "notify", "channels")
    assert (await audit.verify(connection)).broken is None
    assert await connection.fetchval("SELECT action FROM audit") == "notify.retry"


async def test_a_message_by_hand_says_what_the_receiver_says(
    connection: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    async with mail_server() as mail:
        env = environment | {"RAPID_CHANNEL_CDOT_DISPATCH": mail.url()}
        sent = await rapid(env, "notify", "test", "--person", "cdot_dispatch")
        assert "delivered" in sent
        mail.always = "451 later"
        failed = await rapid(env, "notify", "test", "--person", "cdot_dispatch", "--json", code=1)
        assert json.loads(failed)[0]["sentence"] == "The receiver answered 451."
    assert "This is an exercise" in mail.accepted[0].text
    assert "no person sam" in await rapid(environment, "notify", "test", "--person", "sam", code=6)
    said = await rapid(environment, "notify", "test", "--person", "duty_a", "--channel", "mail", code=6)
    assert "no channel mail" in said


async def test_check_names_what_has_to_be_mended(environment: dict[str, str], policy: Policy) -> None:
    said = json.loads(await rapid(environment, "notify", "check", "--json", code=1))
    assert {one["of"] for one in said["problems"]} == {
        f"channel {one.code}" for one in policy.oncall.channels
    }
    env = environment | {
        str(one.url_env): "json://localhost/x" for one in policy.oncall.channels if one.url_env is not None
    }
    assert json.loads(await rapid(env, "notify", "check", "--json")) == {"ok": True, "problems": []}
    two = "mailto://localhost/a@example.org/b@example.org?from=c@example.org"
    said = json.loads(await rapid(env | {"RAPID_CHANNEL_DUTY": two}, "notify", "check", "--json", code=1))
    assert "names 2 receivers" in said["problems"][0]["problem"]
