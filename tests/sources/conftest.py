"""Mapping files, folders to drop into, and who takes files in."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from connectors.filedrop.door import Door
from connectors.filedrop.folder import Folder
from connectors.filedrop.picker import Counts, Picker
from connectors.mapping.mapping import SourceMapping
from connectors.postgres.pool import create_pool
from infra.sources.ingest import refusals
from infra.sources.load import load_mapping
from schemas.policy import Policy
from tests.portal.world import Broker

EXAMPLES: Final = Path(__file__).parents[2] / "docs" / "examples" / "sources"
HEADER: Final = "EVENT_NO,CASE_NO,RECEIVED,UPDATED,CALL_TYPE,DISPOSITION,BLOCK,BEAT,LAT,LON\n"
NOW: Final = datetime(2026, 11, 1, tzinfo=UTC)


def line(number: int, *, call: str = "PERSON SHOT", received: str = "", lat: str = "") -> str:
    """One call, each at another time, and far from those before and after it."""
    at = datetime(2026, 3, 1) + timedelta(minutes=17 * number)  # noqa: DTZ001 - the city's wall clock
    said = received or f"{at:%m/%d/%Y %H:%M:%S}"
    north, east = lat or f"{41.70 + number * 37 % 300 / 1000:.4f}", f"{-87.75 + number * 91 % 151 / 1000:.4f}"
    return f"26-{number:06},JX{number:06},{said},,{call},,{number}00 W MADE UP ST,1114,{north},{east}\n"


def calls(count: int, first: int = 0) -> str:
    return HEADER + "".join(line(number) for number in range(first, first + count))


@pytest.fixture
def cad(policy: Policy) -> SourceMapping:
    return load_mapping(EXAMPLES / "cad.yaml", policy)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Any]:
    made = await create_pool(database_url, min_size=1, max_size=6)
    yield made
    made.terminate()


@dataclass
class Clock:
    at_s: float = 0.0

    def __call__(self) -> float:
        return self.at_s


@dataclass
class Drop:
    """One source's folder, and who picks up there."""

    path: Path
    pool: Any
    mapping: SourceMapping
    policy: Policy
    broker: Broker = field(default_factory=Broker)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        Folder(self.path).make()

    def put(self, name: str, content: str) -> Path:
        file = self.path / "incoming" / name
        file.write_text(content)
        return file

    def picker(self) -> Picker:
        counts = Counts(self.mapping.source)
        door = Door(self.mapping.source, self.pool, self.broker, self.broker, tell=counts.tell)
        return Picker(
            self.mapping, Folder(self.path), door, refusals(lambda: self.policy), counts, lambda: NOW, 2.0, self.clock
        )  # fmt: skip

    async def take_in(self) -> Counts:
        """Two looks, with time enough between them."""
        picker = self.picker()
        await picker.look()
        self.clock.at_s += 3
        await picker.look()
        return picker.counts

    def names(self, folder: str) -> list[str]:
        return sorted(one.name for one in (self.path / folder).iterdir())


@pytest.fixture
def drop(tmp_path: Path, pool: Any, cad: SourceMapping, policy: Policy) -> Drop:
    return Drop(tmp_path / "drop" / "cad", pool, cad, policy)
