"""Who may do what on an Apache Kafka with its authorizer: what `rapid topics acls --apply` allows, no more, no less."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError
from aiokafka.protocol.fetch import FetchRequest
from confluent_kafka.admin import AclBindingFilter  # type: ignore[attr-defined]  # not in its __all__

from connectors.kafka.acls import AclRule, Principals, rules_of
from connectors.kafka.admin import KafkaAdmin, LoginRefused, NotAllowed, _binding_of
from connectors.kafka.security import Security
from infra.cli.errors import ExitCode
from infra.kafka.local import ADMINISTRATOR
from infra.policy.load import load_policy
from schemas.topics import all_topics
from tests.delivery.secured import APPLY, Secured, password_of

pytestmark = pytest.mark.kafka

TOPICS = sorted(topic.name for topic in all_topics(one.code for one in load_policy().departments))
LIMIT_S = 20.0
OTHERS = (
    "topics", "acls", "--apply", "--json", "--workers", "User:w", "--principal", "cdot=User:c", "--principal",
    "sources=none", "--principal", "dss=none", "--principal", "dob=none", "--principal", "cscc=none",
)  # fmt: skip


def admin(safe: Secured, user: str = ADMINISTRATOR) -> KafkaAdmin:
    return KafkaAdmin([safe.kafka.address], security=safe.login(user))


async def seen(safe: Secured, user: str) -> list[str]:
    """The topics that the broker tells this user of."""
    return sorted(await admin(safe, user).partitions())


async def readable(safe: Secured, user: str, topics: Sequence[str] = TOPICS) -> list[str]:
    """The topics of which the broker hands out records, asked for each: a consumer would not ask for what it cannot
    see."""
    client = AIOKafkaClient(**safe.client(user))
    await client.bootstrap()
    places = [(topic, [(0, 0, 1024)]) for topic in topics]
    answer = await client.send(client.get_random_node(), FetchRequest(0, 0, 1_048_576, 0, places))
    await client.close()
    codes = {topic: partitions[0][1] for topic, partitions in answer.topics}
    assert set(codes) == set(topics)
    assert set(codes.values()) <= {0, TopicAuthorizationFailedError.errno}
    return sorted(topic for topic, code in codes.items() if code == 0)


async def writable(safe: Secured, user: str, topics: Sequence[str] = TOPICS) -> list[str]:
    """The topics that take a record of this user."""
    allowed = []
    async with AIOKafkaProducer(**safe.client(user), acks="all") as producer:
        for topic in topics:
            try:
                await producer.send_and_wait(topic, b"not a record", b"key")
            except TopicAuthorizationFailedError:
                continue
            allowed.append(topic)
    return sorted(allowed)


async def may_join(safe: Secured, user: str, group: str, topic: str) -> bool:
    consumer = AIOKafkaConsumer(topic, group_id=group, enable_auto_commit=False, **safe.client(user))
    try:
        await consumer.start()
        await consumer.getmany(timeout_ms=100)
        await consumer.commit()
    except GroupAuthorizationFailedError:
        return False
    finally:
        await consumer.stop()
    return True


def groups(asking: KafkaAdmin) -> set[str]:
    found = asking._client.list_consumer_groups(request_timeout=LIMIT_S).result(LIMIT_S)
    return {one.group_id for one in found.valid}


async def test_a_department_sees_reads_and_writes_its_three_topics_and_no_other(safe: Secured) -> None:
    orders, updates, results = (
        "work-orders.dss", "work-order-updates.dss", "work-order-update-results.dss",
    )  # fmt: skip
    assert await seen(safe, "dss") == sorted([orders, updates, results])
    assert await readable(safe, "dss") == sorted([orders, results])
    assert await writable(safe, "dss") == [updates]


async def test_a_reporter_writes_reports_and_reads_nothing(safe: Secured) -> None:
    reports = ["incident-reports", "issue-reports"]
    assert (await seen(safe, "cad"), await readable(safe, "cad"), await writable(safe, "cad")) == (
        reports,
        [],
        reports,
    )


async def test_who_is_not_named_may_nothing(safe: Secured) -> None:
    assert (await seen(safe, "stranger"), await readable(safe, "stranger")) == ([], [])
    assert await writable(safe, "stranger") == []


async def test_our_processes_read_what_agents_read_and_write_what_agents_write(safe: Secured) -> None:
    outward = [topic for topic in TOPICS if topic.startswith(("work-orders", "work-order-update-results"))]
    unread = {
        *outward,
        "triage-decisions",
        "service-request-news",
        "sla-alerts",
        "response-life",
        "dead-letters",
    }
    assert await seen(safe, "rapid") == TOPICS
    assert await readable(safe, "rapid") == sorted(set(TOPICS) - unread)


async def test_a_department_joins_groups_of_its_own_name_only(safe: Secured) -> None:
    topic = "work-orders.dss"
    joined = {
        group: await may_join(safe, "dss", group, topic)
        for group in ("dss.orders", "dss", "cdot.orders", "rapid")
    }
    assert joined == {"dss.orders": True, "dss": False, "cdot.orders": False, "rapid": False}


async def test_a_department_cannot_list_groups_or_rules_or_make_topics(safe: Secured) -> None:
    theirs = admin(safe, "dss")
    assert await may_join(safe, "cdot", "cdot.orders", "work-orders.cdot")
    assert "cdot.orders" in groups(admin(safe))
    assert "cdot.orders" not in groups(theirs)
    assert await theirs.acls() == frozenset()
    with pytest.raises(NotAllowed):
        await theirs.allow([AclRule("User:dss", "topic", "incidents", "literal", "READ")])
    done = safe.rapid("dss", *APPLY)
    assert (done.returncode, done.stdout) == (1, "")
    assert "administrator's" in done.stderr


async def test_what_is_there_is_not_added_again_and_what_is_missing_is(safe: Secured) -> None:
    assert json.loads(safe.rapid(ADMINISTRATOR, *APPLY).stdout)["added"] == []
    missing = AclRule("User:dss", "topic", "work-orders.dss", "literal", "READ")
    await remove(safe, missing)
    assert await readable(safe, "dss", ["work-orders.dss"]) == []
    added = json.loads(safe.rapid(ADMINISTRATOR, *APPLY).stdout)["added"]
    assert [AclRule(**rule) for rule in added] == [missing]
    assert await readable(safe, "dss", ["work-orders.dss"]) == ["work-orders.dss"]


async def test_rules_on_our_topics_that_are_not_ours_are_named_and_stay(safe: Secured) -> None:
    theirs = [
        AclRule("User:x", "topic", "work-", "prefixed", "READ", host="192.0.2.7"),
        AclRule("User:x", "group", "cdot.orders", "literal", "READ"),
        AclRule("User:x", "topic", "*", "literal", "WRITE", "DENY"),
    ]
    await admin(safe).allow([*theirs, AclRule("User:x", "topic", "elsewhere", "literal", "READ")])
    try:
        said = [AclRule(**rule) for rule in json.loads(safe.rapid(ADMINISTRATOR, *APPLY).stdout)["foreign"]]
        assert said == sorted(theirs)
        assert set(theirs) <= await admin(safe).acls()
    finally:
        await remove(safe, *theirs)


async def test_a_first_apply_adds_everything_and_says_so(safe: Secured) -> None:
    done = json.loads(safe.rapid(ADMINISTRATOR, *OTHERS).stdout)
    added = [AclRule(**rule) for rule in done["added"]]
    assert done["added"] == done["rules"] != []
    assert {rule.principal for rule in added} == {"User:w", "User:c"}
    await remove(safe, *added)


async def test_a_worker_that_lacks_a_rule_does_not_start_and_names_it(
    safe: Secured, dsn: str, tmp_path: Path
) -> None:
    group = AclRule("User:rapid", "group", "rapid", "literal", "READ")
    issues = AclRule("User:rapid", "topic", "issues", "literal", "READ")
    await remove(safe, group, issues)
    try:
        assert await admin(safe, "rapid").lacking(ours := workers_rules()) == [group, issues]
        done = safe.rapid("rapid", "worker", RAPID_DATABASE_URL=dsn, RAPID_HOME=str(tmp_path))
    finally:
        again = safe.rapid(ADMINISTRATOR, *APPLY)
    assert done.returncode == ExitCode.UNREACHABLE
    assert "rapid lacks 2 of the broker's permissions, first READ on group rapid" in done.stderr
    assert password_of("rapid") not in done.stdout + done.stderr
    assert again.returncode == 0
    assert await admin(safe, "rapid").lacking(ours) == []


def workers_rules() -> Sequence[AclRule]:
    topics = all_topics(one.code for one in load_policy().departments)
    return rules_of(topics, Principals(("User:rapid",), (), {}))


async def test_a_wrong_password_is_said_to_be_one(safe: Secured) -> None:
    right = safe.login("rapid")
    wrong = Security(right.protocol, right.mechanism, right.username, "guessed", right.ca_file)
    with pytest.raises(LoginRefused, match="refuse the login of rapid") as refused:
        await KafkaAdmin([safe.kafka.address], security=wrong, timeout_s=1.5).cluster_id()
    assert "guessed" not in str(refused.value)


async def test_a_broker_whose_certificate_nobody_signed_is_not_talked_to(safe: Secured) -> None:
    right = safe.login("rapid")
    unknown = Security(right.protocol, right.mechanism, right.username, right.password)
    producer = AIOKafkaProducer(bootstrap_servers=safe.kafka.address, **unknown.for_aiokafka())
    with pytest.raises(KafkaError):
        await producer.start()
    await producer.stop()
    with pytest.raises(LoginRefused, match="RAPID_KAFKA_CA_FILE"):
        await KafkaAdmin([safe.kafka.address], security=unknown, timeout_s=1.5).cluster_id()


async def remove(safe: Secured, *rules: AclRule) -> None:
    """As an operator would: the product never removes a rule."""
    client: Any = admin(safe)._client
    filters = [
        AclBindingFilter(
            one.restype, one.name, one.resource_pattern_type, one.principal, one.host, one.operation,
            one.permission_type,
        )
        for one in map(_binding_of, rules)
    ]  # fmt: skip
    for future in client.delete_acls(filters).values():
        future.result(LIMIT_S)
