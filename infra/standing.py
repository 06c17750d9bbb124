"""How the system stands: what it holds, and how far the agents are behind. Read-only."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from connectors.errors import Transient
from connectors.kafka.admin import KafkaAdmin
from connectors.kafka.security import PLAINTEXT, Security
from connectors.kafka.stopping import stop_consumer
from connectors.postgres.notifications import dead_channels
from connectors.postgres.readmodels import newest_policy
from connectors.postgres.webhooks import open_alerts
from infra.embedded.installation import one_connection
from schemas.topics import CONSUMER, READ_BY_US, is_read_by_us, read_by_us

ANSWER_S: Final = 15.0
"""Longest wait for the broker, in seconds."""

NAMED: Final = 5
"""Dead channels that are named."""

PROBE_MS: Final = 400
"""How long to look for a record where none seems to wait, in milliseconds."""

COUNTS: Final = """
SELECT (SELECT count(*) FROM incident_reports)                                    AS incident_reports,
       (SELECT count(*) FROM incidents)                         AS incidents,
       (SELECT count(*) FROM issue_reports)                                       AS issue_reports,
       (SELECT count(*) FROM issues WHERE folded_into IS NULL)    AS issues,
       (SELECT count(*) FROM issues WHERE folded_into IS NOT NULL) AS issues_folded,
       (SELECT count(*) FROM responses)                         AS responses,
       (SELECT count(*) FROM work_orders WHERE state <> 'void')                   AS work_orders,
       (SELECT count(*) FROM order_ledger)                                        AS updates,
       (SELECT count(*) FROM parked_updates)                                      AS parked_updates,
       (SELECT count(*) FROM dead_letters WHERE state = 'open')                   AS dead_letters
"""
WAITING: Final = "SELECT count(*) FROM outbox WHERE sent_offset IS NULL"
FENCES: Final = "SELECT topic, partition, incarnation, next_offset FROM fences WHERE consumer = $1"


@dataclass(frozen=True, slots=True)
class Behind:
    """How far the readers of the topics are behind. `lag`: records by topic; `oldest_s`: age of the oldest one."""

    lag: dict[str, int]
    oldest_s: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """One look at the whole. `outbox_waiting`: rows that are committed and not yet published."""

    counts: dict[str, int]
    outbox_waiting: int
    alerts: tuple[str, ...]  # sentences: what somebody must see to
    behind: Behind

    @property
    def drained(self) -> bool:
        """Everything that was accepted has been handled: nothing to publish, nothing to read."""
        return not self.outbox_waiting and not any(self.behind.lag.values())


async def standing(
    connection: Any,
    brokers: Iterable[str],
    incarnations: Mapping[str, str],
    security: Security = PLAINTEXT,
) -> Standing:
    """Look at database and broker. `incarnations`: the current one of each topic; other fences count as 0.

    Outbox and fences are read at one moment, the ends of the logs after it: then what was handled before that moment
    is either waiting in the outbox or within the ends, and `drained` is never said too early.
    Raises Transient when the broker is away.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        waiting = await connection.fetchval(WAITING)
        fences = await _fences(connection, incarnations)
        counts = dict(await connection.fetchrow(COUNTS))
        alerts = tuple(row["sentence"] for row in await open_alerts(connection))
        alerts += of_channels(await dead_channels(connection))
    partitions = await _partitions(brokers, security)
    async with _observer(brokers, security) as observer:
        return Standing(counts, waiting, alerts, await _behind(observer, partitions, fences))


def of_channels(dead: Iterable[str]) -> tuple[str, ...]:
    """One sentence, however many they are."""
    codes = sorted(dead)
    if not codes:
        return ()
    named = ", ".join(codes[:NAMED]) + (f" and {len(codes) - NAMED} more" if len(codes) > NAMED else "")
    return (f"Messages about alerts do not arrive over {named}: see `rapid notify channels`.",)


async def all_claimed(database_url: str, brokers: Iterable[str], boot_id: str) -> bool:
    """Whether a worker has claimed every partition that agents read, in this boot of the embedded broker. Nobody reads
    what departments say that the policy in force has not.

    The partitions are those that the broker has, not those we asked for: it makes a topic by itself when somebody
    publishes before we have made it. Raises Transient.
    """
    partitions = await _partitions(brokers, PLAINTEXT)
    async with one_connection(database_url) as connection:
        rows = await connection.fetch(FENCES, CONSUMER)
        policy = await newest_policy(connection)
    claimed = {(row["topic"], row["partition"]) for row in rows if row["incarnation"].startswith(boot_id)}
    read = read_by_us(one.code for one in policy.departments) if policy else None
    return claimed.issuperset(
        (one.topic, one.partition) for one in partitions if not read or one.topic in read
    )


async def _fences(connection: Any, incarnations: Mapping[str, str]) -> dict[TopicPartition, int]:
    """The next offset of each partition, where the fence is of the log that the broker has now."""
    return {
        TopicPartition(row["topic"], row["partition"]): row["next_offset"]
        for row in await connection.fetch(FENCES, CONSUMER)
        if row["incarnation"] == incarnations.get(row["topic"])
    }


@asynccontextmanager
async def _observer(brokers: Iterable[str], security: Security) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group: it reads offsets and moves none."""
    observer = AIOKafkaConsumer(
        bootstrap_servers=list(brokers), group_id=None, enable_auto_commit=False,
        request_timeout_ms=int(ANSWER_S * 1000), fetch_max_wait_ms=50, **security.for_aiokafka(),
    )  # fmt: skip
    try:
        async with asyncio.timeout(ANSWER_S):
            await observer.start()
            yield observer
    except (KafkaError, TimeoutError, OSError) as error:
        raise Transient(f"The broker does not answer ({type(error).__name__})") from error
    finally:
        await stop_consumer(observer)


async def _behind(
    observer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], fences: Mapping[TopicPartition, int]
) -> Behind:
    """The fence, not the committed offset, is the truth about what is done."""
    begins = await observer.beginning_offsets(partitions)
    nexts = {partition: max(fences.get(partition, 0), begins[partition]) for partition in partitions}
    ends = await _true_ends(observer, nexts)
    lag = dict.fromkeys((partition.topic for partition in partitions), 0)
    for partition, next_offset in nexts.items():
        lag[partition.topic] += max(0, ends[partition] - next_offset)
    waiting = {partition: at for partition, at in nexts.items() if at < ends[partition]}
    return Behind(lag, await _oldest_age(observer, waiting))


async def _true_ends(
    observer: AIOKafkaConsumer, nexts: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """One past the last record of each partition, at least one past `nexts` where something waits.

    Asked for the end of a log, the embedded broker names the first record of the last batch. So where nothing
    seems to wait, look: a record that comes is the truth.
    """
    ends: dict[TopicPartition, int] = dict(await observer.end_offsets(list(nexts)))
    quiet = {partition: at for partition, at in nexts.items() if at >= ends[partition]}
    if quiet:
        observer.assign(list(quiet))
        for partition, at in quiet.items():
            observer.seek(partition, at)
        found = await observer.getmany(timeout_ms=PROBE_MS)
        ends.update({partition: records[-1].offset + 1 for partition, records in found.items()})
    return ends


async def _partitions(brokers: Iterable[str], security: Security) -> list[TopicPartition]:
    """All partitions of the topics that agents read. Raises Transient while one of the topics is missing: then
    nobody can say that nothing waits in it."""
    there = await KafkaAdmin(tuple(brokers), security=security).partitions()
    missing = [topic for topic in READ_BY_US if not there.get(topic)]
    if missing:
        raise Transient(f"The broker has no topic {missing[0]} yet")
    ours = [
        *READ_BY_US,
        *sorted(topic for topic in there if is_read_by_us(topic) and topic not in READ_BY_US),
    ]
    return [TopicPartition(topic, number) for topic in ours for number in there[topic]]


async def _oldest_age(observer: AIOKafkaConsumer, waiting: Mapping[TopicPartition, int]) -> float | None:
    """Age in seconds of the oldest record that waits, None when none does; it is not looked at, only dated."""
    if not waiting:
        return None
    observer.assign(list(waiting))
    for partition, offset in waiting.items():
        observer.seek(partition, offset)
    dated: dict[TopicPartition, int] = {}
    while len(dated) < len(waiting):
        found = await observer.getmany(timeout_ms=500, max_records=len(waiting) - len(dated))
        if not found:
            break
        dated.update({partition: records[0].timestamp for partition, records in found.items()})
        observer.pause(*found)
    if not dated:
        return None
    return max(0.0, datetime.now(UTC).timestamp() - min(dated.values()) / 1000)
