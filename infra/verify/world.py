"""What the checks look at: one moment of the database, the records of a broker, files of what was seen."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from connectors.postgres.pool import Connection
from schemas.policy import Policy

PAGE_ROWS: Final = 500
LATE_S: Final = 60.0
"""After so many seconds nothing that could have been done is still waiting, in seconds."""
WEBHOOKS_LATE_S: Final = 3_600.0


class Read(NamedTuple):
    """One record of a topic, as a consumer has it."""

    topic: str
    key: str
    event_id: str | None
    value: str
    bytes: bytes  # of all that a consumer gets: key, value, headers


Records = Callable[[Sequence[str]], AsyncIterator[Read]]
"""Every record of some topics, those of one partition in their order."""


@dataclass(frozen=True, slots=True)
class World:
    """`records`: None without a broker. `keeps`: whether the broker keeps what it was given, as long as topics say.

    `drained`: everything that was accepted is handled. `seen`: files with one order per line as crews hold them.
    `captured`: files of bytes that departments were sent. `late_s`, `webhooks_late_s`: how long things may wait.
    """

    connection: Connection
    policies: Mapping[str, Policy]
    records: Records | None = None
    keeps: bool = True
    drained: bool = True
    seen: tuple[Path, ...] = ()
    captured: tuple[Path, ...] = ()
    late_s: float = LATE_S
    webhooks_late_s: float = WEBHOOKS_LATE_S

    @property
    def departments(self) -> list[str]:
        """Every department that any policy knew."""
        return sorted({one.code for policy in self.policies.values() for one in policy.departments})

    @property
    def zones(self) -> list[str]:
        """The city's time zone, by every policy."""
        return sorted({policy.city.time_zone for policy in self.policies.values()})

    def rows(self, query: str, *arguments: Any) -> AsyncIterator[Any]:
        """The rows of a query by a cursor of the server, so that only a page of them is held."""
        found: AsyncIterator[Any] = self.connection.cursor(query, *arguments, prefetch=PAGE_ROWS).__aiter__()
        return found

    async def pages(self, query: str, *arguments: Any) -> AsyncIterator[list[Any]]:
        """The same, a page at a time."""
        page: list[Any] = []
        async for row in self.rows(query, *arguments):
            page.append(row)
            if len(page) == PAGE_ROWS:
                yield page
                page = []
        if page:
            yield page
