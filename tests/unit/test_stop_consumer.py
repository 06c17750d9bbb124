"""Whoever stops a consumer while its broker is away is not cancelled by it."""

import asyncio

import pytest

from connectors.kafka.stopping import stop_consumer


class Client:
    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class Consumer:
    """As aiokafka 0.14 with a fetch that waits for its broker: `stop` cancels the fetch, then awaits it."""

    def __init__(self) -> None:
        self._client = Client()

    async def stop(self) -> None:
        fetch = asyncio.create_task(asyncio.sleep(100))
        await asyncio.sleep(0)
        fetch.cancel()
        await fetch


class Slow(Consumer):
    async def stop(self) -> None:
        await asyncio.sleep(100)


async def test_a_consumers_own_cancelled_fetch_cancels_nobody_else_and_its_connections_are_closed() -> None:
    consumer = Consumer()
    await stop_consumer(consumer)
    assert consumer._client.closed


async def test_who_is_cancelled_while_it_stops_is_cancelled() -> None:
    stopping = asyncio.create_task(stop_consumer(Slow()))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
