"""What goes to departments and to the public, searched for what would tell of an incident."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

from connectors.webhooks.message import TYPES, Message, payload
from infra.verify.compare import read
from infra.verify.report import Disagreement, Look
from infra.verify.telling import Restricted
from infra.verify.world import World
from schemas.incident import Incident
from schemas.topics import SERVICE_REQUEST_NEWS, department_topic, results_topic
from schemas.work_order import WorkOrder

CHUNK_BYTES: Final = 1 << 20
OVERLAP_BYTES: Final = 4_096
NOT_ONE_S_OWN: Final = "nothing that tells of an incident"

# With their identifiers, unless departments know the same as the number of a request.
_INCIDENTS: Final = """
SELECT incident_id, number, body, EXISTS (SELECT FROM issues WHERE request_number = number) AS is_a_request
FROM incidents"""
_REPORTS: Final = """
SELECT r.report_id, r.incident_id, (r.body::json ->> 'occurred_at')::timestamptz AS at FROM incident_reports r
WHERE NOT EXISTS (SELECT FROM issues i WHERE i.request_number = r.report_id)"""
_RESPONSES: Final = "SELECT response_id FROM responses"
_ORDERS: Final = "SELECT reference, body FROM work_orders"
_REQUESTS: Final = "SELECT created_at FROM issues"

# What the feed tells departments, as webhooks send it.
_FEED: Final = """
SELECT xid::text::bigint AS xid, seq, audience, kind, subject, version, body, recorded_at
FROM feed WHERE audience <> '' AND body IS NOT NULL"""


async def restricted_of(world: World) -> Restricted:
    """What the database holds that no department may read."""
    own_words = {one.code for policy in world.policies.values() for one in policy.hold_reasons}
    restricted = Restricted(world.zones, sorted(own_words))
    await _add_incidents(world, restricted)
    async for row in world.rows(_REPORTS):
        restricted.add_identifier("report id", row["report_id"])
        if row["at"] is not None:
            restricted.add_time(str(row["incident_id"]), row["at"])
    async for row in world.rows(_RESPONSES):
        restricted.add_identifier("response id", str(row["response_id"]))
    async for row in world.rows(_ORDERS):
        order = read(WorkOrder, row["body"])
        for incident_id in order.incident_ids if order else ():
            restricted.add_behind(row["reference"], str(incident_id))
    async for row in world.rows(_REQUESTS):
        restricted.add_request_time(row["created_at"])
    return restricted


async def _add_incidents(world: World, restricted: Restricted) -> None:
    async for row in world.rows(_INCIDENTS):
        incident_id = str(row["incident_id"])
        restricted.add_identifier("incident id", incident_id)
        if not row["is_a_request"]:
            restricted.add_identifier("incident number", row["number"])
        incident = read(Incident, row["body"])
        for phase in incident.ever if incident else ():
            restricted.add_time(incident_id, phase.occurred_at)


async def privacy(world: World) -> AsyncIterator[Look]:
    """Topics, feed and captured bytes, one piece after the other."""
    restricted = await restricted_of(world)
    try:
        async for where, data in _pieces(world):
            hits = restricted.hits(data)
            found = "; ".join(f"{one.kind}: {one.text}" for one in hits[:5])
            yield Disagreement(where, NOT_ONE_S_OWN, found) if hits else None
    finally:
        restricted.close()


async def _pieces(world: World) -> AsyncIterator[tuple[str, bytes]]:
    """(where it is, bytes) of everything that goes out."""
    async for row in world.rows(_FEED):
        yield f"feed, {row['kind']} {row['subject']} for {row['audience']}", _fed(row)
    for file in _files(world.captured):
        for place, data in _chunks(file):
            yield f"{file.name}, {place}", data
    if world.records is not None:
        names = [SERVICE_REQUEST_NEWS.name]
        for code in world.departments:
            names += [department_topic(code).name, results_topic(code).name]
        async for record in world.records(names):
            yield f"{record.topic}, {record.key}", record.bytes


def _fed(row: Any) -> bytes:
    if row["kind"] not in TYPES:
        return str(row["body"]).encode()
    fields = ("xid", "seq", "kind", "subject", "version", "body", "recorded_at")
    return payload(Message(*(row[name] for name in fields))).encode()


def _files(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else (path,)


def _chunks(file: Path) -> Iterator[tuple[str, bytes]]:
    """Lines, and pieces of long ones, which overlap so that nothing is cut in two."""
    with file.open("rb") as data:
        rest, number = b"", 1
        while piece := data.readline(CHUNK_BYTES):
            yield f"line {number}", rest + piece
            ended = piece.endswith(b"\n")
            rest, number = (b"", number + 1) if ended else (piece[-OVERLAP_BYTES:], number)
