"""What runs in a home: `state.json`, written by the supervisor, read by every other command; and the lock."""

import fcntl
import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from infra.embedded.database import end_stray_server
from infra.embedded.processes import Running, end, identify, is_alive

HOME_MARK: Final = "RAPID_INSTALLATION"
"""Environment variable of everything that a supervisor starts: the home it belongs to."""
DRAIN_STRAYS_S: Final = 10.0


class Restart(NamedTuple):
    """A process of ours that ended by itself: when, in seconds since 1970, and its exit code."""

    name: str
    at: float
    code: int


class State(BaseModel):
    """What the supervisor has started. `boot_id` names the incarnation of the broker's logs."""

    model_config = ConfigDict(extra="ignore")

    phase: Literal["starting", "ready", "recovering", "stopping", "stopped"] = "starting"
    supervisor: Running
    database: Running | None = None
    broker: Running | None = None
    workers: list[Running] = []
    services: list[Running] = []
    database_url: str = ""
    broker_address: str = ""
    api_address: str = ""
    boot_id: str = ""
    file_policy: str = ""  # the version of the policy in the folder, when this was started
    note: str = ""  # what whoever starts it should know
    watch: dict[str, str] = {}  # where a process of ours says how it is, host:port, by its name
    restarts: dict[str, int] = {}  # how often a process had to be started again, by its name
    ended: list[Restart] = []  # the last of them

    def processes(self) -> list[Running]:
        """Everything but the supervisor, in the order in which it is to end."""
        return [*self.services, *self.workers, *filter(None, (self.broker, self.database))]


class Home:
    """The folder of one embedded installation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "database"
        self.logs = folder / "logs"
        self.state_file = folder / "state.json"
        self.lock_file = folder / "lock"

    def make(self) -> None:
        """Make the folders, for ourselves alone."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(mode=0o700, exist_ok=True)

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def read_state(self) -> State | None:
        """The last state written, None when there is none or it cannot be read."""
        try:
            return State.model_validate_json(self.state_file.read_bytes())
        except (OSError, ValidationError):
            return None

    def write_state(self, state: State) -> None:
        """Replace the file as a whole: a reader sees the old or the new one."""
        beside = self.state_file.with_suffix(".new")
        beside.write_text(state.model_dump_json(indent=2) + "\n")
        beside.chmod(0o600)
        beside.replace(self.state_file)


class Held(Exception):
    """Another supervisor holds the home; `pid` is its process, 0 when it is not known."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"held by process {pid}")
        self.pid = pid


class HomeLock:
    """Held as long as the supervisor lives; the system lets go of it however the process ends."""

    def __init__(self, home: Home) -> None:
        self._file = home.lock_file
        self._handle: int | None = None

    def __enter__(self) -> Self:
        handle = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(handle, 20).decode("ascii", "replace").strip()
            os.close(handle)
            raise Held(int(pid) if pid.isdigit() else 0) from None
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        self._handle = handle
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)


def supervisor_of(home: Home) -> Running | None:
    """The supervisor that runs this home, None when none does."""
    state = home.read_state()
    return state.supervisor if state and is_alive(state.supervisor) else None


def end_strays(home: Home) -> list[Running]:
    """End what a killed supervisor left running in this home: workers first, the database last. Returns them."""
    workers_and_broker = [process for process in _strays(home) if process.name != "database"]
    workers = [process for process in workers_and_broker if process.name != "broker"]
    brokers = [process for process in workers_and_broker if process.name == "broker"]
    end(workers, signal.SIGTERM, DRAIN_STRAYS_S)
    end(brokers, signal.SIGTERM, DRAIN_STRAYS_S)
    database = end_stray_server(home.data)
    return [*workers, *brokers, *([database] if database else [])]


def _strays(home: Home) -> list[Running]:
    state = home.read_state()
    recorded = [process for process in (state.processes() if state else []) if is_alive(process)]
    known = {process.pid for process in recorded}
    return recorded + [process for process in _marked(home) if process.pid not in known]


def _marked(home: Home) -> list[Running]:
    """Processes with this home's mark: also those started in the moment before the state was written."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(HOME_MARK) == str(home.folder) and process.pid != os.getpid():
                name = "broker" if process.name().startswith("tansu") else "worker"
                if not process.name().startswith("postgres"):
                    found.append(identify(name, process.pid))
        except (psutil.Error, OSError):
            continue
    return [process for process in found if is_alive(process)]
