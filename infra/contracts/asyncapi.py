"""The AsyncAPI 3.0 document: every topic as a channel, every kind of record as a message, who sends and who receives.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from infra.contracts.examples import example_of
from infra.contracts.records import ANY_DEPARTMENT, DIALECT, JsonSchema, Kind
from schemas.base import derived_id
from schemas.topics import DAY_MS, Topic

BINDING: Final = "0.5.0"
SCHEMA_FORMAT: Final = "application/schema+json;version=2020-12"
HEADERS: Final = "schemas/cloudevents-headers.json"
WHAT_IT_IS: Final = (
    "Rapid Response turns an incident of gun violence into the city services that make its block safer. Everything "
    "travels as JSON in UTF-8 over Apache Kafka, as CloudEvents 1.0 in binary mode. Delivery is at least once, in "
    "order for each key; the same event has the same ce_id, and of two versions of one thing the higher one holds. "
    "Each operation is tagged with the role that does it: what a role may not do, the broker's rules refuse. "
    "‹department› is a department's code, such as cdot."
)
ACCESS: Final = {
    "public": "Sources from outside may write here.",
    "internal": "Only our own processes write and read here.",
    "restricted": "Tells of incidents: only for who may know of them.",
    "department": "For one department. Nothing here tells of the incident.",
}


def document(
    topics: Sequence[Topic], kinds: Sequence[Kind], schemas: dict[str, JsonSchema]
) -> dict[str, Any]:
    """The whole document. `schemas`: by the type of the record."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Rapid Response",
            "version": "1",
            "description": WHAT_IT_IS,
            "license": {"name": "See the repository"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": _server()},
        "channels": {topic.name: _channel(topic) for topic in topics},
        "operations": dict(_operations(topics)),
        "components": {
            "messages": {kind.name: _message(kind, schemas[kind.name], topics) for kind in kinds},
            "securitySchemes": {
                "login": {
                    "type": "scramSha512",
                    "description": "SASL over TLS; one login for each department.",
                }
            },
        },
    }


def headers_schema() -> dict[str, Any]:
    """The headers of what we write. Who writes to us may leave them out; then the first type of a topic is meant."""
    text = {"type": "string", "minLength": 1}
    return {
        "$schema": DIALECT,
        "$id": "urn:rapid-response:cloudevents-headers",
        "title": "CloudEvents 1.0 headers",
        "type": "object",
        "properties": {
            "ce_specversion": {"const": "1.0"},
            "ce_id": text | {"description": "The same event has the same id, however often it comes: drop it then."},
            "ce_source": {"const": "/rapid-response"},
            "ce_type": text | {"description": "What kind of record it is, with its major version."},
            "ce_subject": text | {"description": "What it is about."},
            "ce_time": {"type": "string", "format": "date-time", "description": "When we recorded it."},
            "content-type": {"const": "application/json"},
            "ce_correlationid": text
            | {"description": "The incident or issue where it all began; never on a department's topic."},
            "traceparent": text,
        },
        "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "content-type"],
    }  # fmt: skip


def _server() -> dict[str, Any]:
    return {
        "host": "{broker}",
        "protocol": "kafka-secure",
        "description": "The city's Kafka. On a machine of one's own, `rapid status` names the embedded broker, which "
        "knows neither logins nor TLS.",
        "variables": {"broker": {"description": "host:port", "examples": ["kafka.example.org:9093"]}},
        "security": [{"$ref": "#/components/securitySchemes/login"}],
        "bindings": {"kafka": {"bindingVersion": BINDING}},
    }


def _channel(topic: Topic) -> dict[str, Any]:
    parameters = {
        "department": {"description": "The code of a department of the policy.", "examples": ["cdot"]}
    }
    return {
        "address": topic.name,
        "title": topic.name.replace(ANY_DEPARTMENT, "‹department›"),
        "description": f"{ACCESS[topic.access]} {_kept(topic)}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _types(topic)},
        **({"parameters": parameters} if ANY_DEPARTMENT in topic.name else {}),
        "bindings": {"kafka": _kafka(topic)},
    }


def _types(topic: Topic) -> list[str]:
    return [topic.type, *(name for name, _ in topic.also)]


def _kept(topic: Topic) -> str:
    if topic.compacted:
        return "The latest record of each key is kept."
    return f"Records are kept for {topic.retention_ms / DAY_MS:g} days."


def _kafka(topic: Topic) -> dict[str, Any]:
    kept = (
        {"cleanup.policy": ["compact"]}
        if topic.compacted
        else {"cleanup.policy": ["delete"], "retention.ms": topic.retention_ms}
    )
    return {
        "topic": topic.name,
        "partitions": topic.partitions,
        "topicConfiguration": kept,
        "bindingVersion": BINDING,
    }


def _operations(topics: Sequence[Topic]) -> Iterator[tuple[str, dict[str, Any]]]:
    for topic in topics:
        for verb, action, roles in (
            ("sends", "send", topic.writers),
            ("receives", "receive", _readers(topic)),
        ):
            for role in roles:
                name = role.replace(ANY_DEPARTMENT, "").strip().replace(" ", "-")
                yield (
                    f"{name}.{verb}.{topic.name.replace(ANY_DEPARTMENT, 'department')}",
                    {
                        "action": action,
                        "channel": {"$ref": f"#/channels/{_pointer(topic.name)}"},
                        "summary": f"{name} {verb} {topic.name.replace(ANY_DEPARTMENT, '‹department›')}",
                        "tags": [{"name": name}],
                        "messages": [
                            {"$ref": f"#/channels/{_pointer(topic.name)}/messages/{kind}"}
                            for kind in _types(topic)
                        ],
                    },
                )


def _readers(topic: Topic) -> tuple[str, ...]:
    return topic.readers or (("outside",) if topic.access == "restricted" else ())


def _pointer(name: str) -> str:
    """A member's name within a reference (RFC 6901, and percent-encoded as a fragment is)."""
    return name.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")


def _message(kind: Kind, schema: JsonSchema, topics: Sequence[Topic]) -> dict[str, Any]:
    places = [topic for topic in topics if topic.name in kind.topics]
    departments = any(topic.access == "department" for topic in places)
    correlation = {} if departments else {"correlationId": {"location": "$message.header#/ce_correlationid"}}
    return {
        "name": kind.name,
        "title": str(schema["title"]),
        "summary": str(schema.get("description", "")).split("\n\n")[0].replace("\n", " "),
        "contentType": "application/json",
        **correlation,
        "headers": {"schemaFormat": SCHEMA_FORMAT, "schema": {"$ref": HEADERS}},
        "payload": {"schemaFormat": SCHEMA_FORMAT, "schema": {"$ref": kind.file}},
        "bindings": {
            "kafka": {"key": {"type": "string", "description": places[0].key}, "bindingVersion": BINDING}
        },
        "examples": [{"headers": _example_headers(kind), "payload": example_of(kind, schema)}],
    }


def _example_headers(kind: Kind) -> dict[str, str]:
    return {
        "ce_specversion": "1.0",
        "ce_id": str(derived_id("example", kind.name)),
        "ce_source": "/rapid-response",
        "ce_type": kind.name,
        "ce_subject": "what it is about",
        "ce_time": "2026-07-05T03:52:01+00:00",
        "content-type": "application/json",
    }
