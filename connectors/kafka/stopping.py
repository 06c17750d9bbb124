"""Ends a consumer. aiokafka cancels its own fetches, and lets that out to who stops it while a broker is away."""

import asyncio

from aiokafka import AIOKafkaConsumer


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop it, with its connections. Cancelled is only who is cancelled from outside."""
    stopping = asyncio.create_task(consumer.stop())
    await asyncio.wait({stopping})
    if stopping.cancelled():
        await consumer._client.close()
    else:
        stopping.result()
