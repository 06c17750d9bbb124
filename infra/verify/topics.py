"""What Kafka holds beside what the database says was published."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from infra.verify.compare import same_json
from infra.verify.feed import left, owners
from infra.verify.report import GONE, Disagreement, Look
from infra.verify.spool import Held, Spool, digest_of
from infra.verify.world import PAGE_ROWS, World
from schemas.envelope import event_id
from schemas.topics import DAY_MS, UPDATE_RESULTS, WORK_ORDERS, department_topic, results_topic

MARGIN_S: Final = 3_600.0
"""A topic may drop what is nearly as old as its retention."""

_ORDERS: Final = "SELECT order_id, reference, body FROM work_orders ORDER BY order_id"

# What departments were told last, and whether that is so young that their topic must still have it.
_TOLD: Final = """
SELECT reference, department, department_body, told_at > now() - make_interval(secs => $1) AS young
FROM work_orders WHERE department_body IS NOT NULL ORDER BY order_id"""

_ANSWERED: Final = """
SELECT o.reference, l.seq, l.department, l.update_id, l.result,
  l.recorded_at > now() - make_interval(secs => $1) AS young
FROM order_ledger l JOIN work_orders o USING (order_id) WHERE l.result IS NOT NULL ORDER BY l.order_id, l.seq"""


async def orders(world: World) -> AsyncIterator[Look]:
    """`work-orders`, which is compacted: the last snapshot of each order."""
    with await _spooled(world, [WORK_ORDERS.name]) as spool:
        async for row in world.rows(_ORDERS):
            held = spool.meet(WORK_ORDERS.name, str(row["order_id"]))
            yield _snapshot(row["reference"], row["body"], held, world.keeps)
        for _, key, _ in spool.unmet():
            yield Disagreement(f"order {key}", "an order behind each record of work-orders", "none")
        for look in _odd(spool):
            yield look


async def departments(world: World) -> AsyncIterator[Look]:
    """`work-orders.<department>`: the last record of each order is what its department was told last."""
    topics = {department_topic(one).name: one for one in world.departments}
    with await _spooled(world, list(topics)) as spool:
        async for row in world.rows(_TOLD, _kept_s(department_topic("any").retention_ms)):
            held = spool.meet(department_topic(row["department"]).name, row["reference"])
            yield _snapshot(row["reference"], row["department_body"], held, world.keeps and row["young"])
        async for look in _of_others(world, spool, topics):
            yield look
        for look in _odd(spool):
            yield look


async def results(world: World) -> AsyncIterator[Look]:
    """Each answer of the ledger, by its event id, on the shared topic and on its department's."""
    names = [UPDATE_RESULTS.name, *(results_topic(one).name for one in world.departments)]
    with await _spooled(world, names, snapshots=False) as spool:
        async for row in world.rows(_ANSWERED, _kept_s(UPDATE_RESULTS.retention_ms)):
            for name in (UPDATE_RESULTS.name, results_topic(row["department"]).name):
                yield _answer(row, name, spool, world.keeps and row["young"])
        for look in _odd(spool):
            yield look


async def _spooled(world: World, topics: Sequence[str], *, snapshots: bool = True) -> Spool:
    assert world.records is not None
    spool = Spool(snapshots=snapshots)
    async for record in world.records(topics):
        spool.add(record)
    return spool


def _kept_s(retention_ms: int) -> float:
    assert retention_ms >= DAY_MS
    return retention_ms / 1000 - MARGIN_S


def _snapshot(reference: str, expected: str, held: Held | None, must_be: bool) -> Look:
    if held is not None:
        return same_json(reference, "the topic's last record", expected, held.value)
    return Disagreement(reference, "its last snapshot on the topic", "no record of it") if must_be else GONE


def _answer(row: Any, topic: str, spool: Spool, must_be: bool) -> Look:
    where = f"{row['reference']}, line {row['seq']}"
    subject = f"{row['department']}:{row['update_id']}"
    wanted = str(event_id(topic, row["reference"], row["seq"], subject))
    digest = spool.digest(topic, wanted)
    if digest is None:
        missing = Disagreement(where, f"the answer on {topic} as event {wanted}", "no such record")
        return missing if must_be else GONE
    if digest == digest_of(row["result"]):
        return None
    return Disagreement(where, f"the ledger's answer on {topic}", "another answer under the same event id")


async def _of_others(world: World, spool: Spool, topics: dict[str, str]) -> AsyncIterator[Look]:
    """Orders on the topics of departments whose they are not, or not any more."""
    rows: list[tuple[str, str, str]] = []
    for row in spool.unmet():
        rows.append(row)
        if len(rows) >= PAGE_ROWS:
            for look in await _left(world, rows, topics.__getitem__):
                yield look
            rows = []
    for look in await _left(world, rows, topics.__getitem__):
        yield look


async def _left(
    world: World, rows: Sequence[tuple[str, str, str]], department_of: Callable[[str], str]
) -> list[Look]:
    known = await owners(world, [key for _, key, _ in rows])
    return [left(department_of(topic), key, value, known) for topic, key, value in rows]


def _odd(spool: Spool) -> list[Look]:
    return [Disagreement(f"{one.key} on {one.topic}", one.expected, one.found) for one in spool.odd()]
