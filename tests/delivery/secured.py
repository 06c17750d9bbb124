"""An Apache Kafka on which everybody has to log in over TLS, and who is there."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.kafka.security import Security
from infra.kafka.local import ADMINISTRATOR, LocalKafka
from tests.delivery.certificates import write_certificates

RAPID = Path(sys.executable).with_name("rapid")
USERS = (ADMINISTRATOR, "rapid", "cad", "cdot", "dss", "stranger")
APPLY = (
    "topics", "acls", "--apply", "--json", "--principal", "sources=User:cad", "--principal", "cscc=none",
    "--principal", "dob=none",
)  # fmt: skip


@dataclass(frozen=True)
class Secured:
    """The broker, and how each user logs in."""

    kafka: LocalKafka
    ca_file: Path

    def login(self, user: str) -> Security:
        return Security(self.kafka.protocol, "SCRAM-SHA-512", user, password_of(user), self.ca_file)

    def client(self, user: str) -> dict[str, Any]:
        """Arguments of an aiokafka client."""
        return {"bootstrap_servers": self.kafka.address, **self.login(user).for_aiokafka()}

    def environment(self, user: str, **more: str) -> dict[str, str]:
        """Settings of a process of ours that logs in as this user."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAPID_")},
            "RAPID_BROKERS": self.kafka.address,
            "RAPID_KAFKA_SECURITY_PROTOCOL": self.kafka.protocol,
            "RAPID_KAFKA_SASL_USERNAME": user,
            "RAPID_KAFKA_SASL_PASSWORD": password_of(user),
            "RAPID_KAFKA_CA_FILE": str(self.ca_file),
            **more,
        }

    def rapid(self, user: str, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(RAPID), *arguments], env=self.environment(user, **more), capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip


def password_of(user: str) -> str:
    return f"{user}-has-a-secret"


def secured(folder: Path) -> Secured:
    """Not yet started."""
    certificates = write_certificates(folder)
    passwords = {user: password_of(user) for user in USERS}
    return Secured(
        LocalKafka(folder / "kafka", passwords=passwords, certificates=certificates), certificates[0]
    )
