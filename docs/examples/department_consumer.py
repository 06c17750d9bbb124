"""A department's side of the work orders: it acknowledges and resolves each one. Needs aiokafka, nothing of ours."""

import asyncio
import json
import os
import ssl

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

CODE = os.environ["DEPARTMENT"]  # such as cdot
LOGIN = {
    "bootstrap_servers": os.environ["KAFKA_BROKERS"], "security_protocol": "SASL_SSL",
    "sasl_plain_username": os.environ["KAFKA_USERNAME"], "sasl_plain_password": os.environ["KAFKA_PASSWORD"],
    "sasl_mechanism": "SCRAM-SHA-512", "ssl_context": ssl.create_default_context(cafile=os.getenv("KAFKA_CA_FILE")),
}  # fmt: skip


async def main():
    """Until it is stopped. An order counts as read when its updates are on their topic, not before."""
    orders = AIOKafkaConsumer(f"work-orders.{CODE}", group_id=f"{CODE}.reference",
                              auto_offset_reset="earliest", enable_auto_commit=False, **LOGIN)  # fmt: skip
    async with AIOKafkaProducer(acks="all", enable_idempotence=True, **LOGIN) as out, orders:
        async for record in orders:
            order = json.loads(record.value)
            outcome = {"outcome": "fixed" if order["work"] == "fix" else "inspected"}
            verbs = {"acknowledge": {}, "resolve": outcome} if order["state"] in ("new", "reopened") else {}
            for verb, more in verbs.items():  # made of the order alone: the same when the order comes again
                update_id = f"{order['reference']} {order['version']} {verb}"
                value = {"update_id": update_id, "reference": order["reference"], "verb": verb} | more
                await out.send_and_wait(f"work-order-updates.{CODE}", json.dumps(value).encode(), record.key)
            await orders.commit()


asyncio.run(main())
