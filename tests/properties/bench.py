"""Runs one world in one way, and tells what came out."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from connectors.ports import Geography
from schemas.policy import Policy
from tests.final_tables import final_tables
from tests.pipeline.stream import Stream
from tests.properties.workers import Workers
from tests.properties.worlds import Report

Tables = dict[str, list[tuple[Any, ...]]]

TABLES = (
    "incident_reports, issue_reports, incidents, issues, responses, order_causes, work_orders, decisions, "
    "promise_lines, promises, timers, alerts, alert_events, response_lines, response_life"
)


class Way(NamedTuple):
    """One way for the same reports to arrive."""

    seed: int  # of the order of arrival, of repeated deliveries, and of which topic is served next
    batch: int = 500
    chunks: int = 1
    repeats: int = 0
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Bench:
    """The stream on a real database."""

    runner: asyncio.Runner = field(repr=False)
    connections: Sequence[Any] = field(repr=False)
    policy: Policy = field(repr=False)
    geography: Geography = field(repr=False)

    def run(self, world: Sequence[Report], way: Way) -> Tables:
        """The final tables, and as one more of them what was refused."""
        return self.runner.run(self._run(world, way))

    async def _run(self, world: Sequence[Report], way: Way) -> Tables:
        random = Random(way.seed)
        arriving = [*world, *random.choices(world, k=way.repeats)]
        random.shuffle(arriving)
        connection = self.connections[0]
        await connection.execute("SET synchronous_commit = off")
        for table in TABLES.split(", "):
            await connection.execute(f"DELETE FROM {table}")
        stream = self._stream(way, random)
        for first in range(way.chunks):
            await stream.feed(arriving[first :: way.chunks])
        refused = {(one.message.raw_key, one.message.raw_value, *one[1:]) for one in stream.rejections}
        return {**await final_tables(connection), "refused": sorted(refused)}

    def _stream(self, way: Way, random: Random) -> Stream:
        if way.workers == 1:
            return Stream(self.connections[0], self.policy, self.geography, way.batch, random)
        more = self.connections[1 : way.workers]
        return Workers(
            self.connections[0], self.policy, self.geography, way.batch, random, more_connections=more
        )
