"""A department's side of the work orders: it acknowledges and resolves each one. Needs aiokafka, nothing of ours."""

import asyncio
import json
import os
import ssl
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

DEPARTMENT = os.environ["DEPARTMENT"]  # its code, such as cdot
LOGIN = {
    "bootstrap_servers": os.environ["KAFKA_BROKERS"], "security_protocol": "SASL_SSL",
    "sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": os.environ["KAFKA_USERNAME"],
    "sasl_plain_password": os.environ["KAFKA_PASSWORD"],
    "ssl_context": ssl.create_default_context(cafile=os.environ.get("KAFKA_CA_FILE")),
}  # fmt: skip


def updates(order, at):
    """What is said of an order; made of the order alone, so that it is the same when the order comes again."""
    if order["state"] in ("new", "reopened"):
        outcome = "fixed" if order["work"] == "fix" else "inspected"
        for verb, more in (("acknowledge", {}), ("resolve", {"outcome": outcome})):
            update_id = f"{order['reference']} {order['version']} {verb}"
            yield {"update_id": update_id, "reference": order["reference"], "verb": verb, "at": at} | more


async def main():
    """Until it is stopped. An order counts as read when its updates are on their topic, not before."""
    orders = AIOKafkaConsumer(f"work-orders.{DEPARTMENT}", group_id=f"{DEPARTMENT}.reference",
                              auto_offset_reset="earliest", enable_auto_commit=False, **LOGIN)  # fmt: skip
    async with AIOKafkaProducer(acks="all", enable_idempotence=True, **LOGIN) as producer, orders:
        async for record in orders:
            at = datetime.fromtimestamp(record.timestamp / 1000, UTC).isoformat()
            for update in updates(json.loads(record.value), at):
                value, key = json.dumps(update).encode(), update["reference"].encode()
                await producer.send_and_wait(f"work-order-updates.{DEPARTMENT}", value, key)
            await orders.commit()


asyncio.run(main())
