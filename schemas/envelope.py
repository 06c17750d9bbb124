"""CloudEvents 1.0 in Kafka's binary mode: the headers that every record of ours carries.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from schemas.base import derived_text

Headers = list[tuple[str, bytes]]


class Event(NamedTuple):
    """One record to publish: where, under which key, what, and its CloudEvents attributes.

    A tuple, not a model: it is made by the thousand, by us, from parts that are already checked.
    """

    topic: str
    key: str
    value: bytes
    type: str  # CloudEvents type, e.g. "rapid.incident.v1"
    subject: str
    version: int  # of the snapshot inside; makes the id
    correlation: str | None = None  # the incident or issue where it all began; never towards a department


def event_id(topic: str, key: str, version: int, subject: str) -> str:
    """The same snapshot has the same event id whenever it is published: consumers dedupe on it."""
    return derived_text(f"event:{topic}:{key}:{subject}:{version}")


def headers_of(event: Event, at: datetime) -> Headers:
    """The Kafka headers of an event; `at` is when we recorded it, wall clock."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id(event.topic, event.key, event.version, event.subject).encode()),
        ("ce_source", b"/rapid-response"),
        ("ce_type", event.type.encode()),
        ("ce_subject", event.subject.encode()),
        ("ce_time", _text_of(at)),
        ("content-type", b"application/json"),
    ]
    if event.correlation:
        headers.append(("ce_correlationid", event.correlation.encode()))
    return headers


@lru_cache(maxsize=16)  # the events of a batch are recorded at one instant
def _text_of(at: datetime) -> bytes:
    return at.astimezone(UTC).isoformat().encode()


def header(headers: Sequence[tuple[str, bytes | None]], name: str) -> str | None:
    """The value of a header, None when it is absent or null (Kafka allows that)."""
    for key, value in headers:
        if key == name and value is not None:
            return value.decode("utf-8", "replace")
    return None
