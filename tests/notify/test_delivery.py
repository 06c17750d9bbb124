"""Notifiers, a real database, a real mail server and real HTTP receivers that fail and return."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.notify.sender import HEADER
from connectors.ports import Told
from connectors.postgres import feed
from connectors.postgres.pool import create_pool
from infra.notify_templates import load_templates
from schemas.oncall import Channel, Digest, QuietHours, QuietSpan
from schemas.policy import Policy
from tests.http.conftest import until_found
from tests.notify.receivers import mail_server
from tests.notify.world import (
    Clock,
    attempts,
    fired,
    in_force,
    notifying,
    people,
    person,
    states,
    tell,
    until_attempts,
    until_states,
)
from tests.webhooks.receiver import answering, hanging, hanging_up, receiving


def json_url(receiver: Any) -> str:
    return f"json://127.0.0.1:{receiver.port}/hook"


async def test_a_mail_says_what_where_due_how_late_who_has_it_the_link_and_how_to_acknowledge(
    connection: Any, database_url: str, policy: Policy
) -> None:
    clock = Clock()
    async with mail_server() as mail, notifying(database_url, clock):
        await in_force(connection, policy, people({"mail": mail.url()}, person("pat", "mail")))
        event = fired()
        await tell(connection, event)
        await until_states(connection, "sent")
    (got,) = mail.accepted
    assert got.to == "desk@example.org"
    assert got.subject.startswith("Overdue by 3 hours: Repair street light, 4001 W WEST END AVE, Austin (WO-")
    for said in (
        "Tue, Nov 24, 12:30 PM CST (America/Chicago)", "Late by", "3 hours", "Division of Electrical Operations",
        f"https://rapid.example/alerts/{event.alert.alert_id}",
        f"rapid alerts acknowledge {event.alert.alert_id}",
    ):  # fmt: skip
        assert said in got.html
        assert said in " ".join(got.text.split())
    assert got.message_id.startswith("rn_")


async def test_a_mail_server_that_is_down_and_comes_back_gets_everything_once_and_in_order(
    connection: Any, database_url: str, policy: Policy
) -> None:
    clock = Clock()
    async with mail_server() as first:
        port = first.port
    async with notifying(database_url, clock):
        await in_force(connection, policy, people({"mail": first.url()}, person("pat", "mail")))
        for number in (1, 2, 3):
            await tell(connection, fired(number))
        await until_attempts(connection, 1)
        clock.move(hours=1)
        await until_attempts(connection, 2)
        async with mail_server(port) as mail:
            clock.move(hours=1)
            await until_states(connection, "sent", "sent", "sent")
    assert [one.message_id for one in mail.seen] == list(dict.fromkeys(one.message_id for one in mail.seen))
    assert [one.subject.split(",")[1] for one in mail.accepted] == [
        " 4001 W WEST END AVE", " 4002 W WEST END AVE", " 4003 W WEST END AVE"
    ]  # fmt: skip
    assert [rule for rule, _ in await attempts(connection)] == ["retry", "retry", *["delivered"] * 3]
    assert (await attempts(connection))[0][1] == "No connection could be made to the receiver."


async def test_451_is_tried_again_and_550_is_given_up_at_once(
    connection: Any, database_url: str, policy: Policy
) -> None:
    clock = Clock()
    async with mail_server() as mail, notifying(database_url, clock):
        mail.script.extend(["451 later", "250 accepted", "550 no such mailbox"])
        await in_force(connection, policy, people({"mail": mail.url()}, person("pat", "mail")))
        await tell(connection, fired(1))
        await until_attempts(connection, 1)
        clock.move(hours=1)
        await until_states(connection, "sent")
        await tell(connection, fired(2))
        await until_states(connection, "sent", "undeliverable")
    assert len({one.message_id for one in mail.seen[:2]}) == 1
    assert [rule for rule, _ in await attempts(connection)] == ["retry", "delivered", "refused"]
    assert "answered 550" in (await attempts(connection))[2][1]


async def test_an_http_receiver_that_fails_in_all_ways_gets_each_alert_under_one_id(
    connection: Any, database_url: str, policy: Policy
) -> None:
    clock = Clock()
    async with receiving() as receiver, notifying(database_url, clock, timeout_s=0.5):
        receiver.script.extend([
            answering(500), answering(429, "Retry-After: 1"), hanging(asyncio.Event()), hanging_up,
            answering(302, "Location: http://127.0.0.1:1/"), answering(404),
        ])  # fmt: skip
        await in_force(connection, policy, people({"hook": json_url(receiver)}, person("pat", "hook")))
        await tell(connection, fired())
        for tried in range(1, 7):
            await until_attempts(connection, tried)
            clock.move(hours=0.8)
        await until_states(connection, "sent", channel="hook")
    assert len(receiver.received) == 7
    assert len({one.headers[HEADER.lower()] for one in receiver.received}) == 1
    assert all(one.headers[HEADER.lower()] in json.loads(one.body)["message"] for one in receiver.received)
    assert [rule for rule, _ in await attempts(connection)] == [*["retry"] * 6, "delivered"]


async def test_what_waits_for_too_long_is_undeliverable_and_the_next_level_is_told_over_another_channel(
    connection: Any, database_url: str, policy: Policy
) -> None:
    clock = Clock()
    async with mail_server() as mail, receiving() as receiver, notifying(database_url, clock):
        receiver.always = answering(500)
        urls = {"hook": json_url(receiver), "mail": mail.url()}
        oncall = people(
            urls, person("pat", "hook"), person("kim", "mail"), levels={2: ["pat"], 3: ["kim"], 4: ["kim"]}
        )
        await in_force(connection, policy, oncall)
        await tell(connection, fired())
        for tried in range(1, 3):
            await until_attempts(connection, tried, "hook")
            clock.move(hours=1)
        await until_attempts(connection, 3, "hook")
        await mail.until(2)  # the channel is dead: of that, and of the alert, Kim is told
        clock.move(hours=6)
        await until_states(connection, "undeliverable", person="pat")
    subjects = sorted(one.subject for one in mail.accepted)
    assert subjects[0] == "Channel hook does not work: messages to Pat Desk do not arrive"
    assert subjects[1].startswith("Overdue by")
    (alert,) = [one for one in mail.accepted if one.subject == subjects[1]]
    assert "Pat Desk cannot be reached, so you are told." in alert.text
    assert await states(connection, person="kim") == ["sent", "sent"]


async def test_a_dead_channel_is_told_of_once_and_again_when_it_works(
    connection: Any, database_url: str, policy: Policy
) -> None:
    clock = Clock()
    async with mail_server() as mail, receiving() as receiver, notifying(database_url, clock):
        receiver.always = answering(503)
        urls = {
            "hook": json_url(receiver),
            "mail": mail.url("pat@example.org"),
            "duty": mail.url("duty@example.org"),
        }
        oncall = people(
            urls,
            person("pat", "hook", "mail"),
            person("kim", "duty"),
            levels={2: ["pat"], 3: ["kim"], 4: ["kim"]},
        )
        await in_force(connection, policy, oncall)
        await tell(connection, fired())
        for tried in range(1, 5):
            await until_attempts(connection, tried, "hook")
            clock.move(hours=0.5)
        await until_attempts(connection, 5, "hook")
        await mail.until(3)
        receiver.always = answering(204)
        clock.move(hours=1)
        await until_states(connection, *["sent"] * 6)
    told = sorted((one.to, one.subject.split(":")[0]) for one in mail.accepted)
    assert told == [
        ("duty@example.org", "Channel hook does not work"),
        ("duty@example.org", "Channel hook works again"),
        ("pat@example.org", "Channel hook does not work"),
        ("pat@example.org", "Channel hook works again"),
        ("pat@example.org", told[4][1]),
    ]
    assert told[4][1].startswith("Overdue")


async def test_forty_orders_of_one_outage_are_one_message(
    connection: Any, database_url: str, policy: Policy
) -> None:
    clock = Clock()
    async with mail_server() as mail, notifying(database_url, clock, gather_s=20):
        await in_force(connection, policy, people({"mail": mail.url()}, person("pat", "mail")))
        await tell(connection, *(fired(number) for number in range(1, 31)))
        await until_states(connection, *["waiting"] * 30)
        clock.move(seconds=15)
        await tell(connection, *(fired(number) for number in range(31, 41)))
        await until_states(connection, *["waiting"] * 40)
        assert mail.seen == []
        clock.move(seconds=6)
        await until_states(connection, *["sent"] * 40)
    (got,) = mail.accepted
    assert got.subject == "40 orders: Repair street light, Austin: not resolved in time"
    assert all(f"{4000 + number} W WEST END AVE" in got.html for number in range(1, 41))


async def test_quiet_hours_are_waited_for_and_what_is_acknowledged_meanwhile_is_not_sent(
    connection: Any, database_url: str, policy: Policy
) -> None:
    clock = Clock()  # 15:30 in Chicago
    quiet = QuietHours(spans=(QuietSpan(hours="15:00-07:00"),), from_level=3)
    async with mail_server() as mail, notifying(database_url, clock):
        oncall = people(
            {"mail": mail.url()}, person("pat", "mail", quiet=quiet), levels={2: ["pat"], 3: ["pat"]}
        )
        await in_force(connection, policy, oncall)
        await tell(connection, fired(1), fired(2), fired(3, level=3))
        await until_states(connection, "waiting", "waiting", "sent")
        await tell(connection, fired(1, "acknowledged", 2, state="acknowledged", acknowledged_by="kim"))
        await until_states(connection, "not_needed", "waiting", "sent")
        clock.move(hours=15, minutes=31)
        await until_states(connection, "not_needed", "sent", "sent")
    assert ["4003 W" in one.subject for one in mail.accepted] == [True, False]
    assert "4002 W" in mail.accepted[1].subject
    why = await connection.fetchval("SELECT why FROM notifications WHERE state = 'not_needed'")
    assert why == "Somebody has acknowledged the alert."


async def test_who_was_told_of_an_alert_that_does_not_hold_is_told_so_and_who_was_not_is_not(
    connection: Any, database_url: str, policy: Policy
) -> None:
    clock = Clock()
    async with mail_server() as mail, notifying(database_url, clock, gather_s=20):
        await in_force(connection, policy, people({"mail": mail.url()}, person("pat", "mail")))
        await tell(connection, fired(1))
        await until_states(connection, "waiting")
        clock.move(seconds=30)
        await until_states(connection, "sent")
        await tell(
            connection,
            fired(2),
            fired(1, "withdrawn", 2, state="withdrawn"),
            fired(2, "withdrawn", 2, state="withdrawn"),
        )
        await until_states(connection, "sent", "not_needed", "waiting")
        clock.move(seconds=30)
        await until_states(connection, "sent", "not_needed", "sent")
    assert [one.subject.split(":")[0] for one in mail.accepted] == ["Overdue by 3 hours", "Corrected"]
    assert "As is known by now, this alert does not hold." in mail.accepted[1].text
    # Of which promise: others of the order may hold.
    assert "(not resolved in time)" in mail.accepted[1].subject


async def test_a_message_that_may_have_arrived_is_corrected_too(
    connection: Any, database_url: str, policy: Policy
) -> None:
    clock = Clock()
    async with receiving() as receiver, notifying(database_url, clock, timeout_s=0.3):
        receiver.script.append(hanging(asyncio.Event()))
        await in_force(connection, policy, people({"hook": json_url(receiver)}, person("pat", "hook")))
        await tell(connection, fired(1))
        await until_attempts(connection, 1)
        await tell(connection, fired(1, "withdrawn", 2, state="withdrawn"))
        await until_states(connection, "not_needed", "waiting")
        clock.move(hours=1)
        await until_states(connection, "not_needed", "sent")
    titles = [json.loads(one.body)["title"] for one in receiver.received]
    assert [title.split(":")[0] for title in titles] == ["Overdue by 3 hours", "Corrected"]


async def test_a_digest_is_one_message_at_the_persons_wall_time_in_their_language(
    connection: Any, database_url: str, policy: Policy
) -> None:
    clock = Clock()
    digest = Digest(every="day", at="08:00", up_to_level=2)
    async with mail_server() as mail, notifying(database_url, clock):
        oncall = people({"mail": mail.url()}, person("pat", "mail", digest=digest, language="es"))
        await in_force(connection, policy, oncall)
        await tell(connection, fired(1), fired(2))
        await until_states(connection, "waiting", "waiting")
        (due,) = {row["due_at"] for row in await connection.fetch("SELECT due_at FROM notifications")}
        assert due.isoformat() == "2026-11-25T14:00:00+00:00"
        clock.now = due + timedelta(seconds=1)
        await until_states(connection, "sent", "sent")
    (got,) = mail.accepted
    assert got.subject == "Resumen: 2 avisos sobre 2 órdenes, 2 con retraso"
    assert "Reparar el alumbrado público" in got.html


async def test_two_notifiers_send_each_message_once(
    connection: Any, database_url: str, policy: Policy
) -> None:
    clock = Clock()
    async with (
        mail_server() as mail,
        receiving() as receiver,
        notifying(database_url, clock, name="one"),
        notifying(database_url, clock, name="two"),
    ):
        urls = {"mail": mail.url(), "hook": json_url(receiver)}
        await in_force(connection, policy, people(urls, person("pat", "mail", "hook")))
        for number in range(1, 21):
            await tell(connection, fired(number))
        await until_states(connection, *["sent"] * 40)
    told = [one.message_id for one in mail.accepted]
    assert len(told) == len(set(told))
    assert receiver.at_once == 1
    text = "".join(one.html for one in mail.accepted)
    assert all(text.count(f"acknowledge {fired(number).alert.alert_id}") <= 1 for number in range(1, 21))


async def test_when_a_role_has_nobody_the_next_level_is_told_why_and_the_alerts_history_too(
    connection: Any, database_url: str, policy: Policy
) -> None:
    clock = Clock()
    async with mail_server() as mail, notifying(database_url, clock):
        oncall = people({"mail": mail.url()}, person("kim", "mail"), levels={3: ["kim"]})
        await in_force(connection, policy, oncall)
        await tell(connection, fired(1))
        await until_states(connection, "sent")
    assert "Nobody is on call as Role 2, so you are told." in mail.accepted[0].text
    (row,) = await connection.fetch("SELECT source, topic, key, value FROM outbox")
    assert (row["source"], row["topic"], row["key"].decode()) == (
        "door/api", "work-order-commands", fired(1).alert.order_key
    )  # fmt: skip
    command = json.loads(row["value"])
    assert (command["kind"], command["to"], command["by"]) == ("nobody_there", "role2", "notify")


async def test_an_alert_that_nobody_can_be_told_of_is_reported(
    connection: Any, database_url: str, policy: Policy
) -> None:
    async with notifying(database_url, Clock()):
        await in_force(connection, policy, people({}, person("pat"), levels={1: ["pat"]}))
        await tell(connection, fired(1))
        await until_states(connection, "undeliverable")
    why = await connection.fetchval("SELECT why FROM notifications")
    assert why == "The policy has nobody who could be told."


async def test_the_same_events_again_tell_nobody_again(
    connection: Any, database_url: str, policy: Policy
) -> None:
    clock = Clock()
    async with mail_server() as mail, notifying(database_url, clock):
        await in_force(connection, policy, people({"mail": mail.url()}, person("pat", "mail")))
        await tell(connection, fired(1))
        await until_states(connection, "sent")
        await connection.execute("UPDATE notify_cursor SET cursor_xid = '0', cursor_seq = 0")
        await tell(connection, fired(2))
        await until_states(connection, "sent", "sent")
    assert len(mail.accepted) == 2


async def test_a_template_that_fails_when_it_is_used_loses_nothing_and_is_told_of(
    connection: Any, database_url: str, policy: Policy, tmp_path: Path
) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "alert.en.txt").write_text("x\n{{ 1 // (lines[0].title | length - 21) }}")
    templates = load_templates(tmp_path)
    async with mail_server() as mail, notifying(database_url, Clock(), templates=templates):
        urls = {"mail": mail.url("pat@example.org"), "duty": mail.url("duty@example.org")}
        oncall = people(urls, person("pat", "mail"), person("kim", "duty"), levels={2: ["pat"], 3: ["kim"]})
        await in_force(connection, policy, oncall)
        await tell(connection, fired(1, title="A" * 21), fired(2, title="B" * 21))
        await until_states(connection, "sent", "sent", "sent")
    assert sorted(one.to for one in mail.accepted) == [
        "duty@example.org",
        "pat@example.org",
        "pat@example.org",
    ]
    (alert, _), (notice,) = (
        [one for one in mail.accepted if one.to.startswith(who)] for who in ("pat", "duty")
    )
    assert "A" * 21 in alert.html
    assert "This is the built-in form" in alert.html
    assert notice.subject.startswith("A template of messages fails: templates/alert.en.txt:2: ")


async def test_an_event_that_cannot_be_read_holds_nobody_up(
    connection: Any, database_url: str, policy: Policy
) -> None:
    async with mail_server() as mail, notifying(database_url, Clock()):
        await in_force(connection, policy, people({"mail": mail.url()}, person("pat", "mail")))
        await feed.add(connection, [Told("", "alert", "x", 1, '{"of": "another version"}')])
        await tell(connection, fired(1))
        await until_states(connection, "sent")
    assert len(mail.accepted) == 1


async def test_a_channel_whose_variable_is_not_set_is_dead_at_once_and_works_when_it_is(
    connection: Any, database_url: str, policy: Policy
) -> None:
    clock, variables = Clock(), dict[str, str]()
    async with mail_server() as mail, notifying(database_url, clock, variable=variables.get):
        oncall = people({}, person("pat", "mail")).model_copy(
            update={"channels": (Channel(code="mail", url_env="RAPID_CHANNEL_PAT"),)}
        )
        await in_force(connection, policy, oncall)
        await tell(connection, fired(1))
        await until_attempts(connection, 1)
        assert await connection.fetchval("SELECT dead_why FROM notify_channels") == (
            "RAPID_CHANNEL_PAT is not set where `rapid courier` runs."
        )
        variables["RAPID_CHANNEL_PAT"] = mail.url()
        clock.move(hours=1)
        await until_states(connection, "sent")
    assert len(mail.accepted) == 1


async def test_who_starts_anew_tries_dead_channels_at_once(
    connection: Any, database_url: str, policy: Policy
) -> None:
    """An operator sets the variable and restarts: no backoff of a quarter of an hour is waited for."""
    clock, variables = Clock(), dict[str, str]()
    async with mail_server() as mail:
        async with notifying(database_url, clock, variable=variables.get):
            oncall = people({}, person("pat", "mail")).model_copy(
                update={"channels": (Channel(code="mail", url_env="RAPID_CHANNEL_PAT"),)}
            )
            await in_force(connection, policy, oncall)
            await tell(connection, fired(1))
            await until_attempts(connection, 1)
        assert await connection.fetchval("SELECT next_attempt_at > $1 FROM notify_channels", clock.now)
        variables["RAPID_CHANNEL_PAT"] = mail.url()
        async with notifying(database_url, clock, variable=variables.get):
            await until_states(connection, "sent")
    assert len(mail.accepted) == 1


@pytest.mark.parametrize("after", ["a start", "an activation"])
async def test_a_dead_channel_with_nothing_to_send_is_given_another_chance(
    connection: Any, database_url: str, policy: Policy, after: str
) -> None:
    """Who collects a digest over a mended channel is told there, and not level 3 in their place."""
    clock, variables = Clock(), dict[str, str]()
    async with mail_server() as mail:
        daily = Digest(every="day", at="08:00", up_to_level=2)
        oncall = people(
            {"duty": mail.url("duty@example.org")},
            person("pat", "mail", digest=daily), person("kim", "duty"), levels={2: ["pat"], 3: ["kim"]},
        )  # fmt: skip
        channels = (*oncall.channels, Channel(code="mail", url_env="RAPID_CHANNEL_PAT"))
        oncall = oncall.model_copy(update={"channels": channels})
        await in_force(connection, policy, oncall)
        await connection.execute(
            "INSERT INTO notify_channels (channel, failures, failing_since, next_attempt_at, outages, dead_since, "
            "dead_why) VALUES ('mail', 1, $1, $2, 1, $1, 'It is not set.')",
            clock.now,
            clock.now + timedelta(days=1),
        )
        sound = "SELECT count(*) = 0 FROM notify_channels WHERE dead_since IS NOT NULL"
        variables["RAPID_CHANNEL_PAT"] = mail.url("pat@example.org")
        async with notifying(database_url, clock, variable=variables.get):
            await until_found(connection, sound)
            if after == "an activation":
                await connection.execute(
                    "UPDATE notify_channels SET dead_since = $1 WHERE channel = 'mail'", clock.now
                )
                await in_force(connection, policy, oncall, "next")
                await until_found(connection, sound)
            await tell(connection, fired(1))
            await until_states(connection, "waiting")
            clock.move(days=1)
            await until_states(connection, "sent", person="pat")
            await until_states(connection, "sent", person="kim")
    assert min((one.to, one.subject.split(":")[0]) for one in mail.accepted) == (
        "duty@example.org", "Channel mail works again",
    )  # fmt: skip


async def test_what_an_open_transaction_is_about_to_tell_is_waited_for(
    connection: Any, database_url: str, policy: Policy
) -> None:
    """Events that become visible late are never jumped over."""
    async with mail_server() as mail, notifying(database_url, Clock()):
        await in_force(connection, policy, people({"mail": mail.url()}, person("pat", "mail")))
        pool = await create_pool(database_url, min_size=1, max_size=1)
        async with pool.acquire() as slow:
            begun = slow.transaction()
            await begun.start()
            await tell(slow, fired(1))
            await tell(connection, fired(2))
            await connection.execute("SELECT pg_sleep(0.2)")  # a few looks of the notifier
            assert await states(connection) == []
            await begun.commit()
        await until_states(connection, "sent", "sent")
        await pool.close()
    assert len(mail.accepted) == 2


async def test_a_channel_of_two_receivers_is_refused_since_one_that_fails_would_repeat_the_other(
    connection: Any, database_url: str, policy: Policy
) -> None:
    async with mail_server() as mail, notifying(database_url, Clock()):
        url = mail.url("a@example.org/b@example.org")
        await in_force(connection, policy, people({"mail": url}, person("pat", "mail")))
        await tell(connection, fired(1))
        await until_attempts(connection, 1)
    assert mail.seen == []
    assert "names 2 receivers" in (await attempts(connection))[0][1]
