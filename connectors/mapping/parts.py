"""What the API is given of sources: whoever composes it hands this in."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from connectors.mapping.mapping import Refuse, Refused, SourceMapping
from connectors.mapping.targets import Report
from connectors.postgres.pool import Connection
from schemas.source import SourceLines

Overview = Callable[[Connection], Awaitable[SourceLines]]


async def _nothing(_: Connection) -> SourceLines:
    return SourceLines(items=())


def _let_in(_report: Report, _now: datetime) -> Refused | None:
    return None


@dataclass(frozen=True)
class SourceParts:
    """What the API knows of sources. `wrong`: those whose mapping file cannot be used, with why."""

    mappings: dict[str, SourceMapping] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    refuse: Refuse = _let_in
    overview: Overview = _nothing
