"""What makes an installation usable: tables, topics, and what a broker that starts empty must hold again."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import asyncpg

from connectors.delivery import OutboxRow
from connectors.errors import Transient
from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.publisher import KafkaPublisher
from connectors.kafka.security import PLAINTEXT, Security
from connectors.postgres import activations, outbox
from connectors.postgres import migrate as migrations
from connectors.postgres.pool import Connection, classified
from connectors.postgres.readmodels import newest_policy
from infra.cli.errors import ExitCode, Oops
from infra.policy.load import SHIPPED, PolicyErrors, load_policy
from infra.settings import Settings
from schemas.envelope import Event, headers_of
from schemas.topics import READ_BY_US, Topic, all_topics, department_topic, is_read_by_us

PUBLISH_ROWS: Final = 2_000
"""Rows that are read, published and noted at a time when a broker is filled."""

KEPT: Final = timedelta(milliseconds=department_topic("any").retention_ms)

_WITH_ORDERS: Final = "SELECT DISTINCT department FROM work_orders ORDER BY 1"

_UNSENT: Final = """
SELECT seq, topic, key, value, headers FROM outbox
WHERE sent_offset IS NULL AND seq > $1 AND starts_with(source, $3) ORDER BY seq LIMIT $2"""

# What departments were told last of each order, of those that their topics would still hold.
_TOLD_LAST: Final = """
SELECT * FROM (SELECT DISTINCT ON (audience, subject) audience, subject, version, body, recorded_at FROM feed
               WHERE kind = 'work-order' AND audience = ANY($1::text[])
               ORDER BY audience, subject, version DESC) last
WHERE recorded_at > now() - $2::interval ORDER BY recorded_at"""


def departments(settings: Settings) -> tuple[str, ...]:
    """The departments of the installed policy, each of which has a topic. Raises Oops when it does not load."""
    try:
        return tuple(department.code for department in load_policy(settings.policy or SHIPPED).departments)
    except PolicyErrors as errors:
        raise Oops(errors.sentence, ExitCode.INVALID) from errors


def topics_for(settings: Settings, codes: Iterable[str]) -> tuple[Topic, ...]:
    """Every topic of an installation with these departments, with the partitions that the settings ask for."""
    return tuple(replace(topic, partitions=settings.partitions) for topic in all_topics(codes))


async def all_departments(settings: Settings) -> tuple[str, ...]:
    """Those of the installed policy and, where a database is named and answers, those of the active one and of all
    orders: whose topics have to be there. Raises Oops when the installed policy does not load."""
    codes = dict.fromkeys(departments(settings))
    if settings.database_url:
        with contextlib.suppress(Transient, asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
            async with one_connection(settings.database_url) as connection:
                active = await newest_policy(connection)
                codes |= dict.fromkeys(one.code for one in active.departments) if active else {}
                codes |= dict.fromkeys(row["department"] for row in await connection.fetch(_WITH_ORDERS))
    return tuple(codes)


async def policies_of(settings: Settings) -> tuple[str, str]:
    """The versions of the policy in the folder and of the active one, "" for none. Raises Transient."""
    file = await asyncio.to_thread(load_policy, settings.policy or SHIPPED)
    async with one_connection(settings.database_url) as connection:
        active = await activations.latest(connection, "policy")
    return file.version, active.version if active else ""


async def apply_migrations(url: str) -> list[str]:
    """Bring the tables up to date; returns what was applied. Raises Transient, MigrationError."""
    return await migrations.migrate(url)


async def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing; returns their names. Raises Transient."""
    return await KafkaAdmin(settings.broker_list, security=settings.security).create(
        topics_for(settings, await all_departments(settings)), replication=settings.replication
    )


async def remove_strangers_topics(settings: Settings) -> list[str]:
    """For a broker that has just begun empty: remove topics that do not have our partitions; returns their names.

    The embedded broker makes those of any client's question, and takes records for partitions that are not there.
    Raises Transient.
    """
    admin = KafkaAdmin(settings.broker_list, security=settings.security)
    there = await admin.partitions()
    wanted = topics_for(settings, await all_departments(settings))
    strangers = [one.name for one in wanted if len(there.get(one.name, ())) not in (0, one.partitions)]
    if strangers:
        await admin.delete(strangers)
    return strangers


async def incarnations(brokers: Sequence[str], security: Security = PLAINTEXT) -> dict[str, str]:
    """The present incarnation of each topic that we read. Raises Transient."""
    admin = KafkaAdmin(brokers, security=security)
    ours = sorted(filter(is_read_by_us, {*READ_BY_US, *await admin.partitions()}))
    return {topic: await admin.incarnation(topic) for topic in ours}


async def fill(settings: Settings, boot_id: str) -> tuple[int, int]:
    """Publish to a broker that begins empty, before a worker runs, who would publish newer events.

    First what the outbox holds, then what departments were told last: their topics have versions going up, although
    the outbox may still hold all those of an order. Returns how many records of each. Raises Transient.
    """
    return await publish_again(settings, boot_id), await tell_again(settings)


async def publish_again(settings: Settings, boot_id: str) -> int:
    """Publish what the outbox holds and this boot of the broker does not, in order; returns how many records.

    Rows that another boot has acknowledged count as unsent: it has forgotten them. Raises Transient.
    """
    async with one_connection(settings.database_url) as connection:
        await outbox.forget_other_boots(connection, boot_id, "")
        return await publish_unsent(connection, settings.broker_list, "", embedded=True)


async def tell_again(settings: Settings) -> int:
    """Publish to departments what they were told last of each order; returns how many records. Raises Transient.

    What the broker held some department may not have read. Only for as long as the topic would have kept it.
    """
    publisher = KafkaPublisher(
        settings.broker_list, security=settings.security, idempotent=not settings.embedded
    )
    try:
        async with one_connection(settings.database_url) as connection:
            found = await connection.fetch(_TOLD_LAST, list(await all_departments(settings)), KEPT)
        rows = [_told(number, row) for number, row in enumerate(found)]
        for first in range(0, len(rows), PUBLISH_ROWS):
            await publisher.publish(rows[first : first + PUBLISH_ROWS])
        return len(rows)
    finally:
        await publisher.stop()


def _told(number: int, row: Any) -> OutboxRow:
    """As the orders' writer told it: the same bytes, the same `ce_id`."""
    topic, reference = department_topic(row["audience"]), row["subject"]
    body = row["body"].encode()
    event = Event(topic.name, reference, body, topic.type, reference, row["version"])
    return OutboxRow(number, topic.name, reference.encode(), body, headers_of(event, row["recorded_at"]))


async def publish_unsent(
    connection: Connection,
    brokers: Sequence[str],
    prefix: str,
    *,
    embedded: bool,
    security: Security = PLAINTEXT,
) -> int:
    """Publish what the sources whose name starts with `prefix` committed and nobody has published.

    Only for sources that nobody else publishes at this moment. Returns how many records. Raises Transient.
    """
    publisher = KafkaPublisher(brokers, security=security, idempotent=not embedded)
    admin = KafkaAdmin(brokers, security=security)
    try:
        published = 0
        async with aclosing(_unsent(connection, prefix)) as chunks:
            async for rows in chunks:
                keep = (
                    frozenset(filter(is_read_by_us, (row.topic for row in rows)))
                    if embedded
                    else frozenset[str]()
                )
                before = await outbox.incarnations(admin, rows, keep)
                positions = await publisher.publish(rows)
                if not await outbox.settle_if_same(connection, admin, rows, positions, before):
                    raise Transient("the broker was replaced")
                published += len(rows)
        return published
    finally:
        await publisher.stop()


async def _unsent(connection: Connection, prefix: str) -> AsyncGenerator[list[OutboxRow]]:
    """In chunks by seq; each row once, even if the broker does not say where it put it."""
    last = 0
    while True:
        found = await connection.fetch(_UNSENT, last, PUBLISH_ROWS, prefix)
        if not found:
            return
        last = found[-1]["seq"]
        yield [
            OutboxRow(
                row["seq"], row["topic"], row["key"], row["value"], outbox.decode_headers(row["headers"])
            )
            for row in found
        ]


@asynccontextmanager
async def one_connection(url: str) -> AsyncIterator[Any]:
    """A connection of one's own. Raises Transient when there is none to be had."""
    try:
        connection = await asyncpg.connect(url, timeout=10.0)
    except Exception as error:
        raise classified(error) from error
    try:
        yield connection
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise classified(error) from error
    finally:
        await _close(connection)


async def _close(connection: Any) -> None:
    try:
        await connection.close(timeout=2.0)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()
