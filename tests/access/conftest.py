"""A pool as the API has one, and a clock."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from connectors.postgres.pool import Pool, create_pool

T0 = datetime(2026, 7, 1, 12, tzinfo=UTC)


class Clock:
    """Time as the tests hand it in."""

    def __init__(self) -> None:
        self.at = T0

    def __call__(self) -> datetime:
        return self.at

    def pass_(self, **duration: float) -> datetime:
        self.at += timedelta(**duration)
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    made = await create_pool(database_url, min_size=1, max_size=8)
    yield made
    await made.close()
