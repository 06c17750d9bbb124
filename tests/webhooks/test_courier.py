"""Couriers, a real database and real receivers: nothing lost, the order kept, one at a time."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from connectors.ports import Told
from connectors.postgres import feed, webhooks
from connectors.postgres.pool import create_pool
from connectors.webhooks.courier import Courier, Pace
from connectors.webhooks.guard import Borders, Resolve, parse_networks, parse_ports, resolve_by_system
from connectors.webhooks.message import new_secret
from connectors.webhooks.schedule import Limits
from connectors.webhooks.sender import Sender, Timeouts, trusted_authorities
from tests.webhooks.conftest import tell
from tests.webhooks.receiver import LIMIT_S, answering, hanging, hanging_up, receiving, until

LOCAL = Borders(parse_networks("127.0.0.1/32"), plain_http=True, ports=parse_ports("any"))
FAST = Limits(
    first_retry_s=0.02,
    longest_retry_s=0.05,
    breaker_failures=1000,
    probe_s=0.05,
    retry_after_s=60,
    give_up_s=3600,
)
TRUSTED = trusted_authorities(None)


@asynccontextmanager
async def courier(
    database_url: str, *, name: str = "one", limits: Limits = FAST, timeout_s: float = 5.0, lease_s: float = 10.0,
    resolve: Resolve = resolve_by_system,
) -> AsyncIterator[Courier]:  # fmt: skip
    """A courier at work; it drains at the end, and what it raised is raised."""
    pool = await create_pool(database_url, min_size=1, max_size=4)
    sender = Sender(LOCAL, Timeouts(1.0, timeout_s), resolve, TRUSTED)
    made = Courier(
        pool,
        sender,
        limits=limits,
        pace=Pace(look_every_s=0.02, lease_s=lease_s),
        chance=lambda: 0.5,
        name=name,
    )
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        made.stop()
        async with asyncio.timeout(LIMIT_S):
            await running
        await pool.close()


async def register(connection: Any, url: str, audience: str = "cdot", endpoint: str = "wh_1") -> str:
    secret = new_secret()
    await webhooks.add(connection, endpoint, audience, url, secret, from_start=False)
    return secret


async def state(connection: Any, endpoint: str = "wh_1") -> Any:
    (row,) = await webhooks.endpoints(connection, endpoint, 1000)
    return row


async def until_state(connection: Any, endpoint: str = "wh_1", **wanted: Any) -> Any:
    """Until the endpoint's row has these values."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            row = await state(connection, endpoint)
            if all(row[name] == value for name, value in wanted.items()):
                return row
            await asyncio.sleep(0.01)


async def rules(connection: Any, endpoint: str = "wh_1") -> list[str]:
    """What followed from each attempt, the oldest first."""
    return [row["rule"] for row in await webhooks.attempts(connection, endpoint, 1000)][::-1]


def each_once(versions: Sequence[int]) -> list[int]:
    """Without the repetitions of what was sent again right away."""
    return [one for at, one in enumerate(versions) if at == 0 or versions[at - 1] != one]


async def test_messages_are_signed_so_that_the_standards_own_verifier_accepts_them(
    connection: Any, database_url: str
) -> None:
    async with receiving() as receiver, courier(database_url):
        secret = await register(connection, receiver.url())
        await tell(connection, 1)
        await receiver.until(1)
    (got,) = receiver.received
    verified = Webhook(secret).verify(got.body, got.headers)
    told_at = await connection.fetchval("SELECT recorded_at FROM feed")
    assert verified == {
        "type": "work-order.changed",
        "timestamp": told_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "data": {"reference": "WO-00000-00000", "version": 1},
    }
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(got.body, got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(got.body.replace("1", "2"), got.headers)


async def test_the_departments_bytes_go_out_unchanged(connection: Any, database_url: str) -> None:
    body = (
        '{"reference":"WO-00000-00000","version":1,"title":"Fix  the lamp – 4000 W","point":{"lat":41.880}}'
    )
    async with receiving() as receiver, courier(database_url):
        secret = await register(connection, receiver.url())
        await feed.add(connection, [Told("cdot", "work-order", "WO-00000-00000", 1, body)])
        await receiver.until(1)
    (got,) = receiver.received
    assert got.body.partition('"data":')[2] == body + "}"
    assert Webhook(secret).verify(got.body, got.headers)


async def test_with_two_secrets_either_verifies(connection: Any, database_url: str) -> None:
    async with receiving() as receiver, courier(database_url):
        old = await register(connection, receiver.url())
        new = new_secret()
        await webhooks.rotate(connection, "wh_1", new, 3600)
        await tell(connection, 1)
        await receiver.until(1)
        await connection.execute("UPDATE webhook_endpoints SET previous_until = now()")  # the overlap ends
        await tell(connection, 2)
        await receiver.until(2)
    first, second = receiver.received
    assert len(first.headers["webhook-signature"].split()) == 2
    for secret in (old, new):
        assert Webhook(secret).verify(first.body, first.headers)
    assert Webhook(new).verify(second.body, second.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(second.body, second.headers)


async def test_each_department_gets_its_own_and_supervisors_get_references_only(
    connection: Any, database_url: str
) -> None:
    async with receiving() as cdot, receiving() as dsny, receiving() as all_of_them, courier(database_url):
        await register(connection, cdot.url(), "cdot", "wh_c")
        await register(connection, dsny.url(), "streets", "wh_s")
        await register(connection, all_of_them.url(), "", "wh_all")
        await tell(connection, 1)
        await tell(connection, 2, audience="streets", kind="update-result")
        await tell(connection, 3, audience="streets", kind="service-request-news")  # not for webhooks
        await tell(connection, 7, audience="")
        await asyncio.gather(cdot.until(1), dsny.until(1), all_of_them.until(1))
    assert cdot.versions == [1]
    assert [json.loads(one.body)["type"] for one in dsny.received] == ["work-order-update.answered"]
    (thin,) = all_of_them.received
    assert json.loads(thin.body)["data"] == {"reference": "WO-00000-00000", "version": 7}


async def test_alerts_go_out_too_as_each_audience_is_told_of_them(connection: Any, database_url: str) -> None:
    theirs, whole = '{"seq":1,"kind":"fired"}', '{"seq":1,"kind":"fired","by":null}'
    async with receiving() as cdot, receiving() as all_of_them, courier(database_url):
        await register(connection, cdot.url(), "cdot", "wh_c")
        await register(connection, all_of_them.url(), "", "wh_all")
        await feed.add(
            connection, [Told("", "alert", "a-1", 1, whole), Told("cdot", "alert", "a-1", 1, theirs)]
        )
        await asyncio.gather(cdot.until(1), all_of_them.until(1))
    for receiver, said in ((cdot, theirs), (all_of_them, whole)):
        body = json.loads(receiver.received[0].body)
        assert (body["type"], body["data"]) == ("alert.changed", json.loads(said))


async def test_only_what_is_told_after_it_was_added_unless_from_the_start(
    connection: Any, database_url: str
) -> None:
    await tell(connection, 1, 2)
    async with receiving() as late, receiving() as early, courier(database_url):
        await register(connection, late.url(), endpoint="wh_late")
        await webhooks.add(connection, "wh_early", "cdot", early.url(), new_secret(), from_start=True)
        await tell(connection, 3)
        await asyncio.gather(late.until(1), early.until(3))
    assert (late.versions, early.versions) == ([3], [1, 2, 3])


async def test_what_an_open_transaction_is_about_to_tell_is_waited_for(
    connection: Any, database_url: str, server: str
) -> None:
    """Rows that become visible late are never jumped over."""
    async with receiving() as receiver, courier(database_url):
        await register(connection, receiver.url())
        pool = await create_pool(database_url, min_size=1, max_size=2)
        async with pool.acquire() as slow:
            begun = slow.transaction()
            await begun.start()
            await tell(slow, 1)
            await tell(connection, 2)
            await connection.execute("SELECT pg_sleep(0.2)")  # a few looks of the courier
            assert receiver.received == []
            await begun.commit()
        await receiver.until(2)
        await pool.close()
    assert sorted(receiver.versions) == [1, 2]


async def test_failures_of_all_kinds_lose_nothing_and_keep_the_order(
    connection: Any, database_url: str
) -> None:
    release = asyncio.Event()
    release.set()
    async with receiving() as receiver, courier(database_url, timeout_s=0.5):
        receiver.script.extend([
            answering(500), answering(302, "Location: http://10.0.0.1/"), answering(204), hanging_up, answering(400),
            answering(429, "Retry-After: 0"), hanging(asyncio.Event()), answering(200, body=b"x" * 100_000),
            answering(404), answering(503, "Retry-After: soon"),
        ])  # fmt: skip
        await register(connection, receiver.url())
        await tell(connection, 1, 2, 3, 4)
        await until_state(connection, pending=0)
    assert receiver.versions == [1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 4]
    ids = [one.message_id for one in receiver.received]
    assert len(set(ids)) == 4  # the same message, the same id
    assert each_once(receiver.versions) == [1, 2, 3, 4]
    attempts = [row["attempt"] for row in await webhooks.attempts(connection, "wh_1", 100)][::-1]
    assert attempts == [1, 2, 3, 1, 2, 3, 4, 5, 1, 2, 3, 1]
    found = await state(connection)
    assert (found["failures"], found["failing_since"]) == (0, None)


async def test_a_redirect_to_a_private_address_is_never_called(connection: Any, database_url: str) -> None:
    async with receiving() as private, receiving() as receiver, courier(database_url):
        receiver.script.append(answering(308, f"Location: {private.url('localhost')}"))
        await register(connection, receiver.url())
        await tell(connection, 1)
        await receiver.until(2)
    assert private.received == []
    assert "redirects are not followed" in (await webhooks.attempts(connection, "wh_1", 10))[-1]["sentence"]


async def test_a_name_that_is_rebound_to_a_private_address_fails_and_recovers(
    connection: Any, database_url: str
) -> None:
    answers = [["127.0.0.1"], ["169.254.169.254"], ["127.0.0.1", "10.0.0.1"], ["127.0.0.1"]]

    async def resolve(host: str, port: int) -> list[str]:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async with receiving() as receiver, courier(database_url, resolve=resolve):
        await register(connection, receiver.url("rebinding.example"))
        await tell(connection, 1, 2)
        await until_state(connection, pending=0)
    assert receiver.versions == [1, 2]
    assert await rules(connection) == ["delivered", "retry", "retry", "delivered"]
    sentences = [row["sentence"] for row in await webhooks.attempts(connection, "wh_1", 10)][::-1]
    assert "a cloud's metadata service" in sentences[1]
    assert "10.0.0.1, which is private" in sentences[2]


async def test_retry_after_is_waited_for(connection: Any, database_url: str) -> None:
    async with receiving() as receiver, courier(database_url):
        receiver.script.append(answering(429, "Retry-After: 30"))
        await register(connection, receiver.url())
        await tell(connection, 1)
        found = await until_state(connection, failures=1)
        wait_s = (found["next_attempt_at"] - datetime.now(UTC)).total_seconds()
        assert 25 < wait_s <= 30
        await webhooks.enable(connection, "wh_1")  # by hand: at once
        await receiver.until(2)
    assert receiver.versions == [1, 1]
    assert await rules(connection) == ["retry_after", "delivered"]


async def test_410_disables_at_once_with_an_alert_and_enabling_goes_on_where_it_stopped(
    connection: Any, database_url: str
) -> None:
    async with receiving() as receiver, courier(database_url):
        receiver.script.extend([answering(204), answering(410)])
        await register(connection, receiver.url())
        await tell(connection, 1, 2, 3)
        alerts = await until(lambda: webhooks.open_alerts(connection))
        found = await state(connection)
        assert (found["disabled_why"], found["pending"]) == (alerts[0]["sentence"], 2)
        assert (alerts[0]["endpoint_id"], alerts[0]["audience"]) == ("wh_1", "cdot")
        assert "410" in alerts[0]["sentence"]
        await tell(connection, 4)
        await webhooks.enable(connection, "wh_1")
        await until_state(connection, pending=0)
    assert receiver.versions == [1, 2, 2, 3, 4]
    assert await webhooks.open_alerts(connection) == []


async def test_failing_for_too_long_opens_the_circuit_and_then_disables(
    connection: Any, database_url: str
) -> None:
    limits = FAST._replace(breaker_failures=3, probe_s=0.02, give_up_s=0.2)
    async with receiving() as receiver, courier(database_url, limits=limits):
        receiver.always = answering(500)
        await register(connection, receiver.url())
        await tell(connection, 1, 2)
        await until(lambda: webhooks.open_alerts(connection))
        told = await rules(connection)
        assert told[:3] == ["retry", "retry", "probe"]
        assert told[-1] == "gave_up"
        assert set(told[3:-1]) <= {"probe"}
        receiver.always = answering(204)
        await webhooks.skip_to_now(connection, "wh_1")
        await webhooks.enable(connection, "wh_1")
        await tell(connection, 3)
        await until_state(connection, pending=0)
    assert each_once(receiver.versions) == [1, 3]


async def test_one_message_that_cannot_be_taken_is_skipped_by_hand(
    connection: Any, database_url: str
) -> None:
    async with receiving() as receiver, courier(database_url):
        receiver.script.append(answering(410))
        await register(connection, receiver.url())
        await tell(connection, 1, 2)
        await until(lambda: webhooks.open_alerts(connection))
        assert await webhooks.skip_one(connection, "wh_1") == receiver.received[0].message_id
        await webhooks.enable(connection, "wh_1")
        await until_state(connection, pending=0)
    assert receiver.versions == [1, 2]
    assert await webhooks.skip_one(connection, "wh_1") is None


async def test_redelivery_repeats_under_the_same_id_and_leaves_the_order_of_what_waits(
    connection: Any, database_url: str
) -> None:
    async with receiving() as receiver, courier(database_url):
        await register(connection, receiver.url())
        await tell(connection, 1, 2, 3)
        await until_state(connection, pending=0)
        sent = {one.version: one.message_id for one in receiver.received}
        await webhooks.disable(connection, "wh_1", "for the test")
        assert await webhooks.redeliver_one(connection, "wh_1", sent[2])
        assert not await webhooks.redeliver_one(connection, "wh_1", "msg_unknown")
        assert not await webhooks.redeliver_one(connection, "wh_other", sent[2])
        await tell(connection, 4, 5)
        await webhooks.enable(connection, "wh_1")
        await receiver.until(6)
        assert await webhooks.redeliver_since(connection, "wh_1", datetime.now(UTC) - timedelta(hours=1)) == 5
        assert await webhooks.redeliver_since(connection, "wh_1", datetime.now(UTC) + timedelta(hours=1)) == 0
        await receiver.until(11)
        await until(lambda: connection.fetchval("SELECT count(*) = 0 FROM webhook_redeliveries"))
        await tell(connection, 6)
        await receiver.until(12)
    assert receiver.versions == [1, 2, 3, 4, 5, 2, 1, 2, 3, 4, 5, 6]
    ids = {(one.version, one.message_id) for one in receiver.received}
    assert len(ids) == 6
    assert {version: message for version, message in ids if version in sent} == sent


async def test_two_couriers_never_send_to_one_endpoint_at_once(connection: Any, database_url: str) -> None:
    async with (
        receiving() as receiver, receiving() as other,
        courier(database_url, name="one"), courier(database_url, name="two"),
    ):  # fmt: skip
        receiver.script.extend([answering(500) if at % 7 == 3 else answering(204) for at in range(60)])
        await register(connection, receiver.url())
        await register(connection, other.url(), endpoint="wh_2")
        await tell(connection, *range(1, 41))
        await until_state(connection, pending=0)
        await until_state(connection, "wh_2", pending=0)
    assert (receiver.at_once, other.at_once) == (1, 1)
    assert each_once(receiver.versions) == list(range(1, 41))
    assert other.versions == list(range(1, 41))


async def test_a_courier_that_lost_its_lease_moves_nothing(connection: Any, database_url: str) -> None:
    """It hangs in a send for longer than its lease; another one has delivered meanwhile."""
    release = asyncio.Event()
    async with receiving() as receiver:
        receiver.script.append(hanging(release))
        await register(connection, receiver.url())
        await tell(connection, 1, 2)
        async with courier(database_url, name="slow", lease_s=0.2, timeout_s=15.0):
            await receiver.until(1)
            async with courier(database_url, name="next"):
                await until_state(connection, pending=0)
            release.set()  # the slow one's attempt fails now
        found = await state(connection)
    assert receiver.versions == [1, 1, 2]
    assert (found["failures"], found["pending"], found["disabled_at"]) == (0, 0, None)


async def test_a_slow_endpoint_holds_up_no_other(connection: Any, database_url: str) -> None:
    release = asyncio.Event()
    async with receiving() as slow, receiving() as quick, courier(database_url):
        slow.always = hanging(release)
        await register(connection, slow.url(), endpoint="wh_slow")
        await register(connection, quick.url(), endpoint="wh_quick")
        await tell(connection, *range(1, 11))
        await until_state(connection, "wh_quick", pending=0)
        assert len(slow.received) == 1
        release.set()
        slow.always = answering(204)
    assert quick.versions == list(range(1, 11))


async def test_stopping_finishes_what_is_under_way(connection: Any, database_url: str) -> None:
    release = asyncio.Event()

    async def late(writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(LIMIT_S):
            await release.wait()
        await answering(204)(writer)

    async with receiving() as receiver:
        receiver.always = late
        await register(connection, receiver.url())
        await tell(connection, 1, 2)
        async with courier(database_url) as stopping:
            await receiver.until(1)
            stopping.stop()
            release.set()
        found = await state(connection)
    assert (receiver.versions, found["pending"], found["sending"]) == ([1], 1, False)


async def test_a_database_that_goes_away_is_waited_for(connection: Any, database_url: str) -> None:
    async with receiving() as receiver, courier(database_url, lease_s=0.5):
        await register(connection, receiver.url())
        await tell(connection, 1)
        await receiver.until(1)
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await tell(connection, 2)
        await until_state(connection, pending=0)
    assert each_once(receiver.versions) == [1, 2]


async def test_an_endpoint_that_is_removed_while_it_is_sent_to(connection: Any, database_url: str) -> None:
    release = asyncio.Event()
    async with receiving() as receiver, courier(database_url):
        receiver.always = hanging(release)
        await register(connection, receiver.url())
        await tell(connection, 1)
        await receiver.until(1)
        await webhooks.remove(connection, "wh_1")
        release.set()
    assert await webhooks.endpoints(connection, None, 10) == []


async def test_the_log_forgets_what_is_old(connection: Any, database_url: str) -> None:
    async with receiving() as receiver, courier(database_url):
        await register(connection, receiver.url())
        await tell(connection, 1, 2)
        await until_state(connection, pending=0)
    await connection.execute(
        "UPDATE webhook_deliveries SET at = at - interval '2 days' WHERE delivery_id = (SELECT min(delivery_id) "
        "FROM webhook_deliveries)"
    )
    assert await webhooks.prune(connection, 86_400.0) == 1
    assert len(await webhooks.attempts(connection, "wh_1", 10)) == 1
