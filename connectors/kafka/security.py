"""How we log in at Kafka: one value, and the arguments that each client library makes of it."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from connectors.kafka.asking import ask_only

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]


@dataclass(frozen=True, slots=True)
class Security:
    """The login of one principal. `ca_file`: who may have signed the brokers' certificates (PEM); None: whom the
    system trusts."""

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism = "SCRAM-SHA-512"
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None

    @property
    def sasl(self) -> bool:
        """Whether a name and a password are sent."""
        return self.protocol.startswith("SASL_")

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted and the broker's certificate checked."""
        return self.protocol.endswith("SSL")

    def context(self) -> ssl.SSLContext | None:
        """For TLS, what checks the broker's certificate and name. Raises OSError when `ca_file` is of no use."""
        return ssl.create_default_context(cafile=self.ca_file) if self.tls else None

    def for_aiokafka(self) -> dict[str, Any]:
        """Arguments of AIOKafkaConsumer and AIOKafkaProducer, which from now on create no topics (see `asking`)."""
        ask_only()
        login = {
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.password,
        }
        return {
            "security_protocol": self.protocol,
            "ssl_context": self.context(),
            **(login if self.sasl else {}),
        }

    def for_confluent(self) -> dict[str, Any]:
        """Settings of librdkafka's clients."""
        login = {
            "sasl.mechanism": self.mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password,
        }
        trusted = {"ssl.ca.location": str(self.ca_file)} if self.tls and self.ca_file else {}
        return {"security.protocol": self.protocol, **trusted, **(login if self.sasl else {})}


PLAINTEXT: Final = Security()
"""No login, no encryption: the embedded broker, and brokers on a network of one's own."""
