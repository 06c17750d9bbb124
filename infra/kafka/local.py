"""Apache Kafka on this machine, without Docker: its jars from Maven, one broker in a folder.

`python -m infra.kafka.local fetch` fetches the jars; `LocalKafka` runs a broker.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from connectors.kafka.security import Protocol

KAFKA_VERSION: Final = "4.1.0"
JAVA_NEEDED: Final = 17
READY_TIMEOUT_S: Final = 60.0
_POM: Final = Path(__file__).with_name("pom.xml")
ADMINISTRATOR: Final = "admin"
"""The user that may do everything, where users have to log in."""
_CLUSTER_ID: Final = "cmFwaWQtcmVzcG9uc2UtMQ"  # any 22 characters of base64; a new folder has new topic ids


class KafkaUnavailable(Exception):
    """The message says what is missing and what to do, in one sentence."""


def cache_folder() -> Path:
    """Where the jars are: RAPID_CACHE, else .cache in the current folder."""
    return Path(os.environ.get("RAPID_CACHE") or ".cache").resolve() / f"kafka-{KAFKA_VERSION}"


def fetch() -> Path:
    """Fetch the jars once and return their folder. Raises KafkaUnavailable."""
    libs = cache_folder() / "libs"
    if (libs / f"kafka_2.13-{KAFKA_VERSION}.jar").exists():
        return libs
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaUnavailable("Maven fetches the jars of Apache Kafka and is not here: install it (mvn).")
    arriving = libs.with_name("libs.part")
    shutil.rmtree(arriving, ignore_errors=True)
    command = [
        maven,
        "-q",
        "-B",
        "-f",
        str(_POM),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={arriving}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().splitlines()[:1]
        raise KafkaUnavailable(f"Maven cannot fetch Apache Kafka {KAFKA_VERSION}: {' '.join(last)[:300]}")
    arriving.rename(libs)
    return libs


def java() -> str:
    """The java to run. Raises KafkaUnavailable when it is missing or too old."""
    home = os.environ.get("JAVA_HOME")
    program = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if program is None or not Path(program).exists():
        raise KafkaUnavailable(
            f"Apache Kafka needs Java {JAVA_NEEDED} or newer, and there is none: install a JDK."
        )
    said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) < JAVA_NEEDED:
        raise KafkaUnavailable(
            f"Apache Kafka needs Java {JAVA_NEEDED} or newer, {program} is older: update it."
        )
    return program


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LocalKafka:
    """One combined broker and controller (KRaft) on free ports, with its data in `folder`.

    It can be stopped or killed and started again on the same data and ports.

    `passwords`, by user name: with them every client has to log in (SCRAM-SHA-512), and who is not ADMINISTRATOR
    may do what an ACL allows, nothing else. `certificates`: two PEM files, who may sign, and the broker's key and
    certificates; with them the connections are encrypted too.
    """

    def __init__(
        self,
        folder: Path,
        *,
        heap: str = "512m",
        passwords: Mapping[str, str] | None = None,
        certificates: tuple[Path, Path] | None = None,
    ) -> None:
        self.folder = folder
        self._passwords = dict(passwords or {})
        self._certificates = certificates
        self.port = free_port()
        self._controller_port = free_port()
        self._heap = heap
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        if self._process is None:
            raise KafkaUnavailable("This broker is not running: call start().")
        return self._process.pid

    def start(self, *, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Format the storage if it is new, start, and wait until the broker answers. Raises KafkaUnavailable."""
        classpath = f"{fetch()}/*"
        program = java()
        self.folder.mkdir(parents=True, exist_ok=True)
        properties = self.folder / "server.properties"
        if not properties.exists():
            properties.write_text(self._properties(), encoding="ascii")
            self._format(program, classpath, properties)
        with (self.folder / "broker.log").open("ab") as output:
            self._process = subprocess.Popen(
                [program, f"-Xmx{self._heap}", "-cp", classpath, "kafka.Kafka", str(properties)],
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._wait_ready(timeout_s)

    def stop(self, *, timeout_s: float = 20.0) -> None:
        """Ask the broker to stop and wait; kill it when it takes too long."""
        self._end(signal.SIGTERM, timeout_s)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL, 10.0)

    def restart(self, *, hard: bool = False) -> None:
        """Stop (or kill) and start again on the same data."""
        self.kill() if hard else self.stop()
        self.start()

    def __enter__(self) -> "LocalKafka":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _end(self, number: signal.Signals, timeout_s: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _format(self, program: str, classpath: str, properties: Path) -> None:
        command = [
            program,
            "-cp",
            classpath,
            "kafka.tools.StorageTool",
            "format",
            "-t",
            _CLUSTER_ID,
            "-c",
            str(properties),
            *(part for user in self._passwords.items() for part in ("--add-scram", _scram(*user))),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise KafkaUnavailable(
                f"The storage of Apache Kafka cannot be formatted: {done.stderr.strip()[-300:]}"
            )

    def _wait_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if self._process is None or self._process.poll() is not None:
                raise KafkaUnavailable(
                    f"Apache Kafka ended while it started; see {self.folder / 'broker.log'}."
                )
            if time.monotonic() > deadline:
                raise KafkaUnavailable(
                    f"Apache Kafka does not answer after {timeout_s:g} s; see {self.folder}."
                )
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return True
        except OSError:
            return False

    @property
    def protocol(self) -> Protocol:
        """How clients have to talk to it."""
        if self._passwords:
            return "SASL_SSL" if self._certificates else "SASL_PLAINTEXT"
        return "SSL" if self._certificates else "PLAINTEXT"

    def _properties(self) -> str:
        listener = f"127.0.0.1:{self.port}"
        controller = f"127.0.0.1:{self._controller_port}"
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"{self.protocol}://{listener},CONTROLLER://{controller}",
            "advertised.listeners": f"{self.protocol}://{listener}",
            "listener.security.protocol.map": f"{self.protocol}:{self.protocol},CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": self.protocol,
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.folder / "data"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "auto.create.topics.enable": "false",
            "log.cleaner.dedupe.buffer.size": "16777216",
        }
        lines |= self._login() if self._passwords else {}
        lines |= _tls(*self._certificates) if self._certificates else {}
        return "".join(f"{name}={value}\n" for name, value in lines.items())

    def _login(self) -> dict[str, str]:
        login = f'username="{ADMINISTRATOR}" password="{self._passwords[ADMINISTRATOR]}"'
        module = f"org.apache.kafka.common.security.scram.ScramLoginModule required {login};"
        return {
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
            f"listener.name.{self.protocol.lower()}.scram-sha-512.sasl.jaas.config": module,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # The broker itself is ANONYMOUS at its own controller's listener; no client can be.
            "super.users": f"User:{ADMINISTRATOR};User:ANONYMOUS",
        }


def _tls(authority: Path, broker: Path) -> dict[str, str]:
    return {
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(broker),
    }


def _scram(user: str, password: str) -> str:
    """As the storage tool wants it."""
    return f"SCRAM-SHA-512=[name={user},password={password}]"


def main(arguments: list[str]) -> int:
    """`fetch`: fetch the jars and print where they are."""
    if arguments != ["fetch"]:
        print("usage: python -m infra.kafka.local fetch", file=sys.stderr)
        return 2
    try:
        print(fetch())
    except KafkaUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
