"""A record that could not be used: kept with its reason, so that it can be mended and tried again."""

from typing import Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from schemas.base import Code, Record, ShortText, derived_id

Reason = Literal[
    "undecodable",
    "not_json",
    "unknown_version",
    "invalid",
    "unknown_category",
    "impossible_place",
    "impossible_time",
    "oversized",
    "conflicting_content",
    "missing_key",
    "unknown_order",
    "failed",
]


class Unreadable(Record):
    """Why a record could not be used, for an agent that can answer its sender."""

    reason: Reason
    field: str | None  # path of the offending field
    expected: str


class DeadLetter(Record):
    """`value` holds the original bytes (base64 in JSON), less anything that looks like a person's name."""

    dead_letter_id: UUID
    topic: ShortText
    partition: int
    offset: int
    reason: Reason
    field: ShortText | None  # path of the offending field
    expected: str = Field(max_length=2000)  # what is wrong, what was expected, what to do
    key: bytes | None
    value: bytes | None
    headers: tuple[
        tuple[ShortText, ShortText], ...
    ] = ()  # of the record, those that it needs to be sent again
    source: Code | None = None  # who sent it; None: nobody can tell

    model_config = ConfigDict(**Record.model_config, ser_json_bytes="base64", val_json_bytes="base64")


def dead_letter_id_of(topic: str, key: bytes | None, value: bytes | None) -> UUID:
    """By content, not by offset: the same bad record sent again is the same dead letter."""
    return derived_id("dead-letter", topic, (key or b"").hex(), (value or b"").hex())
