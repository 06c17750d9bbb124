"""The ledger: its lines one by one, and with its order."""

from collections.abc import AsyncIterator
from typing import Any, Final

from agents.orders.site import digest_of, said_id
from infra.verify.compare import read, same, unreadable
from infra.verify.report import Disagreement, Look
from infra.verify.world import World
from schemas.work_order_update import LedgerEntry, UpdateResult

_LINES: Final = """
SELECT l.*, o.reference, o.order_key AS key_of_order,
  row_number() OVER (PARTITION BY l.order_id ORDER BY l.seq) AS expected_seq
FROM order_ledger l LEFT JOIN work_orders o USING (order_id) ORDER BY l.order_id, l.seq"""

# What each order counts of its ledger, and what there is to count.
_COUNTS: Final = """
SELECT o.reference, o.updates, count(l.seq) FILTER (WHERE l.verdict <> 'refused') AS counting
FROM work_orders o LEFT JOIN order_ledger l USING (order_id) GROUP BY o.order_id ORDER BY o.order_id"""

_TWICE: Final = """
SELECT department, update_id, count(*) AS lines FROM order_ledger GROUP BY 1, 2 HAVING count(*) > 1 ORDER BY 1, 2"""


async def lines(world: World) -> AsyncIterator[Look]:
    """Each line by itself: its place, its columns, its digest, its answer."""
    async for row in world.rows(_LINES):
        yield _line(row)


async def counts(world: World) -> AsyncIterator[Look]:
    """What orders count of their ledgers; and that nothing is written down twice."""
    async for row in world.rows(_COUNTS):
        yield same(row["reference"], "updates that count", row["counting"], row["updates"])
    async for row in world.rows(_TWICE):
        said = f"{row['department']}'s update {row['update_id']}"
        yield Disagreement(said, "one line in the ledger", f"{row['lines']} lines")


def _line(row: Any) -> Look:
    reference = row["reference"]
    if reference is None:
        return Disagreement(str(row["order_id"]), "an order for each ledger", "a ledger without an order")
    where = f"{reference}, line {row['seq']}"
    entry = read(LedgerEntry, row["body"])
    if entry is None:
        return unreadable(where, "an entry")
    return _place(where, row) or _columns(where, row, entry) or _answer(where, reference, row, entry)


def _place(where: str, row: Any) -> Look:
    """Lines are numbered 1, 2, 3 … without holes."""
    return same(where, "number of the line", row["expected_seq"], row["seq"]) or same(
        where, "order_key", row["key_of_order"], row["order_key"]
    )


def _columns(where: str, row: Any, entry: LedgerEntry) -> Look:
    expected = (
        entry.order_id, entry.seq, entry.department, said_id(entry), digest_of(entry), entry.verdict,
    )  # fmt: skip
    names = ("order_id", "seq", "department", "update_id", "digest", "verdict")
    pairs = zip(names, expected, strict=True)
    return next(filter(None, (same(where, name, value, row[name]) for name, value in pairs)), None)


def _answer(where: str, reference: str, row: Any, entry: LedgerEntry) -> Look:
    """An update was answered, by its verdict; a link has nobody to answer to."""
    if entry.update is None:
        return same(where, "answer", None, row["result"])
    result = read(UpdateResult, row["result"] or "")
    if result is None:
        return unreadable(where, "an answer")
    expected = (entry.update.update_id, reference, entry.verdict, entry.rule, entry.because)
    found = (result.update_id, result.reference, result.verdict, result.rule, result.because)
    return same(where, "answer: update_id, reference, verdict, rule, because", expected, found)
