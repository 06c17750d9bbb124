"""Topics: create them, wait for them, and tell one incarnation of a log from another.

librdkafka's client is used because it knows topic ids; it blocks, so every call runs in a thread.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not in __all__
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
)

from connectors.errors import Permanent, Transient
from connectors.kafka.acls import AclRule
from connectors.kafka.security import PLAINTEXT, Security
from schemas.topics import Topic

T = TypeVar("T")

_LATEST: Final[Any] = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the library's, without types
REQUEST_TIMEOUT_S: Final = 4.0
_EVERY_ACL: Final = AclBindingFilter(
    ResourceType.ANY,
    None,  # type: ignore[arg-type]  # any, here and below: the annotations are those of AclBinding
    ResourcePatternType.ANY,
    None,  # type: ignore[arg-type]
    None,  # type: ignore[arg-type]
    AclOperation.ANY,
    AclPermissionType.ANY,
)
_ABOUT_ACLS: Final = {
    KafkaError.SECURITY_DISABLED: "The broker keeps no ACLs: set its authorizer.class.name, and start it again.",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "The broker does not let this login do that: use an administrator's "
    "(RAPID_KAFKA_SASL_USERNAME).",
}
_ALL: Final = ("READ", "WRITE", "DESCRIBE")
_NOT_ALLOWED: Final = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)
_AWAY: Final = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT)
_INCARNATION_TTL_S: Final = 1.0  # many lanes ask at once when partitions are assigned


class BrokerUnreachable(Transient):
    """No broker answered within some seconds; the message is one sentence that says which were tried."""


class LoginRefused(BrokerUnreachable):
    """The brokers answer, and one side does not trust the other; the message is one sentence."""


class NotAllowed(Permanent):
    """The broker keeps no ACLs, or does not let this login see or change them; the message is one sentence."""


class KafkaAdmin:
    """See `connectors.delivery.Log`; and the creation of topics."""

    def __init__(
        self,
        brokers: Sequence[str],
        *,
        security: Security = PLAINTEXT,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self._brokers = ",".join(brokers)
        self._security = security
        self._timeout_s = timeout_s
        self._known: dict[str, tuple[float, str]] = {}
        self._refusal: int | None = None
        options: dict[str, Any] = {
            "bootstrap.servers": self._brokers,
            "socket.timeout.ms": int(timeout_s * 1000),
            "socket.connection.setup.timeout.ms": int(timeout_s * 1000),
            "log_level": 0,  # every failure is raised here
            "error_cb": self._on_error,
            **security.for_confluent(),
        }
        self._client = AdminClient(options)

    async def cluster_id(self) -> str:
        """The id of the cluster. Raises BrokerUnreachable within some seconds."""
        metadata = await self._call(lambda: self._client.list_topics(timeout=self._timeout_s))
        return str(metadata.cluster_id)

    async def incarnation(self, topic: str) -> str:
        """Cluster id and topic id. Raises BrokerUnreachable, or Transient when the topic is not there."""
        at, known = self._known.get(topic, (0.0, ""))
        if known and time.monotonic() - at < _INCARNATION_TTL_S:
            return known
        found = f"{await self.cluster_id()}/{await self._topic_id(topic)}"
        self._known[topic] = (time.monotonic(), found)
        return found

    async def _topic_id(self, topic: str) -> str:
        def ask() -> str:
            futures = self._client.describe_topics(TopicCollection([topic]), request_timeout=self._timeout_s)
            return str(futures[topic].result(self._timeout_s).topic_id)

        return await self._call(ask)

    async def end_offset(self, topic: str, partition: int) -> int:
        """The offset that the next record of the partition will get."""
        place = TopicPartition(topic, partition)

        def ask() -> int:
            futures = self._client.list_offsets(
                {place: _LATEST},
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                request_timeout=self._timeout_s,
            )
            return int(futures[place].result(self._timeout_s).offset)

        return await self._call(ask)

    async def end_offsets(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The same of many partitions at once; one that the broker does not tell of is left out."""
        wanted = {TopicPartition(topic, partition): _LATEST for topic, partition in places}

        def ask() -> dict[tuple[str, int], int]:
            futures = self._client.list_offsets(
                wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=self._timeout_s
            )
            found = {}
            for place, future in futures.items():
                try:
                    found[place.topic, place.partition] = int(future.result(self._timeout_s).offset)
                except KafkaException as error:
                    if error.args[0].code() in _AWAY:
                        raise
            return found

        return await self._call(ask) if wanted else {}

    async def create(
        self, topics: Sequence[Topic], *, replication: int = 1, timeout_s: float = 30.0
    ) -> list[str]:
        """Create the topics that are missing and wait until every one has its partitions; names of the new.

        An existing topic is left as it is. Raises BrokerUnreachable, or Transient when one does not appear.
        """
        there = await self.partitions()
        missing = [topic for topic in topics if topic.name not in there]
        if missing:
            await self._call(lambda: self._create(missing, replication))
        await self._wait_for(topics, timeout_s)
        return [topic.name for topic in missing]

    def _create(self, topics: Sequence[Topic], replication: int) -> None:
        wanted = [
            NewTopic(topic.name, topic.partitions, replication, config=config_of(topic, replication))
            for topic in topics
        ]
        for future in self._client.create_topics(wanted, request_timeout=self._timeout_s).values():
            try:
                future.result(self._timeout_s)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another worker was faster
                    raise

    async def delete(self, names: Sequence[str]) -> None:
        """Delete topics, with everything in them."""
        await self._call(
            lambda: [
                future.result(self._timeout_s) for future in self._client.delete_topics(list(names)).values()
            ]
        )

    async def acls(self) -> frozenset[AclRule]:
        """Every ACL that the cluster has. Where the broker refuses to tell, the library says that there are none.

        Raises BrokerUnreachable.
        """
        found = await self._call(
            lambda: self._client.describe_acls(_EVERY_ACL, request_timeout=self._timeout_s).result(
                self._timeout_s
            )
        )
        return frozenset(map(_rule_of, found))

    async def allow(self, rules: Collection[AclRule]) -> None:
        """Add ACLs; one that is there already stays as it is. Raises BrokerUnreachable, NotAllowed."""
        wanted = [_binding_of(rule) for rule in rules]
        if not wanted:
            return
        await self._call(
            lambda: [
                future.result(self._timeout_s)
                for future in self._client.create_acls(wanted, request_timeout=self._timeout_s).values()
            ]
        )

    async def lacking(self, rules: Iterable[AclRule]) -> list[AclRule]:
        """Those of the rules, all of this login, that the broker does not grant it. What cannot be said now (a topic
        that is not there, a group whose broker is just being chosen) is not lacking. Raises BrokerUnreachable."""
        wanted = sorted(rules)
        granted = {
            (rule.resource, rule.name): await self._granted(rule.resource, rule.name) for rule in wanted
        }
        return [rule for rule in wanted if rule.operation not in granted[rule.resource, rule.name]]

    async def _granted(self, resource: str, name: str) -> Collection[str]:
        """What this login may do with one topic or group."""
        options: dict[str, Any] = {
            "include_authorized_operations": True,
            "request_timeout": self._timeout_s,
        }

        def ask() -> Any:
            if resource == "topic":
                asked = self._client.describe_topics(TopicCollection([name]), **options)
            else:
                asked = self._client.describe_consumer_groups([name], **options)
            return asked[name].result(self._timeout_s)

        def ask_and_read_refusals() -> Collection[str]:
            try:
                told = ask().authorized_operations  # None: this broker does not tell
                return _ALL if told is None else [operation.name for operation in told]
            except KafkaException as error:
                if error.args[0].code() in _NOT_ALLOWED:
                    return ()
                if error.args[0].code() in _AWAY:
                    raise
                return _ALL

        return await self._call(ask_and_read_refusals)

    async def configs(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """The broker's settings of each topic that it has, as it says them."""
        wanted = [ConfigResource(ResourceType.TOPIC, name) for name in topics]

        def ask() -> dict[str, dict[str, str]]:
            futures = self._client.describe_configs(wanted, request_timeout=self._timeout_s)
            return {
                resource.name: {
                    name: str(entry.value) for name, entry in future.result(self._timeout_s).items()
                }
                for resource, future in futures.items()
            }

        return await self._call(ask) if wanted else {}

    async def partitions(self) -> dict[str, list[int]]:
        """The partitions of each topic that the broker has."""
        metadata = await self._call(lambda: self._client.list_topics(timeout=self._timeout_s))
        return {name: sorted(topic.partitions) for name, topic in metadata.topics.items() if not topic.error}

    async def _wait_for(self, topics: Sequence[Topic], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            there = await self.partitions()
            late = [
                topic.name
                for topic in topics
                if not await self._serves(topic.name, there.get(topic.name, []))
            ]
            if not late:
                return
            if time.monotonic() > deadline:
                raise Transient(
                    f"the broker has not made these topics within {timeout_s:g} s: {', '.join(late)}"
                )
            await asyncio.sleep(0.1)

    async def _serves(self, topic: str, partitions: Sequence[int]) -> bool:
        """Whether every partition has a leader that answers: the metadata name it some moments earlier."""
        try:
            for partition in partitions:
                await self.end_offset(topic, partition)
        except BrokerUnreachable:
            raise
        except Transient:
            return False
        return bool(partitions)

    async def _call(self, request: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(request)
        except KafkaException as error:
            reason: Any = error.args[0]
            if reason.code() in _AWAY:
                raise self._unreachable() from None
            if reason.code() in _ABOUT_ACLS:
                raise NotAllowed(_ABOUT_ACLS[reason.code()]) from None
            raise Transient(f"the broker refuses: {reason.str()}") from error
        except TimeoutError:
            raise self._unreachable() from None

    def _on_error(self, error: KafkaError) -> None:
        """librdkafka tries a refused login again and again: what waits for an answer only sees that none comes."""
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self._refusal = error.code()

    def _unreachable(self) -> BrokerUnreachable:
        self._client.poll(0)  # the errors that are not told yet
        refusal, self._refusal = self._refusal, None
        if refusal == KafkaError._SSL:
            return LoginRefused(
                f"The brokers at {self._brokers} answer, but not over TLS with a certificate that we trust: see "
                "RAPID_KAFKA_SECURITY_PROTOCOL and RAPID_KAFKA_CA_FILE."
            )
        if refusal:
            return LoginRefused(
                f"The brokers at {self._brokers} refuse the login of {self._security.username or 'nobody'} "
                f"({self._security.protocol}): see RAPID_KAFKA_SASL_USERNAME and RAPID_KAFKA_SASL_PASSWORD."
            )
        return BrokerUnreachable(
            f"No Kafka broker answers at {self._brokers} within {self._timeout_s:g} s; is it running?"
        )


def _binding_of(rule: AclRule) -> AclBinding:
    return AclBinding(
        ResourceType[rule.resource.upper()],
        rule.name,
        ResourcePatternType[rule.pattern.upper()],
        rule.principal,
        rule.host,
        AclOperation[rule.operation],
        AclPermissionType[rule.permission],
    )


def _rule_of(found: Any) -> AclRule:
    return AclRule(
        found.principal,
        found.restype.name.lower(),
        found.name,
        found.resource_pattern_type.name.lower(),
        found.operation.name,
        found.permission_type.name,
        found.host,
    )


def config_of(topic: Topic, replication: int) -> dict[str, str]:
    """The broker's settings of a topic: retention or compaction, and how many replicas must have a record."""
    config = {"cleanup.policy": "compact" if topic.compacted else "delete"}
    if not topic.compacted:
        config["retention.ms"] = str(topic.retention_ms)
    if replication >= 3:
        config["min.insync.replicas"] = "2"
    return config
