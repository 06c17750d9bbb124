"""Webhook endpoints: the log of attempts beside the feed, and whether anybody sends."""

from collections.abc import AsyncIterator
from typing import Any, Final

from connectors.webhooks.message import TYPES, message_id
from infra.verify.compare import same
from infra.verify.report import Disagreement, Look
from infra.verify.world import World

_KINDS: Final = list(TYPES)

# Each attempt beside the row of the feed that it says it was about.
_ATTEMPTS: Final = """
SELECT d.endpoint_id, d.message_id, d.xid::text::bigint AS xid, d.seq, d.type, d.subject, e.audience,
  f.kind AS feed_kind, f.subject AS feed_subject, f.audience AS feed_audience
FROM webhook_deliveries d JOIN webhook_endpoints e USING (endpoint_id)
LEFT JOIN feed f ON f.xid = d.xid AND f.seq = d.seq ORDER BY d.delivery_id"""

# The first delivery of each message, in the order of the log, with the place of the one before.
_ORDER: Final = """
SELECT endpoint_id, message_id, (xid, seq) > lag((xid, seq)) OVER (PARTITION BY endpoint_id ORDER BY first) AS follows
FROM (SELECT endpoint_id, message_id, xid, seq, min(delivery_id) AS first FROM webhook_deliveries
      WHERE rule = 'delivered' AND NOT again GROUP BY 1, 2, 3, 4) d"""

# What an endpoint's cursor has passed since the first delivery in its log, and no delivery is logged of; an endpoint
# that somebody let skip messages by hand is left out.
_PASSED: Final = """
SELECT e.endpoint_id, f.subject, f.version, f.kind FROM webhook_endpoints e
JOIN (SELECT endpoint_id, min(delivery_id) AS first FROM webhook_deliveries
      WHERE rule = 'delivered' AND NOT again GROUP BY 1) l USING (endpoint_id)
JOIN webhook_deliveries d ON d.delivery_id = l.first
JOIN feed f ON f.audience = e.audience AND f.kind = ANY($1::text[])
  AND (f.xid, f.seq) > (d.xid, d.seq) AND (f.xid, f.seq) <= (e.cursor_xid, e.cursor_seq)
WHERE NOT EXISTS (SELECT FROM webhook_deliveries s WHERE s.endpoint_id = e.endpoint_id AND s.xid = f.xid
                  AND s.seq = f.seq AND s.rule = 'delivered')
  AND NOT EXISTS (SELECT FROM audit a WHERE a.subject = e.endpoint_id AND a.action = 'webhooks.enable'
                  AND a.details::json ->> 'skipped' IS NOT NULL)"""

# How long the oldest message of each endpoint that is in use has been waiting.
_LATE: Final = """
SELECT e.endpoint_id, e.audience, e.failures, extract(epoch FROM now() - f.recorded_at)::float8 AS waiting_s
FROM webhook_endpoints e LEFT JOIN LATERAL (
  SELECT recorded_at FROM feed WHERE audience = e.audience AND kind = ANY($1::text[])
    AND (xid, seq) > (e.cursor_xid, e.cursor_seq) ORDER BY xid, seq LIMIT 1) f ON true
WHERE e.disabled_at IS NULL ORDER BY e.endpoint_id"""


async def log(world: World) -> AsyncIterator[Look]:
    """Attempts are about rows of the feed, in its order, and none that was passed is without one."""
    async for row in world.rows(_ATTEMPTS):
        yield _attempt(row)
    async for row in world.rows(_ORDER):
        if row["follows"] is False:
            yield Disagreement(
                row["endpoint_id"], "messages in the feed's order", f"{row['message_id']} too late"
            )
    async for row in world.rows(_PASSED, _KINDS):
        what = f"a delivery of {row['kind']} {row['subject']}, version {row['version']}, which was passed"
        yield Disagreement(row["endpoint_id"], what, "none")


def _attempt(row: Any) -> Look:
    name, message = row["endpoint_id"], row["message_id"]
    if row["feed_kind"] is None:
        return Disagreement(name, f"a row of the feed behind {message}", "none")
    expected = (
        message_id(name, row["xid"], row["seq"]), row["audience"], TYPES.get(row["feed_kind"]),
        row["feed_subject"],
    )  # fmt: skip
    found = (message, row["feed_audience"], row["type"], row["subject"])
    return same(name, "message, audience, type, subject", expected, found)


async def lag(world: World) -> AsyncIterator[Look]:
    """What is told is sent."""
    async for row in world.rows(_LATE, _KINDS):
        waiting_s = row["waiting_s"]
        if waiting_s is None or waiting_s <= world.webhooks_late_s:
            yield None
        else:
            expected = f"messages to {row['audience']} within {world.webhooks_late_s:.0f} s"
            found = f"one that waits since {waiting_s:.0f} s, after {row['failures']} failures in a row"
            yield Disagreement(row["endpoint_id"], expected, found)
