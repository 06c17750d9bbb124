"""A message as it goes out: its id, its bytes, its signatures, after https://www.standardwebhooks.com."""

import json
import secrets
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from standardwebhooks import Webhook

from schemas.base import derived_id

TYPES: Final[Mapping[str, str]] = {
    "work-order": "work-order.changed",
    "update-result": "work-order-update.answered",
    "alert": "alert.changed",
    "response": "response.changed",
}
"""The kinds of the feed that are sent, and what receivers know them by."""
RESPONSE: Final = "response"
SECRET_BYTES: Final = 32
TEST_TYPE: Final = "webhook.test"


class Message(NamedTuple):
    """One row of the feed on its way to one endpoint."""

    xid: int
    seq: int
    kind: str
    subject: str
    version: int
    body: str | None  # what the department is told; None: only supervisors are, and read the order themselves
    told_at: datetime


def message_id(endpoint_id: str, xid: int, seq: int) -> str:
    """The same message has the same id whenever it is sent: by it a receiver knows what it has had. It is a hash,
    since the numbers would tell how much is told to others."""
    return f"msg_{derived_id('webhook', endpoint_id, str(xid), str(seq)).hex}"


def payload(message: Message) -> str:
    """The body: type, when we told it (not when anything happened), and the department's own version, unchanged.

    Of an order supervisors get reference and version only, and so of what became of a response: what is restricted does
    not leave by webhook. An alert has nothing of the incident, so they get it whole.
    """
    if message.kind == RESPONSE:
        named = {"response_id": message.subject, "version": message.version}
        return envelope(TYPES[message.kind], message.told_at, json.dumps(named, separators=(",", ":")))
    thin = json.dumps({"reference": message.subject, "version": message.version}, separators=(",", ":"))
    return envelope(TYPES[message.kind], message.told_at, message.body or thin)


def envelope(kind: str, at: datetime, data: str) -> str:
    """The standard's three members around `data`, which is JSON already."""
    stamp = at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return f'{{"type":{json.dumps(kind)},"timestamp":{json.dumps(stamp)},"data":{data}}}'


def headers(webhook_id: str, body: str, signed_at: datetime, keys: Sequence[str]) -> dict[str, str]:
    """The standard's headers; one signature per secret, so that a receiver may know either while it changes over."""
    signatures = (Webhook(key).sign(webhook_id, signed_at.astimezone(UTC), body) for key in keys)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(signed_at.timestamp())),
        "webhook-signature": " ".join(signatures),
        "content-type": "application/json",
        "user-agent": "rapid-response-webhooks/1",
    }


def new_secret() -> str:
    """A new `whsec_` secret of 256 bits."""
    return "whsec_" + b64encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")
