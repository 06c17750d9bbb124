"""The feed, which REST's stream, webhooks and the Open311 client read: it told what orders and ledgers say."""

from collections.abc import AsyncIterator
from typing import Any, Final

from agents.orders.decide import final_outcome
from agents.orders.life import CLOSED
from infra.verify.compare import read, same, same_json, unreadable
from infra.verify.report import Disagreement, Look
from infra.verify.world import World
from schemas.work_order import DepartmentWorkOrder, WorkOrder
from schemas.work_order_update import ServiceRequestNews

# What each audience was told last of each order, beside the order; either may be missing.
_LAST: Final = """
SELECT coalesce(o.reference, f.subject) AS reference, coalesce(o.audience, f.audience) AS audience,
  f.version AS told_version, f.body AS told_body, o.department, o.department_body, o.version, o.order_id
FROM (SELECT DISTINCT ON (subject, audience) audience, subject, version, body FROM feed
      WHERE kind = 'work-order' ORDER BY subject, audience, xid DESC, seq DESC) f
FULL JOIN (SELECT order_id, reference, department, department_body, version, audience FROM work_orders
           CROSS JOIN LATERAL (VALUES (''), (department)) AS to_whom(audience)
           WHERE audience = '' OR department_body IS NOT NULL) o
  ON o.reference = f.subject AND o.audience = f.audience"""

# Versions per audience and order, with the one before.
_STEPS: Final = """
SELECT audience, subject, version,
  lag(version) OVER (PARTITION BY audience, subject ORDER BY xid, seq) AS before
FROM feed WHERE kind = 'work-order'"""

# The numbers 1, 2, 3 … under which departments were told of each order.
_NUMBERS: Final = """
SELECT o.reference, coalesce((o.department_body::json ->> 'version')::int, 0) AS last,
  count(DISTINCT f.version) AS told
FROM work_orders o LEFT JOIN feed f
  ON f.subject = o.reference AND f.kind = 'work-order' AND f.audience <> ''
GROUP BY o.order_id ORDER BY o.order_id"""

# Each answer in the ledger beside the feed's. The feed has more: what was said again was answered again, as 0; what is
# refused before it reaches its order is in no ledger.
_ANSWERS: Final = """
SELECT o.reference, l.seq, l.department, l.update_id, l.result, f.told, f.body
FROM order_ledger l JOIN work_orders o USING (order_id)
LEFT JOIN (SELECT audience, subject, version, count(*) AS told, min(body) AS body FROM feed
           WHERE kind = 'update-result' AND version > 0
             AND body::json ->> 'rule' NOT IN ('same_id_other_content', 'undecodable')
           GROUP BY 1, 2, 3) f
  ON f.audience = l.department AND f.subject = o.reference AND f.version = l.seq
WHERE l.result IS NOT NULL ORDER BY l.order_id, l.seq"""

# Answers that were told and are in no ledger.
_STRAY_ANSWERS: Final = """
SELECT f.audience, f.subject, f.version FROM feed f
WHERE f.kind = 'update-result' AND f.version > 0
  AND f.body::json ->> 'rule' NOT IN ('same_id_other_content', 'undecodable')
  AND NOT EXISTS (SELECT FROM order_ledger l JOIN work_orders o USING (order_id)
                  WHERE o.reference = f.subject AND l.department = f.audience AND l.seq = f.version)"""

# What was said last of the service requests of each order, to supervisors, who are told of all.
_NEWS: Final = """
SELECT o.reference, o.body, n.news FROM work_orders o
LEFT JOIN (SELECT reference, array_agg(body) AS news FROM (
             SELECT DISTINCT ON (subject, body::json ->> 'reference') body::json ->> 'reference' AS reference, body
             FROM feed WHERE kind = 'service-request-news' AND audience = ''
             ORDER BY subject, body::json ->> 'reference', xid DESC, seq DESC) last
           GROUP BY reference) n USING (reference)
ORDER BY o.order_id"""


# -- orders


async def last_told(world: World) -> AsyncIterator[Look]:
    """The last row of each order and audience, beside what the order's row says was told."""
    former: list[Any] = []
    async for row in world.rows(_LAST):
        if row["order_id"] is None and row["audience"]:
            former.append(row)
        else:
            yield _last(row)
        if len(former) >= 500:
            for look in await _former(world, former):
                yield look
            former = []
    for look in await _former(world, former):
        yield look


def _last(row: Any) -> Look:
    reference = row["reference"]
    if row["order_id"] is None:
        return Disagreement(reference, "an order behind what supervisors were told", "none")
    if row["told_version"] is None:
        return Disagreement(
            reference, f"a row of the feed for {row['department']} and supervisors", "not both"
        )
    if row["audience"] == "":
        return same(
            reference, "the version that supervisors were told last:", row["version"], row["told_version"]
        )
    return same_json(
        reference, "the feed's last row for its department", row["department_body"], row["told_body"] or ""
    )


async def _former(world: World, rows: list[Any]) -> list[Look]:
    """Rows of the feed for departments that the order is not of, or not any more."""
    known = await owners(world, [row["reference"] for row in rows])
    return [left(row["audience"], row["reference"], row["told_body"], known) for row in rows]


_OWNERS: Final = "SELECT reference, department FROM work_orders WHERE reference = ANY($1::text[])"


async def owners(world: World, references: list[str]) -> dict[str, str]:
    """Whose each order is; those that there are."""
    found = await world.connection.fetch(_OWNERS, references) if references else ()
    return {row["reference"]: row["department"] for row in found}


def left(department: str, reference: str, body: str | None, owner_of: dict[str, str]) -> Look:
    """The last that a department was told of an order that is not its own: that it is not."""
    owner, order = owner_of.get(reference), read(DepartmentWorkOrder, body or "")
    if owner is None:
        return Disagreement(reference, f"an order behind what {department} was told", "none")
    if order is None:
        return unreadable(reference, f"what {department} was told")
    if order.state in ("rejected", "cancelled"):
        return None
    return Disagreement(
        reference, f"{department} told last that it is rejected or cancelled: it is {owner}'s", order.state
    )


async def versions(world: World) -> AsyncIterator[Look]:
    """No audience is told an older version after a newer one, and departments of each version once."""
    async for row in world.rows(_STEPS):
        yield _step(row)
    async for row in world.rows(_NUMBERS):
        yield same(row["reference"], "versions told to departments:", row["last"], row["told"])


def _step(row: Any) -> Look:
    if row["before"] is None or row["before"] < row["version"]:
        return None
    whom = row["audience"] or "supervisors"
    return Disagreement(
        row["subject"], f"{whom} told more than version {row['before']} next", f"{row['version']}"
    )


# -- answers and news


async def answers(world: World) -> AsyncIterator[Look]:
    """Each answer of the ledger was told once, to its sender."""
    async for row in world.rows(_ANSWERS):
        where = f"{row['reference']}, line {row['seq']}"
        if row["told"] != 1:
            sender = f"{row['department']} told once of the answer to its update {row['update_id']}"
            yield Disagreement(where, sender, f"told {row['told'] or 0} times")
        else:
            yield same_json(where, "answer", row["result"], row["body"])
    async for row in world.rows(_STRAY_ANSWERS):
        line = f"a line {row['version']} of {row['audience']} in the ledger behind an answer that it was told"
        yield Disagreement(row["subject"], line, "no such line")


async def news(world: World) -> AsyncIterator[Look]:
    """What 311 was told last of each request that an order covers."""
    async for row in world.rows(_NEWS):
        order = read(WorkOrder, row["body"])
        if order is not None:
            for look in _requests(order, [read(ServiceRequestNews, one) for one in row["news"] or ()]):
                yield look


def _requests(order: WorkOrder, told: list[ServiceRequestNews | None]) -> list[Look]:
    said = {one.request_number: one.outcome for one in told if one is not None}
    outcome = final_outcome(order)
    if order.state in CLOSED and outcome is None:
        return []  # cancelled, or a duplicate whose original is open: the requests are as they were
    return [
        same(order.reference, f"request {number} told to be", outcome or "open", said.get(number) or "open")
        for number in order.covers
    ]
