"""Has aiokafka ask about topics without creating them.

It lets a broker create any topic that it asks about, with as many partitions as the broker likes (the embedded one:
four; Apache Kafka, unless told otherwise: `num.partitions`), and has no option against it. So a producer that outlives
its broker could create topics before we did, and send to partitions that nobody reads.
"""

from functools import partial

from aiokafka import client
from aiokafka.protocol.metadata import MetadataRequest


def ask_only() -> None:
    """For all clients of this process; a second call changes nothing."""
    client.MetadataRequest = partial(MetadataRequest, allow_auto_topic_creation=False)
